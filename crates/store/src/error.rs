//! Errors of stores. It must not hold anything but the errors.

/// Failure of a store. Callers need to know whether a retry helps.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database is unavailable or timed out: a retry may help.
    #[error("store unavailable: {0}")]
    Unavailable(String),
    /// The database rejected the call: a retry won't help.
    #[error("store rejected the request: {0}")]
    Refused(String),
    /// Stored data doesn't parse.
    #[error("unreadable data in the store: {0}")]
    Unreadable(String),
    /// The tables couldn't be created or upgraded.
    #[error("failed to upgrade the store's tables: {0}")]
    Migration(String),
    /// The store's address is invalid.
    #[error("{0}")]
    Address(String),
}

impl StoreError {
    /// Returns true if the same call may succeed later.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
