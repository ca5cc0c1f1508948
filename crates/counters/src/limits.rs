//! Limits that hold for all replicas together: one question for everything that a request counts
//! for, one message at its end.

use std::time::Duration;

use llm_router_domain::limit::{Ceiling, Full, LEVEL_OF_ONE, Limits, Rate};
use redis::{Script, ScriptInvocation};
use std::sync::LazyLock;
use uuid::Uuid;

use crate::counters::Counters;
use crate::lease::{Ending, EndingLine, LEASE, millis};
use crate::link::Down;
use crate::names;

/// What a request asks of one subject's limits.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The subject, as in `key:ci`: the same on every replica.
    pub subject: String,
    /// Its limits.
    pub limits: Limits,
    /// Requests to count.
    pub requests: u64,
    /// Tokens to reserve.
    pub tokens: u64,
    /// What this replica knows its buckets to hold at least; zero if it knows nothing.
    pub floor: Levels,
}

/// How full a subject's buckets are, and how many of its requests are under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// As [`llm_router_domain::limit::Bucket::level`] has it.
    pub requests: u64,
    /// Likewise.
    pub tokens: u64,
    /// On all replicas.
    pub in_flight: u32,
}

/// What came of a question, with the levels of every subject as they are after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It was not counted: Redis has forgotten everything, and should be told what is known.
    Forgotten,
    /// It was counted for all subjects.
    Passed(Vec<Levels>),
    /// It was counted for none.
    Full {
        /// The position of the subject whose limit leaves no room.
        position: usize,
        /// Which of its limits, and until when.
        full: Full,
        /// The levels.
        levels: Vec<Levels>,
    },
}

static TAKE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("scripts/take.lua")));

/// The first number of an answer: a server that has begun anew, and one that let the request pass.
const NEW_EPOCH: i64 = 0;
const PASSED: i64 = 1;

/// Numbers of an answer before those of its lines, and for each line.
const HEAD: usize = 4;
const PER_LINE: usize = 3;

impl Counters {
    /// Counts a request for all its subjects, or for none of them if one has no room.
    ///
    /// # Errors
    /// When Redis doesn't answer in time. It may have counted the request all the same: then its
    /// end should be told.
    pub async fn take(&self, lease: Uuid, asks: &[Ask]) -> Result<Verdict, Down> {
        let leases = asks.iter().filter(|ask| ask.limits.concurrency.is_some());
        let leases: Vec<String> = leases.map(|ask| names::leases(&ask.subject)).collect();
        if !leases.is_empty() {
            self.parts().leases.hold(lease, leases);
        }
        let answer: Vec<redis::Value> = self
            .call(&question(&self.link().epoch(), lease, asks))
            .await?;
        let verdict = match read(&answer).ok_or(Down)? {
            Answer::NewEpoch(epoch) => {
                self.link().note_epoch(epoch);
                Verdict::Forgotten
            }
            Answer::Verdict(verdict) => verdict,
        };
        if !matches!(verdict, Verdict::Passed(_)) {
            self.parts().leases.let_go(lease);
        }
        Ok(verdict)
    }

    /// Tells in the background that a request has ended, and that it used `used` tokens in place
    /// of those it reserved.
    pub fn end(&self, lease: Uuid, asks: &[Ask], used: u64) {
        let line = |ask: &Ask| EndingLine {
            subject: ask.subject.clone(),
            tpm: ask.limits.tokens.map_or(0, Rate::per_minute),
            change: signed(used).saturating_sub(signed(ask.tokens)),
        };
        let lines = asks.iter().map(line).collect();
        let parts = self.parts();
        parts.leases.let_go(lease);
        if parts.endings.try_send(Ending { lease, lines }).is_err() {
            tracing::debug!("too many ends of requests wait to be told to the counters");
        }
    }
}

fn signed(tokens: u64) -> i64 {
    i64::try_from(tokens).unwrap_or(i64::MAX)
}

fn question<'a>(epoch: &str, lease: Uuid, asks: &[Ask]) -> ScriptInvocation<'a> {
    let mut call = TAKE.prepare_invoke();
    let lease = lease.to_string();
    call.key(names::epoch())
        .arg(epoch)
        .arg(&lease)
        .arg(&lease)
        .arg(millis(LEASE))
        .arg(LEVEL_OF_ONE);
    for ask in asks {
        let (rpm, burst) = numbers(ask.limits.requests);
        let (tpm, token_burst) = numbers(ask.limits.tokens);
        call.key(names::levels(&ask.subject))
            .key(names::leases(&ask.subject))
            .arg(rpm)
            .arg(burst)
            .arg(tpm)
            .arg(token_burst)
            .arg(ask.limits.concurrency.unwrap_or(0))
            .arg(ask.requests)
            .arg(ask.tokens)
            .arg(ask.floor.requests)
            .arg(ask.floor.tokens);
    }
    call
}

fn numbers(rate: Option<Rate>) -> (u64, u64) {
    rate.map_or((0, 0), |rate| (rate.per_minute(), rate.burst()))
}

enum Answer {
    NewEpoch(String),
    Verdict(Verdict),
}

fn read(answer: &[redis::Value]) -> Option<Answer> {
    let first: i64 = redis::from_redis_value_ref(answer.first()?).ok()?;
    if first == NEW_EPOCH {
        let epoch = redis::from_redis_value_ref(answer.get(1)?).ok()?;
        return Some(Answer::NewEpoch(epoch));
    }
    let numbers = answer.iter().map(|value| {
        let number: i64 = redis::from_redis_value_ref(value).ok()?;
        Some(u64::try_from(number).unwrap_or(0))
    });
    let numbers: Vec<u64> = numbers.collect::<Option<_>>()?;
    let lines = numbers.get(HEAD..)?.chunks_exact(PER_LINE);
    let levels = lines.filter_map(|line| match *line {
        [requests, tokens, in_flight] => Some(Levels {
            requests,
            tokens,
            in_flight: u32::try_from(in_flight).unwrap_or(u32::MAX),
        }),
        _ => None,
    });
    let levels = levels.collect();
    if first == PASSED {
        return Some(Answer::Verdict(Verdict::Passed(levels)));
    }
    let (line, ceiling, wait) = (numbers[1], numbers[2], numbers[3]);
    Some(Answer::Verdict(Verdict::Full {
        position: usize::try_from(line).ok()?.checked_sub(1)?,
        full: Full {
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
