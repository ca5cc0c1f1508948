//! Ceilings per window: requests and tokens by a leaky bucket, requests at the same time by a
//! count. It must not know whose ceiling it is, nor where its state is kept; time is an argument.

mod bucket;

use std::time::Duration;

pub use bucket::{Bucket, LEVEL_OF_ONE, Rate};

/// The ceilings of one subject: a key, an owner, a model or everybody. `None`: no ceiling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests.
    pub requests: Option<Rate>,
    /// Tokens of input and output.
    pub tokens: Option<Rate>,
    /// Requests at the same time.
    pub concurrency: Option<u32>,
}

/// One of a subject's ceilings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ceiling {
    /// Requests in any 60 seconds.
    Requests,
    /// Tokens in any 60 seconds.
    Tokens,
    /// Requests at the same time.
    Concurrency,
}

/// A ceiling that leaves no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitExceeded {
    /// Which one.
    pub ceiling: Ceiling,
    /// When there is room again, if nothing else takes it.
    pub wait: Duration,
}

/// What a subject uses of its ceilings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitUsage {
    /// Requests let through lately.
    pub requests: Bucket,
    /// Tokens let through lately, reserved ones included.
    pub tokens: Bucket,
    /// Requests under way.
    pub in_flight: u32,
}

/// How long a request that found too many others under way is told to wait: when one of those
/// ends nobody knows.
const CONCURRENCY_WAIT: Duration = Duration::from_secs(1);

impl Ceiling {
    /// The name in metrics and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::Concurrency => "concurrency",
        }
    }
}

impl Limits {
    /// No ceiling at all.
    pub const NONE: Self = Self {
        requests: None,
        tokens: None,
        concurrency: None,
    };

    /// Whether there is no ceiling.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

impl LimitUsage {
    /// Whether `cost` requests find room. Where replicas that don't hear of each other each count
    /// for all, a request costs as many as there are replicas.
    ///
    /// # Errors
    /// When they don't.
    pub fn check_requests(
        &self,
        limits: &Limits,
        cost: u64,
        now: u64,
    ) -> Result<(), LimitExceeded> {
        check(
            &self.requests,
            limits.requests,
            cost,
            now,
            Ceiling::Requests,
        )
    }

    /// Whether `tokens` find room.
    ///
    /// # Errors
    /// When they don't.
    pub fn check_tokens(
        &self,
        limits: &Limits,
        tokens: u64,
        now: u64,
    ) -> Result<(), LimitExceeded> {
        check(&self.tokens, limits.tokens, tokens, now, Ceiling::Tokens)
    }

    /// Whether one more request may be under way here, if there are `replicas` as busy as this one.
    ///
    /// # Errors
    /// When it may not.
    pub fn check_concurrency(&self, limits: &Limits, replicas: u32) -> Result<(), LimitExceeded> {
        let share = |all: u32| (all / replicas.max(1)).max(1);
        match limits.concurrency.map(share) {
            Some(most) if self.in_flight >= most => Err(LimitExceeded {
                ceiling: Ceiling::Concurrency,
                wait: CONCURRENCY_WAIT,
            }),
            _ => Ok(()),
        }
    }

    /// Whether nothing of it matters any more.
    #[must_use]
    pub fn is_idle(&self, limits: &Limits, now: u64) -> bool {
        let empty = |bucket: &Bucket, rate: Option<Rate>| {
            rate.is_none_or(|rate| bucket.level(rate, now) == 0)
        };
        self.in_flight == 0
            && empty(&self.requests, limits.requests)
            && empty(&self.tokens, limits.tokens)
    }
}

impl LimitExceeded {
    /// A concurrency ceiling that is reached.
    #[must_use]
    pub const fn concurrency() -> Self {
        Self {
            ceiling: Ceiling::Concurrency,
            wait: CONCURRENCY_WAIT,
        }
    }
}

fn check(
    bucket: &Bucket,
    rate: Option<Rate>,
    cost: u64,
    now: u64,
    ceiling: Ceiling,
) -> Result<(), LimitExceeded> {
    let wait = rate.map_or(Duration::ZERO, |rate| bucket.wait(rate, cost, now));
    if wait.is_zero() {
        Ok(())
    } else {
        Err(LimitExceeded { ceiling, wait })
    }
}
