//! The store of the budgets that replicas share, in Redis or PostgreSQL. It must not decide what
//! follows from an answer or from a missing one: [`crate::budgets::shared`] does.

use async_trait::async_trait;
use llm_router_counters::{Counters, LinkStatus};
use llm_router_domain::budget::shared::{LineStatus, Reservation, ReserveOutcome, SpendUpdate};

/// Store of the budgets that replicas share. Every call takes a bounded time.
#[async_trait]
pub(crate) trait BudgetStore: Send + Sync {
    fn link_status(&self) -> LinkStatus;

    /// Reserves an amount. Returns None if the store didn't answer; it may hold the amount then.
    async fn reserve(&self, reservation: &Reservation) -> Option<ReserveOutcome>;

    /// Reports spending and the end of reservations. Returns None if the store didn't answer; it
    /// may have applied the update then.
    async fn apply_spend_update(&self, update: &SpendUpdate) -> Option<Vec<LineStatus>>;

    /// Announces the end of this replica, where the link's owner doesn't do so.
    async fn leave(&self) {}
}

#[async_trait]
impl BudgetStore for Counters {
    fn link_status(&self) -> LinkStatus {
        self.link().status()
    }

    async fn reserve(&self, reservation: &Reservation) -> Option<ReserveOutcome> {
        self.reserve(reservation).await.ok()
    }

    async fn apply_spend_update(&self, update: &SpendUpdate) -> Option<Vec<LineStatus>> {
        Counters::apply_spend_update(self, update).await.ok()
    }
}
