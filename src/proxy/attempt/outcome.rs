//! What the end of an attempt means: the next candidate, the same one again, or no other; and what
//! the deployment's circuit is told. The table itself is [`llm_router_domain::retry`]'s; what the
//! client is told is not decided here.

use std::time::Duration;

use bytes::BytesMut;
use http::header::RETRY_AFTER;
use llm_router_domain::circuit::Change;
use llm_router_domain::retry::{Ending, Fault, Health, Next, limit_wait, retry_after};
use llm_router_wire::error::says_spend_limit;
use llm_router_wire::translate::TranslateError;
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorSource, ErrorType, Result};

use crate::clock;
use crate::proxy::attempt::elapsed;
use crate::proxy::context::{Context, Inference};
use crate::proxy::downstream::exchange::{Exchange, ResponseGate, TimeoutKind};
use crate::proxy::gateway::{Gateway, TRY_NEXT};
use crate::proxy::response::stream::{Response, error_status};
use crate::snapshot::Timeouts;

/// Why an attempt failed.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// No connection, or one that broke before the answer began.
    Connection(String),
    /// The upstream was silent for too long.
    Silent(Duration),
    /// An answer that says try elsewhere.
    Status {
        status: u16,
        retry_after: Option<String>,
    },
    /// An answer that began with an error although its status was a success.
    ErrorEvent(u16),
    /// An answer that can't be passed on: an error where content was to be, or nothing that could
    /// be read. With the status that it amounts to, and what was said.
    Unusable { status: u16, said: String },
    /// None was made: no candidate's format can express the request.
    Untranslatable(TranslateError),
    /// None was made: the key's budget doesn't allow it. The client is told why.
    OverBudget(String),
    /// None was made: replicas can't ask each other what is left of a budget.
    Uncounted,
    /// None was made: the ledger could not take it, or not say what a budget has left.
    Unjournalled,
    /// The router had to end before the answer was whole.
    Stopped,
}

/// A refusal's header, as far as it decides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusal {
    /// 0 if the status was a success and the body is an error all the same.
    status: u16,
    /// As the provider gave it, for the client.
    retry_after: Option<String>,
    /// Whether it names a time to come back.
    hinted: bool,
    /// How long the deployment is to be left alone, if that can be told.
    wait: Option<Duration>,
}

impl Gateway {
    /// A connection could not be made: the next candidate, if there is one.
    pub(crate) fn connection_failed(&self, ctx: &mut Context, mut error: Box<Error>) -> Box<Error> {
        let Some(inference) = ctx.inference.as_deref_mut() else {
            return error;
        };
        let failure = Failure::Connection(error.etype().as_str().to_owned());
        inference.attempt.addresses_tried += 1;
        if inference.attempt.addresses_tried < inference.attempt.addresses {
            // Nothing was sent yet: the host's next address is part of the same attempt.
            self.again(inference, failure);
            error.set_retry(true);
            return error;
        }
        error.set_retry(self.attempt_ended(inference, failure, Ending::NoConnection, None));
        error
    }

    /// An attempt ended with an error after its connection was made.
    pub(crate) fn attempt_failed(
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
            // The failure was judged where the answer was, unless its body ended just now.
            self.refusal_ended(inference);
            error.set_retry(inference.attempt.next);
            return error;
        }
        let silence = silence_of(&error);
        if silence.is_none() && *error.esource() != ErrorSource::Upstream {
            ctx.client_gone = *error.esource() == ErrorSource::Downstream;
            return error;
        }
        if inference.refusal.is_some() {
            self.refusal_ended(inference);
            error.set_retry(inference.attempt.next);
            return error.into_up();
        }
        if let Some(silence) = silence {
            let Some((waited, early)) = lateness(inference, silence) else {
                // No fault of the deployment's, and what it did is billed as far as it came.
                inference.failure = Some(Failure::Stopped);
                return error.into_up();
            };
            let failure = Failure::Silent(waited);
            let ending = if written { Ending::BrokenLate } else { early };
            error.set_retry(self.attempt_ended(inference, failure, ending, None));
            return error.into_up();
        }
        let failure = Failure::Connection(error.etype().as_str().to_owned());
        let untouched = !written && !inference.attempt.answered && !inference.attempt.reconnected;
        if untouched && was_never_taken(&error, inference, reused, safe) {
            inference.attempt.reconnected = true;
            self.again(inference, failure);
            error.set_retry(true);
            return error;
        }
        let ending = if written {
            Ending::BrokenLate
        } else {
            Ending::CutEarly
        };
        error.set_retry(self.attempt_ended(inference, failure, ending, None));
        error
    }

    /// The answer's header says try elsewhere. Its body is read first where it may say that
    /// trying is no use, and from the last candidate, for the provider's own words.
    pub(crate) fn candidate_refused(
        &self,
        refusal: Refusal,
        inference: &mut Inference,
        exchange: &Exchange,
    ) -> Result<()> {
        let may_be_spend_limit = refusal.status == 429 && !refusal.hinted;
        inference.refusal = Some(refusal);
        if !may_be_spend_limit && inference.may_go_on(clock::now()) {
            self.refusal_ended(inference);
            return Error::err_up(TRY_NEXT);
        }
        exchange.set_hold(ResponseGate::Discard);
        inference.response = Response::Failed(BytesMut::new());
        Ok(())
    }

    /// The answer's body begins with an error although its status is a success: it is read for
    /// what it says, and the attempt has failed.
    pub(crate) fn error_body_began(
        &self,
        body: BytesMut,
        end: bool,
        inference: &mut Inference,
        exchange: &Exchange,
    ) -> Result<()> {
        exchange.set_hold(ResponseGate::Discard);
        inference.response = Response::Failed(body);
        inference.refusal = Some(Refusal::default());
        if end {
            self.refusal_ended(inference);
            return Error::err_up(TRY_NEXT);
        }
        Ok(())
    }

    /// A refusal has come as far as it is read.
    pub(crate) fn refusal_ended(&self, inference: &mut Inference) {
        let Some(refusal) = inference.refusal.take() else {
            return;
        };
        let body = match &inference.response {
            Response::Failed(body) => &body[..],
            _ => &[],
        };
        let (failure, ending) = if refusal.status == 0 {
            let status = error_status(body);
            let ending = Ending::ErrorFirst(Fault::of_status(status));
            (Failure::ErrorEvent(status), ending)
        } else {
            let ending = refusal.ending(says_spend_limit(body));
            let (status, retry_after) = (refusal.status, refusal.retry_after);
            let failure = Failure::Status {
                status,
                retry_after,
            };
            (failure, ending)
        };
        self.attempt_ended(inference, failure, ending, refusal.wait);
    }

    /// An attempt has failed; true if the request goes to the next candidate. `wait`: how long the
    /// provider asks to be left alone.
    pub(crate) fn attempt_ended(
        &self,
        inference: &mut Inference,
        failure: Failure,
        ending: Ending,
        wait: Option<Duration>,
    ) -> bool {
        let now = clock::now();
        if let Some(started) = inference.attempt.started.take() {
            inference.upstream_time += now.saturating_duration_since(started);
        }
        if let Some(tab) = inference.tab.as_deref_mut() {
            let empty = matches!(failure, Failure::ErrorEvent(_) | Failure::Unusable { .. });
            tab.failed(failure.outcome(), failure.status(), empty, now);
        }
        let verdict = ending.verdict();
        self.tell_circuit(inference, verdict.health, wait);
        let next = verdict.next == Next::NextCandidate && inference.may_go_on(now);
        if let Some(deployment) = inference.deployment() {
            let (provider, outcome) = (&deployment.provider.id, failure.outcome());
            self.metrics.attempt(provider, outcome);
            if next {
                self.metrics.deployments.fallback(provider, outcome);
            }
        }
        inference.attempt.counted = true;
        inference.attempt.next = next;
        inference.failure = Some(failure);
        next
    }

    /// Goes on with the same candidate, within the same attempt.
    fn again(&self, inference: &mut Inference, failure: Failure) {
        if let Some(deployment) = inference.deployment() {
            self.metrics.deployments.retry(&deployment.provider.id);
        }
        inference.attempt.again = true;
        inference.failure = Some(failure);
    }

    /// Reports to the deployment's circuit, once for each attempt but for content that breaks off.
    pub(crate) fn tell_circuit(
        &self,
        inference: &mut Inference,
        health: Health,
        wait: Option<Duration>,
    ) {
        let now = clock::now();
        let Some(flight) = inference.route.course.flight() else {
            return;
        };
        let id = flight.deployment().id();
        if let Health::Refused(rest) = health {
            self.metrics.deployments.cooldown(id);
            let rest = flight.refused(rest.or(wait), now);
            tracing::debug!(
                deployment = flight.deployment().id(),
                ?rest,
                "a deployment cools down"
            );
        } else if let Some(change) = flight.report(health, wait, now) {
            self.circuit_changed(flight.deployment().id(), change);
        }
    }

    /// Content has come from the deployment.
    pub(crate) fn content_began(&self, inference: &mut Inference) {
        if inference.attempt.told {
            return;
        }
        inference.attempt.told = true;
        let now = clock::now();
        if let Some(flight) = inference.route.course.flight()
            && let Some(change) = flight.answered(now)
        {
            self.circuit_changed(flight.deployment().id(), change);
        }
    }

    fn circuit_changed(&self, deployment: &str, change: Change) {
        match change {
            Change::Opened(time) => {
                self.metrics.deployments.circuit_opened(deployment);
                let seconds = time.as_secs_f64();
                tracing::warn!(deployment, seconds, "a circuit opened");
            }
            Change::Closed => tracing::info!(deployment, "a circuit closed"),
        }
    }
}

impl Refusal {
    /// What the header of an answer says.
    pub(crate) fn of(header: &ResponseHeader) -> Self {
        let get = |name: &str| header.headers.get(name)?.to_str().ok();
        let now = clock::timestamp();
        let status = header.status.as_u16();
        let asked = retry_after(get, now);
        let wait = match status {
            429 => limit_wait(get, now),
            _ => asked,
        };
        Self {
            status,
            retry_after: get(RETRY_AFTER.as_str()).map(str::to_owned),
            hinted: asked.is_some(),
            wait,
        }
    }

    /// The line of the table that it falls under.
    pub(crate) const fn ending(&self, spend_limit: bool) -> Ending {
        Ending::Status {
            status: self.status,
            spend_limit,
            hinted: self.hinted,
        }
    }

    /// How long the deployment is to be left alone.
    pub(crate) const fn wait(&self) -> Option<Duration> {
        self.wait
    }
}

impl Failure {
    /// The status that the provider answered, 0 if it didn't.
    const fn status(&self) -> u16 {
        match self {
            Self::Status { status, .. }
            | Self::ErrorEvent(status)
            | Self::Unusable { status, .. } => *status,
            Self::Connection(_)
            | Self::Silent(_)
            | Self::OverBudget(_)
            | Self::Unjournalled
            | Self::Uncounted
            | Self::Stopped
            | Self::Untranslatable(_) => 0,
        }
    }

    /// The `outcome` label of `llm_router_attempts_total`.
    fn outcome(&self) -> &'static str {
        match self {
            Self::Connection(_) => "connection_failed",
            Self::Silent(_) => "timeout",
            Self::Status { status: 429, .. } => "rate_limited",
            Self::Status { .. } => "status",
            Self::ErrorEvent(_) | Self::Unusable { .. } => "error_event",
            Self::Untranslatable(_) => "untranslatable",
            Self::OverBudget(_) => "over_budget",
            Self::Unjournalled => "unjournalled",
            Self::Uncounted => "uncounted",
            Self::Stopped => "stopped",
        }
    }
}

fn silence_of(error: &Error) -> Option<TimeoutKind> {
    match error.etype() {
        ErrorType::Custom(name) => TimeoutKind::from_error_type(name),
        ErrorType::ReadTimedout | ErrorType::WriteTimedout => {
            Some(TimeoutKind::FirstByte).filter(|_| *error.esource() == ErrorSource::Upstream)
        }
        _ => None,
    }
}

/// How long the upstream was waited for, and what that makes of an attempt without content; nothing
/// where it was the router that could wait no longer.
fn lateness(inference: &Inference, silence: TimeoutKind) -> Option<(Duration, Ending)> {
    let deployment = inference.deployment();
    let waited = |limit: fn(&Timeouts) -> Duration| {
        deployment.map_or(Duration::ZERO, |found| limit(&found.provider.timeouts))
    };
    match silence {
        TimeoutKind::FirstByte => Some((waited(|limits| limits.first_byte), Ending::SilentEarly)),
        TimeoutKind::Idle => Some((waited(|limits| limits.idle), Ending::CutEarly)),
        TimeoutKind::Total => Some((waited(|limits| limits.total), Ending::OutOfTime)),
        TimeoutKind::Stop => None,
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
