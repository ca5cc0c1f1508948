//! Problems of rules, and the names that rules may refer to.

use std::collections::{BTreeMap, BTreeSet};

use crate::pattern::{Pattern, PatternList};

/// Severity of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The rule works, but hardly as meant.
    Warning,
    /// The rule can't work and is left out.
    Error,
}

/// Something wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleFinding {
    /// The rule's place among those given to [`compile`](super::compile).
    pub index: usize,
    /// The rule's name.
    pub rule: String,
    /// The field within the rule, as in `when.any[1].regex`; empty: the rule as a whole.
    pub path: String,
    /// Severity.
    pub severity: Severity,
    /// Message with the problem and, where there is one, the remedy.
    pub message: String,
}

/// A problem with a rule as a whole.
pub(super) fn whole(index: usize, rule: &str, severity: Severity, message: String) -> RuleFinding {
    RuleFinding {
        index,
        rule: rule.to_owned(),
        path: String::new(),
        severity,
        message,
    }
}

/// The names that rules may refer to.
#[derive(Clone, Debug, Default)]
pub struct RuleNames<'a> {
    /// Public models.
    pub models: BTreeSet<&'a str>,
    /// Providers by id, each with the models it serves.
    pub providers: BTreeMap<&'a str, PatternList>,
    /// Names of keys.
    pub keys: BTreeSet<&'a str>,
    /// Owners of keys.
    pub owners: BTreeSet<&'a str>,
}

impl RuleNames<'_> {
    /// A public name, a bare name that a provider lists, or `provider/model`.
    pub(super) fn routes_to(&self, name: &str) -> bool {
        let listed = |pattern: &Pattern| pattern.is_literal() && pattern.matches(name);
        self.models.contains(name)
            || self
                .providers
                .values()
                .flat_map(|list| list.patterns())
                .any(listed)
            || name.split_once('/').is_some_and(|(provider, model)| {
                self.providers
                    .get(provider)
                    .is_some_and(|list| list.allows(model))
            })
    }

    /// Returns true if a request that rules apply to may ask for a model that this pattern matches.
    pub(super) fn may_be_asked(&self, glob: &Pattern) -> bool {
        let name = glob.as_str();
        if glob.is_literal() {
            let mut providers = self.providers.values();
            return name == "auto"
                || self.models.contains(name)
                || providers.any(|list| list.allows(name));
        }
        let mut served = self.providers.values().flat_map(|list| list.patterns());
        glob.matches("auto")
            || self.models.iter().any(|model| glob.matches(model))
            || served.any(|pattern| !pattern.is_literal() || glob.matches(pattern.as_str()))
    }
}
