//! Watches what the ledger relies on: this machine's clock, by the store's and the newest entry's, and
//! the files of journal and store. It reports and repairs nothing.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use llm_router_store::LedgerStore;
use llm_router_store::journal::Journal;
use llm_router_store::ledger::StoreInspection;
use prometheus::{IntGauge, IntGaugeVec};

use crate::clock;

/// Gauges of what is watched.
#[derive(Clone)]
pub(super) struct WatchGauges {
    /// Seconds by which this machine's clock is ahead.
    pub(super) clock_offset: IntGauge,
    /// Set to 1 for each file that is gone, by `file`.
    pub(super) lost_files: IntGaugeVec,
}

/// Conditions that were reported, each until it has ended.
#[derive(Default)]
struct Reported {
    clock: bool,
    journal: bool,
    database: bool,
}

/// Interval of the checks.
const INTERVAL: Duration = Duration::from_secs(10);

/// Seconds by which a clock may differ before that is reported.
const TOLERANCE: i64 = 60;

/// Checks clock and files until the runtime stops.
pub(super) async fn watch(journal: Journal, store: Arc<dyn LedgerStore>, gauges: WatchGauges) {
    let mut reported = Reported::default();
    loop {
        let path = journal.lost_file();
        report_file("journal", path, &gauges, &mut reported.journal);
        // A store that doesn't answer is reported where it is used.
        if let Ok(inspection) = store.inspect().await {
            let path = inspection.lost_file.clone();
            report_file("database", path, &gauges, &mut reported.database);
            report_clock(
                &inspection,
                clock::timestamp(),
                &gauges,
                &mut reported.clock,
            );
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn report_file(
    file: &'static str,
    lost: Option<PathBuf>,
    gauges: &WatchGauges,
    reported: &mut bool,
) {
    let gauge = gauges.lost_files.with_label_values(&[file]);
    gauge.set(i64::from(lost.is_some()));
    match lost {
        Some(path) if !*reported => tracing::error!(
            path = %path.display(),
            "the file of the {file} was deleted or replaced while the router runs; entries are lost \
             if the process ends: restore it from a backup and restart"
        ),
        None if *reported => tracing::info!("the file of the {file} is in place again"),
        _ => {}
    }
    *reported = gauge.get() == 1;
}

fn report_clock(
    inspection: &StoreInspection,
    now: Timestamp,
    gauges: &WatchGauges,
    reported: &mut bool,
) {
    let offset = clock_offset(inspection, now);
    gauges.clock_offset.set(offset);
    let is_far = offset.abs() > TOLERANCE;
    if is_far && !*reported {
        let by = if inspection
            .clock
            .is_some_and(|clock| seconds_since(clock, now) == offset)
        {
            "the store's clock"
        } else {
            "the newest entry of the ledger"
        };
        tracing::warn!(
            offset_seconds = offset,
            "the clock of this machine is far from {by}; entries, prices and periods of budgets go by it"
        );
    } else if !is_far && *reported {
        tracing::info!("the clock of this machine is right again");
    }
    *reported = is_far;
}

/// Returns the seconds by which `now` is ahead of the store's clock; negative if it is behind, also
/// behind the newest entry.
fn clock_offset(inspection: &StoreInspection, now: Timestamp) -> i64 {
    let ahead = inspection
        .clock
        .map_or(0, |clock| seconds_since(clock, now));
    let behind_entry = inspection
        .newest_entry
        .map_or(0, |at| seconds_since(at, now).min(0));
    if ahead.abs() > TOLERANCE {
        ahead
    } else {
        ahead.min(behind_entry)
    }
}

fn seconds_since(earlier: Timestamp, now: Timestamp) -> i64 {
    now.as_second() - earlier.as_second()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn clocks_are_compared_with_the_stores_and_the_newest_entrys() {
        let now: Timestamp = "2026-11-24T12:00:00Z".parse().unwrap();
        let at = |seconds| now.checked_add(SignedDuration::from_secs(seconds)).ok();
        for (clock, newest_entry, offset) in [
            (None, None, 0),
            (None, at(-86_400), 0),
            // Nothing was written in the future: this clock is behind.
            (None, at(3_600), -3_600),
            (at(1), at(-5), -1),
            (at(-3_600), at(-7_200), 3_600),
            (at(3_600), at(3_599), -3_600),
            // The store's clock is right, so an entry was written while this one was ahead.
            (at(0), at(86_400), -86_400),
        ] {
            let inspection = StoreInspection {
                clock,
                newest_entry,
                lost_file: None,
            };
            assert_eq!(clock_offset(&inspection, now), offset, "{inspection:?}");
        }
    }
}
