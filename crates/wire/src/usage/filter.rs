//! Taking out of a stream what only [`super::ask_for_usage`] put in: the extra chunk and the
//! `"usage":null` of the others. Every other byte passes as it came.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

use crate::json;
use crate::sse::{Event, Piece, Splitter};

use super::stream::{EventMeter, may_hold_usage};
use super::{Observed, UsageLayout};

const NULL: &[u8] = b"\"usage\":null";

static KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage\""));

/// Meters a stream like [`super::StreamMeter`] and passes it on as it would have been without the
/// usage option.
///
/// An event is passed on once it is whole: half of it is of no use to a client, and whether it
/// may pass is known only then. Events past the splitter's limit pass as they are.
#[derive(Debug)]
pub struct UsageFilter {
    splitter: Splitter,
    events: EventMeter,
}

impl UsageFilter {
    /// A filter for a stream of chat or completions chunks.
    #[must_use]
    pub fn new(layout: &'static UsageLayout) -> Self {
        Self {
            splitter: Splitter::default(),
            events: EventMeter::new(layout),
        }
    }

    /// Takes the next chunk; what the client may see by now. It is the chunk itself, uncopied,
    /// where nothing had to be changed or held back.
    pub fn pass(&mut self, chunk: Bytes) -> Bytes {
        let carried = self.splitter.holds_bytes();
        self.splitter.push(chunk.clone());
        let mut out = Output {
            chunk,
            same: if carried { None } else { Some(0) },
            own: BytesMut::new(),
        };
        while let Some(piece) = self.splitter.next_piece() {
            self.events.piece(&piece);
            out.piece(&piece);
        }
        out.into_bytes()
    }

    /// What was seen so far.
    #[must_use]
    pub const fn observed(&self) -> &Observed {
        &self.events.observed
    }

    /// Ends the stream: the bytes held back and what was seen.
    #[must_use]
    pub fn finish(mut self) -> (Bytes, Observed) {
        let rest = self.splitter.finish().unwrap_or_default();
        if rest.is_empty() {
            return (rest, self.events.observed);
        }
        self.events.rest(rest.clone());
        let event = Event::new(rest.clone());
        let left = match change(&event) {
            Change::None => rest,
            Change::Drop => Bytes::new(),
            Change::Cut(cut) => without(&rest, cut).freeze(),
        };
        (left, self.events.observed)
    }
}

/// The bytes of one chunk that pass: a prefix of the chunk as long as nothing was changed.
struct Output {
    chunk: Bytes,
    /// How much of the chunk passes unchanged, while all of it up to there does.
    same: Option<usize>,
    own: BytesMut,
}

impl Output {
    fn piece(&mut self, piece: &Piece) {
        match piece {
            Piece::Part { bytes, .. } => self.keep(bytes),
            Piece::Event(event) => match change(event) {
                Change::None => self.keep(event.raw()),
                Change::Drop => self.diverge(),
                Change::Cut(cut) => {
                    self.diverge();
                    let raw = event.raw();
                    self.own
                        .extend_from_slice(raw.get(..cut.start).unwrap_or_default());
                    self.own
                        .extend_from_slice(raw.get(cut.end..).unwrap_or_default());
                }
            },
        }
    }

    fn keep(&mut self, raw: &Bytes) {
        match &mut self.same {
            Some(end) => *end += raw.len(),
            None => self.own.extend_from_slice(raw),
        }
    }

    fn diverge(&mut self) {
        if let Some(end) = self.same.take() {
            self.own.reserve(self.chunk.len());
            self.own
                .extend_from_slice(self.chunk.get(..end).unwrap_or_default());
        }
    }

    fn into_bytes(self) -> Bytes {
        match self.same {
            Some(end) => self.chunk.slice(..end.min(self.chunk.len())),
            None => self.own.freeze(),
        }
    }
}

enum Change {
    None,
    /// The extra chunk: no choices, but usage.
    Drop,
    /// These bytes of the event go.
    Cut(Range<usize>),
}

fn change(event: &Event) -> Change {
    let Some(Cow::Borrowed(data)) = event.data() else {
        return Change::None;
    };
    if may_hold_usage(data) && is_extra(data) {
        return Change::Drop;
    }
    let Some(cut) = null_usage(data) else {
        return Change::None;
    };
    let offset = data.as_ptr().addr() - event.raw().as_ptr().addr();
    Change::Cut(offset + cut.start..offset + cut.end)
}

fn is_extra(data: &[u8]) -> bool {
    let mut no_choices = false;
    let mut usage = false;
    for (key, value) in json::entries(data) {
        match key {
            b"choices" => no_choices = json::elements(value).next().is_none(),
            b"usage" => usage = json::is_object(value),
            _ => {}
        }
    }
    no_choices && usage
}

/// The member `"usage":null` at the top of the data, with the comma that belongs to it.
fn null_usage(data: &[u8]) -> Option<Range<usize>> {
    let key = KEY.find(data)?;
    let end = key + NULL.len();
    // As OpenAI writes it: after a comma, without spaces, near the end.
    let usual = data.get(key..end) == Some(NULL)
        && key.checked_sub(1).and_then(|comma| data.get(comma)) == Some(&b',')
        && closes_the_top(data.get(end..).unwrap_or_default());
    if usual {
        Some(key - 1..end)
    } else {
        searched_null_usage(data)
    }
}

/// Whether what follows a value closes just the outermost object: the value was a member of it.
fn closes_the_top(rest: &[u8]) -> bool {
    let mut at = 0;
    while let Some(byte) = rest.get(at) {
        match byte {
            b'{' | b'[' | b']' => return false,
            b'}' => return rest.get(at + 1..).is_none_or(<[u8]>::is_empty),
            b'"' => match json::string_len(rest.get(at..).unwrap_or_default()) {
                Some(length) => at += length,
                None => return false,
            },
            _ => at += 1,
        }
    }
    false
}

fn searched_null_usage(data: &[u8]) -> Option<Range<usize>> {
    let mut previous_end = None;
    for member in json::members(data) {
        let found = data.get(member.key.clone()) == Some(b"usage")
            && data.get(member.value.clone()) == Some(b"null");
        if !found {
            previous_end = Some(member.value.end);
            continue;
        }
        return Some(match previous_end {
            Some(end) => end..member.value.end,
            None => member.key.start - 1..after_comma(data, member.value.end),
        });
    }
    None
}

fn after_comma(data: &[u8], end: usize) -> usize {
    let comma = json::skip_space(data, end);
    if data.get(comma) == Some(&b',') {
        json::skip_space(data, comma + 1)
    } else {
        end
    }
}

fn without(raw: &[u8], cut: Range<usize>) -> BytesMut {
    let mut kept = BytesMut::with_capacity(raw.len());
    kept.extend_from_slice(raw.get(..cut.start).unwrap_or_default());
    kept.extend_from_slice(raw.get(cut.end..).unwrap_or_default());
    kept
}
