//! Reads a journal without a writer: after a crash, and for inspection.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;

use llm_router_domain::ledger::OpenEntry;
use uuid::Uuid;

use super::codec::{self, JournalRecord};
use super::places::beside;
use super::segment::{self, SegmentReader};
use super::{JournalError, JournalReport, RecoveredJournal};

/// Reads every segment, cuts off the torn end of the last one, and says which attempts were left
/// open. Also the number of the segment to begin.
pub(super) fn recover(folder: &Path) -> Result<(RecoveredJournal, u64), JournalError> {
    let mut recovered = RecoveredJournal::default();
    let mut open: HashMap<Uuid, OpenEntry> = HashMap::new();
    let numbers = segment::list(folder)?;
    for number in &numbers {
        let end = length(folder, *number)?;
        let mut reader = SegmentReader::open(folder, *number, 0)?;
        while let Some(record) = next(&mut reader, end, &mut recovered.damaged)? {
            match record {
                JournalRecord::Opened(opened) => {
                    open.insert(opened.attempt.id, *opened);
                }
                JournalRecord::Settled(entry) => {
                    open.remove(&entry.attempt.id);
                    recovered.settled += 1;
                }
                JournalRecord::Newer => recovered.newer += 1,
            }
        }
        recovered.damaged += reader.damaged;
        let torn = end - reader.position();
        if torn > 0 {
            recovered.torn_bytes += torn;
            cut(folder, *number, reader.position())?;
        }
    }
    recovered.lost = open
        .into_values()
        .map(OpenEntry::into_interrupted)
        .collect();
    recovered
        .lost
        .sort_unstable_by_key(|entry| entry.attempt.id);
    Ok((recovered, numbers.last().map_or(1, |last| last + 1)))
}

/// Reads every segment without changing any.
pub(super) fn inspect(folder: &Path) -> Result<JournalReport, JournalError> {
    let mut report = JournalReport::default();
    let mut open = HashSet::new();
    let others = beside(folder).filter(|place| place.is_dir());
    for place in std::iter::once(folder.to_owned()).chain(others) {
        inspect_place(&place, &mut report, &mut open)?;
    }
    report.open = open.len();
    Ok(report)
}

fn inspect_place(
    folder: &Path,
    report: &mut JournalReport,
    open: &mut HashSet<Uuid>,
) -> Result<(), JournalError> {
    for number in segment::list(folder)? {
        let end = length(folder, number)?;
        let mut reader = SegmentReader::open(folder, number, 0)?;
        while let Some(record) = next(&mut reader, end, &mut report.damaged)? {
            match record {
                JournalRecord::Opened(opened) => {
                    open.insert(opened.attempt.id);
                }
                JournalRecord::Settled(entry) => {
                    let id = entry.attempt.id;
                    open.remove(&id);
                    let earlier = report.settled.insert(id, (*entry).clone());
                    if earlier.is_some_and(|earlier| earlier != *entry) {
                        report.contradictory.push(id);
                    }
                }
                JournalRecord::Newer => report.newer += 1,
            }
        }
        report.damaged += reader.damaged;
    }
    Ok(())
}

/// The next record that reads; one whose checksum is right but that doesn't is counted and passed.
pub(super) fn next(
    reader: &mut SegmentReader,
    end: u64,
    damaged: &mut usize,
) -> Result<Option<JournalRecord>, JournalError> {
    while let Some(payload) = reader.next(end)? {
        match codec::decode(payload) {
            Ok(record) => return Ok(Some(record)),
            Err(error) => {
                *damaged += 1;
                tracing::error!(%error, "skipping an unreadable record of the journal");
            }
        }
    }
    Ok(None)
}

fn length(folder: &Path, number: u64) -> Result<u64, JournalError> {
    let path = segment::path(folder, number);
    let metadata = std::fs::metadata(&path).map_err(JournalError::disk(&path))?;
    Ok(metadata.len())
}

fn cut(folder: &Path, number: u64, length: u64) -> Result<(), JournalError> {
    let path = segment::path(folder, number);
    let file = File::options().write(true).open(&path);
    file.and_then(|file| file.set_len(length))
        .map_err(JournalError::disk(&path))
}
