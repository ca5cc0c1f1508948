//! Token counts of one attempt by kind, reported or estimated. It must not know how providers write
//! them (`llm-router-wire`) nor their cost ([`crate::price`]).

use std::fmt;

/// The most tokens one class of one attempt can count. Far above any context window; it keeps
/// every product with a price inside a `Decimal`, whatever an upstream claims.
pub const MAX_TOKENS: u64 = 10_000_000_000;

/// A kind of token that may have its own price. The classes of a [`Usage`] are disjoint: their
/// sum is all tokens of the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
pub enum Class {
    /// Text input that no cache served or stored.
    Input,
    /// Input read from the provider's prompt cache.
    CacheRead,
    /// Input written to the prompt cache, kept five minutes, or for as long as the provider likes.
    CacheWrite5m,
    /// Input written to the prompt cache, kept one hour.
    CacheWrite1h,
    /// Audio input.
    AudioInput,
    /// Image input that the provider counts apart.
    ImageInput,
    /// Text output without what the other output classes count.
    Output,
    /// Output spent on reasoning.
    Reasoning,
    /// Output that matched the client's prediction.
    AcceptedPrediction,
    /// Predicted tokens that weren't used; they are billed as output.
    RejectedPrediction,
    /// Audio output.
    AudioOutput,
    /// Image output.
    ImageOutput,
}

impl Class {
    /// Number of classes.
    pub const COUNT: usize = 12;

    /// Every class, in the order of its number.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Input,
        Self::CacheRead,
        Self::CacheWrite5m,
        Self::CacheWrite1h,
        Self::AudioInput,
        Self::ImageInput,
        Self::Output,
        Self::Reasoning,
        Self::AcceptedPrediction,
        Self::RejectedPrediction,
        Self::AudioOutput,
        Self::ImageOutput,
    ];

    /// The name used in the prices file, in the store and in fixtures.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::CacheRead => "cached_input",
            Self::CacheWrite5m => "cache_write_5m",
            Self::CacheWrite1h => "cache_write_1h",
            Self::AudioInput => "audio_input",
            Self::ImageInput => "image_input",
            Self::Output => "output",
            Self::Reasoning => "reasoning",
            Self::AcceptedPrediction => "accepted_prediction",
            Self::RejectedPrediction => "rejected_prediction",
            Self::AudioOutput => "audio_output",
            Self::ImageOutput => "image_output",
        }
    }

    /// The class with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// Returns true if the class counts input of the model, not output.
    #[must_use]
    pub const fn is_input(self) -> bool {
        (self as usize) < (Self::Output as usize)
    }
}

/// Method of an estimated count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EstimateMethod {
    /// A tokenizer counted the text.
    Tokenizer,
    /// From the length of the text and the number of streamed fragments.
    TextLength,
    /// The amount reserved before the call, after a crash.
    Reservation,
}

impl EstimateMethod {
    /// The name used in the ledger and the admin API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tokenizer => "tokenizer",
            Self::TextLength => "text_length",
            Self::Reservation => "reservation",
        }
    }

    /// The method with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Tokenizer, Self::TextLength, Self::Reservation]
            .into_iter()
            .find(|method| method.name() == name)
    }
}

/// Source of the counts of a [`Usage`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum UsageSource {
    /// The provider said so.
    #[default]
    Reported,
    /// At least one class is our estimate.
    Estimated(EstimateMethod),
}

/// The provider's processing tier, where it changes the price.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServiceTier {
    /// The list price.
    #[default]
    Standard,
    /// Cheaper and slower.
    Flex,
    /// Dearer and faster.
    Priority,
    /// Asynchronous, cheaper.
    Batch,
}

impl ServiceTier {
    /// The name used in the prices file and by the providers.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::Flex => "flex",
            Self::Priority => "priority",
            Self::Batch => "batch",
        }
    }

    /// Returns the tier that a provider names; any name but those of a more expensive or cheaper
    /// tier is standard.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        [Self::Flex, Self::Priority, Self::Batch]
            .into_iter()
            .find(|tier| tier.name().eq_ignore_ascii_case(name))
            .unwrap_or_default()
    }
}

/// Usage of one attempt.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    tokens: [u64; Class::COUNT],
    /// Web searches the provider ran, where it bills them by the call.
    pub web_searches: u64,
    /// The tier the provider served the request in.
    pub service_tier: ServiceTier,
    /// Reported by the provider or estimated.
    pub source: UsageSource,
}

impl Usage {
    /// The tokens of a class.
    #[must_use]
    pub fn get(&self, class: Class) -> u64 {
        self.tokens.get(class as usize).copied().unwrap_or_default()
    }

    /// Sets the tokens of a class, at most [`MAX_TOKENS`].
    pub fn set(&mut self, class: Class, tokens: u64) {
        if let Some(count) = self.tokens.get_mut(class as usize) {
            *count = tokens.min(MAX_TOKENS);
        }
    }

    /// The same usage with the tokens of a class replaced.
    #[must_use]
    pub fn with(mut self, class: Class, tokens: u64) -> Self {
        self.set(class, tokens);
        self
    }

    /// The classes that count at least one token.
    pub fn iter(&self) -> impl Iterator<Item = (Class, u64)> {
        Class::ALL
            .into_iter()
            .zip(self.tokens)
            .filter(|(_, tokens)| *tokens > 0)
    }

    /// All input: uncached, read from a cache and written to it, of every modality.
    #[must_use]
    pub fn input_total(&self) -> u64 {
        self.iter()
            .filter(|(class, _)| class.is_input())
            .map(|(_, tokens)| tokens)
            .sum()
    }

    /// All output, reasoning included.
    #[must_use]
    pub fn output_total(&self) -> u64 {
        self.iter()
            .filter(|(class, _)| !class.is_input())
            .map(|(_, tokens)| tokens)
            .sum()
    }

    /// Input written to a cache, whatever its lifetime.
    #[must_use]
    pub fn cache_write_total(&self) -> u64 {
        self.get(Class::CacheWrite5m) + self.get(Class::CacheWrite1h)
    }

    /// Returns true if any part is an estimate.
    #[must_use]
    pub const fn is_estimated(&self) -> bool {
        matches!(self.source, UsageSource::Estimated(_))
    }
}

impl fmt::Debug for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (class, tokens) in self.iter() {
            map.entry(&class.name(), &tokens);
        }
        if self.web_searches > 0 {
            map.entry(&"web_searches", &self.web_searches);
        }
        if self.service_tier != ServiceTier::Standard {
            map.entry(&"service_tier", &self.service_tier.name());
        }
        map.entry(&"source", &self.source).finish()
    }
}

/// Tokens of a text by its length and the fragments it was streamed in.
///
/// Four bytes are a token in English prose; a fragment carries one token at least, which is what
/// lifts the figure for scripts and code that tokenizers cut finer.
#[must_use]
pub fn estimate_tokens(text_bytes: u64, fragments: u64) -> u64 {
    text_bytes.div_ceil(4).max(fragments.min(text_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn class_numbers_and_names_are_one_to_one() {
        for (number, class) in Class::ALL.into_iter().enumerate() {
            assert_eq!(class as usize, number);
            assert_eq!(Class::from_name(class.name()), Some(class));
        }
        assert_eq!(Class::from_name("token"), None);
    }

    #[test]
    fn totals_add_every_class_of_their_side() {
        let mut usage = Usage::default();
        for (number, class) in Class::ALL.into_iter().enumerate() {
            usage.set(class, 10_u64.pow(u32::try_from(number % 6).unwrap()));
        }
        assert_eq!(usage.input_total(), 111_111);
        assert_eq!(usage.output_total(), 111_111);
        assert_eq!(usage.cache_write_total(), 1_100);
    }

    #[test]
    fn absurd_counts_are_capped() {
        let usage = Usage::default().with(Class::Output, u64::MAX);
        assert_eq!(usage.output_total(), MAX_TOKENS);
    }

    #[test]
    fn tiers_are_recognised_by_name() {
        for (name, tier) in [
            ("priority", ServiceTier::Priority),
            ("FLEX", ServiceTier::Flex),
            ("batch", ServiceTier::Batch),
            ("default", ServiceTier::Standard),
            ("", ServiceTier::Standard),
        ] {
            assert_eq!(ServiceTier::from_name(name), tier, "{name:?}");
        }
    }

    #[test]
    fn estimates_follow_length_and_fragments() {
        for (bytes, fragments, tokens) in [(0, 3, 0), (1, 1, 1), (400, 20, 100), (40, 20, 20)] {
            assert_eq!(estimate_tokens(bytes, fragments), tokens);
        }
    }
}
