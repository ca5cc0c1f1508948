//! Request in no particular format, and the answer to it. It must not know a wire format.

use fastrand::Rng;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    config::MockConfig,
    control::Controls,
    prose::{self, Prose},
    schema,
    usage::{MockUsage, UsageControl},
};

/// Bytes of the prompt that an answer is derived from.
const PROMPT_READ: usize = 4_096;

/// Request for an answer, in no particular format.
#[derive(Debug, Default)]
pub(crate) struct AnswerRequest {
    /// Text of the last user message.
    pub(crate) prompt: String,
    pub(crate) input_tokens: u64,
    pub(crate) cache: PromptCache,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) stops: Vec<String>,
    /// Number of texts; none for embeddings.
    pub(crate) choices: usize,
    pub(crate) tools: Vec<RequestedTool>,
    pub(crate) tool_choice: RequestedToolChoice,
    pub(crate) parallel_tools: bool,
    /// The last turn carries tool results.
    pub(crate) answered: bool,
    /// The format puts a sentence before a tool call.
    pub(crate) preface: bool,
    pub(crate) shape: OutputShape,
    pub(crate) reasoning: ReasoningMode,
}

/// Input tokens by what the provider's cache does with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PromptCache {
    pub(crate) read: u64,
    pub(crate) write_5m: u64,
    pub(crate) write_1h: u64,
}

/// A tool that can be called.
#[derive(Debug)]
pub(crate) struct RequestedTool {
    pub(crate) name: String,
    pub(crate) schema: Value,
}

/// Tool choice of a request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum RequestedToolChoice {
    #[default]
    Auto,
    Never,
    Any,
    Named(String),
}

/// Required shape of an answer's text.
#[derive(Debug, Default)]
pub(crate) enum OutputShape {
    #[default]
    Prose,
    Object,
    Schema(Value),
}

/// Reasoning before the answer: its token limit, and its visibility to the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ReasoningMode {
    #[default]
    Off,
    Hidden(u64),
    Visible(u64),
}

/// An answer of one or several choices.
#[derive(Debug)]
pub(crate) struct MockAnswer {
    pub(crate) choices: Vec<AnswerChoice>,
    pub(crate) usage: MockUsage,
    /// True if usage is reported to the client.
    pub(crate) usage_told: bool,
}

#[derive(Debug)]
pub(crate) struct AnswerChoice {
    pub(crate) parts: Vec<AnswerPart>,
    pub(crate) stop: AnswerStop,
}

#[derive(Debug)]
pub(crate) enum AnswerPart {
    /// Reasoning; without text where the client does not see it.
    Thinking(Prose),
    Text(Prose),
    /// A tool call; the text is its arguments in JSON.
    Call {
        name: String,
        arguments: Prose,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AnswerStop {
    End,
    Length,
    Tools,
    Sequence(String),
}

impl MockAnswer {
    /// Pieces that all choices are streamed in.
    pub(crate) fn pieces(&self) -> u64 {
        self.choices
            .iter()
            .flat_map(|choice| &choice.parts)
            .map(|part| part.prose().pieces())
            .sum()
    }
}

impl AnswerPart {
    pub(crate) fn prose(&self) -> &Prose {
        match self {
            Self::Thinking(prose)
            | Self::Text(prose)
            | Self::Call {
                arguments: prose, ..
            } => prose,
        }
    }
}

/// Answers `ask`. `echo` is the text to give in place of prose.
pub(crate) fn answer(
    ask: &AnswerRequest,
    controls: &Controls,
    echo: Option<String>,
    config: &MockConfig,
) -> MockAnswer {
    let seed = controls.seed.unwrap_or(config.seed);
    let mut rng = seed_rng(seed, &ask.prompt);
    let reasoning = reasoning_tokens(ask, &mut rng);
    let mut writer = AnswerWriter {
        ask,
        controls,
        config,
        echo,
        reasoning,
        rng,
    };
    let choices: Vec<AnswerChoice> = (0..ask.choices).map(|_| writer.choice()).collect();
    let usage = match controls.usage {
        Some(UsageControl::Exact(usage)) => usage,
        Some(UsageControl::Random) => MockUsage::random(&mut writer.rng),
        None => usage(ask, &choices, reasoning),
    };
    MockAnswer {
        choices,
        usage,
        usage_told: !controls.no_usage.unwrap_or_default(),
    }
}

/// A generator that gives the same for the same seed and text, on every machine and version.
pub(crate) fn seed_rng(seed: u64, text: &str) -> Rng {
    let read = &text[..text.floor_char_boundary(PROMPT_READ)];
    let hash = Sha256::new()
        .chain_update(seed.to_le_bytes())
        .chain_update(read)
        .finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    Rng::with_seed(u64::from_le_bytes(first))
}

struct AnswerWriter<'a> {
    ask: &'a AnswerRequest,
    controls: &'a Controls,
    config: &'a MockConfig,
    echo: Option<String>,
    reasoning: u64,
    rng: Rng,
}

impl AnswerWriter<'_> {
    fn choice(&mut self) -> AnswerChoice {
        let mut parts: Vec<AnswerPart> = self.thinking().into_iter().collect();
        let calls = self.calls();
        if calls.is_empty() {
            let (text, stop) = self.text();
            parts.push(AnswerPart::Text(text));
            return AnswerChoice { parts, stop };
        }
        if self.ask.preface && self.ask.tool_choice == RequestedToolChoice::Auto {
            parts.push(AnswerPart::Text(Prose::plain(
                "Let me look that up for you.".to_owned(),
            )));
        }
        parts.extend(calls);
        AnswerChoice {
            parts,
            stop: AnswerStop::Tools,
        }
    }

    fn thinking(&mut self) -> Option<AnswerPart> {
        match self.ask.reasoning {
            ReasoningMode::Off => None,
            ReasoningMode::Hidden(_) => Some(AnswerPart::Thinking(Prose::plain(String::new()))),
            ReasoningMode::Visible(_) => {
                let topic = prose::topic(&self.ask.prompt);
                Some(AnswerPart::Thinking(Prose::about(
                    &topic,
                    self.reasoning,
                    &mut self.rng,
                )))
            }
        }
    }

    fn calls(&mut self) -> Vec<AnswerPart> {
        let ask = self.ask;
        let wanted = self.controls.tools.unwrap_or(1);
        let count = if ask.parallel_tools {
            wanted
        } else {
            wanted.min(1)
        };
        let tools: Vec<&RequestedTool> = match &ask.tool_choice {
            RequestedToolChoice::Never => Vec::new(),
            _ if ask.answered => Vec::new(),
            RequestedToolChoice::Named(name) => {
                ask.tools.iter().filter(|t| t.name == *name).collect()
            }
            RequestedToolChoice::Auto | RequestedToolChoice::Any => ask.tools.iter().collect(),
        };
        tools
            .into_iter()
            .cycle()
            .take(count)
            .map(|tool| self.call(tool))
            .collect()
    }

    fn call(&mut self, tool: &RequestedTool) -> AnswerPart {
        let arguments = schema::value(&tool.schema, &mut self.rng);
        let arguments = if arguments.is_object() {
            arguments.to_string()
        } else {
            "{}".to_owned()
        };
        AnswerPart::Call {
            name: tool.name.clone(),
            arguments: Prose::json(arguments),
        }
    }

    fn text(&mut self) -> (Prose, AnswerStop) {
        let (prose, stop) = match (&self.echo, &self.ask.shape) {
            (Some(echo), _) => (Prose::plain(echo.clone()), AnswerStop::End),
            (None, OutputShape::Schema(schema)) => (
                Prose::json(schema::value(schema, &mut self.rng).to_string()),
                AnswerStop::End,
            ),
            (None, OutputShape::Object) => (
                Prose::json(r#"{"answer":"forty-two","certain":true}"#.to_owned()),
                AnswerStop::End,
            ),
            (None, OutputShape::Prose) => self.prose(),
        };
        match self
            .controls
            .pad
            .and_then(|bytes| usize::try_from(bytes).ok())
        {
            Some(bytes) => (prose.pad_to(bytes), stop),
            None => (prose, stop),
        }
    }

    fn prose(&mut self) -> (Prose, AnswerStop) {
        let wanted = self.controls.tokens.unwrap_or_else(|| self.usual_length());
        let room = self
            .ask
            .max_tokens
            .map_or(u64::MAX, |most| most.saturating_sub(self.reasoning));
        let length = wanted.min(room.max(1));
        let prose = Prose::about(&prose::topic(&self.ask.prompt), length, &mut self.rng);
        if let Some((end, sequence)) = first_stop(prose.text(), &self.ask.stops) {
            return (prose.cut(end), AnswerStop::Sequence(sequence));
        }
        (
            prose,
            if length < wanted {
                AnswerStop::Length
            } else {
                AnswerStop::End
            },
        )
    }

    fn usual_length(&mut self) -> u64 {
        let usual = u64::from(self.config.tokens);
        let stray = usual * u64::from(self.config.jitter_percent.min(100)) / 100;
        self.rng.u64(usual - stray..=usual + stray).max(1)
    }
}

/// Returns the position of the first of `stops` in `text`, and the stop.
fn first_stop(text: &str, stops: &[String]) -> Option<(usize, String)> {
    let found = stops.iter().filter(|stop| !stop.is_empty());
    let found = found.filter_map(|stop| Some((text.find(stop.as_str())?, stop.clone())));
    found.min_by_key(|(at, _)| *at)
}

/// Returns the reasoning tokens: at most half of the token limit.
fn reasoning_tokens(ask: &AnswerRequest, rng: &mut Rng) -> u64 {
    let (ReasoningMode::Hidden(most) | ReasoningMode::Visible(most)) = ask.reasoning else {
        return 0;
    };
    let most = most.min(ask.max_tokens.unwrap_or(u64::MAX) / 2).max(1);
    rng.u64(most.div_ceil(4)..=most)
}

fn usage(ask: &AnswerRequest, choices: &[AnswerChoice], reasoning: u64) -> MockUsage {
    let parts = choices.iter().flat_map(|choice| &choice.parts);
    let told: u64 = parts
        .filter(|part| !matches!(part, AnswerPart::Thinking(_)))
        .map(|part| part.prose().tokens())
        .sum();
    let reasoning = reasoning * choices.len() as u64;
    MockUsage {
        input: ask.input_tokens,
        cached: ask.cache.read,
        cache_write_5m: ask.cache.write_5m,
        cache_write_1h: ask.cache.write_1h,
        output: told + reasoning,
        reasoning,
    }
    .clamp_parts()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ask() -> AnswerRequest {
        AnswerRequest {
            prompt: "Explain backpressure".to_owned(),
            input_tokens: 9,
            choices: 1,
            parallel_tools: true,
            ..AnswerRequest::default()
        }
    }

    fn tools() -> Vec<RequestedTool> {
        ["get_weather", "get_time"]
            .map(|name| RequestedTool {
                name: name.to_owned(),
                schema: json!({"type": "object", "properties": {"city": {"type": "string"}}}),
            })
            .into()
    }

    fn reply(ask: &AnswerRequest, controls: &str) -> MockAnswer {
        let controls = Controls::from_text(controls).unwrap();
        answer(ask, &controls, None, &MockConfig::default())
    }

    fn tool_names(answer: &MockAnswer) -> Vec<&str> {
        let parts = answer.choices[0].parts.iter();
        parts
            .filter_map(|part| match part {
                AnswerPart::Call { name, .. } => Some(name.as_str()),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn the_same_request_gets_the_same_answer() {
        let text = |ask: &AnswerRequest, controls: &str| {
            reply(ask, controls).choices[0].parts[0]
                .prose()
                .text()
                .to_owned()
        };
        assert_eq!(text(&ask(), ""), text(&ask(), ""));
        assert_ne!(text(&ask(), ""), text(&ask(), "seed=1"));
        let other = AnswerRequest {
            prompt: "Explain queues".to_owned(),
            ..ask()
        };
        assert_ne!(text(&ask(), ""), text(&other, ""));
    }

    #[test]
    fn output_tokens_are_those_of_the_text() {
        assert_eq!(reply(&ask(), "").usage.output, 40);
        assert_eq!(
            reply(&ask(), "tokens=7").usage,
            MockUsage {
                input: 9,
                output: 7,
                ..MockUsage::default()
            }
        );
        assert_eq!(
            reply(
                &AnswerRequest {
                    choices: 3,
                    ..ask()
                },
                "tokens=7"
            )
            .usage
            .output,
            21
        );
    }

    #[test]
    fn an_answer_ends_at_the_limit_or_at_a_stop_sequence() {
        let short = AnswerRequest {
            max_tokens: Some(5),
            ..ask()
        };
        let cut = reply(&short, "");
        assert_eq!(
            (cut.usage.output, &cut.choices[0].stop),
            (5, &AnswerStop::Length)
        );
        assert_eq!(reply(&short, "tokens=5").choices[0].stop, AnswerStop::End);

        let stopped = reply(
            &AnswerRequest {
                stops: vec!["e".to_owned(), "t".to_owned()],
                ..ask()
            },
            "",
        );
        let text = stopped.choices[0].parts[0].prose().text();
        assert!(!text.contains(['e', 't']), "{text}");
        assert!(
            matches!(&stopped.choices[0].stop, AnswerStop::Sequence(s) if s == "e" || s == "t")
        );
    }

    #[test]
    fn tools_are_called_as_the_choice_says() {
        let with = |tool_choice| AnswerRequest {
            tools: tools(),
            tool_choice,
            ..ask()
        };
        assert_eq!(
            tool_names(&reply(&with(RequestedToolChoice::Auto), "")),
            ["get_weather"]
        );
        assert_eq!(
            tool_names(&reply(&with(RequestedToolChoice::Auto), "tools=2")),
            ["get_weather", "get_time"]
        );
        assert_eq!(
            tool_names(&reply(&with(RequestedToolChoice::Auto), "tools=3")).len(),
            3
        );
        assert!(tool_names(&reply(&with(RequestedToolChoice::Auto), "tools=0")).is_empty());
        assert!(tool_names(&reply(&with(RequestedToolChoice::Never), "tools=2")).is_empty());
        let named = with(RequestedToolChoice::Named("get_time".to_owned()));
        assert_eq!(tool_names(&reply(&named, "")), ["get_time"]);
        let single = AnswerRequest {
            parallel_tools: false,
            ..with(RequestedToolChoice::Any)
        };
        assert_eq!(tool_names(&reply(&single, "tools=2")), ["get_weather"]);
        let answered = AnswerRequest {
            answered: true,
            ..with(RequestedToolChoice::Auto)
        };
        assert!(tool_names(&reply(&answered, "")).is_empty());
        assert!(tool_names(&reply(&ask(), "tools=2")).is_empty());
    }

    #[test]
    fn a_preface_stands_before_calls_nobody_forced() {
        let kinds = |tool_choice| {
            let ask = AnswerRequest {
                tools: tools(),
                preface: true,
                tool_choice,
                ..ask()
            };
            reply(&ask, "").choices[0].parts.len()
        };
        assert_eq!(
            (
                kinds(RequestedToolChoice::Auto),
                kinds(RequestedToolChoice::Any)
            ),
            (2, 1)
        );
    }

    #[test]
    fn reasoning_is_counted_and_shown_where_asked() {
        let hidden = reply(
            &AnswerRequest {
                reasoning: ReasoningMode::Hidden(100),
                ..ask()
            },
            "tokens=10",
        );
        assert!((25..=100).contains(&hidden.usage.reasoning));
        assert_eq!(hidden.usage.output, hidden.usage.reasoning + 10);
        assert_eq!(hidden.choices[0].parts[0].prose().text(), "");
        let seen = reply(
            &AnswerRequest {
                reasoning: ReasoningMode::Visible(100),
                ..ask()
            },
            "tokens=10",
        );
        assert_eq!(
            seen.choices[0].parts[0].prose().pieces(),
            seen.usage.reasoning
        );
        let tight = AnswerRequest {
            reasoning: ReasoningMode::Visible(100),
            max_tokens: Some(20),
            ..ask()
        };
        assert!(reply(&tight, "").usage.output <= 20);
    }

    #[test]
    fn controls_decide_text_and_usage() {
        let padded = reply(&ask(), "pad=3000");
        assert_eq!(padded.choices[0].parts[0].prose().text().len(), 3_000);
        let exact = reply(&ask(), "usage=input=5,cached=2,output=3");
        assert_eq!(
            exact.usage,
            MockUsage {
                input: 5,
                cached: 2,
                output: 3,
                ..MockUsage::default()
            }
        );
        assert_eq!(
            reply(&ask(), "usage=random").usage,
            reply(&ask(), "usage=random").usage
        );
        assert!(!reply(&ask(), "no_usage").usage_told);
    }

    #[test]
    fn structured_answers_fit_their_schema() {
        let schema =
            json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
        let structured = reply(
            &AnswerRequest {
                shape: OutputShape::Schema(schema),
                ..ask()
            },
            "",
        );
        let made: Value =
            serde_json::from_str(structured.choices[0].parts[0].prose().text()).unwrap();
        assert!(made["n"].is_i64());
        let object = reply(
            &AnswerRequest {
                shape: OutputShape::Object,
                ..ask()
            },
            "",
        );
        let made: Value = serde_json::from_str(object.choices[0].parts[0].prose().text()).unwrap();
        assert!(made.is_object());
    }
}
