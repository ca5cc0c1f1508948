//! The broadcast of changes: says that something was changed here, and wakes the follower when it
//! was elsewhere. With Redis over a channel of it; else PostgreSQL tells of its own accord. Nothing
//! depends on it: what isn't heard is found with the next look at the store.

use std::time::Duration;

use llm_router_config::{Config, CounterUrl, StoreUrl};
use llm_router_counters as counters;
use llm_router_store as store;
use secrecy::ExposeSecret as _;
use tokio::sync::Notify;

use crate::sync::store_poller::Follower;
use crate::telemetry::metrics::Metrics;

/// First pause before a connection is tried again; it doubles up to the longest.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The broadcast of changes.
pub(crate) struct ChangeNotifier {
    way: Way,
    /// Several changes that weren't announced yet are announced as one.
    changed: Notify,
}

enum Way {
    Redis(counters::ChangeBroadcast),
    /// Announces every change itself, with the transaction that makes it.
    Postgres(store::ChangeListener),
    /// Replicas look at the store, and that is all.
    None,
}

impl ChangeNotifier {
    /// The broadcast of a configuration. It isn't connected yet.
    ///
    /// # Errors
    /// When an address is none.
    pub(crate) fn of(config: &Config) -> Result<Self, String> {
        let way = match (&config.counters.url, &config.store.url) {
            (CounterUrl::Redis(url), _) => {
                let broadcast = counters::ChangeBroadcast::new(url);
                Way::Redis(broadcast.map_err(|error| format!("counters.url: {error}"))?)
            }
            (CounterUrl::Memory, StoreUrl::Postgres(url)) => {
                let listener = store::ChangeListener::new(url.expose_secret());
                Way::Postgres(listener.map_err(|error| format!("store.url: {error}"))?)
            }
            (CounterUrl::Memory, StoreUrl::Sqlite(_)) => Way::None,
        };
        Ok(Self {
            way,
            changed: Notify::new(),
        })
    }

    /// Has it said that something was changed here. Nobody waits for it.
    pub(crate) fn tell(&self) {
        self.changed.notify_one();
    }

    /// Says that something was changed here, and waits until that is said.
    ///
    /// # Errors
    /// Why it could not be said. The others see the change with their next look.
    pub(crate) async fn say(&self) -> Result<(), String> {
        match &self.way {
            Way::Redis(broadcast) => broadcast.publish().await.map(drop),
            Way::Postgres(_) | Way::None => Ok(()),
        }
    }

    /// Says and hears until the task is dropped.
    pub(crate) async fn run(&self, follower: &Follower, metrics: &Metrics) {
        tokio::join!(self.keep_saying(), self.keep_hearing(follower, metrics));
    }

    async fn keep_saying(&self) {
        loop {
            self.changed.notified().await;
            if let Err(error) = self.say().await {
                tracing::debug!(error, "other replicas were not told of a change");
            }
        }
    }

    async fn keep_hearing(&self, follower: &Follower, metrics: &Metrics) {
        let Some(by) = self.way.name() else { return };
        let (mut pause, mut told) = (PAUSE, false);
        loop {
            metrics.broadcast(by, false);
            let ended = match self.way.listen().await {
                Ok(mut listening) => {
                    (pause, told) = (PAUSE, false);
                    metrics.broadcast(by, true);
                    listening.wake(follower).await
                }
                Err(error) => error,
            };
            if !told {
                told = true;
                tracing::warn!(
                    by,
                    error = ended,
                    "change notifications unavailable; falling back to polling"
                );
            }
            tokio::time::sleep(pause).await;
            pause = (2 * pause).min(LONGEST_PAUSE);
        }
    }
}

/// A connection that hears of changes.
enum Listening {
    Redis(counters::ChangeSubscription),
    Postgres(store::ListenConnection),
}

impl Way {
    /// Source of change notifications.
    const fn name(&self) -> Option<&'static str> {
        match self {
            Self::Redis(_) => Some("redis"),
            Self::Postgres(_) => Some("postgres"),
            Self::None => None,
        }
    }

    async fn listen(&self) -> Result<Listening, String> {
        match self {
            Self::Redis(broadcast) => broadcast.subscribe().await.map(Listening::Redis),
            Self::Postgres(listener) => match listener.listen().await {
                Ok(listening) => Ok(Listening::Postgres(listening)),
                Err(error) => Err(error.to_string()),
            },
            Self::None => Err("nobody tells of changes".to_owned()),
        }
    }
}

impl Listening {
    /// Wakes the follower for every change that is heard of; why no more are.
    async fn wake(&mut self, follower: &Follower) -> String {
        loop {
            // Once more than is heard: a change may have been missed before it was listened.
            follower.wake();
            let heard = match self {
                Self::Redis(listening) => listening.next().await,
                Self::Postgres(listening) => {
                    let heard = listening.next().await;
                    heard.map_err(|error| error.to_string())
                }
            };
            if let Err(error) = heard {
                return error;
            }
        }
    }
}
