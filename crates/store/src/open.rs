//! Opens the database that an address names. It must not know tables.

use std::sync::Arc;

use llm_router_domain::store_url::StoreUrl;
use secrecy::ExposeSecret as _;

use crate::error::StoreError;
use crate::ledger::LedgerStore;
use crate::objects::ObjectStore;
use crate::postgres::{self, PostgresStore};
use crate::sqlite::SqliteStore;
use crate::toggle::ToggleStore;

/// Everything that one database keeps.
pub trait Store: LedgerStore + ObjectStore + ToggleStore {}

impl<S: LedgerStore + ObjectStore + ToggleStore> Store for S {}

/// Returns the address with the schema of the tables in it, which is created if it is missing. SQLite has
/// none.
///
/// # Errors
/// Returns an error if the store is unavailable, or the schema can't be created.
pub async fn with_schema(url: &StoreUrl, schema: Option<&str>) -> Result<StoreUrl, StoreError> {
    match url {
        StoreUrl::Sqlite(_) => Ok(url.clone()),
        StoreUrl::Postgres(text) => {
            let text = postgres::with_schema(text.expose_secret(), schema).await?;
            Ok(StoreUrl::Postgres(text.into()))
        }
    }
}

/// Describes where a store is, without user or password.
#[must_use]
pub fn describe(url: &StoreUrl) -> String {
    match url {
        StoreUrl::Sqlite(_) => url.to_string(),
        StoreUrl::Postgres(text) => postgres::describe(text.expose_secret()),
    }
}

/// Opens a store and brings its tables up to date.
///
/// # Errors
/// Returns an error if the store is unavailable or its tables can't be upgraded.
pub async fn open(url: &StoreUrl) -> Result<Arc<dyn Store>, StoreError> {
    match url {
        StoreUrl::Sqlite(path) => Ok(Arc::new(SqliteStore::open(path.clone()).await?)),
        StoreUrl::Postgres(url) => {
            let store = PostgresStore::new(url.expose_secret())?;
            store.migrate().await?;
            Ok(Arc::new(store))
        }
    }
}
