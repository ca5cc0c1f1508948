//! Use of every scope with a limit, in this process. Locking it is the caller's. Scopes
//! that use nothing are forgotten, so that it holds only who was there in the last minutes.

use std::collections::HashMap;

use llm_router_counters::BucketLevels;
use llm_router_domain::limit::{Bucket, LimitExceeded, LimitUsage, Limits, Rate};

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
}

/// Amounts to count in each scope.
pub(super) struct Ask {
    /// Set if the request is in flight from now on.
    pub(super) enters: bool,
    pub(super) requests: u64,
    pub(super) tokens: u64,
    /// Number of replicas that share a limit of calls in flight.
    pub(super) replicas: u32,
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
    /// The shared counters' lapse up to which they know all of this.
    told: u64,
}

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
        &self,
        lines: &[ScopedLimits],
        ask: &Ask,
        now: u64,
    ) -> Result<(), (usize, LimitExceeded)> {
        for (position, line) in lines.iter().enumerate() {
            let used = self.get(&line.subject);
            let limits = &line.limits;
            let entered = if ask.enters {
                used.check_concurrency(limits, ask.replicas)
            } else {
                Ok(())
            };
            entered
                .and_then(|()| used.check_requests(limits, ask.requests, now))
                .and_then(|()| used.check_tokens(limits, ask.tokens, now))
                .map_err(|full| (position, full))?;
        }
        Ok(())
    }

    /// Counts it on every line, room or not.
    pub(super) fn charge(&mut self, lines: &[ScopedLimits], ask: &Ask, now: u64) {
        self.forget_idle(now);
        for line in lines {
            let State { limits, used, .. } =
                self.by_subject.entry(line.subject.clone()).or_default();
            *limits = line.limits;
            used.in_flight += u32::from(ask.enters);
            if let Some(rate) = limits.requests.filter(|_| ask.requests > 0) {
                used.requests.charge(rate, ask.requests, now);
            }
            if let Some(rate) = limits.tokens.filter(|_| ask.tokens > 0) {
                used.tokens.charge(rate, ask.tokens, now);
            }
        }
    }

    /// Counts `used` tokens in place of those `reserved`.
    pub(super) fn settle(&mut self, lines: &[ScopedLimits], reserved: u64, used: u64, now: u64) {
        for line in lines {
            let Some(rate) = line.limits.tokens else {
                continue;
            };
            if let Some(state) = self.by_subject.get_mut(&line.subject) {
                if used > reserved {
                    state.used.tokens.charge(rate, used - reserved, now);
                } else {
                    state.used.tokens.refund(rate, reserved - used, now);
                }
            }
        }
    }

    /// Takes over what the shared counters say.
    pub(super) fn mirror(
        &mut self,
        lines: &[ScopedLimits],
        levels: &[BucketLevels],
        generation: u64,
        now: u64,
    ) {
        for (line, levels) in lines.iter().zip(levels) {
            if let Some(State { used, told, .. }) = self.by_subject.get_mut(&line.subject) {
                used.requests = Bucket::new(levels.requests, now);
                used.tokens = Bucket::new(levels.tokens, now);
                *told = generation;
            }
        }
    }

    /// Returns how full a scope's buckets are at least, if the shared counters may not know. Once they
    /// were told they know better: also what was given back on other replicas.
    pub(super) fn unsaid(&self, line: &ScopedLimits, generation: u64, now: u64) -> BucketLevels {
        let state = self.by_subject.get(&line.subject);
        let Some(State { used, .. }) = state.filter(|state| state.told != generation) else {
            return BucketLevels::default();
        };
        let level =
            |bucket: Bucket, rate: Option<Rate>| rate.map_or(0, |rate| bucket.level(rate, now));
        BucketLevels {
            requests: level(used.requests, line.limits.requests),
            tokens: level(used.tokens, line.limits.tokens),
            in_flight: 0,
        }
    }

    /// A request is not under way any more.
    pub(super) fn leave(&mut self, lines: &[ScopedLimits]) {
        for line in lines {
            if let Some(State { used, .. }) = self.by_subject.get_mut(&line.subject) {
                used.in_flight = used.in_flight.saturating_sub(1);
            }
        }
    }

    /// Takes back requests that were charged and not let through after all.
    pub(super) fn take_back(&mut self, lines: &[ScopedLimits], requests: u64, now: u64) {
        for line in lines {
            let Some(rate) = line.limits.requests else {
                continue;
            };
            if let Some(State { used, .. }) = self.by_subject.get_mut(&line.subject) {
                used.requests.refund(rate, requests, now);
            }
        }
    }

    pub(super) fn get(&self, subject: &LimitScope) -> LimitUsage {
        self.by_subject
            .get(subject)
            .map_or_else(LimitUsage::default, |state| state.used)
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
            enters: false,
            requests: 1,
            tokens: 0,
            replicas: 1,
        };
        let mut most = 0;
        for number in 0..20_000_u64 {
            let subject = LimitScope::Key(format!("key-{number}").into());
            // A hundred new subjects a second, each of which is idle after a second.
            uses.charge(&[ScopedLimits { subject, limits }], &ask, number * 10_000);
            most = most.max(uses.len());
        }
        assert!(most <= 2 * FEW, "{most}");
    }
}
