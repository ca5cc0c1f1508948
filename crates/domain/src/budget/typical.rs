//! Typical output of a model, learned from its answers: the estimate for calls without
//! `max_tokens`. It must not know what tokens cost.

use std::collections::HashMap;

/// Estimate for a model without any answers.
const UNKNOWN: u64 = 1_024;

/// Divisor of the decay: a peak loses this part of itself with every smaller answer.
const DECAY: u64 = 32;

/// Most models remembered. The table is cleared beyond it, because clients choose the names.
const MAX_MODELS: usize = 10_000;

/// Decaying peak of output tokens, by provider and model.
///
/// The peak, not the mean: reserving the mean would overshoot a budget with every second call.
#[derive(Debug, Default)]
pub struct TypicalOutput {
    peaks: HashMap<(Box<str>, Box<str>), u64>,
}

impl TypicalOutput {
    /// Records the output tokens of an answer.
    pub fn observe(&mut self, provider: &str, model: &str, output: u64) {
        if self.peaks.len() >= MAX_MODELS {
            self.peaks.clear();
        }
        let peak = self
            .peaks
            .entry((provider.into(), model.into()))
            .or_insert(output);
        *peak = output.max(peak.saturating_sub(peak.div_ceil(DECAY)));
    }

    /// Returns the output tokens to reserve: the client's limit, else the typical output.
    #[must_use]
    pub fn estimate(&self, provider: &str, model: &str, max_tokens: Option<u64>) -> u64 {
        let typical = || self.peaks.get(&(provider.into(), model.into())).copied();
        max_tokens.unwrap_or_else(|| typical().unwrap_or(UNKNOWN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_peaks_at_once_and_lets_them_fade() {
        let mut typical = TypicalOutput::default();
        assert_eq!(typical.estimate("p", "m", None), UNKNOWN);
        typical.observe("p", "m", 100);
        typical.observe("p", "m", 3_200);
        assert_eq!(typical.estimate("p", "m", None), 3_200);
        assert_eq!(typical.estimate("p", "m", Some(50)), 50);
        for _ in 0..200 {
            typical.observe("p", "m", 100);
        }
        assert_eq!(typical.estimate("p", "m", None), 100);
        assert_eq!(typical.estimate("p", "other", None), UNKNOWN);
    }
}
