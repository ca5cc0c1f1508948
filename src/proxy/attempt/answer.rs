//! A provider's answer on its way into the client's format: translated event by event, or read
//! whole. Formats are `llm-router-wire`'s.

use std::mem;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, TRANSFER_ENCODING};
use llm_router_domain::format::{Endpoint, Format};
use llm_router_wire::body::{BodyVerdict, judge_body, may_be_json};
use llm_router_wire::error::ErrorBody;
use llm_router_wire::formats;
use llm_router_wire::stream::{AnswerStream, StreamError};
use llm_router_wire::translate::{
    ResponseContext, TranslatedRequest, translate_count_response, translate_error,
    translate_response,
};
use pingora::Result;
use pingora::http::ResponseHeader;

use crate::proxy::attempt::response::{EMPTY, SOMETHING_ELSE, not_json, take_translated_events};
use crate::proxy::attempt::state::ERROR_BODY_LIMIT;

/// The longest plain answer that is translated, in bytes: generated images fit.
const LONGEST_ANSWER: usize = 64 << 20;

/// A provider's answer on its way into the client's format.
pub(crate) struct Answer {
    from: Format,
    endpoint: Endpoint,
    context: ResponseContext,
    shape: Shape,
}

enum Shape {
    /// Read to its end, then translated. `stream`: the client wants events all the same.
    Whole { held: BytesMut, stream: bool },
    /// A count of tokens.
    Count(BytesMut),
    /// Translated event by event.
    Events(Box<AnswerStream>),
    /// The provider's own refusal.
    Refusal { held: BytesMut, status: u16 },
}

/// Result of feeding an answer more of its bytes.
pub(crate) enum Progress {
    /// There is nothing for the client yet.
    Wait,
    /// This is the client's.
    Pass(Bytes),
    /// `passed` is the client's, with its status; `raw` is what the provider said.
    Refused {
        status: u16,
        raw: Bytes,
        passed: Bytes,
    },
    /// This is the client's: the stream has ended in an error.
    BrokenOff(Bytes),
    /// An error came where content was to be; nothing of it was passed on.
    Failed(StreamError),
    /// It is no answer, and why.
    NoAnswer(&'static str),
}

impl Answer {
    /// Begins the answer with `status` of a provider that speaks `from` and was sent a translation;
    /// `stream` if it is one of events. `None` if no client speaks the endpoint's format.
    pub(crate) fn new(
        from: Format,
        endpoint: Endpoint,
        sent: &TranslatedRequest,
        status: u16,
        stream: bool,
    ) -> Option<Self> {
        let context = sent.context.clone();
        let shape = if status >= 400 {
            Shape::Refusal {
                held: BytesMut::new(),
                status,
            }
        } else if endpoint == Endpoint::CountTokens {
            Shape::Count(BytesMut::new())
        } else if stream && sent.stream {
            let stream = AnswerStream::translate(from, endpoint, context.clone());
            Shape::Events(Box::new(stream.ok()?))
        } else {
            Shape::Whole {
                held: BytesMut::new(),
                stream: sent.stream,
            }
        };
        Some(Self {
            from,
            endpoint,
            context,
            shape,
        })
    }

    /// Makes the header one of the client's format.
    pub(crate) fn adapt(&self, header: &mut ResponseHeader) -> Result<()> {
        let events = matches!(
            self.shape,
            Shape::Events(_) | Shape::Whole { stream: true, .. }
        );
        let content_type = if events {
            "text/event-stream; charset=utf-8"
        } else {
            "application/json"
        };
        header.remove_header(&CONTENT_LENGTH);
        header.insert_header(TRANSFER_ENCODING, "chunked")?;
        header.insert_header(CONTENT_TYPE, HeaderValue::from_static(content_type))?;
        if let Some(name) = formats::request_id_header(self.endpoint.format())
            && let Ok(id) = HeaderValue::from_str(&self.context.request_id)
        {
            header.insert_header(name, id)?;
        }
        Ok(())
    }

    /// Takes more of the answer, or its end.
    pub(crate) fn take(&mut self, chunk: Option<Bytes>, end: bool) -> Progress {
        let chunk = chunk.unwrap_or_default();
        match &mut self.shape {
            Shape::Events(stream) => take_translated_events(stream, chunk, end),
            Shape::Whole { held, .. } | Shape::Count(held) => {
                if held.len() + chunk.len() > LONGEST_ANSWER {
                    return Progress::NoAnswer("the body is too large to be translated");
                }
                held.extend_from_slice(&chunk);
                if end { self.whole() } else { Progress::Wait }
            }
            Shape::Refusal { held, status } => {
                let room = ERROR_BODY_LIMIT.saturating_sub(held.len()).min(chunk.len());
                held.extend_from_slice(&chunk[..room]);
                if !end {
                    return Progress::Wait;
                }
                let id = &self.context.request_id;
                let to = self.endpoint.format();
                let raw = mem::take(held).freeze();
                let (status, passed) = translate_error(self.from, to, *status, &raw, id);
                Progress::Refused {
                    status,
                    raw,
                    passed,
                }
            }
        }
    }

    fn whole(&mut self) -> Progress {
        let body = match &mut self.shape {
            Shape::Whole { held, .. } | Shape::Count(held) => mem::take(held).freeze(),
            _ => Bytes::new(),
        };
        if body.trim_ascii().is_empty() {
            return Progress::NoAnswer(EMPTY);
        }
        if may_be_json(&body) == Some(false) {
            return Progress::NoAnswer(not_json(&body));
        }
        match judge_body(self.from, self.endpoint, &body) {
            BodyVerdict::Answer => {}
            BodyVerdict::Error => return Progress::Failed(StreamError::from_body(&body)),
            BodyVerdict::NoAnswer => return Progress::NoAnswer(SOMETHING_ELSE),
        }
        let translated = match &self.shape {
            Shape::Count(_) => translate_count_response(self.from, &body),
            _ => translate_response(self.from, self.endpoint.format(), &body, &self.context),
        };
        match translated {
            Ok(translated) if matches!(self.shape, Shape::Whole { stream: true, .. }) => {
                Progress::Pass(self.as_events(body).unwrap_or(translated))
            }
            Ok(translated) => Progress::Pass(translated),
            Err(error) => Progress::Failed(StreamError {
                status: error.status,
                message: Some(error.message),
                account: None,
            }),
        }
    }

    /// A plain answer to a client that wants a stream.
    fn as_events(&self, body: Bytes) -> Option<Bytes> {
        let stream = AnswerStream::translate(self.from, self.endpoint, self.context.clone());
        let mut stream = stream.ok()?;
        let out = [stream.push(body), stream.end()];
        Some(out.concat().into())
    }

    /// Returns the stream of events that it is.
    pub(crate) fn stream(&self) -> Option<&AnswerStream> {
        match &self.shape {
            Shape::Events(stream) => Some(stream),
            _ => None,
        }
    }

    /// Ends a stream whose upstream broke: the error event, nothing where the client has been told
    /// an end already, or none if this is no stream.
    pub(crate) fn break_off(&mut self, error: &ErrorBody<'_>) -> Option<Bytes> {
        match &mut self.shape {
            Shape::Events(stream) => Some(stream.break_off(error)),
            _ => None,
        }
    }
}
