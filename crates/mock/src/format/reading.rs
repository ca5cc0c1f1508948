//! Reading JSON requests: fields of the right type, the text in a message, how many tokens a
//! provider would count. What the fields are called is each format's.

use serde_json::Value;

use super::MockRefusal;
use crate::ask::{ReasoningMode, RequestedTool};

/// Tokens counted for an image or a file, whatever its size.
const ATTACHMENT_TOKENS: u64 = 765;

/// Tokens counted around every message.
const MESSAGE_TOKENS: u64 = 3;

/// The field as text, if it is there.
pub(crate) fn text<'a>(body: &'a Value, field: &str) -> Result<Option<&'a str>, MockRefusal> {
    match &body[field] {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text)),
        _ => Err(MockRefusal::field(
            field,
            format!("Invalid type for '{field}': expected a string."),
        )),
    }
}

/// The field as a flag, if it is there.
pub(crate) fn flag(body: &Value, field: &str) -> Result<Option<bool>, MockRefusal> {
    match &body[field] {
        Value::Null => Ok(None),
        Value::Bool(flag) => Ok(Some(*flag)),
        _ => Err(MockRefusal::field(
            field,
            format!("Invalid type for '{field}': expected a boolean."),
        )),
    }
}

/// The field as a positive number, if it is there.
pub(crate) fn count(body: &Value, field: &str) -> Result<Option<u64>, MockRefusal> {
    match &body[field] {
        Value::Null => Ok(None),
        value => match value.as_u64() {
            Some(count @ 1..) => Ok(Some(count)),
            _ => {
                let message = format!("Invalid '{field}': expected an integer above 0.");
                Err(MockRefusal::field(field, message))
            }
        },
    }
}

/// The field as a list that has something in it.
pub(crate) fn list<'a>(body: &'a Value, field: &str) -> Result<&'a [Value], MockRefusal> {
    match body[field].as_array() {
        Some(items) if !items.is_empty() => Ok(items),
        Some(_) => Err(MockRefusal::field(
            field,
            format!("'{field}' is empty: expected a list."),
        )),
        None => Err(MockRefusal::field(
            field,
            format!("Missing or wrong '{field}': expected a list."),
        )),
    }
}

/// Strings in a field that holds one or a list of them.
pub(crate) fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(items) => items
            .iter()
            .filter_map(|item| item.as_str().map(String::from))
            .collect(),
        _ => Vec::new(),
    }
}

/// The text of the last of `messages` that a user wrote.
pub(crate) fn last_user_text(messages: &[Value]) -> String {
    let mut users = messages
        .iter()
        .rev()
        .filter(|message| message["role"] == "user");
    users
        .find_map(|message| content_text(&message["content"]))
        .unwrap_or_default()
}

/// The text of a message's content, which is a string or a list of parts.
fn content_text(content: &Value) -> Option<String> {
    if let Some(text) = content.as_str() {
        return Some(text.to_owned());
    }
    let texts: Vec<&str> = content
        .as_array()?
        .iter()
        .filter_map(|part| part["text"].as_str())
        .collect();
    (!texts.is_empty()).then(|| texts.join("\n"))
}

/// Returns the tokens that a provider would count for these fields of a request: one for four bytes
/// of text.
pub(crate) fn tokens(body: &Value, fields: &[&str]) -> u64 {
    fields
        .iter()
        .map(|field| value_tokens(&body[field]))
        .sum::<u64>()
        .max(1)
}

/// Returns the tokens that a provider would count for a value.
pub(crate) fn value_tokens(value: &Value) -> u64 {
    match value {
        Value::String(text) => text_tokens(text),
        Value::Array(items) => items.iter().map(value_tokens).sum(),
        Value::Object(fields) => {
            let around = if fields.contains_key("role") {
                MESSAGE_TOKENS
            } else {
                0
            };
            around
                + fields
                    .iter()
                    .map(|(name, value)| field_tokens(name, value))
                    .sum::<u64>()
        }
        Value::Number(_) | Value::Bool(_) => 1,
        Value::Null => 0,
    }
}

fn field_tokens(name: &str, value: &Value) -> u64 {
    match name {
        "type" | "role" | "cache_control" | "id" | "signature" | "thoughtSignature"
        | "encrypted_content" => 0,
        "data" | "file_data" => ATTACHMENT_TOKENS,
        _ => value_tokens(value),
    }
}

fn text_tokens(text: &str) -> u64 {
    if text.starts_with("data:") {
        ATTACHMENT_TOKENS
    } else {
        (text.len() as u64).div_ceil(4)
    }
}

/// The most tokens that an effort of reasoning spends.
pub(crate) fn effort(effort: Option<&str>) -> Option<u64> {
    match effort? {
        "none" => None,
        "minimal" => Some(16),
        "low" => Some(64),
        "high" => Some(512),
        "xhigh" | "max" => Some(1_024),
        _ => Some(192),
    }
}

/// Reasoning that the client does not see.
pub(crate) fn hidden_reasoning(tokens: Option<u64>) -> ReasoningMode {
    tokens.map_or(ReasoningMode::Off, ReasoningMode::Hidden)
}

/// A tool with the schema of its arguments.
pub(crate) fn tool(name: &Value, schema: &Value) -> Option<RequestedTool> {
    Some(RequestedTool {
        name: name.as_str()?.to_owned(),
        schema: schema.clone(),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_prompt_is_the_last_text_of_a_user() {
        for (messages, wanted) in [
            (
                json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]),
                "a",
            ),
            (
                json!([{"role": "user", "content": "a"}, {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "x"}]}]),
                "a",
            ),
            (
                json!([{"role": "user", "content": [
                    {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}]),
                "a\nb",
            ),
            (json!([{"role": "system", "content": "a"}]), ""),
        ] {
            assert_eq!(
                last_user_text(messages.as_array().unwrap()),
                wanted,
                "{messages}"
            );
        }
    }

    #[test]
    fn tokens_follow_the_text_and_not_the_attachments() {
        let body = json!({"messages": [{"role": "user", "content": "abcdefgh"}]});
        assert_eq!(tokens(&body, &["messages"]), 5);
        let url = format!("data:image/png;base64,{}", "A".repeat(100_000));
        let body =
            json!({"messages": [{"role": "user", "content": [{"image_url": {"url": url}}]}]});
        assert_eq!(tokens(&body, &["messages"]), 768);
        assert_eq!(tokens(&json!({}), &["messages"]), 1);
    }

    #[test]
    fn wrong_types_are_refused_by_field() {
        assert_eq!(
            flag(&json!({"stream": 1}), "stream")
                .unwrap_err()
                .param
                .unwrap(),
            "stream"
        );
        assert_eq!(count(&json!({"n": 0}), "n").unwrap_err().status, 400);
        assert!(text(&json!({"model": 3}), "model").is_err());
        assert!(list(&json!({"messages": []}), "messages").is_err());
        assert_eq!(count(&json!({"n": null}), "n"), Ok(None));
    }
}
