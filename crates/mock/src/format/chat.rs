//! OpenAI chat completions: `POST /v1/chat/completions`.

use fastrand::Rng;
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::{
    AnswerJob, Encoder, EventBuffer, MockRefusal, PiecePosition, Surface, error, json, reading,
};
use crate::{
    ask::{
        AnswerChoice, AnswerPart, AnswerRequest, AnswerStop, MockAnswer, OutputShape, PromptCache,
        RequestedToolChoice,
    },
    prose,
    usage::MockUsage,
};

/// The surface of `/v1/chat/completions`.
pub(crate) struct Chat;

impl Surface for Chat {
    fn read(&self, body: &Value) -> Result<AnswerRequest, MockRefusal> {
        let messages = reading::list(body, "messages")?;
        check_messages(messages)?;
        let completion = reading::count(body, "max_completion_tokens")?;
        let max_tokens = completion.or(reading::count(body, "max_tokens")?);
        let input_tokens =
            reading::tokens(body, &["messages", "tools", "functions", "response_format"]);
        let effort = reading::effort(reading::text(body, "reasoning_effort")?);
        Ok(AnswerRequest {
            prompt: reading::last_user_text(messages),
            input_tokens,
            cache: automatic_cache(input_tokens),
            max_tokens,
            stops: reading::strings(&body["stop"]),
            choices: choices(body)?,
            tools: tools(body),
            tool_choice: tool_choice(&body["tool_choice"]),
            parallel_tools: reading::flag(body, "parallel_tool_calls")?.unwrap_or(true),
            answered: messages
                .last()
                .is_some_and(|message| message["role"] == "tool"),
            preface: false,
            shape: shape(
                &body["response_format"],
                &body["response_format"]["json_schema"]["schema"],
            ),
            reasoning: reading::hidden_reasoning(effort),
        })
    }

    fn whole(&self, _body: &Value, job: &mut AnswerJob) -> Vec<u8> {
        let id = prose::id("chatcmpl-", 29, &mut job.ids);
        let mut ids = job.ids.clone();
        let choices = job.answer.choices.iter().enumerate();
        let choices = choices
            .map(|(index, choice)| WholeChoice {
                index,
                message: message(&choice.parts, &mut ids),
                logprobs: (),
                finish_reason: finish_reason(&choice.stop),
            })
            .collect();
        json(&ChatCompletion {
            id: &id,
            object: "chat.completion",
            created: job.created,
            model: &job.model,
            choices,
            usage: job
                .answer
                .usage_told
                .then(|| ChatUsage::new(&job.answer.usage)),
            service_tier: "default",
            system_fingerprint: FINGERPRINT,
        })
    }

    fn encoder(&self, body: &Value, job: &mut AnswerJob) -> Option<Box<dyn Encoder>> {
        let options = &body["stream_options"];
        Some(Box::new(ChatStream {
            id: prose::id("chatcmpl-", 29, &mut job.ids),
            created: job.created,
            model: job.model.clone(),
            usage: options["include_usage"] == true && job.answer.usage_told,
            obfuscate: options["include_obfuscation"] != false,
            rng: job.ids.clone(),
            calls: 0,
        }))
    }
}

const FINGERPRINT: &str = "fp_mock000001";

/// A prompt this long or longer is cached by itself.
const CACHED_FROM: u64 = 1_024;

/// Returns the cached part of a prompt by an automatic cache: half of a long one, in steps of 128
/// tokens.
pub(crate) fn automatic_cache(input: u64) -> PromptCache {
    let read = if input >= CACHED_FROM {
        input / 256 * 128
    } else {
        0
    };
    PromptCache {
        read,
        ..PromptCache::default()
    }
}

/// Returns the number of answers requested.
pub(crate) fn choices(body: &Value) -> Result<usize, MockRefusal> {
    match reading::count(body, "n")?.unwrap_or(1) {
        n @ 1..=128 => Ok(usize::try_from(n).unwrap_or(1)),
        _ => Err(MockRefusal::field(
            "n",
            "Invalid 'n': expected at most 128.",
        )),
    }
}

/// Returns the shape of the answer required by `response_format` or `text.format`.
pub(crate) fn shape(format: &Value, schema: &Value) -> OutputShape {
    match format["type"].as_str() {
        Some("json_schema") => OutputShape::Schema(schema.clone()),
        Some("json_object") => OutputShape::Object,
        _ => OutputShape::Prose,
    }
}

/// Fields of other providers' messages that this one refuses.
const FOREIGN: [&str; 1] = ["thinking_blocks"];

/// Tool results must answer calls that were made, as the provider insists too.
fn check_messages(messages: &[Value]) -> Result<(), MockRefusal> {
    let mut open: Vec<&str> = Vec::new();
    for (i, message) in messages.iter().enumerate() {
        if let Some(name) = FOREIGN.iter().find(|name| !message[**name].is_null()) {
            let param = format!("messages[{i}].{name}");
            return Err(MockRefusal::field(
                &param,
                format!("Unknown parameter: '{param}'."),
            ));
        }
        let param = format!("messages[{i}].role");
        match message["role"].as_str() {
            Some("tool") => {
                let id = message["tool_call_id"].as_str().unwrap_or_default();
                if !open.contains(&id) {
                    let text = format!("'{id}' answers no call of the preceding 'tool_calls'.");
                    return Err(MockRefusal::field(&param, text));
                }
            }
            Some("assistant") => open = call_ids(&message["tool_calls"]),
            Some("user" | "system" | "developer" | "function") => open.clear(),
            _ => return Err(MockRefusal::field(&param, "Invalid or missing role.")),
        }
    }
    Ok(())
}

fn call_ids(calls: &Value) -> Vec<&str> {
    calls
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|call| call["id"].as_str())
        .collect()
}

fn tools(body: &Value) -> Vec<crate::ask::RequestedTool> {
    let tools = body["tools"].as_array().into_iter().flatten();
    let functions = tools.map(|tool| &tool["function"]);
    functions
        .filter_map(|f| reading::tool(&f["name"], &f["parameters"]))
        .collect()
}

fn tool_choice(choice: &Value) -> RequestedToolChoice {
    match (choice.as_str(), choice["function"]["name"].as_str()) {
        (Some("none"), _) => RequestedToolChoice::Never,
        (Some("required"), _) => RequestedToolChoice::Any,
        (_, Some(name)) => RequestedToolChoice::Named(name.to_owned()),
        _ if choice["allowed_tools"]["mode"] == "required" => RequestedToolChoice::Any,
        _ => RequestedToolChoice::Auto,
    }
}

/// Returns OpenAI's reason for the end of an answer.
pub(crate) fn finish_reason(stop: &AnswerStop) -> &'static str {
    match stop {
        AnswerStop::End | AnswerStop::Sequence(_) => "stop",
        AnswerStop::Length => "length",
        AnswerStop::Tools => "tool_calls",
    }
}

#[derive(Serialize)]
struct ChatCompletion<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    choices: Vec<WholeChoice<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<ChatUsage>,
    service_tier: &'static str,
    system_fingerprint: &'static str,
}

#[derive(Serialize)]
struct WholeChoice<'a> {
    index: usize,
    message: ChatMessage<'a>,
    logprobs: (),
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct ChatMessage<'a> {
    role: &'static str,
    content: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tool_calls: Vec<ChatToolCall<'a>>,
    refusal: (),
    annotations: [(); 0],
}

#[derive(Serialize)]
struct ChatToolCall<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    r#type: Option<&'static str>,
    function: ChatFunction<'a>,
}

#[derive(Serialize)]
struct ChatFunction<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

fn message<'a>(parts: &'a [AnswerPart], ids: &mut Rng) -> ChatMessage<'a> {
    let content = parts.iter().find_map(|part| match part {
        AnswerPart::Text(text) => Some(text.text()),
        AnswerPart::Thinking(_) | AnswerPart::Call { .. } => None,
    });
    let tool_calls = parts.iter().filter_map(|part| match part {
        AnswerPart::Call { name, arguments } => Some(tool_call(None, name, arguments.text(), ids)),
        AnswerPart::Thinking(_) | AnswerPart::Text(_) => None,
    });
    ChatMessage {
        role: "assistant",
        content,
        tool_calls: tool_calls.collect(),
        refusal: (),
        annotations: [],
    }
}

fn tool_call<'a>(
    index: Option<usize>,
    name: &'a str,
    arguments: &'a str,
    ids: &mut Rng,
) -> ChatToolCall<'a> {
    ChatToolCall {
        index,
        id: Some(prose::id("call_", 24, ids)),
        r#type: Some("function"),
        function: ChatFunction {
            name: Some(name),
            arguments,
        },
    }
}

/// Usage as chat completions and completions tell it: the details are part of the totals.
#[derive(Serialize)]
pub(crate) struct ChatUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    completion_tokens_details: CompletionDetails,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: u64,
    audio_tokens: u64,
    #[serde(skip_serializing_if = "is_zero")]
    cache_write_tokens: u64,
}

#[derive(Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
    audio_tokens: u64,
    accepted_prediction_tokens: u64,
    rejected_prediction_tokens: u64,
}

impl ChatUsage {
    pub(crate) fn new(usage: &MockUsage) -> Self {
        Self {
            prompt_tokens: usage.input,
            completion_tokens: usage.output,
            total_tokens: usage.total(),
            prompt_tokens_details: PromptDetails {
                cached_tokens: usage.cached,
                audio_tokens: 0,
                cache_write_tokens: usage.cache_write(),
            },
            completion_tokens_details: CompletionDetails {
                reasoning_tokens: usage.reasoning,
                audio_tokens: 0,
                accepted_prediction_tokens: 0,
                rejected_prediction_tokens: 0,
            },
        }
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// The `usage` of a chunk: left out, null on every chunk but the last, or told.
pub(crate) enum ChunkUsage {
    Absent,
    Null,
    Told(ChatUsage),
}

impl ChunkUsage {
    /// The field of a chunk before the last.
    pub(crate) fn pending(asked: bool) -> Self {
        if asked { Self::Null } else { Self::Absent }
    }

    pub(crate) fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }
}

impl Serialize for ChunkUsage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Told(usage) => usage.serialize(serializer),
            Self::Absent | Self::Null => serializer.serialize_none(),
        }
    }
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    service_tier: &'static str,
    system_fingerprint: &'static str,
    choices: &'a [ChunkChoice<'a>],
    #[serde(skip_serializing_if = "ChunkUsage::is_absent")]
    usage: ChunkUsage,
    #[serde(skip_serializing_if = "Option::is_none")]
    obfuscation: Option<String>,
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: usize,
    delta: ChatDelta<'a>,
    logprobs: (),
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct ChatDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    content: Option<Option<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[ChatToolCall<'a>; 1]>,
}

struct ChatStream {
    id: String,
    created: u64,
    model: String,
    usage: bool,
    obfuscate: bool,
    rng: Rng,
    /// Tool calls begun in this choice.
    calls: usize,
}

impl ChatStream {
    fn chunk(&mut self, choices: &[ChunkChoice<'_>], usage: ChunkUsage, events: &mut EventBuffer) {
        let obfuscation = self.obfuscate.then(|| {
            let length = self.rng.usize(1..=16);
            prose::id("", length, &mut self.rng)
        });
        let chunk = Chunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.created,
            model: &self.model,
            service_tier: "default",
            system_fingerprint: FINGERPRINT,
            choices,
            usage,
            obfuscation,
        };
        events.push(None, &chunk);
    }

    fn delta(
        &mut self,
        index: usize,
        delta: ChatDelta<'_>,
        finish_reason: Option<&'static str>,
        events: &mut EventBuffer,
    ) {
        let choice = ChunkChoice {
            index,
            delta,
            logprobs: (),
            finish_reason,
        };
        self.chunk(&[choice], ChunkUsage::pending(self.usage), events);
    }

    fn call_delta(&mut self, index: usize, call: ChatToolCall<'_>, events: &mut EventBuffer) {
        let delta = ChatDelta {
            tool_calls: Some([call]),
            ..ChatDelta::default()
        };
        self.delta(index, delta, None, events);
    }
}

impl Encoder for ChatStream {
    /// The first delta has the role, and a content that is null before tool calls.
    fn open_choice(&mut self, index: usize, choice: &AnswerChoice, events: &mut EventBuffer) {
        self.calls = 0;
        let text = choice
            .parts
            .iter()
            .any(|part| matches!(part, AnswerPart::Text(_)));
        let delta = ChatDelta {
            role: Some("assistant"),
            content: Some(text.then_some("")),
            refusal: Some(()),
            tool_calls: None,
        };
        self.delta(index, delta, None, events);
    }

    fn open_part(&mut self, at: PiecePosition, part: &AnswerPart, events: &mut EventBuffer) {
        if let AnswerPart::Call { name, .. } = part {
            let call = tool_call(Some(self.calls), name, "", &mut self.rng);
            self.calls += 1;
            self.call_delta(at.choice, call, events);
        }
    }

    fn piece(
        &mut self,
        at: PiecePosition,
        part: &AnswerPart,
        text: &str,
        events: &mut EventBuffer,
    ) {
        match part {
            AnswerPart::Thinking(_) => {}
            AnswerPart::Text(_) => {
                let delta = ChatDelta {
                    content: Some(Some(text)),
                    ..ChatDelta::default()
                };
                self.delta(at.choice, delta, None, events);
            }
            AnswerPart::Call { .. } => {
                let index = Some(self.calls.saturating_sub(1));
                let function = ChatFunction {
                    name: None,
                    arguments: text,
                };
                let call = ChatToolCall {
                    index,
                    id: None,
                    r#type: None,
                    function,
                };
                self.call_delta(at.choice, call, events);
            }
        }
    }

    fn close_choice(&mut self, choice: usize, stop: &AnswerStop, events: &mut EventBuffer) {
        self.delta(
            choice,
            ChatDelta::default(),
            Some(finish_reason(stop)),
            events,
        );
    }

    fn finish(&mut self, answer: &MockAnswer, events: &mut EventBuffer) {
        if self.usage {
            self.chunk(&[], ChunkUsage::Told(ChatUsage::new(&answer.usage)), events);
        }
        events.push_text("[DONE]");
    }

    fn failure(&mut self, message: &str, events: &mut EventBuffer) {
        events.push(None, &error::openai(&MockRefusal::new(500, message)));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ask::ReasoningMode;

    fn read(body: &Value) -> Result<AnswerRequest, MockRefusal> {
        Chat.read(body)
    }

    #[test]
    fn a_request_is_read() {
        let ask = read(&json!({
            "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "hello"}],
            "max_completion_tokens": 9, "max_tokens": 5, "stop": "x", "n": 2,
            "reasoning_effort": "low", "parallel_tool_calls": false,
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
            "tool_choice": {"type": "function", "function": {"name": "f"}},
            "response_format": {"type": "json_schema", "json_schema": {"schema": {"const": 1}}}
        }))
        .unwrap();
        assert_eq!(
            (ask.prompt.as_str(), ask.max_tokens, ask.choices),
            ("hello", Some(9), 2)
        );
        assert_eq!(
            (ask.stops, ask.parallel_tools, ask.answered),
            (vec!["x".to_owned()], false, false)
        );
        assert_eq!(ask.tools[0].name, "f");
        assert_eq!(ask.tool_choice, RequestedToolChoice::Named("f".to_owned()));
        assert!(matches!(ask.shape, OutputShape::Schema(schema) if schema == json!({"const": 1})));
        assert!(matches!(ask.reasoning, ReasoningMode::Hidden(_)));
    }

    #[test]
    fn tool_results_must_answer_calls() {
        let with = |id: &str| {
            json!({"messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "tool_calls": [{"id": "c1"}, {"id": "c2"}]},
                {"role": "tool", "tool_call_id": "c1", "content": "1"},
                {"role": "tool", "tool_call_id": id, "content": "2"}
            ]})
        };
        assert!(read(&with("c2")).unwrap().answered);
        assert_eq!(
            read(&with("c3")).unwrap_err().param.unwrap(),
            "messages[3].role"
        );
    }

    #[test]
    fn faulty_requests_are_refused() {
        for body in [
            json!({}),
            json!({"messages": "hi"}),
            json!({"messages": []}),
            json!({"messages": [{"role": "robot", "content": "x"}]}),
            json!({"messages": [{"role": "user", "content": "x"}], "n": 129}),
            json!({"messages": [{"role": "user", "content": "x"}], "max_tokens": "many"}),
        ] {
            assert_eq!(read(&body).unwrap_err().status, 400, "{body}");
        }
    }

    #[test]
    fn long_prompts_are_cached_by_half() {
        let read = |input| automatic_cache(input).read;
        assert_eq!([read(1_023), read(1_024), read(1_300)], [0, 512, 640]);
    }
}
