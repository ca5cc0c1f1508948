//! One attempt after the other: which candidate, what it is sent, and what its failure means.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use llm_router_wire::error::provider_message;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{FailToProxy, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::Gateway;
use super::answer::{body_of, send_fault};
use super::context::{Attempt, Context, Failure, Inference};
use super::exchange::Silence;
use super::headers::{self, Marks};
use super::response::{ERROR_BODY_LIMIT, Response, Stream, Verdict, redact};
use crate::clock;
use crate::fault::Fault;
use crate::snapshot::Provider;

/// The error under which an answer that says "try elsewhere" travels through Pingora.
const TRY_NEXT: ErrorType = ErrorType::new("UpstreamRefused");

impl Gateway {
    /// Chooses the peer of the next attempt and readies the body for it.
    pub(super) async fn begin_attempt(&self, ctx: &mut Context) -> Result<Box<HttpPeer>> {
        let (Some(live), Some(exchange), Some(inference)) =
            (&ctx.live, &ctx.exchange, ctx.inference.as_deref_mut())
        else {
            return Error::err_in(ErrorType::InternalError);
        };
        if inference.failure.is_some() && inference.has_next() && !inference.attempt.reconnected {
            inference.candidate += 1;
        }
        let Some(deployment) = inference.deployment() else {
            return Error::err_in(ErrorType::InternalError);
        };
        let timeouts = deployment.provider.timeouts;
        let Some(upstream) = live.upstreams.get(deployment.provider_index) else {
            return Error::err_in(ErrorType::InternalError);
        };
        let now = clock::now();
        let pieces = inference.body_pieces();
        let length = pieces.iter().map(Bytes::len).sum();
        exchange.begin(pieces, now, timeouts.first_byte, timeouts.total);
        let reconnected = inference.attempt.reconnected;
        inference.attempt = Attempt {
            started: Some(now),
            length,
            reconnected,
        };
        inference.attempts += u32::from(!reconnected);
        let peer = upstream.peer(&timeouts).await;
        peer.map_err(|error| self.connection_failed(ctx, error))
    }

    /// A connection could not be made: the next candidate, if there is one.
    pub(super) fn connection_failed(&self, ctx: &mut Context, mut error: Box<Error>) -> Box<Error> {
        if let Some(inference) = ctx.inference.as_deref_mut() {
            let failure = Failure::Connection(error.etype().as_str().to_owned());
            self.note_failure(inference, failure);
            error.set_retry(inference.has_next());
        }
        error
    }

    /// An attempt ended with an error after its connection was made.
    pub(super) fn attempt_failed(
        &self,
        ctx: &mut Context,
        mut error: Box<Error>,
        reused: bool,
        written: bool,
    ) -> Box<Error> {
        let Some(inference) = ctx.inference.as_deref_mut() else {
            return error;
        };
        error.set_retry(false);
        if *error.etype() == TRY_NEXT {
            // The failure was noted where the answer was judged.
            error.set_retry(inference.has_next());
            return error;
        }
        if let Some(silence) = silence_of(&error) {
            let waited = waited(inference, silence);
            self.note_failure(inference, Failure::Silent(waited));
            error.set_retry(!written && silence != Silence::Total && inference.has_next());
            return error.into_up();
        }
        if *error.esource() != ErrorSource::Upstream {
            ctx.client_gone = *error.esource() == ErrorSource::Downstream;
            return error;
        }
        if !written && reused && !inference.attempt.reconnected && is_stale(&error) {
            // The provider closed a pooled connection while we were about to use it.
            inference.attempt.reconnected = true;
            inference.failure = Some(Failure::Connection(error.etype().as_str().to_owned()));
            error.set_retry(true);
            return error;
        }
        let failure = Failure::Connection(error.etype().as_str().to_owned());
        self.note_failure(inference, failure);
        error.set_retry(!written && inference.has_next());
        error
    }

    /// The upstream's header came: decides what becomes of the answer.
    pub(super) fn response_began(
        &self,
        header: &mut ResponseHeader,
        ctx: &mut Context,
    ) -> Result<()> {
        if header.status.is_informational() {
            return Ok(());
        }
        let (Some(exchange), Some(inference)) = (&ctx.exchange, ctx.inference.as_deref_mut())
        else {
            return Ok(());
        };
        let Some(provider) = inference.deployment().map(|found| found.provider.clone()) else {
            return Ok(());
        };
        let now = clock::now();
        exchange.progress(now, provider.timeouts.idle);
        if is_failure(header.status) {
            return self.candidate_refused(header, inference, &provider, &ctx.request_id);
        }
        inference.first_byte = Some(now);
        inference.response = if header.status.is_client_error() {
            exchange.hold_response();
            Response::Refusal(BytesMut::new())
        } else if is_event_stream(header) {
            exchange.hold_response();
            Response::Stream(Box::default())
        } else {
            inference.forget_body();
            Response::Plain
        };
        ctx.answered = Some((header.status.as_u16(), None));
        mark(header, inference, &provider, &ctx.request_id)
    }

    /// A status that sends the request elsewhere, or, from the last candidate, is the answer.
    fn candidate_refused(
        &self,
        header: &mut ResponseHeader,
        inference: &mut Inference,
        provider: &Provider,
        request_id: &str,
    ) -> Result<()> {
        let retry_after = header.headers.get(RETRY_AFTER);
        let retry_after = retry_after
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let status = header.status.as_u16();
        self.note_failure(
            inference,
            Failure::Status {
                status,
                retry_after,
            },
        );
        let has_body = header
            .headers
            .get(CONTENT_LENGTH)
            .is_none_or(|length| length != "0");
        if inference.has_next() || !has_body || !(400..600).contains(&status) {
            return Error::err_up(TRY_NEXT);
        }
        // The provider's own words are in the body that follows.
        inference.response = Response::Failed(BytesMut::new());
        header.remove_header(&CONTENT_LENGTH);
        header.insert_header(http::header::TRANSFER_ENCODING, "chunked")?;
        header.insert_header(CONTENT_TYPE, "application/json")?;
        header.insert_header("x-should-retry", "false")?;
        mark(header, inference, provider, request_id)
    }

    /// More of the answer came, or its end.
    pub(super) fn response_continued(
        &self,
        body: &mut Option<Bytes>,
        end: bool,
        ctx: &mut Context,
    ) -> Result<()> {
        let format = ctx.format();
        let (Some(exchange), Some(inference)) = (&ctx.exchange, ctx.inference.as_deref_mut())
        else {
            return Ok(());
        };
        let Some(deployment) = inference.route.candidates.get(inference.candidate) else {
            return Ok(());
        };
        exchange.progress(clock::now(), deployment.provider.timeouts.idle);
        match &mut inference.response {
            Response::Plain => {}
            Response::Stream(stream) if stream.passes_untouched(body.as_deref(), end) => {}
            Response::Stream(stream) => {
                match pass_events(stream, body, end, format) {
                    Verdict::Failed(status) if inference.has_next() => {
                        self.note_failure(inference, Failure::ErrorEvent(status));
                        return Error::err_up(TRY_NEXT);
                    }
                    Verdict::Wait if !end => return Ok(()),
                    _ => {}
                }
                inference.forget_body();
                exchange.release_response();
            }
            Response::Refusal(held) => {
                if hold(held, body, end) {
                    clean(body, &deployment.provider);
                    inference.forget_body();
                    exchange.release_response();
                }
            }
            Response::Failed(held) => {
                if let Some(chunk) = body.take() {
                    let room = ERROR_BODY_LIMIT.saturating_sub(held.len()).min(chunk.len());
                    held.extend_from_slice(&chunk[..room]);
                }
                if end {
                    let provider = deployment.provider.clone();
                    let fault = last_failure(inference, Some(&provider));
                    ctx.answered = Some((fault.status, Some(fault.code)));
                    *body = Some(body_of(&fault, &ctx.request_id).render(format));
                    clean(body, &provider);
                }
            }
        }
        Ok(())
    }

    /// Every attempt failed, or the one under way broke: tells the client, if it can be told.
    pub(super) async fn give_up(
        &self,
        session: &mut Session,
        error: &Error,
        ctx: &mut Context,
    ) -> FailToProxy {
        if *error.esource() == ErrorSource::Downstream {
            ctx.client_gone = true;
            return FailToProxy {
                error_code: 0,
                can_reuse_downstream: false,
            };
        }
        let fault = match ctx.inference.as_deref() {
            Some(inference) => {
                let provider = inference.deployment().map(|found| found.provider.as_ref());
                last_failure(inference, provider)
            }
            None => Fault::internal(),
        };
        tracing::debug!(%error, request.id = ctx.request_id, "a request failed");
        let sent = if session.response_written().is_some() {
            self.break_off(session, ctx, &fault).await
        } else {
            send_fault(session, ctx, &fault).await.map(|()| true)
        };
        match sent {
            Ok(complete) => ctx.complete = complete,
            Err(error) => {
                tracing::debug!(%error, "the client could not be told of a failure");
                ctx.client_gone = true;
            }
        }
        FailToProxy {
            error_code: fault.status,
            can_reuse_downstream: false,
        }
    }

    /// Ends a stream that has begun with an error event, never as if it were complete; true if
    /// that is done. An answer that is no stream is cut off, which every client notices by its
    /// length.
    async fn break_off(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        fault: &Fault,
    ) -> Result<bool> {
        let response = ctx
            .inference
            .as_deref()
            .map(|inference| &inference.response);
        if !matches!(response, Some(Response::Stream(_))) {
            return Ok(false);
        }
        ctx.broke_off = Some(fault.code);
        let event = body_of(fault, &ctx.request_id).render_event(ctx.format());
        session.write_response_body(Some(event), true).await?;
        Ok(true)
    }

    fn note_failure(&self, inference: &mut Inference, failure: Failure) {
        if let Some(started) = inference.attempt.started.take() {
            inference.upstream_time += clock::now().saturating_duration_since(started);
        }
        inference.attempt.reconnected = false;
        if let Some(deployment) = inference.deployment() {
            self.metrics
                .attempt(&deployment.provider.id, failure.outcome());
        }
        inference.failure = Some(failure);
    }
}

/// Addresses the request to the candidate.
pub(super) fn address(request: &mut RequestHeader, ctx: &Context) -> Result<()> {
    let Some(inference) = ctx.inference.as_deref() else {
        return Ok(());
    };
    let Some(deployment) = inference.deployment() else {
        return Ok(());
    };
    let provider = &deployment.provider;
    let path = provider.kind.path(inference.endpoint).unwrap_or_default();
    headers::for_provider(request, provider, path, inference.attempt.length)
}

impl Failure {
    /// The `outcome` label of `llm_router_attempts_total`.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Connection(_) => "connection_failed",
            Self::Silent(_) => "timeout",
            Self::Status { status: 429, .. } => "rate_limited",
            Self::Status { .. } => "status",
            Self::ErrorEvent(_) => "error_event",
        }
    }
}

/// Which statuses say that another candidate may do better (contract, section 4). A redirect is
/// never followed, so it is a failure too.
fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 300..=399 | 408 | 409 | 429 | 500..=599)
}

fn is_event_stream(header: &ResponseHeader) -> bool {
    header.headers.get(CONTENT_TYPE).is_some_and(|value| {
        let value = value.as_bytes();
        value
            .get(..17)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"text/event-stream"))
    })
}

fn mark(
    header: &mut ResponseHeader,
    inference: &Inference,
    provider: &Provider,
    request_id: &str,
) -> Result<()> {
    let model = inference
        .deployment()
        .map_or("", |deployment| &deployment.model);
    let attempts = inference.attempts;
    headers::for_client(
        header,
        provider,
        &Marks {
            request_id,
            provider: &provider.id,
            model,
            attempts,
        },
    )
}

/// Lets whole events through.
fn pass_events(
    stream: &mut Stream,
    body: &mut Option<Bytes>,
    end: bool,
    format: llm_router_domain::format::Format,
) -> Verdict {
    let was_started = stream.started;
    let mut chunk = body.take().unwrap_or_default();
    let verdict = stream.pass(&mut chunk, format);
    if end && let Some(rest) = stream.rest() {
        // The upstream ended its stream without a last blank line, in its own right.
        chunk = if chunk.is_empty() {
            rest
        } else {
            [chunk, rest].concat().into()
        };
    }
    if end || !chunk.is_empty() {
        *body = Some(chunk);
    }
    if was_started { Verdict::Begun } else { verdict }
}

/// Holds an error body until it is whole or too long; true when it may go.
fn hold(held: &mut BytesMut, body: &mut Option<Bytes>, end: bool) -> bool {
    if let Some(chunk) = body.take() {
        held.extend_from_slice(&chunk);
    }
    let ready = end || held.len() > ERROR_BODY_LIMIT;
    if ready {
        *body = Some(held.split().freeze());
    }
    ready
}

fn clean(body: &mut Option<Bytes>, provider: &Provider) {
    if let (Some(bytes), Some(credential)) = (body.as_mut(), &provider.credential_bytes) {
        let mut cleaned = BytesMut::from(std::mem::take(bytes));
        redact(&mut cleaned, credential);
        *bytes = cleaned.freeze();
    }
}

fn silence_of(error: &Error) -> Option<Silence> {
    match error.etype() {
        ErrorType::Custom(name) => Silence::from_error_type(name),
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => {
            Some(Silence::FirstByte).filter(|_| *error.esource() == ErrorSource::Upstream)
        }
        _ => None,
    }
}

fn waited(inference: &Inference, silence: Silence) -> Duration {
    let Some(deployment) = inference.deployment() else {
        return Duration::ZERO;
    };
    let timeouts = &deployment.provider.timeouts;
    match silence {
        Silence::FirstByte => timeouts.first_byte,
        Silence::Idle => timeouts.idle,
        Silence::Total => timeouts.total,
    }
}

fn is_stale(error: &Error) -> bool {
    matches!(
        error.etype(),
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError
    )
}

/// What the client is told when every candidate failed.
fn last_failure(inference: &Inference, provider: Option<&Provider>) -> Fault {
    let name = provider.map_or("The provider", |provider| &provider.id);
    match &inference.failure {
        Some(Failure::Status {
            status,
            retry_after,
        }) => {
            let said = match &inference.response {
                Response::Failed(body) => provider_message(body),
                _ => None,
            };
            let message = match said {
                Some(said) => format!("{name} answered {status}: {said}"),
                None => format!("{name} answered {status}."),
            };
            // A redirect is not an answer that a client could do anything with.
            let shown = if *status < 400 { 502 } else { *status };
            Fault {
                retry_after: retry_after.clone(),
                ..Fault::upstream_error(shown, message)
            }
        }
        Some(Failure::Silent(waited)) => Fault::upstream_timeout(name, *waited),
        Some(Failure::ErrorEvent(status)) => {
            Fault::upstream_error(*status, format!("{name} began its answer with an error."))
        }
        Some(Failure::Connection(kind)) => {
            Fault::upstream_error(502, format!("The connection to {name} failed ({kind})."))
        }
        None => Fault::internal(),
    }
}

/// How long the attempt that is passed on has taken so far.
pub(super) fn elapsed(inference: &Inference, now: Instant) -> Duration {
    inference.attempt.started.map_or(Duration::ZERO, |started| {
        now.saturating_duration_since(started)
    })
}
