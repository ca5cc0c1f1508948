//! Setting parameters of a request body, as routing rules ask for: values are spliced into the
//! client's own bytes, every other byte stays as it is. Which parameters exist is the provider's
//! to judge; only those that formats name differently are known here.

use std::borrow::Cow;
use std::ops::Range;

use bytes::{BufMut as _, Bytes, BytesMut};
use llm_router_domain::format::Endpoint;
use serde_json::Value;

use crate::formats::client_side;
use crate::json;

/// The names that formats have for the most tokens of an answer.
const TOKEN_LIMITS: [&str; 3] = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
/// The names that formats have for texts that end an answer.
const STOPS: [&str; 2] = ["stop", "stop_sequences"];

/// A change of a body: the bytes in the range are replaced by these.
type Edit = (Range<usize>, Vec<u8>);

/// The body with parameters set, each by the name that the endpoint has for it; `None` when
/// nothing changes. `body` must be a JSON object with at least one member.
///
/// A parameter that the client gave is replaced where it stands, others are put first. Token
/// limits and stop texts are renamed to what the endpoint calls them, and left out where it has
/// no such thing. A count of tokens takes no parameters.
#[must_use]
pub fn set(body: &[u8], endpoint: Endpoint, parameters: &[(String, Value)]) -> Option<Bytes> {
    let members: Vec<(Cow<'_, str>, Range<usize>)> = json::members(body)
        .filter_map(|member| {
            let quoted = member.key.start - 1..member.key.end + 1;
            Some((json::string(body.get(quoted)?)?, member.value))
        })
        .collect();
    let start = json::members(body).next()?.key.start - 1;
    let client = client_side(endpoint.format());
    let mut edits: Vec<Edit> = Vec::new();
    for (name, value) in parameters {
        let parameter = Parameter::from_name(name);
        let names = client.parameter_names(endpoint, parameter);
        if names.is_empty() {
            continue;
        }
        let text = client.parameter_value(parameter, value).to_string();
        let given = members
            .iter()
            .filter(|(key, _)| names.contains(&key.as_ref()));
        let before = edits.len();
        edits.extend(given.map(|(_, at)| (at.clone(), text.clone().into_bytes())));
        if let (true, Some(name)) = (edits.len() == before, names.first()) {
            let field = format!("{}:{text},", Value::from(*name));
            edits.push((start..start, field.into_bytes()));
        }
    }
    edits.retain(|(at, with)| body.get(at.clone()) != Some(with));
    edits.sort_by_key(|(at, _)| at.start);
    (!edits.is_empty()).then(|| splice(body, &edits))
}

/// A parameter that formats name differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parameter<'n> {
    /// The most tokens of an answer, under one of its names.
    TokenLimit(&'n str),
    /// Texts that end an answer.
    Stop,
    /// Any other, which has one name everywhere.
    Other(&'n str),
}

impl<'n> Parameter<'n> {
    fn from_name(name: &'n str) -> Self {
        if TOKEN_LIMITS.contains(&name) {
            Self::TokenLimit(name)
        } else if STOPS.contains(&name) {
            Self::Stop
        } else {
            Self::Other(name)
        }
    }
}

fn splice(body: &[u8], edits: &[Edit]) -> Bytes {
    let added: usize = edits.iter().map(|(_, with)| with.len()).sum();
    let mut spliced = BytesMut::with_capacity(body.len() + added);
    let mut from = 0;
    for (at, with) in edits {
        spliced.put_slice(body.get(from..at.start).unwrap_or_default());
        spliced.put_slice(with);
        from = at.end;
    }
    spliced.put_slice(body.get(from..).unwrap_or_default());
    spliced.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use Endpoint::{ChatCompletions, Completions, CountTokens, Embeddings, Messages, Responses};

    fn parameters(set: &Value) -> Vec<(String, Value)> {
        let set = set.as_object().unwrap().clone();
        set.into_iter().collect()
    }

    #[test]
    fn parameters_are_spliced_by_the_endpoints_names() {
        for (endpoint, body, parameters_set, expected) in [
            (
                ChatCompletions,
                r#"{ "model":"m", "n" : 1.0e0 }"#,
                json!({"temperature": 0}),
                r#"{ "temperature":0,"model":"m", "n" : 1.0e0 }"#,
            ),
            (
                ChatCompletions,
                r#"{"model":"m","temperature" : 0.70 ,"x":1}"#,
                json!({"temperature": 0}),
                r#"{"model":"m","temperature" : 0 ,"x":1}"#,
            ),
            (
                ChatCompletions,
                r#"{"temperature":1,"model":"m","temp\u0065rature":2}"#,
                json!({"temperature": 0}),
                r#"{"temperature":0,"model":"m","temp\u0065rature":0}"#,
            ),
            (
                ChatCompletions,
                r#"{"model":"m","messages":[{"temperature":9}]}"#,
                json!({"temperature": 0, "top_p": 0.5}),
                r#"{"temperature":0,"top_p":0.5,"model":"m","messages":[{"temperature":9}]}"#,
            ),
            (
                ChatCompletions,
                r#"{"max_completion_tokens":9,"model":"m"}"#,
                json!({"max_tokens": 5}),
                r#"{"max_completion_tokens":5,"model":"m"}"#,
            ),
            (
                ChatCompletions,
                r#"{"model":"m"}"#,
                json!({"max_output_tokens": 5}),
                r#"{"max_completion_tokens":5,"model":"m"}"#,
            ),
            (
                ChatCompletions,
                r#"{"model":"m"}"#,
                json!({"max_tokens": 5, "stop_sequences": ["a"]}),
                r#"{"max_tokens":5,"stop":["a"],"model":"m"}"#,
            ),
            (
                Completions,
                r#"{"model":"m"}"#,
                json!({"max_completion_tokens": 5}),
                r#"{"max_tokens":5,"model":"m"}"#,
            ),
            (
                Responses,
                r#"{"model":"m","max_output_tokens":9}"#,
                json!({"max_tokens": 5, "stop": "a", "reasoning": {"effort": "low"}}),
                r#"{"reasoning":{"effort":"low"},"model":"m","max_output_tokens":5}"#,
            ),
            (
                Messages,
                r#"{"max_tokens":9,"model":"m"}"#,
                json!({"max_completion_tokens": 5, "stop": "a"}),
                r#"{"stop_sequences":["a"],"max_tokens":5,"model":"m"}"#,
            ),
            (
                Embeddings,
                r#"{"model":"m"}"#,
                json!({"dimensions": 64, "max_tokens": 5}),
                r#"{"dimensions":64,"model":"m"}"#,
            ),
        ] {
            let set = set(body.as_bytes(), endpoint, &parameters(&parameters_set)).unwrap();
            assert_eq!(String::from_utf8_lossy(&set), expected, "{endpoint:?}");
        }
    }

    #[test]
    fn nothing_is_copied_where_nothing_changes() {
        for (endpoint, body, parameters_set) in [
            (
                ChatCompletions,
                r#"{"model":"m","top_p":1}"#,
                json!({"top_p": 1}),
            ),
            (CountTokens, r#"{"model":"m"}"#, json!({"max_tokens": 1})),
            (Responses, r#"{"model":"m"}"#, json!({"stop": "a"})),
            (ChatCompletions, r#"{"model":"m"}"#, json!({})),
            (ChatCompletions, "{}", json!({"top_p": 1})),
        ] {
            let parameters = parameters(&parameters_set);
            assert_eq!(set(body.as_bytes(), endpoint, &parameters), None, "{body}");
        }
    }

    proptest! {
        /// Parameters that are set have their value, others keep it, and bodies stay JSON.
        #[test]
        fn only_what_is_set_changes(
            given in proptest::collection::btree_map("[a-e]", 0..9, 0..5),
            wanted in proptest::collection::btree_map("[a-e]", "[a-z\"\\\\é]{0,4}", 0..5),
        ) {
            let mut body = json!({"model": "m"});
            let fields = body.as_object_mut().unwrap();
            fields.extend(given.into_iter().map(|(name, value)| (name, json!(value))));
            let wanted: Vec<(String, Value)> =
                wanted.into_iter().map(|(name, value)| (name, json!(value))).collect();
            let text = body.to_string();
            let set = set(text.as_bytes(), ChatCompletions, &wanted);
            let got: Value = serde_json::from_slice(&set.unwrap_or(text.into())).unwrap();
            let fields = body.as_object_mut().unwrap();
            fields.extend(wanted);
            prop_assert_eq!(got, body);
        }
    }
}
