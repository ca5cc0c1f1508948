//! `limits`: limits of all requests and of owners. Those of keys and models have the same type.

use llm_router_domain::key::LimitSpec;
use llm_router_domain::limit::Limits;
use llm_router_domain::pattern::Pattern;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::diagnostics::Diagnostics;
use crate::items::Items;
use crate::path::ConfigPath;
use crate::scalar::{NamePattern, Text};

/// Limits of all requests and of owners, and the fallback while the counter service is unavailable.
#[derive(Clone, Debug, Default)]
pub struct RouterLimits {
    /// Limits of all requests together.
    pub global: Limits,
    /// Limits of each owner, by the first pattern that matches its name.
    pub owners: Vec<(Pattern, Limits)>,
    /// The behaviour while the counter service is unavailable.
    pub on_counter_failure: OnCounterFailure,
}

impl RouterLimits {
    /// Returns the limits of an owner, if it has any.
    #[must_use]
    pub fn of_owner(&self, owner: &str) -> Option<Limits> {
        let mut owners = self.owners.iter();
        let entry = owners.find(|(pattern, _)| pattern.matches(owner));
        entry.map(|(_, limits)| *limits)
    }
}

/// The behaviour of limits while the counter service is unavailable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnCounterFailure {
    /// Each replica enforces its share, by the last known number of replicas.
    #[default]
    Local,
    /// Limits are not enforced.
    Allow,
    /// Requests that have a limit are refused.
    Refuse,
}

/// Limits besides those of keys and models, and the behaviour of all limits while the counter
/// service is unavailable.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "RouterLimits")]
pub(crate) struct RawRouterLimits {
    /// Limits of all requests together.
    global: LimitSpec,
    /// Limits of owners, each for all keys of one owner together.
    owners: Items<RawOwnerLimits>,
    /// The behaviour of limits while Redis is unavailable.
    on_counter_failure: OnCounterFailure,
}

/// The limits of owners.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OwnerLimits")]
struct RawOwnerLimits {
    /// The owner; * matches any text. The first entry that matches an owner applies to it.
    owner: Text<NamePattern>,
    /// Its limits.
    limits: LimitSpec,
}

impl RawRouterLimits {
    pub(crate) fn check(self, at: &ConfigPath, diagnostics: &mut Diagnostics) -> RouterLimits {
        let owners = self.owners.with_paths(&at.field("owners"), diagnostics);
        let owners = owners.into_iter().map(|(at, raw)| {
            let limits = check_limits(&raw.limits, &at.field("limits"), diagnostics);
            (raw.owner.0.into_pattern(), limits)
        });
        let owners = owners.collect();
        RouterLimits {
            global: check_limits(&self.global, &at.field("global"), diagnostics),
            owners,
            on_counter_failure: self.on_counter_failure,
        }
    }
}

pub(crate) fn check_limits(
    limits: &LimitSpec,
    at: &ConfigPath,
    diagnostics: &mut Diagnostics,
) -> Limits {
    if limits.burst.is_some() && limits.rpm.is_none() {
        diagnostics.warn(
            &at.field("burst"),
            "has no effect without rpm",
            "add rpm, or remove it",
        );
    }
    limits.limits()
}
