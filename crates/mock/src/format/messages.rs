//! Anthropic messages: `POST /v1/messages` and `POST /v1/messages/count_tokens`.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use fastrand::Rng;
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use self::stream::MessageStream;
use super::{AnswerJob, Encoder, MockRefusal, Surface, json, reading};
use crate::{
    ask::{
        AnswerPart, AnswerRequest, AnswerStop, OutputShape, PromptCache, ReasoningMode,
        RequestedToolChoice,
    },
    prose,
    usage::MockUsage,
};

mod stream;

/// The surface of `/v1/messages`.
pub(crate) struct Messages;

/// The surface of `/v1/messages/count_tokens`.
pub(crate) struct CountTokens;

/// The fields whose tokens count as input, in the order in which the cache reads them.
const INPUT: [&str; 4] = ["tools", "system", "messages", "output_config"];

/// The smallest budget for thinking that is accepted.
const LEAST_BUDGET: u64 = 1_024;

impl Surface for Messages {
    fn read(&self, body: &Value) -> Result<AnswerRequest, MockRefusal> {
        let messages = reading::list(body, "messages")?;
        check_messages(messages)?;
        let max_tokens = reading::count(body, "max_tokens")?
            .ok_or_else(|| MockRefusal::field("max_tokens", "max_tokens: Field required"))?;
        check_temperature(&body["temperature"])?;
        check_continued_thinking(body, messages)?;
        let choice = &body["tool_choice"];
        let format = &body["output_config"]["format"];
        Ok(AnswerRequest {
            prompt: reading::last_user_text(messages),
            input_tokens: reading::tokens(body, &INPUT),
            cache: cache(body),
            max_tokens: Some(max_tokens),
            stops: reading::strings(&body["stop_sequences"]),
            choices: 1,
            tools: tools(body),
            tool_choice: tool_choice(choice),
            parallel_tools: choice["disable_parallel_tool_use"] != true,
            answered: messages.last().is_some_and(has_result),
            preface: true,
            shape: match format["type"].as_str() {
                Some("json_schema") => OutputShape::Schema(format["schema"].clone()),
                _ => OutputShape::Prose,
            },
            reasoning: thinking(&body["thinking"], max_tokens)?,
        })
    }

    fn whole(&self, _body: &Value, job: &mut AnswerJob) -> Vec<u8> {
        let id = prose::id("msg_01", 22, &mut job.ids);
        let mut ids = job.ids.clone();
        let (parts, stop) = job.first();
        let message = AnthropicMessage {
            content: parts
                .iter()
                .map(|part| whole_block(part, &mut ids))
                .collect(),
            stop_reason: Some(stop_reason(stop)),
            stop_sequence: stop_sequence(stop),
            usage: job.answer.usage_told.then(|| {
                let thinking_tokens = job.answer.usage.reasoning;
                let details = AnthropicOutputDetails { thinking_tokens };
                let output = job.answer.usage.output;
                MessageUsage {
                    output_tokens_details: Some(details),
                    ..usage(&job.answer.usage, output)
                }
            }),
            ..AnthropicMessage::new(&id, &job.model)
        };
        json(&message)
    }

    fn encoder(&self, _body: &Value, job: &mut AnswerJob) -> Option<Box<dyn Encoder>> {
        Some(Box::new(MessageStream::new(job)))
    }
}

impl Surface for CountTokens {
    fn read(&self, body: &Value) -> Result<AnswerRequest, MockRefusal> {
        check_messages(reading::list(body, "messages")?)?;
        Ok(AnswerRequest {
            input_tokens: reading::tokens(body, &INPUT),
            ..AnswerRequest::default()
        })
    }

    fn whole(&self, _body: &Value, job: &mut AnswerJob) -> Vec<u8> {
        #[derive(Serialize)]
        struct Count {
            input_tokens: u64,
        }
        json(&Count {
            input_tokens: job.answer.usage.input,
        })
    }

    fn bills(&self) -> bool {
        false
    }
}

/// Roles, tool ids and tool results are checked as strictly as the provider does.
fn check_messages(messages: &[Value]) -> Result<(), MockRefusal> {
    let mut called: Vec<&str> = Vec::new();
    for (i, message) in messages.iter().enumerate() {
        let at = |text: &str| MockRefusal::new(400, format!("messages.{i}: {text}"));
        let role = message["role"].as_str().unwrap_or_default();
        if !["user", "assistant", "system"].contains(&role) {
            return Err(at("role: Input should be 'user' or 'assistant'"));
        }
        if !message["content"].is_string() && !message["content"].is_array() {
            return Err(at("content: Field required"));
        }
        if let Some(id) = results(message).find(|id| !called.contains(id)) {
            return Err(at(&format!(
                "tool_result `{id}` has no matching tool_use just before it"
            )));
        }
        check_blocks(message).map_err(|text| at(&text))?;
        if let Some(id) = called
            .iter()
            .find(|id| !results(message).any(|one| one == **id))
        {
            return Err(at(&format!(
                "tool_use `{id}` was found without a tool_result immediately after"
            )));
        }
        called = uses(message).collect();
        if let Some(id) = called.iter().find(|id| !is_tool_id(id)) {
            return Err(at(&format!(
                "tool_use.id `{id}` should match ^[a-zA-Z0-9_-]+$"
            )));
        }
    }
    Ok(())
}

/// Blank texts and thoughts that somebody else signed are refused.
fn check_blocks(message: &Value) -> Result<(), String> {
    let blank = |block: &Value| {
        block["text"]
            .as_str()
            .is_some_and(|text| text.trim().is_empty())
    };
    if blocks(message, "text").any(blank) {
        return Err("text content blocks must be non-empty".to_owned());
    }
    let own = |block: &Value| {
        let signature = block["signature"].as_str().unwrap_or_default();
        !signature.is_empty() && STANDARD.decode(signature).is_ok()
    };
    if blocks(message, "thinking").all(own) {
        Ok(())
    } else {
        Err("Invalid `signature` in `thinking` block".to_owned())
    }
}

fn check_temperature(temperature: &Value) -> Result<(), MockRefusal> {
    let fits = temperature
        .as_f64()
        .is_some_and(|t| (0.0..=1.0).contains(&t));
    if temperature.is_null() || fits {
        return Ok(());
    }
    Err(MockRefusal::field(
        "temperature",
        "temperature: range: 0..1",
    ))
}

/// With thinking on, a turn that goes on after tool results must begin with its thoughts.
fn check_continued_thinking(body: &Value, messages: &[Value]) -> Result<(), MockRefusal> {
    let goes_on = messages.last().is_some_and(has_result);
    let assistant = messages
        .iter()
        .rev()
        .find(|message| message["role"] == "assistant");
    let first = assistant.map(|message| &message["content"][0]["type"]);
    let thought = first.is_none_or(|kind| kind == "thinking" || kind == "redacted_thinking");
    if body["thinking"]["type"] == "enabled" && goes_on && !thought {
        return Err(MockRefusal::new(
            400,
            "messages: Expected `thinking` or `redacted_thinking`, but found `tool_use`. When \
             `thinking` is enabled, a final `assistant` message must start with a thinking block",
        ));
    }
    Ok(())
}

fn blocks<'a>(message: &'a Value, kind: &'static str) -> impl Iterator<Item = &'a Value> {
    let blocks = message["content"].as_array().into_iter().flatten();
    blocks.filter(move |block| block["type"] == kind)
}

fn results(message: &Value) -> impl Iterator<Item = &str> {
    blocks(message, "tool_result").map(|block| block["tool_use_id"].as_str().unwrap_or_default())
}

fn uses(message: &Value) -> impl Iterator<Item = &str> {
    blocks(message, "tool_use").map(|block| block["id"].as_str().unwrap_or_default())
}

fn has_result(message: &Value) -> bool {
    results(message).next().is_some()
}

fn is_tool_id(id: &str) -> bool {
    !id.is_empty()
        && id
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

/// The client's own tools; those that the provider runs itself have a type.
fn tools(body: &Value) -> Vec<crate::ask::RequestedTool> {
    let tools = body["tools"].as_array().into_iter().flatten();
    let own = tools.filter(|tool| tool["type"].is_null() || tool["type"] == "custom");
    own.filter_map(|tool| reading::tool(&tool["name"], &tool["input_schema"]))
        .collect()
}

fn tool_choice(choice: &Value) -> RequestedToolChoice {
    match (choice["type"].as_str(), choice["name"].as_str()) {
        (Some("none"), _) => RequestedToolChoice::Never,
        (Some("any"), _) => RequestedToolChoice::Any,
        (Some("tool"), Some(name)) => RequestedToolChoice::Named(name.to_owned()),
        _ => RequestedToolChoice::Auto,
    }
}

fn thinking(thinking: &Value, max_tokens: u64) -> Result<ReasoningMode, MockRefusal> {
    let refuse = |text: &str| Err(MockRefusal::new(400, format!("thinking.{text}")));
    match thinking["type"].as_str() {
        Some("adaptive") => Ok(ReasoningMode::Visible(48)),
        Some("enabled") => match thinking["budget_tokens"].as_u64() {
            Some(budget) if budget < LEAST_BUDGET => {
                refuse("budget_tokens: Input should be greater than or equal to 1024")
            }
            Some(budget) if budget >= max_tokens => {
                refuse("budget_tokens: must be less than max_tokens")
            }
            Some(budget) => Ok(ReasoningMode::Visible((budget / 16).min(256))),
            None => refuse("budget_tokens: Field required"),
        },
        None | Some("disabled") => Ok(ReasoningMode::Off),
        Some(_) => refuse("type: Input should be 'enabled', 'adaptive' or 'disabled'"),
    }
}

/// Returns the cached part of a prompt with `cache_control` marks: half of the text before the last
/// mark was written by an earlier request, the rest is written now, with the time to live of the
/// following mark.
fn cache(body: &Value) -> PromptCache {
    let mut marks = CacheMarks::default();
    for field in INPUT {
        marks.walk(&body[field]);
    }
    let hour = marks.hour;
    let minutes = marks.minutes.saturating_sub(hour);
    let (write_1h, write_5m) = (hour.div_ceil(2), minutes.div_ceil(2));
    PromptCache {
        read: hour + minutes - write_1h - write_5m,
        write_5m,
        write_1h,
    }
}

/// Tokens up to the last mark of each lifetime.
#[derive(Default)]
struct CacheMarks {
    tokens: u64,
    hour: u64,
    minutes: u64,
}

impl CacheMarks {
    /// Messages and blocks carry marks; other values only count.
    fn walk(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.walk(item)),
            Value::Object(_) if value["content"].is_array() => self.walk(&value["content"]),
            _ => {
                self.tokens += reading::value_tokens(value);
                match &value["cache_control"] {
                    Value::Null => {}
                    mark if mark["ttl"] == "1h" => self.hour = self.tokens,
                    _ => self.minutes = self.tokens,
                }
            }
        }
    }
}

fn stop_reason(stop: &AnswerStop) -> &'static str {
    match stop {
        AnswerStop::End => "end_turn",
        AnswerStop::Length => "max_tokens",
        AnswerStop::Tools => "tool_use",
        AnswerStop::Sequence(_) => "stop_sequence",
    }
}

fn stop_sequence(stop: &AnswerStop) -> Option<&str> {
    match stop {
        AnswerStop::Sequence(sequence) => Some(sequence),
        AnswerStop::End | AnswerStop::Length | AnswerStop::Tools => None,
    }
}

#[derive(Serialize)]
struct AnthropicMessage<'a> {
    model: &'a str,
    id: &'a str,
    r#type: &'static str,
    role: &'static str,
    content: Vec<AnthropicBlock<'a>>,
    stop_reason: Option<&'static str>,
    stop_sequence: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<MessageUsage>,
}

impl<'a> AnthropicMessage<'a> {
    /// A message with nothing in it yet.
    fn new(id: &'a str, model: &'a str) -> Self {
        Self {
            model,
            id,
            r#type: "message",
            role: "assistant",
            content: Vec::new(),
            stop_reason: None,
            stop_sequence: None,
            usage: None,
        }
    }
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum AnthropicBlock<'a> {
    Text {
        text: &'a str,
    },
    Thinking {
        thinking: &'a str,
        signature: String,
    },
    ToolUse {
        id: String,
        name: &'a str,
        input: Option<&'a RawValue>,
    },
}

fn whole_block<'a>(part: &'a AnswerPart, ids: &mut Rng) -> AnthropicBlock<'a> {
    match part {
        AnswerPart::Text(text) => AnthropicBlock::Text { text: text.text() },
        AnswerPart::Thinking(text) => AnthropicBlock::Thinking {
            thinking: text.text(),
            signature: signature(ids),
        },
        AnswerPart::Call { name, arguments } => AnthropicBlock::ToolUse {
            id: tool_id(ids),
            name,
            input: serde_json::from_str(arguments.text()).ok(),
        },
    }
}

fn tool_id(ids: &mut Rng) -> String {
    prose::id("toolu_01", 22, ids)
}

/// Opaque bytes such as the provider signs its thinking with.
fn signature(ids: &mut Rng) -> String {
    let bytes: [u8; 144] = std::array::from_fn(|_| ids.u8(..));
    STANDARD.encode(bytes)
}

#[derive(Serialize)]
struct MessageUsage {
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_creation: Option<CacheCreation>,
    output_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_tokens_details: Option<AnthropicOutputDetails>,
    #[serde(skip_serializing_if = "Option::is_none")]
    service_tier: Option<&'static str>,
}

#[derive(Serialize)]
struct CacheCreation {
    ephemeral_5m_input_tokens: u64,
    ephemeral_1h_input_tokens: u64,
}

#[derive(Serialize)]
struct AnthropicOutputDetails {
    thinking_tokens: u64,
}

/// Usage as Anthropic tells it: input without what the cache read and wrote.
fn usage(usage: &MockUsage, output_tokens: u64) -> MessageUsage {
    MessageUsage {
        input_tokens: usage.uncached_input(),
        cache_creation_input_tokens: usage.cache_write(),
        cache_read_input_tokens: usage.cached,
        cache_creation: Some(CacheCreation {
            ephemeral_5m_input_tokens: usage.cache_write_5m,
            ephemeral_1h_input_tokens: usage.cache_write_1h,
        }),
        output_tokens,
        output_tokens_details: None,
        service_tier: Some("standard"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: &Value) -> Result<AnswerRequest, MockRefusal> {
        Messages.read(body)
    }

    #[test]
    fn a_request_is_read() {
        let ask = read(&json!({
            "max_tokens": 4_000, "system": "s", "stop_sequences": ["x"],
            "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
            "tools": [{"name": "f", "input_schema": {}}, {"type": "web_search_20260101", "name": "w"}],
            "tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true},
            "thinking": {"type": "enabled", "budget_tokens": 1_600},
            "output_config": {"format": {"type": "json_schema", "schema": {"const": 1}}}
        }))
        .unwrap();
        assert_eq!(
            (ask.prompt.as_str(), ask.max_tokens),
            ("hello", Some(4_000))
        );
        assert_eq!((ask.tools.len(), ask.parallel_tools), (1, false));
        assert_eq!(ask.tool_choice, RequestedToolChoice::Named("f".to_owned()));
        assert_eq!(ask.reasoning, ReasoningMode::Visible(100));
        assert!(matches!(ask.shape, OutputShape::Schema(_)));
    }

    #[test]
    fn faulty_requests_are_refused() {
        let hi = json!([{"role": "user", "content": "hi"}]);
        for (body, word) in [
            (json!({"max_tokens": 5}), "messages"),
            (json!({"messages": hi}), "max_tokens"),
            (
                json!({"messages": [{"role": "tool", "content": "x"}], "max_tokens": 5}),
                "role",
            ),
            (
                json!({"messages": [{"role": "user"}], "max_tokens": 5}),
                "content",
            ),
            (
                json!({"messages": hi, "max_tokens": 5, "temperature": 1.5}),
                "temperature",
            ),
            (
                json!({"messages": hi, "max_tokens": 5_000,
                    "thinking": {"type": "enabled", "budget_tokens": 100}}),
                "1024",
            ),
            (
                json!({"messages": hi, "max_tokens": 1_500,
                    "thinking": {"type": "enabled", "budget_tokens": 1_500}}),
                "less than max_tokens",
            ),
        ] {
            let refusal = read(&body).unwrap_err();
            assert!(refusal.message.contains(word), "{body}: {refusal:?}");
        }
    }

    #[test]
    fn thoughts_must_be_its_own_and_go_on() {
        let with = |thought: &Value, thinking: &Value| {
            json!({"max_tokens": 2_000, "thinking": thinking, "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": [thought,
                    {"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}
            ]})
        };
        let signed =
            |signature: &str| json!({"type": "thinking", "thinking": "x", "signature": signature});
        let (on, off) = (
            json!({"type": "enabled", "budget_tokens": 1_024}),
            json!(null),
        );
        let text = json!({"type": "text", "text": "hm"});
        for (thought, thinking, taken) in [
            (signed("EqQB"), &on, true),
            (signed("EqQB"), &off, true),
            (signed("gemini#c#EqQB"), &off, false),
            (signed(""), &off, false),
            (text.clone(), &off, true),
            (text, &on, false),
            (json!({"type": "text", "text": " "}), &off, false),
        ] {
            assert_eq!(
                read(&with(&thought, thinking)).is_ok(),
                taken,
                "{thought} {thinking}"
            );
        }
    }

    #[test]
    fn tool_results_must_answer_the_message_before() {
        let with = |used: &str, answered: &str| {
            json!({"max_tokens": 5, "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": [{"type": "tool_use", "id": used, "name": "f", "input": {}}]},
                {"role": "user", "content": [{"type": "tool_result", "tool_use_id": answered}]}
            ]})
        };
        assert!(read(&with("t_1", "t_1")).unwrap().answered);
        assert!(read(&with("t_1", "t_2")).is_err());
        assert!(read(&with("t.1", "t.1")).is_err());
    }

    #[test]
    fn cache_marks_split_the_input_by_class() {
        let block = |text: usize, mark: Value| json!({"type": "text", "text": "x".repeat(text * 4), "cache_control": mark});
        let hour = json!({"type": "ephemeral", "ttl": "1h"});
        let minutes = json!({"type": "ephemeral"});
        let body = json!({
            "system": [block(100, hour), block(60, minutes)],
            "messages": [{"role": "user", "content": [block(40, Value::Null)]}]
        });
        assert_eq!(
            cache(&body),
            PromptCache {
                read: 80,
                write_5m: 30,
                write_1h: 50
            }
        );
        assert_eq!(cache(&json!({"system": "plain"})), PromptCache::default());
    }
}
