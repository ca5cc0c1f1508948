//! The book of budgets that replicas share, wherever it is kept. What follows from an answer, or
//! from none, is [`crate::budgets::shared`]'s to say.

use async_trait::async_trait;
use llm_router_counters::{Counters, Link, Server};
use llm_router_domain::budget::shared::{Claim, Claimed, News, Standing};

/// How the book can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reach {
    pub(crate) up: bool,
    /// Whether every replica has had the time to tell what the book missed or forgot.
    pub(crate) calm: bool,
    /// How many replicas there are, or were when that was known last.
    pub(crate) replicas: u32,
    /// Changes when the book may have missed or forgotten something.
    pub(crate) lapses: u64,
}

/// Every call takes a bounded time.
#[async_trait]
pub(crate) trait Book: Send + Sync {
    fn reach(&self) -> Reach;

    /// None if it didn't answer: then it may hold the amount all the same.
    async fn claim(&self, claim: &Claim) -> Option<Claimed>;

    /// None if it didn't answer: then it may have heard all the same.
    async fn tell(&self, news: &News) -> Option<Vec<Standing>>;

    /// This replica ends, where nobody else says so.
    async fn leave(&self) {}
}

impl Reach {
    /// As the way to the book's server has it.
    pub(super) fn of<S: Server>(link: &Link<S>) -> Self {
        let status = link.status();
        Self {
            up: status.up,
            calm: status.calm,
            replicas: status.replicas,
            lapses: link.lapses(),
        }
    }
}

#[async_trait]
impl Book for Counters {
    fn reach(&self) -> Reach {
        Reach::of(self.link())
    }

    async fn claim(&self, claim: &Claim) -> Option<Claimed> {
        self.reserve(claim).await.ok()
    }

    async fn tell(&self, news: &News) -> Option<Vec<Standing>> {
        Counters::tell(self, news).await.ok()
    }
}
