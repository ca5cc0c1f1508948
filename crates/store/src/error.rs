//! Why a store couldn't do what it was asked.

/// A failure of a store. Whether trying again helps is what callers need to know.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database can't be reached, or took too long: later it may work.
    #[error("the store can't be reached: {0}")]
    Unavailable(String),
    /// The database refused: trying the same again won't help.
    #[error("the store refused: {0}")]
    Refused(String),
    /// What is stored doesn't read as what was written.
    #[error("the store holds something unreadable: {0}")]
    Unreadable(String),
    /// The tables couldn't be created or upgraded.
    #[error("the store's tables can't be upgraded: {0}")]
    Migration(String),
    /// The address of the store isn't one.
    #[error("{0}")]
    Address(String),
}

impl StoreError {
    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }
}
