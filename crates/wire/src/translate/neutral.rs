//! A request and a response as no format has them: what every format reads into and writes out of.
//! It must not know how any field is spelled on the wire.

use std::borrow::Cow;

use serde_json::Number;

use super::json::Json;
use super::policy::Feature;
use super::signature::Signature;

/// Text borrowed from the body, or owned where escapes were resolved.
pub(crate) type Text<'a> = Cow<'a, str>;

/// A client's request.
#[derive(Debug, Default)]
pub(crate) struct NeutralRequest<'a> {
    pub(crate) stream: bool,
    /// The client wants usage in the stream.
    pub(crate) include_usage: bool,
    /// In the client's order; system messages stand where the client put them.
    pub(crate) messages: Vec<Message<'a>>,
    pub(crate) tools: Vec<Tool<'a>>,
    pub(crate) tool_choice: Option<ToolChoice<'a>>,
    pub(crate) parallel_tools: Option<bool>,
    pub(crate) sampling: Sampling<'a>,
    pub(crate) output: OutputShape<'a>,
    pub(crate) verbosity: Option<Text<'a>>,
    pub(crate) reasoning: Option<Reasoning>,
    /// The end user, as the client names them.
    pub(crate) user: Option<Text<'a>>,
    pub(crate) tier: Option<Tier>,
    /// Prompt-cache marker of the whole request.
    pub(crate) cache: Option<Json<'a>>,
    /// Fields that no field above stands for.
    pub(crate) extras: Vec<Extra<'a>>,
}

/// A field carried under its own name, or lost.
#[derive(Debug)]
pub(crate) struct Extra<'a> {
    pub(crate) feature: Feature,
    pub(crate) name: Text<'a>,
    pub(crate) value: Json<'a>,
}

/// Settings of sampling, and the conditions to stop at.
#[derive(Debug, Default)]
pub(crate) struct Sampling<'a> {
    pub(crate) max_tokens: Option<u64>,
    pub(crate) temperature: Option<Number>,
    pub(crate) top_p: Option<Number>,
    pub(crate) top_k: Option<u64>,
    pub(crate) choices: Option<u64>,
    pub(crate) seed: Option<Number>,
    pub(crate) stop: Vec<Text<'a>>,
    pub(crate) frequency_penalty: Option<Number>,
    pub(crate) presence_penalty: Option<Number>,
    pub(crate) logit_bias: Option<Json<'a>>,
    pub(crate) logprobs: bool,
    pub(crate) top_logprobs: Option<u64>,
}

/// Returns true if a number is one, the default of temperature and nucleus sampling.
pub(crate) fn is_one(number: &Number) -> bool {
    number
        .as_f64()
        .is_some_and(|value| value.to_bits() == 1.0_f64.to_bits())
}

/// The shape that the answer must have.
#[derive(Debug, Default)]
pub(crate) enum OutputShape<'a> {
    #[default]
    Text,
    AnyJson,
    Schema {
        name: Option<Text<'a>>,
        description: Option<Text<'a>>,
        schema: Json<'a>,
        strict: Option<bool>,
    },
}

/// Settings of thinking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reasoning {
    pub(crate) mode: ThinkingMode,
    pub(crate) effort: Option<Effort>,
    /// Tokens to think with.
    pub(crate) budget: Option<u64>,
    /// Show the thoughts, or not; the model's default where unset.
    pub(crate) show: Option<bool>,
}

/// Switch of thinking.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ThinkingMode {
    /// The client gave an effort or nothing.
    #[default]
    Unset,
    Off,
    On,
    /// As the model sees fit.
    Adaptive,
}

/// Levels of effort, as OpenAI, Anthropic and Google name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effort {
    None,
    Minimal,
    Low,
    Medium,
    High,
    XHigh,
    Max,
}

impl Effort {
    pub(crate) fn read(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::None,
            "minimal" => Self::Minimal,
            "low" => Self::Low,
            "medium" => Self::Medium,
            "high" => Self::High,
            "xhigh" => Self::XHigh,
            "max" => Self::Max,
            _ => return None,
        })
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Minimal => "minimal",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::XHigh => "xhigh",
            Self::Max => "max",
        }
    }

    /// The budget that Google's own OpenAI endpoint gives each effort (Gemini API, "OpenAI
    /// compatibility"); the two above `high` continue the series.
    pub(crate) const fn budget(self) -> u64 {
        match self {
            Self::None => 0,
            Self::Minimal | Self::Low => 1_024,
            Self::Medium => 8_192,
            Self::High => 24_576,
            Self::XHigh => 32_768,
            Self::Max => 49_152,
        }
    }

    /// The effort whose budget is the nearest one not below `budget`.
    pub(crate) fn of_budget(budget: u64) -> Self {
        match budget {
            0 => Self::None,
            1..=2_048 => Self::Low,
            2_049..=8_192 => Self::Medium,
            _ => Self::High,
        }
    }
}

impl Reasoning {
    /// Returns true if the model is asked not to think.
    pub(crate) fn is_off(self) -> bool {
        self.mode == ThinkingMode::Off
            || (self.mode == ThinkingMode::Unset && matches!(self.effort, Some(Effort::None)))
            || (self.mode == ThinkingMode::Unset && self.budget == Some(0))
    }

    /// The effort asked for, or the one nearest to the budget asked for.
    pub(crate) fn as_effort(self) -> Option<Effort> {
        if self.is_off() {
            return Some(Effort::None);
        }
        self.effort.or_else(|| self.budget.map(Effort::of_budget))
    }

    /// The budget asked for, or the one that fits the effort asked for.
    pub(crate) fn as_budget(self) -> Option<u64> {
        if self.is_off() {
            return Some(0);
        }
        self.budget.or_else(|| self.effort.map(Effort::budget))
    }
}

/// Which service tier to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tier {
    Auto,
    Standard,
    Flex,
    Priority,
}

/// One turn, or one system instruction.
#[derive(Debug)]
pub(crate) struct Message<'a> {
    pub(crate) role: Role,
    pub(crate) parts: Vec<Part<'a>>,
    /// Tells participants of one role apart.
    pub(crate) name: Option<Text<'a>>,
}

/// Author of a message. Tool results are the user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    System,
    Developer,
    User,
    Assistant,
}

impl Role {
    /// Returns true for instructions, which are no turns.
    pub(crate) const fn is_instruction(self) -> bool {
        matches!(self, Self::System | Self::Developer)
    }
}

/// A piece of a message.
#[derive(Debug)]
pub(crate) struct Part<'a> {
    pub(crate) kind: PartKind<'a>,
    /// Prompt-cache marker, as Anthropic writes it.
    pub(crate) cache: Option<Json<'a>>,
}

impl<'a> Part<'a> {
    pub(crate) const fn new(kind: PartKind<'a>) -> Self {
        Self { kind, cache: None }
    }

    pub(crate) const fn text(text: Text<'a>) -> Self {
        Self::new(PartKind::Text(text))
    }
}

/// Content of a part.
#[derive(Debug)]
pub(crate) enum PartKind<'a> {
    Text(Text<'a>),
    Refusal(Text<'a>),
    Image(Image<'a>),
    File(File<'a>),
    Audio {
        data: Text<'a>,
        /// `wav`, `mp3`, …
        format: Text<'a>,
    },
    Thinking(Thinking<'a>),
    ToolCall(ToolCall<'a>),
    ToolResult(ToolResult<'a>),
    /// Content that only its own format has: server tools and their results.
    Foreign {
        kind: Text<'a>,
        /// The id that a call and its result share.
        id: Option<Text<'a>>,
    },
}

/// An image.
#[derive(Debug)]
pub(crate) struct Image<'a> {
    pub(crate) source: MediaSource<'a>,
    /// `low`, `high` or `auto`.
    pub(crate) detail: Option<Text<'a>>,
}

/// A document.
#[derive(Debug)]
pub(crate) struct File<'a> {
    pub(crate) source: MediaSource<'a>,
    pub(crate) name: Option<Text<'a>>,
    /// The client's description of the document.
    pub(crate) context: Option<Text<'a>>,
    pub(crate) citations: bool,
}

/// Place of an image's or document's content.
#[derive(Debug)]
pub(crate) enum MediaSource<'a> {
    Base64 {
        media_type: Text<'a>,
        data: Text<'a>,
    },
    Url(Text<'a>),
    /// Stored at the provider it was uploaded to.
    Id(Text<'a>),
    /// Plain text.
    Text(Text<'a>),
}

/// A thought. One without text only carries a signature.
#[derive(Debug)]
pub(crate) struct Thinking<'a> {
    pub(crate) text: Text<'a>,
    pub(crate) signature: Option<Signature<'a>>,
}

/// A tool that the model called.
#[derive(Debug)]
pub(crate) struct ToolCall<'a> {
    /// As the provider sent it.
    pub(crate) id: Text<'a>,
    pub(crate) name: Text<'a>,
    pub(crate) arguments: Arguments<'a>,
    /// Gemini's signature of the thought behind the call.
    pub(crate) signature: Option<Text<'a>>,
    /// The tool takes free text instead of JSON.
    pub(crate) custom: bool,
}

/// Arguments of a tool call.
#[derive(Debug)]
pub(crate) enum Arguments<'a> {
    /// The text of a JSON object.
    Object(Text<'a>),
    /// Text that the model wrote and nobody has checked yet.
    Text(Text<'a>),
}

impl Arguments<'_> {
    /// As they came: what a free-text tool is called with.
    pub(crate) fn as_is(&self) -> &str {
        let (Self::Object(text) | Self::Text(text)) = self;
        text
    }

    /// As OpenAI has them: text. Nothing is an object without fields.
    pub(crate) fn as_text(&self) -> &str {
        let text = self.as_is();
        if text.trim().is_empty() { "{}" } else { text }
    }

    /// As Anthropic and Gemini have them: the text of an object. What the model wrote wrongly is
    /// kept in a field of its own, for a conversation must not die of it.
    pub(crate) fn as_object(&self) -> Cow<'_, str> {
        let text = self.as_text();
        if matches!(self, Self::Object(_)) {
            return Cow::Borrowed(text);
        }
        match serde_json::from_str::<&serde_json::value::RawValue>(text) {
            Ok(raw) if raw.get().starts_with('{') => Cow::Borrowed(raw.get()),
            Ok(raw) if raw.get() == "null" => Cow::Borrowed("{}"),
            Ok(raw) => Cow::Owned(format!("{{\"value\":{}}}", raw.get())),
            Err(_) => Cow::Owned(serde_json::json!({ "invalid_json": text }).to_string()),
        }
    }
}

/// Result of a tool call.
#[derive(Debug)]
pub(crate) struct ToolResult<'a> {
    pub(crate) id: Text<'a>,
    pub(crate) parts: Vec<Part<'a>>,
    pub(crate) is_error: bool,
    pub(crate) custom: bool,
}

/// A tool on offer.
#[derive(Debug)]
pub(crate) enum Tool<'a> {
    Function(Function<'a>),
    /// Takes free text, if need be in a grammar.
    Custom {
        name: Text<'a>,
        description: Option<Text<'a>>,
        format: Option<Json<'a>>,
    },
    /// Run by the provider, or known to its models by name.
    BuiltIn {
        kind: Text<'a>,
    },
}

/// A tool with arguments by schema.
#[derive(Debug)]
pub(crate) struct Function<'a> {
    pub(crate) name: Text<'a>,
    pub(crate) description: Option<Text<'a>>,
    pub(crate) schema: Option<Json<'a>>,
    pub(crate) strict: Option<bool>,
    pub(crate) cache: Option<Json<'a>>,
    /// Names of fields that only its own format has.
    pub(crate) extras: Vec<Text<'a>>,
}

/// Which tool to use.
#[derive(Debug)]
pub(crate) enum ToolChoice<'a> {
    Auto,
    None,
    /// Any, but one.
    Required,
    Named(Text<'a>),
    /// Only these.
    Among {
        names: Vec<Text<'a>>,
        required: bool,
    },
}

/// A provider's response.
#[derive(Debug, Default)]
pub(crate) struct NeutralResponse<'a> {
    pub(crate) id: Option<Text<'a>>,
    pub(crate) created: Option<u64>,
    pub(crate) model: Option<Text<'a>>,
    pub(crate) choices: Vec<Choice<'a>>,
    pub(crate) usage: Option<TokenCounts>,
    pub(crate) tier: Option<Text<'a>>,
}

/// One answer of several.
#[derive(Debug)]
pub(crate) struct Choice<'a> {
    pub(crate) index: u64,
    /// Text, refusals, thoughts, images and tool calls, in the order they came.
    pub(crate) parts: Vec<Part<'a>>,
    pub(crate) citations: Vec<Citation<'a>>,
    pub(crate) finish: Finish<'a>,
    pub(crate) logprobs: Option<Json<'a>>,
}

/// A source of what the text says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Citation<'a> {
    pub(crate) url: Text<'a>,
    pub(crate) title: Option<Text<'a>>,
    pub(crate) quote: Option<Text<'a>>,
    /// The characters of the answer that it supports.
    pub(crate) span: Option<(u64, u64)>,
}

impl Citation<'_> {
    pub(crate) fn into_owned(self) -> Citation<'static> {
        let own = |text: Text<'_>| Cow::Owned(text.into_owned());
        Citation {
            url: own(self.url),
            title: self.title.map(own),
            quote: self.quote.map(own),
            span: self.span,
        }
    }
}

/// Reason that the model stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finish<'a> {
    Stop,
    StopSequence(Option<Text<'a>>),
    Length,
    /// The context window is full.
    Context,
    Tools,
    /// The provider withheld the answer.
    Filtered,
    /// The model declined.
    Refusal,
    /// The provider paused a long turn.
    Pause,
}

impl Finish<'_> {
    /// The same for a choice that holds tool calls: Gemini and others say `stop` there.
    pub(crate) fn with_tools(self, calls: bool) -> Self {
        match self {
            Self::Stop if calls => Self::Tools,
            other => other,
        }
    }

    pub(crate) fn into_owned(self) -> Finish<'static> {
        match self {
            Self::Stop => Finish::Stop,
            Self::StopSequence(text) => {
                Finish::StopSequence(text.map(|text| Cow::Owned(text.into_owned())))
            }
            Self::Length => Finish::Length,
            Self::Context => Finish::Context,
            Self::Tools => Finish::Tools,
            Self::Filtered => Finish::Filtered,
            Self::Refusal => Finish::Refusal,
            Self::Pause => Finish::Pause,
        }
    }
}

/// Token counts. Details are parts of the totals, whatever the provider's own convention.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenCounts {
    /// All input, cached input included.
    pub(crate) input: u64,
    pub(crate) cached: u64,
    pub(crate) cache_write: u64,
    /// The part of `cache_write` that lives for an hour.
    pub(crate) cache_write_1h: u64,
    /// All output, reasoning included.
    pub(crate) output: u64,
    pub(crate) reasoning: u64,
}

impl TokenCounts {
    /// The same with details that stay within the input: what was read from a cache is a part of it,
    /// and what was written a part of the rest. Gateways report the same tokens as both.
    pub(crate) fn within_input(self) -> Self {
        let cached = self.cached.min(self.input);
        Self {
            cached,
            cache_write: self.cache_write.min(self.input - cached),
            ..self
        }
    }

    /// Input that was neither read from nor written to a cache.
    pub(crate) const fn uncached_input(self) -> u64 {
        self.input
            .saturating_sub(self.cached)
            .saturating_sub(self.cache_write)
    }

    pub(crate) const fn total(self) -> u64 {
        self.input.saturating_add(self.output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_become_objects() {
        for (text, object) in [
            ("", "{}"),
            ("  ", "{}"),
            ("null", "{}"),
            (" {\"a\": 1} ", "{\"a\": 1}"),
            ("[1]", "{\"value\":[1]}"),
            ("{\"a\":", "{\"invalid_json\":\"{\\\"a\\\":\"}"),
        ] {
            assert_eq!(Arguments::Text(text.into()).as_object(), object, "{text}");
        }
    }

    #[test]
    fn efforts_and_budgets_convert() {
        for effort in [Effort::None, Effort::Low, Effort::Medium, Effort::High] {
            assert_eq!(Effort::of_budget(effort.budget()), effort);
            assert_eq!(Effort::read(effort.name()), Some(effort));
        }
        let off = Reasoning {
            mode: ThinkingMode::Off,
            budget: Some(2_000),
            ..Reasoning::default()
        };
        assert_eq!(
            (off.as_effort(), off.as_budget()),
            (Some(Effort::None), Some(0))
        );
    }

    #[test]
    fn details_stay_within_the_input() {
        for (input, cached, write, expected) in [
            (2_168, 2_161, 2_161, (2_161, 7)),
            (2_168, 0, 2_161, (0, 2_161)),
            (5, 9, 9, (5, 0)),
            (10, 4, 6, (4, 6)),
        ] {
            let usage = TokenCounts {
                input,
                cached,
                cache_write: write,
                ..TokenCounts::default()
            };
            let found = usage.within_input();
            assert_eq!((found.cached, found.cache_write), expected);
            assert_eq!(
                found.uncached_input() + found.cached + found.cache_write,
                input
            );
        }
    }

    #[test]
    fn uncached_input_never_underflows() {
        let usage = TokenCounts {
            input: 5,
            cached: 9,
            ..TokenCounts::default()
        };
        assert_eq!(usage.uncached_input(), 0);
    }
}
