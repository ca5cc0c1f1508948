//! A provider's stream of events: what its first event says of the answer.

use llm_router_domain::format::Format;
use memchr::memmem;
use serde_json::Value;

use crate::error::{event_status, provider_message};
use crate::formats::codec;
use crate::sse::Event;

/// What a stream's first event says of the answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StreamStart {
    /// Nothing yet: no whole event so far, or comments only.
    #[default]
    Pending,
    /// The answer begins.
    Content,
    /// The stream begins with an error event.
    Error {
        /// The status that the error would have had as a response of its own.
        status: u16,
        /// The provider's message.
        message: Option<String>,
    },
}

/// What the first event of a stream in `format` says. Comments say nothing.
#[must_use]
pub fn first_event(format: Format, event: &Event) -> StreamStart {
    let Some(data) = event.data() else {
        return StreamStart::Pending;
    };
    let named_error = event.name() == Some(b"error");
    let may_be_error = named_error || memmem::find(&data, b"\"error\"").is_some();
    if !may_be_error {
        return StreamStart::Content;
    }
    let error = match serde_json::from_slice::<Value>(&data) {
        Ok(value) => {
            let is_error = named_error || codec(format).is_error_event(&value);
            is_error.then(|| event_status(&value))
        }
        Err(_) => named_error.then_some(502),
    };
    match error {
        Some(status) => StreamStart::Error {
            status,
            message: provider_message(&data),
        },
        None => StreamStart::Content,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn error_events_are_told_from_content() {
        use Format::{AnthropicMessages, OpenAiChat, OpenAiResponses};
        const CONTENT: Option<u16> = Some(200);
        let cases = [
            (
                OpenAiChat,
                "data: {\"error\":{\"message\":\"x\"}}\n\n",
                Some(502),
            ),
            (
                OpenAiChat,
                "data: {\"error\":{\"code\":429}}\n\n",
                Some(429),
            ),
            (
                OpenAiChat,
                "data: {\"error\":null,\"choices\":[]}\n\n",
                CONTENT,
            ),
            (
                OpenAiChat,
                "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"error\\\"\"}}]}\n\n",
                CONTENT,
            ),
            (OpenAiChat, ": PROCESSING\n\n", None),
            (
                AnthropicMessages,
                "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n",
                Some(529),
            ),
            (
                AnthropicMessages,
                "event: message_start\ndata: {\"type\":\"message_start\"}\n\n",
                CONTENT,
            ),
            (
                OpenAiResponses,
                "event: error\ndata: {\"type\":\"error\",\"code\":\"rate_limit_exceeded\"}\n\n",
                Some(429),
            ),
            (
                OpenAiResponses,
                "event: response.created\ndata: {\"type\":\"x\",\"response\":{\"error\":null}}\n\n",
                CONTENT,
            ),
        ];
        for (format, event, expected) in cases {
            let start = first_event(format, &Event::new(Bytes::from(event)));
            let found = match start {
                StreamStart::Pending => None,
                StreamStart::Content => CONTENT,
                StreamStart::Error { status, .. } => Some(status),
            };
            assert_eq!(found, expected, "{format}: {event}");
        }
    }
}
