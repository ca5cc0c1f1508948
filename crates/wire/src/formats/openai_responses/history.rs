//! Removes from a responses request the reasoning that other vendors' models left in its history.

use crate::translate::json::{Json, Object};
use crate::translate::signature::Signature;

/// Marks of such a history.
pub(super) const TRACES: &[&[u8]] = &[b"\"anthropic#", b"\"anthropic-redacted#", b"\"gemini#"];

/// Removes reasoning items that other vendors' models made.
pub(super) fn clean(request: &mut Object<'_>) -> Vec<&'static str> {
    let Some(Json::Array(items)) = request.get_mut("input") else {
        return Vec::new();
    };
    let before = items.len();
    items.retain(|item| !is_foreign_item(item));
    if items.len() < before {
        vec!["input.reasoning"]
    } else {
        Vec::new()
    }
}

fn is_foreign_item(item: &Json<'_>) -> bool {
    let encrypted = item.str("encrypted_content").unwrap_or_default();
    item.str("type") == Some("reasoning")
        && !matches!(
            Signature::from_item("".into(), encrypted.into()),
            Signature::OpenAi { .. }
        )
}
