//! Rate limits shared by all replicas: one call for everything a request counts against, one
//! message at its end. It must not decide what follows from a refusal.

use std::time::Duration;

use llm_router_domain::limit::{Ceiling, LEVEL_OF_ONE, LimitExceeded, Limits, Rate};
use redis::{Script, ScriptInvocation};
use std::sync::LazyLock;
use uuid::Uuid;

use crate::connection::Counters;
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
    /// Lower bound of the bucket levels as this replica knows them; zero if it knows nothing.
    pub floor: BucketLevels,
}

/// Levels of a subject's buckets, and its requests in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BucketLevels {
    /// Level of the request bucket, in units of [`llm_router_domain::limit::Bucket::level`].
    pub requests: u64,
    /// Level of the token bucket, in the same units.
    pub tokens: u64,
    /// Requests in flight on all replicas.
    pub in_flight: u32,
}

/// Outcome of a request to take, with the levels of every subject after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TakeOutcome {
    /// Not counted: Redis has lost its data and needs the levels that replicas know.
    Forgotten,
    /// Counted for all subjects.
    Passed(Vec<BucketLevels>),
    /// Counted for none.
    Full {
        /// Position of the subject whose limit is exhausted.
        position: usize,
        /// The exhausted limit and the time to wait.
        full: LimitExceeded,
        /// Levels of all subjects.
        levels: Vec<BucketLevels>,
    },
}

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/take.lua")));

/// First number of an answer: the server has a new epoch, or it admitted the request.
const NEW_EPOCH: i64 = 0;
const PASSED: i64 = 1;

/// Numbers in an answer before those of its lines, and for each line.
const HEAD: usize = 4;
const PER_LINE: usize = 3;

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
        let answer: Vec<redis::Value> = self
            .call(&take_call(&self.link().epoch(), lease, requests))
            .await?;
        let verdict = match read_reply(&answer).ok_or(Unavailable)? {
            ScriptReply::NewEpoch(epoch) => {
                self.link().note_epoch(epoch);
                TakeOutcome::Forgotten
            }
            ScriptReply::Verdict(verdict) => verdict,
        };
        if !matches!(verdict, TakeOutcome::Passed(_)) {
            self.inner().leases.remove(lease);
        }
        Ok(verdict)
    }

    /// Reports in the background that a request has ended and used `used` tokens instead of those
    /// it reserved.
    pub fn end(&self, lease: Uuid, requests: &[LimitRequest], used: u64) {
        let line = |request: &LimitRequest| LeaseEndLine {
            subject: request.subject.clone(),
            tpm: request.limits.tokens.map_or(0, Rate::per_minute),
            change: to_signed(used).saturating_sub(to_signed(request.tokens)),
        };
        let lines = requests.iter().map(line).collect();
        let parts = self.inner();
        parts.leases.remove(lease);
        if parts
            .lease_ends
            .try_send(LeaseEnd { lease, lines })
            .is_err()
        {
            tracing::debug!("queue of ended requests is full; the lease expires");
        }
    }
}

fn to_signed(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

fn take_call<'a>(epoch: &str, lease: Uuid, requests: &[LimitRequest]) -> ScriptInvocation<'a> {
    let mut call = TAKE.prepare_invoke();
    let lease = lease.to_string();
    call.key(names::epoch())
        .arg(epoch)
        .arg(&lease)
        .arg(&lease)
        .arg(millis(LEASE))
        .arg(LEVEL_OF_ONE);
    for request in requests {
        let (rpm, burst) = rate_arguments(request.limits.requests);
        let (tpm, token_burst) = rate_arguments(request.limits.tokens);
        call.key(names::levels(&request.subject))
            .key(names::leases(&request.subject))
            .arg(rpm)
            .arg(burst)
            .arg(tpm)
            .arg(token_burst)
            .arg(request.limits.concurrency.unwrap_or(0))
            .arg(request.requests)
            .arg(request.tokens)
            .arg(request.floor.requests)
            .arg(request.floor.tokens);
    }
    call
}

fn rate_arguments(rate: Option<Rate>) -> (u64, u64) {
    rate.map_or((0, 0), |rate| (rate.per_minute(), rate.burst()))
}

enum ScriptReply {
    NewEpoch(String),
    Verdict(TakeOutcome),
}

fn read_reply(answer: &[redis::Value]) -> Option<ScriptReply> {
    let first: i64 = redis::from_redis_value_ref(answer.first()?).ok()?;
    if first == NEW_EPOCH {
        let epoch = redis::from_redis_value_ref(answer.get(1)?).ok()?;
        return Some(ScriptReply::NewEpoch(epoch));
    }
    let numbers = answer.iter().map(|value| {
        let number: i64 = redis::from_redis_value_ref(value).ok()?;
        Some(u64::try_from(number).unwrap_or(0))
    });
    let numbers: Vec<u64> = numbers.collect::<Option<_>>()?;
    let lines = numbers.get(HEAD..)?.chunks_exact(PER_LINE);
    let levels = lines.filter_map(|line| match *line {
        [requests, tokens, in_flight] => Some(BucketLevels {
            requests,
            tokens,
            in_flight: u32::try_from(in_flight).unwrap_or(u32::MAX),
        }),
        _ => None,
    });
    let levels = levels.collect();
    if first == PASSED {
        return Some(ScriptReply::Verdict(TakeOutcome::Passed(levels)));
    }
    let (line, ceiling, wait) = (numbers[1], numbers[2], numbers[3]);
    Some(ScriptReply::Verdict(TakeOutcome::Full {
        position: usize::try_from(line).ok()?.checked_sub(1)?,
        full: LimitExceeded {
            ceiling: match ceiling {
                1 => Ceiling::Requests,
                2 => Ceiling::Tokens,
                _ => Ceiling::Concurrency,
            },
            wait: Duration::from_micros(wait),
        },
        levels,
    }))
}
