//! The store in PostgreSQL. An unavailable or slow server costs a bounded wait and an error, never
//! a connection that waits forever.

mod budgets;
mod listen;
mod objects;
mod read;
mod reprice;
mod tls;
mod toggle;
mod write;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use jiff::Timestamp;
use llm_router_domain::ledger::LedgerEntry;
use rust_decimal::Decimal;
use tokio_postgres::types::FromSql;
use tokio_postgres::{Config, Row};
use uuid::Uuid;

pub use budgets::{BudgetConnection, BudgetTables, Presence, ReplicaConnection};
pub use listen::{ChangeListener, ListenConnection};

use crate::error::StoreError;
use crate::ledger::{
    CostQuery, CostRow, LedgerStore, Page, RepriceQuery, Repricing, RequestAttempts, RequestQuery,
    SpentQuery, StoreInspection, TotalsDifference,
};

mod migrations {
    refinery::embed_migrations!("migrations/postgres");
}

/// Timeout for opening a connection or waiting for a free one.
const CONNECT: Duration = Duration::from_secs(5);

/// Timeout of an answer.
const ANSWER: Duration = Duration::from_secs(15);

/// Timeout of a full comparison.
const CHECK: Duration = Duration::from_secs(3_600);

/// Connections of this process.
const CONNECTIONS: usize = 8;

/// The advisory lock that replicas which start together take turns by, to upgrade the tables.
const MIGRATION_LOCK: i64 = 0x6c6c_6d72_6f75_7465;

/// The store in PostgreSQL.
pub struct PostgresStore {
    pool: Pool,
}

impl PostgresStore {
    /// A store at a `postgresql://` address. It isn't connected to yet.
    ///
    /// # Errors
    /// Returns an error if `url` is not an address.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        let (config, address) = parse_config(url)?;
        let recycling = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let pool = Pool::builder(Manager::from_config(
            config,
            address.connector()?,
            recycling,
        ))
        .max_size(CONNECTIONS)
        .wait_timeout(Some(CONNECT))
        .create_timeout(Some(CONNECT))
        .recycle_timeout(Some(CONNECT))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self { pool })
    }

    /// Creates or upgrades the tables. Replicas that start together take turns.
    ///
    /// # Errors
    /// Returns an error if the server is unavailable or rejects the migration.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        let mut client = self.client().await?;
        let lock = format!("SELECT pg_advisory_lock({MIGRATION_LOCK})");
        client
            .batch_execute(&lock)
            .await
            .map_err(|error| store_error(&error))?;
        let run = migrations::migrations::runner()
            .run_async(&mut **client)
            .await;
        let unlock = format!("SELECT pg_advisory_unlock({MIGRATION_LOCK})");
        client
            .batch_execute(&unlock)
            .await
            .map_err(|error| store_error(&error))?;
        // The migration's own text doesn't say what PostgreSQL said.
        run.map(drop)
            .map_err(|error| StoreError::Migration(whole(&error)))
    }

    async fn client(&self) -> Result<Object, StoreError> {
        // The pool's own bounds don't cover a server that accepts and then says nothing.
        let client = tokio::time::timeout(2 * CONNECT, self.pool.get()).await;
        let client = client.map_err(|_| StoreError::Unavailable("no answer".to_owned()))?;
        client.map_err(|error| StoreError::Unavailable(whole(&error)))
    }
}

/// The schema of new installations.
const OWN_SCHEMA: &str = "llm_router";

/// Puts the schema of the tables into a `postgresql://` address, for all that connects by it. Without a
/// wish the tables stay where they are; where there are none yet, they get a schema of their own. It is
/// created if it is missing.
///
/// # Errors
/// Returns an error if the server is unavailable, or the schema is missing and can't be created.
pub(crate) async fn with_schema(url: &str, wish: Option<&str>) -> Result<String, StoreError> {
    // Whoever sets options of the connection has set a search path, or knows why not.
    if wish.is_none() && url.contains("options=") {
        return Ok(url.to_owned());
    }
    let client = PostgresStore::new(url)?.client().await?;
    let ask = async |sql: &str, name: &str| {
        let row = client.query_one(sql, &[&name]).await;
        let row = row.map_err(|error| store_error(&error))?;
        get::<bool>(&row, 0)
    };
    let installed = "SELECT to_regclass('refinery_schema_history') IS NOT NULL \
        AND to_regclass('entries') IS NOT NULL AND $1 <> ''";
    if wish.is_none() && ask(installed, OWN_SCHEMA).await? {
        return Ok(url.to_owned());
    }
    let schema = wish.unwrap_or(OWN_SCHEMA);
    if !ask(
        "SELECT to_regnamespace(quote_ident($1)) IS NOT NULL",
        schema,
    )
    .await?
    {
        // Replicas that start together take turns: IF NOT EXISTS alone lets two of them collide.
        let create = format!(
            "BEGIN; SELECT pg_advisory_xact_lock({MIGRATION_LOCK}); \
             CREATE SCHEMA IF NOT EXISTS \"{schema}\"; COMMIT"
        );
        match client.batch_execute(&create).await {
            Ok(()) => {}
            Err(error) if wish.is_none() && is_forbidden(&error) => {
                // An account that may not create schemas has been given one to work in.
                return Ok(url.to_owned());
            }
            Err(error) => return Err(store_error(&error)),
        }
    }
    let separator = if url.contains('?') { '&' } else { '?' };
    Ok(format!(
        "{url}{separator}options=-c%20search_path%3D{schema}"
    ))
}

fn is_forbidden(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE)
}

/// Describes the server and the database of an address, without user or password.
#[must_use]
pub(crate) fn describe(url: &str) -> String {
    let Ok((config, _)) = parse_config(url) else {
        return "PostgreSQL".to_owned();
    };
    let hosts: Vec<_> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(position, host)| {
            let ports = config.get_ports();
            let port = ports.get(position).or(ports.first()).copied();
            let host = match host {
                tokio_postgres::config::Host::Tcp(name) => name.clone(),
                tokio_postgres::config::Host::Unix(path) => path.display().to_string(),
            };
            format!("{host}:{}", port.unwrap_or(5432))
        })
        .collect();
    let database = config.get_dbname().or(config.get_user());
    let database = database.unwrap_or("the default database");
    format!("PostgreSQL at {}, database {database}", hosts.join(", "))
}

/// Returns the connection settings: bounded in time, with keep-alive against servers that are gone.
fn parse_config(url: &str) -> Result<(Config, tls::ServerAddress), StoreError> {
    let address = tls::ServerAddress::parse(url)?;
    let mut config: Config = address
        .url
        .parse()
        .map_err(|error: tokio_postgres::Error| StoreError::Address(error.to_string()))?;
    config.ssl_mode(address.ssl_mode());
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT);
    }
    if config.get_application_name().is_none() {
        config.application_name("llm-router");
    }
    config.keepalives_idle(Duration::from_secs(30));
    config.tcp_user_timeout(Duration::from_secs(30));
    Ok((config, address))
}

/// Formats an error with all its causes: the first one says little about a connection.
fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

#[async_trait]
impl LedgerStore for PostgresStore {
    async fn insert_shared(&self, entries: Arc<[LedgerEntry]>) -> Result<usize, StoreError> {
        with_timeout(ANSWER, async {
            write::insert(&mut self.client().await?, &entries).await
        })
        .await
    }

    async fn costs(&self, query: &CostQuery) -> Result<Vec<CostRow>, StoreError> {
        with_timeout(ANSWER, async {
            read::costs(&self.client().await?, query).await
        })
        .await
    }

    async fn spent_by_run(&self, query: &SpentQuery) -> Result<Vec<(u32, Decimal)>, StoreError> {
        with_timeout(ANSWER, async {
            read::spent_by_run(&mut self.client().await?, query).await
        })
        .await
    }

    async fn requests(&self, query: &RequestQuery) -> Result<Page<RequestAttempts>, StoreError> {
        with_timeout(ANSWER, async {
            read::requests(&self.client().await?, query).await
        })
        .await
    }

    async fn request(&self, request_id: &str) -> Result<Vec<LedgerEntry>, StoreError> {
        with_timeout(ANSWER, async {
            read::request(&self.client().await?, request_id).await
        })
        .await
    }

    async fn entries(&self, ids: &[Uuid]) -> Result<Vec<LedgerEntry>, StoreError> {
        with_timeout(CHECK, async {
            read::entries(&self.client().await?, ids).await
        })
        .await
    }

    async fn prune(&self, before: Timestamp, limit: u32) -> Result<usize, StoreError> {
        with_timeout(ANSWER, async {
            write::prune(&mut self.client().await?, before, limit).await
        })
        .await
    }

    async fn entries_to_reprice(
        &self,
        query: &RepriceQuery,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        with_timeout(CHECK, async {
            reprice::entries(&self.client().await?, query).await
        })
        .await
    }

    async fn reprice(&self, repricing: Repricing) -> Result<usize, StoreError> {
        with_timeout(CHECK, async {
            reprice::apply(&mut self.client().await?, &repricing).await
        })
        .await
    }

    async fn check_sums(&self) -> Result<Vec<TotalsDifference>, StoreError> {
        with_timeout(CHECK, async {
            read::check_sums(&mut self.client().await?).await
        })
        .await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        let ping = async {
            let answer = self.client().await?.simple_query("SELECT 1").await;
            answer.map(drop).map_err(|error| store_error(&error))
        };
        with_timeout(CONNECT, ping).await
    }

    async fn inspect(&self) -> Result<StoreInspection, StoreError> {
        let inspection = async {
            let sql = "SELECT clock_timestamp(), (SELECT at FROM entries ORDER BY id DESC LIMIT 1)";
            let row = self.client().await?.query_one(sql, &[]).await;
            let row = row.map_err(|error| store_error(&error))?;
            Ok(StoreInspection {
                clock: Some(get(&row, 0)?),
                newest_entry: get(&row, 1)?,
                lost_file: None,
            })
        };
        with_timeout(CONNECT, inspection).await
    }
}

/// Ends `work` when it takes too long. Its connection goes back to the pool: an abandoned
/// transaction rolls back, and answers that come late are thrown away by the driver.
async fn with_timeout<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let ended = tokio::time::timeout(limit, work).await;
    ended.unwrap_or_else(|_| Err(StoreError::Unavailable("no answer in time".to_owned())))
}

fn store_error(error: &tokio_postgres::Error) -> StoreError {
    use tokio_postgres::error::SqlState;
    let Some(db) = error.as_db_error() else {
        return StoreError::Unavailable(error.to_string());
    };
    let message = format!("{}: {}", db.code().code(), db.message());
    let code = db.code();
    // Classes 08 connection, 40 rollback, 53 resources, 57 intervention, 58 system.
    let temporary = ["08", "40", "53", "57", "58"]
        .iter()
        .any(|c| code.code().starts_with(c));
    if temporary
        || *code == SqlState::LOCK_NOT_AVAILABLE
        || *code == SqlState::READ_ONLY_SQL_TRANSACTION
    {
        StoreError::Unavailable(message)
    } else {
        StoreError::Refused(message)
    }
}

fn get<'r, T: FromSql<'r>>(row: &'r Row, index: usize) -> Result<T, StoreError> {
    row.try_get(index)
        .map_err(|error| StoreError::Unreadable(error.to_string()))
}
