//! `keys`: what clients show us.

use jiff::Timestamp;
use llm_router_domain::key::Role;
use llm_router_domain::limit::Limits;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::findings::{At, Findings};
use crate::items::Items;
use crate::known::Known;
use crate::limits::RawLimits;
use crate::provider::Provider;
use crate::scalar::{Label, NamePattern, Text, TextSetting, Usd};
use crate::secrets::SHORTEST_GOOD_KEY;

/// A key that stands in the file.
#[derive(Clone, Debug)]
pub struct StaticKey {
    /// Its name; unique.
    pub name: String,
    /// What the client shows; unique, and empty only if the key is not enabled.
    pub key: SecretString,
    /// What it may do.
    pub role: Role,
    /// The team or project it belongs to; the key's name if the file has none.
    pub owner: String,
    /// The models it may use; never empty.
    pub models: Vec<NamePattern>,
    /// Ceilings per window.
    pub limits: Limits,
    /// A ceiling of money.
    pub budget: Option<Budget>,
    /// From when on it is refused.
    pub expires_at: Option<Timestamp>,
    /// Whether it is accepted: false too if its `key` is set to nothing.
    pub enabled: bool,
}

/// A ceiling of money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// US dollars, above 0.
    pub usd: Decimal,
    /// What they are for.
    pub period: Period,
    /// Whether models without a price may be used all the same.
    pub allow_unpriced: bool,
}

/// The time that a budget is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// A day in UTC.
    Day,
    /// A week from Monday in UTC.
    Week,
    /// A calendar month in UTC.
    Month,
    /// All of the key's life.
    Total,
}

/// A key that clients show. More are made with the admin API or the command line.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Key")]
pub(crate) struct RawKey {
    /// Its name, for people.
    name: Text<Label>,
    /// What the client shows, 16 characters or more. Set to nothing, as by ${NAME:-}, it switches
    /// the key off.
    key: Text<SecretString>,
    /// What it may do.
    #[serde(default)]
    role: Role,
    /// The team or project it belongs to. Without it: the key's name.
    owner: Option<Text<Label>>,
    /// The models it may use; * stands for any text.
    #[serde(default = "any_model")]
    #[schemars(length(min = 1))]
    models: Items<Text<NamePattern>>,
    /// Ceilings per window. Without one there is none.
    #[serde(default)]
    limits: RawLimits,
    /// A ceiling of money.
    budget: Option<RawBudget>,
    /// From when on it is refused.
    expires_at: Option<Text<Timestamp>>,
    /// Whether it is accepted.
    #[serde(default = "yes")]
    enabled: bool,
}

/// A ceiling of money.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Budget")]
pub(crate) struct RawBudget {
    /// US dollars.
    usd: Text<Usd>,
    /// What they are for.
    period: Period,
    /// Allow models without a price; otherwise they are refused, for they would cost nothing.
    #[serde(default)]
    allow_unpriced: bool,
}

impl RawKey {
    pub(crate) fn check(
        self,
        at: &At,
        known: &Known,
        providers: &[Provider],
        findings: &mut Findings,
    ) -> StaticKey {
        known
            .keys
            .check_unique(&self.name.0.0, &at.field("name"), findings);
        let text = self.key.0.expose_secret();
        let is_off = text.is_empty();
        if self.enabled {
            check_text(text, &at.field("key"), findings);
        }
        let limits = self.limits.check(&at.field("limits"), findings);
        let models = at.field("models");
        let models = self.models.located(&models, findings).into_iter();
        let models = models.map(|(at, pattern)| {
            check_pattern(&pattern.0, &at, known, providers, findings);
            pattern.0
        });
        let models = models.collect();
        let name = self.name.0.0;
        StaticKey {
            owner: self.owner.map_or_else(|| name.clone(), |owner| owner.0.0),
            name,
            key: self.key.0,
            role: self.role,
            models,
            limits,
            budget: self.budget.map(RawBudget::checked),
            expires_at: self.expires_at.map(|time| time.0),
            enabled: self.enabled && !is_off,
        }
    }
}

impl RawBudget {
    pub(crate) const fn checked(self) -> Budget {
        Budget {
            usd: self.usd.0.0,
            period: self.period,
            allow_unpriced: self.allow_unpriced,
        }
    }
}

/// Reports keys that are the same text. They come with their positions in the file.
pub(crate) fn check_unique(keys: &[(usize, StaticKey)], list: &At, findings: &mut Findings) {
    let mut first = std::collections::HashMap::new();
    for (position, key) in keys.iter().filter(|(_, key)| key.enabled) {
        let other = *first.entry(key.key.expose_secret()).or_insert(*position);
        if other != *position {
            let what = format!("is the same as that of {}", list.item(other));
            findings.error(
                &list.item(*position).field("key"),
                what,
                "give each its own",
            );
        }
    }
}

fn check_text(text: &str, at: &At, findings: &mut Findings) {
    if text.is_empty() {
        let remedy = "set the variable, or remove the key";
        findings.warn(at, "is empty, so the key is switched off", remedy);
        return;
    }
    if findings.is_written_out(at) {
        let remedy = "put it into the environment or .env and write ${NAME}";
        findings.warn(at, "the key stands in the file in plain text", remedy);
    }
    let length = text.chars().count();
    if length < SHORTEST_GOOD_KEY {
        let what = format!("has {length} characters, so it may be guessed");
        let remedy = format!("use {SHORTEST_GOOD_KEY} or more, from `openssl rand -hex 32`");
        findings.warn(at, what, remedy);
    }
}

fn check_pattern(
    pattern: &NamePattern,
    at: &At,
    known: &Known,
    providers: &[Provider],
    findings: &mut Findings,
) {
    let Some(name) = pattern.literal() else {
        return;
    };
    let provider = name.split_once('/').map_or(name, |(id, _)| id);
    let found = name == "auto"
        || known.models.position(name).is_some()
        || known
            .providers
            .position(provider)
            .is_some_and(|_| provider != name)
        || providers.iter().any(|provider| provider.serves(name));
    if !found {
        let what = format!("`{name}` is no model that is known here");
        findings.warn(at, what, known.models.suggestion(name));
    }
}

fn any_model() -> Items<Text<NamePattern>> {
    Items::of(NamePattern::parse("*").ok().map(Text))
}

const fn yes() -> bool {
    true
}
