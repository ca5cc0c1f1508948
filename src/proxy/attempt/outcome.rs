//! Failures of attempts: reads the header of a refusal, and keeps the latest failure for the client
//! and the ledger. It does not decide where a failure leads.

use std::time::Duration;

use bytes::Bytes;
use http::header::RETRY_AFTER;
use llm_router_domain::retry::{
    AccountError, AttemptResult, StreamErrorKind, limit_wait, retry_after,
};
use llm_router_wire::error::{account_error, provider_details, provider_message};
use llm_router_wire::stream::StreamError;
use llm_router_wire::translate::TranslateError;
use pingora::http::ResponseHeader;
use pingora::{Error, ErrorSource, ErrorType};
use serde_json::Value;

use crate::budgets::BudgetRefusal;
use crate::clock;
use crate::proxy::attempt::state::ERROR_BODY_LIMIT;
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
        /// The answer itself, where it is the client's to see.
        reply: Option<Box<ProviderReply>>,
        /// Anthropic's `error.details`.
        details: Option<Box<Value>>,
    },
    /// The provider refuses our credential or account. What it said is for the log.
    Account {
        status: u16,
        account: AccountError,
        said: Option<String>,
    },
    /// An error where content was to be, although the status was a success. With the status that it
    /// amounts to, and what was said.
    ErrorFirst { status: u16, said: Option<String> },
    /// No answer came, and why.
    NoAnswer(&'static str),
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

/// An answer of the only candidate, in the client's own format, that is passed on as it came.
#[derive(Clone, Debug)]
pub(crate) struct ProviderReply {
    pub(crate) head: ResponseHeader,
    pub(crate) body: Bytes,
}

/// A refusal's header, as far as it decides.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusal {
    status: u16,
    /// The whole of it, where the answer may be the client's to see.
    head: Option<Box<ResponseHeader>>,
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
            head: None,
            retry_after: get(RETRY_AFTER.as_str()).map(str::to_owned),
            hinted: asked.is_some(),
            wait,
        }
    }

    /// The same, and the answer is passed on as it is if nothing speaks against it.
    pub(crate) fn with_head(self, header: &ResponseHeader) -> Self {
        Self {
            head: Some(Box::new(header.clone())),
            ..self
        }
    }

    /// Returns the row of the retry table that it falls under.
    pub(crate) const fn ending(&self, account: Option<AccountError>) -> AttemptResult {
        AttemptResult::Status {
            status: self.status,
            account,
            hinted: self.hinted,
        }
    }

    /// Returns how long the deployment is to be left alone.
    pub(crate) const fn wait(&self) -> Option<Duration> {
        self.wait
    }

    /// Returns whether its body decides or is logged: it may be our account that is refused.
    pub(crate) const fn must_be_read(&self) -> bool {
        matches!(self.status, 401 | 402 | 429)
    }

    /// Judges the refusal by its body, as far as that was read.
    pub(crate) fn judge(self, body: &[u8]) -> (Failure, AttemptResult) {
        let status = self.status;
        let account = account_error(status, body);
        let ending = self.ending(account);
        let said = provider_message(body);
        if let Some(account) = account {
            let failure = Failure::Account {
                status,
                account,
                said,
            };
            return (failure, ending);
        }
        let whole = body.len() < ERROR_BODY_LIMIT && is_json(body);
        let reply = self.head.filter(|_| whole).map(|head| {
            Box::new(ProviderReply {
                head: *head,
                body: Bytes::copy_from_slice(body),
            })
        });
        let failure = Failure::Status {
            status,
            retry_after: self.retry_after,
            said,
            details: provider_details(body).map(Box::new),
            reply,
        };
        (failure, ending)
    }
}

fn is_json(body: &[u8]) -> bool {
    serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok()
}

/// Judges an error that came where content was to be.
pub(crate) fn judge_error(error: StreamError) -> (Failure, AttemptResult) {
    let StreamError {
        status,
        message: said,
        account,
    } = error;
    let kind = StreamErrorKind::from_status(status);
    let account = account.or(match kind {
        StreamErrorKind::Account(account) => Some(account),
        _ => None,
    });
    match account {
        Some(account) => (
            Failure::Account {
                status,
                account,
                said,
            },
            AttemptResult::ErrorFirst(StreamErrorKind::Account(account)),
        ),
        None => (
            Failure::ErrorFirst { status, said },
            AttemptResult::ErrorFirst(kind),
        ),
    }
}

impl Failure {
    /// Returns the status that the provider answered, 0 if it didn't.
    pub(crate) const fn status(&self) -> u16 {
        match self {
            Self::Status { status, .. }
            | Self::Account { status, .. }
            | Self::ErrorFirst { status, .. } => *status,
            Self::Connection(_)
            | Self::NoAnswer(_)
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
        matches!(self, Self::ErrorFirst { .. } | Self::Account { .. })
    }

    /// Returns the `outcome` label of `llm_router_attempts_total`.
    pub(crate) fn outcome(&self) -> &'static str {
        match self {
            Self::Connection(_) => "connection_failed",
            Self::Silent(_) => "timeout",
            Self::Status { status: 429, .. } => "rate_limited",
            Self::Status { .. } => "status",
            Self::Account { .. } => "provider_auth",
            Self::ErrorFirst { .. } => "error_event",
            Self::NoAnswer(_) => NO_ANSWER,
            Self::Untranslatable(_) => "untranslatable",
            Self::OverBudget(_) => "over_budget",
            Self::Unbounded(_) => "unbounded",
            Self::Unjournalled => "unjournalled",
            Self::Uncounted => "uncounted",
            Self::Stopped => "stopped",
        }
    }
}

/// The code of attempts that were no answer, in the ledger and the metrics.
pub(crate) const NO_ANSWER: &str = "no_answer";

/// The code of attempts whose answer was cut off or broke after its first content.
pub(crate) const CUT: &str = "stream_cut";

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
        let spent = br#"{"error":{"message":"No money.","code":"insufficient_quota"}}"#;
        let (failure, ending) = refusal(429).judge(spent);
        let money = AccountError::OutOfMoney;
        let Failure::Account { account, said, .. } = failure else {
            panic!("{failure:?}");
        };
        assert_eq!((account, said.as_deref()), (money, Some("No money.")));
        let expected = AttemptResult::Status {
            status: 429,
            account: Some(money),
            hinted: false,
        };
        assert_eq!(ending, expected);

        let slow = br#"{"error":{"message":"Slow down.","code":"x"}}"#;
        let head = ResponseHeader::build(429, None).unwrap();
        for (refusal, body, passes) in [
            (refusal(429), &slow[..], false),
            (refusal(429).with_head(&head), &slow[..], true),
            (refusal(429).with_head(&head), b"<html>", false),
            (refusal(429).with_head(&head), b"", false),
        ] {
            let (failure, _) = refusal.judge(body);
            let Failure::Status { reply, .. } = failure else {
                panic!("{failure:?}");
            };
            assert_eq!(reply.is_some(), passes, "{body:?}");
        }
    }

    #[test]
    fn errors_in_place_of_content_are_judged_by_what_they_say() {
        let error = |status, account| StreamError {
            status,
            message: None,
            account,
        };
        let (failure, ending) = judge_error(error(429, None));
        assert!(matches!(failure, Failure::ErrorFirst { status: 429, .. }) && failure.is_empty());
        assert_eq!(ending, AttemptResult::ErrorFirst(StreamErrorKind::Overload));
        for (status, account, expected) in [
            (401, None, AccountError::Credential),
            (
                429,
                Some(AccountError::OutOfMoney),
                AccountError::OutOfMoney,
            ),
        ] {
            let (failure, ending) = judge_error(error(status, account));
            assert!(matches!(failure, Failure::Account { .. }), "{failure:?}");
            let kind = StreamErrorKind::Account(expected);
            assert_eq!(ending, AttemptResult::ErrorFirst(kind));
        }
    }
}
