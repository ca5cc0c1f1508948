//! Rate limits: requests and tokens by a leaky bucket, concurrent requests by a count. It must not
//! know whose limit it is, nor where its state is kept; time is an argument.

mod bucket;

use std::time::Duration;

pub use bucket::{Bucket, LEVEL_OF_ONE, Rate};

/// Limits of one subject: a key, an owner, a model or all. `None`: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Requests.
    pub requests: Option<Rate>,
    /// Tokens of input and output.
    pub tokens: Option<Rate>,
    /// Requests at the same time.
    pub concurrency: Option<u32>,
}

/// Kind of limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ceiling {
    /// Requests in any 60 seconds.
    Requests,
    /// Tokens in any 60 seconds.
    Tokens,
    /// Requests at the same time.
    Concurrency,
}

/// Error of a limit that is exhausted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitExceeded {
    /// The exhausted limit.
    pub ceiling: Ceiling,
    /// Time until there is room again, if no other request takes it.
    pub wait: Duration,
}

/// Current usage of a subject's limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitUsage {
    /// Requests admitted recently.
    pub requests: Bucket,
    /// Tokens admitted recently, reserved ones included.
    pub tokens: Bucket,
    /// Requests in flight.
    pub in_flight: u32,
}

/// Wait suggested to a request that exceeds the concurrency limit: the end of the others is
/// unknown.
const CONCURRENCY_WAIT: Duration = Duration::from_secs(1);

impl Ceiling {
    /// Returns the name used in metrics and messages.
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
    /// No limits.
    pub const NONE: Self = Self {
        requests: None,
        tokens: None,
        concurrency: None,
    };

    /// Returns true if there is no limit.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }
}

impl LimitUsage {
    /// Checks that `cost` requests fit. While replicas can't share counters, a request costs as
    /// many as there are replicas.
    ///
    /// # Errors
    /// Returns an error if they don't fit.
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

    /// Checks that `tokens` fit.
    ///
    /// # Errors
    /// Returns an error if they don't fit.
    pub fn check_tokens(
        &self,
        limits: &Limits,
        tokens: u64,
        now: u64,
    ) -> Result<(), LimitExceeded> {
        check(&self.tokens, limits.tokens, tokens, now, Ceiling::Tokens)
    }

    /// Checks that one more request may run here if `replicas` are as busy as this one.
    ///
    /// # Errors
    /// Returns an error if it may not.
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

    /// Returns true if the usage is zero and can be dropped.
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
    /// Creates the error of an exhausted concurrency limit.
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
