//! Factor by which a provider counts more input than was reserved, learned from its counts. Later
//! calls reserve that much more. It must not know what tokens cost.

use std::collections::HashMap;

/// Factor of a count equal to the reserved one, in hundredths.
const EVEN: u64 = 100;

/// Largest factor accepted, in hundredths: one absurd count must not block a model.
const LARGEST: u64 = 1_600;

/// Divisor of the decay: with every smaller count a peak loses this part of its excess over [`EVEN`].
const DECAY: u64 = 256;

/// Most models remembered. The table is cleared beyond it, because clients choose the names.
const MAX_MODELS: usize = 10_000;

/// Decaying peak of counted over reserved input, by provider and model.
#[derive(Debug, Default)]
pub struct InputMargin {
    peaks: HashMap<(Box<str>, Box<str>), u64>,
}

impl InputMargin {
    /// Records the provider's count for a call that reserved `held` tokens.
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

    /// Returns the tokens to reserve for a call whose input is at most `input` by our count.
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
