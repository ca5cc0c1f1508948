//! The connection to Redis and the background tasks that renew and end leases. What a script
//! computes belongs to the modules of limits and budgets.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, RedisError, Script, ScriptInvocation};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::lease::{self, LeaseEnd, Leases, millis};
use crate::link::{
    Announcement, AnnouncementReply, CallNumber, Link, LinkOptions, SharedServer, Unavailable,
};
use crate::names;

/// Counters that replicas share in Redis. Clones belong to the same replica.
#[derive(Clone)]
pub struct Counters(Arc<CountersInner>);

pub(crate) struct CountersInner {
    link: Arc<Link<RedisServer>>,
    pub(crate) leases: Leases,
    pub(crate) lease_ends: mpsc::Sender<LeaseEnd>,
}

/// Redis server behind a [`Link`].
pub struct RedisServer {
    client: Client,
    announce: Script,
}

/// Call of a script that checks the epoch.
pub(crate) struct CheckedCall<'s> {
    pub(crate) invocation: ScriptInvocation<'s>,
    number: CallNumber,
}

/// Timeout for opening a connection.
const CONNECT: Duration = Duration::from_secs(1);

/// Ends of requests queued for Redis. Further ones are dropped and their leases expire.
const MOST_PENDING_ENDS: usize = 16_384;

impl Counters {
    /// Starts the connection to `url` on `runtime`, without waiting for it.
    ///
    /// # Errors
    /// Returns an error if `url` is not the address of a Redis server.
    pub fn start(
        url: &SecretString,
        options: LinkOptions,
        runtime: &Handle,
    ) -> Result<Self, String> {
        // The error may quote the address, and with it a password.
        let client = Client::open(url.expose_secret())
            .map_err(|_| "not the address of a Redis server".to_owned())?;
        let (endings, waiting) = mpsc::channel(MOST_PENDING_ENDS);
        let server = RedisServer {
            client,
            announce: Script::new(concat!(
                include_str!("scripts/clock.lua"),
                include_str!("scripts/epoch.lua"),
                include_str!("scripts/heartbeat.lua")
            )),
        };
        let counters = Self(Arc::new(CountersInner {
            link: Link::start(server, options, runtime),
            leases: Leases::default(),
            lease_ends: endings,
        }));
        runtime.spawn(lease::keep_renewed(counters.clone()));
        runtime.spawn(lease::report_ends(counters.clone(), waiting));
        Ok(counters)
    }

    /// Returns the link to the server.
    #[must_use]
    pub fn link(&self) -> &Arc<Link<RedisServer>> {
        &self.0.link
    }

    /// Runs a script under the time limit.
    pub(crate) async fn call<T: FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, Unavailable> {
        let mut connection = self.link().connection()?;
        self.link()
            .answer(script.invoke_async(&mut connection))
            .await
    }

    /// Prepares a script that checks whether the server still has the data that this replica knows:
    /// its first keys and arguments are those of `epoch.lua`.
    pub(crate) fn prepare<'s>(&self, script: &'s Script) -> CheckedCall<'s> {
        let link = self.link();
        let number = link.begin_call();
        let mut invocation = script.prepare_invoke();
        invocation
            .key(names::epoch())
            .key(names::replica(link.replica()))
            .arg(link.epoch().as_str())
            .arg(Uuid::new_v4().to_string())
            .arg(number.number)
            .arg(number.answered);
        CheckedCall { invocation, number }
    }

    /// Runs a script that checks the epoch, under the time limit.
    pub(crate) async fn call_checked<T: FromRedisValue>(
        &self,
        call: CheckedCall<'_>,
    ) -> Result<T, Unavailable> {
        let answer = self.call(&call.invocation).await?;
        self.link().end_call(call.number);
        Ok(answer)
    }

    pub(crate) fn inner(&self) -> &CountersInner {
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

impl SharedServer for RedisServer {
    type Connection = MultiplexedConnection;

    fn name(&self) -> &'static str {
        "Redis counters"
    }

    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(Some(CONNECT));
        let client = &self.client;
        let connected = client.get_multiplexed_async_connection_with_config(&config);
        connected.await.map_err(|error| error_kind(&error))
    }

    async fn announce(
        &self,
        connection: &MultiplexedConnection,
        announcement: Announcement,
    ) -> Result<AnnouncementReply, String> {
        let mut connection = connection.clone();
        let answer: Result<(String, u32, u64), RedisError> = self
            .announce
            .key(names::epoch())
            .key(names::replica(announcement.replica))
            .key(names::replicas())
            .arg("")
            .arg(Uuid::new_v4().to_string())
            .arg(announcement.call.number)
            .arg(announcement.call.answered)
            .arg(announcement.replica.to_string())
            .arg(millis(announcement.ttl))
            .arg(announcement.connection)
            .invoke_async(&mut connection)
            .await;
        let (epoch, replicas, age) = answer.map_err(|error| error_kind(&error))?;
        Ok(AnnouncementReply {
            epoch,
            age: Duration::from_millis(age),
            replicas,
        })
    }
}

/// Returns the error's kind only: its text may hold the address.
fn error_kind(error: &RedisError) -> String {
    format!("{:?}", error.kind())
}
