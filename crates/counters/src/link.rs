//! The way to a server that replicas share: one connection that all calls use, a time limit for
//! each call, a breaker that stops asking a server that is dead or slow, and a keeper that tries it
//! again meanwhile and says that this replica is there. Knows nothing of what is counted, nor of
//! the server's protocol.

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

/// A server that replicas share, by its protocol.
pub trait Server: Send + Sync + 'static {
    /// What all calls of a replica go over. Clones are the same connection.
    type Connection: Clone + Send + Sync + 'static;

    /// What is kept there, for the log: `the counters`.
    fn name(&self) -> &'static str;

    /// Opens a connection, or says in words without a secret why it can't. Takes a bounded time.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, String>> + Send;

    /// Says that a replica is there.
    fn announce(
        &self,
        connection: &Self::Connection,
        announcement: Announcement,
    ) -> impl Future<Output = Result<Announced, String>> + Send;
}

/// That a replica is there.
#[derive(Clone, Copy, Debug)]
pub struct Announcement {
    /// The replica.
    pub replica: Uuid,
    /// Counts its connections: what was sent over an earlier one and comes late is void.
    pub connection: u64,
    /// How long it counts without another; zero says that it leaves.
    pub counts: Duration,
}

/// What a server says to that.
#[derive(Clone, Debug)]
pub struct Announced {
    /// Names this life of what is kept: another one means that everything was forgotten.
    pub epoch: String,
    /// How long ago that began.
    pub age: Duration,
    /// How many replicas there are, this one included.
    pub replicas: u32,
}

/// How the server is reached.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a call may take.
    pub timeout: Duration,
}

/// The server didn't answer in time, or not at all: the caller decides what holds meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what replicas share is not available")]
pub struct Down;

/// How the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether calls are made.
    pub up: bool,
    /// How many replicas there are, this one included; while it is away, how many there were.
    pub replicas: u32,
    /// Calls that were answered.
    pub answered: u64,
    /// Calls that were not, or not in time.
    pub failed: u64,
    /// Whether every replica has had the time to tell what the server missed or forgot.
    pub calm: bool,
}

/// The way to a server, kept open.
pub struct Link<S: Server> {
    server: S,
    options: Options,
    replica: Uuid,
    connection: ArcSwapOption<S::Connection>,
    up: AtomicBool,
    failures_in_a_row: AtomicU32,
    answered: AtomicU64,
    failed: AtomicU64,
    replicas: AtomicU32,
    epoch: ArcSwap<String>,
    /// How often the server may have missed or forgotten what this replica knows.
    lapses: AtomicU64,
    /// When every replica has had the time to tell what the server missed or forgot.
    calm_from: ArcSwap<Instant>,
    /// Counts this replica's connections.
    connections: AtomicU64,
    tripped: Notify,
    leaving: AtomicBool,
}

/// Calls that fail in a row before no more are made.
const TRIP: u32 = 3;

/// Probes that must be answered in time before calls are made again.
const PROBES: u32 = 2;

/// How often a replica says that it is there, and how long it counts without.
pub(crate) const BEAT: Duration = Duration::from_secs(1);
const COUNTS: Duration = Duration::from_secs(5);

/// How long after a lapse replicas tell what the server missed: they try it every [`RETRY`] and
/// hear of a new epoch with every [`BEAT`].
const GRACE: Duration = Duration::from_secs(2);

/// How often a server is tried that is away.
const RETRY: Duration = Duration::from_millis(100);

impl<S: Server> Link<S> {
    /// Begins to keep a connection on `runtime`. It may not stand yet when this returns.
    #[must_use]
    pub fn start(server: S, options: Options, runtime: &Handle) -> Arc<Self> {
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
            lapses: AtomicU64::new(0),
            calm_from: ArcSwap::from_pointee(Instant::now() + GRACE),
            connections: AtomicU64::new(0),
            tripped: Notify::new(),
            leaving: AtomicBool::new(false),
        });
        runtime.spawn(keep(Arc::clone(&link)));
        link
    }

    /// How the server is.
    #[must_use]
    pub fn status(&self) -> Status {
        Status {
            up: self.is_up(),
            replicas: self.replicas.load(Relaxed).max(1),
            answered: self.answered.load(Relaxed),
            failed: self.failed.load(Relaxed),
            calm: **self.calm_from.load() <= Instant::now(),
        }
    }

    /// Whether calls are made.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    /// Waits until the server answers, at most for `longest`; whether it does.
    pub async fn ready(&self, longest: Duration) -> bool {
        let up = async {
            while !self.is_up() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(longest, up).await.is_ok()
    }

    /// Changes whenever the server may have missed or forgotten what this replica knows: then the
    /// next question about each subject should say it, once.
    #[must_use]
    pub fn lapses(&self) -> u64 {
        self.lapses.load(Relaxed)
    }

    /// What a call goes over.
    ///
    /// # Errors
    /// While no calls are made.
    pub fn connection(&self) -> Result<S::Connection, Down> {
        if !self.is_up() {
            return Err(Down);
        }
        let connection = self.connection.load_full().ok_or(Down)?;
        Ok((*connection).clone())
    }

    /// Waits for the answer to a call over [`Self::connection`], under the time limit.
    ///
    /// # Errors
    /// When it doesn't come, or is an error. The server may have heard the call all the same.
    pub async fn answer<T, E: fmt::Display>(
        &self,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Down> {
        match timeout(self.options.timeout, answer).await {
            Ok(Ok(value)) => {
                self.failures_in_a_row.store(0, Relaxed);
                self.answered.fetch_add(1, Relaxed);
                Ok(value)
            }
            Ok(Err(error)) => Err(self.failed(&error)),
            Err(_) => Err(self.failed(&"it took too long")),
        }
    }

    fn failed(&self, error: &dyn fmt::Display) -> Down {
        tracing::debug!(%error, "a call of {} failed", self.server.name());
        self.failed.fetch_add(1, Relaxed);
        if self.failures_in_a_row.fetch_add(1, Relaxed) + 1 >= TRIP {
            self.trip();
        }
        Down
    }

    fn trip(&self) {
        if self.up.swap(false, Relaxed) && !self.leaving.load(Relaxed) {
            tracing::warn!(
                replicas = self.replicas.load(Relaxed),
                "{} are not available; each replica goes by its share until they are",
                self.server.name()
            );
        }
        self.connection.store(None);
        self.tripped.notify_one();
    }

    /// The life of the server that is known, by its name.
    pub(crate) fn epoch(&self) -> Arc<String> {
        self.epoch.load_full()
    }

    /// Notes the server's epoch; a new one means that it forgot everything.
    pub(crate) fn note_epoch(&self, epoch: String) {
        if **self.epoch.load() != epoch {
            self.epoch.store(Arc::new(epoch));
            self.lapsed(GRACE);
        }
    }

    /// The server may have missed or forgotten what this replica knows, and it takes `grace` until
    /// all have told what they know.
    fn lapsed(&self, grace: Duration) {
        self.calm_from.store(Arc::new(Instant::now() + grace));
        self.lapses.fetch_add(1, Relaxed);
    }

    /// The connection that is used, by its number.
    pub fn connection_number(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    /// This replica, by a name that it has for this run.
    pub const fn replica(&self) -> Uuid {
        self.replica
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.leaving.load(Relaxed)
    }

    /// Says that this replica is gone, so that the others' shares grow at once.
    pub async fn leave(&self) {
        self.leaving.store(true, Relaxed);
        let Some(connection) = self.connection.load_full() else {
            return;
        };
        let left = timeout(
            self.options.timeout.max(RETRY),
            self.say(&connection, Duration::ZERO),
        )
        .await;
        if !matches!(left, Ok(Ok(_))) {
            tracing::debug!(
                "{} were not told that this replica ends",
                self.server.name()
            );
        }
    }

    /// Announces this replica; how long the answer took.
    async fn say(&self, connection: &S::Connection, counts: Duration) -> Result<Said, String> {
        let announcement = Announcement {
            replica: self.replica,
            connection: self.connection_number(),
            counts,
        };
        let asked = Instant::now();
        let announced = self.server.announce(connection, announcement).await?;
        let first = self.epoch.load().is_empty();
        self.note_epoch(announced.epoch);
        self.replicas.store(announced.replicas.max(1), Relaxed);
        Ok(Said {
            took: asked.elapsed(),
            // Who is new has nothing to tell; the others had the server's age for that.
            grace: first.then(|| GRACE.saturating_sub(announced.age)),
        })
    }
}

impl<S: Server> fmt::Debug for Link<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Link").field(&self.status()).finish()
    }
}

/// What an announcement brought.
struct Said {
    took: Duration,
    /// How long others may still tell what they know, where this is the first.
    grace: Option<Duration>,
}

/// Keeps a connection until this replica leaves.
async fn keep<S: Server>(link: Arc<Link<S>>) {
    let mut told = false;
    while !link.is_leaving() {
        match link.server.connect().await {
            Ok(connection) => {
                told = false;
                link.connections.fetch_add(1, Relaxed);
                beat(&link, connection).await;
            }
            Err(why) if !told => {
                told = true;
                tracing::warn!(why, "{} can't be reached", link.server.name());
            }
            Err(_) => {}
        }
        link.trip();
        sleep(RETRY).await;
    }
}

/// Announces this replica over a connection until that fails.
async fn beat<S: Server>(link: &Link<S>, connection: S::Connection) {
    let (mut good, mut was_down, mut grace) = (0, true, GRACE);
    while !link.is_leaving() {
        let said = timeout(
            link.options.timeout.max(RETRY),
            link.say(&connection, COUNTS),
        )
        .await;
        let in_time = matches!(&said, Ok(Ok(said)) if said.took <= link.options.timeout);
        if let Ok(Ok(Said {
            grace: Some(first), ..
        })) = said
        {
            grace = first;
        }
        good = if in_time { good + 1 } else { 0 };
        if !in_time && link.failures_in_a_row.fetch_add(1, Relaxed) + 1 >= TRIP {
            return;
        }
        if was_down && good >= PROBES {
            was_down = false;
            link.failures_in_a_row.store(0, Relaxed);
            link.lapsed(grace);
            link.connection.store(Some(Arc::new(connection.clone())));
            link.up.store(true, Relaxed);
            tracing::info!(
                replicas = link.replicas.load(Relaxed),
                "{} are available",
                link.server.name()
            );
        }
        let pause = if was_down { RETRY } else { BEAT };
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
