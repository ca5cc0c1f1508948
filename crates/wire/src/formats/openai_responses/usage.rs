//! Places of usage and text in responses.

use crate::usage::{Counting, EventTypes, UsageLayout, finder};

/// The layout of responses.
pub(super) static LAYOUT: UsageLayout = UsageLayout {
    text: finder!("delta"),
    model: &[b"response", b"model"],
    finish_reason: None,
    types: Some(EventTypes {
        ends: &[b"response.completed", b"response.incomplete"],
        failures: &[b"error", b"response.failed"],
        item_done: Some(b"response.output_item.done"),
    }),
    counting: Counting::OpenAi,
    placeholder: None,
    generates: true,
    usage_option: false,
    cites: false,
};
