//! Failures of attempts: reads the header of a refusal, and keeps the latest failure for the client
//! and the ledger. It does not decide where a failure leads.

use std::time::Duration;

use http::header::RETRY_AFTER;
use llm_router_domain::retry::{AttemptResult, StreamErrorKind, limit_wait, retry_after};
use llm_router_wire::error::{body_status, provider_details, provider_message, says_spend_limit};
use llm_router_wire::translate::TranslateError;
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorSource, ErrorType};
use serde_json::Value;

use crate::budgets::BudgetRefusal;
use crate::clock;
use crate::proxy::downstream::exchange::{TRY_NEXT, TimeoutKind};
use crate::routing::estimate::MissingBound;

/// Reason for an attempt's failure.
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
        /// The provider's own words, as far as they were read.
        said: Option<String>,
        /// Anthropic's `error.details`.
        details: Option<Box<Value>>,
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
    /// None was made: the key has a budget, and nothing bounds what the request may cost.
    Unbounded(MissingBound),
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
    /// Set if it names a time to retry.
    hinted: bool,
    /// Time that the deployment rests, if the header says so.
    wait: Option<Duration>,
}

impl Refusal {
    /// Reads what the header of an answer says.
    pub(crate) fn from_header(header: &ResponseHeader) -> Self {
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

    /// Returns the row of the retry table that it falls under.
    pub(crate) const fn ending(&self, spend_limit: bool) -> AttemptResult {
        AttemptResult::Status {
            status: self.status,
            spend_limit,
            hinted: self.hinted,
        }
    }

    /// Returns how long the deployment is to be left alone.
    pub(crate) const fn wait(&self) -> Option<Duration> {
        self.wait
    }

    /// Returns whether its body decides: whether it says that the account's money is spent, so that
    /// trying elsewhere is no use, or which error it is.
    pub(crate) const fn must_be_read(&self) -> bool {
        self.status == 0 || self.status == 429 && !self.hinted
    }

    /// Judges the refusal by its body, as far as that was read.
    pub(crate) fn judge(self, body: &[u8]) -> (Failure, AttemptResult) {
        if self.status == 0 {
            let status = body_status(body);
            let ending = AttemptResult::ErrorFirst(StreamErrorKind::from_status(status));
            return (Failure::ErrorEvent(status), ending);
        }
        let ending = self.ending(says_spend_limit(body));
        let failure = Failure::Status {
            status: self.status,
            retry_after: self.retry_after,
            said: provider_message(body),
            details: provider_details(body).map(Box::new),
        };
        (failure, ending)
    }
}

impl Failure {
    /// Returns the status that the provider answered, 0 if it didn't.
    pub(crate) const fn status(&self) -> u16 {
        match self {
            Self::Status { status, .. }
            | Self::ErrorEvent(status)
            | Self::Unusable { status, .. } => *status,
            Self::Connection(_)
            | Self::Silent(_)
            | Self::OverBudget(_)
            | Self::Unbounded(_)
            | Self::Unjournalled
            | Self::Uncounted
            | Self::Stopped
            | Self::Untranslatable(_) => 0,
        }
    }

    /// Returns whether what the provider sent is nothing that it bills.
    pub(crate) const fn is_empty(&self) -> bool {
        matches!(self, Self::ErrorEvent(_) | Self::Unusable { .. })
    }

    /// Returns the `outcome` label of `llm_router_attempts_total`.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Connection(_) => "connection_failed",
            Self::Silent(_) => "timeout",
            Self::Status { status: 429, .. } => "rate_limited",
            Self::Status { .. } => "status",
            Self::ErrorEvent(_) | Self::Unusable { .. } => "error_event",
            Self::Untranslatable(_) => "untranslatable",
            Self::OverBudget(_) => "over_budget",
            Self::Unbounded(_) => "unbounded",
            Self::Unjournalled => "unjournalled",
            Self::Uncounted => "uncounted",
            Self::Stopped => "stopped",
        }
    }
}

impl From<BudgetRefusal> for Failure {
    fn from(refused: BudgetRefusal) -> Self {
        match refused {
            BudgetRefusal::OverBudget(why) | BudgetRefusal::Share(why) => Self::OverBudget(why),
            BudgetRefusal::Unknown => Self::Unjournalled,
            BudgetRefusal::Unavailable => Self::Uncounted,
        }
    }
}

/// Longer than the round trip in which a closed connection tells of itself, shorter than any
/// model's answer.
const AT_ONCE: Duration = Duration::from_millis(300);

/// Cause of an attempt's error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The answer was found to be none, or the reading of a refusal has come to its end.
    Refused,
    /// The upstream was silent for too long. What that is before any content:
    Timeout(AttemptResult),
    /// The router has to end.
    Stopped,
    /// The connection broke. `unused`: the upstream can't have taken the request.
    Broken {
        /// Set if the upstream can't have taken the request.
        unused: bool,
    },
}

/// An error of Pingora's, as far as it concerns the attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Broken<'a> {
    pub(crate) error: &'a Error,
    /// Set if the connection came from the pool.
    pub(crate) reused: bool,
    /// Set if Pingora says that the request can be sent once more.
    pub(crate) safe: bool,
    /// Duration of the attempt so far.
    pub(crate) elapsed: Duration,
}

impl Broken<'_> {
    /// Returns what the error means for the attempt; `None` where it isn't the upstream's.
    pub(crate) fn cause(&self) -> Option<Cause> {
        let error = self.error;
        if *error.etype() == TRY_NEXT {
            return Some(Cause::Refused);
        }
        if let Some(kind) = self.timeout() {
            return Some(match kind {
                TimeoutKind::FirstByte => Cause::Timeout(AttemptResult::SilentEarly),
                TimeoutKind::Idle => Cause::Timeout(AttemptResult::CutEarly),
                TimeoutKind::Total => Cause::Timeout(AttemptResult::OutOfTime),
                TimeoutKind::Stop => Cause::Stopped,
            });
        }
        (*error.esource() == ErrorSource::Upstream).then(|| Cause::Broken {
            unused: self.is_unused(),
        })
    }

    /// Returns the timeout that it is, if it is one.
    pub(crate) fn timeout(&self) -> Option<TimeoutKind> {
        match self.error.etype() {
            ErrorType::Custom(name) => TimeoutKind::from_error_type(name),
            ErrorType::ReadTimedout | ErrorType::WriteTimedout => Some(TimeoutKind::FirstByte)
                .filter(|_| *self.error.esource() == ErrorSource::Upstream),
            _ => None,
        }
    }

    /// Returns whether the upstream can't have taken the request: HTTP/2 says so itself, and a
    /// pooled connection that breaks at once had been closed before we used it. One that breaks
    /// later may have been answered by nobody and billed all the same.
    fn is_unused(&self) -> bool {
        let broke = matches!(
            self.error.etype(),
            ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError
        );
        let at_once = self.elapsed < AT_ONCE;
        (broke && self.reused && at_once)
            || (self.safe && *self.error.etype() == ErrorType::H2Error)
    }
}

#[cfg(test)]
mod tests {
    use pingora::BError;

    use super::*;

    fn cause(error: &BError, reused: bool, elapsed: Duration) -> Option<Cause> {
        let safe = error.retry();
        let broken = Broken {
            error,
            reused,
            safe,
            elapsed,
        };
        broken.cause()
    }

    #[test]
    fn a_pooled_connection_that_breaks_at_once_was_not_used() {
        let late = AT_ONCE;
        for (kind, reused, elapsed, unused) in [
            (ErrorType::ConnectionClosed, true, Duration::ZERO, true),
            (ErrorType::ReadError, true, Duration::ZERO, true),
            (ErrorType::WriteError, true, Duration::ZERO, true),
            (ErrorType::ReadError, true, late, false),
            (ErrorType::ReadError, false, Duration::ZERO, false),
            (ErrorType::InvalidHTTPHeader, true, Duration::ZERO, false),
            (ErrorType::H2Error, true, Duration::ZERO, false),
        ] {
            let error = Error::new_up(kind);
            let found = cause(&error, reused, elapsed);
            assert_eq!(found, Some(Cause::Broken { unused }), "{error}");
        }
        let mut refused = Error::new_up(ErrorType::H2Error);
        refused.set_retry(true);
        let found = cause(&refused, false, late);
        assert_eq!(found, Some(Cause::Broken { unused: true }));
    }

    #[test]
    fn errors_are_told_apart_by_kind_and_source() {
        let of = |kind: TimeoutKind| Error::new(ErrorType::new(kind.error_type()));
        for (error, expected) in [
            (Error::new_up(TRY_NEXT), Some(Cause::Refused)),
            (
                of(TimeoutKind::FirstByte),
                Some(Cause::Timeout(AttemptResult::SilentEarly)),
            ),
            (
                of(TimeoutKind::Idle),
                Some(Cause::Timeout(AttemptResult::CutEarly)),
            ),
            (
                of(TimeoutKind::Total),
                Some(Cause::Timeout(AttemptResult::OutOfTime)),
            ),
            (of(TimeoutKind::Stop), Some(Cause::Stopped)),
            (
                Error::new_up(ErrorType::ReadTimedout),
                Some(Cause::Timeout(AttemptResult::SilentEarly)),
            ),
            (Error::new_down(ErrorType::ReadTimedout), None),
            (Error::new_down(ErrorType::ConnectionClosed), None),
            (Error::new_in(ErrorType::InternalError), None),
        ] {
            assert_eq!(cause(&error, false, Duration::ZERO), expected, "{error}");
        }
    }

    #[test]
    fn refusals_are_judged_by_status_and_body() {
        let refusal = |status| Refusal {
            status,
            ..Refusal::default()
        };
        let (failure, ending) = refusal(0).judge(br#"{"error":{"code":429}}"#);
        assert!(matches!(failure, Failure::ErrorEvent(429)) && failure.is_empty());
        assert_eq!(ending, AttemptResult::ErrorFirst(StreamErrorKind::Overload));

        let spent = br#"{"error":{"message":"No money.","code":"insufficient_quota"}}"#;
        let (failure, ending) = refusal(429).judge(spent);
        let Failure::Status { status, said, .. } = failure else {
            panic!("{failure:?}");
        };
        assert_eq!((status, said.as_deref()), (429, Some("No money.")));
        let expected = AttemptResult::Status {
            status: 429,
            spend_limit: true,
            hinted: false,
        };
        assert_eq!(ending, expected);
    }
}
