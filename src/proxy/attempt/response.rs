//! The response of the current attempt on its way to the client: passed on as it is, event by
//! event, or translated; held until it has shown that it is an answer. Nothing here waits, counts or
//! decides where a failure leads.

use std::mem;

use bytes::{Bytes, BytesMut};
use llm_router_domain::format::{Endpoint, Format};
use llm_router_wire::body::{BodyVerdict, judge_body, may_be_json};
use llm_router_wire::error::{ErrorBody, begins_with_error};
use llm_router_wire::stream::{AnswerStream, StreamError, StreamStart};

use crate::proxy::attempt::answer::{Answer, Progress};
use crate::proxy::attempt::state::ERROR_BODY_LIMIT;

/// Bytes of a long refusal that wait for those after them: no header's value, and so no secret, is
/// longer.
const OVERLAP: usize = 16 * 1024;

/// The most of a JSON body that is held to be judged whole; a longer one is judged by its begin.
const JUDGED_WHOLE: usize = 64 * 1024;

/// Treatment of the response.
#[derive(Default)]
pub(crate) enum Response {
    /// None yet, or one whose bytes are passed on untouched.
    #[default]
    Plain,
    /// A JSON body that hasn't shown yet that it is an answer.
    Opening(Opening),
    /// Server-sent events, passed on whole.
    Stream(Box<AnswerStream>),
    /// An answer in another format than the client's.
    Translated(Box<Answer>),
    /// A refusal of the provider's: passed on as it is, but for our credential.
    Declined(Declined),
}

/// A body in the client's own format.
pub(crate) struct Opening {
    format: Format,
    endpoint: Endpoint,
    held: BytesMut,
}

/// A refusal of the provider's.
pub(crate) struct Declined {
    status: u16,
    /// Set once a part of it has been passed on.
    begun: bool,
    held: BytesMut,
}

/// Result of feeding a response more of its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is nothing for the client yet, or nothing that may be sent before more has come.
    Wait,
    /// The rest of the body goes to the client like what came before it.
    Continue,
    /// The rest of the body goes to the client.
    Pass,
    /// The same, and our secrets must be taken out of it.
    PassCleaned,
    /// The provider's refusal has come, in its own words. What is left of the body is the client's, in
    /// its format, unless it is our account that is refused.
    Refused { status: u16, raw: Bytes },
    /// The rest of the body goes to the client: the stream has ended in an error that it says.
    BrokenOff,
    /// The rest of the body goes to the client: the stream has ended before the answer did, and the
    /// client must be told.
    Cut,
    /// An error came where content was to be.
    Failed(StreamError),
    /// It is no answer, and why.
    NoAnswer(&'static str),
}

impl Response {
    /// Begins a plain answer in the client's own format.
    pub(crate) fn for_body(endpoint: Endpoint) -> Self {
        Self::Opening(Opening {
            format: endpoint.format(),
            endpoint,
            held: BytesMut::new(),
        })
    }

    /// Begins a refusal in the client's own format.
    pub(crate) fn for_refusal(status: u16) -> Self {
        Self::Declined(Declined {
            status,
            begun: false,
            held: BytesMut::new(),
        })
    }

    /// Returns whether it is an answer, and not a refusal or too little to tell.
    pub(crate) const fn is_answer(&self) -> bool {
        matches!(self, Self::Plain | Self::Stream(_) | Self::Translated(_))
    }

    /// Takes back the end of a long refusal that goes on: a secret may lie across the cut, and is known
    /// only when it is whole.
    pub(crate) fn hold_back(&mut self, body: &mut Option<Bytes>) {
        if let (Self::Declined(declined), Some(bytes)) = (self, body) {
            let end = bytes.split_off(bytes.len().saturating_sub(OVERLAP));
            declined.held.extend_from_slice(&end);
        }
    }

    /// Returns the stream of events that it is.
    pub(crate) fn stream(&self) -> Option<&AnswerStream> {
        match self {
            Self::Stream(stream) => Some(stream),
            Self::Translated(answer) => answer.stream(),
            Self::Plain | Self::Opening(_) | Self::Declined(_) => None,
        }
    }

    /// Ends a stream that has begun with an error event, never as if it were complete. The event
    /// is empty where the client has been told an end already; `None` if this is no stream.
    pub(crate) fn break_off(&mut self, error: &ErrorBody<'_>) -> Option<Bytes> {
        match self {
            Self::Stream(stream) => Some(stream.break_off(error)),
            Self::Translated(answer) => answer.break_off(error),
            Self::Plain | Self::Opening(_) | Self::Declined(_) => None,
        }
    }

    /// Takes more of the response, or its end, and leaves in `body` what the client may be sent.
    pub(crate) fn take(&mut self, body: &mut Option<Bytes>, end: bool) -> Step {
        match self {
            Self::Plain => Step::Continue,
            Self::Opening(opening) => {
                let step = opening.take(body, end);
                if step == Step::Pass {
                    *self = Self::Plain;
                }
                step
            }
            Self::Stream(stream) => take_events(stream, body, end),
            Self::Translated(answer) => take_translated(answer, body, end),
            Self::Declined(declined) => declined.take(body, end),
        }
    }
}

impl Opening {
    fn take(&mut self, body: &mut Option<Bytes>, end: bool) -> Step {
        let held = &mut self.held;
        held.extend_from_slice(&body.take().unwrap_or_default());
        match may_be_json(held) {
            None if end => return Step::NoAnswer(EMPTY),
            None => return Step::Wait,
            Some(false) => return Step::NoAnswer(not_json(held)),
            Some(true) => {}
        }
        if !end && held.len() <= JUDGED_WHOLE {
            return Step::Wait;
        }
        let verdict = if end {
            judge_body(self.format, self.endpoint, held)
        } else if begins_with_error(held) == Some(true) {
            BodyVerdict::Error
        } else {
            BodyVerdict::Answer
        };
        match verdict {
            BodyVerdict::Answer => {
                *body = Some(mem::take(held).freeze());
                Step::Pass
            }
            BodyVerdict::Error => Step::Failed(StreamError::from_body(held)),
            BodyVerdict::NoAnswer => Step::NoAnswer(SOMETHING_ELSE),
        }
    }
}

/// Reasons for which what came is no answer, after "it sent no answer: ".
pub(crate) const EMPTY: &str = "the body is empty";
pub(crate) const SOMETHING_ELSE: &str = "the body is not what was asked for";
const HTML: &str = "the body is an HTML page";
const NOT_JSON: &str = "the body is not JSON";
const NO_CONTENT: &str = "the stream ended before its first content";

/// Says what a body is that begins unlike JSON.
pub(crate) fn not_json(body: &[u8]) -> &'static str {
    if body.trim_ascii_start().starts_with(b"<") {
        HTML
    } else {
        NOT_JSON
    }
}

impl Declined {
    fn take(&mut self, body: &mut Option<Bytes>, end: bool) -> Step {
        if let Some(chunk) = body.take() {
            self.held.extend_from_slice(&chunk);
        }
        if !end && self.held.len() <= ERROR_BODY_LIMIT {
            return Step::Wait;
        }
        let raw = self.held.split().freeze();
        *body = Some(raw.clone());
        if mem::replace(&mut self.begun, true) {
            Step::PassCleaned
        } else {
            Step::Refused {
                status: self.status,
                raw,
            }
        }
    }
}

fn take_translated(answer: &mut Answer, body: &mut Option<Bytes>, end: bool) -> Step {
    let (step, passed) = match answer.take(body.take(), end) {
        Progress::Wait => return Step::Wait,
        Progress::Failed(error) => return Step::Failed(error),
        Progress::NoAnswer(why) => return Step::NoAnswer(why),
        Progress::Pass(passed) => (Step::Pass, passed),
        Progress::Refused {
            status,
            raw,
            passed,
        } => (Step::Refused { status, raw }, passed),
        Progress::BrokenOff(passed) => (Step::BrokenOff, passed),
    };
    if end || !passed.is_empty() {
        *body = Some(passed);
    }
    step
}

/// Lets whole events through, from the first content on.
fn take_events(stream: &mut AnswerStream, body: &mut Option<Bytes>, end: bool) -> Step {
    let (pending, failed) = (stream.start().is_pending(), stream.has_failed());
    let mut passed = stream.push(body.take().unwrap_or_default());
    if end {
        // The upstream may end its stream without a last blank line, in its own right.
        let rest = stream.end();
        if !rest.is_empty() {
            passed = [passed, rest].concat().into();
        }
    }
    if end || !passed.is_empty() {
        *body = Some(passed);
    }
    match stream.start() {
        StreamStart::Error(error) => Step::Failed(error.clone()),
        StreamStart::Pending if end => Step::NoAnswer(NO_CONTENT),
        StreamStart::Pending => Step::Wait,
        _ if stream.has_failed() && !failed => Step::BrokenOff,
        _ if end && stream.is_cut() => Step::Cut,
        _ if pending => Step::Pass,
        _ => Step::Continue,
    }
}

/// Takes more of a stream in another format than the client's.
pub(crate) fn take_translated_events(
    stream: &mut AnswerStream,
    chunk: Bytes,
    end: bool,
) -> Progress {
    if stream.has_ended() && !stream.start().is_pending() {
        return Progress::Pass(Bytes::new());
    }
    let mut passed = stream.push(chunk);
    if end && !stream.has_ended() {
        passed = [passed, stream.end()].concat().into();
    }
    match stream.start() {
        StreamStart::Error(error) => Progress::Failed(error.clone()),
        StreamStart::Pending if end || stream.has_ended() => Progress::NoAnswer(NO_CONTENT),
        StreamStart::Pending => Progress::Wait,
        _ if stream.has_failed() => Progress::BrokenOff(passed),
        _ => Progress::Pass(passed),
    }
}

#[cfg(test)]
mod tests {
    use llm_router_domain::format::{Endpoint, Format};

    use super::*;
    use crate::proxy::attempt::redact::clean;
    use crate::snapshot::testing::provider;

    fn take(response: &mut Response, chunk: &str, end: bool) -> (Step, Option<Bytes>) {
        let mut body = Some(Bytes::copy_from_slice(chunk.as_bytes()));
        let step = response.take(&mut body, end);
        (step, body)
    }

    fn stream() -> Response {
        let (format, endpoint) = (Format::OpenAiChat, Endpoint::ChatCompletions);
        Response::Stream(Box::new(AnswerStream::pass_through(format, endpoint)))
    }

    const CONTENT: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"x\"}}]}\n\n";

    fn error(status: u16) -> StreamError {
        StreamError {
            status,
            message: None,
            account: None,
        }
    }

    #[test]
    fn a_stream_is_held_until_its_first_content() {
        let mut response = stream();
        let (first, second) = CONTENT.split_at(12);
        assert_eq!(take(&mut response, ": wait\n\n", false), (Step::Wait, None));
        assert_eq!(take(&mut response, first, false), (Step::Wait, None));
        let (step, body) = take(&mut response, second, false);
        assert_eq!(step, Step::Pass);
        assert_eq!(body.unwrap(), [": wait\n\n", CONTENT].concat());
        let (step, body) = take(&mut response, "data: {}\n\n", false);
        assert_eq!(
            (step, body.unwrap()),
            (Step::Continue, "data: {}\n\n".into())
        );
        let (step, _) = take(&mut response, "", true);
        assert_eq!(step, Step::Cut);
    }

    #[test]
    fn an_error_before_content_is_the_answer() {
        let mut response = stream();
        assert_eq!(take(&mut response, ": wait\n\n", false).0, Step::Wait);
        let event = "data: {\"error\":{\"code\":429}}\n\n";
        assert_eq!(
            take(&mut response, event, false).0,
            Step::Failed(error(429))
        );

        let mut response = stream();
        assert_eq!(take(&mut response, CONTENT, false).0, Step::Pass);
        let (step, body) = take(&mut response, event, false);
        assert_eq!((step, body.unwrap()), (Step::BrokenOff, event.into()));
        assert_eq!(take(&mut response, "", true).0, Step::Continue);
    }

    #[test]
    fn a_stream_without_content_is_no_answer() {
        for body in ["", ": bye\n\n", "data: [DONE]\n\n", "<html>"] {
            let (step, _) = take(&mut stream(), body, true);
            assert_eq!(step, Step::NoAnswer(NO_CONTENT), "{body}");
        }
    }

    fn opening() -> Response {
        Response::for_body(Endpoint::ChatCompletions)
    }

    #[test]
    fn a_json_answer_is_held_until_it_is_known_to_be_one() {
        let mut response = opening();
        assert_eq!(take(&mut response, " {\"err", false), (Step::Wait, None));
        assert!(!response.is_answer());
        let (step, _) = take(&mut response, "or\":{\"code\":429}}", true);
        assert_eq!(step, Step::Failed(error(429)));

        let mut response = opening();
        assert_eq!(take(&mut response, "{\"choices\":", false).0, Step::Wait);
        let (step, body) = take(&mut response, "[]}", true);
        assert_eq!(
            (step, body.unwrap()),
            (Step::Pass, "{\"choices\":[]}".into())
        );
        assert!(response.is_answer());
    }

    #[test]
    fn what_is_no_answer_is_known_as_such() {
        for (body, end, why) in [
            ("", true, EMPTY),
            (" \n", true, EMPTY),
            ("\n<!doctype html>", false, HTML),
            ("data: {}", false, NOT_JSON),
            ("{", true, SOMETHING_ELSE),
            ("{\"ok\":true}", true, SOMETHING_ELSE),
        ] {
            let (step, _) = take(&mut opening(), body, end);
            assert_eq!(step, Step::NoAnswer(why), "{body}");
        }
    }

    #[test]
    fn a_long_answer_is_judged_by_its_begin() {
        let long = "x".repeat(JUDGED_WHOLE);
        let mut response = opening();
        let begin = format!("{{\"id\":\"{long}");
        let (step, body) = take(&mut response, &begin, false);
        assert_eq!((step, body.unwrap()), (Step::Pass, begin.into()));
        assert_eq!(take(&mut response, "}", true).0, Step::Continue);

        let (step, _) = take(&mut opening(), &format!("{{\"error\":\"{long}"), false);
        assert!(matches!(step, Step::Failed(_)), "{step:?}");
    }

    #[test]
    fn a_refusal_is_held_until_it_is_whole_or_long() {
        let mut response = Response::for_refusal(400);
        assert_eq!(take(&mut response, "{\"a\":", false), (Step::Wait, None));
        let (step, body) = take(&mut response, "1}", true);
        let refused = |raw: &str| Step::Refused {
            status: 400,
            raw: Bytes::copy_from_slice(raw.as_bytes()),
        };
        assert_eq!(
            (step, body.unwrap()),
            (refused("{\"a\":1}"), "{\"a\":1}".into())
        );
        assert!(!response.is_answer());

        let mut response = Response::for_refusal(400);
        let long = "x".repeat(ERROR_BODY_LIMIT + 1);
        assert_eq!(take(&mut response, &long, false).0, refused(&long));
        assert_eq!(take(&mut response, "y", true).0, Step::PassCleaned);
    }

    #[test]
    fn a_secret_across_the_parts_of_a_long_refusal_is_overwritten() {
        let provider = provider("p", "openai", &["*"]);
        let whole = "x".repeat(ERROR_BODY_LIMIT - 4) + "sk-theirs" + &"y".repeat(ERROR_BODY_LIMIT);
        for cut in ERROR_BODY_LIMIT - 5..ERROR_BODY_LIMIT + 6 {
            let mut response = Response::for_refusal(400);
            let (first, rest) = whole.split_at(cut);
            let mut passed = String::new();
            for (chunk, end) in [(first, false), (&rest[..1], false), (&rest[1..], true)] {
                let (step, mut body) = take(&mut response, chunk, end);
                if matches!(step, Step::PassCleaned | Step::Refused { .. }) {
                    clean(&mut body, &provider);
                    if !end {
                        response.hold_back(&mut body);
                    }
                }
                passed.push_str(str::from_utf8(&body.unwrap_or_default()).unwrap());
            }
            assert_eq!(passed, whole.replace("sk-theirs", "*********"), "{cut}");
        }
    }
}
