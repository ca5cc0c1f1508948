//! The store's side of the routing toggle: its state, replaced only by who knows its revision, and
//! its history. How it acts is the domain's.

use async_trait::async_trait;
use llm_router_domain::toggle::{Toggle, ToggleOutcome, ToggleRecord};

use crate::error::StoreError;
use crate::ledger::Page;
use crate::objects::AuditDraft;

/// A step of the toggle's life.
#[derive(Clone, Debug)]
pub struct ToggleStep {
    /// The revision it was taken from.
    pub from: u64,
    /// The state it leads to.
    pub to: Toggle,
    /// Records for the history.
    pub items: Vec<ToggleRecord>,
    /// Record for the audit, if an actor took the step.
    pub audit: Option<AuditDraft>,
}

/// A store of the toggle.
#[async_trait]
pub trait ToggleStore: Send + Sync {
    /// The state, once there is one.
    async fn toggle(&self) -> Result<Option<Toggle>, StoreError>;

    /// Stores the first state, unless there is one. The state that is there.
    async fn begin_toggle(&self, first: &Toggle) -> Result<Toggle, StoreError>;

    /// Takes a step, all of it in one transaction; false if the state isn't what it was taken from.
    async fn step_toggle(&self, step: ToggleStep) -> Result<bool, StoreError>;

    /// Lists requests with their outcomes, newest first, from before the request `cursor`.
    async fn toggle_history(
        &self,
        cursor: Option<u64>,
        limit: u32,
    ) -> Result<Page<ToggleRecord, u64>, StoreError>;
}

/// The columns of `toggle_history` but for `ended`, in the order of an item's fields.
pub(crate) const HISTORY_COLUMNS: &str =
    "id, value, reason, actor, requested_at, effective_at, outcome, ended_by";

pub(crate) fn outcome_named(name: &str) -> Result<ToggleOutcome, StoreError> {
    let found = ToggleOutcome::ALL
        .into_iter()
        .find(|outcome| outcome.name() == name);
    found.ok_or_else(|| StoreError::Unreadable(format!("`{name}` in outcome")))
}

pub(crate) fn state(text: &str) -> Result<Toggle, StoreError> {
    let unreadable = |error| StoreError::Unreadable(format!("the toggle's state: {error}"));
    serde_json::from_str(text).map_err(unreadable)
}

pub(crate) fn state_text(toggle: &Toggle) -> Result<String, StoreError> {
    let refused = |error: serde_json::Error| StoreError::Refused(error.to_string());
    serde_json::to_string(toggle).map_err(refused)
}
