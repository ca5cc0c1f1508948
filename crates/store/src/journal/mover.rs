//! Carries settled entries from the journal to the store, in batches, and deletes the segments
//! that are done with. A store that is down stops it; the journal grows and memory doesn't.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use llm_router_domain::ledger::LedgerEntry;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::codec::{self, JournalRecord};
use super::recent::{Position, RecentRecord};
use super::segment::{self, SegmentReader};
use super::{Journal, JournalError};
use crate::error::StoreError;
use crate::ledger::LedgerStore;

/// Settings of a mover.
#[derive(Clone, Debug)]
pub struct MoverSettings {
    /// Longest time for which entries wait to share a transaction.
    pub interval: Duration,
    /// Entries in one transaction.
    pub batch: usize,
    /// Pause after a failure, doubled with each further one up to [`Self::max_pause`].
    pub pause: Duration,
    /// The longest wait after a failure.
    pub max_pause: Duration,
}

impl Default for MoverSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(500),
            batch: 4_000,
            pause: Duration::from_millis(100),
            max_pause: Duration::from_secs(5),
        }
    }
}

type Flushed = oneshot::Sender<Result<(), StoreError>>;

/// The thread that moves entries.
#[derive(Debug)]
pub struct Mover {
    flush: mpsc::UnboundedSender<Flushed>,
    thread: Option<JoinHandle<()>>,
}

impl Mover {
    /// Starts moving what `journal` holds, from its oldest segment on, to `store`. The store's
    /// calls run on `runtime`.
    ///
    /// # Errors
    /// Returns an error if the journal can't be read or the thread can't be started.
    pub fn start(
        journal: Journal,
        store: Arc<dyn LedgerStore>,
        settings: MoverSettings,
        runtime: Handle,
    ) -> Result<Self, JournalError> {
        let (flush, requests) = mpsc::unbounded_channel();
        let folder = journal.folder().to_owned();
        let work = MoverWorker::begin(journal, store, settings)?;
        let thread = std::thread::Builder::new()
            .name("ledger-mover".to_owned())
            .spawn(move || runtime.block_on(work.run(requests)))
            .map_err(JournalError::disk(&folder))?;
        Ok(Self {
            flush,
            thread: Some(thread),
        })
    }

    /// Moves everything settled before the call now. Costs read afterwards include it.
    ///
    /// # Errors
    /// Returns an error if the store is unavailable. The mover retries by itself.
    pub async fn flush(&self) -> Result<(), StoreError> {
        let gone = || StoreError::Unavailable("the mover has stopped".to_owned());
        let (done, answer) = oneshot::channel();
        self.flush.send(done).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Moves the rest and stops. Entries that can't be stored stay in the journal.
    ///
    /// # Errors
    /// Returns an error if the store is unavailable.
    pub async fn stop(mut self) -> Result<(), StoreError> {
        let flushed = self.flush().await;
        let thread = self.thread.take();
        drop(self);
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        flushed
    }
}

struct MoverWorker {
    journal: Journal,
    store: Arc<dyn LedgerStore>,
    settings: MoverSettings,
    /// Position up to which the journal was read.
    at: Position,
    /// Reads on from there where it isn't remembered.
    reader: Option<SegmentReader>,
    batch: Vec<LedgerEntry>,
    open: OpenAttempts,
    /// Segments before this one are deleted.
    kept_from: u64,
}

/// Attempts begun and not settled, by the segment that says so: it has to stay till they are.
#[derive(Debug, Default)]
struct OpenAttempts {
    segment_of: HashMap<Uuid, u64>,
    in_segment: BTreeMap<u64, usize>,
}

impl OpenAttempts {
    fn open(&mut self, id: Uuid, segment: u64) {
        if self.segment_of.insert(id, segment).is_none() {
            *self.in_segment.entry(segment).or_default() += 1;
        }
    }

    /// Keeps a segment for a version that can read all of it.
    fn hold(&mut self, segment: u64) {
        *self.in_segment.entry(segment).or_default() += 1;
    }

    fn settle(&mut self, id: Uuid) {
        let Some(segment) = self.segment_of.remove(&id) else {
            return;
        };
        if let Some(count) = self.in_segment.get_mut(&segment) {
            *count -= 1;
            if *count == 0 {
                self.in_segment.remove(&segment);
            }
        }
    }

    fn oldest_segment(&self) -> Option<u64> {
        self.in_segment
            .first_key_value()
            .map(|(segment, _)| *segment)
    }
}

impl MoverWorker {
    fn begin(
        journal: Journal,
        store: Arc<dyn LedgerStore>,
        settings: MoverSettings,
    ) -> Result<Self, JournalError> {
        let first = segment::list(journal.folder())?.first().copied();
        let number = first.unwrap_or_else(|| journal.position().0);
        Ok(Self {
            journal,
            store,
            settings,
            at: (number, 0),
            reader: None,
            batch: Vec::new(),
            open: OpenAttempts::default(),
            kept_from: number,
        })
    }

    async fn run(mut self, mut requests: mpsc::UnboundedReceiver<Flushed>) {
        let mut pause = self.settings.pause;
        let mut wait = Duration::ZERO;
        loop {
            let request = tokio::time::timeout(wait, requests.recv()).await;
            if matches!(request, Ok(None)) {
                return;
            }
            let moved = self.move_all().await;
            match &moved {
                Ok(()) => {
                    pause = self.settings.pause;
                    wait = self.settings.interval;
                }
                Err(error) => {
                    tracing::warn!(%error, waiting = self.batch.len(), "failed to move entries to the store; retrying");
                    wait = pause;
                    pause = (pause * 2).min(self.settings.max_pause);
                }
            }
            if let Ok(Some(answer)) = request {
                let _ = answer.send(moved);
            }
        }
    }

    /// Moves everything up to the current end of the journal.
    async fn move_all(&mut self) -> Result<(), StoreError> {
        let target = self.journal.follow(self.at);
        loop {
            let at_end = self.fill(target).map_err(unreadable)?;
            self.store_batch().await?;
            self.store_overflow().await?;
            if at_end {
                return Ok(());
            }
        }
    }

    /// Takes up to a batch of settled entries out of memory, or reads them; true at the target.
    fn fill(&mut self, target: Position) -> Result<bool, JournalError> {
        while self.batch.len() < self.settings.batch && self.at < target {
            // About half of the records are settled entries.
            let most = 2 * (self.settings.batch - self.batch.len());
            match self.journal.recent(self.at, most) {
                Some((records, end)) => self.remember(records, end),
                None => self.read(target)?,
            }
        }
        Ok(self.at >= target)
    }

    fn remember(&mut self, records: Vec<(u64, RecentRecord)>, end: Position) {
        for (segment, noted) in records {
            match noted {
                RecentRecord::Opened(id) => self.open.open(id, segment),
                RecentRecord::Settled(entry) => self.batch.push(*entry),
            }
        }
        self.at = end;
        self.reader = None;
    }

    /// Reads the file on, up to a full batch, the target or the end of the segment.
    fn read(&mut self, target: Position) -> Result<(), JournalError> {
        let (number, from) = self.at;
        let end = if number == target.0 {
            target.1
        } else {
            u64::MAX
        };
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => SegmentReader::open(self.journal.folder(), number, from)?,
        };
        while self.batch.len() < self.settings.batch {
            let Some(payload) = reader.next(end)? else {
                // The segment's end, or damage up to the target.
                self.at = if number < target.0 {
                    (self.segment_after(number)?, 0)
                } else {
                    target
                };
                return Ok(());
            };
            match codec::opened_id(payload) {
                Some(id) => self.open.open(id, number),
                None => match codec::decode(payload) {
                    Ok(JournalRecord::Settled(entry)) => self.batch.push(*entry),
                    Ok(JournalRecord::Opened(_)) => {}
                    Ok(JournalRecord::Newer) => self.open.hold(number),
                    Err(error) => {
                        tracing::error!(%error, "lost an entry: its record of the journal is unreadable");
                    }
                },
            }
            self.at = (number, reader.position());
        }
        self.reader = Some(reader);
        Ok(())
    }

    fn segment_after(&self, number: u64) -> Result<u64, JournalError> {
        let numbers = segment::list(self.journal.folder())?;
        let next = numbers.into_iter().find(|other| *other > number);
        Ok(next.unwrap_or(number + 1))
    }

    async fn store_batch(&mut self) -> Result<(), StoreError> {
        if !self.batch.is_empty() {
            let entries: Arc<[LedgerEntry]> = std::mem::take(&mut self.batch).into();
            if let Err(error) = self.insert(&entries).await {
                self.batch = entries.to_vec();
                return Err(error);
            }
            self.journal.note_moved(entries.len());
            for entry in &*entries {
                self.open.settle(entry.attempt.id);
            }
        }
        self.delete_done();
        Ok(())
    }

    async fn store_overflow(&mut self) -> Result<(), StoreError> {
        loop {
            let entries: Arc<[LedgerEntry]> = self.journal.overflow(self.settings.batch).into();
            if entries.is_empty() {
                return Ok(());
            }
            self.insert(&entries).await?;
            self.journal.forget_overflow(entries.len());
            for entry in &*entries {
                self.open.settle(entry.attempt.id);
            }
        }
    }

    /// Stores entries. Where the store refuses a batch for good, its entries are tried one by one,
    /// so that a single bad one doesn't hold up all others for ever.
    async fn insert(&self, entries: &Arc<[LedgerEntry]>) -> Result<(), StoreError> {
        match self.store.insert_shared(Arc::clone(entries)).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_temporary() => Err(error),
            Err(error) => {
                tracing::error!(%error, "store rejected a batch of entries; retrying one by one");
                self.insert_each(entries).await
            }
        }
    }

    async fn insert_each(&self, entries: &[LedgerEntry]) -> Result<(), StoreError> {
        for entry in entries {
            match self.store.insert(std::slice::from_ref(entry)).await {
                Ok(_) => {}
                Err(error) if error.is_temporary() => return Err(error),
                Err(error) => {
                    self.journal.note_unreadable();
                    say_refused(entry, &error);
                }
            }
        }
        Ok(())
    }

    /// Deletes the segments that were read to their end and whose attempts are all settled.
    fn delete_done(&mut self) {
        let keep = self
            .open
            .oldest_segment()
            .map_or(self.at.0, |open| open.min(self.at.0));
        while self.kept_from < keep {
            let path = segment::path(self.journal.folder(), self.kept_from);
            match std::fs::remove_file(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(%error, path = %path.display(), "failed to delete a segment of the journal");
                }
            }
            self.kept_from += 1;
        }
    }
}

/// The log is the last place that has such an entry, so it has all of it.
fn say_refused(entry: &LedgerEntry, error: &StoreError) {
    tracing::error!(%error, ?entry, "store rejected an entry; it is lost");
}

fn unreadable(error: JournalError) -> StoreError {
    StoreError::Unavailable(error.to_string())
}
