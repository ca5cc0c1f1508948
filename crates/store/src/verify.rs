//! Comparison of journal, entries and sums. It must change nothing.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use llm_router_domain::ledger::{self, LedgerEntry, LedgerSums};

use crate::error::StoreError;
use crate::journal::{JournalError, JournalReport};
use crate::ledger::{LedgerStore, TotalsDifference};
use crate::rollup::{RollUp, RollUpLine};

const INPUT: &str = "input + cached_input + cached_audio_input + cached_image_input + cache_write_5m + \
     cache_write_30m + cache_write_1h + cache_write_12h + audio_input + image_input + citation";
const OUTPUT: &str = "output + reasoning + accepted_prediction + rejected_prediction + \
     audio_output + image_output";

/// The sums of a group of entries in SQL that both databases read, by the same definitions as
/// [`LedgerEntry::sums`], in the order of [`crate::cost_sql::COUNTS`]. `unpriced` says where there is no
/// cost.
pub(crate) fn entry_sums(unpriced: &str) -> [String; 9] {
    let counts = format!("(last OR {INPUT} + {OUTPUT} > 0)");
    let when = |condition: &str| format!("sum(CASE WHEN {condition} THEN 1 ELSE 0 END)");
    [
        when("last"),
        format!("sum({INPUT})"),
        "sum(cached_input + cached_audio_input + cached_image_input)".to_owned(),
        "sum(cache_write_5m + cache_write_30m + cache_write_1h + cache_write_12h)".to_owned(),
        format!("sum({OUTPUT})"),
        "sum(reasoning)".to_owned(),
        when(&format!("{unpriced} AND {counts}")),
        when(&format!("estimated IS NOT NULL AND {counts}")),
        when(&format!("inexact IS NOT NULL AND {counts}")),
    ]
}

/// Result of a verification.
#[derive(Clone, Debug, Default)]
pub struct Verification {
    /// Settled entries in the journal.
    pub journalled: usize,
    /// Of them, stored without a difference.
    pub stored: usize,
    /// Settled in the journal, not yet in the store.
    pub pending: Vec<uuid::Uuid>,
    /// Stored with a difference.
    pub altered: Vec<uuid::Uuid>,
    /// Journalled more than once with different content.
    pub contradictory: Vec<uuid::Uuid>,
    /// Begun and not settled: in flight, or lost and billed at the next start.
    pub open: usize,
    /// Damaged places in the journal.
    pub damaged: usize,
    /// Records of a newer version of the router, which this one can't read.
    pub newer: usize,
    /// Sums that don't agree with the entries.
    pub sums: Vec<TotalsDifference>,
}

impl Verification {
    /// Returns true if everything agrees. Pending entries are no disagreement.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.altered.is_empty()
            && self.contradictory.is_empty()
            && self.sums.is_empty()
            && self.damaged == 0
    }
}

/// Errors of a verification.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The journal can't be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Compares a journal, as [`crate::journal::inspect`] read it, with a store, and the store's
/// entries with its sums.
///
/// # Errors
/// Returns an error if the store can't be read.
pub async fn verify(
    journal: &JournalReport,
    store: &dyn LedgerStore,
) -> Result<Verification, VerifyError> {
    let mut found = Verification {
        journalled: journal.settled.len(),
        contradictory: journal.contradictory.clone(),
        open: journal.open,
        damaged: journal.damaged,
        newer: journal.newer,
        sums: store.check_sums().await?,
        ..Verification::default()
    };
    let ids: Vec<_> = journal.settled.keys().copied().collect();
    let stored = store.entries(&ids).await?;
    let stored: BTreeMap<_, _> = stored
        .into_iter()
        .map(|entry| (entry.attempt.id, entry))
        .collect();
    for (id, entry) in &journal.settled {
        match stored.get(id) {
            None => found.pending.push(*id),
            Some(other) if same(entry, other) => found.stored += 1,
            Some(_) => found.altered.push(*id),
        }
    }
    Ok(found)
}

/// Returns true if two entries are equal. Times are compared in the precision of stores.
fn same(one: &LedgerEntry, other: &LedgerEntry) -> bool {
    let mut one = one.clone();
    one.attempt.at =
        Timestamp::from_microsecond(one.attempt.at.as_microsecond()).unwrap_or_default();
    one == *other
}

/// Returns the rows of a roll-up that differ from the entries, for the days that are still
/// complete.
pub(crate) fn compare_sums(
    roll_up: RollUp,
    found: BTreeMap<RollUpLine, LedgerSums>,
    expected: BTreeMap<RollUpLine, LedgerSums>,
    pruned_to: Timestamp,
) -> Vec<TotalsDifference> {
    let kept = |day: Date| pruned_to == Timestamp::UNIX_EPOCH || day > ledger::day(pruned_to);
    let mut lines: Vec<&RollUpLine> = found.keys().chain(expected.keys()).collect();
    lines.sort_unstable();
    lines.dedup();
    lines
        .into_iter()
        .filter(|(day, _)| kept(*day))
        .filter(|line| found.get(*line) != expected.get(*line))
        .map(|line| TotalsDifference {
            place: format!("{} {} {}", roll_up.table(), line.0, line.1.join("/")),
            expected: expected.get(line).copied(),
            found: found.get(line).copied(),
        })
        .collect()
}
