//! Removes from a messages request the thoughts that other vendors' models left in its history.

use crate::translate::json::{Json, Object};
use crate::translate::signature::Signature;

/// Marks of such a history.
pub(super) const TRACES: &[&[u8]] = &[
    b"\"gemini#",
    b"\"openai#",
    b"\"signature\":\"\"",
    b"\"signature\": \"\"",
];

/// Removes thoughts that Anthropic didn't sign.
pub(super) fn clean(request: &mut Object<'_>) -> bool {
    let mut changed = false;
    let Some(Json::Array(list)) = request.get_mut("messages") else {
        return false;
    };
    list.retain_mut(|message| {
        let Json::Object(message) = message else {
            return true;
        };
        let Some(Json::Array(blocks)) = message.get_mut("content") else {
            return true;
        };
        let before = blocks.len();
        blocks.retain(|block| !is_foreign_block(block));
        changed |= blocks.len() < before;
        // A message of thoughts alone is none.
        before == 0 || !blocks.is_empty()
    });
    changed
}

fn is_foreign_block(block: &Json<'_>) -> bool {
    let signature = block.str("signature").unwrap_or_default();
    block.str("type") == Some("thinking")
        && !matches!(
            Signature::from_block(signature.into()),
            Some(Signature::Anthropic(_))
        )
}
