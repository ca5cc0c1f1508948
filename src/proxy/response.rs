//! What happens to an upstream's response bytes on their way to the client: passed on event by
//! event, held for a verdict, cleaned of credentials or replaced. Nothing here waits.

use bytes::{Bytes, BytesMut};
use llm_router_domain::format::Format;
use llm_router_wire::sse::{Piece, Splitter};
use llm_router_wire::stream::{StreamStart, first_event};
use memchr::memmem;
use secrecy::{ExposeSecret as _, SecretString};

use super::translation::Answer;

/// The most of an error body that is looked at; what is longer is passed on as it comes.
pub(super) const ERROR_BODY_LIMIT: usize = 64 * 1024;

/// How the response under way is treated.
#[derive(Default)]
pub(super) enum Response {
    /// None yet, or one whose bytes are passed on untouched.
    #[default]
    Plain,
    /// A JSON body that hasn't shown yet whether it is an error.
    Opening(BytesMut),
    /// Server-sent events, passed on whole.
    Stream(Box<Stream>),
    /// An answer in another format than the client's.
    Translated(Box<Answer>),
    /// A refusal of the provider's: passed on as it is, but for our credential.
    Refusal(BytesMut),
    /// The last candidate's failure: its body is read for its message only.
    Failed(BytesMut),
}

/// A stream of events on its way to the client.
#[derive(Default)]
pub(super) struct Stream {
    splitter: Splitter,
    /// Whether the first event has been seen.
    started: bool,
    /// Whether an event that is handed out in parts goes on.
    inside_event: bool,
}

/// What a stream's first event says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing yet: no whole event so far, or comments only.
    Wait,
    /// An answer begins.
    Begun,
    /// The stream begins with an error event; the status stands for its kind.
    Failed(u16),
}

impl Stream {
    /// Whether a chunk may pass as it is: it starts where an event starts and ends where one
    /// ends, in the middle of a stream. That is what nearly every chunk does.
    pub(super) fn passes_untouched(&self, chunk: Option<&[u8]>, end: bool) -> bool {
        let whole = chunk.is_some_and(|chunk| chunk.ends_with(b"\n\n"));
        self.started && whole && !end && !self.inside_event && !self.splitter.holds_bytes()
    }

    /// Takes a chunk and leaves in `chunk` what may be passed on: whole events.
    pub(super) fn pass(&mut self, chunk: &mut Bytes, format: Format) -> Verdict {
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

    /// Whether the client has been sent a part of an event and not its end.
    pub(super) fn is_inside_event(&self) -> bool {
        self.inside_event
    }

    /// What is left when the upstream has ended the stream itself.
    pub(super) fn rest(&mut self) -> Option<Bytes> {
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

/// Overwrites a credential wherever it stands, keeping the length.
pub(super) fn redact(body: &mut [u8], credential: &SecretString) {
    let secret = credential.expose_secret().as_bytes();
    if secret.is_empty() {
        return;
    }
    let found: Vec<usize> = memmem::find_iter(body, secret).collect();
    for at in found {
        body[at..at + secret.len()].fill(b'*');
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

    #[test]
    fn credentials_are_overwritten() {
        let mut body = b"key sk-abc and sk-abc.".to_vec();
        redact(&mut body, &"sk-abc".into());
        assert_eq!(body, b"key ****** and ******.");
    }
}
