//! A stream of events on its way to the client: passed on event by event, and judged by its first.
//! Nothing here waits.

use bytes::{Bytes, BytesMut};
use llm_router_domain::format::Format;
use llm_router_wire::sse::{Event, Piece, Splitter};
use memchr::memmem;

/// A stream of events on its way to the client.
#[derive(Default)]
pub(crate) struct Stream {
    splitter: Splitter,
    /// Set once the first event has been seen.
    started: bool,
    /// Set while an event that is handed out in parts goes on.
    inside_event: bool,
}

/// Verdict on a stream by its first event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing yet: no whole event so far, or comments only.
    Wait,
    /// An answer begins.
    Begun,
    /// The stream begins with an error event; the status stands for its kind.
    Failed(u16),
}

impl Stream {
    /// Returns whether a chunk may pass as it is: it starts where an event starts and ends where one
    /// ends, in the middle of a stream. That is what nearly every chunk does.
    pub(crate) fn passes_untouched(&self, chunk: Option<&[u8]>, end: bool) -> bool {
        let whole = chunk.is_some_and(|chunk| chunk.ends_with(b"\n\n"));
        self.started && whole && !end && !self.inside_event && !self.splitter.holds_bytes()
    }

    /// Takes a chunk and leaves in `chunk` what may be passed on: whole events.
    pub(crate) fn pass(&mut self, chunk: &mut Bytes, format: Format) -> Verdict {
        let mut verdict = if self.started {
            Verdict::Begun
        } else {
            Verdict::Wait
        };
        let held_before = self.splitter.holds_bytes();
        self.splitter.push(chunk.clone());
        let mut whole = Whole::default();
        while let Some(piece) = self.splitter.next_piece() {
            match piece {
                Piece::Event(event) => {
                    if verdict == Verdict::Wait {
                        verdict = judge(&event, format);
                    }
                    whole.push(event.into_raw());
                }
                Piece::Part { bytes, last } => {
                    self.inside_event = !last;
                    // An event this long is content; no provider's error is.
                    verdict = Verdict::Begun;
                    whole.push(bytes);
                }
            }
        }
        if held_before || self.splitter.holds_bytes() {
            *chunk = whole.take();
        }
        self.started |= verdict != Verdict::Wait;
        verdict
    }

    /// Returns whether the client has been sent a part of an event and not its end.
    pub(crate) fn is_inside_event(&self) -> bool {
        self.inside_event
    }

    /// Takes the bytes that are left when the upstream has ended the stream.
    pub(crate) fn rest(&mut self) -> Option<Bytes> {
        self.splitter.finish()
    }
}

/// Joins pieces, without a copy while there is only one.
#[derive(Default)]
struct Whole {
    first: Bytes,
    more: BytesMut,
}

impl Whole {
    fn push(&mut self, bytes: Bytes) {
        if self.first.is_empty() {
            self.first = bytes;
        } else {
            if self.more.is_empty() {
                self.more.extend_from_slice(&self.first);
            }
            self.more.extend_from_slice(&bytes);
        }
    }

    fn take(self) -> Bytes {
        if self.more.is_empty() {
            self.first
        } else {
            self.more.freeze()
        }
    }
}

/// Judges a stream by one event. Comments decide nothing.
fn judge(event: &Event, format: Format) -> Verdict {
    let Some(data) = event.data() else {
        return Verdict::Wait;
    };
    let named_error = event.name() == Some(b"error");
    let may_be_error = named_error || memmem::find(&data, b"\"error\"").is_some();
    if !may_be_error {
        return Verdict::Begun;
    }
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(&data) else {
        return if named_error {
            Verdict::Failed(502)
        } else {
            Verdict::Begun
        };
    };
    let typed_error = value.get("type").is_some_and(|kind| kind == "error");
    let holds_error = value.get("error").is_some_and(|error| !error.is_null());
    let chat_error = holds_error && value.get("choices").is_none_or(is_empty_list);
    let failed = match format {
        Format::AnthropicMessages | Format::OpenAiResponses => named_error || typed_error,
        Format::OpenAiChat | Format::Gemini => named_error || chat_error,
    };
    if failed {
        Verdict::Failed(event_status(&value))
    } else {
        Verdict::Begun
    }
}

fn is_empty_list(value: &serde_json::Value) -> bool {
    value.as_array().is_none_or(Vec::is_empty)
}

/// Returns whether a JSON body is an error although its status is a success, by its first member.
/// `None` while too little of it has come.
pub(crate) fn begins_with_error(body: &[u8]) -> Option<bool> {
    let mut rest = body.trim_ascii_start();
    // Gemini wraps its error in a list on some endpoints.
    for open in [&b"["[..], b"{", b"\""] {
        match rest.strip_prefix(open) {
            Some(inside) => rest = inside.trim_ascii_start(),
            None if rest.is_empty() => return None,
            None if open == b"[" => {}
            None => return Some(false),
        }
    }
    let end = memchr::memchr(b'"', rest)?;
    let (name, rest) = rest.split_at(end);
    let value = rest.get(1..)?.trim_ascii_start().strip_prefix(b":");
    let value = value.unwrap_or_default().trim_ascii_start();
    match name {
        b"error" => value.first().map(|first| *first != b'n'),
        b"type" if value.len() < ERROR.len() && ERROR.starts_with(value) => None,
        b"type" => Some(value.starts_with(ERROR)),
        _ => Some(false),
    }
}

const ERROR: &[u8] = b"\"error\"";

/// The status that an error body would have had if its answer's had been an error's.
pub(crate) fn error_status(body: &[u8]) -> u16 {
    let value = serde_json::from_slice::<serde_json::Value>(body).unwrap_or_default();
    event_status(value.get(0).unwrap_or(&value))
}

/// The status that an error event would have had as an answer of its own.
fn event_status(value: &serde_json::Value) -> u16 {
    let error = value.get("error").unwrap_or(value);
    let code = error.get("code");
    if let Some(status) = code.and_then(serde_json::Value::as_u64) {
        return u16::try_from(status)
            .ok()
            .filter(|status| (400..600).contains(status))
            .unwrap_or(502);
    }
    let kinds = [error.get("type"), code];
    let kind = kinds
        .into_iter()
        .flatten()
        .filter_map(serde_json::Value::as_str);
    let known = |kind: &str| match kind {
        "overloaded_error" => Some(529),
        "rate_limit_error" | "rate_limit_exceeded" | "RESOURCE_EXHAUSTED" => Some(429),
        "invalid_request_error" | "context_length_exceeded" | "INVALID_ARGUMENT" => Some(400),
        "permission_error" => Some(403),
        "not_found_error" => Some(404),
        "request_too_large" => Some(413),
        _ => None,
    };
    kind.filter_map(known).next().unwrap_or(502)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(format: Format, event: &str) -> Verdict {
        let mut chunk = Bytes::copy_from_slice(event.as_bytes());
        Stream::default().pass(&mut chunk, format)
    }

    #[test]
    fn error_events_are_told_from_content() {
        use Format::{AnthropicMessages, OpenAiChat, OpenAiResponses};
        let cases = [
            (
                OpenAiChat,
                "data: {\"error\":{\"message\":\"x\"}}\n\n",
                Verdict::Failed(502),
            ),
            (
                OpenAiChat,
                "data: {\"error\":{\"code\":429}}\n\n",
                Verdict::Failed(429),
            ),
            (
                OpenAiChat,
                "data: {\"error\":null,\"choices\":[]}\n\n",
                Verdict::Begun,
            ),
            (
                OpenAiChat,
                "data: {\"choices\":[{\"delta\":{\"content\":\"\\\"error\\\"\"}}]}\n\n",
                Verdict::Begun,
            ),
            (OpenAiChat, ": PROCESSING\n\n", Verdict::Wait),
            (OpenAiChat, "data: {\"choices\":[]}\n", Verdict::Wait),
            (
                AnthropicMessages,
                "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n",
                Verdict::Failed(529),
            ),
            (
                AnthropicMessages,
                "event: message_start\ndata: {\"type\":\"message_start\"}\n\n",
                Verdict::Begun,
            ),
            (
                OpenAiResponses,
                "event: error\ndata: {\"type\":\"error\",\"code\":\"rate_limit_exceeded\"}\n\n",
                Verdict::Failed(429),
            ),
            (
                OpenAiResponses,
                "event: response.created\ndata: {\"type\":\"x\",\"response\":{\"error\":null}}\n\n",
                Verdict::Begun,
            ),
        ];
        for (format, event, expected) in cases {
            assert_eq!(verdict(format, event), expected, "{format}: {event}");
        }
    }

    #[test]
    fn errors_are_told_from_answers_by_their_first_member() {
        let cases = [
            (r#"{"error":{"#, Some(true)),
            ("\n { \"error\" : {", Some(true)),
            (r#"[{"error":{"#, Some(true)),
            (r#"{"type":"error","#, Some(true)),
            (r#"{"type":"message","#, Some(false)),
            (r#"{"error":null,"#, Some(false)),
            (r#"{"id":"chatcmpl-1","error":{}"#, Some(false)),
            ("[1,2]", Some(false)),
            ("<html>", Some(false)),
            (r#"{"id""#, Some(false)),
            ("", None),
            ("{", None),
            (r#"{"err"#, None),
            (r#"{"error":"#, None),
            (r#"{"type":"err"#, None),
        ];
        for (body, want) in cases {
            assert_eq!(begins_with_error(body.as_bytes()), want, "{body}");
        }
        assert_eq!(
            error_status(br#"[{"error":{"status":"X","code":429}}]"#),
            429
        );
    }

    #[test]
    fn only_whole_events_pass() {
        let mut stream = Stream::default();
        let mut sent = Vec::new();
        for part in [
            "data: {\"a\":1}\n\ndata: {",
            "\"b\":2",
            "}\n\n",
            "data: {\"c\"",
        ] {
            let mut chunk = Bytes::from(part);
            stream.pass(&mut chunk, Format::OpenAiChat);
            sent.push(String::from_utf8(chunk.to_vec()).unwrap());
        }
        assert_eq!(sent, ["data: {\"a\":1}\n\n", "", "data: {\"b\":2}\n\n", ""]);
        assert_eq!(stream.rest().as_deref(), Some(&b"data: {\"c\""[..]));
    }

    #[test]
    fn whole_chunks_are_not_copied() {
        let mut stream = Stream::default();
        let original = Bytes::from("data: {\"a\":1}\n\ndata: {\"b\":1}\n\n".to_owned());
        let mut chunk = original.clone();
        stream.pass(&mut chunk, Format::OpenAiChat);
        assert_eq!(chunk.as_ptr(), original.as_ptr());
        assert_eq!(chunk.len(), original.len());
    }
}
