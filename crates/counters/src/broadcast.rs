//! Tells replicas at once that something changed elsewhere, over a channel of Redis. What changed,
//! and where, is not said: whoever hears of it looks. Nothing depends on a message's coming.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt as _;
use redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use redis::{AsyncConnectionConfig, Client, RedisError};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::names;

/// How long opening a connection, and each answer, may take.
const ANSWER: Duration = Duration::from_secs(2);

/// How long a connection that says nothing is trusted.
const SILENCE: Duration = Duration::from_secs(5);

/// Where changes are announced and heard of.
pub struct Broadcast {
    client: Client,
    /// What they are announced over, once one was.
    announcing: Mutex<Option<MultiplexedConnection>>,
}

/// A connection that hears of changes.
pub struct Listening {
    sink: PubSubSink,
    messages: PubSubStream,
}

impl Broadcast {
    /// The broadcast of a server. It isn't connected to yet.
    ///
    /// # Errors
    /// When it isn't the address of a Redis server.
    pub fn new(url: &SecretString) -> Result<Self, String> {
        // The error may quote the address, and with it a password.
        let client = Client::open(url.expose_secret())
            .map_err(|_| "the address is not one of a Redis server".to_owned())?;
        Ok(Self {
            client,
            announcing: Mutex::default(),
        })
    }

    /// Says that something changed; how many connections of the server were told.
    ///
    /// # Errors
    /// Why it could not be said, without the address.
    pub async fn announce(&self) -> Result<u64, String> {
        let mut kept = self.announcing.lock().await;
        if let Some(connection) = &mut *kept
            && let Ok(told) = publish(connection).await
        {
            return Ok(told);
        }
        // There was none yet, or it has ended meanwhile: changes are rare.
        *kept = None;
        let mut connection = self.connect().await?;
        let told = publish(&mut connection).await?;
        *kept = Some(connection);
        Ok(told)
    }

    /// Hears of all changes that are announced from now on.
    ///
    /// # Errors
    /// Why it can't be listened, without the address.
    pub async fn listen(&self) -> Result<Listening, String> {
        let (mut sink, messages) = in_time(self.client.get_async_pubsub()).await?.split();
        in_time(sink.subscribe(names::changes())).await?;
        Ok(Listening { sink, messages })
    }

    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER))
            .set_response_timeout(Some(ANSWER));
        let client = &self.client;
        in_time(client.get_multiplexed_async_connection_with_config(&config)).await
    }
}

impl Listening {
    /// Waits for the next change.
    ///
    /// # Errors
    /// When the connection has ended: changes may have been missed then.
    pub async fn next(&mut self) -> Result<(), String> {
        loop {
            match timeout(SILENCE, self.messages.next()).await {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => return Err("the connection ended".to_owned()),
                Err(_) => in_time(self.sink.ping::<redis::Value>()).await.map(drop)?,
            }
        }
    }
}

async fn publish(connection: &mut MultiplexedConnection) -> Result<u64, String> {
    let mut command = redis::cmd("PUBLISH");
    command.arg(names::changes()).arg("changed");
    in_time(command.query_async(connection)).await
}

async fn in_time<T>(asking: impl Future<Output = Result<T, RedisError>>) -> Result<T, String> {
    match timeout(ANSWER, asking).await {
        Ok(answer) => answer.map_err(|error| format!("{:?}", error.kind())),
        Err(_) => Err("no answer".to_owned()),
    }
}
