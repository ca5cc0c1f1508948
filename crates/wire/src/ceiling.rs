//! Lowers the ceiling of output in a body of the client's own format to what a model gives: the
//! provider would refuse the request. Every other byte stays as it is.

use std::ops::Range;

use bytes::{BufMut as _, Bytes, BytesMut};
use llm_router_domain::format::{Compat, Endpoint};

use crate::json;
use crate::scan::{Field, Scan};
use crate::translate::TranslateError;
use crate::translate::json::Json;

/// Anthropic's least budget of thinking, in tokens.
const LEAST_BUDGET: u64 = 1_024;

/// A body whose ceilings were lowered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoweredCeilings {
    /// The body to send.
    pub body: Bytes,
    /// The fields that changed.
    pub fields: Vec<&'static str>,
}

/// Lowers the ceilings of a request to `most` tokens; none if it asks for no more. `scan` is that of
/// `body`. With a lower ceiling of Anthropic's, the budget of thinking below it is lowered too.
///
/// # Errors
/// [`TranslateError`] with status 400 and the field's name if the provider is `strict`.
pub fn lower_ceilings(
    endpoint: Endpoint,
    body: &[u8],
    scan: &Scan,
    most: u64,
    compat: Compat,
) -> Result<Option<LoweredCeilings>, TranslateError> {
    let above = |field: &Field| {
        let value = scan.value(body, *field).and_then(count);
        value.is_some_and(|asked| asked > most)
    };
    let mut edits: Vec<(&'static str, Range<usize>, u64)> = Vec::new();
    for field in ceilings(endpoint).iter().filter(|field| above(field)) {
        edits.extend(scan.span(*field).map(|at| (field.name(), at, most)));
    }
    let Some((field, ..)) = edits.first() else {
        return Ok(None);
    };
    if compat == Compat::Strict {
        let limit = format!("at most {most} tokens of output");
        return Err(TranslateError::beyond(field, &limit));
    }
    if endpoint == Endpoint::Messages {
        // As in translation, a fifth of the ceiling is kept for the answer.
        let budget = most - most / 5;
        let found = budget_span(body).filter(|at| {
            let asked = body.get(at.clone()).and_then(count);
            asked.is_some_and(|asked| asked >= most) && budget >= LEAST_BUDGET
        });
        edits.extend(found.map(|at| ("thinking.budget_tokens", at, budget)));
    }
    edits.sort_by_key(|(_, at, _)| at.start);
    let mut lowered = BytesMut::with_capacity(body.len());
    let mut from = 0;
    for (_, at, tokens) in &edits {
        lowered.put_slice(body.get(from..at.start).unwrap_or_default());
        lowered.put_slice(tokens.to_string().as_bytes());
        from = at.end;
    }
    lowered.put_slice(body.get(from..).unwrap_or_default());
    Ok(Some(LoweredCeilings {
        body: lowered.freeze(),
        fields: edits.iter().map(|(field, ..)| *field).collect(),
    }))
}

/// The fields that bound the output of an endpoint.
const fn ceilings(endpoint: Endpoint) -> &'static [Field] {
    match endpoint {
        Endpoint::ChatCompletions => &[Field::MaxCompletionTokens, Field::MaxTokens],
        Endpoint::Completions | Endpoint::Messages => &[Field::MaxTokens],
        Endpoint::Responses => &[Field::MaxOutputTokens],
        Endpoint::Embeddings | Endpoint::CountTokens => &[],
    }
}

fn count(value: &[u8]) -> Option<u64> {
    Json::parse(std::str::from_utf8(value).ok()?).ok()?.as_u64()
}

/// The span of `thinking.budget_tokens`.
fn budget_span(body: &[u8]) -> Option<Range<usize>> {
    let named = |text: &[u8], name: &[u8]| {
        json::members(text)
            .filter(|member| text.get(member.key.clone()) == Some(name))
            .last()
            .map(|member| member.value)
    };
    let thinking = named(body, b"thinking")?;
    let budget = named(body.get(thinking.clone())?, b"budget_tokens")?;
    Some(thinking.start + budget.start..thinking.start + budget.end)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::RequestHead;
    use Endpoint::{ChatCompletions, Completions, CountTokens, Messages, Responses};

    fn lower(
        endpoint: Endpoint,
        body: &str,
        most: u64,
        compat: Compat,
    ) -> Result<Option<(String, Vec<&'static str>)>, TranslateError> {
        let head = RequestHead::read(body.as_bytes()).unwrap();
        let lowered = lower_ceilings(endpoint, body.as_bytes(), &head.scan, most, compat)?;
        let text = |body: Bytes| String::from_utf8(body.to_vec()).unwrap();
        Ok(lowered.map(|lowered| (text(lowered.body), lowered.fields)))
    }

    #[test]
    fn only_the_figure_changes() {
        for (endpoint, body, expected, fields) in [
            (
                Messages,
                r#"{ "model":"m", "max_tokens" : 32000 ,"x":1.0}"#,
                r#"{ "model":"m", "max_tokens" : 16384 ,"x":1.0}"#,
                &["max_tokens"][..],
            ),
            (
                ChatCompletions,
                r#"{"max_tokens":20000,"model":"m","max_completion_tokens":32000.0}"#,
                r#"{"max_tokens":16384,"model":"m","max_completion_tokens":16384}"#,
                &["max_tokens", "max_completion_tokens"],
            ),
            (
                Responses,
                r#"{"model":"m","max_output_tokens":99999,"max_tokens":99999}"#,
                r#"{"model":"m","max_output_tokens":16384,"max_tokens":99999}"#,
                &["max_output_tokens"],
            ),
            (
                Completions,
                r#"{"model":"m","max_tokens":99999}"#,
                r#"{"model":"m","max_tokens":16384}"#,
                &["max_tokens"],
            ),
            (
                Messages,
                r#"{"model":"m","thinking":{"type":"enabled", "budget_tokens": 31999},"max_tokens":32000}"#,
                r#"{"model":"m","thinking":{"type":"enabled", "budget_tokens": 13108},"max_tokens":16384}"#,
                &["thinking.budget_tokens", "max_tokens"],
            ),
            (
                Messages,
                r#"{"model":"m","thinking":{"budget_tokens":2000},"max_tokens":32000}"#,
                r#"{"model":"m","thinking":{"budget_tokens":2000},"max_tokens":16384}"#,
                &["max_tokens"],
            ),
        ] {
            let (text, names) = lower(endpoint, body, 16_384, Compat::Lenient)
                .unwrap()
                .unwrap();
            assert_eq!((text.as_str(), &names[..]), (expected, fields));
            let refused = lower(endpoint, body, 16_384, Compat::Strict).unwrap_err();
            assert_eq!(refused.status, 400);
            assert!(fields.contains(&refused.param.as_deref().unwrap()));
        }
    }

    #[test]
    fn what_is_not_above_stays() {
        for (endpoint, body) in [
            (Messages, r#"{"model":"m","max_tokens":16384}"#),
            (Messages, r#"{"model":"m"}"#),
            (Messages, r#"{"model":"m","max_tokens":"99999"}"#),
            (Messages, r#"{"model":"m","max_tokens":-99999}"#),
            (Messages, r#"{"model":"m","max_output_tokens":99999}"#),
            (CountTokens, r#"{"model":"m","max_tokens":99999}"#),
            (ChatCompletions, r#"{"model":"m","max_tokens":null}"#),
        ] {
            for compat in [Compat::Lenient, Compat::Strict] {
                assert_eq!(lower(endpoint, body, 16_384, compat), Ok(None), "{body}");
            }
        }
    }

    #[test]
    fn budgets_too_small_for_a_thought_stay() {
        let body = r#"{"model":"m","thinking":{"budget_tokens":2000},"max_tokens":2001}"#;
        let (text, _) = lower(Messages, body, 1_200, Compat::Lenient)
            .unwrap()
            .unwrap();
        assert_eq!(
            text,
            r#"{"model":"m","thinking":{"budget_tokens":2000},"max_tokens":1200}"#
        );
    }
}
