//! Use of every scope with a limit, in this process. Locking it is the caller's. Scopes
//! that use nothing are forgotten, so that it holds only who was there in the last minutes.

use std::collections::HashMap;
use std::time::Duration;

use llm_router_counters::{KnownAmounts, SubjectUsage};
use llm_router_domain::limit::{
    Ceiling, ExpectedTokens, LimitExceeded, LimitUsage, Limits, Rate, RateCounter, SecondAmount,
};

/// Whose use is counted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LimitScope {
    Everybody,
    Key(Box<str>),
    Owner(Box<str>),
    /// A public model name.
    Model(Box<str>),
}

/// A subject that a request counts for.
#[derive(Clone, Debug)]
pub(super) struct ScopedLimits {
    pub(super) subject: LimitScope,
    pub(super) limits: Limits,
    /// Microsecond at which the request was charged on it.
    pub(super) charged: u64,
}

/// Amounts to count in each scope.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ask {
    /// Set if the request is in flight from now on.
    pub(super) enters: bool,
    /// Set if the request itself is counted.
    pub(super) request: bool,
    pub(super) tokens: ExpectedTokens,
    /// For how many requests it counts: the number of replicas while they can't share counters.
    pub(super) weight: u64,
}

#[derive(Default)]
pub(super) struct Uses {
    by_subject: HashMap<LimitScope, State>,
    /// The number of subjects at which idle ones are looked for.
    crowded: usize,
}

/// Use of one scope.
#[derive(Default)]
struct State {
    limits: Limits,
    used: LimitUsage,
    /// Generation of the shared counters' data in which they were told all of this.
    told: u64,
    /// Microsecond at which the shared counters last sent the amounts of the seconds.
    seconds_at: Option<u64>,
    /// Microsecond until which the shared counters have no room for a request, and the limit that
    /// this is true of.
    full_until: Option<(Rate, u64)>,
}

/// Generation of a scope that has counted what the shared counters were not told.
const UNTOLD: u64 = u64::MAX;

/// Time after which the amounts of the seconds are asked for again, in microseconds.
const SECONDS_AGE: u64 = 1_000_000;

/// Fewer subjects than this are never looked through.
const FEW: usize = 1024;

impl LimitScope {
    /// The label in metrics.
    pub(super) const fn kind(&self) -> &'static str {
        match self {
            Self::Everybody => "global",
            Self::Key(_) => "key",
            Self::Owner(_) => "owner",
            Self::Model(_) => "model",
        }
    }

    /// The name in the shared counters.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Everybody => "all".to_owned(),
            Self::Key(name) => format!("key:{name}"),
            Self::Owner(name) => format!("owner:{name}"),
            Self::Model(name) => format!("model:{name}"),
        }
    }

    /// The beginning of a sentence about it.
    pub(super) fn as_sentence(&self) -> String {
        match self {
            Self::Everybody => "All clients together are".to_owned(),
            Self::Key(name) => format!("The key \"{name}\" is"),
            Self::Owner(name) => format!("The owner \"{name}\" is"),
            Self::Model(name) => format!("The model \"{name}\" is"),
        }
    }
}

impl Uses {
    /// Checks that every scope has room; if not, returns the position of one that has none.
    pub(super) fn check(
        &mut self,
        lines: &[ScopedLimits],
        ask: &Ask,
        now: u64,
    ) -> Result<(), (usize, LimitExceeded)> {
        for (position, line) in lines.iter().enumerate() {
            reserved_tokens(line, ask.tokens).map_err(|never| (position, never))?;
        }
        for (position, line) in lines.iter().enumerate() {
            let used = self.usage(&line.subject);
            let limits = &line.limits;
            let replicas = u32::try_from(ask.weight).unwrap_or(u32::MAX);
            let entered = if ask.enters {
                used.check_concurrency(limits, replicas)
            } else {
                Ok(())
            };
            entered
                .and_then(|()| used.check_requests(limits, request_cost(line, ask), now))
                .and_then(|()| used.check_tokens(limits, token_cost(line, ask), now))
                .map_err(|full| (position, full))?;
        }
        Ok(())
    }

    /// Checks that no scope is known to be full of what the shared counters count.
    pub(super) fn check_shared(
        &mut self,
        lines: &[ScopedLimits],
        now: u64,
    ) -> Result<(), (usize, LimitExceeded)> {
        for (position, line) in lines.iter().enumerate() {
            let Some(state) = self.by_subject.get(&line.subject) else {
                continue;
            };
            state
                .used
                .check_concurrency(&line.limits, 1)
                .and_then(|()| state.check_full(line.limits.requests, now))
                .map_err(|full| (position, full))?;
        }
        Ok(())
    }

    /// Counts it on every line, room or not.
    pub(super) fn charge(&mut self, lines: &mut [ScopedLimits], ask: &Ask, now: u64) {
        self.forget_idle(now);
        for line in lines {
            let state = self.by_subject.entry(line.subject.clone()).or_default();
            if ask.request || ask.tokens != ExpectedTokens::default() {
                state.told = UNTOLD;
            }
            let State { limits, used, .. } = state;
            *limits = line.limits;
            used.in_flight += u32::from(ask.enters);
            if let Some(rate) = limits.requests.filter(|_| ask.request) {
                used.requests.charge(rate, request_cost(line, ask), now);
                line.charged = now;
            }
            let tokens = token_cost(line, ask);
            if let Some(rate) = limits.tokens.filter(|_| tokens > 0) {
                used.tokens.charge(rate, tokens, now);
            }
        }
    }

    /// Counts `used` tokens in place of those that `ask` reserved at `charged`.
    pub(super) fn settle(
        &mut self,
        lines: &[ScopedLimits],
        ask: &Ask,
        used: u64,
        charged: u64,
        now: u64,
    ) {
        let used = used.saturating_mul(ask.weight);
        for line in lines {
            let Some(rate) = line.limits.tokens else {
                continue;
            };
            if let Some(state) = self.by_subject.get_mut(&line.subject) {
                let reserved = token_cost(line, ask);
                state.used.tokens.settle(rate, reserved, used, charged, now);
            }
        }
    }

    /// Takes over what the shared counters say.
    pub(super) fn mirror(
        &mut self,
        lines: &[ScopedLimits],
        usage: &[SubjectUsage],
        generation: u64,
        now: u64,
    ) {
        for (line, usage) in lines.iter().zip(usage) {
            let Some(state) = self.by_subject.get_mut(&line.subject) else {
                continue;
            };
            let seconds = usage.seconds.as_ref();
            if let Some(rate) = line.limits.requests {
                let seconds = seconds.map(|seconds| seconds.requests.as_slice());
                let counter = &mut state.used.requests;
                counter.adopt(rate, usage.requests, seconds, now);
            }
            if let Some(rate) = line.limits.tokens {
                let seconds = seconds.map(|seconds| seconds.tokens.as_slice());
                let counter = &mut state.used.tokens;
                counter.adopt(rate, usage.tokens, seconds, now);
            }
            if seconds.is_some() {
                state.seconds_at = Some(now);
            }
            state.told = generation;
        }
    }

    /// Remembers until when the shared counters have no room for a request of a scope.
    pub(super) fn note_full(&mut self, line: &ScopedLimits, full: &LimitExceeded, now: u64) {
        let (Ceiling::Requests, Some(wait), Some(rate)) =
            (full.ceiling, full.wait, line.limits.requests)
        else {
            return;
        };
        if let Some(state) = self.by_subject.get_mut(&line.subject) {
            let wait = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
            state.full_until = Some((rate, now.saturating_add(wait)));
        }
    }

    /// Returns what a scope counts, if the shared counters may not know. Once they were told they
    /// know better: also what was given back on other replicas.
    pub(super) fn unsaid(
        &mut self,
        line: &ScopedLimits,
        generation: u64,
        now: u64,
    ) -> KnownAmounts {
        let state = self.by_subject.get_mut(&line.subject);
        let Some(State { used, .. }) = state.filter(|state| state.told != generation) else {
            return KnownAmounts::default();
        };
        let amounts = |counter: &mut RateCounter, rate: Option<Rate>| {
            rate.map_or_else(Vec::<SecondAmount>::new, |rate| counter.amounts(rate, now))
        };
        KnownAmounts {
            requests: amounts(&mut used.requests, line.limits.requests),
            tokens: amounts(&mut used.tokens, line.limits.tokens),
        }
    }

    /// Returns the scopes of which the shared counters may not know what is counted.
    pub(super) fn untold(&mut self, generation: u64, now: u64) -> Vec<ScopedLimits> {
        let states = self.by_subject.iter_mut();
        let untold = states.filter_map(
            |(
                subject,
                State {
                    limits, used, told, ..
                },
            )| {
                let rates = Limits {
                    concurrency: None,
                    ..*limits
                };
                let is_told = *told == generation;
                if is_told || rates.is_none() || used.is_idle_but_calls(limits, now) {
                    return None;
                }
                Some(ScopedLimits {
                    subject: subject.clone(),
                    limits: rates,
                    charged: 0,
                })
            },
        );
        untold.collect()
    }

    /// Returns true if the amounts of a scope's seconds should be asked for.
    pub(super) fn wants_seconds(&self, line: &ScopedLimits, now: u64) -> bool {
        let state = self.by_subject.get(&line.subject);
        let seconds_at = state.and_then(|state| state.seconds_at);
        seconds_at.is_none_or(|at| now.saturating_sub(at) >= SECONDS_AGE)
    }

    /// A request is not under way any more.
    pub(super) fn leave(&mut self, lines: &[ScopedLimits]) {
        for line in lines {
            if let Some(State { used, .. }) = self.by_subject.get_mut(&line.subject) {
                used.in_flight = used.in_flight.saturating_sub(1);
            }
        }
    }

    /// Takes back a request that was charged and not let through after all.
    pub(super) fn take_back(&mut self, lines: &[ScopedLimits], ask: &Ask, now: u64) {
        for line in lines {
            let Some(rate) = line.limits.requests.filter(|_| ask.request) else {
                continue;
            };
            if let Some(State { used, .. }) = self.by_subject.get_mut(&line.subject) {
                let cost = request_cost(line, ask);
                used.requests.settle(rate, cost, 0, line.charged, now);
            }
        }
    }

    /// Returns the usage of a scope.
    pub(super) fn usage(&mut self, subject: &LimitScope) -> &mut LimitUsage {
        &mut self.by_subject.entry(subject.clone()).or_default().used
    }

    fn forget_idle(&mut self, now: u64) {
        if self.by_subject.len() < self.crowded.max(FEW) {
            return;
        }
        self.by_subject
            .retain(|_, state| !state.used.is_idle(&state.limits, now));
        self.crowded = 2 * self.by_subject.len();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.by_subject.len()
    }
}

impl State {
    fn check_full(&self, rate: Option<Rate>, now: u64) -> Result<(), LimitExceeded> {
        match self.full_until {
            Some((of, until)) if Some(of) == rate && until > now => Err(LimitExceeded {
                ceiling: Ceiling::Requests,
                wait: Some(Duration::from_micros(until - now)),
            }),
            _ => Ok(()),
        }
    }
}

/// Returns the tokens to reserve on a line.
///
/// # Errors
/// Returns an error if the request is larger than the limit.
pub(super) fn reserved_tokens(
    line: &ScopedLimits,
    tokens: ExpectedTokens,
) -> Result<u64, LimitExceeded> {
    line.limits
        .tokens
        .map_or(Ok(0), |rate| tokens.reservation(rate))
}

fn token_cost(line: &ScopedLimits, ask: &Ask) -> u64 {
    let tokens = reserved_tokens(line, ask.tokens).unwrap_or(u64::MAX);
    weigh(line.limits.tokens, tokens, ask.weight)
}

fn request_cost(line: &ScopedLimits, ask: &Ask) -> u64 {
    weigh(line.limits.requests, u64::from(ask.request), ask.weight)
}

/// Returns a cost times the weight, and no more than a limit can admit: a request that passes where
/// replicas share a limit passes, alone, where each has its own part.
fn weigh(rate: Option<Rate>, cost: u64, weight: u64) -> u64 {
    let cost = cost.saturating_mul(weight);
    match rate {
        Some(rate) if rate.is_exceeded_by(cost) => rate.per_minute(),
        _ => cost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_uses_nothing_is_forgotten() {
        let mut uses = Uses::default();
        let limits = Limits {
            requests: Some(Rate::new(60, Some(1))),
            ..Limits::NONE
        };
        let ask = Ask {
            request: true,
            weight: 1,
            ..Ask::default()
        };
        let mut most = 0;
        for number in 0..20_000_u64 {
            let subject = LimitScope::Key(format!("key-{number}").into());
            // A hundred new subjects a second, each of which is idle after a second.
            let line = ScopedLimits {
                subject,
                limits,
                charged: 0,
            };
            uses.charge(&mut [line], &ask, number * 10_000);
            most = most.max(uses.len());
        }
        assert!(most <= 2 * FEW, "{most}");
    }
}
