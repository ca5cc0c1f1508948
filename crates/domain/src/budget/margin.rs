//! How far a provider counts more input than was held for it, learned from its own counts: the
//! factor by which later calls hold more.

use std::collections::HashMap;

/// A count as large as what was held, in hundredths.
const EVEN: u64 = 100;

/// The largest factor that is believed, in hundredths: one absurd count must not close a model.
const LARGEST: u64 = 1_600;

/// A decayed peak loses this part of what it is above [`EVEN`] with every smaller count.
const DECAY: u64 = 256;

/// Models that are remembered; past it the table is begun anew, for names come from clients.
const MAX_MODELS: usize = 10_000;

/// A decaying peak of counted over held input, by provider and model.
#[derive(Debug, Default)]
pub struct InputMargin {
    peaks: HashMap<(Box<str>, Box<str>), u64>,
}

impl InputMargin {
    /// Learns from what a provider counted for a call that `held` was held for.
    pub fn observe(&mut self, provider: &str, model: &str, held: u64, counted: u64) {
        if held == 0 {
            return;
        }
        let factor = counted
            .saturating_mul(EVEN)
            .div_ceil(held)
            .clamp(EVEN, LARGEST);
        let line = (provider.into(), model.into());
        match self.peaks.get_mut(&line) {
            Some(peak) => *peak = factor.max(*peak - (*peak - EVEN).div_ceil(DECAY)),
            None if factor == EVEN => {}
            None => {
                if self.peaks.len() >= MAX_MODELS {
                    self.peaks.clear();
                }
                self.peaks.insert(line, factor);
            }
        }
    }

    /// What to hold for a call whose input is believed to be `input` at most.
    #[must_use]
    pub fn apply(&self, provider: &str, model: &str, input: u64) -> u64 {
        if self.peaks.is_empty() {
            return input;
        }
        let peak = self.peaks.get(&(provider.into(), model.into()));
        let factor = peak.copied().unwrap_or(EVEN);
        input.saturating_mul(factor).div_ceil(EVEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_what_is_counted_and_forgets_slowly() {
        let mut margin = InputMargin::default();
        assert_eq!(margin.apply("p", "m", 50), 50);
        margin.observe("p", "m", 100, 80);
        assert_eq!(margin.apply("p", "m", 50), 50);
        margin.observe("p", "m", 100, 250);
        assert_eq!(margin.apply("p", "m", 50), 125);
        assert_eq!(margin.apply("p", "other", 50), 50);
        margin.observe("p", "m", 100, 1_000_000);
        assert_eq!(margin.apply("p", "m", 50), 800);
        for _ in 0..5_000 {
            margin.observe("p", "m", 100, 100);
        }
        assert_eq!(margin.apply("p", "m", 50), 50);
        margin.observe("p", "m", 0, 9);
    }
}
