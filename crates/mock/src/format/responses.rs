//! OpenAI responses: `POST /v1/responses`.

use base64::{Engine as _, engine::general_purpose::URL_SAFE};
use fastrand::Rng;
use serde::Serialize;
use serde_json::{Value, json};

use self::stream::ResponseStream;
use super::{AnswerJob, Encoder, MockRefusal, Surface, chat, json as to_json, reading};
use crate::{
    ask::{AnswerPart, AnswerRequest, AnswerStop, MockAnswer, ReasoningMode, RequestedToolChoice},
    clock, prose,
    usage::MockUsage,
};

mod stream;

/// The surface of `/v1/responses`.
pub(crate) struct Responses;

impl Surface for Responses {
    fn read(&self, body: &Value) -> Result<AnswerRequest, MockRefusal> {
        let items = match &body["input"] {
            Value::String(text) => vec![json!({"role": "user", "content": text})],
            Value::Array(items) if !items.is_empty() => items.clone(),
            _ => {
                return Err(MockRefusal::field(
                    "input",
                    "Missing, empty or wrong 'input'.",
                ));
            }
        };
        let input_tokens = reading::tokens(body, &["instructions", "input", "tools", "text"]);
        let format = &body["text"]["format"];
        let answered = items.last().is_some_and(is_result);
        Ok(AnswerRequest {
            prompt: reading::last_user_text(&items),
            input_tokens,
            cache: chat::automatic_cache(input_tokens),
            max_tokens: reading::count(body, "max_output_tokens")?,
            stops: Vec::new(),
            choices: 1,
            tools: tools(body),
            tool_choice: tool_choice(&body["tool_choice"]),
            parallel_tools: reading::flag(body, "parallel_tool_calls")?.unwrap_or(true),
            answered,
            preface: false,
            shape: chat::shape(format, &format["schema"]),
            reasoning: reasoning(&body["reasoning"]),
        })
    }

    fn whole(&self, body: &Value, job: &mut AnswerJob) -> Vec<u8> {
        let mut frame = ResponseFrame::new(body, job);
        let answer = &job.answer;
        let (parts, stop) = job.first();
        let output = parts
            .iter()
            .map(|part| frame.item(part))
            .map(|item| item.done_item())
            .collect();
        to_json(&frame.response(ResponseStatus::from_stop(stop), output, Some(answer)))
    }

    fn encoder(&self, body: &Value, job: &mut AnswerJob) -> Option<Box<dyn Encoder>> {
        Some(Box::new(ResponseStream::new(body, job)))
    }
}

fn is_result(item: &Value) -> bool {
    item["type"]
        .as_str()
        .is_some_and(|kind| kind.ends_with("_call_output"))
}

fn tools(body: &Value) -> Vec<crate::ask::RequestedTool> {
    let tools = body["tools"].as_array().into_iter().flatten();
    let functions = tools.filter(|tool| tool["type"] == "function");
    functions
        .filter_map(|tool| reading::tool(&tool["name"], &tool["parameters"]))
        .collect()
}

fn tool_choice(choice: &Value) -> RequestedToolChoice {
    match (choice.as_str(), choice["name"].as_str()) {
        (Some("none"), _) => RequestedToolChoice::Never,
        (Some("required"), _) => RequestedToolChoice::Any,
        (_, Some(name)) => RequestedToolChoice::Named(name.to_owned()),
        _ if choice["mode"] == "required" => RequestedToolChoice::Any,
        _ => RequestedToolChoice::Auto,
    }
}

/// Reasoning is seen in a summary, if one is asked for.
fn reasoning(reasoning: &Value) -> ReasoningMode {
    match reading::effort(reasoning["effort"].as_str()) {
        Some(tokens) if reasoning["summary"].is_string() => ReasoningMode::Visible(tokens),
        tokens => reading::hidden_reasoning(tokens),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum ResponseStatus {
    InProgress,
    Completed,
    Incomplete,
}

impl ResponseStatus {
    fn from_stop(stop: &AnswerStop) -> Self {
        if *stop == AnswerStop::Length {
            Self::Incomplete
        } else {
            Self::Completed
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
        }
    }
}

/// Fields around the output of a response: its id, and the request's settings echoed.
struct ResponseFrame {
    id: String,
    created_at: u64,
    model: String,
    usage_told: bool,
    settings: EchoedSettings,
    encrypted: bool,
    /// Digits shared by the ids of a response and its items, as the provider has it.
    stem: String,
    rng: Rng,
}

/// Settings of the request that the response repeats.
#[derive(Clone, Serialize)]
struct EchoedSettings {
    instructions: Value,
    max_output_tokens: Value,
    max_tool_calls: Value,
    metadata: Value,
    parallel_tool_calls: Value,
    previous_response_id: Value,
    prompt_cache_key: Value,
    reasoning: Value,
    safety_identifier: Value,
    store: Value,
    temperature: Value,
    text: Value,
    tool_choice: Value,
    tools: Value,
    top_p: Value,
    truncation: Value,
    user: Value,
}

impl EchoedSettings {
    fn new(body: &Value) -> Self {
        let or = |field: &str, usual: Value| match &body[field] {
            Value::Null => usual,
            value => value.clone(),
        };
        let said = |field: &str| body[field].clone();
        Self {
            instructions: said("instructions"),
            max_output_tokens: said("max_output_tokens"),
            max_tool_calls: said("max_tool_calls"),
            metadata: or("metadata", json!({})),
            parallel_tool_calls: or("parallel_tool_calls", json!(true)),
            previous_response_id: said("previous_response_id"),
            prompt_cache_key: said("prompt_cache_key"),
            reasoning: or("reasoning", json!({"effort": null, "summary": null})),
            safety_identifier: said("safety_identifier"),
            store: or("store", json!(true)),
            temperature: or("temperature", json!(1.0)),
            text: or(
                "text",
                json!({"format": {"type": "text"}, "verbosity": "medium"}),
            ),
            tool_choice: or("tool_choice", json!("auto")),
            tools: or("tools", json!([])),
            top_p: or("top_p", json!(1.0)),
            truncation: or("truncation", json!("disabled")),
            user: said("user"),
        }
    }
}

impl ResponseFrame {
    fn new(body: &Value, job: &mut AnswerJob) -> Self {
        let bytes: [u8; 16] = std::array::from_fn(|_| job.ids.u8(..));
        let stem = prose::hex(&bytes);
        let mut rng = job.ids.clone();
        let include = reading::strings(&body["include"]);
        Self {
            id: item_id("resp", &stem, &mut rng),
            created_at: job.created,
            model: job.model.clone(),
            usage_told: job.answer.usage_told,
            settings: EchoedSettings::new(body),
            encrypted: include
                .iter()
                .any(|field| field == "reasoning.encrypted_content"),
            stem,
            rng,
        }
    }

    /// The response as it stands; with usage once there is an `answer`.
    fn response(
        &self,
        status: ResponseStatus,
        output: Vec<Value>,
        answer: Option<&MockAnswer>,
    ) -> ResponseObject<'_> {
        let incomplete = (status == ResponseStatus::Incomplete).then_some(IncompleteDetails {
            reason: "max_output_tokens",
        });
        ResponseObject {
            id: &self.id,
            object: "response",
            created_at: self.created_at,
            status: status.name(),
            background: false,
            completed_at: (status == ResponseStatus::Completed).then(clock::unix_seconds),
            error: (),
            incomplete_details: incomplete,
            model: &self.model,
            output,
            settings: &self.settings,
            service_tier: "default",
            top_logprobs: 0,
            usage: answer
                .filter(|_| self.usage_told)
                .map(|answer| usage(&answer.usage)),
        }
    }

    fn item(&mut self, part: &AnswerPart) -> OutputItem {
        let text = part.prose().text().to_owned();
        let (prefix, kind) = match part {
            AnswerPart::Thinking(_) => (
                "rs",
                OutputItemKind::Reasoning {
                    encrypted: self.sealed_reasoning(),
                },
            ),
            AnswerPart::Text(_) => ("msg", OutputItemKind::Message),
            AnswerPart::Call { name, .. } => {
                let call_id = prose::id("call_", 24, &mut self.rng);
                (
                    "fc",
                    OutputItemKind::Call {
                        name: name.clone(),
                        call_id,
                    },
                )
            }
        };
        OutputItem {
            id: item_id(prefix, &self.stem, &mut self.rng),
            kind,
            text,
        }
    }

    /// Reasoning that only the provider can read, where the request wants it.
    fn sealed_reasoning(&mut self) -> Option<String> {
        self.encrypted.then(|| {
            let bytes: [u8; 240] = std::array::from_fn(|_| self.rng.u8(..));
            URL_SAFE.encode(bytes)
        })
    }
}

fn item_id(prefix: &str, stem: &str, rng: &mut Rng) -> String {
    let tail: [u8; 9] = std::array::from_fn(|_| rng.u8(..));
    format!("{prefix}_{stem}{}", prose::hex(&tail))
}

#[derive(Serialize)]
struct ResponseObject<'a> {
    id: &'a str,
    object: &'static str,
    created_at: u64,
    status: &'static str,
    background: bool,
    completed_at: Option<u64>,
    error: (),
    incomplete_details: Option<IncompleteDetails>,
    model: &'a str,
    output: Vec<Value>,
    #[serde(flatten)]
    settings: &'a EchoedSettings,
    service_tier: &'static str,
    top_logprobs: u8,
    usage: Option<ResponseUsage>,
}

#[derive(Serialize)]
struct IncompleteDetails {
    reason: &'static str,
}

#[derive(Serialize)]
struct ResponseUsage {
    input_tokens: u64,
    input_tokens_details: InputDetails,
    output_tokens: u64,
    output_tokens_details: ResponseOutputDetails,
    total_tokens: u64,
}

#[derive(Serialize)]
struct InputDetails {
    cached_tokens: u64,
    cache_write_tokens: u64,
}

#[derive(Serialize)]
struct ResponseOutputDetails {
    reasoning_tokens: u64,
}

fn usage(usage: &MockUsage) -> ResponseUsage {
    ResponseUsage {
        input_tokens: usage.input,
        input_tokens_details: InputDetails {
            cached_tokens: usage.cached,
            cache_write_tokens: usage.cache_write(),
        },
        output_tokens: usage.output,
        output_tokens_details: ResponseOutputDetails {
            reasoning_tokens: usage.reasoning,
        },
        total_tokens: usage.total(),
    }
}

/// One item of the output.
struct OutputItem {
    id: String,
    kind: OutputItemKind,
    text: String,
}

enum OutputItemKind {
    Message,
    Reasoning { encrypted: Option<String> },
    Call { name: String, call_id: String },
}

impl OutputItem {
    /// The item when nothing of it has been sent.
    fn added_item(&self) -> Value {
        match &self.kind {
            OutputItemKind::Message => self.message("in_progress", &[]),
            OutputItemKind::Reasoning { encrypted } => self.reasoning(encrypted.as_ref(), &[]),
            OutputItemKind::Call { name, call_id } => self.call("in_progress", name, call_id, ""),
        }
    }

    /// The whole item.
    fn done_item(&self) -> Value {
        match &self.kind {
            OutputItemKind::Message => self.message("completed", &[output_text(&self.text)]),
            OutputItemKind::Reasoning { encrypted } if self.text.is_empty() => {
                self.reasoning(encrypted.as_ref(), &[])
            }
            OutputItemKind::Reasoning { encrypted } => {
                self.reasoning(encrypted.as_ref(), &[summary_text(&self.text)])
            }
            OutputItemKind::Call { name, call_id } => {
                self.call("completed", name, call_id, &self.text)
            }
        }
    }

    fn message(&self, status: &str, content: &[Value]) -> Value {
        json!({
            "id": self.id, "type": "message", "status": status, "role": "assistant",
            "content": content,
        })
    }

    fn reasoning(&self, encrypted: Option<&String>, summary: &[Value]) -> Value {
        let mut item = json!({"id": self.id, "type": "reasoning", "summary": summary});
        if let Some(encrypted) = encrypted {
            item["encrypted_content"] = json!(encrypted);
        }
        item
    }

    fn call(&self, status: &str, name: &str, call_id: &str, arguments: &str) -> Value {
        json!({
            "id": self.id, "type": "function_call", "status": status, "arguments": arguments,
            "call_id": call_id, "name": name,
        })
    }
}

fn output_text(text: &str) -> Value {
    json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text})
}

fn summary_text(text: &str) -> Value {
    json!({"type": "summary_text", "text": text})
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ask::OutputShape;

    #[test]
    fn a_request_is_read() {
        let ask = Responses
            .read(&json!({
                "input": [
                    {"role": "user", "content": [{"type": "input_text", "text": "hello"}]},
                    {"type": "function_call_output", "call_id": "c", "output": "1"}
                ],
                "max_output_tokens": 9,
                "tools": [{"type": "function", "name": "f", "parameters": {}}, {"type": "web_search"}],
                "tool_choice": {"type": "function", "name": "f"},
                "text": {"format": {"type": "json_schema", "name": "n", "schema": {"const": 1}}},
                "reasoning": {"effort": "low", "summary": "auto"}
            }))
            .unwrap();
        assert_eq!((ask.prompt.as_str(), ask.max_tokens), ("hello", Some(9)));
        assert_eq!((ask.tools.len(), ask.answered), (1, true));
        assert_eq!(ask.tool_choice, RequestedToolChoice::Named("f".to_owned()));
        assert_eq!(ask.reasoning, ReasoningMode::Visible(64));
        assert!(matches!(ask.shape, OutputShape::Schema(_)));
        assert_eq!(
            Responses.read(&json!({"input": "hi"})).unwrap().prompt,
            "hi"
        );
        assert_eq!(
            Responses.read(&json!({"input": []})).unwrap_err().status,
            400
        );
    }

    #[test]
    fn settings_are_said_back() {
        let settings =
            EchoedSettings::new(&json!({"temperature": 0.2, "tools": [{"type": "function"}]}));
        assert_eq!(settings.temperature, json!(0.2));
        assert_eq!(settings.tools, json!([{"type": "function"}]));
        assert_eq!(settings.truncation, json!("disabled"));
    }
}
