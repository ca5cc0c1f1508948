//! `owners`: what the keys of a team or project may spend together.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::findings::{At, Findings};
use crate::items::Items;
use crate::key::{Budget, RawBudget};
use crate::scalar::{Label, Text};

/// A team or project with a budget of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its name, as keys have it; unique.
    pub name: String,
    /// What its keys may spend together.
    pub budget: Budget,
}

/// A team or project, with what its keys may spend together.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Owner")]
pub(crate) struct RawOwner {
    /// Its name, as keys have it.
    name: Text<Label>,
    /// A ceiling of money for all its keys together, besides those of the keys.
    budget: RawBudget,
}

pub(crate) fn check_owners(raw: Items<RawOwner>, at: &At, findings: &mut Findings) -> Vec<Owner> {
    let mut first = HashMap::new();
    let mut owners = Vec::new();
    for (position, raw) in raw.indexed(at, findings) {
        let owner = Owner {
            name: raw.name.0.0,
            budget: raw.budget.checked(),
        };
        let other = *first.entry(owner.name.clone()).or_insert(position);
        if other != position {
            let what = format!("`{}` is the name of {} too", owner.name, at.item(other));
            let remedy = "name each owner once";
            findings.error(&at.item(position).field("name"), what, remedy);
        }
        owners.push(owner);
    }
    owners
}
