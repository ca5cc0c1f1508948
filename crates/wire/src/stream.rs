//! A provider's streamed answer on its way to a client. It is cut into events once: each event is
//! judged while the answer hasn't begun, metered, and passed on or translated. It must not know
//! connections, attempts or what is tried next.

use bytes::{Bytes, BytesMut};
use llm_router_domain::format::{Endpoint, Format};
use memchr::memmem;
use serde_json::Value;

use crate::error::{ErrorBody, event_status, provider_message};
use crate::formats::codec;
use crate::sse::{Event, Piece, Splitter};
use crate::translate::{ResponseContext, StreamEnd, StreamTranslator, TranslateError};
use crate::usage::{EventChange, Observations, StreamMeter, UsageLayout, without_usage};

/// The longest event that is held to be translated, in bytes: a generated image fits.
const TRANSLATED_LIMIT: usize = 64 << 20;

/// A streamed answer between a provider and a client.
///
/// Feed it the provider's chunks, wherever they end, and send the client what comes out: whole
/// events, but for those past the splitter's limit. A chunk that passes unchanged is not copied.
pub struct AnswerStream {
    /// The provider's format.
    from: Format,
    /// The client's format.
    to: Format,
    splitter: Splitter,
    start: StreamStart,
    meter: StreamMeter,
    output: Delivery,
    /// The client has been sent a part of an event and not its end.
    inside_event: bool,
}

/// Form in which the client is sent the answer.
enum Delivery {
    /// Every event as it came.
    Unchanged,
    /// The events without the usage that the client didn't ask for.
    WithoutUsage,
    /// The events in the client's format.
    Translated(Box<Translation>),
}

/// A translation and the form of what it translates.
struct Translation {
    form: Form,
    translator: StreamTranslator,
}

/// The form of a provider's answer to a request for a stream; its first byte shows it.
enum Form {
    /// Not known yet: white space only.
    Unknown(BytesMut),
    Events,
    /// One JSON document: the provider doesn't stream though asked to.
    Document(BytesMut),
}

impl std::fmt::Debug for AnswerStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AnswerStream")
            .field("from", &self.from)
            .field("to", &self.to)
            .field("start", &self.start)
            .finish_non_exhaustive()
    }
}

impl AnswerStream {
    /// The answer to a request to `endpoint` by a provider that speaks `from`, passed on as it
    /// comes.
    #[must_use]
    pub fn pass_through(from: Format, endpoint: Endpoint) -> Self {
        Self::new(from, endpoint, Splitter::default(), Delivery::Unchanged)
    }

    /// The same where the provider was asked for usage and the client didn't ask for it: the extra
    /// chunk and the `"usage":null` of the others are removed.
    #[must_use]
    pub fn without_usage(from: Format, endpoint: Endpoint) -> Self {
        Self::new(from, endpoint, Splitter::default(), Delivery::WithoutUsage)
    }

    /// The answer to a request to `endpoint` by a provider that speaks `from`, translated.
    ///
    /// An answer that breaks off ends in an error event and never in a stop that the provider
    /// didn't send.
    ///
    /// # Errors
    /// [`TranslateError`] if no client speaks the endpoint's format.
    pub fn translate(
        from: Format,
        endpoint: Endpoint,
        context: ResponseContext,
    ) -> Result<Self, TranslateError> {
        let translation = Translation {
            form: Form::Unknown(BytesMut::new()),
            translator: StreamTranslator::new(from, endpoint.format(), context)?,
        };
        let splitter = Splitter::with_limit(TRANSLATED_LIMIT);
        let output = Delivery::Translated(Box::new(translation));
        Ok(Self::new(from, endpoint, splitter, output))
    }

    fn new(from: Format, endpoint: Endpoint, splitter: Splitter, output: Delivery) -> Self {
        Self {
            from,
            to: endpoint.format(),
            splitter,
            start: StreamStart::Pending,
            meter: StreamMeter::new(UsageLayout::for_endpoint(from, endpoint)),
            output,
            inside_event: false,
        }
    }

    /// Takes the next chunk and returns what the client may be sent by now.
    ///
    /// An answer that begins with an error is passed on too; [`Self::start`] tells, and it is the
    /// caller's to send it or not.
    pub fn push(&mut self, chunk: Bytes) -> Bytes {
        let Delivery::Translated(translation) = &mut self.output else {
            return self.pass(chunk);
        };
        let mut out = BytesMut::new();
        if let Some(events) = translation.take(chunk, &mut out) {
            self.splitter.push(events);
            self.translate_pieces(&mut out);
        }
        out.freeze()
    }

    /// Takes the end of the answer, as the provider set it, and returns the rest for the client.
    pub fn end(&mut self) -> Bytes {
        let rest = self.take_rest();
        if matches!(self.output, Delivery::Translated(_)) {
            return self.finish_translation(rest, StreamEnd::Complete);
        }
        let mut passed = PassedBytes::new(Bytes::new(), true);
        if let Some(rest) = rest {
            self.pass_piece(&rest, &mut passed);
        }
        passed.into_bytes()
    }

    /// Breaks the answer off: returns the event that tells the client of `error`. It is empty if
    /// the client has been told an end already.
    pub fn break_off(&mut self, error: &ErrorBody<'_>) -> Bytes {
        let rest = self.take_rest();
        if matches!(self.output, Delivery::Translated(_)) {
            let broken = StreamEnd::Broken(TranslateError {
                status: error.status,
                code: error.code.to_owned().into(),
                message: error.message.to_owned(),
                param: error.param.map(str::to_owned),
                details: error.details.cloned().map(Box::new),
            });
            return self.finish_translation(rest, broken);
        }
        if let Some(rest) = &rest {
            self.meter.piece(rest);
        }
        let event = error.render_event(self.to);
        if self.inside_event {
            [Bytes::from_static(b"\n\n"), event].concat().into()
        } else {
            event
        }
    }

    /// The verdict on the first event.
    #[must_use]
    pub const fn start(&self) -> &StreamStart {
        &self.start
    }

    /// The meter's observations so far.
    #[must_use]
    pub const fn observations(&self) -> &Observations {
        self.meter.observations()
    }

    /// The meter's observations as if the stream ended here: those of an event that lacks its blank
    /// line too.
    #[must_use]
    pub fn final_observations(&self) -> Observations {
        match self.splitter.rest() {
            None => self.meter.observations().clone(),
            Some(rest) => {
                let mut meter = self.meter.clone();
                meter.piece(&rest);
                meter.observations().clone()
            }
        }
    }

    /// Returns true if a translated answer has ended, in an error event of the provider's or at
    /// the end. Nothing follows.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        match &self.output {
            Delivery::Translated(translation) => translation.translator.has_ended(),
            Delivery::Unchanged | Delivery::WithoutUsage => false,
        }
    }
}

impl AnswerStream {
    fn pass(&mut self, chunk: Bytes) -> Bytes {
        let mut passed = PassedBytes::new(chunk.clone(), self.splitter.holds_bytes());
        self.splitter.push(chunk);
        while let Some(piece) = self.splitter.next_piece() {
            self.pass_piece(&piece, &mut passed);
        }
        passed.into_bytes()
    }

    fn pass_piece(&mut self, piece: &Piece, passed: &mut PassedBytes) {
        let event = match piece {
            Piece::Event(event) => event,
            Piece::Part { bytes, last } => {
                self.meter.part(bytes, *last);
                self.inside_event = !last;
                self.content_began();
                return passed.keep(bytes);
            }
        };
        let data = event.data();
        if let Some(data) = &data {
            self.meter.data(data);
        }
        let change = match (&self.output, &data) {
            (Delivery::WithoutUsage, Some(data)) => without_usage(event, data),
            _ => EventChange::None,
        };
        if self.start.is_pending() && change != EventChange::Drop {
            self.start = judge(self.from, event, data.as_deref());
        }
        match change {
            EventChange::None => passed.keep(event.raw()),
            EventChange::Drop => passed.leave_out(),
            EventChange::Cut(cut) => passed.cut(event.raw(), cut),
        }
    }

    fn translate_pieces(&mut self, out: &mut BytesMut) {
        while let Some(piece) = self.splitter.next_piece() {
            self.translate_piece(&piece, out);
        }
    }

    fn translate_piece(&mut self, piece: &Piece, out: &mut BytesMut) {
        let Delivery::Translated(translation) = &mut self.output else {
            return;
        };
        let event = match piece {
            Piece::Event(event) => event,
            Piece::Part { bytes, last } => {
                self.meter.part(bytes, *last);
                translation.translator.too_large(out);
                return self.content_began();
            }
        };
        let Some(data) = event.data() else {
            return;
        };
        self.meter.data(&data);
        if self.start.is_pending() {
            self.start = judge(self.from, event, Some(&data));
        }
        translation.translator.event(event, &data, out);
    }

    fn finish_translation(&mut self, rest: Option<Piece>, end: StreamEnd) -> Bytes {
        let mut out = BytesMut::new();
        if let Some(rest) = rest {
            self.translate_piece(&rest, &mut out);
        }
        if let Delivery::Translated(translation) = &mut self.output {
            let translator = &mut translation.translator;
            if let Form::Document(held) = &mut translation.form {
                translator.document(&std::mem::take(held), &mut out);
            }
            translator.finish(end, &mut out);
        }
        out.freeze()
    }

    /// The event that the stream ends in, if it lacks its blank line. It isn't judged: nothing is
    /// left that could be held back.
    fn take_rest(&mut self) -> Option<Piece> {
        let rest = self.splitter.finish();
        if rest.is_some() {
            self.content_began();
        }
        rest
    }

    /// An event that is too long to be held is content: no provider's error is.
    fn content_began(&mut self) {
        if self.start.is_pending() {
            self.start = StreamStart::Content;
        }
    }
}

impl Translation {
    /// Takes a chunk and returns what is to be cut into events.
    fn take(&mut self, chunk: Bytes, out: &mut BytesMut) -> Option<Bytes> {
        match &mut self.form {
            Form::Events => Some(chunk),
            Form::Document(held) if held.len() + chunk.len() > TRANSLATED_LIMIT => {
                self.translator.too_large(out);
                None
            }
            Form::Document(held) => {
                held.extend_from_slice(&chunk);
                None
            }
            Form::Unknown(held) => {
                held.extend_from_slice(&chunk);
                let first = first_byte(held)?;
                let held = std::mem::take(held);
                if matches!(first, b'{' | b'[') {
                    self.form = Form::Document(held);
                    return None;
                }
                self.form = Form::Events;
                Some(held.freeze())
            }
        }
    }
}

/// The first byte that is no white space and no byte order mark.
fn first_byte(bytes: &[u8]) -> Option<u8> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    bytes
        .iter()
        .copied()
        .find(|byte| !byte.is_ascii_whitespace())
}

/// The bytes of one chunk that pass: a prefix of the chunk, shared, as long as nothing was changed.
struct PassedBytes {
    chunk: Bytes,
    /// Length of the chunk's part that passes unchanged, while all of it up to there does.
    same: Option<usize>,
    own: BytesMut,
}

impl PassedBytes {
    /// `carried`: bytes before the chunk belong to its first event.
    fn new(chunk: Bytes, carried: bool) -> Self {
        Self {
            chunk,
            same: if carried { None } else { Some(0) },
            own: BytesMut::new(),
        }
    }

    fn keep(&mut self, raw: &Bytes) {
        match &mut self.same {
            Some(end) => *end += raw.len(),
            None => self.own.extend_from_slice(raw),
        }
    }

    /// Leaves an event out.
    fn leave_out(&mut self) {
        if let Some(end) = self.same.take() {
            self.own.reserve(self.chunk.len());
            self.own
                .extend_from_slice(self.chunk.get(..end).unwrap_or_default());
        }
    }

    /// Leaves a part of an event out.
    fn cut(&mut self, raw: &Bytes, cut: std::ops::Range<usize>) {
        self.leave_out();
        self.own
            .extend_from_slice(raw.get(..cut.start).unwrap_or_default());
        self.own
            .extend_from_slice(raw.get(cut.end..).unwrap_or_default());
    }

    fn into_bytes(self) -> Bytes {
        match self.same {
            Some(end) if end >= self.chunk.len() => self.chunk,
            Some(end) => self.chunk.slice(..end),
            None => self.own.freeze(),
        }
    }
}

/// Begin of a stream, by its first event.
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

impl StreamStart {
    /// Returns true if no event has said anything yet.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        matches!(self, Self::Pending)
    }
}

/// Judges a stream in `format` by its first event; `data` is the event's. Comments decide nothing.
fn judge(format: Format, event: &Event, data: Option<&[u8]>) -> StreamStart {
    let Some(data) = data else {
        return StreamStart::Pending;
    };
    let named_error = event.name() == Some(b"error");
    let may_be_error = named_error || memmem::find(data, b"\"error\"").is_some();
    if !may_be_error {
        return StreamStart::Content;
    }
    let error = match serde_json::from_slice::<Value>(data) {
        Ok(value) => {
            let is_error = named_error || codec(format).is_error_event(&value);
            is_error.then(|| event_status(&value))
        }
        Err(_) => named_error.then_some(502),
    };
    match error {
        Some(status) => StreamStart::Error {
            status,
            message: provider_message(data),
        },
        None => StreamStart::Content,
    }
}

#[cfg(test)]
mod tests {
    use llm_router_domain::usage::Class;

    use super::*;
    use crate::sse::DEFAULT_LIMIT;

    const CHAT: (Format, Endpoint) = (Format::OpenAiChat, Endpoint::ChatCompletions);

    fn text(bytes: &Bytes) -> &str {
        std::str::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_chunk_of_whole_events_is_not_copied() {
        let chunk = Bytes::from("data: {\"a\":1}\n\ndata: {\"b\":1}\n\n".to_owned());
        for mut stream in [
            AnswerStream::pass_through(CHAT.0, CHAT.1),
            AnswerStream::without_usage(CHAT.0, CHAT.1),
        ] {
            let passed = stream.push(chunk.clone());
            assert_eq!(passed.as_ptr_range(), chunk.as_ptr_range());
        }
    }

    #[test]
    fn only_whole_events_pass() {
        let mut stream = AnswerStream::pass_through(CHAT.0, CHAT.1);
        let chunks = [
            "data: {\"a\":1}\n\ndata: {",
            "\"b\":2",
            "}\n\n",
            "data: {\"c\"",
        ];
        let sent: Vec<Bytes> = chunks.map(|chunk| stream.push(chunk.into())).into();
        let sent: Vec<&str> = sent.iter().map(text).collect();
        assert_eq!(sent, ["data: {\"a\":1}\n\n", "", "data: {\"b\":2}\n\n", ""]);
        assert_eq!(text(&stream.end()), "data: {\"c\"");
    }

    #[test]
    fn the_first_event_is_judged_and_no_other() {
        let error = "data: {\"error\":{\"message\":\"slow\",\"code\":429}}\n\n";
        let failed = StreamStart::Error {
            status: 429,
            message: Some("slow".to_owned()),
        };
        let content = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";
        let translated = || AnswerStream::translate(CHAT.0, Endpoint::Messages, Default::default());
        for (chunks, expected) in [
            ([": ping\n\n", "data: {"], StreamStart::Pending),
            ([": ping\n\n", error], failed),
            ([content, error], StreamStart::Content),
        ] {
            for mut stream in [
                AnswerStream::pass_through(CHAT.0, CHAT.1),
                translated().unwrap(),
            ] {
                for chunk in chunks {
                    stream.push(chunk.into());
                }
                assert_eq!(*stream.start(), expected, "{chunks:?}");
            }
        }
    }

    #[test]
    fn usage_that_was_not_asked_for_is_no_start() {
        let usage = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n";
        let mut stream = AnswerStream::without_usage(CHAT.0, CHAT.1);
        assert_eq!(text(&stream.push(usage.into())), "");
        assert_eq!(*stream.start(), StreamStart::Pending);
        assert!(stream.observations().reported_usage().is_some());
    }

    const BROKEN: ErrorBody<'static> = ErrorBody {
        status: 504,
        code: "upstream_timeout",
        message: "Silence.",
        param: None,
        details: None,
        request_id: "req-1",
    };

    #[test]
    fn a_broken_stream_ends_in_an_error_event_of_its_own() {
        let begin = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\ndata: {\"ch";
        let mut stream = AnswerStream::pass_through(CHAT.0, CHAT.1);
        stream.push(begin.into());
        let event = stream.break_off(&BROKEN);
        assert!(text(&event).starts_with("data: {\"error\":"), "{event:?}");

        let long = format!("data: {}", "x".repeat(DEFAULT_LIMIT));
        let mut stream = AnswerStream::pass_through(CHAT.0, CHAT.1);
        assert_eq!(stream.push(long.clone().into()).len(), long.len());
        assert_eq!(*stream.start(), StreamStart::Content);
        let event = stream.break_off(&BROKEN);
        assert!(
            text(&event).starts_with("\n\ndata: {\"error\":"),
            "{event:?}"
        );

        let translated = AnswerStream::translate(CHAT.0, Endpoint::Messages, Default::default());
        let mut stream = translated.unwrap();
        stream.push(
            begin
                .split_inclusive("\n\n")
                .next()
                .unwrap()
                .to_owned()
                .into(),
        );
        let event = stream.break_off(&BROKEN);
        assert!(text(&event).contains("event: error\n"), "{event:?}");
        assert!(stream.has_ended() && stream.break_off(&BROKEN).is_empty());
    }

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
            let event = Event::new(Bytes::from(event));
            let start = judge(format, &event, event.data().as_deref());
            let found = match start {
                StreamStart::Pending => None,
                StreamStart::Content => CONTENT,
                StreamStart::Error { status, .. } => Some(status),
            };
            assert_eq!(found, expected, "{format}: {event:?}");
        }
    }

    #[test]
    fn an_event_too_long_to_hold_is_read_in_parts() {
        let echo = "p".repeat(DEFAULT_LIMIT);
        let stream_text = format!(
            "event: response.completed\ndata: {{\"type\":\"response.completed\",\"response\":{{\
             \"model\":\"m\",\"instructions\":\"{echo}\",\"service_tier\":\"default\",\
             \"usage\":{{\"input_tokens\":300,\"output_tokens\":12,\
             \"input_tokens_details\":{{\"cached_tokens\":100}}}}}}}}\n\n"
        );
        for size in [1000, 4096, 65_536] {
            let mut stream =
                AnswerStream::pass_through(Format::OpenAiResponses, Endpoint::Responses);
            for chunk in stream_text.as_bytes().chunks(size) {
                stream.push(Bytes::copy_from_slice(chunk));
            }
            let observed = stream.final_observations();
            let usage = observed.reported_usage().unwrap();
            let classes = [Class::Input, Class::CacheRead, Class::Output].map(|c| usage.get(c));
            assert_eq!(classes, [200, 100, 12], "{size}");
            assert_eq!(observed.model.as_deref(), Some("m"));
            assert!(observed.finished && observed.text_bytes == 0);
        }
    }
}
