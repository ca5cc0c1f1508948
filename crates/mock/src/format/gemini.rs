//! Gemini: `POST /v1beta/models/{model}:generateContent`, `:streamGenerateContent` and
//! `:countTokens`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use fastrand::Rng;
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use self::stream::GeminiStream;
use super::{AnswerJob, Encoder, MockRefusal, Surface, json, reading};
use crate::{
    ask::{
        AnswerChoice, AnswerPart, AnswerRequest, AnswerStop, OutputShape, ReasoningMode,
        RequestedToolChoice,
    },
    prose,
    usage::MockUsage,
};

mod check;
mod stream;

/// The surface of `:generateContent` and `:streamGenerateContent`.
pub(crate) struct GenerateContent;

/// The surface of `:countTokens`.
pub(crate) struct GeminiCountTokens;

/// The fields whose tokens count as input.
const INPUT: [&str; 3] = ["tools", "systemInstruction", "contents"];

/// A prompt this long or longer is cached by itself.
const CACHED_FROM: u64 = 1_024;

impl Surface for GenerateContent {
    fn read(&self, body: &Value) -> Result<AnswerRequest, MockRefusal> {
        check::request(body)?;
        let contents = reading::list(body, "contents")?;
        let config = &body["generationConfig"];
        let input_tokens = reading::tokens(body, &INPUT);
        Ok(AnswerRequest {
            prompt: prompt(contents),
            input_tokens,
            cache: crate::ask::PromptCache {
                read: if input_tokens >= CACHED_FROM {
                    input_tokens / 256 * 128
                } else {
                    0
                },
                ..crate::ask::PromptCache::default()
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

    fn whole(&self, _body: &Value, job: &mut AnswerJob) -> Vec<u8> {
        let id = prose::id("", 22, &mut job.ids);
        let mut ids = job.ids.clone();
        let signs = signs(&job.model, &job.answer.usage);
        let choices = job.answer.choices.iter().enumerate();
        let candidates = choices
            .map(|(index, choice)| whole_candidate(index, choice, signs, &mut ids))
            .collect();
        json(&GeminiAnswer {
            candidates,
            usage_metadata: job
                .answer
                .usage_told
                .then(|| UsageMetadata::new(&job.answer.usage)),
            model_version: &job.model,
            response_id: &id,
        })
    }

    fn encoder(&self, _body: &Value, job: &mut AnswerJob) -> Option<Box<dyn Encoder>> {
        Some(Box::new(GeminiStream::new(job)))
    }
}

impl Surface for GeminiCountTokens {
    fn read(&self, body: &Value) -> Result<AnswerRequest, MockRefusal> {
        let request = match &body["generateContentRequest"] {
            Value::Null => body,
            request => request,
        };
        check::request(request)?;
        Ok(AnswerRequest {
            input_tokens: reading::tokens(request, &INPUT),
            ..AnswerRequest::default()
        })
    }

    fn whole(&self, _body: &Value, job: &mut AnswerJob) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct GeminiTokenCount {
            total_tokens: u64,
        }
        json(&GeminiTokenCount {
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

fn tools(body: &Value) -> Vec<crate::ask::RequestedTool> {
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

fn tool_choice(config: &Value) -> RequestedToolChoice {
    let names = reading::strings(&config["allowedFunctionNames"]);
    match (config["mode"].as_str(), names.first()) {
        (Some("NONE"), _) => RequestedToolChoice::Never,
        (Some("ANY"), Some(name)) => RequestedToolChoice::Named(name.clone()),
        (Some("ANY"), None) => RequestedToolChoice::Any,
        _ => RequestedToolChoice::Auto,
    }
}

fn shape(config: &Value) -> OutputShape {
    match &config["responseJsonSchema"] {
        Value::Null if config["responseMimeType"] == "application/json" => OutputShape::Object,
        Value::Null => OutputShape::Prose,
        schema => OutputShape::Schema(schema.clone()),
    }
}

/// Returns the reasoning mode: token limit and visibility.
fn thinking(config: &Value) -> ReasoningMode {
    let level = config["thinkingLevel"].as_str().map(str::to_lowercase);
    let tokens = match config["thinkingBudget"].as_i64() {
        Some(0) => None,
        Some(budget) => Some(u64::try_from(budget).map_or(192, |budget| (budget / 16).min(256))),
        None => reading::effort(level.as_deref()),
    };
    match (tokens, config["includeThoughts"] == true) {
        (None, _) => ReasoningMode::Off,
        (Some(tokens), true) => ReasoningMode::Visible(tokens),
        (Some(tokens), false) => ReasoningMode::Hidden(tokens),
    }
}

/// Returns true if the first call of an answer is signed: after reasoning, and always from Gemini 3
/// on.
fn signs(model: &str, usage: &MockUsage) -> bool {
    usage.reasoning > 0 || check::wants_signatures(model)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GeminiAnswer<'a> {
    candidates: Vec<GeminiCandidate<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage_metadata: Option<UsageMetadata>,
    model_version: &'a str,
    response_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GeminiCandidate<'a> {
    content: GeminiContent<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    finish_reason: Option<&'static str>,
    index: usize,
}

#[derive(Serialize)]
struct GeminiContent<'a> {
    parts: Vec<WirePart<'a>>,
    role: &'static str,
}

impl<'a> GeminiContent<'a> {
    const fn new(parts: Vec<WirePart<'a>>) -> Self {
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
    choice: &'a AnswerChoice,
    signs: bool,
    ids: &mut Rng,
) -> GeminiCandidate<'a> {
    let mut unsigned = signs;
    let parts = choice
        .parts
        .iter()
        .filter_map(|part| whole_part(part, &mut unsigned, ids));
    GeminiCandidate {
        content: GeminiContent::new(parts.collect()),
        finish_reason: Some(finish_reason(&choice.stop)),
        index,
    }
}

/// A part as it is sent whole; a thought that the client isn't shown is none. `unsigned`: the
/// next call is the first, which is signed.
fn whole_part<'a>(
    part: &'a AnswerPart,
    unsigned: &mut bool,
    ids: &mut Rng,
) -> Option<WirePart<'a>> {
    match part {
        AnswerPart::Thinking(text) if text.text().is_empty() => None,
        AnswerPart::Thinking(text) => Some(text_part(text.text(), true)),
        AnswerPart::Text(text) => Some(text_part(text.text(), false)),
        AnswerPart::Call { name, arguments } => Some(WirePart {
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

/// Prefix of the mock's signatures, by which it recognises them.
const SIGNED: &[u8] = b"mock-thought";

fn signature(ids: &mut Rng) -> String {
    let bytes: [u8; 96] = std::array::from_fn(|_| ids.u8(..));
    STANDARD.encode([SIGNED, &bytes].concat())
}

fn finish_reason(stop: &AnswerStop) -> &'static str {
    match stop {
        // A call ends an answer as its end does.
        AnswerStop::End | AnswerStop::Sequence(_) | AnswerStop::Tools => "STOP",
        AnswerStop::Length => "MAX_TOKENS",
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
    fn new(usage: &MockUsage) -> Self {
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
    fn from_prompt(usage: &MockUsage) -> Self {
        Self {
            candidates_token_count: None,
            thoughts_token_count: None,
            total_token_count: usage.input,
            ..Self::new(usage)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_is_read() {
        let ask = GenerateContent
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
        assert_eq!(ask.tool_choice, RequestedToolChoice::Named("f".to_owned()));
        assert_eq!(ask.reasoning, ReasoningMode::Visible(100));
        assert!(matches!(ask.shape, OutputShape::Schema(_)));
    }

    #[test]
    fn thoughts_are_shown_or_only_counted() {
        for (config, wanted) in [
            (json!(null), ReasoningMode::Off),
            (
                json!({"thinkingBudget": 0, "includeThoughts": true}),
                ReasoningMode::Off,
            ),
            (json!({"thinkingLevel": "LOW"}), ReasoningMode::Hidden(64)),
            (
                json!({"thinkingLevel": "high", "includeThoughts": true}),
                ReasoningMode::Visible(512),
            ),
            (json!({"thinkingBudget": -1}), ReasoningMode::Hidden(192)),
        ] {
            assert_eq!(thinking(&config), wanted, "{config}");
        }
    }
}
