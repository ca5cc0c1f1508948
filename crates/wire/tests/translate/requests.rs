//! Golden pairs: every request in every provider's format.
//!
//! A fixture is `{"body": …}`, beside which may stand `strict`, `compatible` and `models`.

use std::fmt::Write as _;

use llm_router_domain::format::Format;
use llm_router_wire::translate::{ChatDialect, Compat, TranslateError, translate_request};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::fixtures::{CLIENTS, PROVIDERS, assert_golden, fixtures, model, options, pretty};

#[derive(Deserialize)]
struct Case<'a> {
    #[serde(borrow)]
    body: &'a RawValue,
    #[serde(default)]
    strict: bool,
    #[serde(default)]
    compatible: bool,
    #[serde(default)]
    models: Value,
}

#[test]
fn requests_translate_as_before() {
    let mut count = 0;
    for from in CLIENTS {
        for fixture in fixtures("requests", from) {
            count += 1;
            let case: Case<'_> = serde_json::from_str(&fixture.text)
                .unwrap_or_else(|error| panic!("{}: {error}", fixture.name));
            for to in PROVIDERS.into_iter().filter(|to| *to != from) {
                let text = translated(from, to, &case);
                assert_golden("requests", from, &fixture.name, to, &text);
            }
        }
    }
    assert!(count >= 80, "{count} fixtures");
}

fn translated(from: Format, to: Format, case: &Case<'_>) -> String {
    let mut options = options();
    if case.strict {
        options.compat = Compat::Strict;
    }
    if case.compatible {
        options.dialect = ChatDialect::Compatible;
    }
    let body = case.body.get();
    let target = case.models[to.name()].as_str().unwrap_or(model(to));
    let sent = match translate_request(from, to, body.as_bytes(), target, &options) {
        Ok(sent) => sent,
        Err(error) => return refused(&error),
    };
    let mut text = format!("POST {}\n", sent.path);
    for (name, value) in sent.headers {
        writeln!(text, "{name}: {value}").unwrap();
    }
    if !sent.dropped.is_empty() {
        writeln!(text, "dropped: {}", sent.dropped.join(", ")).unwrap();
    }
    for (short, name) in &sent.context.renamed_tools {
        writeln!(text, "renamed: {short} = {name}").unwrap();
    }
    writeln!(text, "\n{}", pretty(&sent.body)).unwrap();
    text
}

fn refused(error: &TranslateError) -> String {
    format!(
        "refused: {} {} {}\n{}\n",
        error.status,
        error.code,
        error.param.as_deref().unwrap_or("-"),
        error.message
    )
}

/// Bodies that a quadratic step would turn into minutes.
#[test]
fn hostile_requests_take_no_longer_than_others() {
    const MANY: usize = 30_000;
    let repeat = |item: &dyn Fn(usize) -> String| (0..MANY).map(item).collect::<Vec<_>>().join(",");
    let calls = repeat(&|n| {
        format!(r#"{{"id":"c{n}","type":"function","function":{{"name":"f","arguments":""}}}}"#)
    });
    let results = repeat(&|n| format!(r#"{{"role":"tool","tool_call_id":"c{n}","content":""}}"#));
    let outputs =
        repeat(&|n| format!(r#"{{"type":"function_call_output","call_id":"c{n}","output":""}}"#));
    let called = repeat(&|n| {
        format!(r#"{{"type":"function_call","call_id":"c{n}","name":"f","arguments":""}}"#)
    });
    let names = repeat(&|n| format!(r#"{{"type":"function","name":"f{n}"}}"#));
    let tools = repeat(&|n| format!(r#"{{"type":"function","function":{{"name":"f{n}"}}}}"#));
    let unknown = repeat(&|n| format!(r#""x{n}":0"#));
    let chat = [
        format!(r#"{{"messages":[{{"role":"assistant","tool_calls":[{calls}]}},{results}]}}"#),
        format!(
            r#"{{"messages":[],"tools":[{tools}],"tool_choice":{{"type":"allowed_tools","mode":"auto","tools":[{names}]}}}}"#
        ),
        format!(r#"{{"messages":[],{unknown}}}"#),
        format!(r#"{{"messages":[{{"role":"user",{unknown}}}]}}"#),
    ];
    let responses = [
        format!(r#"{{"input":[{outputs}]}}"#),
        format!(r#"{{"input":[{called},{outputs}]}}"#),
    ];
    let bodies = chat.iter().map(|body| (Format::OpenAiChat, body));
    let bodies = bodies.chain(responses.iter().map(|body| (Format::OpenAiResponses, body)));
    for (from, body) in bodies {
        for to in PROVIDERS.into_iter().filter(|to| *to != from) {
            let sent = translate_request(from, to, body.as_bytes(), "m", &options()).unwrap();
            assert!(sent.dropped.len() <= 33);
        }
    }
}
