//! Publishes change notifications to the other replicas over a Redis channel. A message doesn't
//! say what changed: subscribers read the store. Nothing may depend on a message's arrival.

use std::future::Future;
use std::time::Duration;

use futures::StreamExt as _;
use redis::aio::{MultiplexedConnection, PubSubSink, PubSubStream};
use redis::{AsyncConnectionConfig, Client, RedisError};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::names;

/// Timeout for opening a connection and for each answer.
const ANSWER: Duration = Duration::from_secs(2);

/// Idle time after which a subscription is checked with a ping.
const PING_AFTER: Duration = Duration::from_secs(5);

/// Redis channel of change notifications.
pub struct ChangeBroadcast {
    client: Client,
    /// Connection for publishing, opened with the first notification.
    publisher: Mutex<Option<MultiplexedConnection>>,
}

/// Subscription to change notifications.
pub struct ChangeSubscription {
    sink: PubSubSink,
    messages: PubSubStream,
}

impl ChangeBroadcast {
    /// Creates the channel's client without connecting.
    ///
    /// # Errors
    /// Returns an error if `url` is not the address of a Redis server.
    pub fn new(url: &SecretString) -> Result<Self, String> {
        // The error may quote the address, and with it a password.
        let client = Client::open(url.expose_secret())
            .map_err(|_| "not the address of a Redis server".to_owned())?;
        Ok(Self {
            client,
            publisher: Mutex::default(),
        })
    }

    /// Publishes that something changed and returns the number of subscribers that received it.
    ///
    /// # Errors
    /// Returns the reason, without the address, if the message can't be published.
    pub async fn publish(&self) -> Result<u64, String> {
        let mut kept = self.publisher.lock().await;
        if let Some(connection) = &mut *kept
            && let Ok(subscribers) = publish(connection).await
        {
            return Ok(subscribers);
        }
        // No connection yet, or it was closed while idle: changes are rare.
        *kept = None;
        let mut connection = self.connect().await?;
        let subscribers = publish(&mut connection).await?;
        *kept = Some(connection);
        Ok(subscribers)
    }

    /// Subscribes to all notifications from now on.
    ///
    /// # Errors
    /// Returns the reason, without the address, if the subscription fails.
    pub async fn subscribe(&self) -> Result<ChangeSubscription, String> {
        let (mut sink, messages) = within_timeout(self.client.get_async_pubsub())
            .await?
            .split();
        within_timeout(sink.subscribe(names::changes())).await?;
        Ok(ChangeSubscription { sink, messages })
    }

    async fn connect(&self) -> Result<MultiplexedConnection, String> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER))
            .set_response_timeout(Some(ANSWER));
        let client = &self.client;
        within_timeout(client.get_multiplexed_async_connection_with_config(&config)).await
    }
}

impl ChangeSubscription {
    /// Waits for the next notification.
    ///
    /// # Errors
    /// Returns an error if the connection has closed: notifications may have been missed.
    pub async fn next(&mut self) -> Result<(), String> {
        loop {
            match timeout(PING_AFTER, self.messages.next()).await {
                Ok(Some(_)) => return Ok(()),
                Ok(None) => return Err("connection closed".to_owned()),
                Err(_) => within_timeout(self.sink.ping::<redis::Value>())
                    .await
                    .map(drop)?,
            }
        }
    }
}

async fn publish(connection: &mut MultiplexedConnection) -> Result<u64, String> {
    let mut command = redis::cmd("PUBLISH");
    command.arg(names::changes()).arg("changed");
    within_timeout(command.query_async(connection)).await
}

async fn within_timeout<T>(call: impl Future<Output = Result<T, RedisError>>) -> Result<T, String> {
    match timeout(ANSWER, call).await {
        Ok(answer) => answer.map_err(|error| format!("{:?}", error.kind())),
        Err(_) => Err("timeout".to_owned()),
    }
}
