//! Recent records of the journal in memory, so that moving them to the store needn't read them
//! back. It must not be their only place: the file is authoritative, this is a bounded cache.

use std::collections::VecDeque;

use llm_router_domain::ledger::LedgerEntry;
use uuid::Uuid;

/// A segment and how much of it was written.
pub(super) type Position = (u64, u64);

/// Records that are remembered. A store that keeps up leaves a few hundred; past this the file is
/// read instead, so that one that is away costs no memory.
const MOST: usize = 8_192;

/// Content of a record.
#[derive(Debug)]
pub(super) enum RecentRecord {
    /// This attempt goes upstream.
    Opened(Uuid),
    /// It has ended.
    Settled(Box<LedgerEntry>),
}

/// The records since some position, without a gap; or none.
#[derive(Debug, Default)]
pub(super) struct Recent {
    /// Position of the first record, if there is any.
    from: Option<Position>,
    records: VecDeque<(Position, RecentRecord)>,
}

impl Recent {
    /// Begins to remember at `position`, unless that is done and the reader, who stands at `at`,
    /// has not passed by what is remembered.
    pub(super) fn begin(&mut self, position: Position, at: Position) {
        if self.from.is_none_or(|from| from < at) {
            self.from = Some(position);
            self.records.clear();
        }
    }

    /// Remembers a record that ends at `end`.
    pub(super) fn note(&mut self, end: Position, noted: RecentRecord) {
        if self.from.is_none() {
            return;
        }
        if self.records.len() >= MOST {
            *self = Self::default();
            return;
        }
        self.records.push_back((end, noted));
    }

    /// The records after `from`, at most `most` of them, each with its segment, and where they end;
    /// `now` if all were taken. None if they are not remembered.
    pub(super) fn take(
        &mut self,
        from: Position,
        now: Position,
        most: usize,
    ) -> Option<(Vec<(u64, RecentRecord)>, Position)> {
        if self.from != Some(from) {
            return None;
        }
        let mut end = from;
        let count = most.min(self.records.len());
        let taken = self.records.drain(..count).map(|(position, noted)| {
            end = position;
            (position.0, noted)
        });
        let taken = taken.collect();
        if self.records.is_empty() {
            end = now;
        }
        self.from = Some(end);
        Some((taken, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened_record(number: u128) -> RecentRecord {
        RecentRecord::Opened(Uuid::from_u128(number))
    }

    fn take_from(recent: &mut Recent, from: Position, most: usize) -> Option<(usize, Position)> {
        let (records, end) = recent.take(from, (9, 9), most)?;
        Some((records.len(), end))
    }

    #[test]
    fn records_are_given_once_in_parts_from_where_the_reader_stands() {
        let mut recent = Recent::default();
        recent.note((1, 10), opened_record(0));
        assert_eq!(
            take_from(&mut recent, (1, 10), 5),
            None,
            "nothing was asked for yet"
        );
        recent.begin((1, 10), (1, 0));
        for end in [20, 30, 40] {
            recent.note((1, end), opened_record(u128::from(end)));
        }
        recent.begin((1, 40), (1, 10));
        assert_eq!(take_from(&mut recent, (1, 20), 5), None, "another place");
        assert_eq!(take_from(&mut recent, (1, 10), 2), Some((2, (1, 30))));
        assert_eq!(take_from(&mut recent, (1, 30), 2), Some((1, (9, 9))));
        assert_eq!(take_from(&mut recent, (9, 9), 2), Some((0, (9, 9))));
        recent.note((9, 20), opened_record(9));
        recent.begin((9, 20), (9, 20));
        assert_eq!(
            take_from(&mut recent, (9, 20), 2),
            Some((0, (9, 9))),
            "read from the file"
        );
    }

    #[test]
    fn too_many_are_forgotten_and_begun_anew() {
        let mut recent = Recent::default();
        recent.begin((1, 0), (1, 0));
        for end in 1..=MOST as u64 + 1 {
            recent.note((1, end), opened_record(u128::from(end)));
        }
        assert_eq!(take_from(&mut recent, (1, 0), 1), None);
        recent.begin((1, 50), (1, 0));
        recent.note((2, 7), opened_record(1));
        assert_eq!(take_from(&mut recent, (1, 50), 9), Some((1, (9, 9))));
    }
}
