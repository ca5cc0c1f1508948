//! The rules in force: those of the file, then those made by API, compiled as one list. An API rule
//! that can't work is left out, for it is too late to refuse it. How rules decide is the domain's.

use std::collections::HashSet;
use std::sync::Arc;

use jiff::Timestamp;
use llm_router_config::Config;
use llm_router_domain::pattern::PatternList;
use llm_router_domain::rule::{
    self, CompiledRules, RuleFinding, RuleNames, RuleSpec, Rules, Severity,
};
use llm_router_store::objects::{ObjectKind, Objects, StoredObject};
use serde::Deserialize as _;

use crate::keys::stored_keys::IssuedKeys;

/// Rules, compiled and as they were written.
#[derive(Debug)]
pub(crate) struct RuleSet {
    /// Those that work, ready to decide.
    pub(crate) compiled: Arc<Rules>,
    /// All of them, in the order they are tried.
    pub(crate) listed: Arc<[Listed]>,
}

/// A rule as it was written, with what is wrong with it.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub(crate) id: String,
    pub(crate) spec: RuleSpec,
    /// Of a rule that was made by API.
    pub(crate) made: Option<Made>,
    pub(crate) problems: Vec<RuleFinding>,
}

/// Creation time and version of a rule made by API.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub(crate) version: u64,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// Reason that a rule can't be made.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Another rule has its name.
    Taken,
    /// Something in it is wrong: the field, and what.
    Invalid(String, String),
}

/// Compiles all rules. Patterns that `previous` has compiled already are taken from there.
pub(crate) fn compile(
    config: &Config,
    objects: &Objects,
    issued: &IssuedKeys,
    previous: Option<&Rules>,
) -> RuleSet {
    let mut listed = file_rules(config, objects);
    if listed.iter().all(|rule| rule.made.is_none()) {
        // Then the file's have been compiled already.
        listed.sort_by_key(|rule| rule.spec.priority);
        return RuleSet {
            compiled: Arc::clone(&config.routing.compiled),
            listed: listed.into(),
        };
    }
    let previous = previous.or(Some(&config.routing.compiled));
    let asking = listed.clone();
    let names = names(config, objects, issued, &asking);
    let mut compiled = compile_specs(&listed, &names, previous);
    if let Some(problem) = whole(&compiled) {
        // All of them together are too much: then the file's must do.
        for made in listed.iter_mut().filter(|rule| rule.made.is_some()) {
            made.problems.push(problem.clone());
        }
        compiled = rule::compile(&config.routing.rules, &names, previous);
    }
    for problem in compiled.problems {
        if let Some(rule) = listed.get_mut(problem.index) {
            rule.problems.push(problem);
        }
    }
    listed.sort_by_key(|rule| rule.spec.priority);
    RuleSet {
        compiled: Arc::new(compiled.rules),
        listed: listed.into(),
    }
}

/// Checks that a rule can be made, or replace the one with the id `replaces`.
///
/// # Errors
/// Why not.
pub(crate) fn check(
    spec: &RuleSpec,
    replaces: Option<&str>,
    config: &Config,
    objects: &Objects,
    issued: &IssuedKeys,
    previous: Option<&Rules>,
) -> Result<(), Refusal> {
    let mut listed = file_rules(config, objects);
    listed.retain(|rule| replaces.is_none_or(|id| rule.id != id));
    if listed.iter().any(|rule| rule.spec.name == spec.name) {
        return Err(Refusal::Taken);
    }
    let index = listed.len();
    listed.push(Listed {
        id: String::new(),
        spec: spec.clone(),
        made: None,
        problems: Vec::new(),
    });
    let compiled = compile_specs(&listed, &names(config, objects, issued, &listed), previous);
    let about_it = |problem: &&RuleFinding| problem.index == index || problem.rule.is_empty();
    let mut errors = compiled.problems.iter().filter(about_it);
    match errors.find(|problem| problem.severity == Severity::Error) {
        None => Ok(()),
        Some(problem) => Err(Refusal::Invalid(
            problem.path.clone(),
            problem.message.clone(),
        )),
    }
}

/// The rules that can't work and are left out.
pub(crate) fn broken(rules: &[Listed]) -> impl Iterator<Item = &Listed> {
    rules.iter().filter(|rule| rule.is_broken())
}

/// Tells of the rules that are broken now and weren't before.
pub(crate) fn log_broken(rules: &[Listed], before: &[Listed]) {
    let known: HashSet<&str> = broken(before).map(|rule| rule.id.as_str()).collect();
    for rule in broken(rules).filter(|rule| !known.contains(&*rule.id)) {
        let problem = rule.problems.iter().find(|problem| is_error(problem));
        tracing::warn!(
            rule.id,
            rule.name = rule.spec.name,
            field = problem.map(|problem| problem.path.as_str()),
            problem = problem.map(|problem| problem.message.as_str()),
            "a rule can't work and is left out"
        );
    }
}

impl Listed {
    /// Returns whether it can't work and is left out.
    pub(crate) fn is_broken(&self) -> bool {
        self.problems.iter().any(is_error)
    }
}

/// All rules in the order they are compiled: the file's, then those made by API, oldest first.
fn file_rules(config: &Config, objects: &Objects) -> Vec<Listed> {
    let of_file = config.routing.rules.iter().map(|spec| Listed {
        id: spec.id.clone().unwrap_or_else(|| spec.name.clone()),
        spec: spec.clone(),
        made: None,
        problems: Vec::new(),
    });
    let made = objects.by_kind(ObjectKind::Rule).map(stored_rule);
    of_file.chain(made).collect()
}

fn stored_rule(object: &StoredObject) -> Listed {
    let (mut spec, problems) = read(object);
    spec.id = Some(object.id.clone());
    Listed {
        id: object.id.clone(),
        spec,
        made: Some(object.into()),
        problems,
    }
}

impl From<&StoredObject> for Made {
    fn from(object: &StoredObject) -> Self {
        Self {
            version: object.version,
            created_at: object.created_at,
            updated_at: object.updated_at,
        }
    }
}

/// The rule out of an object. One that doesn't read keeps its name and does nothing.
fn read(object: &StoredObject) -> (RuleSpec, Vec<RuleFinding>) {
    let error = match RuleSpec::deserialize(&object.body) {
        Ok(spec) => return (spec, Vec::new()),
        Err(error) => error,
    };
    let name = object.name.clone();
    let problem = RuleFinding {
        index: 0,
        rule: name.clone(),
        path: String::new(),
        severity: Severity::Error,
        message: error.to_string(),
    };
    let spec = RuleSpec {
        id: None,
        name,
        priority: 0,
        enabled: false,
        when: rule::Condition::default(),
        then: rule::Action::default(),
    };
    (spec, vec![problem])
}

fn compile_specs(
    listed: &[Listed],
    names: &RuleNames<'_>,
    previous: Option<&Rules>,
) -> CompiledRules {
    let specs: Vec<RuleSpec> = listed.iter().map(|rule| rule.spec.clone()).collect();
    rule::compile(&specs, names, previous)
}

/// The error that takes all rules with it.
fn whole(compiled: &CompiledRules) -> Option<RuleFinding> {
    let mut problems = compiled.problems.iter();
    problems
        .find(|problem| is_error(problem) && problem.rule.is_empty())
        .cloned()
}

fn is_error(problem: &RuleFinding) -> bool {
    problem.severity == Severity::Error
}

/// Names that rules may refer to: those of the file and those made by API. Of the keys made by API
/// only those that the rules name: there may be very many.
fn names<'a>(
    config: &'a Config,
    objects: &'a Objects,
    issued: &IssuedKeys,
    listed: &'a [Listed],
) -> RuleNames<'a> {
    let callers = listed.iter().map(|rule| rule.spec.when.callers());
    let (named_keys, named_owners): (Vec<_>, Vec<_>) = callers.unzip();
    let (made_keys, made_owners) = issued.known(&named_keys.concat(), &named_owners.concat());
    let models = config.models.iter().map(|model| model.name.as_str());
    let keys = config.keys.iter().map(|key| key.name.as_str());
    let owners = config.keys.iter().map(|key| key.owner.as_str());
    let providers = config
        .providers
        .iter()
        .map(|provider| (provider.id.as_str(), provider.models.clone()));
    let named = |kind| objects.by_kind(kind).map(|object| object.name.as_str());
    let made_providers = objects
        .by_kind(ObjectKind::Provider)
        .map(|provider| (provider.id.as_str(), served_by(provider)));
    RuleNames {
        models: models.chain(named(ObjectKind::Model)).collect(),
        providers: providers.chain(made_providers).collect(),
        keys: keys.chain(made_keys).collect(),
        owners: owners.chain(made_owners).collect(),
    }
}

fn served_by(provider: &StoredObject) -> PatternList {
    let listed = provider
        .body
        .get("models")
        .and_then(|models| models.as_array());
    match listed {
        None => PatternList::new(["*"]),
        Some(models) => PatternList::new(models.iter().filter_map(|model| model.as_str())),
    }
}
