//! Kinds of stream events, by what they mean for the attempt that the stream answers. Which event of
//! a format is of which kind is the format's own to say.

use crate::translate::json::Json;

/// Kind of an event of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// Neither of the others: roles, ids, empty strings, pings, usage.
    Other,
    /// It holds content: text, thinking, a tool call, a refusal, a citation or media.
    Content,
    /// It is an error without content.
    Error,
    /// The answer has ended as its format says; usage may follow.
    End,
    /// The same, and nothing follows.
    Last,
}

/// Returns true if a value holds text or data at any depth. Ids, types and the like don't count.
pub(crate) fn holds_content(value: &Json<'_>) -> bool {
    match value {
        Json::String(text) => !text.is_empty(),
        Json::Array(items) => items.iter().any(holds_content),
        Json::Object(members) => members
            .0
            .iter()
            .any(|(key, value)| !is_label(key) && holds_content(value)),
        Json::Opaque(_) => true,
        Json::Null | Json::Bool(_) | Json::Number(_) => false,
    }
}

/// Returns true if one of these members of an object holds content.
pub(crate) fn any_holds_content(object: &Json<'_>, keys: &[&str]) -> bool {
    keys.iter()
        .any(|key| object.get(key).is_some_and(holds_content))
}

/// Returns the elements of an array member; none if there is no such array.
pub(crate) fn elements<'j, 'a>(object: &'j Json<'a>, key: &str) -> &'j [Json<'a>] {
    let array = object.get(key).and_then(Json::as_array);
    array.unwrap_or_default()
}

fn is_label(key: &str) -> bool {
    matches!(
        key,
        "id" | "type" | "role" | "format" | "object" | "status" | "item_id" | "mimeType"
    )
}
