//! Persistence: the ledger in SQLite or PostgreSQL behind one trait, the journal that entries
//! reach before any store does, and the comparison of the two. It must not price, nor route.

mod cost_sql;
mod error;
mod fields;
pub mod journal;
pub mod ledger;
mod open;
mod postgres;
mod rollup;
mod sqlite;
pub mod verify;

pub use error::StoreError;
pub use ledger::LedgerStore;
pub use open::{StoreUrl, open};
pub use postgres::PostgresStore;
pub use sqlite::SqliteStore;
