//! Places of usage and text in chat completions, completions and embeddings.

use crate::usage::{Counting, UsageLayout, finder};

/// Chat completions.
pub(super) static CHAT: UsageLayout = UsageLayout {
    text: finder!("delta"),
    model: &[b"model"],
    finish_reason: Some(finder!("finish_reason")),
    types: None,
    counting: Counting::OpenAi,
    placeholder: None,
    generates: true,
    usage_option: true,
    cites: true,
};

/// Completions, the older kind.
pub(super) static COMPLETIONS: UsageLayout = UsageLayout {
    text: finder!("text"),
    model: &[b"model"],
    finish_reason: Some(finder!("finish_reason")),
    types: None,
    counting: Counting::OpenAi,
    placeholder: None,
    generates: true,
    usage_option: true,
    cites: true,
};

/// Embeddings, which are never streamed.
pub(super) static EMBEDDINGS: UsageLayout = UsageLayout {
    text: finder!("delta"),
    model: &[b"model"],
    finish_reason: None,
    types: None,
    counting: Counting::OpenAi,
    placeholder: None,
    generates: false,
    usage_option: false,
    cites: false,
};
