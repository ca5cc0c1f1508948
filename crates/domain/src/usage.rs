//! Usage of one attempt: tokens by class, fees by use, and what multiplies its price, reported or
//! estimated. It must not know how providers write them (`llm-router-wire`) nor their cost
//! ([`crate::price`]).

use std::fmt;

use rust_decimal::Decimal;

use crate::inexact::Reasons;

/// The most tokens one class of one attempt can count. Far above any context window; it keeps
/// every product with a price inside a `Decimal`, whatever an upstream claims.
pub const MAX_TOKENS: u64 = 10_000_000_000;

/// The most uses one fee of one attempt can count.
pub const MAX_USES: u32 = 1_000_000;

/// A kind of token that may have its own price. The classes of a [`Usage`] are disjoint: their
/// sum is all tokens of the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
pub enum Class {
    /// Text input that no cache served or stored.
    Input,
    /// Text input read from the provider's prompt cache.
    CacheRead,
    /// Audio input read from the prompt cache.
    CachedAudioInput,
    /// Image input read from the prompt cache.
    CachedImageInput,
    /// Input written to the prompt cache, kept five minutes, or for as long as the provider
    /// likes.
    CacheWrite5m,
    /// Input written to the prompt cache, kept thirty minutes.
    CacheWrite30m,
    /// Input written to the prompt cache, kept one hour.
    CacheWrite1h,
    /// Input written to the prompt cache, kept twelve hours.
    CacheWrite12h,
    /// Audio input.
    AudioInput,
    /// Image input that the provider counts apart.
    ImageInput,
    /// Text of cited sources that the provider bills as input of its own (Perplexity).
    Citation,
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
    pub const COUNT: usize = 17;

    /// Every class, in the order of its number.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Input,
        Self::CacheRead,
        Self::CachedAudioInput,
        Self::CachedImageInput,
        Self::CacheWrite5m,
        Self::CacheWrite30m,
        Self::CacheWrite1h,
        Self::CacheWrite12h,
        Self::AudioInput,
        Self::ImageInput,
        Self::Citation,
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
            Self::CachedAudioInput => "cached_audio_input",
            Self::CachedImageInput => "cached_image_input",
            Self::CacheWrite5m => "cache_write_5m",
            Self::CacheWrite30m => "cache_write_30m",
            Self::CacheWrite1h => "cache_write_1h",
            Self::CacheWrite12h => "cache_write_12h",
            Self::AudioInput => "audio_input",
            Self::ImageInput => "image_input",
            Self::Citation => "citation",
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

    /// Returns true if the class counts input that the prompt cache served.
    #[must_use]
    pub const fn is_cache_read(self) -> bool {
        matches!(
            self,
            Self::CacheRead | Self::CachedAudioInput | Self::CachedImageInput
        )
    }

    /// Returns true if the class counts input that was written to the prompt cache.
    #[must_use]
    pub const fn is_cache_write(self) -> bool {
        matches!(
            self,
            Self::CacheWrite5m | Self::CacheWrite30m | Self::CacheWrite1h | Self::CacheWrite12h
        )
    }

    /// Returns the class whose price holds by every provider's terms where this one has no price
    /// of its own; none for a class that needs a price of its own.
    #[must_use]
    pub const fn priced_as(self) -> Option<Self> {
        match self {
            Self::Reasoning | Self::AcceptedPrediction | Self::RejectedPrediction => {
                Some(Self::Output)
            }
            // Models without a price for images count them as text.
            Self::ImageInput => Some(Self::Input),
            Self::CachedImageInput => Some(Self::CacheRead),
            _ => None,
        }
    }
}

/// A charge by use, whatever its tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(usize)]
pub enum Fee {
    /// Web searches that the provider ran.
    WebSearch,
    /// Prompts answered with grounding in a web search, however many searches that took: Gemini's
    /// older measure of what [`Fee::WebSearch`] counts by query.
    GroundedPrompt,
    /// Searches of stored files.
    FileSearch,
    /// Sessions (containers) of a code interpreter.
    CodeSession,
    /// Searches of X.
    XSearch,
    /// Queries of a map service.
    Maps,
    /// Uses of a provider's tool whose kind the answer doesn't say.
    ServerTool,
}

impl Fee {
    /// Number of fees.
    pub const COUNT: usize = 7;

    /// Every fee, in the order of its number.
    pub const ALL: [Self; Self::COUNT] = [
        Self::WebSearch,
        Self::GroundedPrompt,
        Self::FileSearch,
        Self::CodeSession,
        Self::XSearch,
        Self::Maps,
        Self::ServerTool,
    ];

    /// The name used in the prices file, in the store and in fixtures.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::WebSearch => "web_search",
            Self::GroundedPrompt => "grounded_prompt",
            Self::FileSearch => "file_search",
            Self::CodeSession => "code_session",
            Self::XSearch => "x_search",
            Self::Maps => "maps",
            Self::ServerTool => "server_tool",
        }
    }

    /// The fee with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fee| fee.name() == name)
    }

    /// Returns the fee that counts the same uses in another unit: an attempt is charged one of the
    /// two, so a price for either is enough.
    #[must_use]
    pub const fn alternative(self) -> Option<Self> {
        match self {
            Self::WebSearch => Some(Self::GroundedPrompt),
            Self::GroundedPrompt => Some(Self::WebSearch),
            _ => None,
        }
    }
}

/// A short name in place, lower-cased: letters, digits and `_ - . :`. Longer names are truncated,
/// other characters become `_`, so that a provider can't put text of any length into a ledger.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShortName {
    bytes: [u8; Self::LONGEST],
    length: u8,
}

impl ShortName {
    /// Longest name, in bytes.
    pub const LONGEST: usize = 23;

    /// No name.
    pub const EMPTY: Self = Self {
        bytes: [0; Self::LONGEST],
        length: 0,
    };

    /// Creates a name of a text.
    #[must_use]
    pub const fn new(text: &str) -> Self {
        let text = text.as_bytes().trim_ascii();
        let mut name = Self::EMPTY;
        let mut at = 0;
        let mut rest = text;
        while let ([byte, after @ ..], true) = (rest, at < Self::LONGEST) {
            let byte = byte.to_ascii_lowercase();
            let allowed = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':');
            name.bytes[at] = if allowed { byte } else { b'_' };
            at += 1;
            rest = after;
        }
        name.length = at as u8;
        name
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        let bytes = self.bytes.get(..usize::from(self.length));
        bytes
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .unwrap_or_default()
    }

    /// Returns true if there is no name.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl Default for ShortName {
    fn default() -> Self {
        Self::EMPTY
    }
}

impl fmt::Debug for ShortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl fmt::Display for ShortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
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

/// The provider's processing tier: standard, or the provider's name of another, known or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceTier(ShortName);

impl ServiceTier {
    /// The list price.
    pub const STANDARD: Self = Self(ShortName::EMPTY);
    /// Cheaper and slower.
    pub const FLEX: Self = Self(ShortName::new("flex"));
    /// Dearer and faster. OpenAI calls it `fast` too.
    pub const PRIORITY: Self = Self(ShortName::new("priority"));
    /// Asynchronous, cheaper.
    pub const BATCH: Self = Self(ShortName::new("batch"));

    /// The name used in the prices file, in the store and by the providers.
    #[must_use]
    pub fn name(&self) -> &str {
        if self.is_standard() {
            "standard"
        } else {
            self.0.as_str()
        }
    }

    /// Returns true for the tier of the list price.
    #[must_use]
    pub const fn is_standard(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the tier that a provider names. Names of one tier are one: `fast` is `priority`,
    /// and the names that providers have for their list price are `standard`.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        let name = ShortName::new(name);
        match name.as_str() {
            "standard"
            | "default"
            | "auto"
            | "on_demand"
            | "unspecified"
            | "service_tier_unspecified"
            | "traffic_type_unspecified" => Self::STANDARD,
            "fast" | "on_demand_priority" => Self::PRIORITY,
            "on_demand_flex" => Self::FLEX,
            _ => Self(name),
        }
    }
}

/// Usage of one attempt.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    tokens: [u64; Class::COUNT],
    uses: [u32; Fee::COUNT],
    /// The tier the provider served the request in.
    pub service_tier: ServiceTier,
    /// The region that inference was bound to, where the provider says so (Anthropic's
    /// `inference_geo`); empty if it wasn't.
    pub inference_geo: ShortName,
    /// The speed that the provider served the request at (Anthropic's `speed`); empty if the
    /// usual one.
    pub speed: ShortName,
    /// The size of the search context, where the provider charges a request by it (Perplexity):
    /// `low`, `medium` or `high`; empty if it says none.
    pub search_context: ShortName,
    /// Set if the model reasoned. Some models have other prices then (Qwen).
    pub thinking: bool,
    /// The cost in USD that the provider itself states.
    pub reported_cost: Option<Decimal>,
    /// Reasons for which this usage isn't exactly what the provider bills.
    pub inexact: Reasons,
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

    /// The uses of a fee.
    #[must_use]
    pub fn uses(&self, fee: Fee) -> u32 {
        self.uses.get(fee as usize).copied().unwrap_or_default()
    }

    /// Sets the uses of a fee, at most [`MAX_USES`].
    pub fn set_uses(&mut self, fee: Fee, uses: u64) {
        if let Some(count) = self.uses.get_mut(fee as usize) {
            *count = u32::try_from(uses).unwrap_or(MAX_USES).min(MAX_USES);
        }
    }

    /// The same usage with the uses of a fee replaced.
    #[must_use]
    pub fn with_uses(mut self, fee: Fee, uses: u64) -> Self {
        self.set_uses(fee, uses);
        self
    }

    /// The fees that count at least one use.
    pub fn fees(&self) -> impl Iterator<Item = (Fee, u32)> {
        Fee::ALL
            .into_iter()
            .zip(self.uses)
            .filter(|(_, uses)| *uses > 0)
    }

    /// Returns true if neither a token nor a use of a fee is counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none() && self.fees().next().is_none()
    }

    /// All input: uncached, read from a cache and written to it, of every modality.
    #[must_use]
    pub fn input_total(&self) -> u64 {
        self.total(Class::is_input)
    }

    /// All output, reasoning included.
    #[must_use]
    pub fn output_total(&self) -> u64 {
        self.total(|class| !class.is_input())
    }

    /// Input read from a cache, of every modality.
    #[must_use]
    pub fn cache_read_total(&self) -> u64 {
        self.total(Class::is_cache_read)
    }

    /// Input written to a cache, whatever its lifetime.
    #[must_use]
    pub fn cache_write_total(&self) -> u64 {
        self.total(Class::is_cache_write)
    }

    fn total(&self, counts: impl Fn(Class) -> bool) -> u64 {
        self.iter()
            .filter(|(class, _)| counts(*class))
            .map(|(_, tokens)| tokens)
            .sum()
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
        for (fee, uses) in self.fees() {
            map.entry(&fee.name(), &uses);
        }
        if !self.service_tier.is_standard() {
            map.entry(&"service_tier", &self.service_tier.name());
        }
        for (name, value) in [
            ("inference_geo", self.inference_geo),
            ("speed", self.speed),
            ("search_context", self.search_context),
        ] {
            if !value.is_empty() {
                map.entry(&name, &value);
            }
        }
        if self.thinking {
            map.entry(&"thinking", &true);
        }
        if let Some(cost) = self.reported_cost {
            map.entry(&"reported_cost", &cost);
        }
        if !self.inexact.is_empty() {
            map.entry(&"inexact", &self.inexact);
        }
        map.entry(&"source", &self.source).finish()
    }
}

/// A part of an attempt's usage that is billed at another model's rates: an advisor's turns, an
/// image tool. It isn't in the usage of the attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsagePart {
    /// The model, as the provider names it.
    pub model: Box<str>,
    /// Usage by that model.
    pub usage: Usage,
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
        for (number, fee) in Fee::ALL.into_iter().enumerate() {
            assert_eq!(fee as usize, number);
            assert_eq!(Fee::from_name(fee.name()), Some(fee));
        }
        assert_eq!(Class::from_name("token"), None);
    }

    #[test]
    fn totals_add_every_class_of_their_side() {
        let mut usage = Usage::default();
        for (number, class) in Class::ALL.into_iter().enumerate() {
            usage.set(class, 1 << number);
        }
        assert_eq!(usage.input_total(), 0b111_1111_1111);
        assert_eq!(usage.output_total(), 0b11_1111 << 11);
        assert_eq!(usage.cache_read_total(), 0b1110);
        assert_eq!(usage.cache_write_total(), 0b1111_0000);
    }

    #[test]
    fn absurd_counts_are_capped() {
        let usage = Usage::default().with(Class::Output, u64::MAX);
        assert_eq!(usage.output_total(), MAX_TOKENS);
    }

    #[test]
    fn tiers_are_recognised_by_name() {
        for (name, tier, written) in [
            ("priority", ServiceTier::PRIORITY, "priority"),
            ("fast", ServiceTier::PRIORITY, "priority"),
            ("ON_DEMAND_PRIORITY", ServiceTier::PRIORITY, "priority"),
            ("FLEX", ServiceTier::FLEX, "flex"),
            ("batch", ServiceTier::BATCH, "batch"),
            ("default", ServiceTier::STANDARD, "standard"),
            ("auto", ServiceTier::STANDARD, "standard"),
            ("on_demand", ServiceTier::STANDARD, "standard"),
            ("", ServiceTier::STANDARD, "standard"),
        ] {
            assert_eq!(ServiceTier::from_name(name), tier, "{name:?}");
            assert_eq!(tier.name(), written);
        }
        let ultrafast = ServiceTier::from_name("Ultrafast");
        assert_eq!(
            (ultrafast.name(), ultrafast.is_standard()),
            ("ultrafast", false)
        );
    }

    #[test]
    fn short_names_are_bounded() {
        for (text, name) in [
            ("US", "us"),
            (" a b\n", "a_b"),
            ("é", "__"),
            ("0123456789012345678901234567", "01234567890123456789012"),
        ] {
            assert_eq!(ShortName::new(text).as_str(), name);
        }
        assert!(ShortName::new("").is_empty());
    }

    #[test]
    fn estimates_follow_length_and_fragments() {
        for (bytes, fragments, tokens) in [(0, 3, 0), (1, 1, 1), (400, 20, 100), (40, 20, 20)] {
            assert_eq!(estimate_tokens(bytes, fragments), tokens);
        }
    }
}
