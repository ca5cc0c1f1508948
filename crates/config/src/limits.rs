//! Ceilings per window: those of a key, of a model, of an owner and of everybody.

use llm_router_domain::limit::{self, Rate};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::findings::{At, Findings};
use crate::items::Items;
use crate::scalar::{NamePattern, Text};

/// Ceilings of everybody and of owners, and what holds while nobody counts for all replicas.
#[derive(Clone, Debug, Default)]
pub struct RouterLimits {
    /// All requests together.
    pub global: limit::Limits,
    /// Each owner on its own, by the first pattern that its name fits.
    pub owners: Vec<(NamePattern, limit::Limits)>,
    /// What holds while the counter service is away.
    pub on_counter_failure: OnCounterFailure,
}

/// What becomes of limits while the counter service is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnCounterFailure {
    /// Each replica enforces its share, by the number of replicas last known.
    #[default]
    Local,
    /// Nothing is limited.
    Allow,
    /// Whatever is limited is refused.
    Refuse,
}

/// Ceilings per window, each above 0; without one there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Limits")]
pub(crate) struct RawLimits {
    /// Requests in any 60 seconds.
    #[schemars(range(min = 1))]
    rpm: Option<u64>,
    /// Tokens of input and output in any 60 seconds.
    #[schemars(range(min = 1))]
    tpm: Option<u64>,
    /// Requests at the same time.
    #[schemars(range(min = 1))]
    concurrency: Option<u32>,
    /// Requests let through at once beyond the even pace. Without it: a tenth of rpm.
    #[schemars(range(min = 1))]
    burst: Option<u64>,
}

/// Ceilings besides those of keys and models, and what becomes of all of them while the counter
/// service is away.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "RouterLimits")]
pub(crate) struct RawRouterLimits {
    /// Ceilings of all requests together.
    global: RawLimits,
    /// Ceilings of owners, each for all keys of one owner together.
    owners: Items<RawOwnerLimits>,
    /// What becomes of limits while Redis is away.
    on_counter_failure: OnCounterFailure,
}

/// The ceilings of an owner.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "OwnerLimits")]
struct RawOwnerLimits {
    /// The owner; * stands for any text. The first entry that fits an owner holds for it.
    owner: Text<NamePattern>,
    /// Its ceilings.
    limits: RawLimits,
}

impl RawLimits {
    pub(crate) fn check(self, at: &At, findings: &mut Findings) -> limit::Limits {
        if self.burst.is_some() && self.rpm.is_none() {
            findings.warn(
                &at.field("burst"),
                "has no effect without rpm",
                "add rpm, or remove it",
            );
        }
        limit::Limits {
            requests: self.rpm.map(|rpm| Rate::new(rpm, self.burst)),
            tokens: self.tpm.map(|tpm| Rate::new(tpm, None)),
            concurrency: self.concurrency,
        }
    }
}

impl RawRouterLimits {
    pub(crate) fn check(self, at: &At, findings: &mut Findings) -> RouterLimits {
        let owners = at.field("owners");
        let owners = self.owners.located(&owners, findings).into_iter();
        let owners = owners.map(|(at, raw)| {
            let limits = raw.limits.check(&at.field("limits"), findings);
            (raw.owner.0, limits)
        });
        let owners = owners.collect();
        RouterLimits {
            global: self.global.check(&at.field("global"), findings),
            owners,
            on_counter_failure: self.on_counter_failure,
        }
    }
}
