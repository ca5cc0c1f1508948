//! Arithmetic on samples: percentiles, medians, pairwise comparison. No measuring here.

use serde::Serialize;

/// Order statistics of a set of durations, in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct SampleSummary {
    /// Number of samples.
    pub(crate) count: usize,
    pub(crate) min: u64,
    pub(crate) p50: u64,
    pub(crate) p99: u64,
    pub(crate) max: u64,
}

impl SampleSummary {
    /// Sorts and summarises; all zero without samples.
    pub(crate) fn from_samples(mut samples: Vec<u64>) -> Self {
        samples.sort_unstable();
        Self {
            count: samples.len(),
            min: samples.first().copied().unwrap_or(0),
            p50: percentile(&samples, 50.0),
            p99: percentile(&samples, 99.0),
            max: samples.last().copied().unwrap_or(0),
        }
    }

    /// One line for people, in milliseconds.
    pub(crate) fn line(&self) -> String {
        format!(
            "p50 {:.3} ms, p99 {:.3} ms, max {:.3} ms (of {})",
            millis(self.p50),
            millis(self.p99),
            millis(self.max),
            self.count
        )
    }
}

/// Nanoseconds as milliseconds.
pub(crate) fn millis(nanos: u64) -> f64 {
    nanos as f64 / 1e6
}

/// The nearest-rank percentile (0–100) of sorted samples: the smallest sample with at least
/// `percent` of all samples at or below it. 0 without samples.
pub(crate) fn percentile(sorted: &[u64], percent: f64) -> u64 {
    let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .or(sorted.last())
        .copied()
        .unwrap_or(0)
}

/// A median with the range it was taken from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Summarises `values`; all zero without values.
    pub(crate) fn from_values(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (sorted.first(), sorted.last()) else {
            return Self::default();
        };
        Self {
            median: middle(&sorted),
            min,
            max,
        }
    }

    /// Compares the pairs of two equally long series one by one: taken in the same round they
    /// share the machine's mood, so that the quotient or difference is steadier than either.
    pub(crate) fn from_pairs(ours: &[f64], base: &[f64], compare: fn(f64, f64) -> f64) -> Self {
        let pairs: Vec<f64> = ours
            .iter()
            .zip(base)
            .map(|(&a, &b)| compare(a, b))
            .collect();
        Self::from_values(&pairs)
    }
}

fn middle(sorted: &[f64]) -> f64 {
    let half = sorted.len() / 2;
    let upper = sorted.get(half).copied().unwrap_or(0.0);
    if sorted.len() % 2 == 1 {
        return upper;
    }
    let lower = half
        .checked_sub(1)
        .and_then(|index| sorted.get(index))
        .copied();
    lower.map_or(upper, |lower| f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_rank() {
        let hundred: Vec<u64> = (1..=100).collect();
        let table: &[(&[u64], f64, u64)] = &[
            (&hundred, 50.0, 50),
            (&hundred, 99.0, 99),
            (&hundred, 100.0, 100),
            (&hundred, 0.0, 1),
            (&[7], 50.0, 7),
            (&[7], 99.0, 7),
            (&[1, 9], 50.0, 1),
            (&[1, 9], 51.0, 9),
            (&[], 50.0, 0),
        ];
        for &(samples, percent, expected) in table {
            assert_eq!(
                percentile(samples, percent),
                expected,
                "{percent} of {samples:?}"
            );
        }
    }

    #[test]
    fn a_summary_sorts_first() {
        let summary = SampleSummary::from_samples(vec![30, 10, 20]);
        assert_eq!(
            summary,
            SampleSummary {
                count: 3,
                min: 10,
                p50: 20,
                p99: 30,
                max: 30
            }
        );
        assert_eq!(
            SampleSummary::from_samples(vec![]),
            SampleSummary::default()
        );
    }

    #[test]
    fn medians_of_odd_and_even_counts() {
        let table: &[(&[f64], f64, f64, f64)] = &[
            (&[3.0, 1.0, 2.0], 2.0, 1.0, 3.0),
            (&[4.0, 1.0, 2.0, 3.0], 2.5, 1.0, 4.0),
            (&[5.0], 5.0, 5.0, 5.0),
            (&[], 0.0, 0.0, 0.0),
        ];
        for &(values, median, min, max) in table {
            assert_eq!(
                Spread::from_values(values),
                Spread { median, min, max },
                "{values:?}"
            );
        }
    }

    #[test]
    fn pairs_cancel_what_both_share() {
        let noise = [1.0, 3.0, 10.0];
        let base: Vec<f64> = noise.iter().map(|n| 10.0 * n).collect();
        let ours: Vec<f64> = noise.iter().map(|n| 12.0 * n).collect();
        let ratio = Spread::from_pairs(&ours, &base, |a, b| a / b);
        assert!((ratio.median - 1.2).abs() < 1e-12 && (ratio.max - ratio.min).abs() < 1e-12);
    }
}
