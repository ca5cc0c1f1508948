//! Bodies as clients write them, in the shapes that formats allow: what rules see in each.

use llm_router_wire::prompt::Prompt;
use serde_json::{Value, json};

use super::{Request, ask, rules};

/// A chat of these messages.
fn chat(messages: Value) -> Value {
    json!({"model": "auto", "messages": messages})
}

fn user(content: Value) -> Value {
    json!({"role": "user", "content": content})
}

/// With a `max_tokens` and whatever is merged over it.
fn anthropic(system: Value, messages: Value) -> Value {
    json!({"model": "auto", "max_tokens": 9, "system": system, "messages": messages})
}

fn responses(input: Value) -> Value {
    json!({"model": "auto", "input": input})
}

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

fn text(text: &str) -> Value {
    json!({"type": "text", "text": text})
}

fn found(pattern: &str, area: &str) -> Value {
    json!({"regex": pattern, "in": area})
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn openai_chat() -> Vec<(bool, Value, Value)> {
    let call = json!({"id": "t", "type": "function",
                      "function": {"name": "get", "arguments": "{\"city\":\"Graz\"}"}});
    let called = json!({"role": "assistant", "content": null, "tool_calls": [call]});
    let result = |content: Value| json!({"role": "tool", "tool_call_id": "t", "content": content});
    let image =
        json!({"type": "image_url", "image_url": {"url": "https://a.example/segfault.png"}});
    vec![
        (
            true,
            found("one\ntwo", "last_user"),
            chat(json!([user(json!([text("one"), text("two")]))])),
        ),
        (
            true,
            found("terse", "system"),
            chat(json!([{"role": "developer", "content": "be terse"}, user(json!("hi"))])),
        ),
        (
            true,
            found("terse", "system"),
            chat(json!([{"role": "system", "content": [text("be"), text("terse")]}])),
        ),
        (
            false,
            found("terse", "last_user"),
            chat(json!([{"role": "developer", "content": "be terse"}])),
        ),
        (
            true,
            found("sunny", "any"),
            chat(json!([
                user(json!("weather?")),
                called,
                result(json!("sunny"))
            ])),
        ),
        (
            true,
            found("sunny", "any"),
            chat(json!([
                user(json!("weather?")),
                called,
                result(json!([text("sunny")]))
            ])),
        ),
        (
            false,
            found("sunny", "last_user"),
            chat(json!([
                user(json!("weather?")),
                called,
                result(json!("sunny"))
            ])),
        ),
        (
            true,
            found("weather", "last_user"),
            chat(json!([
                user(json!("weather?")),
                called,
                result(json!("sunny"))
            ])),
        ),
        (
            true,
            found("Graz", "any"),
            chat(json!([user(json!("weather?")), called])),
        ),
        (
            true,
            found("asked", "last_user"),
            chat(json!([user(json!("asked")), {"role": "assistant", "content": "so"}])),
        ),
        (
            false,
            found("so", "last_user"),
            chat(json!([user(json!("asked")), {"role": "assistant", "content": "so"}])),
        ),
        (
            true,
            found("no can do", "any"),
            chat(json!([{"role": "assistant", "refusal": "no can do"}])),
        ),
        (
            false,
            found("segfault", "any"),
            chat(json!([user(json!([text("look"), image]))])),
        ),
        (
            true,
            json!({"has": ["images"]}),
            chat(json!([user(json!([text("look"), image]))])),
        ),
        (
            true,
            json!({"has": ["images"]}),
            chat(
                json!([user(json!([image])), {"role": "assistant", "content": "a cat"}, user(json!("thanks"))]),
            ),
        ),
        (
            true,
            json!({"has": ["tools"]}),
            with(chat(json!([])), "functions", json!([{"name": "get"}])),
        ),
        (
            false,
            json!({"has": ["tools"]}),
            with(chat(json!([])), "tools", json!([])),
        ),
        (
            false,
            json!({"has": ["json_schema"]}),
            with(
                chat(json!([])),
                "response_format",
                json!({"type": "json_object"}),
            ),
        ),
        (
            false,
            json!({"regex": "."}),
            chat(json!([user(json!(null))])),
        ),
        (true, json!({"regex": "."}), chat(json!("as one text"))),
        (
            true,
            found("once upon", "last_user"),
            json!({"model": "auto", "prompt": "once upon a time"}),
        ),
        (
            true,
            found("upon", "last_user"),
            json!({"model": "auto", "prompt": ["once", "upon"]}),
        ),
        (
            true,
            json!({"tokens": {"min": 100}}),
            with(
                chat(json!([])),
                "tools",
                json!([{"type": "function", "function": {"name": "get", "description": "x".repeat(400)}}]),
            ),
        ),
        (
            true,
            json!({"tokens": {"min": 2000}}),
            chat(json!([user(json!([image, image]))])),
        ),
        (
            true,
            found("é😀", "last_user"),
            serde_json::from_str(
                r#"{"model":"auto","messages":[{"content":"\u00e9\ud83d\ude00","role":"user"}]}"#,
            )
            .unwrap(),
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn anthropic_messages() -> Vec<(bool, Value, Value)> {
    let none = || json!("");
    let result =
        |content: Value| json!({"type": "tool_result", "tool_use_id": "t", "content": content});
    let image = json!({"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}});
    let document = json!({"type": "document", "title": "Minutes",
                          "source": {"type": "text", "media_type": "text/plain", "data": "the budget"}});
    let thought = json!({"role": "assistant", "content": [
        {"type": "thinking", "thinking": "let me see", "signature": "c2ln"}, text("done")]});
    let call = json!({"role": "assistant", "content": [
        {"type": "tool_use", "id": "t", "name": "get", "input": {"city": "Graz"}}]});
    vec![
        (
            true,
            found("terse", "system"),
            anthropic(json!("be terse"), json!([user(json!("hi"))])),
        ),
        (
            true,
            found("be\nterse", "system"),
            anthropic(json!([text("be"), text("terse")]), json!([])),
        ),
        (
            false,
            found("terse", "last_user"),
            anthropic(json!("be terse"), json!([user(json!("hi"))])),
        ),
        (
            true,
            found("sunny", "any"),
            anthropic(none(), json!([call, user(json!([result(json!("sunny"))]))])),
        ),
        (
            true,
            found("sunny", "any"),
            anthropic(
                none(),
                json!([user(json!([result(json!([text("sunny")]))]))]),
            ),
        ),
        (
            false,
            found("sunny", "last_user"),
            anthropic(
                none(),
                json!([
                    user(json!("weather?")),
                    call,
                    user(json!([result(json!("sunny"))]))
                ]),
            ),
        ),
        (
            true,
            found("weather", "last_user"),
            anthropic(
                none(),
                json!([
                    user(json!("weather?")),
                    call,
                    user(json!([result(json!("sunny"))]))
                ]),
            ),
        ),
        (
            true,
            found("and now", "last_user"),
            anthropic(
                none(),
                json!([user(json!([result(json!("sunny")), text("and now?")]))]),
            ),
        ),
        (true, found("Graz", "any"), anthropic(none(), json!([call]))),
        (
            true,
            found("budget", "any"),
            anthropic(none(), json!([user(json!([document, text("sum it up")]))])),
        ),
        (
            false,
            found("budget", "last_user"),
            anthropic(none(), json!([user(json!([document, text("sum it up")]))])),
        ),
        (
            true,
            found("let me see", "any"),
            anthropic(none(), json!([thought])),
        ),
        (
            false,
            found("c2ln", "any"),
            anthropic(none(), json!([thought])),
        ),
        (
            true,
            json!({"has": ["images"]}),
            anthropic(none(), json!([user(json!([result(json!([image]))]))])),
        ),
        (
            false,
            found("AAAA", "any"),
            anthropic(none(), json!([user(json!([image]))])),
        ),
        (
            true,
            json!({"has": ["tools"]}),
            with(
                anthropic(none(), json!([])),
                "tools",
                json!([{"type": "web_search_20250305", "name": "web_search"}]),
            ),
        ),
        (
            true,
            json!({"has": ["json_schema"]}),
            with(
                anthropic(none(), json!([])),
                "output_format",
                json!({"type": "json_schema", "schema": {}}),
            ),
        ),
        (
            false,
            json!({"has": ["json_schema"]}),
            anthropic(none(), json!([])),
        ),
    ]
}

#[expect(clippy::too_many_lines, reason = "a table")]
fn openai_responses() -> Vec<(bool, Value, Value)> {
    let output =
        |output: Value| json!({"type": "function_call_output", "call_id": "t", "output": output});
    let call = json!({"type": "function_call", "call_id": "t", "name": "get", "arguments": "{\"city\":\"Graz\"}"});
    let part = |text: &str| json!({"type": "input_text", "text": text});
    vec![
        (true, found("hello", "last_user"), responses(json!("hello"))),
        (
            true,
            found("hello", "last_user"),
            responses(json!([user(json!("hello"))])),
        ),
        (
            true,
            found("hello", "last_user"),
            responses(json!([{"type": "message", "role": "user", "content": [part("hello")]}])),
        ),
        (
            true,
            found("terse", "system"),
            with(responses(json!("hi")), "instructions", json!("be terse")),
        ),
        (
            true,
            found("terse", "system"),
            responses(json!([{"role": "developer", "content": "be terse"}])),
        ),
        (
            true,
            found("sunny", "any"),
            responses(json!([
                user(json!("weather?")),
                call,
                output(json!("sunny"))
            ])),
        ),
        (
            true,
            found("sunny", "any"),
            responses(json!([output(json!([part("sunny")]))])),
        ),
        (
            false,
            found("sunny", "last_user"),
            responses(json!([
                user(json!("weather?")),
                call,
                output(json!("sunny"))
            ])),
        ),
        (
            true,
            found("weather", "last_user"),
            responses(json!([
                user(json!("weather?")),
                call,
                output(json!("sunny"))
            ])),
        ),
        (true, found("Graz", "any"), responses(json!([call]))),
        (
            true,
            found("I thought", "any"),
            responses(
                json!([{"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "I thought"}]}]),
            ),
        ),
        (
            true,
            json!({"has": ["images"]}),
            responses(json!([user(
                json!([{"type": "input_image", "file_id": "f"}])
            )])),
        ),
        (
            true,
            json!({"has": ["tools"]}),
            with(
                responses(json!("hi")),
                "tools",
                json!([{"type": "web_search"}]),
            ),
        ),
        (
            true,
            json!({"has": ["json_schema"]}),
            with(
                responses(json!("hi")),
                "text",
                json!({"format": {"type": "json_schema", "name": "n", "schema": {}}}),
            ),
        ),
        (
            false,
            json!({"has": ["json_schema"]}),
            with(responses(json!("hi")), "text", json!({"verbosity": "low"})),
        ),
    ]
}

#[test]
fn bodies_of_every_shape_are_decided() {
    let tables = [openai_chat(), anthropic_messages(), openai_responses()];
    let cases: Vec<_> = tables.into_iter().flatten().collect();
    for (want, when, body) in &cases {
        let rules = rules(&json!([{"name": "it", "when": when, "then": {"use_model": "fast"}}]));
        let (ask, body) = (ask(""), body.to_string());
        let prompt = Prompt::read(body.as_bytes()).unwrap();
        let request = Request { ask: &ask, prompt };
        let decision = rules.decide(&request);
        assert_eq!(decision.rule.is_some(), *want, "{when} of {body}");
        assert_eq!(rules.explain(&request).0, decision);
    }
    println!("{} cases, each in its format", cases.len());
    assert!(cases.len() >= 50, "{}", cases.len());
}
