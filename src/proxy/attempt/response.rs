//! The response of the current attempt on its way to the client: passed on as it is, event by
//! event, or translated; held until its first bytes have shown that it is an answer. Nothing here
//! waits, counts or decides where a failure leads.

use std::mem;

use bytes::{Bytes, BytesMut};
use llm_router_wire::error::{ErrorBody, begins_with_error};
use llm_router_wire::stream::{AnswerStream, StreamStart};

use crate::proxy::attempt::answer::{Answer, Progress};
use crate::proxy::attempt::state::ERROR_BODY_LIMIT;

/// Bytes of a long refusal that wait for those after them: no header's value, and so no secret, is
/// longer.
const OVERLAP: usize = 16 * 1024;

/// Treatment of the response.
#[derive(Default)]
pub(crate) enum Response {
    /// None yet, or one whose bytes are passed on untouched.
    #[default]
    Plain,
    /// A JSON body that hasn't shown yet whether it is an error.
    Opening(BytesMut),
    /// Server-sent events, passed on whole.
    Stream(Box<AnswerStream>),
    /// An answer in another format than the client's.
    Translated(Box<Answer>),
    /// A refusal of the provider's: passed on as it is, but for our credential.
    Declined(BytesMut),
}

/// Result of feeding a response more of its bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// There is nothing for the client yet, or nothing that may be sent before more has come.
    Wait,
    /// The rest of the body is a comment of the stream, and its first event has not come.
    Comment,
    /// The rest of the body goes to the client like what came before it.
    Continue,
    /// The rest of the body goes to the client.
    Pass,
    /// The same, and our secrets must be taken out of it.
    PassCleaned,
    /// The same, with this status.
    Refused(u16),
    /// The same: the stream has ended in an error of the provider's.
    BrokenOff,
    /// The body begins with an error: it is to be read for what it says.
    ErrorBody(BytesMut),
    /// The stream begins with an error event of this status. What is left of the body is the
    /// client's if no other candidate is asked.
    ErrorEvent(u16),
    /// Nothing of it can be passed on: the status that it amounts to, and what was said.
    Unusable(u16, String),
}

impl Response {
    /// Returns whether it is an answer, and not a refusal or too little to tell.
    pub(crate) const fn is_answer(&self) -> bool {
        matches!(self, Self::Plain | Self::Stream(_) | Self::Translated(_))
    }

    /// Takes back the end of a long refusal that goes on: a secret may lie across the cut, and is known
    /// only when it is whole.
    pub(crate) fn hold_back(&mut self, body: &mut Option<Bytes>) {
        if let (Self::Declined(held), Some(bytes)) = (self, body) {
            let end = bytes.split_off(bytes.len().saturating_sub(OVERLAP));
            held.extend_from_slice(&end);
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
            Self::Opening(held) => {
                held.extend_from_slice(&body.take().unwrap_or_default());
                match begins_with_error(held) {
                    None if !end => Step::Wait,
                    Some(true) => Step::ErrorBody(mem::take(held)),
                    _ => {
                        *body = Some(mem::take(held).freeze());
                        *self = Self::Plain;
                        Step::Pass
                    }
                }
            }
            Self::Stream(stream) => take_events(stream, body, end),
            Self::Translated(answer) => take_translated(answer, body, end),
            Self::Declined(held) => {
                if let Some(chunk) = body.take() {
                    held.extend_from_slice(&chunk);
                }
                if !end && held.len() <= ERROR_BODY_LIMIT {
                    return Step::Wait;
                }
                *body = Some(held.split().freeze());
                Step::PassCleaned
            }
        }
    }
}

fn take_translated(answer: &mut Answer, body: &mut Option<Bytes>, end: bool) -> Step {
    let (step, passed) = match answer.take(body.take(), end) {
        Progress::Wait => return Step::Wait,
        Progress::Failed(status, said) => return Step::Unusable(status, said),
        Progress::Pass(passed) => (Step::Pass, passed),
        Progress::Refused(status, passed) => (Step::Refused(status), passed),
        Progress::BrokenOff(passed) => (Step::BrokenOff, passed),
    };
    if end || !passed.is_empty() {
        *body = Some(passed);
    }
    step
}

/// Lets whole events through.
fn take_events(stream: &mut AnswerStream, body: &mut Option<Bytes>, end: bool) -> Step {
    let pending = stream.start().is_pending();
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
        StreamStart::Error { status, .. } if pending => Step::ErrorEvent(*status),
        _ if end => Step::Pass,
        StreamStart::Pending if body.is_none() => Step::Wait,
        StreamStart::Pending => Step::Comment,
        _ if pending => Step::Pass,
        _ => Step::Continue,
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

    #[test]
    fn a_stream_is_held_until_its_first_event() {
        let mut response = stream();
        assert_eq!(
            take(&mut response, "data: {\"choi", false),
            (Step::Wait, None)
        );
        let (step, body) = take(&mut response, "ces\":[1]}\n\n", false);
        assert_eq!(step, Step::Pass);
        assert_eq!(body.unwrap(), "data: {\"choices\":[1]}\n\n");
        let (step, body) = take(&mut response, "data: {}\n\n", false);
        assert_eq!(
            (step, body.unwrap()),
            (Step::Continue, "data: {}\n\n".into())
        );
    }

    #[test]
    fn comments_decide_nothing() {
        let mut response = stream();
        let (step, body) = take(&mut response, ": wait\n\n", false);
        assert_eq!((step, body.unwrap()), (Step::Comment, ": wait\n\n".into()));
        let error = "data: {\"error\":{\"code\":429}}\n\n";
        let (step, body) = take(&mut response, error, false);
        assert_eq!((step, body.unwrap()), (Step::ErrorEvent(429), error.into()));
    }

    #[test]
    fn a_stream_of_comments_is_passed_on_at_its_end() {
        let mut response = stream();
        assert_eq!(take(&mut response, ": bye\n\n", true).0, Step::Pass);
    }

    #[test]
    fn a_json_answer_is_held_until_it_is_known_to_be_none() {
        let mut response = Response::Opening(BytesMut::new());
        assert_eq!(take(&mut response, "{\"err", false), (Step::Wait, None));
        assert!(!response.is_answer());
        let (step, _) = take(&mut response, "or\":{\"code\":1}", false);
        assert_eq!(
            step,
            Step::ErrorBody("{\"error\":{\"code\":1}".as_bytes().into())
        );

        let mut response = Response::Opening(BytesMut::new());
        let (step, body) = take(&mut response, "{\"id\":\"1\",", false);
        assert_eq!((step, body.unwrap()), (Step::Pass, "{\"id\":\"1\",".into()));
        assert!(response.is_answer());
        assert_eq!(take(&mut response, "}", true).0, Step::Continue);
    }

    #[test]
    fn an_answer_that_ends_before_it_can_be_told_is_passed_on() {
        let mut response = Response::Opening(BytesMut::new());
        let (step, body) = take(&mut response, "{", true);
        assert_eq!((step, body.unwrap()), (Step::Pass, "{".into()));
    }

    #[test]
    fn a_refusal_is_held_until_it_is_whole_or_long() {
        let mut response = Response::Declined(BytesMut::new());
        assert_eq!(take(&mut response, "{\"a\":", false), (Step::Wait, None));
        let (step, body) = take(&mut response, "1}", true);
        assert_eq!(
            (step, body.unwrap()),
            (Step::PassCleaned, "{\"a\":1}".into())
        );
        assert!(!response.is_answer());

        let mut response = Response::Declined(BytesMut::new());
        let long = "x".repeat(ERROR_BODY_LIMIT + 1);
        assert_eq!(take(&mut response, &long, false).0, Step::PassCleaned);
    }

    #[test]
    fn a_secret_across_the_parts_of_a_long_refusal_is_overwritten() {
        let provider = provider("p", "openai", &["*"]);
        let whole = "x".repeat(ERROR_BODY_LIMIT - 4) + "sk-theirs" + &"y".repeat(ERROR_BODY_LIMIT);
        for cut in ERROR_BODY_LIMIT - 5..ERROR_BODY_LIMIT + 6 {
            let mut response = Response::Declined(BytesMut::new());
            let (first, rest) = whole.split_at(cut);
            let mut passed = String::new();
            for (chunk, end) in [(first, false), (&rest[..1], false), (&rest[1..], true)] {
                let (step, mut body) = take(&mut response, chunk, end);
                if step == Step::PassCleaned {
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
