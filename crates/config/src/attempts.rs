//! `routing.attempts`: how often and how long a request is tried.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::findings::{At, Findings};
use crate::scalar::{Text, TimeSpan};
use crate::server::must_pass;

/// How often and how long a request is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempts {
    /// Deployments tried for one request, at least 1.
    pub max: u32,
    /// From the first attempt's start; after it no other begins.
    pub deadline: Duration,
}

/// How often and how long a request is tried.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Attempts")]
pub(crate) struct RawAttempts {
    /// How many deployments are tried for one request, its fallbacks' included.
    #[schemars(range(min = 1, max = 16))]
    max: u32,
    /// From the first attempt's start; after it no other begins.
    deadline: Text<TimeSpan>,
}

impl Default for RawAttempts {
    fn default() -> Self {
        Self {
            max: 5,
            deadline: Text(TimeSpan(Duration::from_secs(120))),
        }
    }
}

impl RawAttempts {
    pub(crate) fn check(&self, at: &At, findings: &mut Findings) -> Attempts {
        let deadline = self.deadline.0;
        must_pass(deadline, &at.field("deadline"), findings);
        Attempts {
            max: self.max,
            deadline: deadline.0,
        }
    }
}
