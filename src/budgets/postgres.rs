//! The book of budgets that replicas share where they have PostgreSQL and no Redis: the way to it is
//! that of the counters, its questions are the store's.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use llm_router_counters::{Announced, Announcement, Link, Options, Server};
use llm_router_domain::budget::shared::{Claim, Claimed, News, Standing};
use llm_router_store::{Asker, BookConnection, BudgetBook, StoreError};
use secrecy::{ExposeSecret as _, SecretString};
use tokio::runtime::Handle;

use crate::budgets::store::{Book, Reach};

/// How long an attempt waits for the book. A database has slower moments than a cache: a limit that
/// they pass would cut replicas off from each other in the midst of ordinary days.
const ANSWER: Duration = Duration::from_secs(1);

/// The book, kept reachable.
pub(crate) type PostgresBook = Link<Postgres>;

/// A PostgreSQL server with the book's tables.
pub(crate) struct Postgres(BudgetBook);

/// Begins to keep a connection to the book of the store at `url`.
///
/// # Errors
/// When that is no address.
pub(crate) fn start(url: &SecretString, runtime: &Handle) -> Result<Arc<PostgresBook>, StoreError> {
    let server = Postgres(BudgetBook::new(url.expose_secret())?);
    Ok(Link::start(server, Options { timeout: ANSWER }, runtime))
}

impl Server for Postgres {
    type Connection = BookConnection;

    fn name(&self) -> &'static str {
        "the budgets that replicas share in the store"
    }

    async fn connect(&self) -> Result<BookConnection, String> {
        self.0.connect().await.map_err(|error| error.to_string())
    }

    async fn announce(
        &self,
        connection: &BookConnection,
        announcement: Announcement,
    ) -> Result<Announced, String> {
        let asker = Asker {
            replica: announcement.replica,
            connection: announcement.connection,
        };
        let present = connection.announce(asker, announcement.counts).await;
        let present = present.map_err(|error| error.to_string())?;
        Ok(Announced {
            epoch: present.epoch,
            age: present.age,
            replicas: present.replicas,
        })
    }
}

#[async_trait]
impl Book for PostgresBook {
    fn reach(&self) -> Reach {
        Reach::of(self)
    }

    async fn claim(&self, claim: &Claim) -> Option<Claimed> {
        let connection = self.connection().ok()?;
        let claimed = connection.claim(asker(self), claim);
        self.answer(claimed).await.ok()
    }

    async fn tell(&self, news: &News) -> Option<Vec<Standing>> {
        let connection = self.connection().ok()?;
        let told = connection.tell(asker(self), news);
        self.answer(told).await.ok()
    }

    async fn leave(&self) {
        Link::leave(self).await;
    }
}

fn asker(link: &PostgresBook) -> Asker {
    Asker {
        replica: link.replica(),
        connection: link.connection_number(),
    }
}
