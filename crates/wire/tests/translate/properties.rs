//! What holds for every input: round trips lose nothing, streams say what plain answers say,
//! nothing panics and nothing grows beyond its input.

use std::collections::BTreeSet;

use bytes::Bytes;
use llm_router_domain::format::Format;
use llm_router_wire::stream::{AnswerStream, StreamStart};
use llm_router_wire::translate::{
    RequestOptions, translate_error, translate_request, translate_response,
};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use crate::fixtures::{CLIENTS, PROVIDERS, context, endpoint, model, options};
use crate::streams::{StreamEnd, marks, stream};

/// Text with everything that escapes and splits could trip over, and never blank.
fn text() -> impl Strategy<Value = String> {
    "[a-zé\"\\\\\n\t日😀{}:,]{0,12}".prop_map(|text| format!("t{text}"))
}

fn id() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_-]{1,12}"
}

fn arguments() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-z]{1,4}", scalar(), 0..4)
        .prop_map(|fields| Value::Object(fields.into_iter().collect()))
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(json!([1, {"a": null}])),
    ]
}

/// A turn of a conversation, as no format has it.
#[derive(Clone, Debug)]
enum Turn {
    User {
        texts: Vec<String>,
        image: bool,
    },
    Assistant(String),
    Tools {
        said: Option<String>,
        calls: Vec<(String, Value, String)>,
    },
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        (prop::collection::vec(text(), 1..3), any::<bool>())
            .prop_map(|(texts, image)| Turn::User { texts, image }),
        text().prop_map(Turn::Assistant),
        (
            prop::option::of(text()),
            prop::collection::vec((id(), arguments(), text()), 1..4)
        )
            .prop_map(|(said, calls)| Turn::Tools { said, calls }),
    ]
}

/// A conversation as a chat completions request: roles alternate, ids are unique.
fn conversation() -> impl Strategy<Value = Value> {
    (prop::option::of(text()), prop::collection::vec(turn(), 1..5)).prop_map(|(system, turns)| {
        let mut messages = Vec::new();
        messages.extend(system.map(|text| json!({"role": "system", "content": text})));
        let mut user_next = true;
        for (number, turn) in turns.into_iter().enumerate() {
            let is_user = matches!(turn, Turn::User { .. });
            if is_user != user_next {
                let role = if user_next { "user" } else { "assistant" };
                messages.push(json!({"role": role, "content": "filler"}));
            }
            write_turn(&mut messages, number, turn);
            user_next = !is_user;
        }
        json!({
            "model": "m",
            "messages": messages,
            "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        })
    })
}

const IMAGE: &str = "data:image/png;base64,iVBORw0KGgo=";

fn write_turn(messages: &mut Vec<Value>, number: usize, turn: Turn) {
    match turn {
        Turn::User { texts, image } => {
            let mut parts: Vec<Value> = texts
                .iter()
                .map(|text| json!({"type": "text", "text": text}))
                .collect();
            if image {
                parts.push(json!({"type": "image_url", "image_url": {"url": IMAGE}}));
            }
            messages.push(json!({"role": "user", "content": parts}));
        }
        Turn::Assistant(text) => messages.push(json!({"role": "assistant", "content": text})),
        Turn::Tools { said, calls } => {
            let id = |at: usize, id: &str| format!("{id}_{number}_{at}");
            let tool_calls: Vec<Value> = calls
                .iter()
                .enumerate()
                .map(|(at, (name, arguments, _))| {
                    json!({"id": id(at, name), "type": "function",
                        "function": {"name": "f", "arguments": arguments.to_string()}})
                })
                .collect();
            messages.push(json!({"role": "assistant", "content": said, "tool_calls": tool_calls}));
            for (at, (name, _, result)) in calls.iter().enumerate() {
                messages
                    .push(json!({"role": "tool", "tool_call_id": id(at, name), "content": result}));
            }
        }
    }
}

fn sent(from: Format, to: Format, body: &Value) -> Value {
    let sent = translate_request(from, to, body.to_string().as_bytes(), model(to), &options());
    serde_json::from_slice(&sent.unwrap().body).unwrap()
}

/// What a conversation says, however its messages are cut: who says which text, calls which tool
/// with what, gets which result, shows which image.
fn said(body: &Value) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut say = |role: &str, text: &str| {
        let prefix = format!("{role}: ");
        match out.last_mut() {
            // Texts of one turn may be joined.
            Some(last) if last.starts_with(&prefix) => last.push_str(text),
            _ => out.push(prefix + text),
        }
    };
    for message in body["messages"].as_array().unwrap() {
        let role = message["role"].as_str().unwrap();
        if role == "tool" {
            let text = message["content"].as_str().unwrap();
            say(&format!("result {}", message["tool_call_id"]), text);
            continue;
        }
        match &message["content"] {
            Value::String(text) => say(role, text),
            Value::Array(parts) => {
                for part in parts {
                    match part["type"].as_str().unwrap() {
                        "text" => say(role, part["text"].as_str().unwrap()),
                        _ => say("image", part["image_url"]["url"].as_str().unwrap()),
                    }
                }
            }
            _ => {}
        }
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let arguments = call["function"]["arguments"].as_str().unwrap();
            let arguments: Value = serde_json::from_str(arguments).unwrap();
            say(&format!("call {}", call["id"]), &arguments.to_string());
        }
    }
    out
}

/// The same where white space at the end of the assistant's last word doesn't count: Anthropic
/// refuses it there.
fn as_begun(mut said: Vec<String>) -> Vec<String> {
    if let Some(last) = said
        .last_mut()
        .filter(|last| last.starts_with("assistant: "))
    {
        last.truncate(last.trim_end().len());
    }
    said
}

/// Names of fields that readers look for.
const KEYS: &str = "\
    messages role content type text tools function name id input system tool_calls arguments \
    source image_url url thinking signature choices delta message index usage candidates parts \
    functionCall args output item output_index response error content_block stream tool_choice \
    response_format reasoning max_tokens stop data media_type thinking_blocks finish_reason \
    stop_reason tool_result tool_use_id tool_call_id call_id summary instructions";

/// Values that readers look for.
const WORDS: &str = "\
    user assistant system tool text tool_use tool_result image thinking function message \
    function_call function_call_output reasoning message_start content_block_start \
    content_block_delta content_block_stop message_delta message_stop text_delta \
    input_json_delta response.created response.output_item.added response.output_text.delta \
    response.output_item.done response.completed STOP stop enabled json_schema base64 \
    data:a;base64,b";

fn words(list: &'static str) -> impl Strategy<Value = &'static str> + Clone {
    select(list.split(' ').collect::<Vec<_>>())
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words(WORDS).prop_map(Value::from),
        text().prop_map(Value::from),
        Just(Value::from("")),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            prop::collection::vec((words(KEYS), inner), 0..8).prop_map(|fields| {
                Value::Object(fields.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn requests_survive_the_way_there_and_back(body in conversation()) {
        let expected = as_begun(said(&body));
        for through in [Format::OpenAiResponses, Format::AnthropicMessages] {
            let there = sent(Format::OpenAiChat, through, &body);
            let back = sent(through, Format::OpenAiChat, &there);
            prop_assert_eq!(&as_begun(said(&back)), &expected, "through {}: {}", through, there);
        }
        let there = sent(Format::OpenAiChat, Format::OpenAiResponses, &body);
        let across = sent(Format::OpenAiResponses, Format::AnthropicMessages, &there);
        let back = sent(Format::AnthropicMessages, Format::OpenAiChat, &across);
        prop_assert_eq!(&as_begun(said(&back)), &expected, "through both: {}", across);
    }

    #[test]
    fn requests_to_gemini_hold_every_text_and_id(body in conversation()) {
        let there = sent(Format::OpenAiChat, Format::Gemini, &body);
        let strings = all_strings(&there);
        for message in body["messages"].as_array().unwrap() {
            for wanted in all_strings(&message["content"]) {
                // Images are split, and the names of types are no content.
                let known = wanted.starts_with("data:") || wanted == "text" || wanted == "image_url";
                prop_assert!(known || strings.contains(&wanted), "{wanted:?} in {there}");
            }
            if let Some(id) = message["tool_call_id"].as_str() {
                prop_assert!(strings.contains(id), "{id} in {there}");
            }
        }
    }

    #[test]
    fn streams_say_what_plain_answers_say(
        thoughts in prop::collection::vec(text(), 0..3),
        texts in prop::collection::vec(text(), 0..4),
        calls in prop::collection::vec((id(), arguments()), 0..3),
        size in 1_usize..40,
    ) {
        let (plain, events) = answer(&thoughts, &texts, &calls);
        for to in [Format::AnthropicMessages, Format::OpenAiResponses] {
            let whole = translate_response(
                Format::OpenAiChat, to, plain.to_string().as_bytes(), &context(),
            ).unwrap();
            let whole: Value = serde_json::from_slice(&whole).unwrap();
            let out = stream(
                Format::OpenAiChat, to, events.as_bytes().chunks(size),
                StreamEnd::Complete, context(),
            );
            let joined = match to {
                Format::AnthropicMessages => join_anthropic(&out),
                _ => last_response(&out),
            };
            prop_assert_eq!(joined, whole);
        }
    }

    #[test]
    fn nothing_panics_on_any_json(value in json_value()) {
        let body = value.to_string();
        all_ways(body.as_bytes());
    }

    #[test]
    fn nothing_panics_on_any_bytes(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..200),
            "(data: |event: |\\{|\\}|\"|\\[|:|,|\n|\r|choices|delta|content|null|\\\\u[dD][89abAB]..){0,40}"
                .prop_map(String::into_bytes),
        ],
    ) {
        all_ways(&bytes);
    }

    #[test]
    fn streams_of_any_events_end_once(values in prop::collection::vec(json_value(), 0..6)) {
        let mut events = String::new();
        for value in &values {
            events.push_str(&format!("data: {value}\n\n"));
        }
        for from in PROVIDERS {
            for to in CLIENTS.into_iter().filter(|to| *to != from) {
                let whole = stream(
                    from, to, std::iter::once(events.as_bytes()), StreamEnd::Complete, context(),
                );
                let split = stream(
                    from, to, events.as_bytes().chunks(3), StreamEnd::Complete, context(),
                );
                prop_assert_eq!(&whole, &split);
                let (_, ends, errors) = marks(to, &whole);
                prop_assert_eq!(ends + errors, 1, "{} {} {}", from, to, whole);
            }
        }
    }
}

/// Runs everything on the same bytes. The output is at most so much longer than the input: each
/// byte becomes a few escapes, each element a few fields, in a stream each element a few events.
fn all_ways(bytes: &[u8]) {
    let limit = 40_000 + bytes.len() * 400;
    let options: RequestOptions = options();
    for from in PROVIDERS {
        for to in PROVIDERS {
            if let Ok(sent) = translate_request(from, to, bytes, "m", &options) {
                assert!(sent.body.len() <= limit);
                serde_json::from_slice::<serde::de::IgnoredAny>(&sent.body).unwrap();
            }
            let (_, body) = translate_error(from, to, 500, bytes, "r");
            assert!(body.len() <= limit);
            if let Ok(body) = translate_response(from, to, bytes, &context()) {
                assert!(body.len() <= limit);
                serde_json::from_slice::<serde::de::IgnoredAny>(&body).unwrap();
            }
            if !CLIENTS.contains(&to) {
                continue;
            }
            let stream = AnswerStream::translate(from, endpoint(to), context());
            let mut stream = stream.unwrap();
            let first = stream.push(Bytes::copy_from_slice(bytes));
            assert!(first.len() + stream.end().len() <= limit);
            let whole = matches!(stream.start(), StreamStart::Content | StreamStart::Complete);
            assert!(!whole || stream.has_ended());
        }
    }
}

fn all_strings(value: &Value) -> BTreeSet<String> {
    match value {
        Value::String(text) => BTreeSet::from([text.clone()]),
        Value::Array(items) => items.iter().flat_map(all_strings).collect(),
        Value::Object(fields) => fields.values().flat_map(all_strings).collect(),
        _ => BTreeSet::new(),
    }
}

/// One answer of a chat provider, plain and as a stream.
fn answer(thoughts: &[String], texts: &[String], calls: &[(String, Value)]) -> (Value, String) {
    let finish = if calls.is_empty() {
        "stop"
    } else {
        "tool_calls"
    };
    let usage = json!({"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12});
    let tool_calls: Vec<Value> = calls
        .iter()
        .enumerate()
        .map(|(at, (id, arguments))| {
            json!({"index": at, "id": format!("{id}_{at}"), "type": "function",
                "function": {"name": "f", "arguments": arguments.to_string()}})
        })
        .collect();
    let plain = json!({"id": "c", "created": 1, "model": "m", "usage": usage, "choices": [{
        "index": 0, "finish_reason": finish, "message": {"role": "assistant",
            "reasoning_content": thoughts.concat(), "content": texts.concat(),
            "tool_calls": tool_calls}}]});
    let mut deltas: Vec<Value> = vec![json!({"role": "assistant", "content": ""})];
    deltas.extend(
        thoughts
            .iter()
            .map(|text| json!({"reasoning_content": text})),
    );
    deltas.extend(texts.iter().map(|text| json!({"content": text})));
    for call in &tool_calls {
        let arguments = call["function"]["arguments"].as_str().unwrap();
        let mut first = call.clone();
        first["function"]["arguments"] = "".into();
        deltas.push(json!({"tool_calls": [first]}));
        for character in arguments.chars() {
            deltas.push(json!({"tool_calls": [{"index": call["index"],
                "function": {"arguments": character.to_string()}}]}));
        }
    }
    let chunk = |choices: Value, usage: &Value| {
        let chunk = json!({"id": "c", "created": 1, "model": "m", "choices": choices,
            "usage": usage});
        format!("data: {chunk}\n\n")
    };
    let mut events = String::new();
    for delta in deltas {
        let choice = json!([{"index": 0, "delta": delta, "finish_reason": null}]);
        events.push_str(&chunk(choice, &Value::Null));
    }
    let last = json!([{"index": 0, "delta": {}, "finish_reason": finish}]);
    events.push_str(&chunk(last, &Value::Null));
    events.push_str(&chunk(json!([]), &usage));
    events.push_str("data: [DONE]\n\n");
    (plain, events)
}

fn events(stream: &str) -> impl Iterator<Item = Value> {
    let data = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "));
    data.map(|data| serde_json::from_str(data).unwrap())
}

/// The message that Anthropic's SDKs make of a stream.
fn join_anthropic(stream: &str) -> Value {
    let mut message = Value::Null;
    let mut input = String::new();
    for event in events(stream) {
        let at = usize::try_from(event["index"].as_u64().unwrap_or(0)).unwrap();
        match event["type"].as_str().unwrap() {
            "message_start" => message = event["message"].clone(),
            "content_block_start" => {
                let block = event["content_block"].clone();
                message["content"].as_array_mut().unwrap().push(block);
                input.clear();
            }
            "content_block_delta" => {
                for (delta, field) in [("text", "text"), ("thinking", "thinking")] {
                    if let Some(text) = event["delta"][delta].as_str() {
                        let block = &mut message["content"][at][field];
                        *block = format!("{}{text}", block.as_str().unwrap()).into();
                    }
                }
                input.push_str(event["delta"]["partial_json"].as_str().unwrap_or_default());
            }
            "content_block_stop" if !input.is_empty() => {
                message["content"][at]["input"] = serde_json::from_str(&input).unwrap();
            }
            "message_delta" => {
                message["stop_reason"] = event["delta"]["stop_reason"].clone();
                message["usage"] = event["usage"].clone();
            }
            _ => {}
        }
    }
    message
}

/// The response in a stream's last event.
fn last_response(stream: &str) -> Value {
    events(stream).last().unwrap()["response"].clone()
}
