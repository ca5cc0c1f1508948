//! Rate limits: requests and tokens by a sliding window, or at an even pace by a leaky bucket;
//! concurrent requests by a count. It must not know whose limit it is, nor where its state is kept;
//! time is an argument.

mod bucket;
mod counter;
mod window;

use std::time::Duration;

pub use bucket::{Bucket, LEVEL_OF_ONE, Pace};
pub use counter::{Level, Rate, RateCounter};
pub use window::{SECONDS, SET_ASIDE_GRACE, SecondAmount};

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
    /// Time until there is room again, if no other request takes it; `None` if there never is,
    /// because the request is larger than the limit.
    pub wait: Option<Duration>,
}

/// Current usage of a subject's limits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitUsage {
    /// Requests admitted recently.
    pub requests: RateCounter,
    /// Tokens admitted recently, reserved ones included.
    pub tokens: RateCounter,
    /// Requests in flight.
    pub in_flight: u32,
}

/// Tokens that a request is expected to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpectedTokens {
    /// Tokens of its input.
    pub input: u64,
    /// Tokens of its output: a guess, which alone makes no request larger than a limit.
    pub output: u64,
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

impl ExpectedTokens {
    /// Returns the tokens to reserve under a limit.
    ///
    /// # Errors
    /// Returns an error if the input alone is larger than the limit.
    pub fn reservation(self, rate: Rate) -> Result<u64, LimitExceeded> {
        let all = self.input.saturating_add(self.output);
        if !rate.is_exceeded_by(all) {
            return Ok(all);
        }
        if rate.is_exceeded_by(self.input) {
            return Err(LimitExceeded {
                ceiling: Ceiling::Tokens,
                wait: None,
            });
        }
        Ok(rate.per_minute())
    }
}

impl LimitUsage {
    /// Checks that one request fits that counts for `cost`. While replicas can't share counters, a
    /// request counts for as many as there are replicas.
    ///
    /// # Errors
    /// Returns an error if it doesn't fit.
    pub fn check_requests(
        &mut self,
        limits: &Limits,
        cost: u64,
        now: u64,
    ) -> Result<(), LimitExceeded> {
        let ceiling = Ceiling::Requests;
        check(&mut self.requests, limits.requests, cost, now, ceiling)
    }

    /// Checks that `tokens` fit.
    ///
    /// # Errors
    /// Returns an error if they don't fit.
    pub fn check_tokens(
        &mut self,
        limits: &Limits,
        tokens: u64,
        now: u64,
    ) -> Result<(), LimitExceeded> {
        let ceiling = Ceiling::Tokens;
        check(&mut self.tokens, limits.tokens, tokens, now, ceiling)
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
                wait: Some(CONCURRENCY_WAIT),
            }),
            _ => Ok(()),
        }
    }

    /// Returns true if the usage is zero and can be dropped.
    pub fn is_idle(&mut self, limits: &Limits, now: u64) -> bool {
        self.in_flight == 0 && self.is_idle_but_calls(limits, now)
    }

    /// Returns true if neither requests nor tokens are counted.
    pub fn is_idle_but_calls(&mut self, limits: &Limits, now: u64) -> bool {
        let empty = |counter: &mut RateCounter, rate: Option<Rate>| {
            rate.is_none_or(|rate| counter.is_empty(rate, now))
        };
        empty(&mut self.requests, limits.requests) && empty(&mut self.tokens, limits.tokens)
    }
}

impl LimitExceeded {
    /// Creates the error of an exhausted concurrency limit.
    #[must_use]
    pub const fn concurrency() -> Self {
        Self {
            ceiling: Ceiling::Concurrency,
            wait: Some(CONCURRENCY_WAIT),
        }
    }
}

fn check(
    counter: &mut RateCounter,
    rate: Option<Rate>,
    cost: u64,
    now: u64,
    ceiling: Ceiling,
) -> Result<(), LimitExceeded> {
    let Some(rate) = rate.filter(|_| cost > 0) else {
        return Ok(());
    };
    let wait = counter.wait(rate, cost, now);
    if wait.is_zero() {
        return Ok(());
    }
    counter.refuse(rate, cost, now, wait);
    Err(LimitExceeded {
        ceiling,
        wait: Some(wait),
    })
}
