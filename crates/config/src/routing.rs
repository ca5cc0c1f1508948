//! `routing`: the toggle, what `auto` means, and the rules.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use llm_router_domain::pattern::PatternList;
use llm_router_domain::rule::{Compiled, Names, RuleSpec, Rules, Severity, compile};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::attempts::{Attempts, RawAttempts};
use crate::findings::{At, Findings};
use crate::items::Items;
use crate::key::StaticKey;
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
    /// The rules in the order of the file, which [`compile`] finds no error in.
    pub rules: Vec<RuleSpec>,
    /// The same, compiled.
    pub compiled: Arc<Rules>,
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
        keys: &[StaticKey],
        findings: &mut Findings,
    ) -> Routing {
        let default_model = self.default_model.and_then(|name| {
            let at = at.field("default_model");
            find_target(&name.0.0, &at, known, providers, findings)
        });
        let names = names(known, providers, keys);
        let at_rules = at.field("rules");
        let (rules, compiled) = check_rules(self.rules, &at_rules, &names, providers, findings);
        Routing {
            enabled: self.enabled,
            default_model,
            toggle: Toggle {
                delay: self.toggle.delay.0.0,
                cooldown: self.toggle.cooldown.0.0,
            },
            attempts: self.attempts.check(&at.field("attempts"), findings),
            rules,
            compiled: Arc::new(compiled),
        }
    }
}

fn check_rules(
    rules: Items<RuleSpec>,
    at: &At,
    names: &Names<'_>,
    providers: &[Provider],
    findings: &mut Findings,
) -> (Vec<RuleSpec>, Rules) {
    let located = rules.located(at, findings).into_iter();
    let (places, rules): (Vec<At>, Vec<RuleSpec>) = located.unzip();
    for (place, rule) in places.iter().zip(&rules) {
        warn_of_switched_off(rule, place, providers, findings);
    }
    let Compiled {
        rules: compiled,
        problems,
    } = compile(&rules, names, None);
    for problem in problems {
        let place = places.get(problem.index).unwrap_or(at).below(&problem.path);
        match problem.severity {
            Severity::Error => findings.error(&place, problem.message, ""),
            Severity::Warning => findings.warn(&place, problem.message, ""),
        }
    }
    (rules, compiled)
}

/// Warns of providers that a rule leads to and that are switched off: its requests go nowhere.
fn warn_of_switched_off(rule: &RuleSpec, at: &At, providers: &[Provider], findings: &mut Findings) {
    let then = &rule.then;
    let off = |id: &str| providers.iter().any(|one| one.id == id && !one.enabled);
    let of_model = |name: &String| Some(name.split_once('/')?.0.to_owned());
    let shares = then.split.iter().flatten().enumerate();
    let shares = shares.map(|(at, share)| {
        let path = format!("then.split[{at}].model");
        (path, of_model(&share.model))
    });
    let named = [
        ("then.use_provider".to_owned(), then.use_provider.clone()),
        (
            "then.use_model".to_owned(),
            then.use_model.as_ref().and_then(of_model),
        ),
    ];
    for (path, id) in named.into_iter().chain(shares) {
        if let Some(id) = id.filter(|id| off(id)) {
            let what = format!("the provider `{id}` is switched off");
            findings.warn(&at.below(&path), what, "switch it on, or the rule off");
        }
    }
}

/// What rules may name. A provider with mistakes in it may serve anything.
fn names<'a>(known: &'a Known, providers: &'a [Provider], keys: &'a [StaticKey]) -> Names<'a> {
    let unchecked = known
        .providers
        .all()
        .map(|id| (id, PatternList::new(["*"])));
    let mut serving: BTreeMap<&str, PatternList> = unchecked.collect();
    for provider in providers {
        serving.insert(&provider.id, provider.models.clone());
    }
    Names {
        models: known.models.all().collect(),
        providers: serving,
        keys: known.keys.all().collect(),
        owners: keys.iter().map(|key| key.owner.as_str()).collect(),
    }
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
        let mut patterns = provider.models.patterns().iter();
        patterns.any(|one| one.is_literal() && one.as_str() == name)
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
