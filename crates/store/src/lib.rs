#![doc = include_str!("../README.md")]

mod cost_sql;
mod detail;
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
