//! Translates a provider's stream into a client's, event by event, whatever chunks it comes in. It
//! knows no format: readers and writers do.

use bytes::{Bytes, BytesMut};
use llm_router_domain::format::Format;

use super::TranslateError;
use super::event::{Event, ReadStream, Sink, WriteStream};
use super::failure::Failure;
use super::json::{self, Json};
use super::options::ResponseContext;
use super::sequence::Sequencer;
use crate::formats::{client_codec, codec};
use crate::sse::{Piece, Splitter};

/// The longest event that is taken in: a generated image fits.
const EVENT_LIMIT: usize = 64 << 20;

/// Ends the streams of OpenAI chat, and of some servers of other formats too.
pub(crate) const DONE: &str = "[DONE]";

/// How a provider's stream ended.
#[derive(Clone, Debug)]
pub enum StreamEnd {
    /// The provider closed it properly.
    Complete,
    /// It broke: the connection did, or a time ran out.
    Broken(TranslateError),
}

/// Translates one answer's stream.
///
/// Feed it the provider's bytes as they come, whatever their boundaries; what it appends are whole
/// events of the client's format. An answer that breaks off ends in an error event and never in a
/// stop that the provider didn't send.
pub struct StreamTranslator {
    splitter: Splitter,
    source: Source,
    sequencer: Sequencer,
    writer: Box<dyn WriteStream>,
    format: Format,
    context: ResponseContext,
    ended: bool,
}

/// What comes from the provider.
enum Source {
    /// Nothing yet, or only white space.
    Unknown(BytesMut),
    Events(Box<dyn ReadStream>),
    /// One JSON document: the provider doesn't stream though asked to.
    Document(BytesMut),
}

impl std::fmt::Debug for StreamTranslator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamTranslator")
            .field("from", &self.format)
            .field("ended", &self.ended)
            .finish_non_exhaustive()
    }
}

impl StreamTranslator {
    /// A translator from the provider's format `from` to the client's format `to`.
    ///
    /// # Errors
    /// [`TranslateError`] when there are no clients of the format `to`.
    pub fn new(from: Format, to: Format, context: ResponseContext) -> Result<Self, TranslateError> {
        let writer = client_codec(to)?.stream_writer(context.clone());
        Ok(Self {
            splitter: Splitter::with_limit(EVENT_LIMIT),
            source: Source::Unknown(BytesMut::new()),
            sequencer: Sequencer::default(),
            writer,
            format: from,
            context,
            ended: false,
        })
    }

    /// Takes the next bytes and appends what they say to `out`.
    pub fn feed(&mut self, chunk: Bytes, out: &mut BytesMut) {
        if self.ended {
            return;
        }
        let chunk = match &mut self.source {
            Source::Events(_) => chunk,
            Source::Document(held) if held.len() + chunk.len() > EVENT_LIMIT => {
                return self.fail(&too_large(), out);
            }
            Source::Document(held) => return held.extend_from_slice(&chunk),
            Source::Unknown(held) => {
                held.extend_from_slice(&chunk);
                match first_byte(held) {
                    None => return,
                    Some(b'{' | b'[') => {
                        let held = std::mem::take(held);
                        self.source = Source::Document(held);
                        return;
                    }
                    Some(_) => {
                        let held = std::mem::take(held);
                        self.source =
                            Source::Events(codec(self.format).stream_reader(&self.context));
                        held.freeze()
                    }
                }
            }
        };
        self.splitter.push(chunk);
        while let Some(piece) = self.splitter.next_piece() {
            match piece {
                Piece::Event(event) => self.event(&event, out),
                Piece::Part { .. } => self.fail(&too_large(), out),
            }
        }
    }

    /// Ends the stream. Nothing is appended if it has ended already.
    pub fn finish(&mut self, end: StreamEnd, out: &mut BytesMut) {
        if let Some(rest) = self.splitter.finish() {
            self.event(&crate::sse::Event::new(rest), out);
        }
        if let Source::Document(held) = &mut self.source {
            let held = std::mem::take(held);
            self.document(&held, out);
        }
        if self.ended {
            return;
        }
        let complete = matches!(&self.source, Source::Events(reader) if reader.is_complete());
        if complete {
            self.drive(out, |reader, sink| reader.end(sink));
            if !self.ended {
                self.writer.end(out);
                self.ended = true;
            }
            return;
        }
        let failure = match end {
            StreamEnd::Complete => {
                let message = "The provider's stream ended before the answer did.";
                Failure::new(502, "upstream_error", message)
            }
            StreamEnd::Broken(error) => error.into(),
        };
        self.fail(&failure, out);
    }

    /// Whether an end was written: whatever follows is ignored.
    #[must_use]
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    fn event(&mut self, event: &crate::sse::Event, out: &mut BytesMut) {
        let Some(data) = event.data().filter(|_| !self.ended) else {
            return;
        };
        let data = String::from_utf8_lossy(&data);
        let name = event.name().and_then(|name| std::str::from_utf8(name).ok());
        self.drive(out, |reader, sink| reader.read(name, &data, sink));
    }

    /// Lets the reader speak and writes what it says, in turn.
    fn drive(
        &mut self,
        out: &mut BytesMut,
        speak: impl FnOnce(&mut dyn ReadStream, &mut Sink<'_>),
    ) {
        let Source::Events(reader) = &mut self.source else {
            return;
        };
        let (sequencer, writer, ended) = (&mut self.sequencer, &mut self.writer, &mut self.ended);
        speak(reader.as_mut(), &mut |event| {
            sequencer.push(event, &mut |event| {
                write(event, writer.as_mut(), ended, out)
            });
        });
    }

    /// A plain answer where a stream was expected.
    fn document(&mut self, body: &[u8], out: &mut BytesMut) {
        let text = String::from_utf8_lossy(body);
        let Ok(json) = Json::parse(&text) else {
            return;
        };
        let (writer, mut ended) = (self.writer.as_mut(), false);
        codec(self.format).read_document(json, &self.context, &mut |event| {
            write(event, writer, &mut ended, out);
        });
        if !ended {
            self.writer.end(out);
        }
        self.ended = true;
    }

    fn fail(&mut self, failure: &Failure, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.ended, true) {
            self.writer.fail(failure, out);
        }
    }
}

fn too_large() -> Failure {
    Failure::new(
        502,
        "upstream_error",
        "The provider sent an event that is too large.",
    )
}

fn write(event: Event<'_>, writer: &mut dyn WriteStream, ended: &mut bool, out: &mut BytesMut) {
    if *ended {
        return;
    }
    *ended = matches!(event, Event::Failed(_));
    writer.write(&event, out);
}

/// The first byte that is no white space and no byte order mark.
fn first_byte(bytes: &[u8]) -> Option<u8> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    bytes
        .iter()
        .copied()
        .find(|byte| !byte.is_ascii_whitespace())
}

/// Parses an event's data. What is no JSON is passed over, as SDKs do with keep-alives, unless it
/// begins like an event: then something is lost, and the stream fails.
pub(crate) fn parse_event(
    data: &str,
    sink: &mut Sink<'_>,
    take: impl FnOnce(Json<'_>, &mut Sink<'_>),
) {
    if data.trim() == DONE || !data.trim_start().starts_with(['{', '[']) {
        return;
    }
    if let Ok(json) = Json::parse(data) {
        return take(json, sink);
    }
    let repaired = json::without_lone_surrogates(data);
    match Json::parse(&repaired) {
        Ok(json) => take(json, sink),
        Err(_) => {
            let message = "The provider sent an event that is not JSON.";
            sink(Event::Failed(Failure::new(502, "upstream_error", message)));
        }
    }
}
