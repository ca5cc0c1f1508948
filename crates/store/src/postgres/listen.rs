//! Receives change notifications of PostgreSQL: a notification of a transaction reaches every
//! listening connection after the commit. It must not know what changed: subscribers read the
//! store.

use std::future::poll_fn;
use std::time::Duration;

use postgres_openssl::{MakeTlsConnector, TlsStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Socket, Transaction};

use super::{CONNECT, parse_config, store_error};
use crate::error::StoreError;

/// Channel of change notifications. Everyone who can connect to the database may publish and listen
/// on it, so a message holds only a number.
const CHANNEL: &str = "llm_router_changes";

/// Idle time after which a connection is checked.
const SILENCE: Duration = Duration::from_secs(10);

/// Source of change notifications.
pub struct ChangeListener {
    config: Config,
    connector: MakeTlsConnector,
}

/// Connection that receives notifications.
pub struct ListenConnection {
    client: Client,
    /// Multiple notifications that were not yet taken count as one.
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

    /// Subscribes to all changes committed from now on.
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
