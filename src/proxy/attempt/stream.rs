//! A stream of events on its way to the client: passed on event by event, and judged by its first.
//! Nothing here waits.

use bytes::{Bytes, BytesMut};
use llm_router_domain::format::Format;
use llm_router_wire::sse::{Piece, Splitter};
use llm_router_wire::stream::{StreamStart, first_event};

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
                        verdict = match first_event(format, &event) {
                            StreamStart::Pending => Verdict::Wait,
                            StreamStart::Content => Verdict::Begun,
                            StreamStart::Error { status, .. } => Verdict::Failed(status),
                        };
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
        self.splitter.finish().map(Piece::into_bytes)
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

#[cfg(test)]
mod tests {
    use super::*;

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
