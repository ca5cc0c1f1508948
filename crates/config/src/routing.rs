//! `routing`: the toggle, what `auto` means, and the rules.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::attempts::{Attempts, RawAttempts};
use crate::findings::{At, Findings};
use crate::items::Items;
use crate::known::Known;
use crate::provider::Provider;
use crate::scalar::{ModelName, Text, TimeSpan};

/// How requests find their model.
#[derive(Clone, Debug)]
pub struct Routing {
    /// The state of the toggle at the very first start.
    pub enabled: bool,
    /// What `auto` means when no rule matches.
    pub default_model: Option<Target>,
    /// How the toggle acts.
    pub toggle: Toggle,
    /// How often and how long a request is tried.
    pub attempts: Attempts,
    /// The rules in the order of the file.
    pub rules: Vec<RuleSpec>,
}

/// What a model's name stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A public name: its position in the list of models.
    Model(usize),
    /// A provider's own model.
    Provider {
        /// Position in the list of providers.
        provider: usize,
        /// The provider's name for the model.
        model: String,
    },
}

/// How the toggle acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Toggle {
    /// From the request to its effect.
    pub delay: Duration,
    /// From the effect to the next request.
    pub cooldown: Duration,
}

// THE ONE PLACE WHERE RULES ARE STILL RAW. Once the domain has a typed rule with `Deserialize` and
// `JsonSchema`, this alias becomes `pub use` of that type: the walk over the schema then checks its
// fields, and `check_rules` below calls its compile step with the paths of `At`.
/// A rule as it stands in the file, variables substituted.
pub type RuleSpec = serde_json::Value;

/// How requests find their model.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Routing")]
pub(crate) struct RawRouting {
    /// The state of the toggle at the very first start. Later the store knows it.
    enabled: bool,
    /// What the model "auto" means when no rule matches: a public name or "provider/model".
    default_model: Option<Text<ModelName>>,
    /// How the toggle acts.
    toggle: RawToggle,
    /// How often and how long a request is tried.
    attempts: RawAttempts,
    /// Conditions and what follows from them. Ascending priority, then the order of the file; the
    /// first match wins.
    rules: Items<RuleSpec>,
}

/// How the toggle acts.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Toggle")]
struct RawToggle {
    /// From the request to its effect.
    delay: Text<TimeSpan>,
    /// From the effect to the next request.
    cooldown: Text<TimeSpan>,
}

impl Default for RawRouting {
    fn default() -> Self {
        Self {
            enabled: true,
            default_model: None,
            toggle: RawToggle::default(),
            attempts: RawAttempts::default(),
            rules: Items::default(),
        }
    }
}

impl Default for RawToggle {
    fn default() -> Self {
        Self {
            delay: Text(TimeSpan(Duration::from_secs(10))),
            cooldown: Text(TimeSpan(Duration::from_secs(60))),
        }
    }
}

impl RawRouting {
    pub(crate) fn check(
        self,
        at: &At,
        known: &Known,
        providers: &[Provider],
        findings: &mut Findings,
    ) -> Routing {
        let default_model = self.default_model.and_then(|name| {
            let at = at.field("default_model");
            find_target(&name.0.0, &at, known, providers, findings)
        });
        Routing {
            enabled: self.enabled,
            default_model,
            toggle: Toggle {
                delay: self.toggle.delay.0.0,
                cooldown: self.toggle.cooldown.0.0,
            },
            attempts: self.attempts.check(&at.field("attempts"), findings),
            rules: check_rules(self.rules, &at.field("rules"), findings),
        }
    }
}

fn check_rules(rules: Items<RuleSpec>, at: &At, findings: &mut Findings) -> Vec<RuleSpec> {
    let mut checked = Vec::new();
    for (at, rule) in rules.located(at, findings) {
        if !rule.is_object() {
            findings.error(
                &at,
                "is no rule",
                "write a mapping with name, when and then",
            );
        }
        checked.push(rule);
    }
    checked
}

/// A public name, `provider/model`, or a name that a provider lists. A bare name that only `*`
/// would cover is taken for a typing mistake.
fn find_target(
    name: &str,
    at: &At,
    known: &Known,
    providers: &[Provider],
    findings: &mut Findings,
) -> Option<Target> {
    if let Some(position) = known.models.position(name) {
        return Some(Target::Model(position));
    }
    if let Some((id, model)) = name.split_once('/').filter(|(_, model)| !model.is_empty())
        && let Some(provider) = known.providers.position(id)
    {
        let model = model.to_owned();
        return Some(Target::Provider { provider, model });
    }
    let lists = |provider: &Provider| {
        let mut names = provider.models.iter().filter_map(|one| one.literal());
        names.any(|one| one == name)
    };
    let provider = providers.iter().find(|provider| lists(provider));
    if let Some(provider) = provider.and_then(|one| known.providers.position(&one.id)) {
        let model = name.to_owned();
        return Some(Target::Provider { provider, model });
    }
    let what = format!("`{name}` is neither a public name nor a provider's model");
    findings.error(at, what, known.models.suggestion(name));
    None
}
