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
