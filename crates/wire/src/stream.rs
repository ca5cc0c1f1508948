//! A provider's streamed answer on its way to a client. It is cut into events once: each event is
//! judged until the first content, metered, and passed on or translated. It must not know
//! connections, attempts or what is tried next.

use bytes::{Buf as _, Bytes, BytesMut};
use llm_router_domain::format::{Endpoint, Format};
use llm_router_domain::retry::AccountError;
use memchr::memrchr2;

use crate::body::{BodyVerdict, judge_body};
use crate::error::{ErrorBody, without_bom};
use crate::formats::{EventKind, codec};
use crate::sse::{Event, Piece, Splitter};
use crate::translate::json::{self, Json};
use crate::translate::provider_error::{self, ProviderError};
use crate::translate::stream::DONE;
use crate::translate::{ResponseContext, StreamEnd, StreamTranslator, TranslateError};
use crate::usage::{EventChange, Observations, StreamMeter, UsageLayout, without_usage};

/// The longest event that is held to be translated, in bytes: a generated image fits.
const TRANSLATED_LIMIT: usize = 64 << 20;

/// The most bytes before the first content that are held, for another provider may answer instead.
const HELD_LIMIT: usize = 1 << 20;

/// A streamed answer between a provider and a client.
///
/// Feed it the provider's chunks, wherever they end, and send the client what comes out: nothing
/// before the first content, then whole events, but for those past the splitter's limit. A chunk that
/// passes unchanged is not copied.
pub struct AnswerStream {
    /// The provider's format.
    from: Format,
    endpoint: Endpoint,
    splitter: Splitter,
    start: StreamStart,
    /// Bytes for the client that wait for the first content.
    held: BytesMut,
    /// The provider has said that the answer is whole, which may be one without content.
    ended: bool,
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
            .field("endpoint", &self.endpoint)
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
            endpoint,
            splitter,
            start: StreamStart::Pending,
            held: BytesMut::new(),
            ended: false,
            meter: StreamMeter::new(UsageLayout::for_endpoint(from, endpoint)),
            output,
            inside_event: false,
        }
    }

    /// Takes the next chunk and returns what the client may be sent by now: nothing while
    /// [`Self::start`] is pending, or once it is an error.
    pub fn push(&mut self, chunk: Bytes) -> Bytes {
        let Delivery::Translated(translation) = &mut self.output else {
            let passed = self.pass(chunk);
            return self.release(passed);
        };
        let mut out = BytesMut::new();
        if let Some(events) = translation.take(chunk, &mut out) {
            self.splitter.push(events);
            self.translate_pieces(&mut out);
        }
        self.release(out.freeze())
    }

    /// Takes the end of the answer, as the provider set it, and returns the rest for the client. If
    /// [`Self::start`] is pending then, it was no answer; if [`Self::is_cut`], it was not whole.
    pub fn end(&mut self) -> Bytes {
        let rest = self.splitter.finish();
        let passed = if matches!(self.output, Delivery::Translated(_)) {
            self.finish_translation(rest, StreamEnd::Complete)
        } else {
            let mut passed = PassedBytes::new(Bytes::new(), true);
            if let Some(rest) = rest {
                self.pass_piece(&rest, &mut passed);
            }
            passed.into_bytes()
        };
        if self.start.is_pending() && self.ended {
            self.start = StreamStart::Complete;
        }
        self.release(passed)
    }

    /// Holds bytes back until the first content, and then returns them with those held before.
    fn release(&mut self, passed: Bytes) -> Bytes {
        if self.start.is_pending() {
            if self.held.len() + passed.len() <= HELD_LIMIT {
                self.held.extend_from_slice(&passed);
                return Bytes::new();
            }
            self.start = StreamStart::Content;
        }
        if matches!(self.start, StreamStart::Error(_)) {
            self.held = BytesMut::new();
            return Bytes::new();
        }
        if self.held.is_empty() {
            return passed;
        }
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(&passed);
        all.freeze()
    }

    /// Breaks the answer off: returns the event that tells the client of `error`. It is empty if
    /// the client has been told an end already.
    pub fn break_off(&mut self, error: &ErrorBody<'_>) -> Bytes {
        if self.start.is_pending() || matches!(self.start, StreamStart::Error(_)) {
            return error.render_event(self.endpoint.format());
        }
        let rest = self.splitter.finish();
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
        let event = error.render_event(self.endpoint.format());
        if self.inside_event {
            [Bytes::from_static(b"\n\n"), event].concat().into()
        } else {
            event
        }
    }

    /// The verdict on the answer's begin.
    #[must_use]
    pub const fn start(&self) -> &StreamStart {
        &self.start
    }

    /// Returns true once content has come.
    #[must_use]
    pub const fn has_content(&self) -> bool {
        matches!(self.start, StreamStart::Content)
    }

    /// Returns true if the client has been sent an error event after content: the provider's own,
    /// or that of a translation.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        match &self.output {
            _ if !self.has_content() => false,
            Delivery::Translated(translation) => translation.translator.has_failed(),
            Delivery::Unchanged | Delivery::WithoutUsage => self.observations().failed,
        }
    }

    /// Returns true if an answer that has ended, with content, did so without its format's end, and
    /// the client doesn't know.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        let observed = self.observations();
        let translated = matches!(self.output, Delivery::Translated(_));
        self.has_content() && !translated && !observed.finished && !observed.failed
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
                self.long_event_came();
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
        if let Some(data) = data.filter(|_| change != EventChange::Drop) {
            self.judge(event, &data);
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
                return self.long_event_came();
            }
        };
        let Some(data) = event.data() else {
            return;
        };
        self.meter.data(&data);
        translation.translator.event(event, &data, out);
        self.judge(event, &data);
    }

    fn finish_translation(&mut self, rest: Option<Piece>, end: StreamEnd) -> Bytes {
        let mut out = BytesMut::new();
        if let Some(rest) = rest {
            self.translate_piece(&rest, &mut out);
        }
        if let Delivery::Translated(translation) = &mut self.output {
            let translator = &mut translation.translator;
            if let Form::Document(held) = &mut translation.form {
                let held = std::mem::take(held);
                self.start = judge_document(self.from, self.endpoint, &held);
                translator.document(without_bom(&held), &mut out);
            }
            translator.finish(end, &mut out);
        }
        out.freeze()
    }

    /// Judges an event whose data is `data`, until the answer's begin is known. The meter has seen
    /// it. Comments have no data, and decide nothing.
    fn judge(&mut self, event: &Event, data: &[u8]) {
        if !self.start.is_pending() {
            return;
        }
        if self.observations().content_started() {
            self.start = StreamStart::Content;
            return;
        }
        if data.trim_ascii() == DONE.as_bytes() {
            if self.ended {
                self.start = StreamStart::Complete;
            }
            return;
        }
        let text = String::from_utf8_lossy(data);
        let repaired;
        let json = match Json::parse(&text) {
            Ok(json) => json,
            Err(_) => {
                repaired = json::without_lone_surrogates(&text);
                Json::parse(&repaired).unwrap_or(Json::Null)
            }
        };
        let kind = match event.name() {
            Some(b"error") => EventKind::Error,
            _ => codec(self.from).event_kind(&json),
        };
        match kind {
            EventKind::Other => {}
            EventKind::Content => self.start = StreamStart::Content,
            EventKind::Error => self.start = StreamStart::Error(StreamError::read(&json)),
            EventKind::End => self.ended = true,
            EventKind::Last => self.start = StreamStart::Complete,
        }
    }

    /// An event that is too long to be held is content: no provider's error is.
    fn long_event_came(&mut self) {
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
                // What is held is white space, or the beginning of a byte order mark.
                let seen = if held.len() < BYTE_ORDER_MARK.len() {
                    0
                } else {
                    held.len()
                };
                held.extend_from_slice(&chunk);
                let Some(first) = held.get(seen..).and_then(first_byte) else {
                    // Lines without a field say nothing.
                    let lines = memrchr2(b'\n', b'\r', held).map_or(0, |end| end + 1);
                    held.advance(lines);
                    if held.len() > TRANSLATED_LIMIT {
                        self.translator.too_large(out);
                    }
                    return None;
                };
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

const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The first byte that is no white space and no byte order mark.
fn first_byte(bytes: &[u8]) -> Option<u8> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
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

/// Begin of a stream, as far as it decides whether the answer is one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum StreamStart {
    /// Nothing yet but roles, ids, empty strings, pings and comments.
    #[default]
    Pending,
    /// Content has come.
    Content,
    /// The answer has ended as its format says, without content: it is whole.
    Complete,
    /// An error came before any content.
    Error(StreamError),
}

/// Error of a provider's that came instead of content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// The status that the error would have had as a response of its own.
    pub status: u16,
    /// The provider's message.
    pub message: Option<String>,
    /// Set if it is our credential or account that is refused.
    pub account: Option<AccountError>,
}

impl StreamStart {
    /// Returns true if no event has decided yet.
    #[must_use]
    pub const fn is_pending(&self) -> bool {
        matches!(self, Self::Pending)
    }
}

impl StreamError {
    fn read(json: &Json<'_>) -> Self {
        let status = ProviderError::read(None, json).status;
        Self {
            status,
            message: provider_error::message(json),
            account: provider_error::account_error(status, json),
        }
    }

    /// Reads an error that is the body of a response whose status is a success.
    #[must_use]
    pub fn from_body(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(without_bom(body));
        Self::read(&Json::parse(&text).unwrap_or(Json::Null))
    }
}

/// Judges one JSON document that came instead of a stream.
fn judge_document(from: Format, endpoint: Endpoint, body: &[u8]) -> StreamStart {
    match judge_body(from, endpoint, body) {
        BodyVerdict::Answer => StreamStart::Content,
        BodyVerdict::Error => StreamStart::Error(StreamError::from_body(body)),
        BodyVerdict::NoAnswer => StreamStart::Pending,
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

    const CONTENT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";

    #[test]
    fn a_chunk_of_whole_events_is_not_copied() {
        let chunk = Bytes::from(CONTENT.repeat(2));
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
        let chunks = [CONTENT, "data: {", "\"b\":2", "}\n\n", "data: {\"c\""];
        let sent: Vec<Bytes> = chunks.map(|chunk| stream.push(chunk.into())).into();
        let sent: Vec<&str> = sent.iter().map(text).collect();
        assert_eq!(sent, [CONTENT, "", "", "data: {\"b\":2}\n\n", ""]);
        assert_eq!(text(&stream.end()), "data: {\"c\"");
    }

    fn translating() -> AnswerStream {
        AnswerStream::translate(CHAT.0, Endpoint::Messages, Default::default()).unwrap()
    }

    #[test]
    fn nothing_passes_before_the_first_content() {
        let role =
            "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
        let error = "data: {\"error\":{\"message\":\"slow\",\"code\":429}}\n\n";
        let failed = StreamStart::Error(StreamError {
            status: 429,
            message: Some("slow".to_owned()),
            account: None,
        });
        for (chunks, expected) in [
            ([": ping\n\n", role], StreamStart::Pending),
            ([role, error], failed.clone()),
            ([error, CONTENT], failed),
            ([role, CONTENT], StreamStart::Content),
            ([CONTENT, error], StreamStart::Content),
        ] {
            for mut stream in [
                AnswerStream::pass_through(CHAT.0, CHAT.1),
                AnswerStream::without_usage(CHAT.0, CHAT.1),
                translating(),
            ] {
                let mut passed = Vec::new();
                for chunk in chunks {
                    passed.extend_from_slice(&stream.push(chunk.into()));
                }
                assert_eq!(*stream.start(), expected, "{chunks:?}");
                assert_eq!(passed.is_empty(), !stream.has_content(), "{chunks:?}");
                assert_eq!(
                    stream.has_failed(),
                    chunks == [CONTENT, error],
                    "{chunks:?}"
                );
            }
        }
    }

    #[test]
    fn what_was_held_comes_with_the_first_content() {
        let mut stream = AnswerStream::pass_through(CHAT.0, CHAT.1);
        assert!(
            stream
                .push(": ping\n\ndata: {\"id\":1}\n\n".into())
                .is_empty()
        );
        let passed = stream.push(CONTENT.into());
        let all = format!(": ping\n\ndata: {{\"id\":1}}\n\n{CONTENT}");
        assert_eq!(text(&passed), all);

        let mut stream = AnswerStream::pass_through(CHAT.0, CHAT.1);
        let ping = ": ping\n\n".repeat(1000);
        let mut pushed = 0;
        while stream.push(ping.clone().into()).is_empty() {
            pushed += ping.len();
            assert!(pushed <= HELD_LIMIT);
        }
    }

    #[test]
    fn the_end_tells_whole_answers_from_none_and_from_cut_ones() {
        let role = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\"}}]}\n\n";
        let stop = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
        let done = "data: [DONE]\n\n";
        for (chunks, expected, cut) in [
            (vec![], StreamStart::Pending, false),
            (vec![done], StreamStart::Pending, false),
            (vec![role], StreamStart::Pending, false),
            (vec![role, done], StreamStart::Pending, false),
            (vec!["<html>"], StreamStart::Pending, false),
            (vec![role, stop], StreamStart::Complete, false),
            (vec![stop, done], StreamStart::Complete, false),
            (vec![CONTENT], StreamStart::Content, true),
            (vec![CONTENT, done], StreamStart::Content, false),
            (vec![CONTENT, stop], StreamStart::Content, false),
            (vec![CONTENT.trim_end()], StreamStart::Content, true),
        ] {
            let mut stream = AnswerStream::pass_through(CHAT.0, CHAT.1);
            let mut passed = String::new();
            for chunk in &chunks {
                passed.push_str(text(&stream.push((*chunk).into())));
            }
            passed.push_str(text(&stream.end()));
            assert_eq!(*stream.start(), expected, "{chunks:?}");
            assert_eq!(stream.is_cut(), cut, "{chunks:?}");
            let whole = if expected.is_pending() {
                String::new()
            } else {
                chunks.concat()
            };
            assert_eq!(passed, whole);

            let mut stream = translating();
            for chunk in &chunks {
                stream.push((*chunk).into());
            }
            let rest = stream.end();
            assert_eq!(*stream.start(), expected, "{chunks:?}");
            assert_eq!(stream.has_failed(), cut, "{chunks:?}");
            assert!(!cut || text(&rest).contains("event: error"), "{rest:?}");
        }
    }

    #[test]
    fn a_document_instead_of_a_stream_is_judged_too() {
        for (body, expected) in [
            (r#"{"choices":[{"message":{"content":"x"}}]}"#, "content"),
            (r#"{"error":{"code":503,"message":"m"}}"#, "error"),
            (r#"{"ok":true}"#, "pending"),
            ("[", "pending"),
        ] {
            let mut stream = translating();
            stream.push(body.into());
            let passed = stream.end();
            let found = match stream.start() {
                StreamStart::Content => "content",
                StreamStart::Error(StreamError { status: 503, .. }) => "error",
                StreamStart::Pending => "pending",
                other => panic!("{other:?}"),
            };
            assert_eq!(found, expected, "{body}");
            assert_eq!(passed.is_empty(), expected != "content", "{passed:?}");
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
    #[expect(clippy::too_many_lines, reason = "a table")]
    fn events_of_every_format_are_told_apart() {
        use Endpoint::{ChatCompletions, Completions, Messages, Responses};
        use Format::{AnthropicMessages, Gemini, OpenAiChat, OpenAiResponses};
        const NOTHING: &str = "nothing";
        const CONTENT: &str = "content";
        const WHOLE: &str = "whole";
        let chat = (OpenAiChat, ChatCompletions);
        let completions = (OpenAiChat, Completions);
        let messages = (AnthropicMessages, Messages);
        let responses = (OpenAiResponses, Responses);
        let gemini = (Gemini, ChatCompletions);
        let cases = [
            (
                chat,
                r#"{"choices":[{"delta":{"role":"assistant","content":"","refusal":null}}]}"#,
                NOTHING,
            ),
            (
                chat,
                r#"{"choices":[{"delta":{"reasoning_details":[],"tool_calls":null}}]}"#,
                NOTHING,
            ),
            (
                chat,
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"c","type":"function","function":{"arguments":""}}]}}]}"#,
                NOTHING,
            ),
            (chat, r#"{"id":"x","choices":[]}"#, NOTHING),
            (chat, r#"{"error":null,"choices":[]}"#, NOTHING),
            (
                chat,
                r#"{"choices":[],"usage":{"prompt_tokens":1}}"#,
                NOTHING,
            ),
            (chat, r#"{"choices":[{"delta":{"content":"x"}}]}"#, CONTENT),
            (
                chat,
                r#"{"choices":[{"delta":{"content":"\"error\""}}]}"#,
                CONTENT,
            ),
            (
                chat,
                r#"{"choices":[{"delta":{"content":"\ud83d"}}]}"#,
                CONTENT,
            ),
            (
                chat,
                r#"{"choices":[{"delta":{"reasoning_content":"x"}}]}"#,
                CONTENT,
            ),
            (chat, r#"{"choices":[{"delta":{"refusal":"no"}}]}"#, CONTENT),
            (
                chat,
                r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"name":"f","arguments":""}}]}}]}"#,
                CONTENT,
            ),
            (
                chat,
                r#"{"choices":[{"delta":{"function_call":{"name":"f"}}}]}"#,
                CONTENT,
            ),
            (
                chat,
                r#"{"choices":[{"delta":{"audio":{"id":"a","data":"AA=="}}}]}"#,
                CONTENT,
            ),
            (
                chat,
                r#"{"choices":[{"delta":{"images":[{"type":"image_url","image_url":{"url":"data:"}}]}}]}"#,
                CONTENT,
            ),
            (
                chat,
                r#"{"choices":[{"delta":{"annotations":[{"type":"url_citation","url_citation":{"url":"u"}}]}}]}"#,
                CONTENT,
            ),
            (
                chat,
                r#"{"choices":[{"message":{"content":"x"}}]}"#,
                CONTENT,
            ),
            (
                chat,
                r#"{"citations":["https://a.test"],"choices":[]}"#,
                CONTENT,
            ),
            (
                chat,
                r#"{"choices":[{"delta":{},"finish_reason":"content_filter"}]}"#,
                WHOLE,
            ),
            (
                chat,
                r#"{"choices":[{"delta":{"content":""},"finish_reason":"length"}]}"#,
                WHOLE,
            ),
            (chat, r#"{"error":{"message":"x"}}"#, "502"),
            (chat, r#"{"error":{"code":429}}"#, "429"),
            (chat, r#"{"error":"full"}"#, "502"),
            (
                chat,
                r#"{"object":"error","message":"x","code":400}"#,
                "400",
            ),
            (chat, r#"{"error":{"code":"insufficient_quota"}}"#, "money"),
            (
                chat,
                r#"{"error":{"code":401,"message":"No auth."}}"#,
                "credential",
            ),
            (
                chat,
                r#"{"error":{"code":503},"choices":[{"delta":{"content":""},"finish_reason":"error"}]}"#,
                "503",
            ),
            (
                completions,
                r#"{"choices":[{"text":"","index":0,"finish_reason":null}]}"#,
                NOTHING,
            ),
            (
                completions,
                r#"{"choices":[{"text":"x","index":0}]}"#,
                CONTENT,
            ),
            (
                completions,
                r#"{"choices":[{"text":"","finish_reason":"stop"}]}"#,
                WHOLE,
            ),
            (
                messages,
                r#"{"type":"message_start","message":{"role":"assistant","content":[]}}"#,
                NOTHING,
            ),
            (messages, r#"{"type":"ping"}"#, NOTHING),
            (
                messages,
                r#"{"type":"content_block_start","content_block":{"type":"text","text":""}}"#,
                NOTHING,
            ),
            (
                messages,
                r#"{"type":"content_block_start","content_block":{"type":"thinking","thinking":"","signature":""}}"#,
                NOTHING,
            ),
            (
                messages,
                r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":""}}"#,
                NOTHING,
            ),
            (
                messages,
                r#"{"type":"content_block_stop","index":0}"#,
                NOTHING,
            ),
            (
                messages,
                r#"{"type":"content_block_start","content_block":{"type":"tool_use","id":"t","name":"f","input":{}}}"#,
                CONTENT,
            ),
            (
                messages,
                r#"{"type":"content_block_start","content_block":{"type":"redacted_thinking","data":"x"}}"#,
                CONTENT,
            ),
            (
                messages,
                r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"x"}}"#,
                CONTENT,
            ),
            (
                messages,
                r#"{"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"x"}}"#,
                CONTENT,
            ),
            (
                messages,
                r#"{"type":"content_block_delta","delta":{"type":"signature_delta","signature":"x"}}"#,
                CONTENT,
            ),
            (
                messages,
                r#"{"type":"content_block_delta","delta":{"type":"citations_delta","citation":{"type":"char_location","cited_text":"x"}}}"#,
                CONTENT,
            ),
            (
                messages,
                r#"{"type":"message_delta","delta":{"stop_reason":"refusal"}}"#,
                WHOLE,
            ),
            (
                messages,
                r#"{"type":"message_delta","delta":{"stop_reason":null}}"#,
                NOTHING,
            ),
            (messages, r#"{"type":"message_stop"}"#, WHOLE),
            (
                messages,
                r#"{"type":"error","error":{"type":"overloaded_error"}}"#,
                "529",
            ),
            (messages, r#"{"error":{"type":"rate_limit_error"}}"#, "429"),
            (
                messages,
                r#"{"type":"error","error":{"type":"authentication_error"}}"#,
                "credential",
            ),
            (
                responses,
                r#"{"type":"response.created","response":{"error":null,"instructions":"x"}}"#,
                NOTHING,
            ),
            (
                responses,
                r#"{"type":"response.in_progress","response":{}}"#,
                NOTHING,
            ),
            (
                responses,
                r#"{"type":"response.output_item.added","item":{"type":"message","id":"m","content":[]}}"#,
                NOTHING,
            ),
            (
                responses,
                r#"{"type":"response.output_item.added","item":{"type":"reasoning","id":"r","summary":[]}}"#,
                NOTHING,
            ),
            (
                responses,
                r#"{"type":"response.content_part.added","part":{"type":"output_text","text":"","annotations":[]}}"#,
                NOTHING,
            ),
            (
                responses,
                r#"{"type":"response.output_text.delta","delta":""}"#,
                NOTHING,
            ),
            (responses, r#"{"type":"keepalive"}"#, NOTHING),
            (
                responses,
                r#"{"type":"response.output_text.delta","delta":"x"}"#,
                CONTENT,
            ),
            (
                responses,
                r#"{"type":"response.output_text.done","text":"x"}"#,
                CONTENT,
            ),
            (
                responses,
                r#"{"type":"response.refusal.delta","delta":"x"}"#,
                CONTENT,
            ),
            (
                responses,
                r#"{"type":"response.reasoning_summary_text.delta","delta":"x"}"#,
                CONTENT,
            ),
            (
                responses,
                r#"{"type":"response.output_item.added","item":{"type":"function_call","name":"f"}}"#,
                CONTENT,
            ),
            (
                responses,
                r#"{"type":"response.web_search_call.searching","item_id":"w"}"#,
                CONTENT,
            ),
            (
                responses,
                r#"{"type":"response.image_generation_call.partial_image","partial_image_b64":"AA"}"#,
                CONTENT,
            ),
            (
                responses,
                r#"{"type":"response.output_text.annotation.added","annotation":{"url":"u"}}"#,
                CONTENT,
            ),
            (
                responses,
                r#"{"type":"response.incomplete","response":{"incomplete_details":{"reason":"content_filter"}}}"#,
                WHOLE,
            ),
            (
                responses,
                r#"{"type":"response.completed","response":{"output":[]}}"#,
                WHOLE,
            ),
            (
                responses,
                r#"{"type":"response.failed","response":{"error":{"code":"rate_limit_exceeded","message":"x"}}}"#,
                "429",
            ),
            (
                responses,
                r#"{"type":"error","code":"rate_limit_exceeded"}"#,
                "429",
            ),
            (
                gemini,
                r#"{"candidates":[{"content":{"role":"model","parts":[{"text":""}]}}]}"#,
                NOTHING,
            ),
            (
                gemini,
                r#"{"usageMetadata":{"promptTokenCount":1}}"#,
                NOTHING,
            ),
            (
                gemini,
                r#"{"candidates":[{"content":{"parts":[{"text":"x"}]}}]}"#,
                CONTENT,
            ),
            (
                gemini,
                r#"{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{}}}]}}]}"#,
                CONTENT,
            ),
            (
                gemini,
                r#"{"candidates":[{"content":{"parts":[{"inlineData":{"mimeType":"image/png","data":"AA"}}]}}]}"#,
                CONTENT,
            ),
            (
                gemini,
                r#"{"candidates":[{"finishReason":"MAX_TOKENS"}]}"#,
                WHOLE,
            ),
            (
                gemini,
                r#"{"promptFeedback":{"blockReason":"SAFETY"}}"#,
                WHOLE,
            ),
            (
                gemini,
                r#"{"error":{"code":503,"status":"UNAVAILABLE"}}"#,
                "503",
            ),
            (
                gemini,
                r#"{"error":{"code":403,"status":"PERMISSION_DENIED"}}"#,
                "credential",
            ),
        ];
        for ((format, endpoint), data, expected) in cases {
            let mut stream = AnswerStream::pass_through(format, endpoint);
            stream.push(format!("data: {data}\n\n").into());
            let begun = stream.start().clone();
            stream.end();
            let found = match (begun, stream.start().clone()) {
                (_, StreamStart::Pending) => NOTHING.to_owned(),
                (StreamStart::Content, StreamStart::Content) => CONTENT.to_owned(),
                (_, StreamStart::Complete) => WHOLE.to_owned(),
                (StreamStart::Error(error), _) => match error.account {
                    Some(AccountError::Credential) => "credential".to_owned(),
                    Some(AccountError::OutOfMoney) => "money".to_owned(),
                    None => error.status.to_string(),
                },
                other => panic!("{other:?}"),
            };
            assert_eq!(found, expected, "{format}: {data}");
        }
        let mut stream = AnswerStream::pass_through(chat.0, chat.1);
        stream.push("event: error\ndata: x\n\n".into());
        assert!(matches!(stream.start(), StreamStart::Error(_)));
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
