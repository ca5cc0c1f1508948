//! Persistence in SQLite or PostgreSQL: the ledger, objects made by API and the routing toggle, a
//! trait for each; the journal that entries reach before any store does, and the comparison of the
//! two. It must not price, nor route.

mod cost_sql;
mod error;
mod fields;
pub mod journal;
pub mod ledger;
pub mod objects;
mod open;
mod postgres;
mod rollup;
pub mod seal;
mod sqlite;
pub mod toggle;
pub mod verify;

pub use error::StoreError;
pub use ledger::LedgerStore;
pub use llm_router_domain::store_url::StoreUrl;
pub use objects::ObjectStore;
pub use open::{Store, open};
pub use postgres::{
    BudgetConnection, BudgetTables, ChangeListener, ListenConnection, PostgresStore, Presence,
    ReplicaConnection,
};
pub use sqlite::SqliteStore;
pub use toggle::ToggleStore;
