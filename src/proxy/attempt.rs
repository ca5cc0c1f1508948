//! One attempt after the other: which candidate, what it is sent, and what its failure means.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, TRANSFER_ENCODING};
use llm_router_domain::format::Endpoint;
use llm_router_wire::error::provider_message;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::proxy::{FailToProxy, Session};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::answer::{body_of, send_fault};
use super::context::{Attempt, Context, Failure, Inference};
use super::exchange::{Exchange, Hold, Silence};
use super::headers::{self, Marks};
use super::meter::Asker;
use super::response::{ERROR_BODY_LIMIT, Response, Stream, Verdict, redact};
use super::{Gateway, TRY_NEXT};
use crate::clock;
use crate::fault::Fault;
use crate::snapshot::Provider;

impl Gateway {
    /// Chooses the peer of the next attempt and readies the body for it.
    pub(super) async fn begin_attempt(&self, ctx: &mut Context) -> Result<Box<HttpPeer>> {
        let (Some(live), Some(exchange), Some(key), Some(inference)) = (
            &ctx.live,
            &ctx.exchange,
            &ctx.key,
            ctx.inference.as_deref_mut(),
        ) else {
            return Error::err_in(ErrorType::InternalError);
        };
        let again = inference.attempt.again;
        if inference.failure.is_some() && inference.has_next() && !again {
            inference.candidate += 1;
            inference.attempt = Attempt::default();
        }
        let Some(deployment) = inference.deployment() else {
            return Error::err_in(ErrorType::InternalError);
        };
        let timeouts = deployment.provider.timeouts;
        let Some(upstream) = live.upstreams.get(deployment.provider_index) else {
            return Error::err_in(ErrorType::InternalError);
        };
        let now = clock::now();
        if !again {
            let asker = Asker {
                request_id: &ctx.request_id,
                key,
                arrived: ctx.arrived.unwrap_or(now),
                snapshot: &live.snapshot,
            };
            self.open_tab(&asker, inference, now).await?;
        }
        let pieces = inference.body_pieces();
        let length = pieces.iter().map(Bytes::len).sum();
        exchange.begin(pieces, now, timeouts.first_byte, timeouts.total);
        inference.response = Response::default();
        inference.attempt.started = Some(now);
        inference.attempt.length = length;
        inference.attempt.addresses = upstream.address_count();
        inference.attempt.answered = false;
        inference.attempt.again = false;
        inference.attempts += u32::from(!again);
        let peer = upstream.peer(&timeouts).await;
        peer.map_err(|error| self.connection_failed(ctx, error))
    }

    /// A connection could not be made: the next candidate, if there is one.
    pub(super) fn connection_failed(&self, ctx: &mut Context, mut error: Box<Error>) -> Box<Error> {
        let Some(inference) = ctx.inference.as_deref_mut() else {
            return error;
        };
        let failure = Failure::Connection(error.etype().as_str().to_owned());
        inference.attempt.addresses_tried += 1;
        if inference.attempt.addresses_tried < inference.attempt.addresses {
            // Nothing was sent yet: the host's next address is part of the same attempt.
            inference.again(failure);
            error.set_retry(true);
            return error;
        }
        self.note_failure(inference, failure);
        error.set_retry(inference.has_next());
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
        error.retry.decide_reuse(reused);
        let safe = error.retry();
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
        let untouched = !written && !inference.attempt.answered && !inference.attempt.reconnected;
        if untouched && was_never_taken(&error, inference, reused, safe) {
            inference.attempt.reconnected = true;
            inference.again(Failure::Connection(error.etype().as_str().to_owned()));
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
        inference.attempt.answered = true;
        let stream = is_event_stream(header);
        let filter = stream && inference.ask.is_some();
        if let Some(tab) = inference.tab.as_deref_mut() {
            let free = inference.endpoint == Endpoint::CountTokens;
            tab.responded(header.status.as_u16(), stream, filter, free);
        }
        if is_failure(header.status) {
            return self.candidate_refused(header, inference, exchange);
        }
        inference.first_byte = Some(now);
        inference.response = if header.status.is_client_error() {
            exchange.set_hold(Hold::Judge);
            Response::Refusal(BytesMut::new())
        } else if stream {
            if header
                .headers
                .get(CONTENT_LENGTH)
                .is_some_and(|length| length != "0")
            {
                // What is taken out of a stream or added to its end would not fit its length.
                header.remove_header(&CONTENT_LENGTH);
                header.insert_header(TRANSFER_ENCODING, "chunked")?;
            }
            exchange.set_hold(Hold::Judge);
            Response::Stream(Box::default())
        } else {
            inference.forget_body();
            Response::Plain
        };
        ctx.answered = Some((header.status.as_u16(), None));
        mark(header, inference, &provider, &ctx.request_id)
    }

    /// A status that sends the request elsewhere. From the last candidate, its body is read for
    /// the provider's own words first.
    fn candidate_refused(
        &self,
        header: &ResponseHeader,
        inference: &mut Inference,
        exchange: &Exchange,
    ) -> Result<()> {
        let retry_after = header.headers.get(RETRY_AFTER);
        let retry_after = retry_after
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned);
        let status = header.status.as_u16();
        let failure = Failure::Status {
            status,
            retry_after,
        };
        self.note_failure(inference, failure);
        if inference.has_next() {
            return Error::err_up(TRY_NEXT);
        }
        exchange.set_hold(Hold::Discard);
        inference.response = Response::Failed(BytesMut::new());
        Ok(())
    }

    /// The answer ended in a form that carries no bytes: lets go of those that were held.
    pub(super) fn response_ended(&self, ctx: &mut Context) -> Result<()> {
        let mut rest = None;
        self.response_continued(&mut rest, true, ctx)?;
        if let (Some(exchange), Some(rest)) = (&ctx.exchange, rest.filter(|rest| !rest.is_empty()))
        {
            exchange.put_tail(rest);
        }
        Ok(())
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
        let now = clock::now();
        exchange.progress(now, deployment.provider.timeouts.idle);
        if let Some(tab) = inference.tab.as_deref_mut() {
            tab.pass(body, end, now);
        }
        match &mut inference.response {
            Response::Plain => {}
            Response::Stream(stream) if stream.passes_untouched(body.as_deref(), end) => {}
            Response::Stream(stream) => {
                match pass_events(stream, body, end, format) {
                    Verdict::Failed(status) if inference.has_next() => {
                        self.note_failure(inference, Failure::ErrorEvent(status));
                        return Error::err_up(TRY_NEXT);
                    }
                    Verdict::Failed(_) => clean(body, &deployment.provider),
                    // Comments say that the provider lives, which matters where none is next.
                    Verdict::Wait if !end && (body.is_none() || inference.has_next()) => {
                        return Ok(());
                    }
                    _ => {}
                }
                inference.forget_body();
                exchange.set_hold(Hold::Pass);
            }
            Response::Refusal(held) => {
                if hold(held, body, end) {
                    clean(body, &deployment.provider);
                    inference.forget_body();
                    exchange.set_hold(Hold::Pass);
                }
            }
            Response::Failed(held) => {
                if let Some(chunk) = body.take() {
                    let room = ERROR_BODY_LIMIT.saturating_sub(held.len()).min(chunk.len());
                    held.extend_from_slice(&chunk[..room]);
                }
                if end {
                    return Error::err_up(TRY_NEXT);
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
        let begun = session.response_written().is_some();
        if !begun {
            ctx.answered = Some((fault.status, Some(fault.code)));
        }
        self.settle_last(ctx);
        let sent = if begun {
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
        let Some(Response::Stream(stream)) = response else {
            return Ok(false);
        };
        let inside = stream.is_inside_event();
        ctx.broke_off = Some(fault.code);
        let mut event = body_of(fault, &ctx.request_id).render_event(ctx.format());
        if inside {
            event = [Bytes::from_static(b"\n\n"), event].concat().into();
        }
        session.write_response_body(Some(event), true).await?;
        Ok(true)
    }

    fn note_failure(&self, inference: &mut Inference, failure: Failure) {
        if let Some(started) = inference.attempt.started.take() {
            inference.upstream_time += clock::now().saturating_duration_since(started);
        }
        if let Some(tab) = inference.tab.as_deref_mut() {
            let empty = matches!(failure, Failure::ErrorEvent(_));
            tab.failed(failure.outcome(), failure.status(), empty, clock::now());
        }
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
    /// The status that the provider answered, 0 if it didn't.
    const fn status(&self) -> u16 {
        match self {
            Self::Status { status, .. } | Self::ErrorEvent(status) => *status,
            Self::Connection(_) | Self::Silent(_) | Self::OverBudget(_) => 0,
        }
    }

    /// The `outcome` label of `llm_router_attempts_total`.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Connection(_) => "connection_failed",
            Self::Silent(_) => "timeout",
            Self::Status { status: 429, .. } => "rate_limited",
            Self::Status { .. } => "status",
            Self::ErrorEvent(_) => "error_event",
            Self::OverBudget(_) => "over_budget",
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
    verdict
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

/// Overwrites our secrets in what a client is shown.
fn clean(body: &mut Option<Bytes>, provider: &Provider) {
    let Some(bytes) = body.as_mut().filter(|_| !provider.secrets.is_empty()) else {
        return;
    };
    let mut cleaned = BytesMut::from(std::mem::take(bytes));
    for secret in &provider.secrets {
        redact(&mut cleaned, secret);
    }
    *bytes = cleaned.freeze();
}

/// A provider's sentence without our credential.
fn redacted(said: String, provider: &Provider) -> String {
    let mut body = Some(Bytes::from(said));
    clean(&mut body, provider);
    String::from_utf8_lossy(&body.unwrap_or_default()).into_owned()
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

/// Whether the upstream can't have taken the request: HTTP/2 says so itself, and a pooled
/// connection that breaks at once had been closed before we used it. One that breaks later may
/// have been answered by nobody and billed all the same.
fn was_never_taken(error: &Error, inference: &Inference, reused: bool, safe: bool) -> bool {
    let broke = matches!(
        error.etype(),
        ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError
    );
    let at_once = elapsed(inference, clock::now()) < AT_ONCE;
    (broke && reused && at_once) || (safe && *error.etype() == ErrorType::H2Error)
}

/// Longer than the round trip in which a closed connection tells of itself, shorter than any
/// model's answer.
const AT_ONCE: Duration = Duration::from_millis(300);

/// What the client is told when every candidate failed.
fn last_failure(inference: &Inference, provider: Option<&Provider>) -> Fault {
    let name = provider.map_or("The provider", |provider| &provider.id);
    match &inference.failure {
        Some(Failure::Status {
            status,
            retry_after,
        }) => {
            let said = match &inference.response {
                Response::Failed(body) => provider_message(body).map(|said| match provider {
                    Some(provider) => redacted(said, provider),
                    None => said,
                }),
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
        Some(Failure::OverBudget(why)) => Fault::insufficient_quota(why.clone()),
        None => Fault::internal(),
    }
}

/// How long the attempt that is passed on has taken so far.
pub(super) fn elapsed(inference: &Inference, now: Instant) -> Duration {
    inference.attempt.started.map_or(Duration::ZERO, |started| {
        now.saturating_duration_since(started)
    })
}
