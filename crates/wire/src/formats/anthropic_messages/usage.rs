//! Places of usage and text in messages.

use crate::usage::{Counting, EventTypes, UsageLayout, finder};

/// The layout of messages. `message_start` holds placeholders, `message_delta` the cumulative
/// figures.
pub(super) static LAYOUT: UsageLayout = UsageLayout {
    text: finder!("delta"),
    model: &[b"message", b"model"],
    finish_reason: Some(finder!("stop_reason")),
    types: Some(EventTypes {
        ends: &[b"message_stop"],
        failures: &[b"error"],
        item_done: None,
    }),
    counting: Counting::Anthropic,
    placeholder: Some(b"message"),
    generates: true,
    usage_option: false,
    cites: false,
};
