//! `routing`: the toggle, the model of `auto`, the bounds of trying, and the rules.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use llm_router_domain::pattern::PatternList;
use llm_router_domain::retry::RetryBounds;
use llm_router_domain::rule::{CompiledRules, RuleNames, RuleSpec, Rules, Severity, compile};
use llm_router_domain::toggle;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::diagnostics::Diagnostics;
use crate::items::Items;
use crate::key::StaticKey;
use crate::names::DefinedNames;
use crate::path::ConfigPath;
use crate::provider::Provider;
use crate::scalar::{ModelName, Text, TimeSpan};
use crate::server::require_nonzero;

/// The choice of a model for each request.
#[derive(Clone, Debug)]
pub struct Routing {
    /// The state of the toggle at the very first start.
    pub enabled: bool,
    /// The model of `auto` when no rule matches.
    pub default_model: Option<Target>,
    /// The delays of the toggle.
    pub toggle: toggle::ToggleSettings,
    /// The bounds of trying for one request.
    pub attempts: RetryBounds,
    /// The rules in the order of the file; [`compile`] finds no error in them.
    pub rules: Vec<RuleSpec>,
    /// The same rules, compiled.
    pub compiled: Arc<Rules>,
}

/// The model that a name refers to.
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

/// The choice of a model for each request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Routing")]
pub(crate) struct RawRouting {
    /// The state of the toggle at the very first start. Later the store has it.
    enabled: bool,
    /// The model of "auto" when no rule matches: a public name or "provider/model".
    default_model: Option<Text<ModelName>>,
    /// The delays of the toggle.
    toggle: RawToggle,
    /// The bounds of trying for one request.
    attempts: RawAttempts,
    /// Conditions and their actions. Ascending priority, then the order of the file; the first match
    /// wins.
    rules: Items<RuleSpec>,
}

/// The delays of the toggle.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Toggle")]
struct RawToggle {
    /// The time from a request to change the toggle until the change takes effect.
    delay: Text<TimeSpan>,
    /// The time after a change during which no other may be requested.
    cooldown: Text<TimeSpan>,
}

/// The bounds of trying for one request.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Attempts")]
struct RawAttempts {
    /// The most deployments that are tried for one request, those of fallbacks included.
    #[schemars(range(min = 1, max = 16))]
    max: u32,
    /// The time from the start of the first attempt after which no other begins.
    deadline: Text<TimeSpan>,
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

impl Default for RawAttempts {
    fn default() -> Self {
        let bounds = RetryBounds::default();
        Self {
            max: bounds.attempts,
            deadline: Text(TimeSpan(bounds.time)),
        }
    }
}

impl RawRouting {
    pub(crate) fn check(
        self,
        at: &ConfigPath,
        names: &DefinedNames,
        providers: &[Provider],
        keys: &[StaticKey],
        diagnostics: &mut Diagnostics,
    ) -> Routing {
        let default_model = self.default_model.and_then(|name| {
            let at = at.field("default_model");
            find_target(&name.0.0, &at, names, providers, diagnostics)
        });
        let deadline = at.field("attempts").field("deadline");
        let names = rule_names(names, providers, keys);
        let at_rules = at.field("rules");
        let (rules, compiled) = check_rules(self.rules, &at_rules, &names, providers, diagnostics);
        Routing {
            enabled: self.enabled,
            default_model,
            toggle: toggle::ToggleSettings {
                delay: self.toggle.delay.0.0,
                cooldown: self.toggle.cooldown.0.0,
            },
            attempts: RetryBounds {
                attempts: self.attempts.max,
                time: require_nonzero(self.attempts.deadline.0, &deadline, diagnostics),
            },
            rules,
            compiled: Arc::new(compiled),
        }
    }
}

fn check_rules(
    rules: Items<RuleSpec>,
    at: &ConfigPath,
    names: &RuleNames<'_>,
    providers: &[Provider],
    diagnostics: &mut Diagnostics,
) -> (Vec<RuleSpec>, Rules) {
    let rules = rules.with_paths(at, diagnostics).into_iter();
    let (paths, rules): (Vec<ConfigPath>, Vec<RuleSpec>) = rules.unzip();
    for (path, rule) in paths.iter().zip(&rules) {
        warn_of_disabled_providers(rule, path, providers, diagnostics);
    }
    let CompiledRules {
        rules: compiled,
        problems,
    } = compile(&rules, names, None);
    for problem in problems {
        let at = paths.get(problem.index).unwrap_or(at).join(&problem.path);
        match problem.severity {
            Severity::Error => diagnostics.error(&at, problem.message, ""),
            Severity::Warning => diagnostics.warn(&at, problem.message, ""),
        }
    }
    (rules, compiled)
}

/// Warns of rules that lead to a disabled provider: requests that match them fail.
fn warn_of_disabled_providers(
    rule: &RuleSpec,
    at: &ConfigPath,
    providers: &[Provider],
    diagnostics: &mut Diagnostics,
) {
    let then = &rule.then;
    let is_disabled = |id: &str| providers.iter().any(|one| one.id == id && !one.enabled);
    let of_model = |name: &String| Some(name.split_once('/')?.0.to_owned());
    let shares = then.split.iter().flatten().enumerate();
    let shares = shares.map(|(index, share)| {
        let path = format!("then.split[{index}].model");
        (path, of_model(&share.model))
    });
    let targets = [
        ("then.use_provider".to_owned(), then.use_provider.clone()),
        (
            "then.use_model".to_owned(),
            then.use_model.as_ref().and_then(of_model),
        ),
    ];
    for (path, id) in targets.into_iter().chain(shares) {
        if let Some(id) = id.filter(|id| is_disabled(id)) {
            let problem = format!("the provider `{id}` is disabled");
            diagnostics.warn(&at.join(&path), problem, "enable it, or disable the rule");
        }
    }
}

/// The names that rules may refer to. A provider with mistakes may serve any model.
fn rule_names<'a>(
    names: &'a DefinedNames,
    providers: &'a [Provider],
    keys: &'a [StaticKey],
) -> RuleNames<'a> {
    let any_model = |id| (id, PatternList::new(["*"]));
    let mut models_by_provider: BTreeMap<&str, PatternList> =
        names.providers.all().map(any_model).collect();
    for provider in providers {
        models_by_provider.insert(&provider.id, provider.models.clone());
    }
    RuleNames {
        models: names.models.all().collect(),
        providers: models_by_provider,
        keys: names.keys.all().collect(),
        owners: keys.iter().map(|key| key.owner.as_str()).collect(),
    }
}

/// Finds a public name, `provider/model`, or a model that a provider lists by name. A name that
/// only a provider's `*` would cover is reported as a typing mistake.
fn find_target(
    name: &str,
    at: &ConfigPath,
    names: &DefinedNames,
    providers: &[Provider],
    diagnostics: &mut Diagnostics,
) -> Option<Target> {
    if let Some(position) = names.models.position(name) {
        return Some(Target::Model(position));
    }
    if let Some((id, model)) = name.split_once('/').filter(|(_, model)| !model.is_empty())
        && let Some(provider) = names.providers.position(id)
    {
        let model = model.to_owned();
        return Some(Target::Provider { provider, model });
    }
    let lists = |provider: &Provider| {
        let mut patterns = provider.models.patterns().iter();
        patterns.any(|one| one.is_literal() && one.as_str() == name)
    };
    let provider = providers.iter().find(|provider| lists(provider));
    if let Some(provider) = provider.and_then(|one| names.providers.position(&one.id)) {
        let model = name.to_owned();
        return Some(Target::Provider { provider, model });
    }
    let problem = format!("`{name}` is neither a public name nor a provider's model");
    diagnostics.error(at, problem, names.models.suggestion(name));
    None
}
