//! Gemini: `POST /v1beta/models/{model}:generateContent`, `:streamGenerateContent` and
//! `:countTokens`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use fastrand::Rng;
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use self::stream::GeminiStream;
use super::{Encoder, Job, Refusal, Surface, json, reading};
use crate::{
    ask::{Ask, Choice, Part, Reasoning, Shape, Stop, ToolChoice},
    prose,
    usage::Usage,
};

mod check;
mod stream;

/// The surface of `:generateContent` and `:streamGenerateContent`.
pub(crate) struct Generate;

/// The surface of `:countTokens`.
pub(crate) struct Count;

/// The fields whose tokens count as input.
const INPUT: [&str; 3] = ["tools", "systemInstruction", "contents"];

/// A prompt this long or longer is cached by itself.
const CACHED_FROM: u64 = 1_024;

impl Surface for Generate {
    fn read(&self, body: &Value) -> Result<Ask, Refusal> {
        check::request(body)?;
        let contents = reading::list(body, "contents")?;
        let config = &body["generationConfig"];
        let input_tokens = reading::tokens(body, &INPUT);
        Ok(Ask {
            prompt: prompt(contents),
            input_tokens,
            cache: crate::ask::Cache {
                read: if input_tokens >= CACHED_FROM {
                    input_tokens / 256 * 128
                } else {
                    0
                },
                ..crate::ask::Cache::default()
            },
            max_tokens: config["maxOutputTokens"].as_u64(),
            stops: reading::strings(&config["stopSequences"]),
            choices: config["candidateCount"]
                .as_u64()
                .and_then(|count| usize::try_from(count).ok())
                .unwrap_or(1),
            tools: tools(body),
            tool_choice: tool_choice(&body["toolConfig"]["functionCallingConfig"]),
            parallel_tools: true,
            answered: contents.last().is_some_and(has_result),
            preface: false,
            shape: shape(config),
            reasoning: thinking(&config["thinkingConfig"]),
        })
    }

    fn whole(&self, _body: &Value, job: &mut Job) -> Vec<u8> {
        let id = prose::id("", 22, &mut job.ids);
        let mut ids = job.ids.clone();
        let signs = signs(&job.model, &job.answer.usage);
        let choices = job.answer.choices.iter().enumerate();
        let candidates = choices
            .map(|(index, choice)| whole_candidate(index, choice, signs, &mut ids))
            .collect();
        json(&Generated {
            candidates,
            usage_metadata: job
                .answer
                .usage_told
                .then(|| UsageMetadata::of(&job.answer.usage)),
            model_version: &job.model,
            response_id: &id,
        })
    }

    fn encoder(&self, _body: &Value, job: &mut Job) -> Option<Box<dyn Encoder>> {
        Some(Box::new(GeminiStream::new(job)))
    }
}

impl Surface for Count {
    fn read(&self, body: &Value) -> Result<Ask, Refusal> {
        let request = match &body["generateContentRequest"] {
            Value::Null => body,
            request => request,
        };
        check::request(request)?;
        Ok(Ask {
            input_tokens: reading::tokens(request, &INPUT),
            ..Ask::default()
        })
    }

    fn whole(&self, _body: &Value, job: &mut Job) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Counted {
            total_tokens: u64,
        }
        json(&Counted {
            total_tokens: job.answer.usage.input,
        })
    }

    fn bills(&self) -> bool {
        false
    }
}

/// The text of the last content that a user wrote.
fn prompt(contents: &[Value]) -> String {
    let users = contents.iter().rev().filter(|one| one["role"] != "model");
    let text = |content: &Value| {
        let parts = content["parts"].as_array()?.iter();
        let texts: Vec<&str> = parts.filter_map(|part| part["text"].as_str()).collect();
        (!texts.is_empty()).then(|| texts.join("\n"))
    };
    users.filter_map(text).next().unwrap_or_default()
}

fn has_result(content: &Value) -> bool {
    let mut parts = content["parts"].as_array().into_iter().flatten();
    parts.any(|part| part["functionResponse"].is_object())
}

fn tools(body: &Value) -> Vec<crate::ask::Tool> {
    let tools = body["tools"].as_array().into_iter().flatten();
    let declared = tools.flat_map(|tool| {
        tool["functionDeclarations"]
            .as_array()
            .into_iter()
            .flatten()
    });
    declared
        .filter_map(|f| reading::tool(&f["name"], &f["parametersJsonSchema"]))
        .collect()
}

fn tool_choice(config: &Value) -> ToolChoice {
    let names = reading::strings(&config["allowedFunctionNames"]);
    match (config["mode"].as_str(), names.first()) {
        (Some("NONE"), _) => ToolChoice::Never,
        (Some("ANY"), Some(name)) => ToolChoice::Named(name.clone()),
        (Some("ANY"), None) => ToolChoice::Any,
        _ => ToolChoice::Auto,
    }
}

fn shape(config: &Value) -> Shape {
    match &config["responseJsonSchema"] {
        Value::Null if config["responseMimeType"] == "application/json" => Shape::Object,
        Value::Null => Shape::Prose,
        schema => Shape::Schema(schema.clone()),
    }
}

/// How long is thought, and whether the client is shown it.
fn thinking(config: &Value) -> Reasoning {
    let level = config["thinkingLevel"].as_str().map(str::to_lowercase);
    let tokens = match config["thinkingBudget"].as_i64() {
        Some(0) => None,
        Some(budget) => Some(u64::try_from(budget).map_or(192, |budget| (budget / 16).min(256))),
        None => reading::effort(level.as_deref()),
    };
    match (tokens, config["includeThoughts"] == true) {
        (None, _) => Reasoning::Off,
        (Some(tokens), true) => Reasoning::Visible(tokens),
        (Some(tokens), false) => Reasoning::Hidden(tokens),
    }
}

/// Whether the first call of an answer is signed: where the model thought, and always from
/// Gemini 3 on.
fn signs(model: &str, usage: &Usage) -> bool {
    usage.reasoning > 0 || check::wants_signatures(model)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Generated<'a> {
    candidates: Vec<Candidate<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_metadata: Option<UsageMetadata>,
    model_version: &'a str,
    response_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Candidate<'a> {
    content: Content<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_reason: Option<&'static str>,
    index: usize,
}

#[derive(Serialize)]
struct Content<'a> {
    parts: Vec<WirePart<'a>>,
    role: &'static str,
}

impl<'a> Content<'a> {
    const fn of(parts: Vec<WirePart<'a>>) -> Self {
        Self {
            parts,
            role: "model",
        }
    }
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct WirePart<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<FunctionCall<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<String>,
}

#[derive(Serialize)]
struct FunctionCall<'a> {
    name: &'a str,
    args: Option<&'a RawValue>,
}

fn whole_candidate<'a>(
    index: usize,
    choice: &'a Choice,
    signs: bool,
    ids: &mut Rng,
) -> Candidate<'a> {
    let mut unsigned = signs;
    let parts = choice
        .parts
        .iter()
        .filter_map(|part| whole_part(part, &mut unsigned, ids));
    Candidate {
        content: Content::of(parts.collect()),
        finish_reason: Some(finish_reason(&choice.stop)),
        index,
    }
}

/// A part as it is sent whole; a thought that the client isn't shown is none. `unsigned`: the
/// next call is the first, which is signed.
fn whole_part<'a>(part: &'a Part, unsigned: &mut bool, ids: &mut Rng) -> Option<WirePart<'a>> {
    match part {
        Part::Thinking(text) if text.text().is_empty() => None,
        Part::Thinking(text) => Some(text_part(text.text(), true)),
        Part::Text(text) => Some(text_part(text.text(), false)),
        Part::Call { name, arguments } => Some(WirePart {
            function_call: Some(FunctionCall {
                name,
                args: serde_json::from_str(arguments.text()).ok(),
            }),
            thought_signature: std::mem::take(unsigned).then(|| signature(ids)),
            ..WirePart::default()
        }),
    }
}

fn text_part(text: &str, thought: bool) -> WirePart<'_> {
    WirePart {
        text: Some(text),
        thought: thought.then_some(true),
        ..WirePart::default()
    }
}

/// What a signature of the mock's begins with, so that it knows its own.
const SIGNED: &[u8] = b"mock-thought";

fn signature(ids: &mut Rng) -> String {
    let bytes: [u8; 96] = std::array::from_fn(|_| ids.u8(..));
    STANDARD.encode([SIGNED, &bytes].concat())
}

fn finish_reason(stop: &Stop) -> &'static str {
    match stop {
        // A call ends an answer as its end does.
        Stop::End | Stop::Sequence(_) | Stop::Tools => "STOP",
        Stop::Length => "MAX_TOKENS",
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UsageMetadata {
    prompt_token_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidates_token_count: Option<u64>,
    total_token_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_content_token_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thoughts_token_count: Option<u64>,
}

impl UsageMetadata {
    /// Usage as Gemini tells it: thoughts come on top of the candidates.
    fn of(usage: &Usage) -> Self {
        let above_zero = |count: u64| (count > 0).then_some(count);
        Self {
            prompt_token_count: usage.input,
            candidates_token_count: Some(usage.output.saturating_sub(usage.reasoning)),
            total_token_count: usage.total(),
            cached_content_token_count: above_zero(usage.cached),
            thoughts_token_count: above_zero(usage.reasoning),
        }
    }

    /// Usage before anything was answered.
    fn of_prompt(usage: &Usage) -> Self {
        Self {
            candidates_token_count: None,
            thoughts_token_count: None,
            total_token_count: usage.input,
            ..Self::of(usage)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_is_read() {
        let ask = Generate
            .read(&json!({
                "model": "gemini-2.5-flash",
                "contents": [{"role": "user", "parts": [{"text": "hello"}]}],
                "tools": [{"functionDeclarations": [{"name": "f", "parametersJsonSchema": {}}]}],
                "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["f"]}},
                "generationConfig": {
                    "maxOutputTokens": 9, "stopSequences": ["x"], "candidateCount": 2,
                    "responseMimeType": "application/json", "responseJsonSchema": {"const": 1},
                    "thinkingConfig": {"includeThoughts": true, "thinkingBudget": 1600}
                }
            }))
            .unwrap();
        assert_eq!((ask.prompt.as_str(), ask.choices), ("hello", 2));
        assert_eq!(ask.max_tokens, Some(9));
        assert_eq!(ask.tool_choice, ToolChoice::Named("f".to_owned()));
        assert_eq!(ask.reasoning, Reasoning::Visible(100));
        assert!(matches!(ask.shape, Shape::Schema(_)));
    }

    #[test]
    fn thoughts_are_shown_or_only_counted() {
        for (config, wanted) in [
            (json!(null), Reasoning::Off),
            (
                json!({"thinkingBudget": 0, "includeThoughts": true}),
                Reasoning::Off,
            ),
            (json!({"thinkingLevel": "LOW"}), Reasoning::Hidden(64)),
            (
                json!({"thinkingLevel": "high", "includeThoughts": true}),
                Reasoning::Visible(512),
            ),
            (json!({"thinkingBudget": -1}), Reasoning::Hidden(192)),
        ] {
            assert_eq!(thinking(&config), wanted, "{config}");
        }
    }
}
