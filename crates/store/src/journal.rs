//! Journal of attempts on local disk: each is recorded before it goes upstream, and again when it
//! has ended. It must not know a database; [`Mover`] carries its entries to a store.
//!
//! One record is one `write` to the end of a segment file, so a killed process loses nothing that
//! was acknowledged. A separate thread syncs to the disk in groups, which bounds the loss of a
//! power failure. A folder belongs to one process, by a lock file; while one process replaces
//! another, each has a subfolder of its own in it ([`Journal::open_beside`]).

mod append;
mod codec;
mod mover;
mod places;
mod recent;
mod recover;
mod segment;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use llm_router_domain::ledger::LedgerEntry;
use uuid::Uuid;

pub use append::Journal;
pub use mover::{Mover, MoverSettings};
pub use places::others;

/// Policy for a record that can't be written, as on a full disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// Refuse requests that can't be journalled.
    #[default]
    Refuse,
    /// Send requests nevertheless; their costs are kept in memory, up to a limit, for the store.
    Continue,
}

/// Settings of a journal.
#[derive(Clone, Debug)]
pub struct JournalSettings {
    /// The folder, which is created if missing.
    pub folder: PathBuf,
    /// Size in bytes at which a segment is closed.
    pub segment_bytes: u64,
    /// Longest time until records are synced to the disk; zero syncs each before it is
    /// acknowledged.
    pub sync_every: Duration,
    /// Policy for a record that can't be written, as on a full disk.
    pub on_full: OnFull,
}

impl JournalSettings {
    /// Creates the default settings for a folder.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            segment_bytes: 64 << 20,
            sync_every: Duration::from_millis(200),
            on_full: OnFull::Refuse,
        }
    }
}

/// Errors of a journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has locked it.
    #[error("the journal {0} is locked by a running process")]
    Locked(PathBuf),
    /// I/O error.
    #[error("the journal {path}: {error}")]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// Error of the operating system.
        #[source]
        error: std::io::Error,
    },
}

impl JournalError {
    pub(crate) fn disk(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |error| Self::Disk {
            path: path.to_owned(),
            error,
        }
    }
}

/// Remains of the previous process, found when opening a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredJournal {
    /// Attempts that were begun and never settled. Now they are settled as interrupted.
    pub lost: Vec<LedgerEntry>,
    /// Settled entries that the store may not have.
    pub settled: usize,
    /// Bytes of a truncated record, removed.
    pub torn_bytes: u64,
    /// Damaged places that were skipped.
    pub damaged: usize,
    /// Records of a newer version of the router. Their segments are kept until it reads them.
    pub newer: usize,
}

/// Content of a journal, read without changing it.
#[derive(Clone, Debug, Default)]
pub struct JournalReport {
    /// Settled entries by id.
    pub settled: BTreeMap<Uuid, LedgerEntry>,
    /// Ids that were settled twice with different content.
    pub contradictory: Vec<Uuid>,
    /// Attempts begun and not settled.
    pub open: usize,
    /// Damaged places; a truncated end of the last segment isn't one.
    pub damaged: usize,
    /// Records of a newer version of the router.
    pub newer: usize,
}

/// Reads a journal with all its subfolders, also while a process writes it.
///
/// # Errors
/// Returns an error if the folder can't be read.
pub fn inspect(folder: &Path) -> Result<JournalReport, JournalError> {
    recover::inspect(folder)
}
