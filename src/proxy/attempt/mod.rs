//! The attempts at answering a request: this room alone changes how far one has come. A request's
//! attempt is begun, connected, answered by a head and chunks, fails or not, and is settled. What
//! each event makes of an attempt's state is [`state`]'s; here it is carried out: the circuit, the
//! metrics and the ledger hear of it. What the client is sent is decided elsewhere.

pub(crate) mod answer;
pub(crate) mod bodies;
pub(crate) mod headers;
pub(crate) mod inference;
pub(crate) mod ledger_entry;
pub(crate) mod outcome;
pub(crate) mod redact;
pub(crate) mod response;
pub(crate) mod settle;
pub(crate) mod state;
pub(crate) mod translation;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use llm_router_config::Timeouts;
use llm_router_domain::circuit::CircuitChange;
use llm_router_domain::format::Endpoint;
use llm_router_domain::retry::{AttemptResult, HealthReport, NextStep, StreamErrorKind};
use llm_router_wire::stream::AnswerStream;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use crate::clock;
use crate::proxy::attempt::answer::Answer;
use crate::proxy::attempt::inference::Inference;
use crate::proxy::attempt::ledger_entry::EntryDraft;
use crate::proxy::attempt::outcome::{Broken, Failure, Refusal};
use crate::proxy::attempt::redact::clean;
use crate::proxy::attempt::response::{Response, Step};
use crate::proxy::attempt::state::Reaction;
use crate::proxy::downstream::exchange::{Exchange, ResponseGate, TRY_NEXT, TimeoutKind};
use crate::proxy::gateway::Gateway;
use crate::telemetry::traces::{TRACEPARENT, TRACESTATE};

/// Header in which Gemini names the service tier of an answer.
const SERVICE_TIER: &str = "x-gemini-service-tier";

/// Effect of a chunk on the answer, beside its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Passed {
    /// Nothing more than the head said.
    #[default]
    Bytes,
    /// The answer's status is this one.
    Status(u16),
    /// The stream ended in an error of the provider's.
    BrokenOff,
}

/// Outcome of an error that Pingora reported.
pub(crate) struct Failed {
    pub(crate) error: Box<Error>,
    /// Set if the client has disconnected.
    pub(crate) client_gone: bool,
}

impl Gateway {
    /// Begins the next attempt, or goes on with the one that lost its connection: chooses the peer
    /// and prepares the body for it.
    ///
    /// # Errors
    /// When there is no candidate left, the attempt may not be made, or its upstream has no address.
    pub(crate) async fn begin(
        &self,
        inference: &mut Inference,
        exchange: &Exchange,
    ) -> Result<Box<HttpPeer>> {
        if exchange.draining() {
            // What was read on without the client has failed: nobody waits for another attempt.
            return Error::err_down(ErrorType::ConnectionClosed);
        }
        let now = clock::now();
        if !inference.attempts.state.reconnects() {
            inference.attempts.first_began.get_or_insert(now);
            self.next_candidate(inference, now)?;
            self.open_entry(inference, now).await?;
            if let Some(trace) = inference.attempts.trace.as_deref_mut() {
                trace.next_attempt();
            }
        }
        let Some(deployment) = inference.deployment() else {
            return Error::err_in(ErrorType::InternalError);
        };
        let (timeouts, drain) = (
            deployment.provider.timeouts,
            deployment.provider.drain_time(),
        );
        let upstreams = &inference.request.live.upstreams;
        let Some(upstream) = upstreams.get(deployment.provider_index).cloned() else {
            return Error::err_in(ErrorType::InternalError);
        };
        let pieces = inference.body_pieces();
        let attempts = &mut inference.attempts;
        exchange.begin(pieces, now, timeouts.first_byte, timeouts.total);
        exchange.set_drain(drain);
        attempts.response = Response::default();
        attempts.started = Some(now);
        attempts.begun += u32::from(attempts.state.begin(upstream.address_count()));
        let peer = upstream.peer(&timeouts).await;
        peer.map_err(|error| self.connect_failed(inference, error))
    }

    /// Goes on to the next candidate that the request can be put to, and prepares what it is sent.
    fn next_candidate(&self, inference: &mut Inference, now: Instant) -> Result<()> {
        let before = inference.deployment().cloned();
        let mut refusal = None;
        inference.attempts.explain_resting(now);
        while inference.choose(&self.budgets, now) {
            let Err(error) = inference.prepare() else {
                return Ok(());
            };
            let id = &*inference.request.id;
            tracing::debug!(%error, request.id = id, "a candidate can't express the request");
            inference
                .attempts
                .explain_left_out("it can't express the request");
            refusal.get_or_insert(error);
        }
        // What was tried before says more than what could not be tried.
        let attempts = &mut inference.attempts;
        if let (None, Some(error)) = (&attempts.failure, refusal) {
            attempts.failure = Some(Failure::Untranslatable(error));
        } else {
            attempts.cursor.go_back(before);
        }
        Error::err_in(ErrorType::InternalError)
    }

    /// Notes that the attempt has its connection.
    pub(crate) fn connected(&self, inference: &mut Inference, reused: bool) {
        inference.attempts.state.set_sent();
        if let Some(entry) = inference.attempts.entry.as_deref_mut() {
            entry.note_connection(reused, clock::now());
        }
    }

    /// A connection could not be made: the host's next address, else the next candidate.
    pub(crate) fn connect_failed(
        &self,
        inference: &mut Inference,
        mut error: Box<Error>,
    ) -> Box<Error> {
        let failure = Failure::Connection(error.etype().as_str().to_owned());
        if inference.attempts.state.connect_failed() {
            // Nothing was sent yet: the host's next address is part of the same attempt.
            self.reconnect(inference, failure);
            error.set_retry(true);
            return error;
        }
        error.set_retry(self.end(inference, failure, AttemptResult::NoConnection, None));
        error
    }

    /// The head of an answer came: decides how the answer is treated.
    ///
    /// # Errors
    /// When the request goes to the next candidate.
    pub(crate) fn head(
        &self,
        inference: &mut Inference,
        exchange: &Exchange,
        header: &mut ResponseHeader,
    ) -> Result<HeadVerdict> {
        let Some(deployment) = inference.deployment() else {
            return Ok(HeadVerdict::Withheld);
        };
        let now = clock::now();
        exchange.progress(now, deployment.provider.timeouts.idle);
        let status = header.status.as_u16();
        let framing = deployment
            .provider
            .kind
            .framing(inference.provider_format());
        let stream = headers::has_type(header, framing.media_type());
        let events = stream && inference.translation().is_none_or(|sent| sent.stream);
        if let Some(entry) = inference.attempts.entry.as_deref_mut() {
            let free = inference.request.endpoint == Endpoint::CountTokens;
            entry.begin_response(status, events, free);
            let tier = header.headers.get(SERVICE_TIER);
            entry.note_tier(tier.and_then(|tier| tier.to_str().ok()));
        }
        let refusal = Refusal::from_header(header);
        let verdict = refusal.ending(false).decision();
        if verdict.next == NextStep::NextCandidate {
            self.refuse(inference, exchange, refusal, BytesMut::new(), false)?;
            return Ok(HeadVerdict::Withheld);
        }
        let declined = header.status.is_client_error();
        if declined {
            self.report_health(inference, verdict.health, refusal.wait());
            inference.attempts.state.decline();
        } else {
            inference.attempts.state.answer();
        }
        inference.attempts.first_byte = Some(now);
        let answer = inference.translation().and_then(|sent| {
            let from = inference.provider_format();
            Answer::new(from, inference.request.endpoint, sent, status, stream)
        });
        let response = if let Some(answer) = answer {
            answer.adapt(header)?;
            Response::Translated(Box::new(answer))
        } else if declined {
            Response::Declined(BytesMut::new())
        } else if stream {
            headers::open_length(header)?;
            Response::Stream(Box::new(answer_stream(inference)))
        } else if headers::has_type(header, "application/json") {
            Response::Opening(BytesMut::new())
        } else {
            inference.attempts.bodies.forget();
            Response::Plain
        };
        if !matches!(response, Response::Plain) {
            exchange.set_gate(ResponseGate::Judge);
        }
        inference.attempts.response = response;
        Ok(HeadVerdict::Passed)
    }

    /// The answer is an error that another candidate may not make. Its body is read first where it
    /// may say that trying is no use, and from the last candidate, for the provider's own words.
    fn refuse(
        &self,
        inference: &mut Inference,
        exchange: &Exchange,
        refusal: Refusal,
        body: BytesMut,
        end: bool,
    ) -> Result<()> {
        let read = refusal.must_be_read() || !inference.may_go_on(clock::now());
        inference.attempts.state.refuse(refusal, body);
        if end || !read {
            self.judge_refusal(inference);
            return Error::err_up(TRY_NEXT);
        }
        exchange.set_gate(ResponseGate::Discard);
        Ok(())
    }

    /// More of the answer came, or its end. What is left in `body` is the client's.
    ///
    /// # Errors
    /// When the attempt has failed: the request goes to the next candidate, or is given up.
    pub(crate) fn chunk(
        &self,
        inference: &mut Inference,
        exchange: &Exchange,
        body: &mut Option<Bytes>,
        end: bool,
    ) -> Result<Passed> {
        let Some(deployment) = inference.deployment() else {
            return Ok(Passed::Bytes);
        };
        let now = clock::now();
        exchange.progress(now, deployment.provider.timeouts.idle);
        let attempts = &mut inference.attempts;
        if let Some(entry) = attempts.entry.as_deref_mut() {
            entry.note_body(body.as_ref(), end, now);
        }
        let refused = attempts
            .state
            .read_refusal(body.as_deref().unwrap_or_default(), end);
        if let Some(whole) = refused {
            body.take();
            if whole {
                self.judge_refusal(inference);
                return Error::err_up(TRY_NEXT);
            }
            return Ok(Passed::Bytes);
        }
        let step = attempts.response.take(body, end);
        let stream = attempts.response.stream();
        if let (Some(entry), Some(stream)) = (attempts.entry.as_deref_mut(), stream) {
            entry.note_events(stream.observations(), now);
        }
        self.step(inference, exchange, body, step, end)
    }

    /// Carries out what came of more of an answer.
    fn step(
        &self,
        inference: &mut Inference,
        exchange: &Exchange,
        body: &mut Option<Bytes>,
        step: Step,
        end: bool,
    ) -> Result<Passed> {
        let mut passed = Passed::Bytes;
        let mut dirty = false;
        match step {
            Step::Wait => return Ok(passed),
            // Comments say that the provider lives, which matters where none is next.
            Step::Comment if inference.may_go_on(clock::now()) => return Ok(passed),
            Step::ErrorBody(held) => {
                self.refuse(inference, exchange, Refusal::default(), held, end)?;
                return Ok(passed);
            }
            Step::ErrorEvent(status) => {
                let ending = AttemptResult::ErrorFirst(StreamErrorKind::from_status(status));
                if self.end(inference, Failure::ErrorEvent(status), ending, None) {
                    return Error::err_up(TRY_NEXT);
                }
                dirty = true;
            }
            Step::Unusable(status, said) => {
                let ending = AttemptResult::ErrorFirst(StreamErrorKind::from_status(status));
                self.end(inference, Failure::Unusable { status, said }, ending, None);
                return Error::err_up(TRY_NEXT);
            }
            Step::Refused(status) => {
                exchange.set_status(status);
                passed = Passed::Status(status);
                dirty = true;
            }
            Step::BrokenOff => {
                self.report_health(inference, AttemptResult::BrokenLate.decision().health, None);
                passed = Passed::BrokenOff;
                dirty = true;
            }
            Step::PassCleaned => dirty = true,
            Step::Comment | Step::Pass | Step::Continue => {}
        }
        if dirty && let Some(deployment) = inference.deployment() {
            clean(body, &deployment.provider);
        }
        if step == Step::PassCleaned && !end {
            inference.attempts.response.hold_back(body);
        }
        if step != Step::Continue {
            inference.attempts.bodies.forget();
            exchange.set_gate(ResponseGate::Pass);
        }
        self.answer_passed(inference, end);
        Ok(passed)
    }

    /// Tells the circuit of an answer that the client is being sent: of its first content, or of
    /// its end if it has none.
    fn answer_passed(&self, inference: &mut Inference, end: bool) {
        let attempts = &mut inference.attempts;
        if !attempts.response.is_answer() {
            return;
        }
        let entry = attempts.entry.as_deref();
        if entry.is_some_and(EntryDraft::content_began) {
            if attempts.state.note_content()
                && let Some(flight) = attempts.cursor.flight()
                && let Some(change) = flight.report_content(clock::now())
            {
                self.circuit_changed(flight.deployment().id(), change);
            }
        } else if end && attempts.state.note_end() {
            self.report_health(inference, HealthReport::Good, None);
        }
    }

    /// An attempt met an error after its connection was made. `written`: the client has been sent
    /// some of the answer.
    pub(crate) fn fail(
        &self,
        inference: &mut Inference,
        mut error: Box<Error>,
        reused: bool,
        written: bool,
    ) -> Failed {
        error.retry.decide_reuse(reused);
        let broken = Broken {
            safe: error.retry(),
            error: &error,
            reused,
            elapsed: inference.attempts.elapsed(clock::now()),
        };
        let (cause, timeout) = (broken.cause(), broken.timeout());
        error.set_retry(false);
        let Some(cause) = cause else {
            let client_gone = *error.esource() == pingora::ErrorSource::Downstream;
            return Failed { error, client_gone };
        };
        let judged = *error.etype() == TRY_NEXT;
        let retry = match inference.attempts.state.fail(cause, written) {
            Reaction::Reconnect => {
                self.reconnect(inference, connection_failure(&error));
                true
            }
            Reaction::Judge(refusal, body) => {
                self.end_refused(inference, refusal, &body);
                inference.attempts.state.goes_on()
            }
            Reaction::End(ending) => {
                let failure = match timeout {
                    Some(kind) => Failure::Silent(timeout_of(inference, kind)),
                    None => connection_failure(&error),
                };
                self.end(inference, failure, ending, None)
            }
            Reaction::Over(next) => next,
            // No fault of the deployment's, and what it did is billed as far as it came.
            Reaction::Stop => {
                inference.attempts.failure = Some(Failure::Stopped);
                false
            }
        };
        error.set_retry(retry);
        if !judged && (timeout.is_some() || *error.esource() != pingora::ErrorSource::Upstream) {
            error = error.into_up();
        }
        Failed {
            error,
            client_gone: false,
        }
    }

    /// Judges a refusal that has come as far as it is read.
    fn judge_refusal(&self, inference: &mut Inference) {
        if let Some((refusal, body)) = inference.attempts.state.take_refusal() {
            self.end_refused(inference, refusal, &body);
        }
    }

    fn end_refused(&self, inference: &mut Inference, refusal: Refusal, body: &[u8]) {
        let wait = refusal.wait();
        let (failure, ending) = refusal.judge(body);
        self.end(inference, failure, ending, wait);
    }

    /// Ends an attempt that has failed; true if the request goes to the next candidate. `wait`: how
    /// long the provider asks to be left alone.
    fn end(
        &self,
        inference: &mut Inference,
        failure: Failure,
        ending: AttemptResult,
        wait: Option<Duration>,
    ) -> bool {
        let now = clock::now();
        let verdict = ending.decision();
        inference.attempts.stop_time(now);
        if let Some(entry) = inference.attempts.entry.as_deref_mut() {
            entry.note_failure(failure.outcome(), failure.status(), failure.is_empty(), now);
        }
        self.report_health(inference, verdict.health, wait);
        let may_go_on = inference.may_go_on(now);
        let next = inference.attempts.state.end(verdict, may_go_on);
        if let Some(deployment) = inference.deployment() {
            let (provider, outcome) = (&deployment.provider.id, failure.outcome());
            self.metrics.attempt(provider, outcome);
            if next {
                self.metrics.deployments.fallback(provider, outcome);
            }
        }
        inference.attempts.failure = Some(failure);
        next
    }

    /// Goes on with the same candidate, within the same attempt.
    fn reconnect(&self, inference: &mut Inference, failure: Failure) {
        if let Some(deployment) = inference.deployment() {
            self.metrics.deployments.retry(&deployment.provider.id);
        }
        inference.attempts.failure = Some(failure);
    }

    /// Reports to the deployment's circuit.
    fn report_health(
        &self,
        inference: &mut Inference,
        health: HealthReport,
        wait: Option<Duration>,
    ) {
        let now = clock::now();
        let Some(flight) = inference.attempts.cursor.flight() else {
            return;
        };
        let id = flight.deployment().id();
        if let HealthReport::Refused(rest) = health {
            self.metrics.deployments.cooldown(id);
            let rest = flight.report_refusal(rest.or(wait), now);
            let deployment = flight.deployment().id();
            tracing::debug!(deployment, ?rest, "deployment in cooldown");
        } else if let Some(change) = flight.report(health, wait, now) {
            self.circuit_changed(flight.deployment().id(), change);
        }
    }

    fn circuit_changed(&self, deployment: &str, change: CircuitChange) {
        match change {
            CircuitChange::Opened(time) => {
                self.metrics.deployments.circuit_opened(deployment);
                let seconds = time.as_secs_f64();
                tracing::warn!(deployment, seconds, "circuit opened");
            }
            CircuitChange::Closed => tracing::info!(deployment, "circuit closed"),
        }
    }
}

/// Decision on an answer whose head has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadVerdict {
    /// It is, if what follows doesn't show it to be an error.
    Passed,
    /// It isn't: the answer is read for what it says, and the attempt has failed.
    Withheld,
}

/// Addresses the request to the current candidate and authorizes it.
///
/// # Errors
/// Returns an error if a header can't be set or the candidate's credential can't be used.
pub(crate) fn address(
    request: &mut RequestHeader,
    inference: &Inference,
    exchange: &Exchange,
) -> Result<()> {
    let Some(deployment) = inference.deployment() else {
        return Ok(());
    };
    if let Some(trace) = &inference.attempts.trace {
        let (parent, keeps_state) = trace.context();
        if !keeps_state {
            request.remove_header(TRACESTATE);
        }
        if let Some(parent) = parent {
            request.insert_header(TRACEPARENT, parent)?;
        }
    }
    let target = inference.upstream_target();
    let body = exchange.outgoing();
    headers::for_provider(request, &deployment.provider, &target, &body)
}

/// The stream of an answer in the client's own format.
fn answer_stream(inference: &Inference) -> AnswerStream {
    let endpoint = inference.request.endpoint;
    let format = endpoint.format();
    if inference.request.usage_option.is_some() {
        AnswerStream::without_usage(format, endpoint)
    } else {
        AnswerStream::pass_through(format, endpoint)
    }
}

fn connection_failure(error: &Error) -> Failure {
    Failure::Connection(error.etype().as_str().to_owned())
}

/// Returns how long the upstream was waited for when it was given up on.
fn timeout_of(inference: &Inference, kind: TimeoutKind) -> Duration {
    let limit = |timeouts: &Timeouts| match kind {
        TimeoutKind::FirstByte => timeouts.first_byte,
        TimeoutKind::Idle => timeouts.idle,
        TimeoutKind::Total => timeouts.total,
        TimeoutKind::Stop => Duration::ZERO,
    };
    let deployment = inference.deployment();
    deployment.map_or(Duration::ZERO, |found| limit(&found.provider.timeouts))
}
