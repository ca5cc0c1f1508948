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

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use llm_router_config::Timeouts;
use llm_router_domain::circuit::CircuitChange;
use llm_router_domain::format::Endpoint;
use llm_router_domain::retry::{AccountError, AttemptResult, HealthReport, NextStep};
use llm_router_wire::coding::Codings;
use llm_router_wire::error::{account_error, names_field, provider_details, provider_message};
use llm_router_wire::stream::AnswerStream;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use crate::clock;
use crate::error::ApiError;
use crate::proxy::attempt::answer::Answer;
use crate::proxy::attempt::inference::Inference;
use crate::proxy::attempt::ledger_entry::EntryDraft;
use crate::proxy::attempt::outcome::{Broken, CUT, Failure, Refusal, judge_error};
use crate::proxy::attempt::redact::{clean, clean_text};
use crate::proxy::attempt::response::{EMPTY, Response, Step};
use crate::proxy::attempt::state::Reaction;
use crate::proxy::downstream::exchange::{
    EMPTY_ANSWER, Exchange, ResponseGate, TRY_NEXT, TimeoutKind,
};
use crate::proxy::downstream::reply::body_of;
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
        let first_byte = first_byte_limit(inference, &timeouts);
        let attempts = &mut inference.attempts;
        exchange.begin(pieces, now, first_byte, timeouts.total);
        exchange.set_drain(drain);
        attempts.response = Response::default();
        attempts.decoder = None;
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
    /// When the request goes to the next candidate, or has failed at the last.
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
        let events = inference.asks_stream() && !headers::has_type(header, "application/json");
        if let Some(entry) = inference.attempts.entry.as_deref_mut() {
            let free = inference.request.endpoint == Endpoint::CountTokens;
            entry.begin_response(status, events, free);
            let tier = header.headers.get(SERVICE_TIER);
            entry.note_tier(tier.and_then(|tier| tier.to_str().ok()));
        }
        let codings = headers::codings(header);
        let readable = !matches!(codings, Codings::Unknown);
        let empty = headers::has_no_body(header);
        let refusal = Refusal::from_header(header);
        if refusal.ending(None).decision().next == NextStep::NextCandidate {
            let alone = inference.translation().is_none() && inference.is_only_candidate();
            let known = (400..600).contains(&status);
            let refusal = if alone && readable && known {
                refusal.with_head(header)
            } else {
                refusal
            };
            self.decode(inference, codings);
            self.refuse(inference, exchange, refusal, empty)?;
            return Ok(HeadVerdict::Withheld);
        }
        let declined = header.status.is_client_error();
        if declined && (empty || !readable) {
            // Nothing of it can be passed on but its status.
            let wait = refusal.wait();
            let (failure, ending) = refusal.judge(b"");
            self.end(inference, failure, ending, wait);
            return Error::err_up(TRY_NEXT);
        }
        if empty || !readable {
            let why = if empty { EMPTY } else { UNDECODABLE };
            return self.no_answer(inference, why);
        }
        if declined {
            inference.attempts.state.decline();
        } else {
            inference.attempts.state.answer();
        }
        inference.attempts.first_byte = Some(now);
        if self.decode(inference, codings) {
            headers::set_decoded(header)?;
        }
        inference.attempts.response = response_of(inference, header, events)?;
        exchange.set_gate(ResponseGate::Judge);
        Ok(HeadVerdict::Passed)
    }

    /// Begins to undo the codings of the response's body; true if it has any.
    fn decode(&self, inference: &mut Inference, codings: Codings) -> bool {
        inference.attempts.decoder = match codings {
            Codings::Known(decoder) => Some(decoder),
            Codings::Identity | Codings::Unknown => None,
        };
        inference.attempts.decoder.is_some()
    }

    /// The answer is an error that another candidate may not make. Its body is read first where it
    /// may be our account that is refused, and from the last candidate, for the provider's own words.
    fn refuse(
        &self,
        inference: &mut Inference,
        exchange: &Exchange,
        refusal: Refusal,
        empty: bool,
    ) -> Result<()> {
        let read = refusal.must_be_read() || !inference.may_go_on(clock::now());
        inference.attempts.state.refuse(refusal, BytesMut::new());
        if empty || !read {
            self.judge_refusal(inference);
            return Error::err_up(TRY_NEXT);
        }
        exchange.set_gate(ResponseGate::Discard);
        Ok(())
    }

    /// Ends an attempt whose response is no answer: the request goes to the next candidate, or has
    /// failed.
    ///
    /// # Errors
    /// Always.
    fn no_answer<T>(&self, inference: &mut Inference, why: &'static str) -> Result<T> {
        let failure = Failure::NoAnswer(why);
        self.end(inference, failure, AttemptResult::NoAnswer, None);
        Error::err_up(TRY_NEXT)
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
        self.undo_coding(inference, exchange, body, end)?;
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
            entry.note_events(stream.has_content(), now);
        }
        self.step(inference, exchange, body, step, end)
    }

    /// Undoes the codings of a chunk.
    ///
    /// # Errors
    /// When it can't be decoded: the attempt has failed, or its answer is broken.
    fn undo_coding(
        &self,
        inference: &mut Inference,
        exchange: &Exchange,
        body: &mut Option<Bytes>,
        end: bool,
    ) -> Result<()> {
        let Some(decoder) = &mut inference.attempts.decoder else {
            return Ok(());
        };
        let decoded = decoder.push(body.as_deref().unwrap_or_default(), end);
        match decoded {
            Ok(decoded) => {
                *body = Some(decoded).filter(|decoded| end || !decoded.is_empty());
                Ok(())
            }
            Err(error) if exchange.gate() == ResponseGate::Pass => {
                let broken = ErrorType::new("UpstreamUndecodable");
                Err(Error::explain(broken, error.to_string()).into_up())
            }
            Err(_) if exchange.gate() == ResponseGate::Discard => {
                self.judge_refusal(inference);
                Error::err_up(TRY_NEXT)
            }
            Err(_) => self.no_answer(inference, UNDECODABLE),
        }
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
        let (mut dirty, mut continues) = (false, false);
        match step {
            Step::Wait => return Ok(passed),
            Step::NoAnswer(why) => return self.no_answer(inference, why),
            Step::Failed(error) => {
                let (failure, ending) = judge_error(error);
                self.end(inference, failure, ending, None);
                return Error::err_up(TRY_NEXT);
            }
            Step::Refused { status, raw } => {
                self.judge_declined(inference, status, &raw)?;
                if exchange.head_sent() {
                    return self.declined_late(inference, status, &raw);
                }
                exchange.set_status(status);
                passed = Passed::Status(status);
                dirty = true;
            }
            Step::BrokenOff => {
                self.broke_off(inference);
                passed = Passed::BrokenOff;
                dirty = true;
            }
            Step::Cut => {
                let event = self.cut_event(inference);
                *body = Some([body.take().unwrap_or_default(), event].concat().into());
                self.broke_off(inference);
                passed = Passed::BrokenOff;
            }
            Step::PassCleaned => dirty = true,
            Step::Pass
                if exchange.head_sent() && inference.attempts.response.stream().is_none() =>
            {
                if inference.translation().is_none() {
                    return self.no_answer(inference, NO_STREAM);
                }
            }
            Step::Pass => {}
            Step::Continue => continues = true,
        }
        if dirty && let Some(deployment) = inference.deployment() {
            clean(body, &deployment.provider);
        }
        if dirty && !end {
            inference.attempts.response.hold_back(body);
        }
        if !continues {
            inference.attempts.bodies.forget();
            exchange.set_gate(ResponseGate::Pass);
        }
        self.answer_passed(inference, end);
        Ok(passed)
    }

    /// Judges a refusal that would be passed on, by what it says: it isn't where our account is
    /// refused, or a field that the client didn't send.
    ///
    /// # Errors
    /// When the request goes elsewhere, has failed, or is sent once more without that field.
    fn judge_declined(&self, inference: &mut Inference, status: u16, raw: &[u8]) -> Result<()> {
        if let Some(account) = account_error(status, raw) {
            let failure = Failure::Account {
                status,
                account,
                said: provider_message(raw),
            };
            let ending = AttemptResult::Status {
                status,
                account: Some(account),
                hinted: false,
            };
            self.end(inference, failure, ending, None);
            return Error::err_up(TRY_NEXT);
        }
        let names_option = matches!(status, 400 | 422) && names_field(raw, "stream_options");
        if names_option && inference.injected_usage_option() && self.drop_usage_option(inference) {
            return Error::err_up(TRY_NEXT);
        }
        self.report_health(inference, HealthReport::Good, None);
        Ok(())
    }

    /// The provider refuses the request, and the client has been sent the head of a stream already:
    /// it is told by an event.
    ///
    /// # Errors
    /// Always.
    fn declined_late<T>(&self, inference: &mut Inference, status: u16, raw: &[u8]) -> Result<T> {
        let failure = Failure::Status {
            status,
            retry_after: None,
            said: provider_message(raw),
            details: provider_details(raw).map(Box::new),
            reply: None,
        };
        let ending = AttemptResult::Status {
            status,
            account: None,
            hinted: false,
        };
        self.end(inference, failure, ending, None);
        Error::err_up(TRY_NEXT)
    }

    /// Prepares the request for the same candidate once more, without what asks for a usage chunk;
    /// true if that can be sent.
    fn drop_usage_option(&self, inference: &mut Inference) -> bool {
        let Some(deployment) = inference.deployment() else {
            return false;
        };
        let upstreams = &inference.request.live.upstreams;
        if let Some(upstream) = upstreams.get(deployment.provider_index) {
            let provider = &deployment.provider.id;
            tracing::info!(
                provider,
                "the provider refuses to be asked for usage chunks"
            );
            upstream.note_usage_option_refused(clock::now());
        }
        if inference.prepare().is_err() {
            return false;
        }
        inference.attempts.state.resend();
        true
    }

    /// Notes that the answer broke after its content had begun.
    fn broke_off(&self, inference: &mut Inference) {
        self.report_health(inference, AttemptResult::BrokenLate.decision().health, None);
        let attempts = &mut inference.attempts;
        let stream = attempts.response.stream();
        let said = stream.is_some_and(|stream| stream.observations().failed);
        let code = if said { "error_event" } else { CUT };
        if let Some(entry) = attempts.entry.as_deref_mut() {
            entry.note_broken(code, clock::now());
        }
        if let Some(deployment) = inference.deployment() {
            self.metrics.attempt(&deployment.provider.id, code);
        }
    }

    /// Returns the event that tells the client that its stream is not whole.
    fn cut_event(&self, inference: &mut Inference) -> Bytes {
        let provider = inference.deployment().map(|found| &found.provider.id);
        let name = provider.map_or("The provider", String::as_str);
        let fault = ApiError::upstream_error(
            502,
            format!("The stream of {name} ended before the answer did."),
        );
        let id = Arc::clone(&inference.request.id);
        let event = inference.attempts.response.break_off(&body_of(&fault, &id));
        event.unwrap_or_default()
    }

    /// Tells the circuit of an answer that the client is being sent: of its first content, or of
    /// its end if it has none.
    fn answer_passed(&self, inference: &mut Inference, end: bool) {
        let attempts = &mut inference.attempts;
        if !attempts.response.is_answer() {
            return;
        }
        let content = match attempts.response.stream() {
            Some(stream) => stream.has_content(),
            None => {
                let entry = attempts.entry.as_deref();
                entry.is_some_and(EntryDraft::content_began)
            }
        };
        if content {
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
        let written = written || inference.attempts.bodies.is_forgotten();
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
                    None if *error.etype() == EMPTY_ANSWER => Failure::NoAnswer(EMPTY),
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
        if let Failure::Account {
            status,
            account,
            said,
        } = &failure
        {
            self.account_refused(inference, *status, *account, said.clone());
        }
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

    /// Tells the operator that a provider refuses our credential or account.
    fn account_refused(
        &self,
        inference: &Inference,
        status: u16,
        account: AccountError,
        said: Option<String>,
    ) {
        let Some(deployment) = inference.deployment() else {
            return;
        };
        let reason = match account {
            AccountError::Credential => "credential",
            AccountError::OutOfMoney => "out_of_money",
        };
        let provider = &*deployment.provider;
        let said = said.map(|said| clean_text(said, provider));
        let said = said.as_deref().unwrap_or_default();
        let said: String = said.chars().take(LONGEST_LOGGED).collect();
        self.metrics.deployments.account_error(&provider.id, reason);
        tracing::error!(
            provider = provider.id,
            model = &*deployment.model,
            status,
            reason,
            said,
            request.id = &*inference.request.id,
            "a provider refuses the router's credential or account"
        );
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

/// Begins the treatment of a response that may be passed on. `events`: it is a stream of events.
fn response_of(
    inference: &Inference,
    header: &mut ResponseHeader,
    events: bool,
) -> Result<Response> {
    let status = header.status.as_u16();
    let endpoint = inference.request.endpoint;
    let answer = inference.translation().and_then(|sent| {
        let from = inference.provider_format();
        Answer::new(from, endpoint, sent, status, events)
    });
    Ok(if let Some(answer) = answer {
        answer.adapt(header)?;
        Response::Translated(Box::new(answer))
    } else if header.status.is_client_error() {
        Response::for_refusal(status)
    } else if events {
        headers::open_length(header)?;
        Response::Stream(Box::new(answer_stream(inference)))
    } else {
        Response::for_body(endpoint)
    })
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

/// Reason against a plain answer to a client that was sent the head of a stream.
const NO_STREAM: &str = "the body is no stream";

/// Reason against a body with codings that can't be undone.
const UNDECODABLE: &str = "the body can't be decoded";

/// The most characters of a provider's sentence that are logged.
const LONGEST_LOGGED: usize = 500;

/// Returns how long the current candidate has until the first byte of its answer; `None`: until the
/// answer's total time is over.
fn first_byte_limit(inference: &Inference, timeouts: &Timeouts) -> Option<Duration> {
    if inference.asks_stream() {
        Some(timeouts.first_byte)
    } else {
        timeouts.first_byte_plain
    }
}

fn connection_failure(error: &Error) -> Failure {
    Failure::Connection(error.etype().as_str().to_owned())
}

/// Returns how long the upstream was waited for when it was given up on.
fn timeout_of(inference: &Inference, kind: TimeoutKind) -> Duration {
    let limit = |timeouts: &Timeouts| match kind {
        TimeoutKind::FirstByte => first_byte_limit(inference, timeouts).unwrap_or(timeouts.total),
        TimeoutKind::Idle => timeouts.idle,
        TimeoutKind::Total => timeouts.total,
        TimeoutKind::Stop => Duration::ZERO,
    };
    let deployment = inference.deployment();
    deployment.map_or(Duration::ZERO, |found| limit(&found.provider.timeouts))
}
