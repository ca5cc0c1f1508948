//! Leases of in-flight calls in Redis: renewed while the call lasts, expired if this replica dies.
//! Ends are reported in the background; no request may wait for that.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use llm_router_domain::limit::{LEVEL_OF_ONE, Rate};
use redis::Script;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::connection::Counters;
use crate::limits::{rate_arguments, rate_script};
use crate::link::HEARTBEAT;
use crate::names;

/// Time to live of a lease.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// Age at which a lease is renewed.
const RENEW_AFTER: Duration = Duration::from_secs(20);

/// Interval of checking whether leases are due.
const POLL: Duration = Duration::from_millis(100);

/// Leases renewed by one script.
const BATCH: usize = 128;

/// Ends reported at the same time.
const CONCURRENT_ENDS: usize = 32;

/// End of a request that holds a lease.
pub(crate) struct LeaseEnd {
    pub(crate) lease: Uuid,
    pub(crate) lines: Vec<LeaseEndLine>,
    /// Second of Redis' clock in which the request was admitted.
    pub(crate) second: u64,
}

pub(crate) struct LeaseEndLine {
    pub(crate) subject: String,
    /// Its limit of tokens.
    pub(crate) tokens: Option<Rate>,
    /// Tokens used beyond those reserved.
    pub(crate) change: i64,
}

/// Leases that this replica holds.
#[derive(Default)]
pub(crate) struct Leases(Mutex<HashMap<Uuid, HeldLease>>);

struct HeldLease {
    /// Instant of its last renewal; none if the server may have lost it.
    renewed: Option<Instant>,
    keys: Vec<String>,
}

impl Leases {
    pub(crate) fn insert(&self, lease: Uuid, keys: Vec<String>) {
        let renewed = Some(Instant::now());
        self.lock().insert(lease, HeldLease { renewed, keys });
    }

    pub(crate) fn remove(&self, lease: Uuid) {
        self.lock().remove(&lease);
    }

    /// Returns the leases that are due, with their keys, and marks them as renewed.
    fn take_due(&self) -> Vec<(String, Uuid)> {
        let now = Instant::now();
        let mut old = Vec::new();
        for (lease, held) in self.lock().iter_mut() {
            let age = held.renewed.map(|at| now.duration_since(at));
            if age.is_none_or(|age| age >= RENEW_AFTER) {
                held.renewed = Some(now);
                old.extend(held.keys.iter().map(|key| (key.clone(), *lease)));
            }
        }
        old
    }

    /// Makes all leases due.
    fn expire_all(&self) {
        for held in self.lock().values_mut() {
            held.renewed = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, HeldLease>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Renews leases until this replica leaves, all of them when the server may have lost them.
pub(crate) async fn keep_renewed(counters: Counters) {
    let script = Script::new(include_str!("scripts/renew.lua"));
    let mut generation = counters.link().generation();
    let mut next = Instant::now();
    while !counters.link().is_leaving() {
        sleep(POLL).await;
        let current = counters.link().generation();
        if !counters.link().is_up() || current == generation && Instant::now() < next {
            continue;
        }
        if current != generation {
            counters.inner().leases.expire_all();
        }
        generation = current;
        next = Instant::now() + HEARTBEAT;
        renew(&counters, &script).await;
    }
}

async fn renew(counters: &Counters, script: &Script) {
    for batch in counters.inner().leases.take_due().chunks(BATCH) {
        let mut call = script.arg(millis(LEASE));
        for (key, lease) in batch {
            call.key(key).arg(lease.to_string());
        }
        if counters.call::<i64>(&call).await.is_err() {
            return;
        }
    }
}

/// Reports ends of requests to Redis, several at a time. A lease whose end can't be reported
/// expires.
pub(crate) async fn report_ends(counters: Counters, waiting: mpsc::Receiver<LeaseEnd>) {
    let script = rate_script(concat!(
        include_str!("scripts/clock.lua"),
        include_str!("scripts/rates.lua"),
        include_str!("scripts/end.lua")
    ));
    let endings = futures::stream::unfold(waiting, |mut waiting| async {
        let ending = waiting.recv().await?;
        Some((ending, waiting))
    });
    let (counters, script) = (&counters, &script);
    let report = |ending| async move { report_end(counters, script, ending).await };
    endings.for_each_concurrent(CONCURRENT_ENDS, report).await;
}

async fn report_end(counters: &Counters, script: &Script, ending: LeaseEnd) {
    let mut call = script.prepare_invoke();
    call.arg(ending.lease.to_string())
        .arg(LEVEL_OF_ONE)
        .arg(ending.second);
    for line in &ending.lines {
        let (tpm, burst) = rate_arguments(line.tokens);
        call.key(names::tokens(&line.subject))
            .key(names::leases(&line.subject))
            .arg(tpm)
            .arg(burst)
            .arg(line.change);
    }
    if counters.call::<i64>(&call).await.is_err() {
        tracing::debug!("failed to report the end of a request; its lease expires");
    }
}

pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
