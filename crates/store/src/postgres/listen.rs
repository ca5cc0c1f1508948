//! Hears of changes as they are made: what a transaction announces is told to every connection
//! that listens, once it is committed. It must not know what changed: whoever hears of it looks.

use std::future::poll_fn;
use std::time::Duration;

use postgres_openssl::{MakeTlsConnector, TlsStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Socket, Transaction};

use super::{CONNECT, parse_config, store_error};
use crate::error::StoreError;

/// Changes of one database are announced on this channel of it. Whoever connects to the database
/// may announce on it and listen to it, so nothing is said there but a number.
const CHANNEL: &str = "llm_router_changes";

/// Idle time after which a connection is checked.
const SILENCE: Duration = Duration::from_secs(10);

/// Source of change notifications.
pub struct ChangeListener {
    config: Config,
    connector: MakeTlsConnector,
}

/// A connection that hears of changes.
pub struct ListenConnection {
    client: Client,
    /// Several changes that nobody has asked for yet are one.
    heard: mpsc::Receiver<()>,
    /// Reads the connection. It ends with this.
    _reading: JoinSet<()>,
}

impl ChangeListener {
    /// A listener at a `postgresql://` address. It isn't connected yet.
    ///
    /// # Errors
    /// Returns an error if `url` is not an address.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        let (config, address) = parse_config(url)?;
        let connector = address.connector()?;
        Ok(Self { config, connector })
    }

    /// Hears of all changes that are committed from now on.
    ///
    /// # Errors
    /// Returns an error if the server is unavailable.
    pub async fn listen(&self) -> Result<ListenConnection, StoreError> {
        let connecting = self.config.connect(self.connector.clone());
        let (client, connection) = in_time(connecting).await?;
        let (hears, heard) = mpsc::channel(1);
        let mut reading = JoinSet::new();
        reading.spawn(read(connection, hears));
        in_time(client.batch_execute(&format!("LISTEN {CHANNEL}"))).await?;
        Ok(ListenConnection {
            client,
            heard,
            _reading: reading,
        })
    }
}

impl ListenConnection {
    /// Waits for the next change.
    ///
    /// # Errors
    /// Returns an error if the connection has closed: notifications may have been missed.
    pub async fn next(&mut self) -> Result<(), StoreError> {
        loop {
            match timeout(SILENCE, self.heard.recv()).await {
                Ok(Some(())) => return Ok(()),
                Ok(None) => return Err(StoreError::Unavailable("the connection ended".to_owned())),
                Err(_) => in_time(self.client.simple_query("")).await.map(drop)?,
            }
        }
    }
}

/// Announces a change with the transaction that makes it.
pub(super) async fn announce(transaction: &Transaction<'_>, number: u64) -> Result<(), StoreError> {
    let sql = "SELECT pg_notify($1, $2)";
    let number = number.to_string();
    let done = transaction.execute(sql, &[&CHANNEL, &number]).await;
    done.map(drop).map_err(|error| store_error(&error))
}

async fn read(mut connection: Connection<Socket, TlsStream<Socket>>, hears: mpsc::Sender<()>) {
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        if matches!(message, AsyncMessage::Notification(_)) {
            // One that waits already says as much.
            let _ = hears.try_send(());
        }
    }
}

async fn in_time<T>(
    asking: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, StoreError> {
    match timeout(CONNECT, asking).await {
        Ok(answer) => answer.map_err(|error| store_error(&error)),
        Err(_) => Err(StoreError::Unavailable("no answer".to_owned())),
    }
}
