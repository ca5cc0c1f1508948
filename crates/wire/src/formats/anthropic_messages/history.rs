//! Removes from a messages request the thoughts that other vendors' models left in its history, and
//! the request to think where Anthropic would miss its own.

use memchr::memchr;
use memchr::memmem::{find, find_iter};

use crate::translate::json::{Json, Object};
use crate::translate::signature::Signature;
use crate::translate::tool_id::{Alphabet, Spelling};

/// Marks of such a history.
pub(super) const TRACES: &[&[u8]] = &[
    b"\"gemini#",
    b"\"openai#",
    b"\"signature\":\"\"",
    b"\"signature\": \"\"",
];

/// Spelling of the ids of calls.
const CALL_ID: Spelling = Spelling {
    most: None,
    alphabet: Alphabet::Plain,
};

/// Begins the ids of calls that Anthropic's models make, also at other companies.
const OWN_CALL: &[u8] = b"toolu_";

/// Returns true if a request may hold what [`clean`] removes: thoughts, or calls that another model
/// made while thinking with a budget is asked for.
pub(super) fn may_need_cleaning(body: &[u8]) -> bool {
    TRACES.iter().any(|trace| find(body, trace).is_some())
        || result_ids(body).any(|id| !CALL_ID.fits(id))
        || (find(body, b"\"budget_tokens\"").is_some()
            && result_ids(body).any(|id| !id.starts_with(OWN_CALL)))
}

/// The ids of the calls that have results, as they are written.
fn result_ids(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    const KEY: &[u8] = b"\"tool_use_id\"";
    find_iter(body, KEY).filter_map(|at| {
        let value = body.get(at + KEY.len()..)?.trim_ascii_start();
        let value = value.strip_prefix(b":")?.trim_ascii_start();
        let text = value.strip_prefix(b"\"")?;
        text.get(..memchr(b'"', text)?)
    })
}

/// Removes thoughts that Anthropic didn't sign. Where it then misses the thought behind the last
/// calls it isn't asked to think (docs.claude.com, "Extended thinking": the last turn with tools has
/// to begin with a thought). Ids of calls are fitted to Anthropic's alphabet. Returns the names of what
/// was removed, or none if the request is as it was.
pub(super) fn clean(request: &mut Object<'_>) -> Option<Vec<&'static str>> {
    let mut removed = Vec::new();
    let Some(Json::Array(list)) = request.get_mut("messages") else {
        return None;
    };
    let (mut thoughts, mut fitted) = (false, false);
    list.retain_mut(|message| {
        let Json::Object(message) = message else {
            return true;
        };
        let Some(Json::Array(blocks)) = message.get_mut("content") else {
            return true;
        };
        for block in blocks.iter_mut() {
            fitted |= fit_id(block);
        }
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
    (fitted || !removed.is_empty()).then_some(removed)
}

/// Fits the id of a call, or of a result alike; true if it didn't fit.
fn fit_id(block: &mut Json<'_>) -> bool {
    let key = match block.str("type") {
        Some("tool_use") => "id",
        Some("tool_result") => "tool_use_id",
        _ => return false,
    };
    let Json::Object(block) = block else {
        return false;
    };
    match block.get_mut(key) {
        Some(Json::String(id)) if !CALL_ID.fits(id.as_bytes()) => {
            CALL_ID.apply(id);
            true
        }
        _ => false,
    }
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
