//! Minimal HTTP/1.1 on a socket: heads by httparse, bodies decoded in place. Own code because the
//! load side shares one CPU and must cost less than the proxy it measures; it must not know chats,
//! events or statistics.

use bytes::{Buf, BytesMut};
use httparse::Status;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Heads longer than this are refused.
const HEAD_LIMIT: usize = 1 << 20;
/// Headers a head may have.
pub(crate) const HEADERS: usize = 100;
const READ: usize = 64 << 10;
/// With less room than this a read is not worth its system call.
const ROOM: usize = 8 << 10;

/// Reason for which an exchange broke off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpFault {
    /// The socket failed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// The peer closed before the message was complete.
    #[error("closed in the middle of a message")]
    CutShort,
    /// The peer sent what is no HTTP/1.1.
    #[error("no valid HTTP/1.1: {0}")]
    Malformed(&'static str),
}

impl From<httparse::Error> for HttpFault {
    fn from(_: httparse::Error) -> Self {
        Self::Malformed("head")
    }
}

/// Framing of a body (RFC 9112, section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After this many bytes.
    Length(u64),
    /// By the chunk of size 0.
    Chunked,
    /// By the end of the connection; answers only.
    Close,
}

/// The framing that `headers` declare, or `None` if they don't.
///
/// # Errors
/// A length that is no number.
pub(crate) fn framing(headers: &[httparse::Header<'_>]) -> Result<Option<Framing>, HttpFault> {
    if find(headers, "transfer-encoding").is_some() {
        return Ok(Some(Framing::Chunked));
    }
    let Some(value) = find(headers, "content-length") else {
        return Ok(None);
    };
    let length = str::from_utf8(value)
        .ok()
        .and_then(|text| text.trim().parse().ok());
    length
        .map(|length| Some(Framing::Length(length)))
        .ok_or(HttpFault::Malformed("content-length"))
}

/// The value of the first header called `name`, whatever its case.
pub(crate) fn find<'a>(headers: &[httparse::Header<'a>], name: &str) -> Option<&'a [u8]> {
    headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value)
}

/// Fields that a client reads of an answer's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AnswerHead {
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    /// The server will close the connection after this answer.
    pub(crate) close: bool,
    /// `content-type`, or empty.
    pub(crate) media: String,
}

/// Parses the head of an answer: its length in bytes and what it says, `None` if incomplete.
pub(crate) fn parse_answer(bytes: &[u8]) -> Result<Option<(usize, AnswerHead)>, HttpFault> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let Status::Complete(length) = parsed.parse(bytes)? else {
        return Ok(None);
    };
    let status = parsed.code.unwrap_or(0);
    let declared = framing(parsed.headers)?;
    let bodiless = status < 200 || status == 204 || status == 304;
    let framing = if bodiless {
        Framing::Length(0)
    } else {
        declared.unwrap_or(Framing::Close)
    };
    let close = find(parsed.headers, "connection")
        .is_some_and(|v| v.eq_ignore_ascii_case(b"close"))
        || framing == Framing::Close;
    let media = find(parsed.headers, "content-type").unwrap_or_default();
    let media = String::from_utf8_lossy(media).into_owned();
    Ok(Some((
        length,
        AnswerHead {
            status,
            framing,
            close,
            media,
        },
    )))
}

/// One connection with what was read of it but not used yet.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Channel {
    /// Opens a connection without Nagle's delay.
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        Self::new(TcpStream::connect(address).await?)
    }

    /// Takes over an open connection and switches Nagle's delay off.
    pub(crate) fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: BytesMut::with_capacity(READ),
        })
    }

    /// Sends all of `bytes`.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Says that nothing more will be sent.
    pub(crate) async fn finish(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// Reads once; 0 at the end of the connection. Safe to cancel.
    pub(crate) async fn fill(&mut self) -> io::Result<usize> {
        if self.buffer.capacity() - self.buffer.len() < ROOM {
            self.buffer.reserve(READ);
        }
        self.stream.read_buf(&mut self.buffer).await
    }

    /// Reads a head with `parse`; `None` when the peer closed before its first byte.
    ///
    /// # Errors
    /// Returns the error of `parse`, of a truncated head, of one over 1 MiB, or of the socket.
    pub(crate) async fn head<T>(
        &mut self,
        parse: impl Fn(&[u8]) -> Result<Option<(usize, T)>, HttpFault>,
    ) -> Result<Option<T>, HttpFault> {
        loop {
            if !self.buffer.is_empty()
                && let Some((length, head)) = parse(&self.buffer)?
            {
                self.buffer.advance(length);
                return Ok(Some(head));
            }
            if self.buffer.len() > HEAD_LIMIT {
                return Err(HttpFault::Malformed("head too long"));
            }
            if self.fill().await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(HttpFault::CutShort)
                };
            }
        }
    }

    /// Reads the head of a final answer, passing over interim ones; `None` as for [`Self::head`].
    pub(crate) async fn answer(&mut self) -> Result<Option<AnswerHead>, HttpFault> {
        loop {
            match self.head(parse_answer).await? {
                Some(head) if head.status < 200 => {}
                other => return Ok(other),
            }
        }
    }

    /// Reads a body to its end and hands its content to `sink` piece by piece as it arrives.
    ///
    /// # Errors
    /// A body cut short or wrongly framed, socket errors.
    pub(crate) async fn body(
        &mut self,
        framing: Framing,
        sink: &mut impl FnMut(&[u8]),
    ) -> Result<(), HttpFault> {
        let mut decoder = Decoder::new(framing);
        loop {
            let used = decoder.feed(&self.buffer, sink)?;
            self.buffer.advance(used);
            if decoder.is_done() {
                return Ok(());
            }
            if self.fill().await? == 0 {
                return if framing == Framing::Close {
                    Ok(())
                } else {
                    Err(HttpFault::CutShort)
                };
            }
        }
    }
}

/// Takes a body out of its framing, whatever pieces it comes in.
#[derive(Debug)]
struct Decoder(DecoderState);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DecoderState {
    Length(u64),
    Close,
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailer,
    Done,
}

impl Decoder {
    fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::Length(0) => DecoderState::Done,
            Framing::Length(length) => DecoderState::Length(length),
            Framing::Chunked => DecoderState::ChunkSize,
            Framing::Close => DecoderState::Close,
        })
    }

    fn is_done(&self) -> bool {
        self.0 == DecoderState::Done
    }

    /// Decodes what is complete in `input` and returns how many of its bytes that was; the rest
    /// has to be given again with more behind it.
    fn feed(&mut self, input: &[u8], sink: &mut impl FnMut(&[u8])) -> Result<usize, HttpFault> {
        let mut rest = input;
        while let Some(used) = self.step(rest, sink)? {
            rest = rest.get(used..).unwrap_or_default();
        }
        Ok(input.len() - rest.len())
    }

    /// One step; `None` when there is too little input for it.
    fn step(
        &mut self,
        input: &[u8],
        sink: &mut impl FnMut(&[u8]),
    ) -> Result<Option<usize>, HttpFault> {
        if input.is_empty() || self.is_done() {
            return Ok(None);
        }
        let (used, next) = match self.0 {
            DecoderState::Length(left) => {
                content(input, left, sink, DecoderState::Length, DecoderState::Done)
            }
            DecoderState::ChunkData(left) => content(
                input,
                left,
                sink,
                DecoderState::ChunkData,
                DecoderState::ChunkEnd,
            ),
            DecoderState::Close => content(
                input,
                u64::MAX,
                sink,
                |_| DecoderState::Close,
                DecoderState::Close,
            ),
            DecoderState::ChunkSize => return self.chunk_size(input),
            DecoderState::ChunkEnd | DecoderState::Trailer | DecoderState::Done => {
                return self.line(input);
            }
        };
        self.0 = next;
        Ok(Some(used))
    }

    fn chunk_size(&mut self, input: &[u8]) -> Result<Option<usize>, HttpFault> {
        let parsed =
            httparse::parse_chunk_size(input).map_err(|_| HttpFault::Malformed("chunk size"))?;
        let Status::Complete((used, size)) = parsed else {
            return Ok(None);
        };
        self.0 = if size == 0 {
            DecoderState::Trailer
        } else {
            DecoderState::ChunkData(size)
        };
        Ok(Some(used))
    }

    /// The empty line after a chunk's data, or a line of the trailer, whose last is empty.
    fn line(&mut self, input: &[u8]) -> Result<Option<usize>, HttpFault> {
        let Some(end) = memchr::memchr(b'\n', input) else {
            return Ok(None);
        };
        let empty = input.get(..end) == Some(b"\r");
        match (self.0, empty) {
            (DecoderState::ChunkEnd, true) => self.0 = DecoderState::ChunkSize,
            (DecoderState::ChunkEnd, false) => return Err(HttpFault::Malformed("end of a chunk")),
            (_, true) => self.0 = DecoderState::Done,
            (_, false) => {}
        }
        Ok(Some(end + 1))
    }
}

fn content(
    input: &[u8],
    left: u64,
    sink: &mut impl FnMut(&[u8]),
    more: impl Fn(u64) -> DecoderState,
    end: DecoderState,
) -> (usize, DecoderState) {
    let take = usize::try_from(left).map_or(input.len(), |left| left.min(input.len()));
    sink(input.get(..take).unwrap_or_default());
    let left = left - take as u64;
    (take, if left == 0 { end } else { more(left) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes `body` given in two pieces cut at `cut`.
    fn decode_cut(framing: Framing, body: &[u8], cut: usize) -> Result<(Vec<u8>, bool), HttpFault> {
        let mut decoder = Decoder::new(framing);
        let mut out = Vec::new();
        let mut sink = |part: &[u8]| out.extend_from_slice(part);
        let used = decoder.feed(&body[..cut], &mut sink)?;
        decoder.feed(&body[used..], &mut sink)?;
        Ok((out, decoder.is_done()))
    }

    #[test]
    fn bodies_are_decoded_wherever_they_are_cut() {
        let table: &[(Framing, &[u8], &[u8], bool)] = &[
            (Framing::Length(5), b"hello", b"hello", true),
            (Framing::Length(5), b"helloGET", b"hello", true),
            (Framing::Length(6), b"hello", b"hello", false),
            (
                Framing::Chunked,
                b"3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
                b"hello",
                true,
            ),
            (
                Framing::Chunked,
                b"5;x=y\r\nhello\r\n0\r\na: b\r\n\r\n",
                b"hello",
                true,
            ),
            (Framing::Chunked, b"5\r\nhello\r\n0\r\n", b"hello", false),
            (Framing::Close, b"hello", b"hello", false),
        ];
        for &(framing, body, expected, done) in table {
            for cut in 0..=body.len() {
                let decoded = decode_cut(framing, body, cut).unwrap();
                assert_eq!(
                    decoded,
                    (expected.to_vec(), done),
                    "{framing:?} cut at {cut}"
                );
            }
        }
    }

    #[test]
    fn wrong_chunks_are_refused() {
        for body in [
            &b"zz\r\nhello"[..],
            b"5\r\nhelloworld\r\n",
            b"fffffffffffffffff\r\n",
        ] {
            assert!(decode_cut(Framing::Chunked, body, body.len()).is_err());
        }
    }

    #[test]
    fn answers_tell_their_framing() {
        type Expected = Option<(u16, Framing, bool)>;
        let table: &[(&str, Expected)] = &[
            (
                "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n",
                Some((200, Framing::Length(3), false)),
            ),
            (
                "HTTP/1.1 204 No\r\n\r\n",
                Some((204, Framing::Length(0), false)),
            ),
            (
                "HTTP/1.1 400 Bad\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
                Some((400, Framing::Chunked, true)),
            ),
            (
                "HTTP/1.0 502 Bad\r\n\r\n",
                Some((502, Framing::Close, true)),
            ),
            ("HTTP/1.1 200 OK\r\n", None),
        ];
        for (text, expected) in table {
            let head = parse_answer(text.as_bytes()).unwrap();
            let found = head.map(|(_, head)| (head.status, head.framing, head.close));
            assert_eq!(found, *expected, "{text}");
        }
        assert!(parse_answer(b"SSH-2.0-OpenSSH\r\n\r\n").is_err());
        assert!(parse_answer(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n").is_err());
    }
}
