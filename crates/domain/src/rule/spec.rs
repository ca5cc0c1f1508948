//! Rules as they are written in YAML and JSON. Nothing here is checked beyond its shape: names,
//! patterns and ranges are `compile`'s to judge.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A routing rule: when its conditions hold, its action decides the route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleSpec {
    /// Identifies the rule in the admin API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Name shown in the `x-llm-router-rule` header, in logs and in metrics. Unique.
    pub name: String,
    /// Rules are tried in ascending priority; those of equal priority in the order given.
    #[serde(default)]
    pub priority: i64,
    /// A rule that isn't enabled is checked but never matches.
    #[serde(default = "default_enabled")]
    pub enabled: bool,
    /// Conditions that must hold. Empty: every request matches.
    #[serde(default)]
    pub when: Condition,
    /// Action on a request that matches.
    pub then: Action,
}

const fn default_enabled() -> bool {
    true
}

impl Condition {
    /// The names of keys, then of owners, that it asks for, wherever in it.
    #[must_use]
    pub fn callers(&self) -> (Vec<&str>, Vec<&str>) {
        let mut keys: Vec<&str> = self.key.as_deref().into_iter().collect();
        let mut owners: Vec<&str> = self.owner.as_deref().into_iter().collect();
        let lists = [&self.all, &self.any].into_iter().flatten().flatten();
        for nested in lists.chain(self.not.as_deref()) {
            let (more_keys, more_owners) = nested.callers();
            keys.extend(more_keys);
            owners.extend(more_owners);
        }
        (keys, owners)
    }
}

/// Conditions of a rule. Several fields in one condition must all hold.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// A regular expression found in the text named by `in`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
    /// The text that `regex` searches; `last_user` unless set.
    #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
    pub area: Option<Area>,
    /// The complexity score lies within these bounds, both included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complexity: Option<ScoreRange>,
    /// The model as asked for matches this pattern (`*` for any characters).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// A request header has a value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<HeaderTest>,
    /// The name of the client's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The owner of the client's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The estimated input tokens lie within these bounds, both included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<TokenRange>,
    /// The request has all of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub has: Option<Vec<Feature>>,
    /// The time (UTC) lies within this window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<TimeWindow>,
    /// All of these hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub all: Option<Vec<Condition>>,
    /// At least one of these holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any: Option<Vec<Condition>>,
    /// This doesn't hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not: Option<Box<Condition>>,
}

/// The part of a prompt that a regular expression searches.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    /// The last message in which the user says something (tool results don't count).
    #[default]
    LastUser,
    /// System and developer messages and instructions.
    System,
    /// Every text of the request: all roles, tool results, tool calls, reasoning.
    Any,
}

impl Area {
    /// Every area; `area as usize` is its place here.
    pub const ALL: [Self; 3] = [Self::LastUser, Self::System, Self::Any];

    /// The name used in YAML and in explanations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::LastUser => "last_user",
            Self::System => "system",
            Self::Any => "any",
        }
    }
}

/// Bounds of the complexity score, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScoreRange {
    /// Lowest score that matches, 0 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Highest score that matches, 1 unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// Bounds of the estimated input tokens, both included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRange {
    /// Fewest tokens that match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u64>,
    /// Most tokens that match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
}

/// A test of one request header: its whole value, or a regular expression found in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeaderTest {
    /// The header's name, in any case. None that carries a credential: `authorization`, `x-api-key`,
    /// `api-key`, `x-goog-api-key`, `x-llm-router-key`, `x-amz-security-token`,
    /// `proxy-authorization`, `cookie`, and names that end in `token`, `secret` and the like.
    pub name: String,
    /// The value, exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub equals: Option<String>,
    /// A regular expression found in the value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub regex: Option<String>,
}

/// Something a request may have.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// Tools that the model may call.
    Tools,
    /// Images in its messages.
    Images,
    /// A JSON schema that the answer must obey.
    JsonSchema,
}

impl Feature {
    /// Every feature; `feature as usize` is its place here.
    pub const ALL: [Self; 3] = [Self::Tools, Self::Images, Self::JsonSchema];

    /// The name used in YAML and in explanations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Images => "images",
            Self::JsonSchema => "json_schema",
        }
    }
}

/// A daily window of time in UTC. A window whose `to` isn't after its `from` ends on the next day.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TimeWindow {
    /// First minute, `HH:MM`; `00:00` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^([01]\d|2[0-3]):[0-5]\d$"))]
    pub from: Option<String>,
    /// The minute after the last, `HH:MM`; `24:00` unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(([01]\d|2[0-3]):[0-5]\d|24:00)$"))]
    pub to: Option<String>,
    /// The days on which a window starts; every day unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<Vec<Day>>,
}

/// A day of the week.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Day {
    /// Monday.
    Mon,
    /// Tuesday.
    Tue,
    /// Wednesday.
    Wed,
    /// Thursday.
    Thu,
    /// Friday.
    Fri,
    /// Saturday.
    Sat,
    /// Sunday.
    Sun,
}

impl Day {
    /// Every day from Monday on; `day as usize` is its place here.
    pub const ALL: [Self; 7] = [
        Self::Mon,
        Self::Tue,
        Self::Wed,
        Self::Thu,
        Self::Fri,
        Self::Sat,
        Self::Sun,
    ];

    /// The name used in YAML and in explanations.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mon => "mon",
            Self::Tue => "tue",
            Self::Wed => "wed",
            Self::Thu => "thu",
            Self::Fri => "fri",
            Self::Sat => "sat",
            Self::Sun => "sun",
        }
    }
}

/// Action of a rule: one of `use_model`, `use_provider`, `split` and `block`, with or without
/// `set`; or `set` alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// Route to this model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_model: Option<String>,
    /// Route to this provider: the model asked for if the provider serves it, else its first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub use_provider: Option<String>,
    /// Route to one of these models, each with its share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Vec<Share>>,
    /// Value that keeps a request on its side of a `split`: `key`, or `header NAME` of a header
    /// that carries no credential. Unset: random for each request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^(key|header \S+)$"))]
    pub sticky_by: Option<String>,
    /// Answer with an error instead of routing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<Block>,
    /// Fields of the request body that are set before it goes upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub set: Option<BTreeMap<String, serde_json::Value>>,
}

/// A model's share of a split.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The model.
    pub model: String,
    /// Its weight: its share is this by the sum of all weights.
    pub weight: u32,
}

/// The error a blocked request is answered with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// HTTP status, 400 to 599.
    #[serde(default = "block_status")]
    pub status: u16,
    /// The message the client sees.
    #[serde(default = "block_message")]
    pub message: String,
}

const fn block_status() -> u16 {
    403
}

fn block_message() -> String {
    "This request is blocked by a routing rule.".to_owned()
}
