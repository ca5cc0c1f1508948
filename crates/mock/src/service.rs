//! Handling of a request: metered, read, delayed, then answered or failed as requested. It must not
//! know formats, pacing or sockets.

use std::{
    collections::HashMap,
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, Method, Request, Response, Version, request::Parts, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use llm_router_domain::format::{Endpoint, Format};
use percent_encoding::percent_decode_str;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    ask,
    body::{AnswerBody, BodyPace, BrokenOff, Delivery, ERROR_EVENT},
    clock,
    config::MockConfig,
    control::{Controls, ForcedFailure},
    format::{self, AnswerJob, MockRefusal, Surface, gemini, models, reading},
    headers,
    meter::{BillingMeter, BodySeen, RecordState, Ticket},
    panel, prose,
    script::Script,
    socket::{PlannedEnd, SocketEnd},
};

/// Page that `html` answers.
const PAGE: &[u8] = b"<!doctype html><html><body><h1>It works!</h1></body></html>";

/// Most counters kept for `fail_first` and `fail_every`.
const MOST_FAIL_COUNTS: usize = 100_000;

/// State shared by all connections of a mock.
#[derive(Debug)]
pub(crate) struct ServiceState {
    pub(crate) config: MockConfig,
    pub(crate) meter: BillingMeter,
    /// Controls of every request that does not say otherwise.
    pub(crate) controls: ArcSwap<Controls>,
    /// Requests so far by `fail_first` or `fail_every` key; held for one look-up at a time.
    counts: Mutex<HashMap<String, u64>>,
}

impl ServiceState {
    pub(crate) fn new(config: MockConfig) -> Self {
        Self {
            meter: BillingMeter::new(config.log_capacity),
            controls: ArcSwap::default(),
            counts: Mutex::default(),
            config,
        }
    }

    /// Counts a request, and returns how many have had this key.
    fn count(&self, key: &str) -> u64 {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.len() >= MOST_FAIL_COUNTS && !counts.contains_key(key) {
            counts.clear();
        }
        let count = counts.entry(key.to_owned()).or_default();
        *count += 1;
        *count
    }
}

/// Call that a path and method stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum MockCall {
    Infer(Endpoint),
    /// One of Gemini's methods, with the model that the path names.
    Gemini(GeminiMethod, String),
    ListModels,
    GetModel(String),
    UnknownPath,
    WrongMethod,
}

/// Method of Gemini's API on a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GeminiMethod {
    Generate,
    Stream,
    Count,
}

impl GeminiMethod {
    /// Reads the path of a model below the version, such as `/models/NAME:countTokens`.
    fn parse(path: &str) -> Option<(Self, String)> {
        let (model, method) = path.strip_prefix("/models/")?.rsplit_once(':')?;
        let method = match method {
            "generateContent" => Self::Generate,
            "streamGenerateContent" => Self::Stream,
            "countTokens" => Self::Count,
            _ => return None,
        };
        let model = percent_decode_str(model).decode_utf8().ok()?;
        Some((method, model.into_owned()))
    }

    fn surface(self) -> &'static dyn Surface {
        match self {
            Self::Generate | Self::Stream => &gemini::GenerateContent,
            Self::Count => &gemini::GeminiCountTokens,
        }
    }
}

/// Prefixes of Gemini's own paths, and of those for clients of OpenAI's format.
const GEMINI_VERSION: &str = "/v1beta";
const GEMINI_COMPATIBLE: &str = "/openai";

impl MockCall {
    /// Reads the path below `/v1` or `/v1beta`; the `/v1` itself may be missing.
    fn from_request(method: &Method, path: &str) -> Self {
        let path = path
            .strip_prefix(GEMINI_VERSION)
            .map(|path| path.strip_prefix(GEMINI_COMPATIBLE).unwrap_or(path))
            .or_else(|| path.strip_prefix("/v1"))
            .unwrap_or(path);
        if let Some((asked, model)) = GeminiMethod::parse(path) {
            return if method == Method::POST {
                Self::Gemini(asked, model)
            } else {
                Self::WrongMethod
            };
        }
        if let Some(endpoint) = Endpoint::ALL.into_iter().find(|e| e.path() == path) {
            return if method == Method::POST {
                Self::Infer(endpoint)
            } else {
                Self::WrongMethod
            };
        }
        let call = match path.strip_prefix("/models") {
            Some("") => Self::ListModels,
            Some(id) if id.len() > 1 && id.starts_with('/') => Self::GetModel(id[1..].to_owned()),
            _ => return Self::UnknownPath,
        };
        if method == Method::GET {
            call
        } else {
            Self::WrongMethod
        }
    }

    fn format(&self, path: &str, headers: &HeaderMap) -> Format {
        let own = path.strip_prefix(GEMINI_VERSION);
        match self {
            Self::Gemini(..) => Format::Gemini,
            Self::Infer(endpoint) => endpoint.format(),
            _ if own.is_some_and(|path| !path.starts_with(GEMINI_COMPATIBLE)) => Format::Gemini,
            _ if headers.contains_key("anthropic-version") => Format::AnthropicMessages,
            _ => Format::OpenAiChat,
        }
    }
}

/// The body of an answer, or of one of the mock's own pages.
pub(crate) type MockBody = Either<AnswerBody, Full<Bytes>>;

/// Answers a request. An error ends the connection (or the HTTP/2 stream) without an answer.
pub(crate) async fn answer(
    shared: Arc<ServiceState>,
    fate: Arc<PlannedEnd>,
    request: Request<Incoming>,
) -> Result<Response<MockBody>, BrokenOff> {
    let (parts, body) = request.into_parts();
    let Parts {
        method,
        uri,
        version,
        headers,
        ..
    } = parts;
    if panel::serves(uri.path()) {
        let body = read_body(body, &shared.config).await.map(|read| read.bytes);
        let body = body.unwrap_or_default();
        return Ok(panel::answer(&shared, &method, &uri, &body).map(Either::Right));
    }
    let call = MockCall::from_request(&method, uri.path());
    let format = call.format(uri.path(), &headers);
    let events = uri.query().is_some_and(wants_events);
    let path = uri
        .path_and_query()
        .map(PathAndQuery::as_str)
        .unwrap_or_default();
    let ticket = shared.meter.open(&method, path, headers);
    ticket.format(if call == MockCall::UnknownPath {
        ""
    } else {
        format.name()
    });
    let fate = (version < Version::HTTP_2).then_some(fate);
    let rng = Rng::with_seed(clock::unix_nanos() ^ ticket.seq().rotate_left(40));
    let controls = Controls::default();
    let exchange = CallContext {
        shared,
        fate,
        format,
        ticket,
        controls,
        rng,
    };
    Ok(exchange.run(call, events, body).await?.map(Either::Left))
}

/// Returns true if Gemini's stream must be server-sent events; otherwise it is one list.
fn wants_events(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).any(|(name, value)| name == "alt" && value == "sse")
}

/// A request body with its hash.
struct ReadRequest {
    bytes: Bytes,
    sha256: [u8; 32],
}

async fn read_body(mut body: Incoming, config: &MockConfig) -> Result<ReadRequest, MockFault> {
    let mut bytes = BytesMut::new();
    let mut hash = Sha256::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| MockFault::Broken)?.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > config.max_body {
            return Err(MockRefusal::new(413, "Request exceeds the maximum allowed size").into());
        }
        hash.update(&data);
        bytes.extend_from_slice(&data);
    }
    Ok(ReadRequest {
        bytes: bytes.freeze(),
        sha256: hash.finalize().into(),
    })
}

/// One request and what is needed to answer it.
struct CallContext {
    shared: Arc<ServiceState>,
    /// The connection's fate; none over HTTP/2.
    fate: Option<Arc<PlannedEnd>>,
    format: Format,
    ticket: Ticket,
    /// The controls in force; none until the request was understood.
    controls: Controls,
    /// Draws what differs from request to request: ids and jitter.
    rng: Rng,
}

/// Reply to a call.
enum MockReply {
    Whole(Vec<u8>),
    /// An error in the body of a 200, as some providers send it.
    Disguised(MockRefusal),
    /// A page, or no body at all, instead of an answer or a stream.
    Nothing {
        stream: bool,
        page: &'static [u8],
    },
    Stream(Script, BodyPace),
}

/// Failure without an answer, or a refusal.
enum MockFault {
    Refused(MockRefusal),
    Broken,
}

impl From<MockRefusal> for MockFault {
    fn from(refusal: MockRefusal) -> Self {
        Self::Refused(refusal)
    }
}

/// An inference request that was understood as far as formats have in common.
struct PreparedAnswer {
    surface: &'static dyn Surface,
    body: Value,
    model: String,
    stream: bool,
    /// The request body's hash and length, in words.
    echo: Option<String>,
}

impl CallContext {
    async fn run(
        mut self,
        call: MockCall,
        events: bool,
        body: Incoming,
    ) -> Result<Response<AnswerBody>, BrokenOff> {
        match self.reply(call, events, body).await {
            Ok(MockReply::Whole(body)) => {
                let status = self.controls.status.unwrap_or(200);
                Ok(self.send_whole(status, body, RecordState::Complete))
            }
            Ok(MockReply::Nothing { stream, page }) => Ok(self.send_nothing(stream, page)),
            Ok(MockReply::Disguised(refusal)) => Ok(self.send_refusal(200, &refusal)),
            Ok(MockReply::Stream(script, pace)) => Ok(self.send_stream(script, pace)),
            Err(MockFault::Refused(refusal)) => Ok(self.send_refusal(refusal.status, &refusal)),
            Err(MockFault::Broken) => Err(BrokenOff),
        }
    }

    async fn reply(
        &mut self,
        call: MockCall,
        events: bool,
        body: Incoming,
    ) -> Result<MockReply, MockFault> {
        let read = read_body(body, &self.shared.config).await?;
        self.ticket.body(BodySeen {
            bytes: read.bytes.len() as u64,
            sha256: read.sha256,
        });
        self.check_key()?;
        match call {
            MockCall::Infer(endpoint) => {
                let understood = self.understand(endpoint, &read)?;
                self.infer(understood).await
            }
            MockCall::Gemini(method, model) => {
                let stream = method == GeminiMethod::Stream;
                let understood = self.understand_gemini(method, model, &read)?;
                let reply = self.infer(PreparedAnswer {
                    stream: stream && events,
                    ..understood
                });
                Ok(match reply.await? {
                    MockReply::Whole(body) if stream => {
                        MockReply::Whole([b"[", &body[..], b"]"].concat())
                    }
                    reply => reply,
                })
            }
            MockCall::ListModels => self.list_models(None).await,
            MockCall::GetModel(id) => self.list_models(Some(id)).await,
            MockCall::UnknownPath => Err(MockRefusal::new(404, "Unknown path").into()),
            MockCall::WrongMethod => Err(MockRefusal::new(405, "Method not allowed").into()),
        }
    }

    async fn list_models(&mut self, id: Option<String>) -> Result<MockReply, MockFault> {
        self.take_controls(Controls::default())?;
        self.delay_or_fail().await?;
        let names = &self.shared.config.models;
        let listed = match id {
            None => models::list(self.format, names),
            Some(id) if names.contains(&id) => models::one(self.format, &id),
            Some(id) => {
                let message = format!("The model '{id}' does not exist");
                return Err(MockRefusal::new(404, message).into());
            }
        };
        Ok(MockReply::Whole(format::json(&listed)))
    }

    async fn infer(&mut self, understood: PreparedAnswer) -> Result<MockReply, MockFault> {
        self.keep_due_failure(&understood.model);
        self.delay_or_fail().await?;
        let PreparedAnswer {
            surface,
            body,
            model,
            stream,
            echo,
        } = understood;
        let ask = surface.read(&body)?;
        let answer = ask::answer(&ask, &self.controls, echo, &self.shared.config);
        let pieces = answer.pieces();
        if self.controls.failure == Some(ForcedFailure::ErrorAfter(0)) && !stream {
            return Ok(MockReply::Disguised(MockRefusal::new(500, ERROR_EVENT)));
        }
        match self.controls.failure {
            Some(ForcedFailure::Empty) => return Ok(MockReply::Nothing { stream, page: b"" }),
            Some(ForcedFailure::Html) => return Ok(MockReply::Nothing { stream, page: PAGE }),
            _ => {}
        }
        let created = clock::unix_seconds();
        let mut job = AnswerJob {
            model,
            created,
            answer,
            ids: self.rng.fork(),
        };
        let encoder = if stream {
            surface.encoder(&body, &mut job)
        } else {
            None
        };
        if surface.bills() {
            self.ticket
                .plan(job.answer.usage, pieces, encoder.is_some());
        }
        let pace = self.pace();
        if let Some(encoder) = encoder {
            let stamp = self.controls.stamp.unwrap_or_default();
            return Ok(MockReply::Stream(
                Script::new(job.answer, encoder, stamp),
                pace,
            ));
        }
        let body = surface.whole(&body, &mut job);
        drop((job, ask));
        wait_for_whole(&pace, pieces).await;
        Ok(MockReply::Whole(body))
    }

    /// Reads the request up to where formats part.
    fn understand(
        &mut self,
        endpoint: Endpoint,
        read: &ReadRequest,
    ) -> Result<PreparedAnswer, MockRefusal> {
        let headers = self.ticket.headers();
        let anthropic = self.format == Format::AnthropicMessages;
        if anthropic && !headers.contains_key("anthropic-version") {
            return Err(MockRefusal::new(
                400,
                "anthropic-version: header is required",
            ));
        }
        let body = object(read)?;
        let model = reading::text(&body, "model")?
            .unwrap_or_default()
            .to_owned();
        let stream = reading::flag(&body, "stream")?.unwrap_or(false);
        self.ticket.note_request(&model, stream);
        if model.is_empty() {
            return Err(MockRefusal::field(
                "model",
                "you must provide a model parameter",
            ));
        }
        self.prepare_answer(format::surface(endpoint), body, model, stream, read)
    }

    /// Reads a request whose model and method stand in its path. The surface finds the model in
    /// the body all the same, where Gemini takes it too.
    fn understand_gemini(
        &mut self,
        method: GeminiMethod,
        model: String,
        read: &ReadRequest,
    ) -> Result<PreparedAnswer, MockRefusal> {
        self.ticket
            .note_request(&model, method == GeminiMethod::Stream);
        let mut body = object(read)?;
        body["model"] = model.as_str().into();
        self.prepare_answer(method.surface(), body, model, false, read)
    }

    fn prepare_answer(
        &mut self,
        surface: &'static dyn Surface,
        body: Value,
        model: String,
        stream: bool,
        read: &ReadRequest,
    ) -> Result<PreparedAnswer, MockRefusal> {
        let (_, named) = Controls::from_model(&model).map_err(bad_control)?;
        self.take_controls(named)?;
        let echo = self.controls.echo.unwrap_or_default().then(|| {
            format!(
                "sha256={} bytes={}",
                prose::hex(&read.sha256),
                read.bytes.len()
            )
        });
        Ok(PreparedAnswer {
            surface,
            body,
            model,
            stream,
            echo,
        })
    }

    /// Puts controls in force: those of the headers, then the model's, then the mock's own.
    fn take_controls(&mut self, named: Controls) -> Result<(), MockRefusal> {
        let asked = Controls::from_headers(self.ticket.headers()).map_err(bad_control)?;
        self.controls = asked
            .or(named)
            .or(Controls::clone(&self.shared.controls.load()));
        Ok(())
    }

    fn check_key(&self) -> Result<(), MockRefusal> {
        match &self.shared.config.require_key {
            Some(key) if !has_key(self.format, self.ticket.headers(), key) => {
                if self.format == Format::Gemini {
                    return Err(MockRefusal::new(400, format::error::GEMINI_WRONG_KEY));
                }
                Err(MockRefusal::new(401, "Incorrect API key provided"))
            }
            _ => Ok(()),
        }
    }

    /// With `fail_first` keeps the failure for the first requests only, with `fail_every` for every
    /// Nth. Where no failure is named beside it, they fail with a 500.
    fn keep_due_failure(&mut self, model: &str) {
        let (first, every) = (self.controls.fail_first, self.controls.fail_every);
        if first.is_none() && every.is_none() {
            return;
        }
        let key = format!(
            "{model}\n{}",
            self.controls.key.as_deref().unwrap_or_default()
        );
        let failure = self.controls.failure.unwrap_or(ForcedFailure::Status(500));
        let number = self.shared.count(&key);
        let due = first.is_some_and(|first| number <= first)
            || every.is_some_and(|every| number.is_multiple_of(every));
        self.controls.failure = due.then_some(failure);
    }

    /// Waits as asked, then fails if the request is to fail before its answer begins.
    async fn delay_or_fail(&mut self) -> Result<(), MockFault> {
        if let Some(delay) = self.controls.delay.filter(|delay| !delay.is_zero()) {
            sleep(delay).await;
        }
        match self.controls.failure {
            Some(ForcedFailure::Status(status)) => {
                let message = format!("The mock failed with status {status}, as it was asked to");
                Err(MockRefusal::new(status, message).into())
            }
            Some(ForcedFailure::Reset) => {
                self.ticket.end(RecordState::Cut);
                if let Some(fate) = &self.fate {
                    fate.decide(SocketEnd::Reset);
                }
                Err(MockFault::Broken)
            }
            Some(ForcedFailure::Hang) => std::future::pending().await,
            _ => Ok(()),
        }
    }

    /// The pace asked for, or else the config's with its jitter.
    fn pace(&mut self) -> BodyPace {
        let config = &self.shared.config;
        let first = self.controls.first_token.unwrap_or_else(|| {
            with_jitter(config.first_token, config.jitter_percent, &mut self.rng)
        });
        let asked = self.controls.token_delay;
        BodyPace {
            first: Instant::now() + first,
            between: asked.unwrap_or(config.token_delay),
            jitter_percent: if asked.is_some() {
                0
            } else {
                config.jitter_percent
            },
        }
    }

    fn send_whole(mut self, status: u16, body: Vec<u8>, end: RecordState) -> Response<AnswerBody> {
        // Answers of these statuses have no body, and hyper would never ask for it.
        let body = if matches!(status, 204 | 205 | 304) {
            Vec::new()
        } else {
            self.code(body)
        };
        let headers = self.headers(status, "application/json");
        let manner = self.manner(end);
        let body = AnswerBody::whole(body, manner, self.ticket);
        respond(status, headers, body)
    }

    fn send_stream(mut self, script: Script, pace: BodyPace) -> Response<AnswerBody> {
        let status = self.controls.status.unwrap_or(200);
        let mut headers = self.headers(status, "text/event-stream; charset=utf-8");
        headers.insert(http::header::CACHE_CONTROL, headers::NO_CACHE);
        let manner = self.manner(RecordState::Complete);
        let body = AnswerBody::stream(script, pace, manner, self.ticket);
        respond(status, headers, body)
    }

    /// A success that is no answer.
    fn send_nothing(mut self, stream: bool, page: &'static [u8]) -> Response<AnswerBody> {
        let content_type = match (page, stream) {
            ([], false) => "application/json",
            ([], true) => "text/event-stream; charset=utf-8",
            _ => "text/html; charset=utf-8",
        };
        let headers = self.headers(200, content_type);
        let manner = self.manner(RecordState::Failed);
        let body = AnswerBody::whole(page.to_vec(), manner, self.ticket);
        respond(200, headers, body)
    }

    /// Codes a whole body, if that is wanted.
    fn code(&self, body: Vec<u8>) -> Vec<u8> {
        if !self.controls.gzip.unwrap_or_default() {
            return body;
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let coded = encoder.write_all(&body).and_then(|()| encoder.finish());
        // Writing to memory doesn't fail.
        coded.unwrap_or_default()
    }

    fn send_refusal(mut self, status: u16, refusal: &MockRefusal) -> Response<AnswerBody> {
        let request_id = headers::request_id(self.format, &mut self.rng);
        let body = format::error::body(self.format, refusal, &request_id);
        self.send_whole(status, body, RecordState::Failed)
    }

    fn headers(&mut self, status: u16, content_type: &'static str) -> HeaderMap {
        self.ticket.status(status);
        let mut headers = headers::provider(self.format, status, &mut self.rng);
        headers::retry_after(&mut headers, self.controls.retry_after, status);
        headers.insert(
            http::header::CONTENT_TYPE,
            http::HeaderValue::from_static(content_type),
        );
        let bodiless = matches!(status, 204 | 205 | 304);
        if self.controls.gzip.unwrap_or_default() && !bodiless {
            headers.insert(
                http::header::CONTENT_ENCODING,
                http::HeaderValue::from_static("gzip"),
            );
        }
        headers
    }

    fn manner(&mut self, end: RecordState) -> Delivery {
        Delivery {
            failure: self.controls.failure,
            split: self.controls.split,
            split_delay: self.controls.split_delay.unwrap_or_default(),
            chunked: self.controls.chunked.unwrap_or_default(),
            gzip: self.controls.gzip.unwrap_or_default(),
            end,
            fate: self.fate.take(),
        }
    }
}

fn respond(status: u16, headers: HeaderMap, body: AnswerBody) -> Response<AnswerBody> {
    let mut response = Response::new(body);
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    *response.headers_mut() = headers;
    response
}

/// A whole answer takes as long as its stream would.
async fn wait_for_whole(pace: &BodyPace, pieces: u64) {
    let gaps = u32::try_from(pieces.saturating_sub(1)).unwrap_or(u32::MAX);
    let due = pace.first.checked_add(pace.between.saturating_mul(gaps));
    if let Some(due) = due.filter(|due| *due > Instant::now()) {
        sleep_until(due).await;
    }
}

fn with_jitter(usual: Duration, percent: u8, rng: &mut Rng) -> Duration {
    let stray = u32::from(percent.min(100));
    usual * rng.u32(100 - stray..=100 + stray) / 100
}

fn bad_control(problem: String) -> MockRefusal {
    MockRefusal::new(400, format!("mock: {problem}"))
}

/// The body as an object.
fn object(read: &ReadRequest) -> Result<Value, MockRefusal> {
    let body: Value = serde_json::from_slice(&read.bytes)
        .map_err(|error| MockRefusal::new(400, format!("The body is no JSON: {error}")))?;
    if body.is_object() {
        Ok(body)
    } else {
        Err(MockRefusal::new(400, "The body is no JSON object"))
    }
}

fn has_key(format: Format, headers: &HeaderMap, key: &SecretString) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if format == Format::Gemini {
        return text("x-goog-api-key") == Some(key.expose_secret());
    }
    let bearer = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
    [bearer, text("x-api-key"), text("api-key")].contains(&Some(key.expose_secret()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_with_and_without_v1() {
        let call = |method, path| MockCall::from_request(&method, path);
        for (method, path, wanted) in [
            (
                Method::POST,
                "/v1/chat/completions",
                MockCall::Infer(Endpoint::ChatCompletions),
            ),
            (
                Method::POST,
                "/messages/count_tokens",
                MockCall::Infer(Endpoint::CountTokens),
            ),
            (Method::GET, "/v1/responses", MockCall::WrongMethod),
            (Method::GET, "/v1/models", MockCall::ListModels),
            (
                Method::GET,
                "/models/a/b:c",
                MockCall::GetModel("a/b:c".to_owned()),
            ),
            (Method::POST, "/v1/models", MockCall::WrongMethod),
            (Method::GET, "/v1/models/", MockCall::UnknownPath),
            (Method::GET, "/v1/modelsx", MockCall::UnknownPath),
            (Method::GET, "/", MockCall::UnknownPath),
            (
                Method::POST,
                "/v1beta/models/g%3Atokens%3D3:streamGenerateContent",
                MockCall::Gemini(GeminiMethod::Stream, "g:tokens=3".to_owned()),
            ),
            (
                Method::POST,
                "/v1/models/g:countTokens",
                MockCall::Gemini(GeminiMethod::Count, "g".to_owned()),
            ),
            (Method::GET, "/v1beta/models", MockCall::ListModels),
            (
                Method::GET,
                "/v1beta/models/g:generateContent",
                MockCall::WrongMethod,
            ),
            (
                Method::POST,
                "/v1beta/openai/embeddings",
                MockCall::Infer(Endpoint::Embeddings),
            ),
        ] {
            assert_eq!(call(method, path), wanted, "{path}");
        }
    }

    #[test]
    fn requests_are_counted_by_key() {
        let shared = ServiceState::new(MockConfig::default());
        let counts: Vec<u64> = (0..4).map(|_| shared.count("a")).collect();
        assert_eq!(counts, [1, 2, 3, 4]);
        assert_eq!(shared.count("b"), 1);
    }
}
