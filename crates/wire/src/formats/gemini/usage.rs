//! Places of usage and text in `generateContent` responses.

use crate::usage::{Counting, UsageLayout, finder};

/// The layout of `generateContent`.
pub(super) static LAYOUT: UsageLayout = UsageLayout {
    text: finder!("parts"),
    model: &[b"modelVersion"],
    finish_reason: Some(finder!("finishReason")),
    types: None,
    counting: Counting::OpenAi,
    placeholder: None,
    generates: true,
    usage_option: false,
    cites: false,
};
