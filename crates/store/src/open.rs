//! Opens the database that an address names. It must not know tables.

use std::sync::Arc;

use llm_router_domain::store_url::StoreUrl;
use secrecy::ExposeSecret as _;

use crate::error::StoreError;
use crate::ledger::LedgerStore;
use crate::objects::ObjectStore;
use crate::postgres::PostgresStore;
use crate::sqlite::SqliteStore;
use crate::toggle::ToggleStore;

/// Everything that one database keeps.
pub trait Store: LedgerStore + ObjectStore + ToggleStore {}

impl<S: LedgerStore + ObjectStore + ToggleStore> Store for S {}

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
