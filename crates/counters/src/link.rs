//! Link to a server that replicas share: one connection for all calls, a timeout for each call, a
//! circuit breaker, and a task that reconnects and sends heartbeats. It must not know what is
//! counted, nor the server's protocol.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

/// Protocol of a server that replicas share.
pub trait SharedServer: Send + Sync + 'static {
    /// Connection for all calls of a replica. Clones are the same connection.
    type Connection: Clone + Send + Sync + 'static;

    /// Returns the name used in the log, as in `Redis counters`.
    fn name(&self) -> &'static str;

    /// Opens a connection within a bounded time, or returns the reason without secrets.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, String>> + Send;

    /// Announces that a replica is alive.
    fn announce(
        &self,
        connection: &Self::Connection,
        announcement: Announcement,
    ) -> impl Future<Output = Result<AnnouncementReply, String>> + Send;
}

/// Announcement that a replica is alive.
#[derive(Clone, Copy, Debug)]
pub struct Announcement {
    /// The replica.
    pub replica: Uuid,
    /// Number of its connection. Late calls over an earlier connection are void.
    pub connection: u64,
    /// Time until the replica counts as gone without another announcement; zero if it leaves.
    pub ttl: Duration,
    /// Numbers of this call.
    pub call: CallNumber,
}

/// Numbers by which a server shows that it has lost calls that it has answered.
#[derive(Clone, Copy, Debug)]
pub struct CallNumber {
    /// Number of this call; later ones have larger numbers.
    pub number: u64,
    /// Largest number of a call that was answered.
    pub answered: u64,
}

/// Reply of a server to an [`Announcement`].
#[derive(Clone, Debug)]
pub struct AnnouncementReply {
    /// Identifies the server's data. A new epoch means that all data was lost.
    pub epoch: String,
    /// Age of the epoch.
    pub age: Duration,
    /// Number of replicas, this one included.
    pub replicas: u32,
}

/// Settings of a link.
#[derive(Clone, Copy, Debug)]
pub struct LinkOptions {
    /// Timeout of a call.
    pub timeout: Duration,
}

/// Error of a call that got no answer in time. The caller decides what follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the state that replicas share is unavailable")]
pub struct Unavailable;

/// Status of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// True if the breaker is closed: calls are made.
    pub up: bool,
    /// Number of replicas, this one included, as last known.
    pub replicas: u32,
    /// Calls that were answered.
    pub answered: u64,
    /// Calls that failed or timed out.
    pub failed: u64,
    /// True if every replica has had the time to report what the server missed or lost.
    pub synced: bool,
    /// Number that changes when the server may have missed or lost what this replica reported.
    pub generation: u64,
}

/// Link to a server, reconnected when it breaks.
pub struct Link<S: SharedServer> {
    server: S,
    options: LinkOptions,
    replica: Uuid,
    connection: ArcSwapOption<S::Connection>,
    up: AtomicBool,
    failures_in_a_row: AtomicU32,
    answered: AtomicU64,
    failed: AtomicU64,
    replicas: AtomicU32,
    epoch: ArcSwap<String>,
    /// Counts the times at which the server may have missed or lost what this replica reported.
    generation: AtomicU64,
    /// Instant at which every replica has had the time to report what the server missed or lost.
    synced_from: ArcSwap<Instant>,
    /// Counts this replica's connections.
    connections: AtomicU64,
    /// Counts this replica's numbered calls.
    calls: AtomicU64,
    /// Largest number of a call that was answered.
    answered_call: AtomicU64,
    tripped: Notify,
    leaving: AtomicBool,
}

/// Consecutive failures that open the breaker.
const TRIP_AFTER: u32 = 3;

/// Probes that must be answered in time to close the breaker.
const PROBES: u32 = 2;

/// Interval of heartbeats, and the time until a replica without one counts as gone.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);
const PRESENCE_TTL: Duration = Duration::from_secs(5);

/// Time that replicas need to report what the server missed: they reconnect every [`RETRY`] and
/// see a new epoch with every [`HEARTBEAT`].
const RESYNC: Duration = Duration::from_secs(2);

/// Pause between attempts to reconnect.
const RETRY: Duration = Duration::from_millis(100);

impl<S: SharedServer> Link<S> {
    /// Starts to connect on `runtime`, without waiting for the connection.
    #[must_use]
    pub fn start(server: S, options: LinkOptions, runtime: &Handle) -> Arc<Self> {
        let link = Arc::new(Self {
            server,
            options,
            replica: Uuid::new_v4(),
            connection: ArcSwapOption::empty(),
            up: AtomicBool::new(false),
            failures_in_a_row: AtomicU32::new(0),
            answered: 0.into(),
            failed: 0.into(),
            replicas: AtomicU32::new(1),
            epoch: ArcSwap::default(),
            generation: AtomicU64::new(0),
            synced_from: ArcSwap::from_pointee(Instant::now() + RESYNC),
            connections: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            answered_call: AtomicU64::new(0),
            tripped: Notify::new(),
            leaving: AtomicBool::new(false),
        });
        runtime.spawn(keep_connected(Arc::clone(&link)));
        link
    }

    /// Returns the status of the link.
    #[must_use]
    pub fn status(&self) -> LinkStatus {
        LinkStatus {
            up: self.is_up(),
            replicas: self.replicas.load(Relaxed).max(1),
            answered: self.answered.load(Relaxed),
            failed: self.failed.load(Relaxed),
            synced: **self.synced_from.load() <= Instant::now(),
            generation: self.generation(),
        }
    }

    /// Returns true if the breaker is closed: calls are made.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    /// Waits at most `longest` until the server answers and returns true if it does.
    pub async fn ready(&self, longest: Duration) -> bool {
        let up = async {
            while !self.is_up() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(longest, up).await.is_ok()
    }

    /// Returns a number that changes whenever the server may have missed or lost what this replica
    /// reported: then the next call for each subject should report it again, once.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation.load(Relaxed)
    }

    /// Returns the connection for a call.
    ///
    /// # Errors
    /// Returns an error while the breaker is open.
    pub fn connection(&self) -> Result<S::Connection, Unavailable> {
        if !self.is_up() {
            return Err(Unavailable);
        }
        let connection = self.connection.load_full().ok_or(Unavailable)?;
        Ok((*connection).clone())
    }

    /// Waits for the answer to a call over [`Self::connection`], up to the timeout.
    ///
    /// # Errors
    /// Returns an error if the call fails or times out. The server may have executed it.
    pub async fn answer<T, E: fmt::Display>(
        &self,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Unavailable> {
        match timeout(self.options.timeout, answer).await {
            Ok(Ok(value)) => {
                self.failures_in_a_row.store(0, Relaxed);
                self.answered.fetch_add(1, Relaxed);
                Ok(value)
            }
            Ok(Err(error)) => Err(self.record_failure(&error)),
            Err(_) => Err(self.record_failure(&"timeout")),
        }
    }

    fn record_failure(&self, error: &dyn fmt::Display) -> Unavailable {
        tracing::debug!(%error, "call to {} failed", self.server.name());
        self.failed.fetch_add(1, Relaxed);
        if self.failures_in_a_row.fetch_add(1, Relaxed) + 1 >= TRIP_AFTER {
            self.trip();
        }
        Unavailable
    }

    fn trip(&self) {
        if self.up.swap(false, Relaxed) && !self.leaving.load(Relaxed) {
            tracing::warn!(
                replicas = self.replicas.load(Relaxed),
                "{} unavailable; each replica uses its share until they are back",
                self.server.name()
            );
        }
        self.connection.store(None);
        self.tripped.notify_one();
    }

    /// Returns the server's epoch as last known.
    pub(crate) fn epoch(&self) -> Arc<String> {
        self.epoch.load_full()
    }

    /// Records the server's epoch. A new one means that the server lost its data.
    pub(crate) fn note_epoch(&self, epoch: String) {
        if **self.epoch.load() != epoch {
            self.epoch.store(Arc::new(epoch));
            self.begin_resync(RESYNC);
        }
    }

    /// Starts a new generation: replicas have `grace` to report what the server missed or lost.
    fn begin_resync(&self, grace: Duration) {
        self.synced_from.store(Arc::new(Instant::now() + grace));
        self.generation.fetch_add(1, Relaxed);
    }

    /// Records the number of replicas. A server that has lost its data doesn't know all of them until
    /// they have announced themselves, and a share would be too large.
    fn note_replicas(&self, replicas: u32) {
        if **self.synced_from.load() > Instant::now() {
            self.replicas.fetch_max(replicas, Relaxed);
        } else {
            self.replicas.store(replicas.max(1), Relaxed);
        }
    }

    /// Numbers a call.
    pub(crate) fn begin_call(&self) -> CallNumber {
        // Read first: a call that ends in between has a smaller number than this one.
        let answered = self.answered_call.load(Relaxed);
        CallNumber {
            number: self.calls.fetch_add(1, Relaxed) + 1,
            answered,
        }
    }

    /// Records that a numbered call was answered.
    pub(crate) fn end_call(&self, call: CallNumber) {
        self.answered_call.fetch_max(call.number, Relaxed);
    }

    /// Returns the number of the current connection.
    pub fn connection_number(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// Returns the id of this replica, which is new with each run.
    pub const fn replica(&self) -> Uuid {
        self.replica
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Relaxed)
    }

    /// Announces that this replica leaves, so that the others' shares grow at once.
    pub async fn leave(&self) {
        self.leaving.store(true, Relaxed);
        let Some(connection) = self.connection.load_full() else {
            return;
        };
        let left = timeout(
            self.options.timeout.max(RETRY),
            self.send_heartbeat(&connection, Duration::ZERO),
        )
        .await;
        if !matches!(left, Ok(Ok(_))) {
            tracing::debug!(
                "failed to announce to {} that this replica leaves",
                self.server.name()
            );
        }
    }

    /// Announces this replica and returns how long the answer took.
    async fn send_heartbeat(
        &self,
        connection: &S::Connection,
        ttl: Duration,
    ) -> Result<Heartbeat, String> {
        let announcement = Announcement {
            replica: self.replica,
            connection: self.connection_number(),
            ttl,
            call: self.begin_call(),
        };
        let asked = Instant::now();
        let announced = self.server.announce(connection, announcement).await?;
        self.end_call(announcement.call);
        let first = self.epoch.load().is_empty();
        self.note_epoch(announced.epoch);
        self.note_replicas(announced.replicas);
        Ok(Heartbeat {
            latency: asked.elapsed(),
            // A new replica has nothing to report; the others had the epoch's age for it.
            grace: first.then(|| RESYNC.saturating_sub(announced.age)),
        })
    }
}

impl<S: SharedServer> fmt::Debug for Link<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Link").field(&self.status()).finish()
    }
}

/// Result of a heartbeat.
struct Heartbeat {
    latency: Duration,
    /// Time that the other replicas may still need to report, with this replica's first heartbeat.
    grace: Option<Duration>,
}

/// Keeps the link connected until this replica leaves.
async fn keep_connected<S: SharedServer>(link: Arc<Link<S>>) {
    let mut is_logged = false;
    while !link.is_leaving() {
        match link.server.connect().await {
            Ok(connection) => {
                is_logged = false;
                link.connections.fetch_add(1, Relaxed);
                send_heartbeats(&link, connection).await;
            }
            Err(error) if !is_logged => {
                is_logged = true;
                tracing::warn!(error, "failed to connect to {}", link.server.name());
            }
            Err(_) => {}
        }
        link.trip();
        sleep(RETRY).await;
    }
}

/// Sends heartbeats over a connection until that fails.
async fn send_heartbeats<S: SharedServer>(link: &Link<S>, connection: S::Connection) {
    let (mut good, mut was_down, mut grace) = (0, true, RESYNC);
    while !link.is_leaving() {
        let heartbeat = timeout(
            link.options.timeout.max(RETRY),
            link.send_heartbeat(&connection, PRESENCE_TTL),
        )
        .await;
        let in_time =
            matches!(&heartbeat, Ok(Ok(heartbeat)) if heartbeat.latency <= link.options.timeout);
        if let Ok(Ok(Heartbeat {
            grace: Some(first), ..
        })) = heartbeat
        {
            grace = first;
        }
        good = if in_time { good + 1 } else { 0 };
        if !in_time && link.failures_in_a_row.fetch_add(1, Relaxed) + 1 >= TRIP_AFTER {
            return;
        }
        if was_down && good >= PROBES {
            was_down = false;
            link.failures_in_a_row.store(0, Relaxed);
            link.begin_resync(grace);
            link.connection.store(Some(Arc::new(connection.clone())));
            link.up.store(true, Relaxed);
            tracing::info!(
                replicas = link.replicas.load(Relaxed),
                "{} available",
                link.server.name()
            );
        }
        let pause = if was_down { RETRY } else { HEARTBEAT };
        tokio::select! {
            () = sleep(pause) => {}
            () = link.tripped.notified() => {
                if !link.is_up() && !was_down {
                    return;
                }
            }
        }
    }
}
