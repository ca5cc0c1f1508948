//! `owners`: budgets that the keys of a team or project share.

use std::collections::HashMap;

use llm_router_domain::key::{Allowance, BudgetSpec};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::diagnostics::Diagnostics;
use crate::items::Items;
use crate::path::ConfigPath;
use crate::scalar::{Label, Text};

/// A team or project with a budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The name that its keys have as owner; unique.
    pub name: String,
    /// The budget that its keys share.
    pub budget: Allowance,
}

/// A team or project with a budget.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Owner")]
pub(crate) struct RawOwner {
    /// The name that its keys have as owner.
    name: Text<Label>,
    /// A budget for all its keys together, besides those of the keys.
    budget: BudgetSpec,
}

pub(crate) fn check_owners(
    raw: Items<RawOwner>,
    at: &ConfigPath,
    diagnostics: &mut Diagnostics,
) -> Vec<Owner> {
    let mut first = HashMap::new();
    let mut owners = Vec::new();
    for (position, raw) in raw.with_positions(at, diagnostics) {
        let at_owner = at.item(position);
        let owner = Owner {
            name: raw.name.0.0,
            budget: raw.budget.into(),
        };
        let other = *first.entry(owner.name.clone()).or_insert(position);
        if other != position {
            let problem = format!("`{}` is already used by {}", owner.name, at.item(other));
            diagnostics.error(&at_owner.field("name"), problem, "list each owner once");
        }
        owners.push(owner);
    }
    owners
}
