//! Removes from a chat request what only a translated response can have put into its history.

use crate::translate::json::{Json, Object};
use crate::translate::options::ChatDialect;

/// Marks of such a history.
pub(super) const TRACES: &[&[u8]] = &[b"\"thinking_blocks\"", b"\"extra_content\""];

/// OpenAI's servers know neither field; compatible ones may know `reasoning_content`.
pub(super) fn clean(request: &mut Object<'_>, dialect: ChatDialect) -> Vec<&'static str> {
    let (mut changed, mut signed) = (false, false);
    for message in messages(request, "messages") {
        changed |= message.remove("thinking_blocks");
        if changed && dialect == ChatDialect::OpenAi {
            message.remove("reasoning_content");
        }
        for call in messages(message, "tool_calls") {
            signed |= call.remove("extra_content");
        }
    }
    [
        (changed, "messages.thinking_blocks"),
        (signed, "messages.tool_calls.extra_content"),
    ]
    .into_iter()
    .filter_map(|(removed, name)| removed.then_some(name))
    .collect()
}

/// The objects of a list.
fn messages<'o, 'a>(
    object: &'o mut Object<'a>,
    key: &str,
) -> impl Iterator<Item = &'o mut Object<'a>> {
    let list = match object.get_mut(key) {
        Some(Json::Array(list)) => list.as_mut_slice(),
        _ => &mut [],
    };
    list.iter_mut().filter_map(|item| match item {
        Json::Object(object) => Some(object),
        _ => None,
    })
}
