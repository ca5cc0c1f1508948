//! The journal: what goes upstream and what came of it, on local disk before anything else knows.
//! It must not know a database; [`Mover`] carries what it holds to a store.
//!
//! One record is one `write` to the end of a segment file, so a killed process loses nothing that
//! was acknowledged; a thread of its own syncs to the disk in groups, which bounds what a power
//! failure takes. A folder belongs to one process, by a lock file; while one process replaces another,
//! each has a place of its own in it ([`Journal::open_beside`]).

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

/// What happens when a record can't be written, as on a full disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFull {
    /// No request goes upstream that can't be journalled.
    #[default]
    Refuse,
    /// Requests go on; what they cost is kept in memory, up to a bound, for the store.
    Continue,
}

/// How a journal is kept.
#[derive(Clone, Debug)]
pub struct JournalSettings {
    /// The folder; it is created.
    pub folder: PathBuf,
    /// A segment is closed at this size.
    pub segment_bytes: u64,
    /// How long records may wait to be synced to the disk; zero syncs each before it counts.
    pub sync_every: Duration,
    /// What happens when a record can't be written.
    pub on_full: OnFull,
}

impl JournalSettings {
    /// The usual settings for a folder.
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

/// Why a journal can't be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it.
    #[error("the journal {0} belongs to a running process")]
    Locked(PathBuf),
    /// The disk said no.
    #[error("the journal {path}: {error}")]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
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

/// What opening a journal found of the process before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveredJournal {
    /// Attempts that were begun and never settled: they are settled now, as interrupted.
    pub lost: Vec<LedgerEntry>,
    /// Settled entries that the store may not have yet.
    pub settled: usize,
    /// Bytes of a record that the crash cut off, removed.
    pub torn_bytes: u64,
    /// Damaged places that were passed over.
    pub damaged: usize,
}

/// What a journal holds, read without changing it.
#[derive(Clone, Debug, Default)]
pub struct JournalReport {
    /// Settled entries by id.
    pub settled: BTreeMap<Uuid, LedgerEntry>,
    /// Ids that were settled twice with different content.
    pub contradictory: Vec<Uuid>,
    /// Attempts begun and not settled.
    pub open: usize,
    /// Damaged places; a torn end of the last segment isn't one.
    pub damaged: usize,
}

/// Reads a journal, also one that a running process is writing, with all its places.
///
/// # Errors
/// When the folder can't be read.
pub fn inspect(folder: &Path) -> Result<JournalReport, JournalError> {
    recover::inspect(folder)
}
