//! Removes from a messages request the thoughts that other vendors' models left in its history, and
//! the request to think where Anthropic would miss its own.

use memchr::memmem::{find, find_iter};

use crate::translate::json::{Json, Object};
use crate::translate::signature::Signature;

/// Marks of such a history.
pub(super) const TRACES: &[&[u8]] = &[
    b"\"gemini#",
    b"\"openai#",
    b"\"signature\":\"\"",
    b"\"signature\": \"\"",
];

/// Begins the ids of calls that Anthropic's models make, also at other companies.
const OWN_CALL: &[u8] = b"toolu_";

/// Returns true if a request may hold what [`clean`] removes: thoughts, or calls that another model
/// made while thinking with a budget is asked for.
pub(super) fn may_need_cleaning(body: &[u8]) -> bool {
    TRACES.iter().any(|trace| find(body, trace).is_some())
        || (find(body, b"\"budget_tokens\"").is_some() && has_foreign_result(body))
}

fn has_foreign_result(body: &[u8]) -> bool {
    const KEY: &[u8] = b"\"tool_use_id\"";
    find_iter(body, KEY).any(|at| {
        let value = body.get(at + KEY.len()..).unwrap_or_default();
        let value = value.trim_ascii_start().strip_prefix(b":");
        let value = value.unwrap_or_default().trim_ascii_start();
        value
            .strip_prefix(b"\"")
            .is_some_and(|id| !id.starts_with(OWN_CALL))
    })
}

/// Removes thoughts that Anthropic didn't sign. Where it then misses the thought behind the last
/// calls it isn't asked to think (docs.claude.com, "Extended thinking": the last turn with tools has
/// to begin with a thought). The names of what was removed.
pub(super) fn clean(request: &mut Object<'_>) -> Vec<&'static str> {
    let mut removed = Vec::new();
    let Some(Json::Array(list)) = request.get_mut("messages") else {
        return removed;
    };
    let mut thoughts = false;
    list.retain_mut(|message| {
        let Json::Object(message) = message else {
            return true;
        };
        let Some(Json::Array(blocks)) = message.get_mut("content") else {
            return true;
        };
        let before = blocks.len();
        blocks.retain(|block| !is_foreign_block(block));
        thoughts |= blocks.len() < before;
        // A message of thoughts alone is none.
        before == 0 || !blocks.is_empty()
    });
    let unsigned = has_unsigned_calls(list);
    if thoughts {
        removed.push("messages.content.thinking");
    }
    let budget = request
        .get("thinking")
        .and_then(|thinking| thinking.str("type"));
    if unsigned && budget == Some("enabled") {
        request.remove("thinking");
        removed.push("thinking");
        if remove_edits_of_thoughts(request) {
            removed.push("context_management");
        }
    }
    removed
}

fn is_foreign_block(block: &Json<'_>) -> bool {
    let signature = block.str("signature").unwrap_or_default();
    block.str("type") == Some("thinking")
        && !matches!(
            Signature::from_block(signature.into()),
            Some(Signature::Anthropic(_))
        )
}

/// Returns true if the conversation ends in results of calls without a thought before them.
fn has_unsigned_calls(messages: &[Json<'_>]) -> bool {
    let is = |message: &Json<'_>, role: &str| message.str("role") == Some(role);
    let of = |message: &Json<'_>, kinds: &[&str]| {
        let blocks = message.get("content").and_then(Json::as_array);
        let mut kind = blocks
            .unwrap_or_default()
            .iter()
            .filter_map(|b| b.str("type"));
        kind.find(|kind| kinds.contains(kind)).map(str::to_owned)
    };
    let mut rest = messages.iter().rev().peekable();
    let mut answered = false;
    while let Some(results) = rest.next_if(|message| is(message, "user")) {
        answered |= of(results, &["tool_result"]).is_some();
    }
    let mut first = None;
    while let Some(calls) = rest.next_if(|message| is(message, "assistant")) {
        first = of(calls, &["thinking", "redacted_thinking", "tool_use"]).or(first);
    }
    answered && first.as_deref() == Some("tool_use")
}

/// Edits of thoughts are refused where there is no thinking.
fn remove_edits_of_thoughts(request: &mut Object<'_>) -> bool {
    let Some(Json::Object(management)) = request.get_mut("context_management") else {
        return false;
    };
    let Some(Json::Array(edits)) = management.get_mut("edits") else {
        return false;
    };
    let before = edits.len();
    edits.retain(|edit| {
        let kind = edit.str("type").unwrap_or_default();
        !kind.starts_with("clear_thinking")
    });
    let (removed, none_left) = (edits.len() < before, edits.is_empty());
    if removed && none_left {
        request.remove("context_management");
    }
    removed
}
