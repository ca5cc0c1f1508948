//! `keys`: the keys that clients send.

use std::collections::HashMap;

use jiff::Timestamp;
use llm_router_domain::key::{Allowance, BudgetSpec, LimitSpec, Role};
use llm_router_domain::limit::Limits;
use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::diagnostics::Diagnostics;
use crate::items::Items;
use crate::limits::check_limits;
use crate::names::DefinedNames;
use crate::path::ConfigPath;
use crate::provider::Provider;
use crate::scalar::{Label, NamePattern, Text, TextSetting as _};
use crate::secrets::{SHORTEST_GOOD_KEY, too_short};

/// A key of the file.
#[derive(Clone, Debug)]
pub struct StaticKey {
    /// Its name; unique.
    pub name: String,
    /// The text that the client sends; unique, and empty only if the key is not enabled.
    pub key: SecretString,
    /// Its permissions.
    pub role: Role,
    /// The team or project it belongs to; the key's name if the file has none.
    pub owner: String,
    /// The models it may use; never empty.
    pub models: Vec<NamePattern>,
    /// Its limits.
    pub limits: Limits,
    /// Its budget.
    pub budget: Option<Allowance>,
    /// The time from which it is refused.
    pub expires_at: Option<Timestamp>,
    /// False if it is refused, also because its `key` is empty.
    pub enabled: bool,
}

/// A key that clients send. The admin API and the command line create more.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Key")]
pub(crate) struct RawKey {
    /// A name for people, shown in logs and reports.
    name: Text<Label>,
    /// The text that the client sends, 16 characters or more. An empty value, for example from
    /// ${NAME:-}, disables the key.
    key: Text<SecretString>,
    /// Its permissions.
    #[serde(default)]
    role: Role,
    /// The team or project it belongs to. Default: the key's name.
    owner: Option<Text<Label>>,
    /// The models it may use; * matches any text.
    #[serde(default = "any_model")]
    #[schemars(length(min = 1))]
    models: Items<Text<NamePattern>>,
    /// Its limits. A limit that is left out does not apply.
    #[serde(default)]
    limits: LimitSpec,
    /// The most that it may spend in a period.
    budget: Option<BudgetSpec>,
    /// The time from which it is refused.
    expires_at: Option<Text<Timestamp>>,
    /// False refuses the key.
    #[serde(default = "yes")]
    enabled: bool,
}

impl RawKey {
    pub(crate) fn check(
        self,
        at: &ConfigPath,
        names: &DefinedNames,
        providers: &[Provider],
        diagnostics: &mut Diagnostics,
    ) -> StaticKey {
        let name = self.name.0.0;
        names
            .keys
            .check_unique(&name, &at.field("name"), diagnostics);
        let text = self.key.0.expose_secret();
        let is_empty = text.is_empty();
        if self.enabled {
            check_text(text, &at.field("key"), diagnostics);
        }
        let models = self.models.with_paths(&at.field("models"), diagnostics);
        let models = models.into_iter().map(|(at, pattern)| {
            check_pattern(&pattern.0, &at, names, providers, diagnostics);
            pattern.0
        });
        let models = models.collect();
        StaticKey {
            owner: self.owner.map_or_else(|| name.clone(), |owner| owner.0.0),
            name,
            key: self.key.0,
            role: self.role,
            models,
            limits: check_limits(&self.limits, &at.field("limits"), diagnostics),
            budget: self.budget.map(Allowance::from),
            expires_at: self.expires_at.map(|time| time.0),
            enabled: self.enabled && !is_empty,
        }
    }
}

/// Reports keys that have the same text. They come with their positions in the file.
pub(crate) fn check_unique(
    keys: &[(usize, StaticKey)],
    list: &ConfigPath,
    diagnostics: &mut Diagnostics,
) {
    let mut first = HashMap::new();
    for (position, key) in keys.iter().filter(|(_, key)| key.enabled) {
        let other = *first.entry(key.key.expose_secret()).or_insert(*position);
        if other != *position {
            let problem = format!("is the same as the key of {}", list.item(other));
            let at = list.item(*position).field("key");
            diagnostics.error(&at, problem, "use a different one for each");
        }
    }
}

fn check_text(text: &str, at: &ConfigPath, diagnostics: &mut Diagnostics) {
    if text.is_empty() {
        let remedy = "set the variable, or remove the key";
        diagnostics.warn(at, "is empty, so the key is disabled", remedy);
        return;
    }
    if diagnostics.is_literal(at) {
        let remedy = "move it to the environment or .env and write ${NAME}";
        diagnostics.warn(at, "the key is in the file in plain text", remedy);
    }
    let length = text.chars().count();
    if length < SHORTEST_GOOD_KEY {
        let error = too_short(length, SHORTEST_GOOD_KEY);
        diagnostics.error(at, error.problem, error.remedy);
    }
}

fn check_pattern(
    pattern: &NamePattern,
    at: &ConfigPath,
    names: &DefinedNames,
    providers: &[Provider],
    diagnostics: &mut Diagnostics,
) {
    let Some(name) = pattern.literal() else {
        return;
    };
    let provider = name.split_once('/').map(|(id, _)| id);
    let is_known = name == "auto"
        || names.models.position(name).is_some()
        || provider.is_some_and(|id| names.providers.position(id).is_some())
        || providers.iter().any(|provider| provider.serves(name));
    if !is_known {
        let problem = format!("there is no model `{name}`");
        diagnostics.warn(at, problem, names.models.suggestion(name));
    }
}

fn any_model() -> Items<Text<NamePattern>> {
    Items::new(NamePattern::parse("*").ok().map(Text))
}

const fn yes() -> bool {
    true
}
