//! Calls under way that are counted in Redis: each has a lease that is renewed while it lasts, and
//! runs out by itself if this replica dies. Ends are told in the background; a request never waits
//! for that.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use llm_router_domain::limit::LEVEL_OF_ONE;
use redis::Script;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::counters::Counters;
use crate::link::BEAT;
use crate::names;

/// How long a call counts that isn't renewed.
pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// How old a lease is renewed.
const RENEW: Duration = Duration::from_secs(20);

/// Leases that are renewed by one script.
const BATCH: usize = 128;

/// Endings that are told at the same time.
const AT_ONCE: usize = 32;

/// The end of a request.
pub(crate) struct Ending {
    pub(crate) lease: Uuid,
    pub(crate) lines: Vec<EndingLine>,
}

pub(crate) struct EndingLine {
    pub(crate) subject: String,
    /// Tokens in any 60 seconds; 0 for no ceiling.
    pub(crate) tpm: u64,
    /// Tokens used beyond those reserved.
    pub(crate) change: i64,
}

/// The leases that this replica holds.
#[derive(Default)]
pub(crate) struct Leases(Mutex<HashMap<Uuid, Held>>);

struct Held {
    renewed: Instant,
    keys: Vec<String>,
}

impl Leases {
    pub(crate) fn hold(&self, lease: Uuid, keys: Vec<String>) {
        let renewed = Instant::now();
        self.held().insert(lease, Held { renewed, keys });
    }

    pub(crate) fn let_go(&self, lease: Uuid) {
        self.held().remove(&lease);
    }

    /// The leases that are old, with their keys; they count as renewed from now on.
    fn take_old(&self) -> Vec<(String, Uuid)> {
        let now = Instant::now();
        let mut old = Vec::new();
        for (lease, held) in self.held().iter_mut() {
            if now.duration_since(held.renewed) >= RENEW {
                held.renewed = now;
                old.extend(held.keys.iter().map(|key| (key.clone(), *lease)));
            }
        }
        old
    }

    fn held(&self) -> MutexGuard<'_, HashMap<Uuid, Held>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Renews leases while this replica is there.
pub(crate) async fn keep_renewed(counters: Counters) {
    let script = Script::new(include_str!("scripts/renew.lua"));
    while !counters.link().is_leaving() {
        sleep(BEAT).await;
        if counters.link().is_up() {
            renew(&counters, &script).await;
        }
    }
}

async fn renew(counters: &Counters, script: &Script) {
    for batch in counters.parts().leases.take_old().chunks(BATCH) {
        let mut call = script.arg(millis(LEASE));
        for (key, lease) in batch {
            call.key(key).arg(lease.to_string());
        }
        if counters.call::<i64>(&call).await.is_err() {
            return;
        }
    }
}

/// Tells Redis of endings, several at a time. What it can't be told runs out by itself.
pub(crate) async fn tell_endings(counters: Counters, waiting: mpsc::Receiver<Ending>) {
    let script = Script::new(include_str!("scripts/settle.lua"));
    let endings = futures::stream::unfold(waiting, |mut waiting| async {
        let ending = waiting.recv().await?;
        Some((ending, waiting))
    });
    let (counters, script) = (&counters, &script);
    let tell = |ending| async move { tell(counters, script, ending).await };
    endings.for_each_concurrent(AT_ONCE, tell).await;
}

async fn tell(counters: &Counters, script: &Script, ending: Ending) {
    let mut call = script.prepare_invoke();
    call.arg(ending.lease.to_string()).arg(LEVEL_OF_ONE);
    for line in &ending.lines {
        call.key(names::levels(&line.subject))
            .key(names::leases(&line.subject))
            .arg(line.tpm)
            .arg(line.change);
    }
    if counters.call::<i64>(&call).await.is_err() {
        tracing::debug!("the counters were not told of a request's end");
    }
}

pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
