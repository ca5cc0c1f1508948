//! Quantiles of durations in bounded memory: counts in buckets whose bounds grow by a fixed factor,
//! so that every quantile is off by at most 5 % of itself. Written by many threads without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Durations from 50 µs to about 20 minutes have buckets of their own.
const BUCKETS: usize = 180;

/// Smallest value distinguished, in seconds; smaller ones count as this.
const LEAST: f64 = 50e-6;

/// Each bucket's upper bound is this many times its lower one.
const GROWTH: f64 = 1.1;

/// Counts of durations. Quantiles are over all durations ever recorded.
#[derive(Debug)]
pub struct Sketch {
    counts: [AtomicU64; BUCKETS],
}

impl Default for Sketch {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; BUCKETS],
        }
    }
}

impl Sketch {
    /// Counts a duration.
    pub fn note(&self, duration: Duration) {
        self.counts[bucket(duration.as_secs_f64())].fetch_add(1, Ordering::Relaxed);
    }

    /// The durations that these shares (from 0 to 1) of all are not longer than, in seconds; none if
    /// nothing was noted.
    #[must_use]
    pub fn quantiles<const N: usize>(&self, shares: [f64; N]) -> Option<[f64; N]> {
        let counts: Vec<u64> = self
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .collect();
        let total: u64 = counts.iter().sum();
        (total > 0).then(|| shares.map(|share| quantile(&counts, total, share)))
    }
}

fn quantile(counts: &[u64], total: u64, share: f64) -> f64 {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a rank among counts, from 1 to all of them"
    )]
    let rank = ((total as f64 * share.clamp(0.0, 1.0)).ceil() as u64).clamp(1, total);
    let mut seen = 0;
    let at = counts.iter().position(|count| {
        seen += count;
        seen >= rank
    });
    middle(at.unwrap_or(BUCKETS - 1))
}

fn bucket(seconds: f64) -> usize {
    let steps = (seconds / LEAST).ln() / GROWTH.ln();
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is clamped to the buckets there are"
    )]
    let at = steps.clamp(0.0, (BUCKETS - 1) as f64) as usize;
    at
}

/// The value of a bucket that is off from both its bounds by the same share of them.
fn middle(bucket: usize) -> f64 {
    let exponent = i32::try_from(bucket).unwrap_or(i32::MAX);
    LEAST * GROWTH.powi(exponent) * 2.0 * GROWTH / (1.0 + GROWTH)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_has_no_quantiles() {
        assert_eq!(Sketch::default().quantiles([0.5]), None);
    }

    #[test]
    fn what_is_too_short_or_too_long_is_counted_at_the_ends() {
        let sketch = Sketch::default();
        sketch.note(Duration::ZERO);
        sketch.note(Duration::from_secs(1_000_000));
        let [short, long] = sketch.quantiles([0.5, 1.0]).unwrap();
        assert!(short < 60e-6 && long > 1_200.0, "{short} {long}");
    }

    proptest! {
        #[test]
        fn quantiles_are_off_by_five_percent_at_most(
            mut micros in prop::collection::vec(50_u64..1_000_000_000, 1..300),
            share in 0.0..=1.0_f64,
        ) {
            let sketch = Sketch::default();
            for one in &micros {
                sketch.note(Duration::from_micros(*one));
            }
            micros.sort_unstable();
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a rank among a few hundred"
            )]
            let rank = ((micros.len() as f64 * share).ceil() as usize).clamp(1, micros.len());
            let exact = Duration::from_micros(micros[rank - 1]).as_secs_f64();
            let [found] = sketch.quantiles([share]).unwrap();
            prop_assert!((found / exact - 1.0).abs() <= 0.0501, "{found} for {exact}");
        }
    }
}
