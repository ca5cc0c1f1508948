//! The address of a store: which database it names, and opening that. It must not know tables.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

use crate::error::StoreError;
use crate::ledger::LedgerStore;
use crate::objects::ObjectStore;
use crate::postgres::PostgresStore;
use crate::sqlite::SqliteStore;
use crate::toggle::ToggleStore;

/// The address of a store. A password in it is never shown.
#[derive(Clone, Debug)]
pub enum StoreUrl {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL server, as libpq reads it.
    Postgres(SecretString),
}

impl StoreUrl {
    /// Reads `sqlite:PATH`, `postgres://…`, `postgresql://…` and `postgresql+asyncpg://…`.
    ///
    /// # Errors
    /// When it is none of them.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        if let Some(path) = url.strip_prefix("sqlite:") {
            // Both sqlite:data/x.db and the three-slash form of URLs that begins a path.
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() {
                Err(StoreError::Address(
                    "`sqlite:` lacks a path, as sqlite:data/llm-router.db".into(),
                ))
            } else {
                Ok(Self::Sqlite(path.into()))
            };
        }
        let (scheme, rest) = url.split_once("://").unwrap_or_default();
        match scheme {
            "postgres" | "postgresql" | "postgresql+asyncpg" | "postgres+asyncpg" => {
                Ok(Self::Postgres(format!("postgresql://{rest}").into()))
            }
            _ => Err(StoreError::Address(
                "a store is sqlite:PATH or postgresql://USER:PASSWORD@HOST/DATABASE".into(),
            )),
        }
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(_) => f.write_str("postgresql://…"),
        }
    }
}

/// Everything that one database keeps.
pub trait Store: LedgerStore + ObjectStore + ToggleStore {}

impl<S: LedgerStore + ObjectStore + ToggleStore> Store for S {}

/// Opens a store and brings its tables up to date.
///
/// # Errors
/// When it can't be reached or its tables can't be upgraded.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_databases_are_read() {
        for (url, expected) in [
            ("sqlite:data/x.db", "sqlite:data/x.db"),
            ("sqlite:///var/lib/x.db", "sqlite:/var/lib/x.db"),
            ("postgres://u:p@h/d", "postgresql://…"),
            ("postgresql+asyncpg://u:p@h/d", "postgresql://…"),
            (
                "sqlite:",
                "`sqlite:` lacks a path, as sqlite:data/llm-router.db",
            ),
            (
                "mysql://h/d",
                "a store is sqlite:PATH or postgresql://USER:PASSWORD@HOST/DATABASE",
            ),
        ] {
            let shown = StoreUrl::parse(url).map_or_else(|e| e.to_string(), |url| url.to_string());
            assert_eq!(shown, expected, "{url}");
        }
        assert!(!format!("{:?}", StoreUrl::parse("postgres://u:hunter2@h/d")).contains("hunter2"));
    }
}
