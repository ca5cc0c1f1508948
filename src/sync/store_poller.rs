//! Keeps this replica in step with the store: looks every so often whether another replica changed
//! the toggle or an object made by API, and takes the change over. What an object means is
//! `compile.rs`'s; a store that is away changes nothing here.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use llm_router_store::objects::{Changes, Objects};
use llm_router_store::{Store, StoreError};

use crate::keys::stored_keys::IssuedKeys;
use crate::routing::toggle::{ToggleReplica, now};
use crate::sync::reload::Reloader;
use crate::telemetry::metrics::Metrics;

/// Timeout of asking the store for changes.
const ANSWER: Duration = Duration::from_secs(2);

/// Pause before objects that could not be activated are tried again.
const RETRY: SignedDuration = SignedDuration::from_secs(5);

/// Most that this machine's clock and the store's may differ without a warning.
const TOLERATED_SKEW: Duration = Duration::from_millis(500);

/// Time in which notifications that follow each other are answered by one poll.
const TOGETHER: Duration = Duration::from_millis(10);

/// Most changes that are read at once.
const BATCH: u32 = 1_000;

/// Result of reading the store.
enum Read {
    Changes(Changes),
    All(Objects, IssuedKeys),
}

/// Follows the store.
pub(crate) struct Follower {
    store: Arc<dyn Store>,
    switch: Arc<ToggleReplica>,
    reloader: Arc<Reloader>,
    metrics: Arc<Metrics>,
    poll: Duration,
    /// Held while the store is looked at, so that an older look can't undo a newer one.
    turn: tokio::sync::Mutex<()>,
    trouble: Mutex<Trouble>,
    woken: tokio::sync::Notify,
}

/// State of this replica against the store.
#[derive(Default)]
struct Trouble {
    /// Since when the store has not answered.
    away_since: Option<Timestamp>,
    /// Time at which objects that could not be activated are tried again.
    retry_at: Option<Timestamp>,
    /// Set if this machine's clock and the store's are known to differ.
    clock_is_off: bool,
}

impl Follower {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        switch: Arc<ToggleReplica>,
        reloader: Arc<Reloader>,
        metrics: Arc<Metrics>,
        poll: Duration,
    ) -> Self {
        Self {
            store,
            switch,
            reloader,
            metrics,
            poll,
            turn: tokio::sync::Mutex::default(),
            trouble: Mutex::default(),
            woken: tokio::sync::Notify::new(),
        }
    }

    /// Follows until the task is dropped.
    pub(crate) async fn run(&self) {
        loop {
            self.sync().await;
            let woken = tokio::time::timeout(self.pause(), self.woken.notified()).await;
            if woken.is_ok() {
                tokio::time::sleep(TOGETHER).await;
            }
        }
    }

    /// Takes over what changed, now.
    pub(crate) async fn sync(&self) {
        let _turn = self.turn.lock().await;
        match self.catch_up().await {
            Ok(()) => self.note_success(),
            Err(error) => self.note_failure(&error),
        }
    }

    /// Takes over what changed, now; not while the store is away, which would only take time.
    pub(crate) async fn sync_if_available(&self) {
        if self.away_since().is_none() {
            self.sync().await;
        }
    }

    /// Makes the task look now: something was changed elsewhere, or here with an instant that may
    /// come before its next look.
    pub(crate) fn wake(&self) {
        self.woken.notify_one();
    }

    /// Since when the store has not answered; none while it does.
    pub(crate) fn away_since(&self) -> Option<Timestamp> {
        self.trouble().away_since
    }

    /// Refuses at once what would only wait for a store that is known to be away.
    ///
    /// # Errors
    /// While the store is away.
    pub(crate) fn must_answer(&self) -> Result<(), StoreError> {
        match self.away_since() {
            None => Ok(()),
            Some(since) => Err(StoreError::Unavailable(format!("no answer since {since}"))),
        }
    }

    async fn catch_up(&self) -> Result<(), StoreError> {
        let asked = now();
        let marks = within(ANSWER, self.store.marks()).await?;
        if let Some(clock) = marks.clock {
            self.compare_clocks(skew(clock, asked, now()));
        }
        if marks.toggle_revision != self.switch.revision() {
            self.switch.refresh().await?;
        }
        self.switch.settle(now()).await?;
        let mut since = self.reloader.change_number();
        while marks.change_number != since {
            let read = match self.store.changes(since, BATCH).await? {
                Some(changes) => Read::Changes(changes),
                None => self.read_anew().await?,
            };
            if !self.adopt(read).await {
                break;
            }
            since = self.reloader.change_number();
            if since > marks.change_number {
                break;
            }
        }
        Ok(())
    }

    async fn read_anew(&self) -> Result<Read, StoreError> {
        tracing::info!("reloading all stored objects");
        let objects = self.store.objects().await?;
        let known = Arc::clone(self.reloader.live().snapshot.keys.stored_keys());
        let issued = IssuedKeys::load(self.store.as_ref(), &known).await?;
        Ok(Read::All(objects, issued))
    }

    /// Returns whether the changes that were read are active.
    async fn adopt(&self, read: Read) -> bool {
        let reloader = Arc::clone(&self.reloader);
        let may_rebuild = self.may_rebuild();
        // Compiling many rules takes its time: not on a worker of this runtime.
        let taking = tokio::task::spawn_blocking(move || match read {
            Read::Changes(changes) => reloader.apply(&changes, !may_rebuild),
            Read::All(objects, issued) => reloader.rebuild(objects, issued),
        });
        let taken = taking.await.unwrap_or(false);
        if taken || may_rebuild {
            let retry_at = (!taken).then(|| now().checked_add(RETRY).ok()).flatten();
            self.trouble().retry_at = retry_at;
        }
        taken
    }

    fn may_rebuild(&self) -> bool {
        self.trouble().retry_at.is_none_or(|at| at <= now())
    }

    /// Replicas switch by their own clocks: one that is off switches too early or too late.
    fn compare_clocks(&self, skew: SignedDuration) {
        self.metrics.store_clock_skew(skew.as_secs_f64());
        let mut trouble = self.trouble();
        let off = skew.unsigned_abs() >= TOLERATED_SKEW;
        if off && !trouble.clock_is_off {
            tracing::warn!(
                seconds = skew.as_secs_f64(),
                "the store's clock is ahead by this; if this machine's is wrong, the toggle switches \
                 here at another time than elsewhere"
            );
        }
        trouble.clock_is_off = off;
    }

    fn note_success(&self) {
        self.metrics.store_polled();
        if let Some(since) = self.trouble().away_since.take() {
            tracing::info!(%since, "store available again");
        }
    }

    /// Told once for each time that the store goes away.
    fn note_failure(&self, error: &StoreError) {
        self.metrics.store_poll_failed();
        let mut trouble = self.trouble();
        if trouble.away_since.is_none() {
            trouble.away_since = Some(now());
            tracing::warn!(
                %error,
                "store unavailable; the toggle and stored objects stay as they are"
            );
        }
    }

    /// Until the next look: sooner where a change takes effect, so that the store knows of it.
    fn pause(&self) -> Duration {
        let due = self
            .switch
            .effective_at()
            .map(|at| at.duration_since(now()));
        let due = due.and_then(|due| Duration::try_from(due).ok());
        // A change that is due and could not be settled is tried again with the next poll.
        due.filter(|due| !due.is_zero())
            .map_or(self.poll, |due| due.min(self.poll))
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the least time that a clock is ahead which was read between two moments of ours.
fn skew(clock: Timestamp, asked: Timestamp, answered: Timestamp) -> SignedDuration {
    if clock < asked {
        clock.duration_since(asked)
    } else if clock > answered {
        clock.duration_since(answered)
    } else {
        SignedDuration::ZERO
    }
}

async fn within<T>(
    limit: Duration,
    asking: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let answer = tokio::time::timeout(limit, asking).await;
    answer.unwrap_or_else(|_| Err(StoreError::Unavailable("no answer in time".to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_off_by_what_waiting_cannot_explain() {
        let at = |millis: i64| Timestamp::from_millisecond(1_772_366_400_000 + millis).unwrap();
        for (clock, skew_millis) in [(0, 0), (30, 0), (40, 0), (-5, -5), (2_040, 2_000)] {
            let found = skew(at(clock), at(0), at(40));
            assert_eq!(found.as_millis(), skew_millis, "{clock}");
        }
    }
}
