//! How much output a model typically gives, learned from what it gave: the estimate for calls
//! that name no `max_tokens`.

use std::collections::HashMap;

/// Assumed of a model nothing is known of.
const UNKNOWN: u64 = 1_024;

/// A decayed peak loses this part of itself with every smaller answer.
const DECAY: u64 = 32;

/// Models that are remembered; past it the table is begun anew, for names come from clients.
const MAX_MODELS: usize = 10_000;

/// A decaying peak of output tokens by provider and model.
///
/// The peak, not the mean: a budget that reserves the mean is overshot by every second call.
#[derive(Debug, Default)]
pub struct TypicalOutput {
    peaks: HashMap<(Box<str>, Box<str>), u64>,
}

impl TypicalOutput {
    /// Learns from an answer.
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

    /// Output tokens to reserve: what the client allows, else what is typical.
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
