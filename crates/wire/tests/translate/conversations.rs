//! Conversations over several turns: ids of calls stay unique and lead back to their call, pieces of
//! calls make the same calls however they are cut, and nothing that stands for earlier turns is lost
//! without a word.

use llm_router_domain::format::Format;
use llm_router_wire::error::ErrorBody;
use llm_router_wire::translate::{ResponseContext, translate_request, translate_response};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::fixtures::{CLIENTS, PROVIDERS, context, model, options};
use crate::streams::{StreamEnd, stream};

fn sent(from: Format, to: Format, body: &Value) -> (Value, ResponseContext) {
    let body = body.to_string();
    let sent = translate_request(from, to, body.as_bytes(), model(to), &options()).unwrap();
    (serde_json::from_slice(&sent.body).unwrap(), sent.context)
}

/// A call or a result as a provider is sent it: its id, and the number in its content.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sent {
    result: bool,
    id: String,
    number: String,
}

/// The calls and results in a request, in their order.
fn calls_and_results(format: Format, body: &Value) -> Vec<Sent> {
    let mut out = Vec::new();
    let mut add = |result, id: &Value, number: &Value| {
        let digits = |text: String| text.chars().filter(char::is_ascii_digit).collect();
        out.push(Sent {
            result,
            id: id.as_str().unwrap().to_owned(),
            number: digits(number.to_string()),
        });
    };
    match format {
        Format::OpenAiChat => {
            for message in body["messages"].as_array().unwrap() {
                for call in message["tool_calls"].as_array().into_iter().flatten() {
                    add(false, &call["id"], &call["function"]["arguments"]);
                }
                if message["role"] == "tool" {
                    add(true, &message["tool_call_id"], &message["content"]);
                }
            }
        }
        Format::OpenAiResponses => {
            for item in body["input"].as_array().unwrap() {
                match item["type"].as_str() {
                    Some("function_call") => add(false, &item["call_id"], &item["arguments"]),
                    Some("function_call_output") => add(true, &item["call_id"], &item["output"]),
                    _ => {}
                }
            }
        }
        Format::AnthropicMessages => {
            for message in body["messages"].as_array().unwrap() {
                for block in message["content"].as_array().into_iter().flatten() {
                    match block["type"].as_str() {
                        Some("tool_use") => add(false, &block["id"], &block["input"]),
                        Some("tool_result") => add(true, &block["tool_use_id"], &block["content"]),
                        _ => {}
                    }
                }
            }
        }
        Format::Gemini => {
            for content in body["contents"].as_array().unwrap() {
                for part in content["parts"].as_array().unwrap() {
                    if part.get("functionCall").is_some() {
                        let call = &part["functionCall"];
                        add(false, &call["id"], &call["args"]);
                    }
                    if part.get("functionResponse").is_some() {
                        let response = &part["functionResponse"];
                        add(true, &response["id"], &response["response"]);
                    }
                }
            }
        }
    }
    out
}

/// Every call has an id of its own, and the result with its number has that id.
fn assert_paired(found: &[Sent], calls: usize) {
    let called: Vec<&Sent> = found.iter().filter(|sent| !sent.result).collect();
    let ids: std::collections::HashSet<&str> = called.iter().map(|call| &*call.id).collect();
    assert_eq!((called.len(), ids.len()), (calls, calls), "{found:?}");
    for call in called {
        let results: Vec<&Sent> = found
            .iter()
            .filter(|sent| sent.result && sent.id == call.id)
            .collect();
        assert_eq!(results.len(), 1, "{call:?} in {found:?}");
        assert_eq!(results[0].number, call.number, "{found:?}");
    }
}

/// A history in a client's format: turns of calls given by their ids. Results come sorted by id.
fn history(format: Format, turns: &[Vec<&'static str>]) -> Value {
    let mut number = 0;
    let mut items = vec![json!({"role": "user", "content": "q"})];
    for turn in turns {
        let calls: Vec<(usize, &str)> = turn
            .iter()
            .map(|id| {
                number += 1;
                (number, *id)
            })
            .collect();
        let mut results = calls.clone();
        results.sort_by_key(|(_, id)| *id);
        match format {
            Format::OpenAiChat => {
                let calls = calls.iter().map(|(n, id)| {
                    json!({"id": id, "type": "function",
                        "function": {"name": "f", "arguments": format!("{{\"n\":{n}}}")}})
                });
                items.push(json!({"role": "assistant", "content": null,
                    "tool_calls": calls.collect::<Vec<_>>()}));
                items.extend(results.iter().map(
                    |(n, id)| json!({"role": "tool", "tool_call_id": id, "content": n.to_string()}),
                ));
            }
            Format::OpenAiResponses => {
                items.extend(calls.iter().map(|(n, id)| {
                    json!({"type": "function_call", "call_id": id, "name": "f",
                        "arguments": format!("{{\"n\":{n}}}")})
                }));
                items.extend(results.iter().map(|(n, id)| {
                    json!({"type": "function_call_output", "call_id": id, "output": n.to_string()})
                }));
            }
            _ => {
                let calls = calls.iter().map(
                    |(n, id)| json!({"type": "tool_use", "id": id, "name": "f", "input": {"n": n}}),
                );
                items.push(json!({"role": "assistant", "content": calls.collect::<Vec<_>>()}));
                let results = results.iter().map(|(n, id)| {
                    json!({"type": "tool_result", "tool_use_id": id, "content": n.to_string()})
                });
                items.push(json!({"role": "user", "content": results.collect::<Vec<_>>()}));
            }
        }
    }
    let key = if format == Format::OpenAiResponses {
        "input"
    } else {
        "messages"
    };
    json!({"model": "m", "max_tokens": 9, key: items})
}

/// An answer with calls of these ids: plain, and as a stream.
fn answer(format: Format, ids: &[&str]) -> (String, String) {
    let calls: Vec<(usize, &str)> = ids.iter().copied().enumerate().collect();
    let events = |events: Vec<Value>| -> String {
        let event = |data: Value| format!("event: {}\ndata: {data}\n\n", data["type"]);
        events.into_iter().map(event).collect()
    };
    match format {
        Format::OpenAiChat => {
            let calls: Vec<Value> = calls
                .iter()
                .map(|(n, id)| {
                    json!({"index": n, "id": id, "type": "function",
                        "function": {"name": "f", "arguments": "{}"}})
                })
                .collect();
            let choice = |key: &str| {
                json!({"id": "c", "created": 1, "model": "m", "choices": [{"index": 0,
                    "finish_reason": "tool_calls", key: {"tool_calls": calls}}]})
            };
            let plain = choice("message").to_string();
            (
                plain,
                format!("data: {}\n\ndata: [DONE]\n\n", choice("delta")),
            )
        }
        Format::OpenAiResponses => {
            let output: Vec<Value> = calls
                .iter()
                .map(|(_, id)| {
                    json!({"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"})
                })
                .collect();
            let response = json!({"id": "resp_1", "model": "m", "status": "completed",
                "output": output});
            let mut all = vec![json!({"type": "response.created", "response": {"id": "resp_1"}})];
            for (n, item) in output.iter().enumerate() {
                for kind in ["response.output_item.added", "response.output_item.done"] {
                    all.push(json!({"type": kind, "output_index": n, "item": item}));
                }
            }
            all.push(json!({"type": "response.completed", "response": response}));
            (response.to_string(), events(all))
        }
        Format::AnthropicMessages => {
            let content: Vec<Value> = calls
                .iter()
                .map(|(_, id)| json!({"type": "tool_use", "id": id, "name": "f", "input": {}}))
                .collect();
            let plain = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "m",
                "content": content, "stop_reason": "tool_use", "usage": {}});
            let mut all = vec![json!({"type": "message_start",
                "message": {"id": "msg_1", "model": "m", "usage": {}}})];
            for (n, block) in content.iter().enumerate() {
                all.push(
                    json!({"type": "content_block_start", "index": n, "content_block": block}),
                );
                all.push(json!({"type": "content_block_stop", "index": n}));
            }
            all.push(json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}}));
            all.push(json!({"type": "message_stop"}));
            (plain.to_string(), events(all))
        }
        Format::Gemini => {
            let parts: Vec<Value> = calls
                .iter()
                .map(|(_, id)| json!({"functionCall": {"id": id, "name": "f", "args": {}}}))
                .collect();
            let plain = json!({"responseId": "r", "candidates": [{"index": 0,
                "finishReason": "STOP", "content": {"role": "model", "parts": parts}}]})
            .to_string();
            let stream = format!("data: {plain}\n\n");
            (plain, stream)
        }
    }
}

/// The ids of the calls that a client reads in an answer.
fn client_ids(format: Format, text: &str) -> Vec<String> {
    let key = match format {
        Format::OpenAiResponses => "\"call_id\":\"",
        Format::AnthropicMessages => "\"type\":\"tool_use\",\"id\":\"",
        _ => "\"id\":\"",
    };
    let mut ids: Vec<String> = Vec::new();
    for found in text.split(key).skip(1) {
        let id = found.split('"').next().unwrap().to_owned();
        let own = format != Format::OpenAiChat || !id.starts_with("chatcmpl");
        if own && !ids.contains(&id) {
            ids.push(id);
        }
    }
    ids
}

#[test]
fn calls_of_an_answer_have_ids_that_no_other_call_has() {
    for to in CLIENTS {
        for from in PROVIDERS.into_iter().filter(|from| *from != to) {
            let (_, context) = sent(to, from, &history(to, &[vec!["x"], vec!["y"]]));
            let (plain, events) = answer(from, &["x", "z", "z", ""]);
            let plain = translate_response(from, to, plain.as_bytes(), &context).unwrap();
            let plain = String::from_utf8(plain.to_vec()).unwrap();
            let chunks = std::iter::once(events.as_bytes());
            let streamed = stream(from, to, chunks, StreamEnd::Complete, context);
            for text in [plain, streamed] {
                let ids = client_ids(to, &text);
                assert_eq!(ids[..3], ["x-n2", "z", "z-n2"], "{from} {to}: {text}");
                assert!(
                    ids.len() == 4 && ids[3].starts_with("call_made_"),
                    "{ids:?}"
                );
            }
        }
    }
}

#[test]
fn anthropic_clients_are_told_of_the_input_first() {
    let client = Format::AnthropicMessages;
    let body = json!({"model": "m", "max_tokens": 9, "stream": true,
        "messages": [{"role": "user", "content": "a question of some length"}]});
    for from in PROVIDERS.into_iter().filter(|from| *from != client) {
        let (_, context) = sent(client, from, &body);
        let events = r#"data: {"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":"stop"}],"usage":{"prompt_tokens":123,"completion_tokens":4}}"#;
        let chunks = [events.as_bytes(), b"\n\ndata: [DONE]\n\n"];
        let out = stream(
            Format::OpenAiChat,
            client,
            chunks.into_iter(),
            StreamEnd::Complete,
            context,
        );
        let usage = |event: &str, path: &str| {
            let found = out.split("\n\n").find(|text| text.contains(event)).unwrap();
            let data = found.split_once("data: ").unwrap().1;
            let data: Value = serde_json::from_str(data).unwrap();
            data.pointer(path).unwrap()["input_tokens"]
                .as_u64()
                .unwrap()
        };
        let estimate = usage("event: message_start", "/message/usage");
        assert!((5..20).contains(&estimate), "{out}");
        assert_eq!(usage("event: message_delta", "/usage"), 123);
    }
}

#[test]
fn a_thread_is_refused_in_words_that_the_sdk_acts_on() {
    let body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "q"}],
        "thread": {"type": "continue", "previous_message_id": "msg_x"}});
    let from = Format::AnthropicMessages;
    for to in PROVIDERS.into_iter().filter(|to| *to != from) {
        let error = translate_request(from, to, body.to_string().as_bytes(), "m", &options());
        let error = error.unwrap_err();
        assert_eq!(
            (error.status, error.param.as_deref()),
            (400, Some("thread"))
        );
        let body = ErrorBody {
            status: error.status,
            code: &error.code,
            message: &error.message,
            param: error.param.as_deref(),
            details: error.details.as_deref(),
            request_id: "r",
        };
        let body: Value = serde_json::from_slice(&body.render(from)).unwrap();
        let details =
            json!({"error_code": "thread_unsupported_request", "unsupported": ["thread"]});
        assert_eq!(body["error"]["details"], details);
    }
}

/// A call and the places at which a server cuts it.
#[derive(Clone, Debug)]
struct CutCall {
    id: &'static str,
    name: &'static str,
    arguments: String,
    /// Positions in the name and in the arguments.
    name_cut: usize,
    argument_cuts: Vec<usize>,
    /// The fragment that has the id.
    id_at: usize,
    name_repeated: bool,
    /// The arguments come before the name.
    early: bool,
}

fn cut_call() -> impl Strategy<Value = CutCall> {
    let id = prop_oneof![Just("call_a"), Just("call_b"), Just("x"), Just("")];
    let name = prop_oneof![Just("get_weather"), Just("f"), Just("search-the_web")];
    let arguments = prop_oneof![
        Just("{}".to_owned()),
        "[a-z{}\"\\\\é]{0,9}".prop_map(|text| json!({"a": text, "b": [1, {}]}).to_string()),
    ];
    (
        (id, name, arguments),
        (0_usize..15, prop::collection::vec(0_usize..40, 0..4)),
        (0_usize..8, any::<bool>(), any::<bool>()),
    )
        .prop_map(|((id, name, arguments), (name_cut, cuts), rest)| CutCall {
            id,
            name,
            arguments,
            name_cut,
            argument_cuts: cuts,
            id_at: rest.0,
            name_repeated: rest.1,
            early: rest.2 && rest.0 == 0,
        })
}

impl CutCall {
    /// The fragments without their index.
    fn fragments(&self) -> Vec<Value> {
        let (first, second) = self.name.split_at(self.name_cut.min(self.name.len()));
        let names = [first, second].into_iter().filter(|name| !name.is_empty());
        let mut fragments: Vec<Value> = names
            .map(|name| json!({"function": {"name": name}}))
            .collect();
        let mut cuts: Vec<usize> = self.argument_cuts.clone();
        cuts.push(self.arguments.len());
        cuts.sort_unstable();
        let mut from = 0;
        let mut arguments = Vec::new();
        for cut in cuts {
            let cut = (from..=cut.min(self.arguments.len()))
                .rev()
                .find(|at| self.arguments.is_char_boundary(*at))
                .unwrap_or(from);
            let mut function = json!({"arguments": self.arguments[from..cut]});
            if self.name_repeated && !self.early {
                function["name"] = self.name.into();
            }
            arguments.push(json!({"function": function}));
            from = cut;
        }
        if self.early {
            arguments.append(&mut fragments);
            fragments = arguments;
        } else {
            fragments.append(&mut arguments);
        }
        let last = fragments.len() - 1;
        fragments[self.id_at.min(last)]["id"] = self.id.into();
        // A piece that says nothing begins no call.
        fragments.retain(|fragment| {
            let word = |value: &Value| value.as_str().is_some_and(|word| !word.is_empty());
            let function = &fragment["function"];
            word(&fragment["id"]) || word(&function["name"]) || word(&function["arguments"])
        });
        fragments
    }
}

/// The calls as the client reads them, whatever its format.
fn read_calls(to: Format, stream: &str) -> Vec<(String, String, Value)> {
    let mut calls: Vec<(String, String, String)> = Vec::new();
    for line in stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: {"))
    {
        let event: Value = serde_json::from_str(&format!("{{{line}")).unwrap();
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match to {
            Format::AnthropicMessages => {
                let block = &event["content_block"];
                if block["type"] == "tool_use" {
                    calls.push((word(&block["id"]), word(&block["name"]), String::new()));
                } else if let Some(text) = event["delta"]["partial_json"].as_str() {
                    calls.last_mut().unwrap().2.push_str(text);
                }
            }
            _ if event["type"] == "response.output_item.done" => {
                let item = &event["item"];
                calls.push((
                    word(&item["call_id"]),
                    word(&item["name"]),
                    word(&item["arguments"]),
                ));
            }
            _ => {}
        }
    }
    calls
        .into_iter()
        .map(|(id, name, arguments)| {
            let arguments = serde_json::from_str(&arguments)
                .unwrap_or_else(|error| panic!("{error}: {arguments} in {stream}"));
            (id, name, arguments)
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn ids_of_a_history_are_unique_and_results_keep_their_call(
        turns in prop::collection::vec(
            prop::collection::vec(
                prop_oneof![Just("x"), Just("y"), Just("x-n2"), Just("call_0")], 1..4),
            1..5,
        ),
    ) {
        let calls = turns.iter().map(Vec::len).sum();
        for from in CLIENTS {
            let body = history(from, &turns);
            for to in PROVIDERS.into_iter().filter(|to| *to != from) {
                let (there, _) = sent(from, to, &body);
                assert_paired(&calls_and_results(to, &there), calls);
            }
        }
    }

    /// However a server cuts its calls, in order or interleaved, clients read the same calls.
    #[test]
    fn fragments_make_the_same_calls_however_they_are_cut(
        calls in prop::collection::vec(cut_call(), 1..4),
        order in prop::collection::vec(any::<prop::sample::Index>(), 64),
        interleaved in any::<bool>(),
    ) {
        let mut waiting: Vec<(usize, std::collections::VecDeque<Value>)> = calls
            .iter()
            .enumerate()
            .map(|(index, call)| (index, call.fragments().into()))
            .collect();
        // Servers begin their calls in order.
        let mut events = Vec::new();
        if interleaved {
            for (index, fragments) in &mut waiting {
                events.push((*index, fragments.pop_front().unwrap()));
            }
        }
        let mut order = order.into_iter();
        while !waiting.is_empty() {
            let at = if interleaved {
                order.next().map_or(0, |index| index.index(waiting.len()))
            } else {
                0
            };
            match waiting[at].1.pop_front() {
                Some(fragment) => events.push((waiting[at].0, fragment)),
                None => drop(waiting.remove(at)),
            }
        }
        let mut text = String::new();
        for (index, mut fragment) in events {
            fragment["index"] = index.into();
            let chunk = json!({"id": "c", "model": "m", "choices": [
                {"index": 0, "delta": {"tool_calls": [fragment]}, "finish_reason": null}]});
            text.push_str(&format!("data: {chunk}\n\n"));
        }
        text.push_str("data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"tool_calls\"}]}\n\ndata: [DONE]\n\n");
        for to in [Format::AnthropicMessages, Format::OpenAiResponses] {
            let chunks = std::iter::once(text.as_bytes());
            let out = stream(Format::OpenAiChat, to, chunks, StreamEnd::Complete, context());
            let found = read_calls(to, &out);
            prop_assert_eq!(found.len(), calls.len(), "{}\n{}", text, out);
            let mut ids = std::collections::HashSet::new();
            for ((id, name, arguments), call) in found.iter().zip(&calls) {
                let expected: Value = serde_json::from_str(&call.arguments).unwrap();
                prop_assert_eq!(arguments, &expected, "{}", text);
                prop_assert_eq!(name, call.name, "{}", text);
                prop_assert!(id.starts_with(call.id) && ids.insert(id.clone()), "{} {}", id, text);
            }
        }
    }
}
