//! A request as the mock understands it, whatever its format, and the answer to it. How either
//! looks on the wire is `format`'s.

use fastrand::Rng;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    config::Config,
    control::Controls,
    prose::{self, Prose},
    schema,
    usage::{Usage, UsageControl},
};

/// How much of the prompt an answer is drawn from, in bytes.
const PROMPT_READ: usize = 4_096;

/// What a request asks for.
#[derive(Debug, Default)]
pub(crate) struct Ask {
    /// Text of the last user message.
    pub(crate) prompt: String,
    pub(crate) input_tokens: u64,
    pub(crate) cache: Cache,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) stops: Vec<String>,
    /// How many texts are wanted; none by embeddings.
    pub(crate) choices: usize,
    pub(crate) tools: Vec<Tool>,
    pub(crate) tool_choice: ToolChoice,
    pub(crate) parallel_tools: bool,
    /// The last turn carries tool results.
    pub(crate) answered: bool,
    /// The format puts a sentence before a tool call.
    pub(crate) preface: bool,
    pub(crate) shape: Shape,
    pub(crate) reasoning: Reasoning,
}

/// Input tokens by what the provider's cache does with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cache {
    pub(crate) read: u64,
    pub(crate) write_5m: u64,
    pub(crate) write_1h: u64,
}

/// A tool that can be called.
#[derive(Debug)]
pub(crate) struct Tool {
    pub(crate) name: String,
    pub(crate) schema: Value,
}

/// Which tools a request wants called.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum ToolChoice {
    #[default]
    Auto,
    Never,
    Any,
    Named(String),
}

/// What the text of an answer must look like.
#[derive(Debug, Default)]
pub(crate) enum Shape {
    #[default]
    Prose,
    Object,
    Schema(Value),
}

/// Whether to think before answering, for how many tokens at most, and in sight of the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reasoning {
    #[default]
    Off,
    Hidden(u64),
    Visible(u64),
}

/// An answer of one or several choices.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) choices: Vec<Choice>,
    pub(crate) usage: Usage,
    /// Whether usage is told to the client.
    pub(crate) usage_told: bool,
}

#[derive(Debug)]
pub(crate) struct Choice {
    pub(crate) parts: Vec<Part>,
    pub(crate) stop: Stop,
}

#[derive(Debug)]
pub(crate) enum Part {
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
pub(crate) enum Stop {
    End,
    Length,
    Tools,
    Sequence(String),
}

impl Answer {
    /// Pieces that all choices are streamed in.
    pub(crate) fn pieces(&self) -> u64 {
        self.choices
            .iter()
            .flat_map(|choice| &choice.parts)
            .map(|part| part.prose().pieces())
            .sum()
    }
}

impl Part {
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
    ask: &Ask,
    controls: &Controls,
    echo: Option<String>,
    config: &Config,
) -> Answer {
    let seed = controls.seed.unwrap_or(config.seed);
    let mut rng = seeded(seed, &ask.prompt);
    let reasoning = reasoning_tokens(ask, &mut rng);
    let mut writer = Writer {
        ask,
        controls,
        config,
        echo,
        reasoning,
        rng,
    };
    let choices: Vec<Choice> = (0..ask.choices).map(|_| writer.choice()).collect();
    let usage = match controls.usage {
        Some(UsageControl::Exact(usage)) => usage,
        Some(UsageControl::Random) => Usage::random(&mut writer.rng),
        None => usage(ask, &choices, reasoning),
    };
    Answer {
        choices,
        usage,
        usage_told: !controls.no_usage.unwrap_or_default(),
    }
}

/// A generator that gives the same for the same seed and text, on every machine and version.
pub(crate) fn seeded(seed: u64, text: &str) -> Rng {
    let read = &text[..text.floor_char_boundary(PROMPT_READ)];
    let hash = Sha256::new()
        .chain_update(seed.to_le_bytes())
        .chain_update(read)
        .finalize();
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    Rng::with_seed(u64::from_le_bytes(first))
}

struct Writer<'a> {
    ask: &'a Ask,
    controls: &'a Controls,
    config: &'a Config,
    echo: Option<String>,
    reasoning: u64,
    rng: Rng,
}

impl Writer<'_> {
    fn choice(&mut self) -> Choice {
        let mut parts: Vec<Part> = self.thinking().into_iter().collect();
        let calls = self.calls();
        if calls.is_empty() {
            let (text, stop) = self.text();
            parts.push(Part::Text(text));
            return Choice { parts, stop };
        }
        if self.ask.preface && self.ask.tool_choice == ToolChoice::Auto {
            parts.push(Part::Text(Prose::plain(
                "Let me look that up for you.".to_owned(),
            )));
        }
        parts.extend(calls);
        Choice {
            parts,
            stop: Stop::Tools,
        }
    }

    fn thinking(&mut self) -> Option<Part> {
        match self.ask.reasoning {
            Reasoning::Off => None,
            Reasoning::Hidden(_) => Some(Part::Thinking(Prose::plain(String::new()))),
            Reasoning::Visible(_) => {
                let topic = prose::topic(&self.ask.prompt);
                Some(Part::Thinking(Prose::about(
                    &topic,
                    self.reasoning,
                    &mut self.rng,
                )))
            }
        }
    }

    fn calls(&mut self) -> Vec<Part> {
        let ask = self.ask;
        let wanted = self.controls.tools.unwrap_or(1);
        let count = if ask.parallel_tools {
            wanted
        } else {
            wanted.min(1)
        };
        let tools: Vec<&Tool> = match &ask.tool_choice {
            ToolChoice::Never => Vec::new(),
            _ if ask.answered => Vec::new(),
            ToolChoice::Named(name) => ask.tools.iter().filter(|t| t.name == *name).collect(),
            ToolChoice::Auto | ToolChoice::Any => ask.tools.iter().collect(),
        };
        tools
            .into_iter()
            .cycle()
            .take(count)
            .map(|tool| self.call(tool))
            .collect()
    }

    fn call(&mut self, tool: &Tool) -> Part {
        let arguments = schema::value(&tool.schema, &mut self.rng);
        let arguments = if arguments.is_object() {
            arguments.to_string()
        } else {
            "{}".to_owned()
        };
        Part::Call {
            name: tool.name.clone(),
            arguments: Prose::json(arguments),
        }
    }

    fn text(&mut self) -> (Prose, Stop) {
        let (prose, stop) = match (&self.echo, &self.ask.shape) {
            (Some(echo), _) => (Prose::plain(echo.clone()), Stop::End),
            (None, Shape::Schema(schema)) => (
                Prose::json(schema::value(schema, &mut self.rng).to_string()),
                Stop::End,
            ),
            (None, Shape::Object) => (
                Prose::json(r#"{"answer":"forty-two","certain":true}"#.to_owned()),
                Stop::End,
            ),
            (None, Shape::Prose) => self.prose(),
        };
        match self
            .controls
            .pad
            .and_then(|bytes| usize::try_from(bytes).ok())
        {
            Some(bytes) => (prose.padded(bytes), stop),
            None => (prose, stop),
        }
    }

    fn prose(&mut self) -> (Prose, Stop) {
        let wanted = self.controls.tokens.unwrap_or_else(|| self.usual_length());
        let room = self
            .ask
            .max_tokens
            .map_or(u64::MAX, |most| most.saturating_sub(self.reasoning));
        let length = wanted.min(room.max(1));
        let prose = Prose::about(&prose::topic(&self.ask.prompt), length, &mut self.rng);
        if let Some((end, sequence)) = first_stop(prose.text(), &self.ask.stops) {
            return (prose.cut(end), Stop::Sequence(sequence));
        }
        (
            prose,
            if length < wanted {
                Stop::Length
            } else {
                Stop::End
            },
        )
    }

    fn usual_length(&mut self) -> u64 {
        let usual = u64::from(self.config.tokens);
        let stray = usual * u64::from(self.config.jitter_percent.min(100)) / 100;
        self.rng.u64(usual - stray..=usual + stray).max(1)
    }
}

/// Where the first of `stops` begins in `text`, and which one it is.
fn first_stop(text: &str, stops: &[String]) -> Option<(usize, String)> {
    let found = stops.iter().filter(|stop| !stop.is_empty());
    let found = found.filter_map(|stop| Some((text.find(stop.as_str())?, stop.clone())));
    found.min_by_key(|(at, _)| *at)
}

/// How long the request is thought about: at most half of what it may spend.
fn reasoning_tokens(ask: &Ask, rng: &mut Rng) -> u64 {
    let (Reasoning::Hidden(most) | Reasoning::Visible(most)) = ask.reasoning else {
        return 0;
    };
    let most = most.min(ask.max_tokens.unwrap_or(u64::MAX) / 2).max(1);
    rng.u64(most.div_ceil(4)..=most)
}

fn usage(ask: &Ask, choices: &[Choice], reasoning: u64) -> Usage {
    let parts = choices.iter().flat_map(|choice| &choice.parts);
    let told: u64 = parts
        .filter(|part| !matches!(part, Part::Thinking(_)))
        .map(|part| part.prose().tokens())
        .sum();
    let reasoning = reasoning * choices.len() as u64;
    Usage {
        input: ask.input_tokens,
        cached: ask.cache.read,
        cache_write_5m: ask.cache.write_5m,
        cache_write_1h: ask.cache.write_1h,
        output: told + reasoning,
        reasoning,
    }
    .fitted()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ask() -> Ask {
        Ask {
            prompt: "Explain backpressure".to_owned(),
            input_tokens: 9,
            choices: 1,
            parallel_tools: true,
            ..Ask::default()
        }
    }

    fn tools() -> Vec<Tool> {
        ["get_weather", "get_time"]
            .map(|name| Tool {
                name: name.to_owned(),
                schema: json!({"type": "object", "properties": {"city": {"type": "string"}}}),
            })
            .into()
    }

    fn reply(ask: &Ask, controls: &str) -> Answer {
        let controls = Controls::from_text(controls).unwrap();
        answer(ask, &controls, None, &Config::default())
    }

    fn called(answer: &Answer) -> Vec<&str> {
        let parts = answer.choices[0].parts.iter();
        parts
            .filter_map(|part| match part {
                Part::Call { name, .. } => Some(name.as_str()),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn the_same_request_gets_the_same_answer() {
        let text = |ask: &Ask, controls: &str| {
            reply(ask, controls).choices[0].parts[0]
                .prose()
                .text()
                .to_owned()
        };
        assert_eq!(text(&ask(), ""), text(&ask(), ""));
        assert_ne!(text(&ask(), ""), text(&ask(), "seed=1"));
        let other = Ask {
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
            Usage {
                input: 9,
                output: 7,
                ..Usage::default()
            }
        );
        assert_eq!(
            reply(
                &Ask {
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
        let short = Ask {
            max_tokens: Some(5),
            ..ask()
        };
        let cut = reply(&short, "");
        assert_eq!((cut.usage.output, &cut.choices[0].stop), (5, &Stop::Length));
        assert_eq!(reply(&short, "tokens=5").choices[0].stop, Stop::End);

        let stopped = reply(
            &Ask {
                stops: vec!["e".to_owned(), "t".to_owned()],
                ..ask()
            },
            "",
        );
        let text = stopped.choices[0].parts[0].prose().text();
        assert!(!text.contains(['e', 't']), "{text}");
        assert!(matches!(&stopped.choices[0].stop, Stop::Sequence(s) if s == "e" || s == "t"));
    }

    #[test]
    fn tools_are_called_as_the_choice_says() {
        let with = |tool_choice| Ask {
            tools: tools(),
            tool_choice,
            ..ask()
        };
        assert_eq!(called(&reply(&with(ToolChoice::Auto), "")), ["get_weather"]);
        assert_eq!(
            called(&reply(&with(ToolChoice::Auto), "tools=2")),
            ["get_weather", "get_time"]
        );
        assert_eq!(called(&reply(&with(ToolChoice::Auto), "tools=3")).len(), 3);
        assert!(called(&reply(&with(ToolChoice::Auto), "tools=0")).is_empty());
        assert!(called(&reply(&with(ToolChoice::Never), "tools=2")).is_empty());
        let named = with(ToolChoice::Named("get_time".to_owned()));
        assert_eq!(called(&reply(&named, "")), ["get_time"]);
        let single = Ask {
            parallel_tools: false,
            ..with(ToolChoice::Any)
        };
        assert_eq!(called(&reply(&single, "tools=2")), ["get_weather"]);
        let answered = Ask {
            answered: true,
            ..with(ToolChoice::Auto)
        };
        assert!(called(&reply(&answered, "")).is_empty());
        assert!(called(&reply(&ask(), "tools=2")).is_empty());
    }

    #[test]
    fn a_preface_stands_before_calls_nobody_forced() {
        let kinds = |tool_choice| {
            let ask = Ask {
                tools: tools(),
                preface: true,
                tool_choice,
                ..ask()
            };
            reply(&ask, "").choices[0].parts.len()
        };
        assert_eq!((kinds(ToolChoice::Auto), kinds(ToolChoice::Any)), (2, 1));
    }

    #[test]
    fn reasoning_is_counted_and_shown_where_asked() {
        let hidden = reply(
            &Ask {
                reasoning: Reasoning::Hidden(100),
                ..ask()
            },
            "tokens=10",
        );
        assert!((25..=100).contains(&hidden.usage.reasoning));
        assert_eq!(hidden.usage.output, hidden.usage.reasoning + 10);
        assert_eq!(hidden.choices[0].parts[0].prose().text(), "");
        let seen = reply(
            &Ask {
                reasoning: Reasoning::Visible(100),
                ..ask()
            },
            "tokens=10",
        );
        assert_eq!(
            seen.choices[0].parts[0].prose().pieces(),
            seen.usage.reasoning
        );
        let tight = Ask {
            reasoning: Reasoning::Visible(100),
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
            Usage {
                input: 5,
                cached: 2,
                output: 3,
                ..Usage::default()
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
            &Ask {
                shape: Shape::Schema(schema),
                ..ask()
            },
            "",
        );
        let made: Value =
            serde_json::from_str(structured.choices[0].parts[0].prose().text()).unwrap();
        assert!(made["n"].is_i64());
        let object = reply(
            &Ask {
                shape: Shape::Object,
                ..ask()
            },
            "",
        );
        let made: Value = serde_json::from_str(object.choices[0].parts[0].prose().text()).unwrap();
        assert!(made.is_object());
    }
}
