//! Budgets that replicas share in PostgreSQL where there is no Redis. It joins the counters' link
//! to the store's queries and must not hold either.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use llm_router_counters::{
    Announcement, AnnouncementReply, Link, LinkOptions, LinkStatus, SharedServer,
};
use llm_router_domain::budget::shared::{LineStatus, Reservation, ReserveOutcome, SpendUpdate};
use llm_router_store::{BudgetConnection, BudgetTables, ReplicaConnection, StoreError};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Handle;

use crate::budgets::store::BudgetStore;

/// Timeout of a call. A database has slower moments than a cache: a shorter timeout would cut
/// replicas off from each other in normal operation.
const ANSWER: Duration = Duration::from_secs(1);

/// Link to the PostgreSQL server that holds the budgets.
pub(crate) type PostgresBudgetStore = Link<PostgresServer>;

/// PostgreSQL server with the tables of shared budgets.
pub(crate) struct PostgresServer(BudgetTables);

/// Starts a link to the store at `url`.
///
/// # Errors
/// Returns an error if `url` is not an address.
pub(crate) fn start(
    url: &SecretString,
    runtime: &Handle,
) -> Result<Arc<PostgresBudgetStore>, StoreError> {
    let server = PostgresServer(BudgetTables::new(url.expose_secret())?);
    Ok(Link::start(
        server,
        LinkOptions { timeout: ANSWER },
        runtime,
    ))
}

impl SharedServer for PostgresServer {
    type Connection = BudgetConnection;

    fn name(&self) -> &'static str {
        "PostgreSQL budgets"
    }

    async fn connect(&self) -> Result<BudgetConnection, String> {
        self.0.connect().await.map_err(|error| error.to_string())
    }

    async fn announce(
        &self,
        connection: &BudgetConnection,
        announcement: Announcement,
    ) -> Result<AnnouncementReply, String> {
        let replica = ReplicaConnection {
            replica: announcement.replica,
            connection: announcement.connection,
        };
        let presence = connection.announce(replica, announcement.ttl).await;
        let presence = presence.map_err(|error| error.to_string())?;
        Ok(AnnouncementReply {
            epoch: presence.epoch,
            age: presence.age,
            replicas: presence.replicas,
        })
    }
}

#[async_trait]
impl BudgetStore for PostgresBudgetStore {
    fn link_status(&self) -> LinkStatus {
        self.status()
    }

    async fn reserve(&self, reservation: &Reservation) -> Option<ReserveOutcome> {
        let connection = self.connection().ok()?;
        let outcome = connection.reserve(replica_connection(self), reservation);
        self.answer(outcome).await.ok()
    }

    async fn apply_spend_update(&self, update: &SpendUpdate) -> Option<Vec<LineStatus>> {
        let connection = self.connection().ok()?;
        let result = connection.apply_spend_update(replica_connection(self), update);
        self.answer(result).await.ok()
    }

    async fn leave(&self) {
        Link::leave(self).await;
    }
}

fn replica_connection(link: &PostgresBudgetStore) -> ReplicaConnection {
    ReplicaConnection {
        replica: link.replica(),
        connection: link.connection_number(),
    }
}
