//! Peak EWMA: an estimate of latency that rises at once with a slow answer and falls off in time.
//!
//! After Twitter Finagle's `PeakEwma` (2014): a sample above the estimate replaces it, one below is
//! averaged in, and what isn't renewed decays, so that a deployment that was slow once is tried
//! again. One word in an atomic holds the estimate and its age.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

/// In this time an estimate that isn't renewed falls to 37 %.
const DECAY: Duration = Duration::from_secs(10);

/// An estimate of the time to the first token.
#[derive(Debug)]
pub(super) struct LatencyEstimate {
    origin: Instant,
    /// Seconds as the bits of an `f32`, and milliseconds since `origin`; 0: not measured yet.
    word: AtomicU64,
}

impl LatencyEstimate {
    pub(super) const fn new(origin: Instant) -> Self {
        Self {
            origin,
            word: AtomicU64::new(0),
        }
    }

    /// The estimate in seconds; `None` before the first sample.
    pub(super) fn estimate(&self, now: Instant) -> Option<f64> {
        let word = self.word.load(Relaxed);
        (word != 0).then(|| {
            let (seconds, stamp) = unpack(word);
            seconds * decay(stamp, self.stamp(now))
        })
    }

    pub(super) fn observe(&self, sample: Duration, now: Instant) {
        let (sample, stamp) = (sample.as_secs_f64().max(1e-6), self.stamp(now));
        let renewed = |word: u64| {
            if word == 0 {
                return Some(pack(sample, stamp));
            }
            let (seconds, before) = unpack(word);
            let weight = decay(before, stamp);
            let decayed = seconds * weight;
            let seconds = if sample >= decayed {
                sample
            } else {
                decayed + sample * (1.0 - weight)
            };
            Some(pack(seconds, stamp))
        };
        // The closure never declines, so there is no error to handle.
        let _ = self.word.fetch_update(Relaxed, Relaxed, renewed);
    }

    /// A request that was never answered had waited this long: an answer takes at least that. It
    /// says nothing of a deployment that hasn't answered yet: failing fast must not make it look
    /// fast.
    pub(super) fn observe_at_least(&self, waited: Duration, now: Instant) {
        if self
            .estimate(now)
            .is_some_and(|estimate| waited.as_secs_f64() > estimate)
        {
            self.observe(waited, now);
        }
    }

    /// Milliseconds, wrapped after 49 days: only differences count.
    fn stamp(&self, now: Instant) -> u32 {
        now.saturating_duration_since(self.origin).as_millis() as u32
    }
}

fn decay(from: u32, to: u32) -> f64 {
    // A stamp may be a little ahead of the reader's clock, which then is no time at all.
    let passed = to.wrapping_sub(from);
    let passed = if passed > u32::MAX / 2 { 0 } else { passed };
    (-f64::from(passed) / 1_000.0 / DECAY.as_secs_f64()).exp()
}

fn pack(seconds: f64, stamp: u32) -> u64 {
    u64::from((seconds as f32).to_bits()) << 32 | u64::from(stamp)
}

fn unpack(word: u64) -> (f64, u32) {
    (f64::from(f32::from_bits((word >> 32) as u32)), word as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "tests count from any instant")]
    fn latency() -> (LatencyEstimate, Instant) {
        let now = Instant::now();
        (LatencyEstimate::new(now), now)
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn rises_at_once_and_falls_in_time() {
        let (latency, now) = latency();
        assert_eq!(latency.estimate(now), None);
        latency.observe(ms(100), now);
        let near = |at: u64, want: f64| {
            let estimate = latency.estimate(now + ms(at)).unwrap();
            assert!(
                (estimate - want).abs() < 0.02 * want,
                "{at}: {estimate} for {want}"
            );
        };
        near(0, 0.1);
        near(10_000, 0.0368);
        latency.observe(ms(1_000), now + ms(100));
        near(100, 1.0);
        latency.observe(ms(100), now + ms(200));
        near(200, 0.991);
        latency.observe(ms(100), now + ms(60_000));
        near(60_000, 0.1);
    }

    #[test]
    fn a_wait_only_raises() {
        let (latency, now) = latency();
        latency.observe_at_least(ms(1), now);
        assert_eq!(latency.estimate(now), None);
        latency.observe(ms(500), now);
        latency.observe_at_least(ms(100), now);
        assert!(latency.estimate(now).unwrap() > 0.49);
        latency.observe_at_least(ms(900), now);
        assert!(latency.estimate(now).unwrap() > 0.89);
    }
}
