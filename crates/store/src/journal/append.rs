//! Writing the journal. Each record is one `write` under a short lock, from the thread that has
//! it: cheaper than handing it to another, and done before the request goes on.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use llm_router_domain::ledger::{LedgerEntry, OpenEntry};

use super::recent::{Position, Recent, RecentRecord};
use super::segment::{self, HEADER};
use super::{JournalError, JournalSettings, OnFull, RecoveredJournal, codec, recover};

/// Entries kept in memory when they can't be journalled.
const MAX_OVERFLOW: usize = 20_000;

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> =
        RefCell::new(vec![0; HEADER + codec::MAX_ENCODED].into_boxed_slice());
}

/// A journal that is being written. Clones share it.
#[derive(Clone, Debug)]
pub struct Journal {
    shared: Arc<JournalState>,
    _syncer: Arc<Syncer>,
}

impl Journal {
    /// Opens a folder, settles what the process before left open, and begins a new segment.
    ///
    /// # Errors
    /// Returns an error if another process has locked the folder, or on an I/O error.
    pub fn open(settings: JournalSettings) -> Result<(Self, RecoveredJournal), JournalError> {
        let folder = settings.folder.clone();
        std::fs::create_dir_all(&folder).map_err(JournalError::disk(&folder))?;
        let lock = lock(&folder)?;
        let (found, number) = recover::recover(&folder)?;
        let shared = Arc::new(JournalState {
            active: Mutex::new(ActiveSegment::begin(&folder, number)?),
            unsynced: Mutex::default(),
            wake: Condvar::new(),
            stopping: AtomicBool::new(false),
            overflow: Mutex::default(),
            failures: AtomicU64::new(0),
            failing: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
            unreadable: AtomicU64::new(found.damaged as u64),
            settled: AtomicU64::new(found.settled as u64),
            moved: AtomicU64::new(0),
            settings,
            _lock: lock,
        });
        let syncer = Arc::new(Syncer::start(&shared)?);
        let journal = Self {
            shared,
            _syncer: syncer,
        };
        for entry in &found.lost {
            journal.record_settled(entry.clone());
        }
        Ok((journal, found))
    }

    /// Notes an attempt before it goes upstream.
    ///
    /// # Errors
    /// Returns an error if the record can't be written and the policy is to refuse. Then nothing
    /// must go upstream.
    pub fn record_opened(&self, opened: &OpenEntry) -> Result<(), JournalError> {
        let written = self
            .shared
            .append(|buffer| codec::encode_opened(opened, buffer));
        match (written, self.shared.settings.on_full) {
            (Ok(mut active), _) => {
                active.note(RecentRecord::Opened(opened.attempt.id));
                Ok(())
            }
            (Err(error), OnFull::Refuse) => Err(error),
            (Err(error), OnFull::Continue) => {
                tracing::debug!(%error, entry.id = %opened.attempt.id, "failed to journal an attempt; sending it nevertheless");
                Ok(())
            }
        }
    }

    /// Notes what came of an attempt. It never fails: what can't be written is kept in memory for
    /// the store, up to a bound, and said aloud.
    pub fn record_settled(&self, entry: LedgerEntry) {
        let written = self
            .shared
            .append(|buffer| codec::encode_settled(&entry, buffer));
        let error = match written {
            Ok(mut active) => {
                self.shared.settled.fetch_add(1, Ordering::Relaxed);
                return active.note(RecentRecord::Settled(Box::new(entry)));
            }
            Err(error) => error,
        };
        let mut overflow = guard(&self.shared.overflow);
        let id = entry.attempt.id;
        if overflow.len() < MAX_OVERFLOW {
            overflow.push_back(entry);
            tracing::debug!(%error, entry.id = %id, "failed to journal an entry; keeping it in memory");
        } else {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
            tracing::error!(%error, entry.id = %id, "lost an entry: disk and memory are full");
        }
    }

    /// Records that couldn't be written since the start.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.shared.failures.load(Ordering::Relaxed)
    }

    /// Entries that were lost because their records were damaged, or because the store refused
    /// them for good.
    #[must_use]
    pub fn unreadable_records(&self) -> u64 {
        self.shared.unreadable.load(Ordering::Relaxed)
    }

    /// Counts an entry that is lost though it was written.
    pub(super) fn note_unreadable(&self) {
        self.shared.unreadable.fetch_add(1, Ordering::Relaxed);
    }

    /// Entries that were lost because neither disk nor memory had room.
    #[must_use]
    pub fn dropped_records(&self) -> u64 {
        self.shared.dropped.load(Ordering::Relaxed)
    }

    /// Entries in the journal that the store doesn't have yet.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        let moved = self.shared.moved.load(Ordering::Relaxed);
        self.shared
            .settled
            .load(Ordering::Relaxed)
            .saturating_sub(moved)
    }

    /// The store has taken entries out of the journal.
    pub(super) fn note_moved(&self, count: usize) {
        self.shared.moved.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// Entries that wait for the store in memory because they could not be written.
    #[must_use]
    pub fn in_memory(&self) -> usize {
        guard(&self.shared.overflow).len()
    }

    /// Syncs everything written so far to the disk.
    ///
    /// # Errors
    /// Returns an error if the disk fails.
    pub fn sync(&self) -> Result<(), JournalError> {
        self.shared.sync()
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.shared.settings.folder
    }

    /// Returns the position up to which the journal is written.
    pub(super) fn position(&self) -> Position {
        guard(&self.shared.active).position()
    }

    /// Returns the position up to which the journal is written, and keeps later records in memory
    /// for [`Self::recent`]. The reader is at `at`.
    pub(super) fn follow(&self, at: Position) -> Position {
        let mut active = guard(&self.shared.active);
        let position = active.position();
        active.recent.begin(position, at);
        position
    }

    /// At most `most` of the records after `from`, each with its segment, and where they end; none
    /// if they are to be read from the file.
    pub(super) fn recent(
        &self,
        from: Position,
        most: usize,
    ) -> Option<(Vec<(u64, RecentRecord)>, Position)> {
        let mut active = guard(&self.shared.active);
        let now = active.position();
        active.recent.take(from, now, most)
    }

    /// Entries kept in memory, oldest first; they stay until [`Self::forget_overflow`].
    pub(super) fn overflow(&self, at_most: usize) -> Vec<LedgerEntry> {
        guard(&self.shared.overflow)
            .iter()
            .take(at_most)
            .cloned()
            .collect()
    }

    /// Forgets the oldest entries kept in memory: the store has them.
    pub(super) fn forget_overflow(&self, count: usize) {
        let mut overflow = guard(&self.shared.overflow);
        let count = count.min(overflow.len());
        overflow.drain(..count);
    }
}

#[derive(Debug)]
struct JournalState {
    settings: JournalSettings,
    active: Mutex<ActiveSegment>,
    unsynced: Mutex<Unsynced>,
    wake: Condvar,
    stopping: AtomicBool,
    overflow: Mutex<VecDeque<LedgerEntry>>,
    failures: AtomicU64,
    /// True if the last record could not be written.
    failing: AtomicBool,
    dropped: AtomicU64,
    unreadable: AtomicU64,
    /// Settled entries that were written here, those found at the start included.
    settled: AtomicU64,
    /// Those of them that the store has.
    moved: AtomicU64,
    /// Held for as long as the journal is open.
    _lock: File,
}

/// The segment that is written to.
#[derive(Debug)]
struct ActiveSegment {
    number: u64,
    file: Arc<File>,
    path: PathBuf,
    length: u64,
    recent: Recent,
}

/// Work of the next sync.
#[derive(Debug, Default)]
struct Unsynced {
    files: Vec<Arc<File>>,
    folder: bool,
}

impl ActiveSegment {
    fn begin(folder: &Path, number: u64) -> Result<Self, JournalError> {
        let path = segment::path(folder, number);
        let file = File::options().write(true).create_new(true).open(&path);
        let file = Arc::new(file.map_err(JournalError::disk(&path))?);
        Ok(Self {
            number,
            file,
            path,
            length: 0,
            recent: Recent::default(),
        })
    }

    const fn position(&self) -> Position {
        (self.number, self.length)
    }

    /// Remembers what the record that was just written says.
    fn note(&mut self, noted: RecentRecord) {
        let end = self.position();
        self.recent.note(end, noted);
    }

    fn write(&mut self, record: &[u8]) -> std::io::Result<()> {
        // At an explicit offset: what a failed write left behind is written over by the next.
        let written = self.file.write_all_at(record, self.length);
        match &written {
            Ok(()) => self.length += record.len() as u64,
            Err(_) => drop(self.file.set_len(self.length)),
        }
        written
    }
}

impl JournalState {
    fn append(
        &self,
        encode: impl FnOnce(&mut [u8]) -> Result<usize, postcard::Error>,
    ) -> Result<MutexGuard<'_, ActiveSegment>, JournalError> {
        BUFFER.with_borrow_mut(|buffer| {
            let (_, payload) = buffer.split_at_mut(HEADER);
            let length =
                encode(payload).map_err(|e| self.note_failure(std::io::Error::other(e)))?;
            let record = buffer.get_mut(..HEADER + length).unwrap_or_default();
            segment::seal(record);
            self.write(record)
        })
    }

    fn write(&self, record: &[u8]) -> Result<MutexGuard<'_, ActiveSegment>, JournalError> {
        let mut active = guard(&self.active);
        let full = active.length + record.len() as u64 > self.settings.segment_bytes;
        if full
            && active.length > 0
            && let Err(JournalError::Disk { error, .. }) = self.rotate(&mut active)
        {
            return Err(self.note_failure(error));
        }
        if let Err(error) = active.write(record) {
            if active.length > 0 {
                // Segments are deleted as a whole: a new one makes the full one deletable.
                drop(self.rotate(&mut active));
            }
            return Err(self.note_failure(error));
        }
        self.note_success();
        if self.settings.sync_every.is_zero() {
            active
                .file
                .sync_data()
                .map_err(|error| self.note_failure(error))?;
        }
        Ok(active)
    }

    fn rotate(&self, active: &mut MutexGuard<'_, ActiveSegment>) -> Result<(), JournalError> {
        let mut next = ActiveSegment::begin(&self.settings.folder, active.number + 1)?;
        next.recent = std::mem::take(&mut active.recent);
        let closed = std::mem::replace(&mut **active, next);
        let mut unsynced = guard(&self.unsynced);
        unsynced.files.push(closed.file);
        unsynced.folder = true;
        Ok(())
    }

    fn note_success(&self) {
        if self.failing.load(Ordering::Relaxed) && self.failing.swap(false, Ordering::Relaxed) {
            tracing::info!(folder = %self.settings.folder.display(), "writing to the journal again");
        }
    }

    fn note_failure(&self, error: std::io::Error) -> JournalError {
        self.failures.fetch_add(1, Ordering::Relaxed);
        if !self.failing.swap(true, Ordering::Relaxed) {
            let folder = self.settings.folder.display();
            let policy = match self.settings.on_full {
                OnFull::Refuse => "requests are refused until it can be",
                OnFull::Continue => "requests go on and what they cost waits in memory",
            };
            tracing::error!(%error, %folder, "failed to write to the journal: {policy}");
        }
        JournalError::Disk {
            path: self.settings.folder.clone(),
            error,
        }
    }

    fn sync(&self) -> Result<(), JournalError> {
        let Unsynced { files, folder } = std::mem::take(&mut *guard(&self.unsynced));
        let (current, path) = {
            let active = guard(&self.active);
            (Arc::clone(&active.file), active.path.clone())
        };
        for file in files.iter().chain([&current]) {
            file.sync_data().map_err(JournalError::disk(&path))?;
        }
        if folder {
            sync_folder(&self.settings.folder)?;
        }
        Ok(())
    }
}

/// The thread that syncs in groups.
#[derive(Debug)]
struct Syncer {
    shared: Arc<JournalState>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    fn start(shared: &Arc<JournalState>) -> Result<Self, JournalError> {
        sync_folder(&shared.settings.folder)?;
        let own = Arc::clone(shared);
        let thread = std::thread::Builder::new()
            .name("journal-sync".to_owned())
            .spawn(move || sync_in_groups(&own))
            .map_err(JournalError::disk(&shared.settings.folder))?;
        Ok(Self {
            shared: Arc::clone(shared),
            thread: Some(thread),
        })
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn sync_in_groups(shared: &JournalState) {
    let mut synced = (0, 0);
    let pause = shared
        .settings
        .sync_every
        .max(std::time::Duration::from_millis(1));
    while !shared.stopping.load(Ordering::Acquire) {
        let unsynced = guard(&shared.unsynced);
        drop(shared.wake.wait_timeout(unsynced, pause));
        let position = {
            let active = guard(&shared.active);
            (active.number, active.length)
        };
        if position == synced {
            continue;
        }
        match shared.sync() {
            Ok(()) => synced = position,
            Err(error) => tracing::error!(%error, "failed to sync the journal to disk"),
        }
    }
    if let Err(error) = shared.sync() {
        tracing::error!(%error, "failed to sync the journal to disk");
    }
}

fn sync_folder(folder: &Path) -> Result<(), JournalError> {
    let opened = File::open(folder).and_then(|handle| handle.sync_all());
    opened.map_err(JournalError::disk(folder))
}

/// Takes the lock of a folder, for as long as the file is open.
pub(super) fn lock(folder: &Path) -> Result<File, JournalError> {
    let path = folder.join("lock");
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path);
    let mut file = file.map_err(JournalError::disk(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(std::fs::TryLockError::WouldBlock) => {
            return Err(JournalError::Locked(folder.to_owned()));
        }
        Err(std::fs::TryLockError::Error(error)) => return Err(JournalError::disk(&path)(error)),
    }
    // For people who wonder who holds it; a full disk is no reason not to start.
    let _ = file
        .set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// Locks a mutex. The data stays consistent after a panic in another thread: every change here is
/// one step.
pub(super) fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
