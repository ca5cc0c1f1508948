//! Requests beyond the limits of a target are changed or shortened, and the fields named; `strict` refuses it.

use std::collections::BTreeSet;

use llm_router_domain::format::Format;
use llm_router_wire::translate::{
    ChatDialect, Compat, RequestOptions, TranslatedRequest, translate_request, translate_response,
};
use serde_json::{Value, json};

use crate::fixtures::{model, options};
use crate::streams::{StreamEnd, stream};

const CHAT: Format = Format::OpenAiChat;
const RESPONSES: Format = Format::OpenAiResponses;
const MESSAGES: Format = Format::AnthropicMessages;
const GEMINI: Format = Format::Gemini;

const ASKED: [Format; 3] = [CHAT, RESPONSES, MESSAGES];

fn pairs() -> impl Iterator<Item = (Format, Format)> {
    let all = |from| Format::ALL.into_iter().map(move |to| (from, to));
    ASKED
        .into_iter()
        .flat_map(all)
        .filter(|(from, to)| from != to)
}

/// A request of a user who says `x`, with more fields.
fn asked(from: Format, more: Value) -> Value {
    let mut body = match from {
        CHAT => json!({"model": "m", "messages": [{"role": "user", "content": "x"}]}),
        RESPONSES => json!({"model": "m", "input": [{"role": "user", "content": "x"}]}),
        _ => {
            json!({"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": "x"}]})
        }
    };
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    body
}

fn translate(
    from: Format,
    to: Format,
    model: &str,
    body: &Value,
    options: &RequestOptions,
) -> Result<TranslatedRequest, llm_router_wire::translate::TranslateError> {
    translate_request(from, to, body.to_string().as_bytes(), model, options)
}

/// The body sent and the fields named as dropped.
fn sent_to(from: Format, to: Format, model: &str, body: &Value) -> (Value, Vec<String>) {
    let sent = translate(from, to, model, body, &options())
        .unwrap_or_else(|error| panic!("{from} to {to}: {error} in {body}"));
    (serde_json::from_slice(&sent.body).unwrap(), sent.dropped)
}

fn sent(from: Format, to: Format, body: &Value) -> (Value, Vec<String>) {
    sent_to(from, to, model(to), body)
}

/// The field that a strict provider's refusal names.
fn refused(from: Format, to: Format, model: &str, body: &Value) -> String {
    let strict = RequestOptions {
        compat: Compat::Strict,
        ..options()
    };
    let error = translate(from, to, model, body, &strict).unwrap_err();
    assert_eq!(error.status, 400);
    error.param.unwrap_or_default()
}

fn user(from: Format, name: &str) -> Value {
    match from {
        MESSAGES => asked(from, json!({"metadata": {"user_id": name}})),
        _ => asked(from, json!({"user": name})),
    }
}

fn sent_user(to: Format, body: &Value) -> &str {
    let user = match to {
        MESSAGES => &body["metadata"]["user_id"],
        _ => &body["user"],
    };
    user.as_str().unwrap()
}

#[test]
fn users_that_are_too_long_become_a_stable_hash() {
    let agent = |session: &str| {
        format!(
            "user_{}_account_{}_session_{session}",
            "a".repeat(64),
            "b".repeat(36)
        )
    };
    for (from, to, most) in [
        (MESSAGES, CHAT, 64),
        (MESSAGES, RESPONSES, 64),
        (RESPONSES, CHAT, 64),
        (CHAT, RESPONSES, 64),
        (CHAT, MESSAGES, 256),
        (RESPONSES, MESSAGES, 256),
    ] {
        let field = if from == MESSAGES {
            "metadata.user_id"
        } else {
            "user"
        };
        let long = agent(&"c".repeat(136));
        let (body, dropped) = sent(from, to, &user(from, &long));
        let hash = sent_user(to, &body).to_owned();
        assert!(hash.len() <= most, "{from} to {to}: {hash}");
        assert!(!hash.contains(&"a".repeat(20)), "{hash}");
        assert_eq!(dropped, [field]);
        assert_eq!(refused(from, to, model(to), &user(from, &long)), field);

        let (again, _) = sent(from, to, &user(from, &long));
        assert_eq!(sent_user(to, &again), hash);
        let other = agent(&"d".repeat(136));
        let (other, _) = sent(from, to, &user(from, &other));
        assert_ne!(sent_user(to, &other), hash);

        let longest = "u".repeat(most);
        let (body, dropped) = sent(from, to, &user(from, &longest));
        assert_eq!((sent_user(to, &body), &*dropped), (&*longest, &[][..]));
    }
}

#[test]
fn compatible_servers_get_users_of_a_length_that_they_take() {
    let compatible = RequestOptions {
        dialect: ChatDialect::Compatible,
        ..options()
    };
    for (length, changed) in [(64, false), (128, false), (129, true), (400, true)] {
        let name = "u".repeat(length);
        let sent = translate(MESSAGES, CHAT, "m", &user(MESSAGES, &name), &compatible).unwrap();
        let body: Value = serde_json::from_slice(&sent.body).unwrap();
        let found = sent_user(CHAT, &body);
        assert!(found.len() <= 128);
        assert_eq!(
            (found != name, !sent.dropped.is_empty()),
            (changed, changed)
        );
    }
}

#[test]
fn anthropic_gets_no_addresses_and_phone_numbers_of_people() {
    for from in [CHAT, RESPONSES] {
        for name in [
            "alice@example.com",
            "Alice <alice+x@mail.example.co.uk>",
            "acct:alice@example.com",
            "+49 170 1234567",
            "+14155552671",
            "(415) 555-2671",
            "415-555-2671",
            "415.555.2671",
            "4155552671",
        ] {
            let (body, dropped) = sent(from, MESSAGES, &user(from, name));
            let hash = sent_user(MESSAGES, &body);
            assert!(
                hash.starts_with("user_") && hash.len() == 37,
                "{name}: {hash}"
            );
            assert_eq!(dropped, ["user"]);
            // OpenAI takes them.
            let to = if from == CHAT { RESPONSES } else { CHAT };
            let (body, dropped) = sent(from, to, &user(from, name));
            assert_eq!((sent_user(to, &body), dropped.len()), (name, 0));
        }
        for name in [
            "alice",
            "user-7",
            "42",
            "team@",
            "@alice",
            "2026-12-01",
            "0b8cd3a2-9f5e-4f0e-8d1b-2f1c3a4b5c6d",
            "7f83b1657ff1fc53b92dc18148a1d65dfc2d4b1fa3d677284addd200126d9069",
        ] {
            let (body, dropped) = sent(from, MESSAGES, &user(from, name));
            assert_eq!((sent_user(MESSAGES, &body), dropped.len()), (name, 0));
        }
    }
}

/// A conversation with two calls of these ids and their results.
fn conversation(from: Format, ids: [&str; 2], tool: &str) -> Value {
    let [one, two] = ids;
    match from {
        CHAT => json!({"model": "m", "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "tool_calls": [
                {"id": one, "type": "function", "function": {"name": tool, "arguments": "{}"}},
                {"id": two, "type": "function", "function": {"name": tool, "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": one, "content": "1"},
            {"role": "tool", "tool_call_id": two, "content": "2"}],
            "tools": [{"type": "function", "function": {"name": tool,
                "parameters": {"type": "object", "properties": {}}}}],
            "tool_choice": {"type": "function", "function": {"name": tool}}}),
        RESPONSES => json!({"model": "m", "input": [
            {"role": "user", "content": "x"},
            {"type": "function_call", "call_id": one, "name": tool, "arguments": "{}"},
            {"type": "function_call", "call_id": two, "name": tool, "arguments": "{}"},
            {"type": "function_call_output", "call_id": one, "output": "1"},
            {"type": "function_call_output", "call_id": two, "output": "2"}],
            "tools": [{"type": "function", "name": tool,
                "parameters": {"type": "object", "properties": {}}}],
            "tool_choice": {"type": "function", "name": tool}}),
        _ => json!({"model": "m", "max_tokens": 50, "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": [
                {"type": "tool_use", "id": one, "name": tool, "input": {}},
                {"type": "tool_use", "id": two, "name": tool, "input": {}}]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": one, "content": "1"},
                {"type": "tool_result", "tool_use_id": two, "content": "2"}]}],
            "tools": [{"name": tool, "input_schema": {"type": "object", "properties": {}}}],
            "tool_choice": {"type": "tool", "name": tool}}),
    }
}

/// Every string in fields of these names, in order.
fn strings<'v>(value: &'v Value, names: &[&str], out: &mut Vec<&'v str>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| strings(item, names, out)),
        Value::Object(fields) => {
            for (name, value) in fields {
                match value.as_str() {
                    Some(text) if names.contains(&name.as_str()) => out.push(text),
                    _ => strings(value, names, out),
                }
            }
        }
        _ => {}
    }
}

/// The ids of calls and those of results, in order.
fn ids(to: Format, body: &Value) -> [Vec<String>; 2] {
    let (calls, results): (&[&str], &[&str]) = match to {
        CHAT => (&["id"], &["tool_call_id"]),
        MESSAGES => (&["id"], &["tool_use_id"]),
        _ => (&["call_id"], &["call_id"]),
    };
    let talk = &body[if to == RESPONSES { "input" } else { "messages" }];
    let find = |names| {
        let mut found = Vec::new();
        strings(talk, names, &mut found);
        found.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    if to == RESPONSES {
        let all = find(calls);
        return [all[..2].to_vec(), all[2..].to_vec()];
    }
    [find(calls), find(results)]
}

#[test]
fn ids_are_shortened_alike_at_call_and_result() {
    let long = |tail: &str| format!("toolu_{}{tail}", "v".repeat(40));
    let (one, two) = (long("1"), long("2"));
    for (from, to) in pairs().filter(|(_, to)| *to != GEMINI) {
        let most = match to {
            CHAT => 40,
            RESPONSES => 64,
            _ => usize::MAX,
        };
        for [one, two] in [
            [one.as_str(), two.as_str()],
            [
                &format!("{one}{}", "w".repeat(60)),
                &format!("{two}{}", "w".repeat(60)),
            ],
            ["functions.f:0", "functions.f_0"],
            ["é:1", "é.1"],
        ] {
            let (body, _) = sent(from, to, &conversation(from, [one, two], "f"));
            let [calls, results] = ids(to, &body);
            assert_eq!(calls, results, "{from} to {to}");
            assert_eq!(calls.len(), 2);
            assert_ne!(calls[0], calls[1]);
            for (id, asked) in calls.iter().zip([one, two]) {
                assert!(!id.is_empty() && id.len() <= most, "{from} to {to}: {id}");
                let plain = |c: char| c.is_ascii_alphanumeric() || "_-".contains(c);
                let fits = asked.len() <= most && (to != MESSAGES || asked.chars().all(plain));
                assert_eq!(id == asked, fits, "{from} to {to}: {id}");
                assert!(to != MESSAGES || id.chars().all(plain));
            }
        }
    }
}

#[test]
fn names_of_tools_that_the_target_refuses_are_mapped_and_mapped_back() {
    let long = "mcp__server__".repeat(11);
    for (from, to) in pairs() {
        let (most, first) = match to {
            MESSAGES => (128, false),
            GEMINI => (64, true),
            _ => (64, false),
        };
        for name in [
            &long,
            "files.read",
            "wetter münchen",
            "7zip",
            "-x",
            "a:b",
            "ok_1-A",
        ] {
            let (body, _) = sent(from, to, &conversation(from, ["c1", "c2"], name));
            let mut found = Vec::new();
            let inside = if to == GEMINI { "contents" } else { "messages" };
            for part in [inside, "input", "tools", "tool_choice"] {
                strings(&body[part], &["name"], &mut found);
            }
            let used: BTreeSet<&str> = found.into_iter().collect();
            let [mapped] = used.into_iter().collect::<Vec<_>>()[..] else {
                panic!("{from} to {to}: {body}")
            };
            assert!(mapped.len() <= most);
            let allowed = |c: char| {
                c.is_ascii_alphanumeric() || "_-".contains(c) || (to == GEMINI && c == '.')
            };
            assert!(mapped.chars().all(allowed), "{to}: {mapped}");
            let start = mapped.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            assert!(start || !first, "{to}: {mapped}");
            let fits = name.len() <= most
                && name.chars().all(allowed)
                && (!first || name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'));
            assert_eq!(mapped == name, fits, "{from} to {to}: {name} as {mapped}");
            comes_back(from, to, name, mapped);
        }
    }
}

/// The client gets its own name back, in plain answers and in streams.
fn comes_back(from: Format, to: Format, name: &str, mapped: &str) {
    let body = conversation(from, ["c1", "c2"], name);
    let context = translate(from, to, model(to), &body, &options())
        .unwrap()
        .context;
    let (plain, events) = call_of(to, mapped);
    let answer = translate_response(to, from, plain.to_string().as_bytes(), &context).unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let mut names = Vec::new();
    strings(
        answer
            .get("choices")
            .or_else(|| answer.get("output"))
            .unwrap_or(&answer["content"]),
        &["name"],
        &mut names,
    );
    assert_eq!(names, [name], "{from} from {to}");
    let out = stream(
        to,
        from,
        std::iter::once(events.as_bytes()),
        StreamEnd::Complete,
        context,
    );
    let quoted = Value::from(name).to_string();
    assert!(
        out.contains(&format!("\"name\":{quoted}")),
        "{from} from {to}: {out}"
    );
    assert!(
        mapped == name || !out.contains(&format!("\"name\":\"{mapped}\"")),
        "{out}"
    );
}

/// A call of a tool, as a plain answer and as a stream.
fn call_of(from: Format, name: &str) -> (Value, String) {
    let data = |events: &[Value]| {
        let line = |event: &Value| match event["type"].as_str() {
            Some(kind) => format!("event: {kind}\ndata: {event}\n\n"),
            None => format!("data: {event}\n\n"),
        };
        events.iter().map(line).collect::<String>()
    };
    match from {
        CHAT => {
            let call = json!([{"index": 0, "id": "c", "type": "function",
                "function": {"name": name, "arguments": "{}"}}]);
            let chunk = |delta: Value, finish: Value| {
                json!({"id": "c", "created": 1, "model": "m",
                    "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]})
            };
            let plain = json!({"id": "c", "created": 1, "model": "m", "choices": [{"index": 0,
                "finish_reason": "tool_calls",
                "message": {"role": "assistant", "content": null, "tool_calls": call}}]});
            let events = [
                chunk(
                    json!({"role": "assistant", "tool_calls": call}),
                    Value::Null,
                ),
                chunk(json!({}), json!("tool_calls")),
            ];
            (plain, data(&events) + "data: [DONE]\n\n")
        }
        RESPONSES => {
            let item = json!({"type": "function_call", "id": "fc", "call_id": "c", "name": name,
                "arguments": "{}", "status": "completed"});
            let plain = json!({"id": "r", "object": "response", "created_at": 1, "model": "m",
                "status": "completed", "output": [item]});
            let events = [
                json!({"type": "response.created", "response": {"id": "r", "model": "m"}}),
                json!({"type": "response.output_item.added", "output_index": 0, "item":
                    {"type": "function_call", "id": "fc", "call_id": "c", "name": name, "arguments": ""}}),
                json!({"type": "response.function_call_arguments.delta", "output_index": 0,
                    "item_id": "fc", "delta": "{}"}),
                json!({"type": "response.output_item.done", "output_index": 0, "item": item}),
                json!({"type": "response.completed", "response": plain}),
            ];
            (plain.clone(), data(&events))
        }
        MESSAGES => {
            let plain = json!({"id": "m", "type": "message", "role": "assistant", "model": "m",
                "content": [{"type": "tool_use", "id": "c", "name": name, "input": {}}],
                "stop_reason": "tool_use", "usage": {"input_tokens": 1, "output_tokens": 1}});
            let events = [
                json!({"type": "message_start", "message": {"id": "m", "type": "message",
                    "role": "assistant", "model": "m", "content": [],
                    "usage": {"input_tokens": 1, "output_tokens": 1}}}),
                json!({"type": "content_block_start", "index": 0, "content_block":
                    {"type": "tool_use", "id": "c", "name": name, "input": {}}}),
                json!({"type": "content_block_stop", "index": 0}),
                json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"},
                    "usage": {"output_tokens": 1}}),
                json!({"type": "message_stop"}),
            ];
            (plain, data(&events))
        }
        GEMINI => {
            let plain = json!({"responseId": "g", "modelVersion": "m", "candidates": [{"index": 0,
                "finishReason": "STOP", "content": {"role": "model", "parts": [
                    {"functionCall": {"name": name, "args": {}}}]}}]});
            let events = data(std::slice::from_ref(&plain));
            (plain, events)
        }
    }
}

fn tools(from: Format, count: usize) -> Value {
    let tool = |at: usize| match from {
        CHAT => json!({"type": "function", "function": {"name": format!("f{at}")}}),
        RESPONSES => json!({"type": "function", "name": format!("f{at}")}),
        _ => json!({"name": format!("f{at}"), "input_schema": {"type": "object"}}),
    };
    (0..count).map(tool).collect()
}

#[test]
fn tools_beyond_the_targets_number_are_left_out_but_for_those_in_use() {
    for (from, to, most) in [
        (MESSAGES, CHAT, 128),
        (MESSAGES, RESPONSES, 128),
        (RESPONSES, CHAT, 128),
        (CHAT, RESPONSES, 128),
        (MESSAGES, GEMINI, 512),
    ] {
        let count = |body: &Value| match to {
            GEMINI => body["tools"][0]["functionDeclarations"]
                .as_array()
                .unwrap()
                .len(),
            _ => body["tools"].as_array().unwrap().len(),
        };
        let body = asked(from, json!({"tools": tools(from, most)}));
        let (all, dropped) = sent(from, to, &body);
        assert_eq!((count(&all), dropped.len()), (most, 0));
        let mut body = conversation(from, ["c1", "c2"], &format!("f{}", most + 5));
        body["tools"] = tools(from, most + 9);
        let (cut, dropped) = sent(from, to, &body);
        assert_eq!((count(&cut), &*dropped), (most, &["tools".to_owned()][..]));
        let text = cut["tools"].to_string();
        assert!(text.contains("\"f0\"") && text.contains(&format!("\"f{}\"", most + 5)));
        assert_eq!(refused(from, to, model(to), &body), "tools");
    }
    let (all, dropped) = sent(
        CHAT,
        MESSAGES,
        &asked(CHAT, json!({"tools": tools(CHAT, 600)})),
    );
    assert_eq!(
        (all["tools"].as_array().unwrap().len(), dropped.len()),
        (600, 0)
    );
}

#[test]
fn models_that_reason_get_no_texts_to_stop_at() {
    for (from, to, field) in [
        (MESSAGES, CHAT, "stop_sequences"),
        (RESPONSES, CHAT, "stop"),
    ] {
        for (model, taken) in [
            ("o3", false),
            ("o3-mini", false),
            ("o4-mini", false),
            ("gpt-5", false),
            ("gpt-5-mini-2025-08-07", false),
            ("gpt-5.2", false),
            ("gpt-6-sol", false),
            ("gpt-4o", true),
            ("gpt-5-chat-latest", true),
        ] {
            if from == RESPONSES {
                continue;
            }
            let body = asked(from, json!({field: ["END"]}));
            let (sent, dropped) = sent_to(from, to, model, &body);
            assert_eq!(sent.get("stop").is_some(), taken, "{model}");
            assert_eq!(dropped.contains(&field.to_owned()), !taken, "{model}");
            if !taken {
                assert_eq!(refused(from, to, model, &body), field);
            }
        }
    }
}

/// Responses have these fields only as a provider's own, so chat is what they are sent in.
#[test]
fn models_that_reason_get_no_parameters_that_they_refuse() {
    let body = |more: Value| asked(RESPONSES, more);
    for (model, more, field) in [
        (
            "o3",
            json!({"top_logprobs": 3, "include": ["message.output_text.logprobs"]}),
            "top_logprobs",
        ),
        (
            "gpt-5-mini",
            json!({"top_logprobs": 3, "include": ["message.output_text.logprobs"]}),
            "top_logprobs",
        ),
        (
            "o3-mini",
            json!({"parallel_tool_calls": false, "tools": tools(RESPONSES, 1)}),
            "parallel_tool_calls",
        ),
        (
            "o1",
            json!({"parallel_tool_calls": false, "tools": tools(RESPONSES, 1)}),
            "parallel_tool_calls",
        ),
        (
            "gpt-4o",
            json!({"text": {"verbosity": "low"}}),
            "text.verbosity",
        ),
    ] {
        let (sent, dropped) = sent_to(RESPONSES, CHAT, model, &body(more.clone()));
        for refused in [
            "logprobs",
            "top_logprobs",
            "parallel_tool_calls",
            "verbosity",
        ] {
            assert_eq!(sent.get(refused), None, "{model}: {sent}");
        }
        assert_eq!(dropped, [field], "{model}");
        assert_eq!(refused(RESPONSES, CHAT, model, &body(more)), field);
    }
    let (sent, dropped) = sent_to(
        MESSAGES,
        CHAT,
        "o4-mini",
        &asked(
            MESSAGES,
            json!({"tools": tools(MESSAGES, 1),
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": true}}),
        ),
    );
    assert_eq!(sent.get("parallel_tool_calls"), None);
    assert_eq!(dropped, ["tool_choice.disable_parallel_tool_use"]);
    for (model, more) in [
        (
            "o3-mini",
            json!({"parallel_tool_calls": true, "tools": tools(RESPONSES, 1)}),
        ),
        (
            "gpt-5",
            json!({"parallel_tool_calls": false, "tools": tools(RESPONSES, 1)}),
        ),
        ("gpt-5", json!({"text": {"verbosity": "low"}})),
        ("gpt-4o", json!({"text": {"verbosity": "medium"}})),
        (
            "gpt-4o",
            json!({"top_logprobs": 3, "include": ["message.output_text.logprobs"]}),
        ),
    ] {
        let (_, dropped) = sent_to(RESPONSES, CHAT, model, &body(more));
        assert_eq!(dropped, [""; 0], "{model}");
    }
}

#[test]
fn the_least_ceiling_of_responses_is_kept() {
    for (asked_for, sent_as) in [(1, 16), (15, 16), (16, 16), (17, 17)] {
        let body = asked(MESSAGES, json!({"max_tokens": asked_for}));
        let (sent, dropped) = sent(MESSAGES, RESPONSES, &body);
        assert_eq!(sent["max_output_tokens"], sent_as);
        assert_eq!(!dropped.is_empty(), asked_for != sent_as);
        let body = asked(CHAT, json!({"max_tokens": asked_for}));
        let (sent, _) = self::sent(CHAT, MESSAGES, &body);
        assert_eq!(sent["max_tokens"], asked_for);
    }
}

#[test]
fn gemini_gets_no_penalties_and_no_seeds_that_it_refuses() {
    for (model, taken) in [
        ("gemini-2.5-flash", false),
        ("gemini-3-pro-preview", false),
        ("gemini-2.0-flash", true),
        ("gemini-1.5-pro", true),
    ] {
        let body = asked(
            CHAT,
            json!({"frequency_penalty": 0.5, "presence_penalty": 0}),
        );
        let (sent, dropped) = sent_to(CHAT, GEMINI, model, &body);
        let config = &sent["generationConfig"];
        assert_eq!(config.get("frequencyPenalty").is_some(), taken, "{model}");
        assert_eq!(dropped.contains(&"frequency_penalty".to_owned()), !taken);
        assert!(!dropped.contains(&"presence_penalty".to_owned()));
    }
    for (seed, kept) in [
        (json!(7), true),
        (json!(2_147_483_647), true),
        (json!(-2_147_483_648_i64), true),
        (json!(2_147_483_648_u64), false),
        (json!(9_007_199_254_740_991_u64), false),
        (json!(-9_007_199_254_740_991_i64), false),
    ] {
        let (sent, dropped) = sent(CHAT, GEMINI, &asked(CHAT, json!({"seed": seed})));
        let found = sent["generationConfig"]["seed"].as_i64().unwrap();
        assert!(i32::try_from(found).is_ok(), "{found}");
        assert_eq!(
            (json!(found) == seed, dropped.is_empty()),
            (kept, kept),
            "{seed}"
        );
    }
    let (sent, _) = sent(CHAT, GEMINI, &asked(CHAT, json!({"n": 8})));
    assert_eq!(sent["generationConfig"]["candidateCount"], 8);
    let many = translate(
        CHAT,
        GEMINI,
        "gemini-2.0-flash",
        &asked(CHAT, json!({"n": 9})),
        &options(),
    );
    assert_eq!(many.unwrap_err().param.as_deref(), Some("n"));
}

#[test]
fn zeros_and_empty_values_ask_for_nothing() {
    let strict = RequestOptions {
        compat: Compat::Strict,
        ..options()
    };
    for (from, more) in [
        (MESSAGES, json!({"mcp_servers": []})),
        (MESSAGES, json!({"context_management": {}})),
        (MESSAGES, json!({"context_management": {"edits": []}})),
        (MESSAGES, json!({"tools": [], "stop_sequences": []})),
        (MESSAGES, json!({"container": {}})),
        (
            CHAT,
            json!({"frequency_penalty": 0, "presence_penalty": 0.0}),
        ),
        (CHAT, json!({"logit_bias": {}})),
        (CHAT, json!({"functions": []})),
        (CHAT, json!({"stop": [], "tools": []})),
        (CHAT, json!({"metadata": {}})),
        (RESPONSES, json!({"include": [], "metadata": {}})),
        (RESPONSES, json!({"context_management": []})),
    ] {
        for to in Format::ALL.into_iter().filter(|to| *to != from) {
            let sent = translate(from, to, model(to), &asked(from, more.clone()), &strict);
            let sent = sent.unwrap_or_else(|error| panic!("{from} to {to}: {error} in {more}"));
            assert_eq!(sent.dropped, [""; 0], "{from} to {to}: {more}");
        }
    }
}

#[test]
fn fields_that_two_vendors_spell_alike_are_told_apart_by_their_shape() {
    for (from, more) in [
        (
            RESPONSES,
            json!({"context_management": [{"type": "compaction", "compact_threshold": 1000}]}),
        ),
        (CHAT, json!({"container": {"type": "auto"}})),
        (
            RESPONSES,
            json!({"container": {"type": "auto", "file_ids": []}}),
        ),
        (CHAT, json!({"mcp_servers": {"a": {"command": "x"}}})),
        (
            CHAT,
            json!({"mcp_servers": [{"type": "stdio", "command": "x"}]}),
        ),
        (CHAT, json!({"speed": 1.5})),
        (CHAT, json!({"speed": "turbo"})),
        (CHAT, json!({"inference_geo": {"country": "DE"}})),
    ] {
        let field = more.as_object().unwrap().keys().next().unwrap();
        let body = asked(from, more.clone());
        match translate(from, MESSAGES, "claude-opus-4-6", &body, &options()) {
            Ok(sent) => {
                let found: Value = serde_json::from_slice(&sent.body).unwrap();
                assert_eq!(found.get(field), None, "{more}");
                assert!(sent.dropped.contains(field), "{more}");
            }
            Err(error) => assert_eq!(error.param.as_ref(), Some(field)),
        }
    }
    for more in [
        json!({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}),
        json!({"container": "container_1"}),
        json!({"container": {"id": "container_1", "skills": []}}),
        json!({"mcp_servers": [{"type": "url", "url": "https://x", "name": "x"}]}),
        json!({"speed": "fast"}),
        json!({"inference_geo": "us"}),
    ] {
        let field = more.as_object().unwrap().keys().next().unwrap();
        let (found, dropped) = sent(CHAT, MESSAGES, &asked(CHAT, more.clone()));
        assert_eq!((&found[field], dropped.len()), (&more[field], 0));
    }
    for (more, taken) in [
        (
            json!({"safetySettings": [{"category": "a", "threshold": "b"}]}),
            true,
        ),
        (json!({"safetySettings": "off"}), false),
        (json!({"labels": {"team": "a"}}), true),
        (json!({"labels": ["a"]}), false),
        (json!({"cachedContent": "cachedContents/1"}), true),
        (json!({"cachedContent": true}), false),
    ] {
        let field = more.as_object().unwrap().keys().next().unwrap();
        let (found, dropped) = sent(CHAT, GEMINI, &asked(CHAT, more.clone()));
        assert_eq!(
            (found.get(field).is_some(), dropped.is_empty()),
            (taken, taken),
            "{more}"
        );
    }
}

const PNG: &str = "iVBORw0KGgoAAAANSUhEUg==";
const JPEG: &str = "/9j/4AAQSkZJRgABAQ==";
const GIF: &str = "R0lGODlhAQABAIAAAA==";
const WEBP: &str = "UklGRiQAAABXRUJQVlA4";
const SVG: &str = "PHN2Zy8+";

fn image(from: Format, media_type: &str, data: &str) -> Value {
    let url = format!("data:{media_type};base64,{data}");
    match from {
        CHAT => json!({"model": "m", "messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": url}}]}]}),
        RESPONSES => json!({"model": "m", "input": [{"role": "user", "content": [
            {"type": "input_image", "image_url": url}]}]}),
        _ => json!({"model": "m", "max_tokens": 50, "messages": [{"role": "user", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}]}]}),
    }
}

/// The media type that an image was sent with.
fn sent_type(to: Format, body: &Value) -> String {
    let mut found = Vec::new();
    match to {
        MESSAGES => strings(body, &["media_type"], &mut found),
        GEMINI => strings(body, &["mimeType"], &mut found),
        _ => strings(body, &["url", "image_url"], &mut found),
    }
    let [found] = found[..] else {
        panic!("{to}: {body}")
    };
    let found = found.strip_prefix("data:").unwrap_or(found);
    found.split(';').next().unwrap().to_owned()
}

#[test]
fn media_types_are_those_that_the_target_knows() {
    for (from, to) in pairs() {
        for (given, data, expected) in [
            ("image/jpg", JPEG, "image/jpeg"),
            ("image/pjpeg", JPEG, "image/jpeg"),
            ("IMAGE/JPEG", JPEG, "image/jpeg"),
            ("image/x-png", PNG, "image/png"),
            ("image/png", PNG, "image/png"),
            ("image/webp", WEBP, "image/webp"),
            // Named wrongly: the bytes tell.
            ("image/png", JPEG, "image/jpeg"),
            ("image/jpeg", WEBP, "image/webp"),
            ("application/octet-stream", PNG, "image/png"),
            ("image/*", JPEG, "image/jpeg"),
        ] {
            let (body, dropped) = sent(from, to, &image(from, given, data));
            assert_eq!(sent_type(to, &body), expected, "{from} to {to}: {given}");
            assert_eq!(dropped, [""; 0]);
        }
        for (given, data, takers) in [
            ("image/gif", GIF, &[CHAT, RESPONSES, MESSAGES][..]),
            ("image/heic", "AAAAGGZ0eXBoZWlj", &[GEMINI]),
            ("image/svg+xml", SVG, &[]),
            ("image/bmp", "Qk0=", &[]),
            ("image/tiff", "SUkqAA==", &[]),
        ] {
            let asked = image(from, given, data);
            let sent = translate(from, to, model(to), &asked, &options());
            match sent {
                Ok(_) => assert!(takers.contains(&to), "{from} to {to}: {given}"),
                Err(error) => {
                    assert!(!takers.contains(&to), "{from} to {to}: {given}");
                    let field = error.param.unwrap();
                    assert!(field.contains("image"), "{field}");
                    assert!(error.message.contains(given), "{}", error.message);
                }
            }
        }
    }
}

#[test]
fn compatible_servers_judge_images_themselves() {
    let compatible = RequestOptions {
        dialect: ChatDialect::Compatible,
        ..options()
    };
    let sent = translate(
        MESSAGES,
        CHAT,
        "m",
        &image(MESSAGES, "image/svg+xml", SVG),
        &compatible,
    );
    let body: Value = serde_json::from_slice(&sent.unwrap().body).unwrap();
    assert_eq!(sent_type(CHAT, &body), "image/svg+xml");
}

#[test]
fn images_in_results_are_fitted_too() {
    let body = json!({"model": "m", "max_tokens": 50, "messages": [
        {"role": "user", "content": "x"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c", "content": [
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpg", "data": JPEG}}]}]}],
        "tools": [{"name": "f", "input_schema": {"type": "object", "properties": {}}}]});
    for to in [CHAT, RESPONSES, GEMINI] {
        let (sent, _) = sent(MESSAGES, to, &body);
        assert!(sent.to_string().contains("image/jpeg") && !sent.to_string().contains("image/jpg"));
    }
}

fn file(media_type: &str, text: &str) -> Value {
    use base64::Engine as _;
    let data = base64::engine::general_purpose::STANDARD.encode(text);
    asked(
        CHAT,
        json!({"messages": [{"role": "user", "content": [
        {"type": "file", "file": {"filename": "a", "file_data": format!("data:{media_type};base64,{data}")}}]}]}),
    )
}

#[test]
fn documents_of_text_are_text_whatever_their_type_is_called() {
    for media_type in [
        "application/json",
        "application/xml",
        "application/x-yaml",
        "application/javascript",
        "application/ld+json",
        "text/x-python",
    ] {
        for to in [MESSAGES, GEMINI] {
            let (sent, dropped) = sent(CHAT, to, &file(media_type, "{\"q\": 1}"));
            assert!(
                sent.to_string().contains(r#"{\"q\": 1}"#),
                "{media_type} to {to}: {sent}"
            );
            assert_eq!(dropped, [""; 0]);
        }
    }
    for media_type in ["application/zip", "application/msword"] {
        for to in [MESSAGES, GEMINI] {
            let sent = translate(CHAT, to, model(to), &file(media_type, "PK"), &options());
            assert_eq!(
                sent.unwrap_err().param.as_deref(),
                Some("messages.content.file.file_data")
            );
        }
    }
}

fn ends_with(from: Format, text: &str, more: Value) -> Value {
    let talk = json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": text}]);
    let mut body = asked(from, more);
    body[if from == RESPONSES {
        "input"
    } else {
        "messages"
    }] = talk;
    body
}

#[test]
fn what_the_assistant_begins_has_no_white_space_at_its_end() {
    for from in [CHAT, RESPONSES] {
        for (text, expected) in [
            ("Sure: \n", "Sure:"),
            ("{\t", "{"),
            ("a b", "a b"),
            ("é\u{a0}\u{2003}", "é"),
        ] {
            let (sent, _) = sent(from, MESSAGES, &ends_with(from, text, json!({})));
            let last = sent["messages"].as_array().unwrap().last().unwrap();
            assert_eq!(
                (&last["role"], &last["content"]),
                (&json!("assistant"), &json!(expected))
            );
        }
        // Nothing remains: the user has the last word.
        let (sent, _) = sent(from, MESSAGES, &ends_with(from, " \n", json!({})));
        assert_eq!(sent["messages"].as_array().unwrap().len(), 1);
        // Earlier turns keep theirs.
        let mut body = ends_with(from, "Sure: ", json!({}));
        let talk = if from == RESPONSES {
            "input"
        } else {
            "messages"
        };
        body[talk]
            .as_array_mut()
            .unwrap()
            .push(json!({"role": "user", "content": "y"}));
        let (sent, _) = self::sent(from, MESSAGES, &body);
        assert_eq!(sent["messages"][1]["content"], "Sure: ");
    }
    let parts = json!([{"role": "user", "content": "x"}, {"role": "assistant", "content": [
        {"type": "text", "text": "a "}, {"type": "text", "text": "b "}, {"type": "text", "text": " "}]},
        {"role": "system", "content": "s"}]);
    let (sent, _) = sent(CHAT, MESSAGES, &asked(CHAT, json!({"messages": parts})));
    assert_eq!(
        sent["messages"][1]["content"],
        json!([{"type": "text", "text": "a "}, {"type": "text", "text": "b"}])
    );
}

#[test]
fn models_without_prefill_get_a_users_turn() {
    for (model, taken) in [
        ("claude-sonnet-4-5", true),
        ("claude-haiku-4-5-20251001", true),
        ("claude-opus-4-6", false),
        ("claude-sonnet-4-6", false),
        ("claude-opus-4-8", false),
    ] {
        let body = ends_with(CHAT, "Sure:", json!({}));
        let (sent, dropped) = sent_to(CHAT, MESSAGES, model, &body);
        let last = sent["messages"].as_array().unwrap().last().unwrap();
        assert_eq!(
            last["role"],
            if taken { "assistant" } else { "user" },
            "{model}"
        );
        assert_eq!(dropped.contains(&"messages.prefill".to_owned()), !taken);
        if !taken {
            assert_eq!(refused(CHAT, MESSAGES, model, &body), "messages.prefill");
        }
    }
    // A model that takes it doesn't think then.
    let body = ends_with(
        CHAT,
        "Sure:",
        json!({"reasoning_effort": "high", "max_tokens": 9000}),
    );
    let (sent, dropped) = sent(CHAT, MESSAGES, &body);
    assert_eq!(sent.get("thinking"), None);
    assert_eq!(dropped, ["reasoning_effort"]);
}

#[test]
fn anthropic_gets_four_cache_markers_at_most() {
    let marked =
        |text: &str| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}});
    let parts: Vec<Value> = (0..6).map(|at| marked(&format!("t{at}"))).collect();
    let body = asked(
        CHAT,
        json!({"messages": [
        {"role": "system", "content": [marked("s")]}, {"role": "user", "content": parts}]}),
    );
    let (sent, dropped) = sent(CHAT, MESSAGES, &body);
    assert_eq!(sent.to_string().matches("cache_control").count(), 4);
    assert!(sent["system"][0].get("cache_control").is_some());
    assert!(
        sent["messages"][0]["content"][5]
            .get("cache_control")
            .is_some()
    );
    assert_eq!(dropped, ["messages.content.cache_control"]);
}

fn tool(from: Format, schema: &Value) -> Value {
    let tool = match from {
        CHAT => json!({"type": "function", "function": {"name": "f", "parameters": schema}}),
        RESPONSES => json!({"type": "function", "name": "f", "parameters": schema}),
        _ => json!({"name": "f", "input_schema": schema}),
    };
    asked(from, json!({"tools": [tool]}))
}

fn schema_field(from: Format) -> &'static str {
    match from {
        CHAT => "tools[0].function.parameters",
        RESPONSES => "tools[0].parameters",
        _ => "tools[0].input_schema",
    }
}

fn sent_schema(to: Format, body: &Value) -> Value {
    let tool = &body["tools"][0];
    match to {
        CHAT => tool["function"]["parameters"].clone(),
        RESPONSES => tool["parameters"].clone(),
        MESSAGES => tool["input_schema"].clone(),
        GEMINI => tool["functionDeclarations"][0]["parametersJsonSchema"].clone(),
    }
}

#[test]
fn schemas_are_objects_with_properties() {
    let empty = json!({"type": "object", "properties": {}});
    let string = json!({"a": {"type": "string"}});
    for (from, to) in pairs() {
        for (given, expected) in [
            (json!({"type": "object"}), empty.clone()),
            (json!({}), empty.clone()),
            (json!({"type": "object", "properties": null}), empty.clone()),
            (
                json!({"properties": string, "required": ["a"]}),
                json!({"properties": string, "required": ["a"], "type": "object"}),
            ),
            (
                json!({"type": ["object", "null"], "properties": string}),
                json!({"type": "object", "properties": string}),
            ),
            (
                json!({"$ref": "#/$defs/A", "$defs": {"A": {"type": "object", "properties": string}}}),
                json!({"type": "object", "properties": string,
                    "$defs": {"A": {"type": "object", "properties": string}}}),
            ),
            (
                json!({"$ref": "#/definitions/A", "definitions":
                    {"A": {"$ref": "#/definitions/B"}, "B": {"type": "object", "properties": string}}}),
                json!({"type": "object", "properties": string, "definitions":
                    {"A": {"$ref": "#/definitions/B"}, "B": {"type": "object", "properties": string}}}),
            ),
            (
                json!({"allOf": [{"type": "object", "properties": string, "required": ["a"]},
                    {"type": "object", "properties": {"b": {"type": "number"}}}]}),
                json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "number"}},
                    "required": ["a"]}),
            ),
        ] {
            let (body, dropped) = sent(from, to, &tool(from, &given));
            assert_eq!(sent_schema(to, &body), expected, "{from} to {to}: {given}");
            assert_eq!(dropped, [""; 0], "{from} to {to}: {given}");
        }
    }
}

#[test]
fn alternatives_at_the_top_of_a_schema_become_one_object() {
    let one = json!({"type": "object", "properties": {"kind": {"const": "a"}, "x": {"type": "string"}},
        "required": ["kind", "x"]});
    let two = json!({"type": "object", "properties": {"kind": {"const": "b"}, "y": {"type": "number"}},
        "required": ["kind", "y"]});
    for (from, to) in pairs() {
        for key in ["anyOf", "oneOf"] {
            let body = tool(from, &json!({key: [one, two], "$schema": "s"}));
            let (sent, dropped) = sent(from, to, &body);
            let schema = sent_schema(to, &sent);
            assert_eq!(schema["type"], "object");
            assert_eq!(schema.get(key), None, "{schema}");
            assert_eq!(schema["required"], json!(["kind"]));
            assert_eq!(
                schema["properties"],
                json!({"kind": {"anyOf": [{"const": "a"}, {"const": "b"}]},
                    "x": {"type": "string"}, "y": {"type": "number"}})
            );
            // The model is told what nothing enforces any more.
            assert!(schema["description"].as_str().unwrap().contains(key));
            assert_eq!(dropped, [schema_field(from)]);
            assert_eq!(refused(from, to, model(to), &body), schema_field(from));
        }
    }
    let compatible = RequestOptions {
        dialect: ChatDialect::Compatible,
        ..options()
    };
    let body = tool(MESSAGES, &json!({"anyOf": [one, two]}));
    let sent = translate(MESSAGES, CHAT, "m", &body, &compatible).unwrap();
    let found: Value = serde_json::from_slice(&sent.body).unwrap();
    assert_eq!(
        found["tools"][0]["function"]["parameters"],
        json!({"anyOf": [one, two]})
    );
}

#[test]
fn arrays_say_what_they_hold_where_the_target_wants_it() {
    let given = json!({"type": "object", "properties": {
        "items": {"type": "array"},
        "input": {"type": "object", "properties": {"a": {"type": ["array", "null"]}}},
        "n": {"type": "array", "items": {"type": "array"}},
        "t": {"type": "array", "prefixItems": [{"type": "string"}]}}});
    for (from, to) in pairs() {
        let (body, dropped) = sent(from, to, &tool(from, &given));
        let mut expected = given.clone();
        if to != MESSAGES {
            let properties = &mut expected["properties"];
            properties["items"]["items"] = json!({});
            properties["input"]["properties"]["a"]["items"] = json!({});
            properties["n"]["items"]["items"] = json!({});
        }
        assert_eq!(sent_schema(to, &body), expected, "{from} to {to}");
        assert_eq!(dropped, [""; 0]);
    }
}

#[test]
fn schemas_that_fit_keep_their_bytes() {
    let schema = r#"{"type": "object", "properties":{"a":{"type":"number","maximum":1.0,"x":123456789012345678901234567890}}}"#;
    let body = format!(
        r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"tools":[{{"type":"function","function":{{"name":"f","parameters":{schema}}}}}]}}"#
    );
    for to in [RESPONSES, MESSAGES, GEMINI] {
        let sent = translate_request(CHAT, to, body.as_bytes(), model(to), &options()).unwrap();
        let text = String::from_utf8(sent.body.to_vec()).unwrap();
        assert!(text.contains(schema), "{to}: {text}");
    }
}

#[test]
fn strict_tools_are_strict_only_where_their_schema_allows_it() {
    let closed = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "number"}},
        "required": ["a", "b"], "additionalProperties": false});
    let open = json!({"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "number"}},
        "required": ["a"], "additionalProperties": false});
    let bounded = json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}},
        "required": ["a"], "additionalProperties": false});
    let strict = |from: Format, schema: &Value| {
        let mut body = tool(from, schema);
        let tool = &mut body["tools"][0];
        match from {
            CHAT => tool["function"]["strict"] = json!(true),
            _ => tool["strict"] = json!(true),
        }
        body
    };
    for (from, to, schema, kept) in [
        (MESSAGES, CHAT, &closed, true),
        (MESSAGES, RESPONSES, &closed, true),
        (MESSAGES, CHAT, &open, false),
        (MESSAGES, RESPONSES, &open, false),
        (CHAT, MESSAGES, &closed, true),
        (CHAT, MESSAGES, &open, true),
        (CHAT, MESSAGES, &bounded, false),
        (RESPONSES, MESSAGES, &bounded, false),
        (CHAT, RESPONSES, &bounded, true),
    ] {
        let (body, dropped) = sent(from, to, &strict(from, schema));
        let tool = &body["tools"][0];
        let found = match to {
            CHAT => &tool["function"]["strict"],
            _ => &tool["strict"],
        };
        assert_eq!(found == &json!(true), kept, "{from} to {to}: {schema}");
        assert_eq!(dropped.iter().any(|name| name.ends_with("strict")), !kept);
        assert_eq!(&sent_schema(to, &body), schema);
    }
}

#[test]
fn output_schemas_hold_what_anthropic_takes() {
    let schema = json!({"type": "object", "title": "T",
        "properties": {
            "n": {"type": "integer", "minimum": 1, "maximum": 10, "description": "A number"},
            "s": {"type": "string", "format": "email", "maxLength": 9},
            "h": {"type": "string", "format": "ipv9"},
            "l": {"type": "array", "items": {"type": "string", "minLength": 2}, "minItems": 3},
            "m": {"type": "array", "items": {"$ref": "#/$defs/A"}, "minItems": 1},
            "o": {"oneOf": [{"type": "string"}, {"type": "null"}]},
            "e": {"enum": ["a", "b"]},
            "format": {"type": ["string", "null"]}},
        "required": ["n"],
        "$defs": {"A": {"type": "object", "properties": {}}}});
    let expected = json!({"type": "object", "title": "T",
        "properties": {
            "n": {"type": "integer", "description": "A number\n\n{maximum: 10, minimum: 1}"},
            "s": {"type": "string", "format": "email", "description": "{maxLength: 9}"},
            "h": {"type": "string", "description": "{format: \"ipv9\"}"},
            "l": {"type": "array", "items": {"type": "string", "description": "{minLength: 2}"},
                "description": "{minItems: 3}"},
            "m": {"type": "array", "items": {"$ref": "#/$defs/A"}, "minItems": 1},
            "o": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "e": {"enum": ["a", "b"]},
            "format": {"type": ["string", "null"]}},
        "required": ["n"],
        "additionalProperties": false,
        "$defs": {"A": {"type": "object", "properties": {}, "additionalProperties": false}}});
    for (from, field) in [(CHAT, "response_format"), (RESPONSES, "text.format")] {
        let body = |schema: &Value| match from {
            CHAT => asked(
                CHAT,
                json!({"response_format": {"type": "json_schema",
                "json_schema": {"name": "a", "schema": schema}}}),
            ),
            _ => asked(
                RESPONSES,
                json!({"text": {"format": {"type": "json_schema", "name": "a",
                "schema": schema}}}),
            ),
        };
        let (sent, dropped) = sent(from, MESSAGES, &body(&schema));
        assert_eq!(sent["output_config"]["format"]["schema"], expected);
        let named: BTreeSet<String> = [
            "minimum",
            "maximum",
            "maxLength",
            "format",
            "minLength",
            "minItems",
        ]
        .map(|keyword| format!("{field}.{keyword}"))
        .into();
        assert_eq!(dropped.into_iter().collect::<BTreeSet<_>>(), named);
        assert!(refused(from, MESSAGES, "claude-sonnet-4-5", &body(&schema)).starts_with(field));
        let plain =
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]});
        let (sent, dropped) = self::sent(from, MESSAGES, &body(&plain));
        assert_eq!(
            sent["output_config"]["format"]["schema"]["additionalProperties"],
            false
        );
        assert_eq!(dropped, [""; 0]);
    }
}

#[test]
fn output_is_strict_at_openai_only_where_the_schema_allows_it() {
    for (properties, required, kept) in [
        (json!({"a": {"type": "string"}}), json!(["a"]), true),
        (
            json!({"a": {"type": "string"}, "b": {"type": "number"}}),
            json!(["a"]),
            false,
        ),
        (
            json!({"a": {"allOf": [{"type": "string"}]}}),
            json!(["a"]),
            false,
        ),
        (
            json!({"a": {"type": "object", "properties": {}}}),
            json!(["a"]),
            false,
        ),
    ] {
        let schema = json!({"type": "object", "properties": properties, "required": required,
            "additionalProperties": false});
        let body = asked(
            MESSAGES,
            json!({"output_config": {"format":
            {"type": "json_schema", "schema": schema}}}),
        );
        let (chat, dropped) = sent(MESSAGES, CHAT, &body);
        let found = &chat["response_format"]["json_schema"];
        assert_eq!((&found["schema"], found["strict"] == true), (&schema, kept));
        assert_eq!(dropped.is_empty(), kept);
        let (responses, dropped) = sent(MESSAGES, RESPONSES, &body);
        assert_eq!(responses["text"]["format"]["strict"] == true, kept);
        assert_eq!(dropped.is_empty(), kept);
        if !kept {
            assert_eq!(
                refused(MESSAGES, CHAT, "gpt-4o", &body),
                "output_config.format.strict"
            );
        }
    }
}

/// Schemas that lead in circles, or multiply, cost bounded time and memory.
#[test]
fn hostile_schemas_are_not_followed_without_end() {
    let defs: serde_json::Map<String, Value> = (0..40)
        .map(|at| {
            let next = json!({"$ref": format!("#/$defs/d{}", (at + 1) % 40)});
            (format!("d{at}"), json!({"anyOf": vec![next; 60]}))
        })
        .collect();
    let circle = json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}});
    let nested = (0..100).fold(json!({}), |inner, _| json!({"allOf": [inner]}));
    for schema in [json!({"$ref": "#/$defs/d0", "$defs": defs}), circle, nested] {
        for to in [RESPONSES, MESSAGES, GEMINI] {
            let (body, _) = sent(CHAT, to, &tool(CHAT, &schema));
            assert_eq!(sent_schema(to, &body)["type"], "object");
        }
    }
}

/// A gateway reports the same tokens as read from a cache and as written to it.
#[test]
fn usage_of_the_cache_stays_within_the_input() {
    let context = crate::fixtures::context();
    let usage = json!({"prompt_tokens": 2168, "completion_tokens": 5, "total_tokens": 2173,
        "prompt_tokens_details": {"cached_tokens": 2161, "cache_write_tokens": 2161}});
    let plain = json!({"id": "c", "created": 1, "model": "m", "usage": usage, "choices": [{"index": 0,
        "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}]});
    let answer = translate_response(CHAT, MESSAGES, plain.to_string().as_bytes(), &context);
    let answer: Value = serde_json::from_slice(&answer.unwrap()).unwrap();
    let delta = json!({"id": "c", "created": 1, "model": "m", "usage": usage, "choices": [{"index": 0,
        "finish_reason": "stop", "delta": {"role": "assistant", "content": "hi"}}]});
    let events = format!("data: {delta}\n\ndata: [DONE]\n\n");
    let out = stream(
        CHAT,
        MESSAGES,
        std::iter::once(events.as_bytes()),
        StreamEnd::Complete,
        context,
    );
    let last = out
        .lines()
        .rfind(|line| line.contains("message_delta") && line.starts_with("data: "));
    let last: Value = serde_json::from_str(&last.unwrap()[6..]).unwrap();
    for usage in [&answer["usage"], &last["usage"]] {
        assert_eq!(usage["input_tokens"], 0, "{usage}");
        assert_eq!(usage["cache_read_input_tokens"], 2161);
        assert_eq!(usage["cache_creation_input_tokens"], 7);
    }
}
