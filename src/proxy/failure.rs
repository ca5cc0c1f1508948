//! What the end of an attempt means: the next candidate, the same one again, or no other. What the
//! client is told is not decided here.

use std::time::Duration;

use bytes::BytesMut;
use http::StatusCode;
use http::header::RETRY_AFTER;
use llm_router_wire::translate::TranslateError;
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorSource, ErrorType, Result};

use super::attempt::elapsed;
use super::context::{Context, Inference};
use super::exchange::{Exchange, Hold, Silence};
use super::response::Response;
use super::{Gateway, TRY_NEXT};
use crate::clock;

/// Why an attempt failed.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// No connection, or one that broke before the answer began.
    Connection(String),
    /// The upstream was silent for too long.
    Silent(Duration),
    /// An answer that says try elsewhere.
    Status {
        status: u16,
        retry_after: Option<String>,
    },
    /// A stream that began with an error event.
    ErrorEvent(u16),
    /// An answer that can't be passed on: an error where content was to be, or nothing that could
    /// be read. With the status that it amounts to, and what was said.
    Unusable { status: u16, said: String },
    /// None was made: no candidate's format can express the request.
    Untranslatable(TranslateError),
    /// None was made: the key's budget doesn't allow it. The client is told why.
    OverBudget(String),
}

impl Gateway {
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

    /// A status that sends the request elsewhere. From the last candidate, its body is read for
    /// the provider's own words first.
    pub(super) fn candidate_refused(
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

    pub(super) fn note_failure(&self, inference: &mut Inference, failure: Failure) {
        if let Some(started) = inference.attempt.started.take() {
            inference.upstream_time += clock::now().saturating_duration_since(started);
        }
        if let Some(tab) = inference.tab.as_deref_mut() {
            let empty = matches!(failure, Failure::ErrorEvent(_) | Failure::Unusable { .. });
            tab.failed(failure.outcome(), failure.status(), empty, clock::now());
        }
        if let Some(deployment) = inference.deployment() {
            self.metrics
                .attempt(&deployment.provider.id, failure.outcome());
        }
        inference.failure = Some(failure);
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
        }
    }
}

/// Which statuses say that another candidate may do better (contract, section 4). A redirect is
/// never followed, so it is a failure too.
pub(super) fn is_failure(status: StatusCode) -> bool {
    matches!(status.as_u16(), 300..=399 | 408 | 409 | 429 | 500..=599)
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
