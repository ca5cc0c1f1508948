//! Token counts by class, in the mock's own convention. It must not know how a format writes them.

use fastrand::Rng;
use serde::{Deserialize, Serialize};

/// Tokens by class. `input` counts all input, cached and cache-written included; `output` counts
/// all output, reasoning included.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct MockUsage {
    /// All input tokens.
    pub input: u64,
    /// Input tokens read from the provider's cache.
    pub cached: u64,
    /// Input tokens written to the cache for five minutes.
    pub cache_write_5m: u64,
    /// Input tokens written to the cache for an hour.
    pub cache_write_1h: u64,
    /// All output tokens.
    pub output: u64,
    /// Output tokens spent on reasoning.
    pub reasoning: u64,
}

impl MockUsage {
    /// Input tokens written to the cache, whatever their lifetime.
    #[must_use]
    pub fn cache_write(&self) -> u64 {
        self.cache_write_5m.saturating_add(self.cache_write_1h)
    }

    /// Input tokens neither read from nor written to the cache: Anthropic's `input_tokens`.
    #[must_use]
    pub fn uncached_input(&self) -> u64 {
        self.input
            .saturating_sub(self.cached)
            .saturating_sub(self.cache_write())
    }

    /// Input and output together: OpenAI's `total_tokens`.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// Adds another request's counts.
    pub fn add(&mut self, other: &Self) {
        for (sum, more) in self.classes_mut().into_iter().zip(other.classes()) {
            *sum = sum.saturating_add(more);
        }
    }

    /// Returns the usage after `sent` of `whole` parts of an answer: the input in full, the output
    /// in proportion, reasoning first.
    pub(crate) fn served_share(&self, sent: u64, whole: u64) -> Self {
        if sent >= whole {
            return *self;
        }
        let share = u128::from(self.output) * u128::from(sent) / u128::from(whole);
        let output = u64::try_from(share).unwrap_or(self.output);
        Self {
            output,
            reasoning: self.reasoning.min(output),
            ..*self
        }
    }

    /// The same counts with every total at least the sum of its parts.
    pub(crate) fn clamp_parts(self) -> Self {
        let parts = self.cached.saturating_add(self.cache_write());
        Self {
            input: self.input.max(parts),
            output: self.output.max(self.reasoning),
            ..self
        }
    }

    /// Plausible counts of every class, drawn from `rng`.
    pub(crate) fn random(rng: &mut Rng) -> Self {
        let input = rng.u64(1..=100_000);
        let cached = rng.u64(0..=input);
        let cache_write_5m = rng.u64(0..=input - cached);
        let cache_write_1h = rng.u64(0..=input - cached - cache_write_5m);
        let output = rng.u64(1..=8_000);
        let reasoning = rng.u64(0..=output);
        Self {
            input,
            cached,
            cache_write_5m,
            cache_write_1h,
            output,
            reasoning,
        }
    }

    fn classes(&self) -> [u64; 6] {
        let Self {
            input,
            cached,
            cache_write_5m,
            cache_write_1h,
            output,
            reasoning,
        } = *self;
        [
            input,
            cached,
            cache_write_5m,
            cache_write_1h,
            output,
            reasoning,
        ]
    }

    fn classes_mut(&mut self) -> [&mut u64; 6] {
        let Self {
            input,
            cached,
            cache_write_5m,
            cache_write_1h,
            output,
            reasoning,
        } = self;
        [
            input,
            cached,
            cache_write_5m,
            cache_write_1h,
            output,
            reasoning,
        ]
    }
}

/// Usage as a control asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UsageControl {
    Exact(MockUsage),
    Random,
}

impl UsageControl {
    /// Reads `random`, a JSON object or a list such as `input=10,cached=4,output=2`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text == "random" {
            return Ok(Self::Random);
        }
        let usage = if text.starts_with('{') {
            parse_json(text)?
        } else {
            parse_list(text)?
        };
        Ok(Self::Exact(usage.clamp_parts()))
    }
}

fn parse_json(text: &str) -> Result<MockUsage, String> {
    serde_json::from_str(text).map_err(|error| format!("is no usage: {error}"))
}

fn parse_list(text: &str) -> Result<MockUsage, String> {
    let mut usage = MockUsage::default();
    for pair in text.split(',') {
        let (class, count) = pair.split_once('=').ok_or("is a list of class=count")?;
        let count = count
            .trim()
            .parse()
            .map_err(|_| format!("has no count in `{pair}`"))?;
        *class_mut(&mut usage, class.trim())? = count;
    }
    Ok(usage)
}

fn class_mut<'a>(usage: &'a mut MockUsage, class: &str) -> Result<&'a mut u64, String> {
    match class {
        "input" => Ok(&mut usage.input),
        "cached" => Ok(&mut usage.cached),
        "cache_write_5m" => Ok(&mut usage.cache_write_5m),
        "cache_write_1h" => Ok(&mut usage.cache_write_1h),
        "output" => Ok(&mut usage.output),
        "reasoning" => Ok(&mut usage.reasoning),
        _ => Err(format!(
            "knows no class `{class}`: input, cached, cache_write_5m, cache_write_1h, output, reasoning"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn controls_are_read_in_both_forms() {
        let usage = MockUsage {
            input: 10,
            cached: 4,
            output: 3,
            reasoning: 1,
            ..MockUsage::default()
        };
        for text in [
            "input=10,cached=4,output=3,reasoning=1",
            " input=10, cached=4 ,output=3,reasoning=1",
            r#"{"input":10,"cached":4,"output":3,"reasoning":1}"#,
        ] {
            assert_eq!(
                UsageControl::parse(text),
                Ok(UsageControl::Exact(usage)),
                "{text}"
            );
        }
        assert_eq!(UsageControl::parse("random"), Ok(UsageControl::Random));
    }

    #[test]
    fn wrong_controls_are_refused() {
        for text in [
            "",
            "input",
            "input=x",
            "inptu=1",
            r#"{"inptu":1}"#,
            "input=-1",
        ] {
            assert!(UsageControl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn totals_are_raised_to_the_sum_of_their_parts() {
        let parsed = UsageControl::parse("cached=5,cache_write_1h=7,reasoning=3");
        let fitted = MockUsage {
            input: 12,
            cached: 5,
            cache_write_1h: 7,
            output: 3,
            reasoning: 3,
            ..MockUsage::default()
        };
        assert_eq!(parsed, Ok(UsageControl::Exact(fitted)));
        assert_eq!(fitted.uncached_input(), 0);
    }

    #[test]
    fn served_usage_grows_with_what_was_sent() {
        let usage = MockUsage {
            input: 50,
            output: 100,
            reasoning: 30,
            ..MockUsage::default()
        };
        let outputs: Vec<_> = [0, 1, 2, 4]
            .map(|sent| usage.served_share(sent, 4))
            .map(|u| (u.output, u.reasoning))
            .into();
        assert_eq!(outputs, [(0, 0), (25, 25), (50, 30), (100, 30)]);
        assert_eq!(usage.served_share(0, 4).input, 50);
        assert_eq!(usage.served_share(0, 0), usage);
    }

    #[test]
    fn random_usage_is_consistent_and_repeatable() {
        for seed in 0..200 {
            let usage = MockUsage::random(&mut Rng::with_seed(seed));
            assert_eq!(usage, usage.clamp_parts(), "seed {seed}");
            assert_eq!(usage, MockUsage::random(&mut Rng::with_seed(seed)));
        }
    }
}
