//! Rate limits shared by all replicas: one call for everything a request counts against, one
//! message at its end. It must not decide what follows from a refusal.

use std::sync::LazyLock;
use std::time::Duration;

use llm_router_domain::limit::{
    Ceiling, LEVEL_OF_ONE, Level, LimitExceeded, Limits, Rate, SET_ASIDE_GRACE, SecondAmount,
};
use redis::{Script, Value};
use uuid::Uuid;

use crate::connection::{CheckedCall, Counters};
use crate::lease::{LEASE, LeaseEnd, LeaseEndLine, millis};
use crate::link::Unavailable;
use crate::names;

/// Demand of a request on the limits of one subject.
#[derive(Clone, Debug)]
pub struct LimitRequest {
    /// The subject, as in `key:ci`: the same on every replica.
    pub subject: String,
    /// Its limits.
    pub limits: Limits,
    /// Requests to count.
    pub requests: u64,
    /// Tokens to reserve.
    pub tokens: u64,
    /// Amounts that are counted at least, as this replica knows; empty if it knows nothing.
    pub known: KnownAmounts,
    /// True if the amounts of the seconds are to be returned.
    pub wants_seconds: bool,
}

/// Amounts that a replica knows to be counted, newest first. The level of a bucket is one amount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownAmounts {
    /// Amounts of requests.
    pub requests: Vec<SecondAmount>,
    /// Amounts of tokens.
    pub tokens: Vec<SecondAmount>,
}

/// Usage of a subject's limits by all replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubjectUsage {
    /// Requests that are counted, or the level of their bucket.
    pub requests: Level,
    /// Tokens that are counted, or the level of their bucket.
    pub tokens: Level,
    /// Requests in flight.
    pub in_flight: u32,
    /// The amounts by second, if they were wanted.
    pub seconds: Option<KnownAmounts>,
}

/// Outcome of a request to take, with the usage of every subject after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeOutcome {
    /// Not counted: Redis has lost its data and needs what replicas know.
    Forgotten,
    /// Counted for all subjects.
    Passed {
        /// Second of Redis' clock in which it was counted.
        second: u64,
        /// Usage of each subject.
        usage: Vec<SubjectUsage>,
    },
    /// Counted for none.
    Full {
        /// Position of the subject whose limit is exhausted.
        position: usize,
        /// The exhausted limit and the time to wait.
        full: LimitExceeded,
        /// Usage of all subjects.
        usage: Vec<SubjectUsage>,
    },
}

static TAKE: LazyLock<Script> = LazyLock::new(|| {
    rate_script(concat!(
        include_str!("scripts/clock.lua"),
        include_str!("scripts/rates.lua"),
        include_str!("scripts/epoch.lua"),
        include_str!("scripts/take.lua")
    ))
});

/// Creates a script of limits. Tests set its clock.
pub(crate) fn rate_script(text: &str) -> Script {
    #[cfg(test)]
    let text = &text.replace("redis.call('TIME')", tests::CLOCK);
    Script::new(text)
}

/// First number of an answer: the server has a new epoch, or it admitted the request.
const NEW_EPOCH: i64 = 0;
const PASSED: i64 = 1;

/// Values in an answer before those of its lines, and for each line.
const HEAD: usize = 5;
const PER_LINE: usize = 5;

impl Counters {
    /// Counts a request for all its subjects, or for none if one has no room.
    ///
    /// # Errors
    /// Returns an error if Redis doesn't answer in time. It may have counted the request, so its
    /// end must be reported.
    pub async fn take(
        &self,
        lease: Uuid,
        requests: &[LimitRequest],
    ) -> Result<TakeOutcome, Unavailable> {
        let leases = requests
            .iter()
            .filter(|request| request.limits.concurrency.is_some());
        let leases: Vec<String> = leases
            .map(|request| names::leases(&request.subject))
            .collect();
        if !leases.is_empty() {
            self.inner().leases.insert(lease, leases);
        }
        let answer: Vec<Value> = self.call_checked(self.take_call(lease, requests)).await?;
        let verdict = match read_reply(&answer, requests).ok_or(Unavailable)? {
            ScriptReply::NewEpoch(epoch) => {
                self.link().note_epoch(epoch);
                TakeOutcome::Forgotten
            }
            ScriptReply::Verdict(verdict) => verdict,
        };
        if !matches!(verdict, TakeOutcome::Passed { .. }) {
            self.inner().leases.remove(lease);
        }
        Ok(verdict)
    }

    fn take_call(&self, lease: Uuid, requests: &[LimitRequest]) -> CheckedCall<'static> {
        let mut checked = self.prepare(&TAKE);
        let call = &mut checked.invocation;
        call.arg(lease.to_string())
            .arg(millis(LEASE))
            .arg(LEVEL_OF_ONE)
            .arg(SET_ASIDE_GRACE);
        for request in requests {
            let (rpm, burst) = rate_arguments(request.limits.requests);
            let (tpm, token_burst) = rate_arguments(request.limits.tokens);
            call.key(names::requests(&request.subject))
                .key(names::tokens(&request.subject))
                .key(names::leases(&request.subject))
                .arg(rpm)
                .arg(burst)
                .arg(tpm)
                .arg(token_burst)
                .arg(request.limits.concurrency.unwrap_or(0))
                .arg(request.requests)
                .arg(request.tokens)
                .arg(u8::from(request.wants_seconds));
            for amounts in [&request.known.requests, &request.known.tokens] {
                call.arg(amounts.len());
                for second in amounts {
                    call.arg(second.age).arg(second.amount);
                }
            }
        }
        checked
    }

    /// Reports in the background that a request has ended and used `used` tokens instead of those
    /// that it reserved in `second` of Redis' clock.
    pub fn end(&self, lease: Uuid, requests: &[LimitRequest], used: u64, second: u64) {
        let line = |request: &LimitRequest| LeaseEndLine {
            subject: request.subject.clone(),
            tokens: request.limits.tokens,
            change: to_signed(used).saturating_sub(to_signed(request.tokens)),
        };
        let lines = requests.iter().map(line).collect();
        let parts = self.inner();
        parts.leases.remove(lease);
        let end = LeaseEnd {
            lease,
            lines,
            second,
        };
        if parts.lease_ends.try_send(end).is_err() {
            tracing::debug!("queue of ended requests is full; the lease expires");
        }
    }
}

fn to_signed(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

/// Returns the arguments of a rate: per minute and burst, each 0 if there is none.
pub(crate) fn rate_arguments(rate: Option<Rate>) -> (u64, u64) {
    rate.map_or((0, 0), |rate| {
        (rate.per_minute(), rate.burst().unwrap_or(0))
    })
}

enum ScriptReply {
    NewEpoch(String),
    Verdict(TakeOutcome),
}

fn read_reply(answer: &[Value], requests: &[LimitRequest]) -> Option<ScriptReply> {
    let first: i64 = redis::from_redis_value_ref(answer.first()?).ok()?;
    if first == NEW_EPOCH {
        let epoch = redis::from_redis_value_ref(answer.get(1)?).ok()?;
        return Some(ScriptReply::NewEpoch(epoch));
    }
    let lines = answer.get(HEAD..)?.chunks_exact(PER_LINE);
    let usage = lines.zip(requests);
    let usage: Vec<SubjectUsage> = usage
        .map(|(line, request)| read_line(line, request.wants_seconds))
        .collect::<Option<_>>()?;
    if usage.len() != requests.len() {
        return None;
    }
    let second = read_number(answer.get(4)?)?;
    if first == PASSED {
        return Some(ScriptReply::Verdict(TakeOutcome::Passed { second, usage }));
    }
    let line = usize::try_from(read_number(answer.get(1)?)?).ok()?;
    let ceiling = match read_number(answer.get(2)?)? {
        1 => Ceiling::Requests,
        2 => Ceiling::Tokens,
        _ => Ceiling::Concurrency,
    };
    let wait = Duration::from_micros(read_number(answer.get(3)?)?);
    Some(ScriptReply::Verdict(TakeOutcome::Full {
        position: line.checked_sub(1)?,
        full: LimitExceeded {
            ceiling,
            wait: Some(wait),
        },
        usage,
    }))
}

fn read_line(line: &[Value], has_seconds: bool) -> Option<SubjectUsage> {
    let [requests, tokens, in_flight, request_seconds, token_seconds] = line else {
        return None;
    };
    let seconds = KnownAmounts {
        requests: read_seconds(request_seconds)?,
        tokens: read_seconds(token_seconds)?,
    };
    Some(SubjectUsage {
        requests: read_number(requests)?,
        tokens: read_number(tokens)?,
        in_flight: u32::try_from(read_number(in_flight)?).unwrap_or(u32::MAX),
        seconds: has_seconds.then_some(seconds),
    })
}

fn read_seconds(value: &Value) -> Option<Vec<SecondAmount>> {
    let numbers: Vec<u64> = redis::from_redis_value_ref(value).ok()?;
    let seconds = numbers.chunks_exact(2).map(|second| {
        Some(SecondAmount {
            age: u32::try_from(second[0]).ok()?,
            amount: second[1],
        })
    });
    seconds.collect()
}

fn read_number(value: &Value) -> Option<u64> {
    let number: i64 = redis::from_redis_value_ref(value).ok()?;
    Some(u64::try_from(number).unwrap_or(0))
}

#[cfg(test)]
mod tests;
