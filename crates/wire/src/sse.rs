//! Server-sent events framing: bytes in chunks of any size in, whole events out, every byte kept.
//! It must not look inside the data of an event; what the JSON says is its callers' business.

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

/// The most bytes of one unfinished event that a [`Splitter`] holds before it hands it out in parts.
pub const DEFAULT_LIMIT: usize = 1 << 20;

const BOM: &[u8] = b"\xEF\xBB\xBF";

/// A piece that a [`Splitter`] cuts off a stream. The bytes of all pieces, in order, are the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A whole event with the blank line that ends it. It may be empty of fields, as a comment is.
    Event(Event),
    /// A part of an event that is longer than the limit.
    Part {
        /// The bytes of this part.
        bytes: Bytes,
        /// True if the event ends with this part.
        last: bool,
    },
}

impl Piece {
    /// The bytes as they came.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        match self {
            Self::Event(event) => event.into_raw(),
            Self::Part { bytes, .. } => bytes,
        }
    }
}

/// One event as it stood in the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    raw: Bytes,
}

impl Event {
    /// Wraps the bytes of one event, with or without the blank line that ends it.
    #[must_use]
    pub const fn new(raw: Bytes) -> Self {
        Self { raw }
    }

    /// The bytes as they came, the blank line that ends the event included.
    #[must_use]
    pub const fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Takes the bytes as they came.
    #[must_use]
    pub fn into_raw(self) -> Bytes {
        self.raw
    }

    /// The fields in order; a comment is a field with an empty name.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        FieldLines {
            rest: self.raw.strip_prefix(BOM).unwrap_or(&self.raw),
        }
        .map(split_field)
    }

    /// The value of the last `event:` line.
    #[must_use]
    pub fn name(&self) -> Option<&[u8]> {
        self.fields()
            .filter(|(name, _)| *name == b"event")
            .last()
            .map(|(_, value)| value)
    }

    /// The data of an event that is one `data:` line and nothing else, as nearly all are.
    fn only_line(&self) -> Option<&[u8]> {
        let value = self.raw.strip_prefix(b"data:")?;
        let end = memchr2(b'\n', b'\r', value).unwrap_or(value.len());
        let (line, rest) = value.split_at(end);
        let blank = rest.iter().all(|byte| matches!(byte, b'\n' | b'\r'));
        blank.then(|| line.strip_prefix(b" ").unwrap_or(line))
    }

    /// The `data:` lines joined by line feeds, or none if there is no such line. Borrowed when
    /// there is one line, as all known providers send it.
    #[must_use]
    pub fn data(&self) -> Option<Cow<'_, [u8]>> {
        if let Some(line) = self.only_line() {
            return Some(Cow::Borrowed(line));
        }
        let mut lines = self
            .fields()
            .filter(|(name, _)| *name == b"data")
            .map(|(_, value)| value);
        let first = lines.next()?;
        let Some(second) = lines.next() else {
            return Some(Cow::Borrowed(first));
        };
        let mut joined = first.to_vec();
        for line in std::iter::once(second).chain(lines) {
            joined.push(b'\n');
            joined.extend_from_slice(line);
        }
        Some(Cow::Owned(joined))
    }
}

/// Cuts a stream into events, whatever the chunks it arrives in.
///
/// FieldLines end in LF, CRLF or CR, also mixed (WHATWG HTML, section 9.2.5). The cut doesn't depend on
/// where the chunks end. Events within one chunk are slices of it; only what straddles two chunks
/// is copied.
#[derive(Debug)]
pub struct Splitter {
    limit: usize,
    chunk: Bytes,
    held: BytesMut,
    scan: LineScan,
    /// The current event passed the limit and is being handed out in parts.
    in_parts: bool,
}

impl Default for Splitter {
    fn default() -> Self {
        Self::with_limit(DEFAULT_LIMIT)
    }
}

impl Splitter {
    /// A splitter that hands events longer than `limit` bytes out in parts.
    #[must_use]
    pub fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            chunk: Bytes::new(),
            held: BytesMut::new(),
            scan: LineScan::default(),
            in_parts: false,
        }
    }

    /// Takes the next chunk. Call [`Self::next_piece`] until it returns none before the next one.
    pub fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            let mut both = BytesMut::from(std::mem::take(&mut self.chunk));
            both.extend_from_slice(&chunk);
            self.chunk = both.freeze();
        }
    }

    /// The next piece, or none until another chunk is pushed.
    pub fn next_piece(&mut self) -> Option<Piece> {
        if self.chunk.is_empty() {
            return None;
        }
        match self.scan.event_end(&self.chunk) {
            Some(end) => {
                let tail = self.chunk.split_to(end);
                Some(self.close(tail))
            }
            None => self.hold(),
        }
    }

    /// Ends the stream and returns what is left of it: an event without its blank line, or the
    /// last part of a long one.
    pub fn finish(&mut self) -> Option<Piece> {
        let rest = self.rest();
        *self = Self::with_limit(self.limit);
        rest
    }

    /// Returns a copy of what [`Self::finish`] would return now.
    #[must_use]
    pub fn rest(&self) -> Option<Piece> {
        let bytes = match (self.held.is_empty(), self.chunk.is_empty()) {
            (true, true) => return None,
            (true, false) => self.chunk.clone(),
            (false, _) => join(self.held.clone(), &self.chunk),
        };
        Some(if self.in_parts {
            Piece::Part { bytes, last: true }
        } else {
            Piece::Event(Event::new(bytes))
        })
    }

    /// Returns true if bytes of an unfinished event are held back.
    #[must_use]
    pub fn holds_bytes(&self) -> bool {
        !self.held.is_empty()
    }

    fn close(&mut self, tail: Bytes) -> Piece {
        let held = std::mem::take(&mut self.held);
        let raw = if held.is_empty() {
            tail
        } else {
            join(held, &tail)
        };
        if std::mem::take(&mut self.in_parts) {
            Piece::Part {
                bytes: raw,
                last: true,
            }
        } else {
            Piece::Event(Event { raw })
        }
    }

    fn hold(&mut self) -> Option<Piece> {
        let rest = std::mem::take(&mut self.chunk);
        let small = self.held.len() + rest.len() <= self.limit;
        if small && !self.in_parts {
            self.held.extend_from_slice(&rest);
            return None;
        }
        self.in_parts = true;
        let held = std::mem::take(&mut self.held);
        let bytes = if held.is_empty() {
            rest
        } else {
            join(held, &rest)
        };
        Some(Piece::Part { bytes, last: false })
    }
}

fn join(mut held: BytesMut, tail: &[u8]) -> Bytes {
    held.extend_from_slice(tail);
    held.freeze()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnd {
    Lf,
    Cr,
    CrLf,
}

/// Position of the scan within a line, kept from chunk to chunk.
#[derive(Debug, Default)]
struct LineScan {
    /// The current line has at least one byte.
    in_line: bool,
    /// The end of the previous line of this event.
    previous: Option<LineEnd>,
    /// The last byte was a CR whose LF may follow in the next chunk; says if its line was blank.
    open_cr: Option<bool>,
    /// The previous event ended at a lone CR; an LF right after it is no line of its own.
    skip_lf: bool,
}

impl LineScan {
    /// The offset just past the blank line that ends the current event, if it is in `bytes`.
    fn event_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        if std::mem::take(&mut self.skip_lf) && bytes.first() == Some(&b'\n') {
            at = 1;
        }
        if let Some(blank) = self.open_cr.take() {
            let lf = bytes.first() == Some(&b'\n');
            at = usize::from(lf);
            if self.line_ended(blank, if lf { LineEnd::CrLf } else { LineEnd::Cr }) {
                return Some(at);
            }
        }
        while let Some(found) = memchr2(b'\n', b'\r', bytes.get(at..)?) {
            let blank = found == 0 && !self.in_line;
            at += found + 1;
            let end = self.line_end(bytes, at, blank)?;
            at += usize::from(end == LineEnd::CrLf);
            if self.line_ended(blank, end) {
                return Some(at);
            }
        }
        self.in_line |= at < bytes.len();
        None
    }

    /// The end of the line whose terminator ends before `at`; none if the next chunk decides it.
    fn line_end(&mut self, bytes: &[u8], at: usize, blank: bool) -> Option<LineEnd> {
        if bytes.get(at - 1) == Some(&b'\n') {
            return Some(LineEnd::Lf);
        }
        if blank && self.previous == Some(LineEnd::Cr) {
            // A stream of lone CRs: waiting for an LF would hold this event back until the next.
            self.skip_lf = true;
            return Some(LineEnd::Cr);
        }
        match bytes.get(at) {
            Some(b'\n') => Some(LineEnd::CrLf),
            Some(_) => Some(LineEnd::Cr),
            None => {
                self.open_cr = Some(blank);
                self.in_line = false;
                None
            }
        }
    }

    /// Notes the end of a line; true if it ends the event.
    fn line_ended(&mut self, blank: bool, end: LineEnd) -> bool {
        self.in_line = false;
        self.previous = (!blank).then_some(end);
        blank
    }
}

/// The lines that are not empty.
struct FieldLines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for FieldLines<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        while !self.rest.is_empty() {
            let end = memchr2(b'\n', b'\r', self.rest).unwrap_or(self.rest.len());
            let (line, rest) = self.rest.split_at(end);
            self.rest = rest.get(1..).unwrap_or_default();
            if !line.is_empty() {
                return Some(line);
            }
        }
        None
    }
}

fn split_field(line: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b':', line) {
        Some(colon) => {
            let value = line.get(colon + 1..).unwrap_or_default();
            (
                line.get(..colon).unwrap_or_default(),
                value.strip_prefix(b" ").unwrap_or(value),
            )
        }
        None => (line, b""),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(limit: usize, chunks: &[&[u8]]) -> Vec<Piece> {
        let mut splitter = Splitter::with_limit(limit);
        let mut out = Vec::new();
        for chunk in chunks {
            splitter.push(Bytes::copy_from_slice(chunk));
            out.extend(std::iter::from_fn(|| splitter.next_piece()));
        }
        out.extend(splitter.finish().map(|rest| Piece::Part {
            bytes: rest.into_bytes(),
            last: true,
        }));
        out
    }

    fn raws(chunks: &[&[u8]]) -> Vec<String> {
        let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        pieces(DEFAULT_LIMIT, chunks)
            .iter()
            .map(|piece| match piece {
                Piece::Event(event) => text(event.raw()),
                Piece::Part { bytes, .. } => format!("rest:{}", text(bytes)),
            })
            .collect()
    }

    #[test]
    fn cuts_at_blank_lines_of_every_kind() {
        let cases: &[(&str, &[&str])] = &[
            ("data: a\n\ndata: b\n\n", &["data: a\n\n", "data: b\n\n"]),
            (
                "data: a\r\n\r\ndata: b\r\n\r\n",
                &["data: a\r\n\r\n", "data: b\r\n\r\n"],
            ),
            ("data: a\r\rdata: b\r\r", &["data: a\r\r", "data: b\r\r"]),
            (
                "data: a\n\r\ndata: b\r\n\n",
                &["data: a\n\r\n", "data: b\r\n\n"],
            ),
            (
                "data: a\r\r\ndata: b\n\n",
                &["data: a\r\r", "\ndata: b\n\n"],
            ),
            (
                ": ping\n\n\ndata: a\n\n",
                &[": ping\n\n", "\n", "data: a\n\n"],
            ),
            ("data: a\n\ndata: b", &["data: a\n\n", "rest:data: b"]),
        ];
        for (stream, expected) in cases {
            assert_eq!(raws(&[stream.as_bytes()]), *expected, "{stream:?}");
        }
    }

    #[test]
    fn a_lone_cr_event_does_not_wait_for_the_next() {
        assert_eq!(raws(&[b"data: a\r\r"]), ["data: a\r\r"]);
        let mut splitter = Splitter::default();
        splitter.push(Bytes::from_static(b"data: a\r\r"));
        assert!(matches!(splitter.next_piece(), Some(Piece::Event(_))));
    }

    #[test]
    fn reads_fields_comments_and_many_data_lines() {
        let event = Event::new(Bytes::from_static(
            b"\xEF\xBB\xBF: note\nevent: x\ndata: one\ndata:two\ndata:  three\nid\n\n",
        ));
        assert_eq!(event.name(), Some(&b"x"[..]));
        assert_eq!(event.data().unwrap(), &b"one\ntwo\n three"[..]);
        let names: Vec<_> = event.fields().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            [&b""[..], b"event", b"data", b"data", b"data", b"id"]
        );
        assert_eq!(Event::new(Bytes::from_static(b": ping\n\n")).data(), None);
    }

    #[test]
    fn an_event_past_the_limit_comes_in_parts() {
        let got = pieces(
            8,
            &[b"data: a\n\ndata: 0123", b"456789", b"\n\ndata: b\n\n"],
        );
        let part = |bytes: &'static [u8], last| Piece::Part {
            bytes: Bytes::from(bytes),
            last,
        };
        let event = |raw: &'static [u8]| {
            Piece::Event(Event {
                raw: Bytes::from(raw),
            })
        };
        assert_eq!(
            got,
            [
                event(b"data: a\n\n"),
                part(b"data: 0123", false),
                part(b"456789", false),
                part(b"\n\n", true),
                event(b"data: b\n\n"),
            ]
        );
    }

    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let token = prop_oneof![
            4 => Just("\n"), 3 => Just("\r"), 3 => Just("\r\n"), 2 => Just("data: x"),
            1 => Just(": c"), 1 => Just("event: e"), 1 => Just("\u{e9}"),
        ];
        prop::collection::vec(token, 0..40).prop_map(|tokens| tokens.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn where_chunks_end_changes_nothing(
            stream in stream(),
            cuts in prop::collection::vec(0usize..200, 0..12),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.extend([0, stream.len()]);
            cuts.sort_unstable();
            let chunks: Vec<&[u8]> = cuts.windows(2).map(|w| &stream[w[0]..w[1]]).collect();
            let whole = raws_lossy(&[&stream]);
            prop_assert_eq!(&raws_lossy(&chunks), &whole);
            let bytewise: Vec<&[u8]> = stream.chunks(1).collect();
            prop_assert_eq!(&raws_lossy(&bytewise), &whole);
            prop_assert_eq!(whole.concat(), stream);
        }

        #[test]
        fn parts_keep_every_byte_and_the_memory_bound(
            stream in stream(), limit in 0usize..20, size in 1usize..9,
        ) {
            let mut splitter = Splitter::with_limit(limit);
            let mut out = Vec::new();
            for chunk in stream.chunks(size) {
                splitter.push(Bytes::copy_from_slice(chunk));
                while let Some(piece) = splitter.next_piece() {
                    match piece {
                        Piece::Event(event) => out.extend_from_slice(event.raw()),
                        Piece::Part { bytes, .. } => out.extend_from_slice(&bytes),
                    }
                }
                prop_assert!(splitter.held.len() <= limit);
            }
            out.extend(splitter.finish().map(Piece::into_bytes).unwrap_or_default());
            prop_assert_eq!(out, stream);
        }
    }

    fn raws_lossy(chunks: &[&[u8]]) -> Vec<Vec<u8>> {
        pieces(DEFAULT_LIMIT, chunks)
            .into_iter()
            .map(|piece| match piece {
                Piece::Event(event) => event.into_raw().to_vec(),
                Piece::Part { bytes, .. } => bytes.to_vec(),
            })
            .collect()
    }
}
