//! The counters in Redis: its protocol, and the tasks that tell it what no request waits for.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, RedisError, Script, ScriptInvocation};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::lease::{self, Ending, Leases, millis};
use crate::link::{Announced, Announcement, Down, Link, Options, Server};
use crate::names;

/// What replicas count together. Clones count for the same replica.
#[derive(Clone)]
pub struct Counters(Arc<Parts>);

pub(crate) struct Parts {
    link: Arc<Link<Redis>>,
    pub(crate) leases: Leases,
    pub(crate) endings: mpsc::Sender<Ending>,
}

/// A Redis server.
pub struct Redis {
    client: Client,
    announce: Script,
}

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
        let server = Redis {
            client,
            announce: Script::new(include_str!("scripts/announce.lua")),
        };
        let counters = Self(Arc::new(Parts {
            link: Link::start(server, options, runtime),
            leases: Leases::default(),
            endings,
        }));
        runtime.spawn(lease::keep_renewed(counters.clone()));
        runtime.spawn(lease::tell_endings(counters.clone(), waiting));
        Ok(counters)
    }

    /// The way to the server.
    #[must_use]
    pub fn link(&self) -> &Arc<Link<Redis>> {
        &self.0.link
    }

    /// Runs a script under the time limit.
    pub(crate) async fn call<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, Down> {
        let mut connection = self.link().connection()?;
        self.link()
            .answer(script.invoke_async(&mut connection))
            .await
    }

    pub(crate) fn parts(&self) -> &Parts {
        &self.0
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Counters")
            .field(&self.link().status())
            .finish()
    }
}

impl Server for Redis {
    type Connection = MultiplexedConnection;

    fn name(&self) -> &'static str {
        "the counters"
    }

    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(CONNECT));
        let client = &self.client;
        let connected = client.get_multiplexed_async_connection_with_config(&config);
        connected.await.map_err(|error| kind(&error))
    }

    async fn announce(
        &self,
        connection: &MultiplexedConnection,
        announcement: Announcement,
    ) -> Result<Announced, String> {
        let mut connection = connection.clone();
        let answer: Result<(String, u32, u64), RedisError> = self
            .announce
            .key(names::epoch())
            .key(names::replicas())
            .key(names::fence(announcement.replica))
            .arg(Uuid::new_v4().to_string())
            .arg(announcement.replica.to_string())
            .arg(millis(announcement.counts))
            .arg(announcement.connection)
            .invoke_async(&mut connection)
            .await;
        let (epoch, replicas, age) = answer.map_err(|error| kind(&error))?;
        Ok(Announced {
            epoch,
            age: Duration::from_millis(age),
            replicas,
        })
    }
}

/// An error's text may hold the address; its kind says enough.
fn kind(error: &RedisError) -> String {
    format!("{:?}", error.kind())
}
