//! Translates a provider's stream into a client's, event by event. It must not cut the stream, nor
//! know a format: readers and writers do.

use bytes::BytesMut;
use llm_router_domain::format::Format;

use super::TranslateError;
use super::call_ids::CallIds;
use super::event::{AnswerEvent, BlockKind, ReadStream, Sink, WriteStream};
use super::json::{self, Json};
use super::options::ResponseContext;
use super::provider_error::ProviderError;
use super::sequence::Sequencer;
use crate::formats::{Codec, client_codec, codec};
use crate::sse;

/// Ends the streams of OpenAI chat, and of some servers of other formats too.
pub(crate) const DONE: &str = "[DONE]";

/// The end of a provider's stream.
#[derive(Clone, Debug)]
pub(crate) enum StreamEnd {
    /// The provider closed it properly.
    Complete,
    /// It broke: the connection did, or a time ran out.
    Broken(TranslateError),
}

/// Translates the events of one answer.
///
/// It appends whole events of the client's format. An answer that breaks off ends in an
/// error event and never in a stop that the provider didn't send.
pub(crate) struct StreamTranslator {
    codec: &'static dyn Codec,
    reader: Box<dyn ReadStream>,
    sequencer: Sequencer,
    writer: Box<dyn WriteStream>,
    context: ResponseContext,
    call_ids: CallIds,
    ended: bool,
    /// The end that was written is an error.
    failed: bool,
}

impl StreamTranslator {
    /// A translator from the provider's format `from` to the client's format `to`.
    ///
    /// # Errors
    /// [`TranslateError`] when there are no clients of the format `to`.
    pub(crate) fn new(
        from: Format,
        to: Format,
        context: ResponseContext,
    ) -> Result<Self, TranslateError> {
        let codec = codec(from);
        Ok(Self {
            codec,
            reader: codec.stream_reader(&context),
            sequencer: Sequencer::default(),
            writer: client_codec(to)?.stream_writer(context.clone()),
            call_ids: context.free_call_ids(),
            context,
            ended: false,
            failed: false,
        })
    }

    /// Takes an event, whose data is `data`, and appends what it says to `out`.
    pub(crate) fn event(&mut self, event: &sse::Event, data: &[u8], out: &mut BytesMut) {
        if self.ended {
            return;
        }
        let data = String::from_utf8_lossy(data);
        let name = event.name().and_then(|name| std::str::from_utf8(name).ok());
        self.drive(out, |reader, sink| reader.read(name, &data, sink));
    }

    /// Fails because an event is too long to be held.
    pub(crate) fn too_large(&mut self, out: &mut BytesMut) {
        let message = "The provider sent an event that is too large.";
        self.fail(&ProviderError::new(502, "upstream_error", message), out);
    }

    /// Takes a whole answer that came as one JSON document; what is no JSON is passed over.
    pub(crate) fn document(&mut self, body: &[u8], out: &mut BytesMut) {
        let text = String::from_utf8_lossy(body);
        let Ok(json) = Json::parse(&text) else {
            return;
        };
        let (writer, mut ended) = (self.writer.as_mut(), false);
        let (ids, seed) = (&mut self.call_ids, &self.context.request_id);
        self.codec.read_document(json, &self.context, &mut |event| {
            write(with_own_id(event, ids, seed), writer, &mut ended, out);
        });
        if !ended {
            self.writer.end(out);
        }
        self.failed |= ended;
        self.ended = true;
    }

    /// Ends the stream. Nothing is appended if it has ended already.
    pub(crate) fn finish(&mut self, end: StreamEnd, out: &mut BytesMut) {
        if self.ended {
            return;
        }
        if self.reader.is_complete() {
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
                ProviderError::new(502, "upstream_error", message)
            }
            StreamEnd::Broken(error) => error.into(),
        };
        self.fail(&failure, out);
    }

    /// Returns true if an end was written: whatever follows is ignored.
    pub(crate) const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Returns true if that end is an error.
    pub(crate) const fn has_failed(&self) -> bool {
        self.failed
    }

    /// Lets the reader speak and writes what it says, in turn.
    fn drive(
        &mut self,
        out: &mut BytesMut,
        speak: impl FnOnce(&mut dyn ReadStream, &mut Sink<'_>),
    ) {
        let (sequencer, writer, ended) = (&mut self.sequencer, &mut self.writer, &mut self.ended);
        let (ids, seed) = (&mut self.call_ids, &self.context.request_id);
        speak(self.reader.as_mut(), &mut |event| {
            sequencer.push(with_own_id(event, ids, seed), &mut |event| {
                write(event, writer.as_mut(), ended, out)
            });
        });
        // An error is the only end that events bring about.
        self.failed |= self.ended;
    }

    fn fail(&mut self, failure: &ProviderError, out: &mut BytesMut) {
        if !std::mem::replace(&mut self.ended, true) {
            self.failed = true;
            self.writer.fail(failure, out);
        }
    }
}

/// Gives a call that begins an id of its own within the conversation.
fn with_own_id<'e>(event: AnswerEvent<'e>, ids: &mut CallIds, seed: &str) -> AnswerEvent<'e> {
    match event {
        AnswerEvent::Open {
            choice,
            block,
            kind:
                BlockKind::Tool {
                    id,
                    name,
                    signature,
                },
        } => AnswerEvent::Open {
            choice,
            block,
            kind: BlockKind::Tool {
                id: ids.take_or_make(id, seed),
                name,
                signature,
            },
        },
        other => other,
    }
}

fn write(
    event: AnswerEvent<'_>,
    writer: &mut dyn WriteStream,
    ended: &mut bool,
    out: &mut BytesMut,
) {
    if *ended {
        return;
    }
    *ended = matches!(event, AnswerEvent::Failed(_));
    writer.write(&event, out);
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
            sink(AnswerEvent::Failed(ProviderError::new(
                502,
                "upstream_error",
                message,
            )));
        }
    }
}
