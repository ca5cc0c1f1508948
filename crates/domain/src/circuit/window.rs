//! The share of failures over a sliding window, counted in slots of time. It draws no conclusions.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{CircuitSettings, millis};

const SLOTS: usize = 10;

/// Counts of requests and failures over the last slots of time. Each slot packs the time it is for
/// (24 bits), failures and all (20 bits each).
#[derive(Debug, Default)]
pub(super) struct Window([AtomicU64; SLOTS]);

const COUNT_BITS: u32 = 20;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const EPOCH_MAX: u64 = (1 << 24) - 1;

impl Window {
    fn epoch(ms: u64, settings: &CircuitSettings) -> u64 {
        ms / (millis(settings.window) / SLOTS as u64).max(1)
    }

    /// Adds a request.
    pub(super) fn add(&self, failure: bool, ms: u64, settings: &CircuitSettings) {
        self.count(u64::from(failure), 1, ms, settings);
    }

    /// Makes a failure of a request that was added as a success.
    pub(super) fn fail_added(&self, ms: u64, settings: &CircuitSettings) {
        self.count(1, 0, ms, settings);
    }

    fn count(&self, failed: u64, requests: u64, ms: u64, settings: &CircuitSettings) {
        let epoch = Self::epoch(ms, settings);
        let slot = &self.0[(epoch % SLOTS as u64) as usize];
        let epoch = epoch & EPOCH_MAX;
        let added = |word: u64| {
            let (failures, all) = if word >> (2 * COUNT_BITS) == epoch {
                counts(word)
            } else {
                (0, 0)
            };
            let failures = (failures + failed).min(COUNT_MAX);
            let all = (all + requests).min(COUNT_MAX);
            Some(epoch << (2 * COUNT_BITS) | failures << COUNT_BITS | all)
        };
        // The closure never declines, so there is no error to handle.
        let _ = slot.fetch_update(Relaxed, Relaxed, added);
    }

    pub(super) fn too_many(&self, ms: u64, settings: &CircuitSettings) -> bool {
        let now = Self::epoch(ms, settings);
        let recent = self.0.iter().map(|slot| slot.load(Relaxed)).filter(|word| {
            let age = now.wrapping_sub(word >> (2 * COUNT_BITS)) & EPOCH_MAX;
            age < SLOTS as u64
        });
        let (failures, all) = recent
            .map(counts)
            .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1));
        all >= u64::from(settings.least_volume)
            && failures as f64 >= settings.failure_share * all as f64
    }

    pub(super) fn clear(&self) {
        self.0.iter().for_each(|slot| slot.store(0, Relaxed));
    }
}

const fn counts(word: u64) -> (u64, u64) {
    (word >> COUNT_BITS & COUNT_MAX, word & COUNT_MAX)
}
