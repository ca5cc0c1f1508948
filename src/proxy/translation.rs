//! Requests and answers between a client and a provider of different formats: what each candidate
//! is sent, and what its answer becomes on the way back. How formats convert is
//! `llm-router-wire`'s; which candidate is tried is not decided here.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, TRANSFER_ENCODING};
use llm_router_domain::format::{Endpoint, Format};
use llm_router_wire::error::ErrorBody;
use llm_router_wire::formats;
use llm_router_wire::request::RequestHead;
use llm_router_wire::stream::{AnswerStream, StreamStart};
use llm_router_wire::translate::{
    ChatDialect, Compat, RequestOptions, ResponseContext, TranslateError, TranslatedRequest,
    clean_history, translate_count_request, translate_count_response, translate_error,
    translate_request, translate_response,
};
use llm_router_wire::usage::Splice;
use pingora::Result;
use pingora::http::ResponseHeader;

use super::context::Inference;
use super::headers::Asked;
use super::request::usage_to_ask_for;
use super::response::ERROR_BODY_LIMIT;
use crate::clock;
use crate::snapshot::{Deployment, Way};

/// What was made of a request's body for the candidates so far: the latest of each kind.
#[derive(Default)]
pub(super) struct Versions {
    translated: Option<Translated>,
    cleaned: Option<Cleaned>,
}

/// The request in another format.
struct Translated {
    target: Target,
    request: TranslatedRequest,
}

/// What decides how a request is translated.
#[derive(PartialEq, Eq)]
struct Target {
    format: Format,
    model: Arc<str>,
    compat: Compat,
    dialect: ChatDialect,
}

/// The request in the client's format, without thoughts that the provider would refuse.
struct Cleaned {
    dialect: ChatDialect,
    /// None where there was nothing to take out.
    request: Option<(RequestHead, Bytes, Option<Splice>)>,
}

impl Inference {
    /// Readies what the current candidate is sent.
    ///
    /// # Errors
    /// When the candidate's format can't express the request: another candidate may take it.
    pub(super) fn prepare(&mut self, request_id: &str) -> std::result::Result<(), TranslateError> {
        let Some(deployment) = self.deployment().cloned() else {
            return Ok(());
        };
        match deployment.provider.way(self.endpoint) {
            Some(Way::Translated(format)) => self.translate(&deployment, format, request_id),
            Some(Way::Native(_)) => {
                self.clean(deployment.provider.dialect);
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn translate(
        &mut self,
        deployment: &Deployment,
        format: Format,
        request_id: &str,
    ) -> std::result::Result<(), TranslateError> {
        let target = Target {
            format,
            model: Arc::clone(&deployment.model),
            compat: deployment.provider.compat,
            dialect: deployment.provider.dialect,
        };
        let made = self.versions.translated.as_ref();
        if made.is_some_and(|made| made.target == target) {
            return Ok(());
        }
        let options = RequestOptions {
            compat: target.compat,
            dialect: target.dialect,
            now: unix_seconds(),
            request_id: request_id.to_owned(),
            ..RequestOptions::default()
        };
        let request = if self.endpoint == Endpoint::CountTokens {
            translate_count_request(format, &self.body, &target.model, &options)?
        } else {
            let from = self.endpoint.format();
            translate_request(from, format, &self.body, &target.model, &options)?
        };
        self.versions.translated = Some(Translated { target, request });
        Ok(())
    }

    fn clean(&mut self, dialect: ChatDialect) {
        let made = self.versions.cleaned.as_ref();
        if !has_history(self.endpoint) || made.is_some_and(|made| made.dialect == dialect) {
            return;
        }
        let request = clean_history(self.endpoint.format(), dialect, &self.body).and_then(|body| {
            let head = RequestHead::read(&body).ok()?;
            let ask = usage_to_ask_for(&head, &body, self.endpoint);
            Some((head, body, ask))
        });
        self.versions.cleaned = Some(Cleaned { dialect, request });
    }

    /// The translation that the current candidate is sent, if it is sent one.
    pub(super) fn translated(&self) -> Option<&TranslatedRequest> {
        let made = self.versions.translated.as_ref();
        match self.deployment()?.provider.way(self.endpoint)? {
            Way::Translated(_) => made.map(|made| &made.request),
            Way::Native(_) => None,
        }
    }

    /// The format that the current candidate is asked and answers in.
    pub(super) fn provider_format(&self) -> Format {
        let way = self
            .deployment()
            .and_then(|deployment| deployment.provider.way(self.endpoint));
        match way {
            Some(Way::Translated(format)) => format,
            _ => self.endpoint.format(),
        }
    }

    /// The body for the current candidate, in pieces to be sent in order.
    pub(super) fn body_pieces(&self) -> VecDeque<Bytes> {
        if let Some(translated) = self.translated() {
            return [translated.body.clone()].into();
        }
        let Some(deployment) = self.deployment() else {
            return VecDeque::new();
        };
        let cleaned = self.versions.cleaned.as_ref();
        let (head, body, ask) = match cleaned.and_then(|cleaned| cleaned.request.as_ref()) {
            Some((head, body, ask)) => (head, body, ask),
            None => (&self.head, &self.body, &self.ask),
        };
        head.rewrite(body, &deployment.model, ask.as_ref()).into()
    }

    /// Path, length and manner of the current candidate's request.
    pub(super) fn asked(&self) -> Asked<'_> {
        let way = self
            .deployment()
            .and_then(|deployment| deployment.provider.way(self.endpoint));
        let path = match (way, self.translated()) {
            (Some(Way::Native(path)), _) => path.into(),
            // Anthropic's base is without the version.
            (Some(Way::Translated(Format::AnthropicMessages)), Some(sent)) => {
                format!("/v1{}", sent.path).into()
            }
            (_, Some(sent)) => Cow::Borrowed(sent.path.as_str()),
            (_, None) => Cow::Borrowed(""),
        };
        Asked {
            path,
            length: self.attempt.length,
            translated: matches!(way, Some(Way::Translated(_))),
        }
    }

    /// What the provider's format had nothing for, as the client spells it.
    pub(super) fn dropped(&self) -> &[String] {
        self.translated()
            .map_or(&[], |translated| &translated.dropped)
    }

    /// Lets go of the copies of the body: nothing will be sent again.
    pub(super) fn forget_body(&mut self) {
        self.body = Bytes::new();
        self.versions.cleaned = None;
        if let Some(translated) = &mut self.versions.translated {
            translated.request.body = Bytes::new();
        }
    }
}

/// Whether requests to an endpoint bring earlier answers along.
const fn has_history(endpoint: Endpoint) -> bool {
    !matches!(endpoint, Endpoint::Completions | Endpoint::Embeddings)
}

fn unix_seconds() -> u64 {
    let since = clock::wall().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// The longest plain answer that is translated, in bytes: generated images fit.
const LONGEST_ANSWER: usize = 64 << 20;

/// A provider's answer on its way into the client's format.
pub(super) struct Answer {
    from: Format,
    to: Format,
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

/// How far an answer is after more of it came.
pub(super) enum Progress {
    /// There is nothing for the client yet.
    Wait,
    /// This is the client's.
    Pass(Bytes),
    /// This is the client's, and its status.
    Refused(u16, Bytes),
    /// This is the client's: the stream has ended in an error of the provider's.
    BrokenOff(Bytes),
    /// It is no answer: with the status and what the provider said, nothing of it was passed on.
    Failed(u16, String),
}

impl Answer {
    /// An answer with `status` to the current attempt; `stream` if it is one of events. None if
    /// it is in the client's own format.
    pub(super) fn new(inference: &Inference, status: u16, stream: bool) -> Option<Self> {
        let sent = inference.translated()?;
        let (from, to) = (inference.provider_format(), inference.endpoint.format());
        let context = sent.context.clone();
        let shape = if status >= 400 {
            Shape::Refusal {
                held: BytesMut::new(),
                status,
            }
        } else if inference.endpoint == Endpoint::CountTokens {
            Shape::Count(BytesMut::new())
        } else if stream && sent.stream {
            let stream = AnswerStream::translated(from, inference.endpoint, context.clone());
            Shape::Events(Box::new(stream.ok()?))
        } else {
            Shape::Whole {
                held: BytesMut::new(),
                stream: sent.stream,
            }
        };
        Some(Self {
            from,
            to,
            endpoint: inference.endpoint,
            context,
            shape,
        })
    }

    /// Makes the header one of the client's format.
    pub(super) fn adapt(&self, header: &mut ResponseHeader) -> Result<()> {
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
        if let Some(name) = formats::request_id_header(self.to)
            && let Ok(id) = HeaderValue::from_str(&self.context.request_id)
        {
            header.insert_header(name, id)?;
        }
        Ok(())
    }

    /// Takes more of the answer, or its end.
    pub(super) fn take(&mut self, chunk: Option<Bytes>, end: bool) -> Progress {
        let chunk = chunk.unwrap_or_default();
        match &mut self.shape {
            Shape::Events(stream) => take_events(stream, chunk, end),
            Shape::Whole { held, .. } | Shape::Count(held) => {
                if held.len() + chunk.len() > LONGEST_ANSWER {
                    return Progress::Failed(502, "its answer is too large".to_owned());
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
                let (status, body) = translate_error(self.from, self.to, *status, held, id);
                Progress::Refused(status, body)
            }
        }
    }

    fn whole(&mut self) -> Progress {
        let body = match &mut self.shape {
            Shape::Whole { held, .. } | Shape::Count(held) => mem::take(held).freeze(),
            _ => Bytes::new(),
        };
        let translated = match &self.shape {
            Shape::Count(_) => translate_count_response(self.from, &body),
            _ => translate_response(self.from, self.to, &body, &self.context),
        };
        match translated {
            Ok(translated) if matches!(self.shape, Shape::Whole { stream: true, .. }) => {
                Progress::Pass(self.as_events(body).unwrap_or(translated))
            }
            Ok(translated) => Progress::Pass(translated),
            Err(error) => Progress::Failed(error.status, error.message),
        }
    }

    /// A plain answer to a client that wants a stream.
    fn as_events(&self, body: Bytes) -> Option<Bytes> {
        let stream = AnswerStream::translated(self.from, self.endpoint, self.context.clone());
        let mut stream = stream.ok()?;
        let out = [stream.push(body), stream.end()];
        Some(out.concat().into())
    }

    /// Ends a stream whose upstream broke: the error event, nothing where the client has been told
    /// an end already, or none if this is no stream.
    pub(super) fn break_off(
        &mut self,
        status: u16,
        code: &'static str,
        message: &str,
    ) -> Option<Bytes> {
        let Shape::Events(stream) = &mut self.shape else {
            return None;
        };
        Some(stream.break_off(&ErrorBody {
            status,
            code,
            message,
            param: None,
            request_id: &self.context.request_id,
        }))
    }
}

fn take_events(stream: &mut AnswerStream, chunk: Bytes, end: bool) -> Progress {
    if stream.has_ended() {
        return Progress::Pass(Bytes::new());
    }
    let began = *stream.start() != StreamStart::Pending;
    let passed = stream.push(chunk);
    match stream.start() {
        StreamStart::Error { status, message } if !began => {
            let said = message.clone();
            return Progress::Failed(*status, said.unwrap_or_else(|| NOTHING_SAID.to_owned()));
        }
        StreamStart::Pending if !end => return Progress::Wait,
        _ => {}
    }
    // Only an error ends a stream before its last byte.
    let failed = stream.has_ended();
    let passed = if end {
        [passed, stream.end()].concat().into()
    } else {
        passed
    };
    if failed {
        Progress::BrokenOff(passed)
    } else {
        Progress::Pass(passed)
    }
}

const NOTHING_SAID: &str = "it began its answer with an error";
