//! The way to Redis: one connection that all calls share, a time limit for each call, a breaker
//! that stops asking a server that is dead or slow, and a keeper that tries it again meanwhile and
//! says that this replica is there. Knows nothing of what is counted.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, RedisError, Script, ScriptInvocation};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Handle;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::lease::{Ending, Leases};
use crate::names;

/// What replicas count together. Clones count for the same replica.
#[derive(Clone)]
pub struct Counters(pub(crate) Arc<Link>);

/// How the counters are reached.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a call may take.
    pub timeout: Duration,
}

/// Redis didn't answer in time, or not at all: the caller decides what holds meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the counters are not available")]
pub struct Down;

/// How the counters are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Whether calls are made.
    pub up: bool,
    /// How many replicas there are, this one included; while Redis is away, how many there were.
    pub replicas: u32,
    /// Calls that were answered.
    pub answered: u64,
    /// Calls that were not, or not in time.
    pub failed: u64,
    /// Whether every replica has had the time to tell what Redis missed or forgot.
    pub calm: bool,
}

pub(crate) struct Link {
    client: Client,
    options: Options,
    replica: Uuid,
    connection: ArcSwapOption<MultiplexedConnection>,
    up: AtomicBool,
    failures_in_a_row: AtomicU32,
    answered: AtomicU64,
    failed: AtomicU64,
    replicas: AtomicU32,
    epoch: ArcSwap<String>,
    /// How often Redis may have missed or forgotten what this replica knows.
    lapses: AtomicU64,
    /// When every replica has had the time to tell what Redis missed or forgot.
    calm_from: ArcSwap<Instant>,
    /// Counts this replica's connections: what was sent over an earlier one and comes late is void.
    connections: AtomicU64,
    tripped: Notify,
    leaving: AtomicBool,
    pub(crate) leases: Leases,
    pub(crate) endings: mpsc::Sender<Ending>,
    announce: Script,
}

/// Calls that fail in a row before no more are made.
const TRIP: u32 = 3;

/// Probes that must be answered in time before calls are made again.
const PROBES: u32 = 2;

/// How often a replica says that it is there, and how long it counts without.
const BEAT: Duration = Duration::from_secs(1);
const COUNTS: Duration = Duration::from_secs(5);

/// How long after a lapse replicas tell what Redis missed: they try it every [`RETRY`] and hear of
/// a new epoch with every [`BEAT`].
const GRACE: Duration = Duration::from_secs(2);

/// How often a server is tried that is away.
const RETRY: Duration = Duration::from_millis(100);

/// How long opening a connection may take.
const CONNECT: Duration = Duration::from_secs(1);

/// Endings that wait to be told; more are dropped, and their leases run out by themselves.
const WAITING_ENDINGS: usize = 16_384;

impl Counters {
    /// Begins to keep a connection to `url` on `runtime`. It may not stand yet when this returns.
    ///
    /// # Errors
    /// When it isn't the address of a Redis server.
    pub fn start(url: &SecretString, options: Options, runtime: &Handle) -> Result<Self, String> {
        // The error may quote the address, and with it a password.
        let client = Client::open(url.expose_secret())
            .map_err(|_| "the address is not one of a Redis server".to_owned())?;
        let (endings, waiting) = mpsc::channel(WAITING_ENDINGS);
        let link = Arc::new(Link {
            client,
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
            leases: Leases::default(),
            endings,
            announce: Script::new(include_str!("scripts/announce.lua")),
        });
        runtime.spawn(keep(Arc::clone(&link)));
        runtime.spawn(crate::lease::tell_endings(Arc::clone(&link), waiting));
        Ok(Self(link))
    }

    /// How they are.
    #[must_use]
    pub fn status(&self) -> Status {
        let link = &self.0;
        Status {
            up: link.up.load(Relaxed),
            replicas: link.replicas.load(Relaxed).max(1),
            answered: link.answered.load(Relaxed),
            failed: link.failed.load(Relaxed),
            calm: **link.calm_from.load() <= Instant::now(),
        }
    }

    /// Waits until the server answers, at most for `longest`; whether it does.
    pub async fn ready(&self, longest: Duration) -> bool {
        let up = async {
            while !self.0.up.load(Relaxed) {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(longest, up).await.is_ok()
    }

    /// Changes whenever Redis may have missed or forgotten what this replica knows: then the next
    /// question about each subject should say it, once.
    #[must_use]
    pub fn lapses(&self) -> u64 {
        self.0.lapses.load(Relaxed)
    }

    /// Says that this replica is gone, so that the others' shares grow at once.
    pub async fn leave(&self) {
        self.0.leaving.store(true, Relaxed);
        let connection = self.0.connection.load_full();
        if let Some(connection) = connection {
            let left = self.0.say(&connection, Duration::ZERO).await;
            if let Err(error) = left {
                tracing::debug!(%error, "the counters were not told that this replica ends");
            }
        }
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counters").field(&self.status()).finish()
    }
}

impl Link {
    /// Runs a script under the time limit.
    pub(crate) async fn call<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, Down> {
        if !self.up.load(Relaxed) {
            return Err(Down);
        }
        let connection = self.connection.load_full().ok_or(Down)?;
        let mut connection = (*connection).clone();
        let answer = timeout(self.options.timeout, script.invoke_async(&mut connection)).await;
        match answer {
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
        tracing::debug!(%error, "a call of the counters failed");
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
                "the counters are not available; each replica goes by its share until they are"
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

    /// Redis may have missed or forgotten what this replica knows, and it takes `grace` until all
    /// have told what they know.
    fn lapsed(&self, grace: Duration) {
        self.calm_from.store(Arc::new(Instant::now() + grace));
        self.lapses.fetch_add(1, Relaxed);
    }

    /// The connection that is used, by its number.
    pub(crate) fn connection_number(&self) -> u64 {
        self.connections.load(Relaxed)
    }

    pub(crate) const fn replica(&self) -> Uuid {
        self.replica
    }

    async fn connect(&self) -> Result<MultiplexedConnection, RedisError> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(CONNECT));
        let client = &self.client;
        client
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    /// Announces this replica; how long the answer took.
    async fn say(
        &self,
        connection: &MultiplexedConnection,
        counts: Duration,
    ) -> Result<Said, RedisError> {
        let mut connection = connection.clone();
        let asked = Instant::now();
        let (epoch, replicas, age): (String, u32, u64) = self
            .announce
            .key(names::epoch())
            .key(names::replicas())
            .key(names::fence(self.replica))
            .arg(Uuid::new_v4().to_string())
            .arg(self.replica.to_string())
            .arg(u64::try_from(counts.as_millis()).unwrap_or_default())
            .arg(self.connection_number())
            .invoke_async(&mut connection)
            .await?;
        let first = self.epoch.load().is_empty();
        self.note_epoch(epoch);
        self.replicas.store(replicas.max(1), Relaxed);
        Ok(Said {
            took: asked.elapsed(),
            // Who is new has nothing to tell; the others had the server's age for that.
            grace: first.then(|| GRACE.saturating_sub(Duration::from_millis(age))),
        })
    }
}

/// What an announcement brought.
struct Said {
    took: Duration,
    /// How long others may still tell what they know, where this is the first.
    grace: Option<Duration>,
}

/// Keeps a connection until this replica leaves.
async fn keep(link: Arc<Link>) {
    let mut told = false;
    while !link.leaving.load(Relaxed) {
        match link.connect().await {
            Ok(connection) => {
                told = false;
                link.connections.fetch_add(1, Relaxed);
                beat(&link, connection).await;
            }
            Err(error) if !told => {
                told = true;
                // Its text may hold the address; the kind says enough.
                tracing::warn!(kind = ?error.kind(), "the counters can't be reached");
            }
            Err(_) => {}
        }
        link.trip();
        sleep(RETRY).await;
    }
}

/// Announces this replica over a connection until that fails.
async fn beat(link: &Arc<Link>, connection: MultiplexedConnection) {
    let (mut good, mut was_down, mut grace) = (0, true, GRACE);
    while !link.leaving.load(Relaxed) {
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
                "the counters are available"
            );
        }
        if !was_down {
            link.leases.renew(link).await;
        }
        let pause = if was_down { RETRY } else { BEAT };
        tokio::select! {
            () = sleep(pause) => {}
            () = link.tripped.notified() => {
                if !link.up.load(Relaxed) && !was_down {
                    return;
                }
            }
        }
    }
}
