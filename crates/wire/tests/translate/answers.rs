//! Golden pairs: every plain answer and every error in every client's format.

use llm_router_domain::format::Format;
use llm_router_wire::translate::{ResponseContext, translate_error, translate_response};

use crate::fixtures::{CLIENTS, PROVIDERS, assert_golden, context, fixtures, pretty};

#[test]
fn answers_translate_as_before() {
    for from in PROVIDERS {
        for fixture in fixtures("answers", from) {
            for to in CLIENTS.into_iter().filter(|to| *to != from) {
                let text = translated(from, to, &fixture.text, &context());
                assert_golden("answers", from, &fixture.name, to, &text);
            }
        }
    }
}

fn translated(from: Format, to: Format, body: &str, context: &ResponseContext) -> String {
    match translate_response(from, to, body.as_bytes(), context) {
        Ok(body) => pretty(&body),
        Err(error) => format!("{} {}: {}", error.status, error.code, error.message),
    }
}

#[test]
fn errors_translate_as_before() {
    for from in PROVIDERS {
        for fixture in fixtures("errors", from) {
            // The name begins with the status.
            let (status, _) = fixture.name.split_once('_').unwrap();
            let status = status.parse().unwrap();
            for to in CLIENTS.into_iter().filter(|to| *to != from) {
                let (status, body) =
                    translate_error(from, to, status, fixture.text.as_bytes(), "req-1");
                let text = format!("{status}\n\n{}", pretty(&body));
                assert_golden("errors", from, &fixture.name, to, &text);
            }
        }
    }
}

#[test]
fn free_text_tools_and_long_names_come_back_as_the_client_knows_them() {
    let context = ResponseContext {
        custom_tools: vec!["apply_patch".to_owned()],
        renamed_tools: vec![("short".to_owned(), "a_very_long_name".to_owned())],
        ..context()
    };
    let body = r#"{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[
        {"type":"tool_use","id":"toolu_1","name":"apply_patch","input":{"input":"*** Begin"}},
        {"type":"tool_use","id":"toolu_2","name":"short","input":{"a":1}}],
        "stop_reason":"tool_use","usage":{"input_tokens":1,"output_tokens":2}}"#;
    let from = Format::AnthropicMessages;
    for (to, custom) in [
        (
            Format::OpenAiChat,
            r#""custom":{"name":"apply_patch","input":"*** Begin"}"#,
        ),
        (Format::OpenAiResponses, r#""type":"custom_tool_call""#),
    ] {
        let out = translate_response(from, to, body.as_bytes(), &context).unwrap();
        let out = String::from_utf8(out.to_vec()).unwrap();
        assert!(out.contains(custom), "{out}");
        assert!(out.contains(r#""a_very_long_name""#), "{out}");
    }
}
