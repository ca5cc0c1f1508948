//! Consequences of the end of an attempt: the next step of the request, the client's answer and the
//! deployment's health, in one table, [`AttemptResult::decision`]. Also the headers by which
//! providers name a time to wait, and the bounds of retries. It must not do any of it.

mod hint;

use std::time::Duration;

pub use self::hint::{limit_wait, retry_after};

/// Result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptResult {
    /// Content came, or a whole answer.
    Answered,
    /// The client disconnected.
    ClientGone,
    /// No connection: refused, no address, TLS, connect timeout.
    NoConnection,
    /// The connection broke before the first byte of the answer, or before any content.
    CutEarly,
    /// The answer is none: it is empty, it ended before its first content, or it isn't what was
    /// asked for.
    NoAnswer,
    /// No byte came before the first-byte timeout.
    SilentEarly,
    /// The status was a success, but an error of this kind came before any content.
    ErrorFirst(StreamErrorKind),
    /// The answer broke off, timed out or turned into an error after content had come.
    BrokenLate,
    /// The attempt's total timeout passed.
    OutOfTime,
    /// A status other than success.
    Status {
        /// The status.
        status: u16,
        /// Set if it is our credential or account that the provider refuses.
        account: Option<AccountError>,
        /// True if the headers name a time to wait (see [`retry_after`]).
        hinted: bool,
    },
}

/// Reason for which a provider refuses the router's own credential or account. It is no concern of
/// the client's, who is never shown the provider's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountError {
    /// The credential is wrong, or it may not be used for this.
    Credential,
    /// The account has no money left, or has reached a limit of its spending.
    OutOfMoney,
}

/// Kind of an error in an answer whose status is a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamErrorKind {
    /// Our credential or account.
    Account(AccountError),
    /// Overload of the deployment or a rate limit.
    Overload,
    /// The request is invalid.
    Request,
    /// Anything else.
    Deployment,
}

/// Decision that follows from the result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryDecision {
    /// Next step of the request.
    pub next: NextStep,
    /// Report to the deployment's circuit.
    pub health: HealthReport,
}

/// Next step of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// None: the request is answered, or the client is gone.
    Done,
    /// Try the next candidate; the last one's answer goes to the client.
    NextCandidate,
    /// Send this answer to the client.
    PassOn,
    /// End the client's stream with an error event.
    EndStream,
}

/// Report to the deployment's circuit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthReport {
    /// The deployment works:
    /// [`InFlightGuard::report_content`](crate::balance::InFlightGuard::report_content).
    Good,
    /// No report: the guard is dropped.
    Unknown,
    /// The deployment failed:
    /// [`InFlightGuard::report_failure`](crate::balance::InFlightGuard::report_failure).
    Failed,
    /// The deployment works but refuses temporarily:
    /// [`InFlightGuard::report_refusal`](crate::balance::InFlightGuard::report_refusal), for this
    /// long, or else for the time that it names (see [`limit_wait`]), or else for a growing time.
    Refused(Option<Duration>),
}

/// Rest of a deployment whose account has no money left. That may last for weeks, but the operator
/// may pay or raise the limit at any time.
pub const OUT_OF_MONEY_REST: Duration = Duration::from_secs(3_600);

/// Rest of a deployment that refuses our credential.
pub const CREDENTIAL_REST: Duration = Duration::from_secs(60);

impl AttemptResult {
    /// The table.
    ///
    /// | ending | request | circuit |
    /// |---|---|---|
    /// | content or a complete answer arrived | done | good |
    /// | the client disconnected | done | nothing |
    /// | no connection; broken or silent before content | next candidate | failed |
    /// | no answer: empty, HTML, not what was asked for, a stream that ended before content | next candidate | failed |
    /// | an error before content: rate limit, overload | next candidate | refused |
    /// | an error before content: the request's fault | passed on | good |
    /// | an error before content: our credential or account | next candidate; of the last one 502 `provider_auth` | as below |
    /// | an error before content: anything else | next candidate | failed |
    /// | broken, silent or an error after content | stream ends with an error | failed |
    /// | out of time | passed on as 504 | failed |
    /// | 401, 403, 400 that refuses the key | next candidate; of the last one 502 `provider_auth` | refused for a minute |
    /// | 402, or a code that says the account is out of money | next candidate; of the last one 502 `provider_auth` | refused as headers say, else for an hour |
    /// | 403 with a code for content, region or policy | passed on | good |
    /// | 429 else | next candidate | refused as headers say |
    /// | 408, 5xx (529 too) with a time named | next candidate | refused as headers say |
    /// | 408, 5xx (529 too) else | next candidate | failed |
    /// | 409 | next candidate | good |
    /// | 3xx, 6xx and above | next candidate | failed: redirects are not followed |
    /// | any other 4xx | passed on | good |
    ///
    /// `x-should-retry` is not heeded: it is about asking the same provider again, and another
    /// deployment is no retry of the one that said so.
    #[must_use]
    pub const fn decision(self) -> RetryDecision {
        use HealthReport::{Failed, Good, Refused, Unknown};
        use NextStep::{Done, EndStream, NextCandidate, PassOn};
        let (next, health) = match self {
            Self::Answered => (Done, Good),
            Self::ClientGone => (Done, Unknown),
            Self::NoConnection
            | Self::CutEarly
            | Self::NoAnswer
            | Self::SilentEarly
            | Self::ErrorFirst(StreamErrorKind::Deployment) => (NextCandidate, Failed),
            Self::ErrorFirst(StreamErrorKind::Account(account)) => {
                (NextCandidate, Refused(Some(account.rest())))
            }
            Self::ErrorFirst(StreamErrorKind::Overload) => (NextCandidate, Refused(None)),
            Self::ErrorFirst(StreamErrorKind::Request) => (PassOn, Good),
            Self::BrokenLate => (EndStream, Failed),
            Self::OutOfTime => (PassOn, Failed),
            Self::Status {
                account: Some(AccountError::OutOfMoney),
                hinted: true,
                ..
            } => (NextCandidate, Refused(None)),
            Self::Status {
                account: Some(account),
                ..
            } => (NextCandidate, Refused(Some(account.rest()))),
            Self::Status { status, hinted, .. } => decide_by_status(status, hinted),
        };
        RetryDecision { next, health }
    }
}

const fn decide_by_status(status: u16, hinted: bool) -> (NextStep, HealthReport) {
    use HealthReport::{Failed, Good, Refused};
    use NextStep::{Done, NextCandidate, PassOn};
    match status {
        200..=299 => (Done, Good),
        300..=399 => (NextCandidate, Failed),
        401 => (NextCandidate, Refused(Some(CREDENTIAL_REST))),
        402 => (NextCandidate, Refused(Some(OUT_OF_MONEY_REST))),
        429 => (NextCandidate, Refused(None)),
        408 | 500.. if hinted => (NextCandidate, Refused(None)),
        408 | 500.. => (NextCandidate, Failed),
        409 => (NextCandidate, Good),
        _ => (PassOn, Good),
    }
}

/// Returns true if an error's code or type says that an account has no money left: a retry is of no
/// use.
#[must_use]
pub fn is_out_of_money(code: &str) -> bool {
    matches!(
        code,
        "enforced_spend_limit_reached"
            | "insufficient_quota"
            | "billing_hard_limit_reached"
            | "billing_not_active"
            | "billing_error"
            | "insufficient_balance"
            | "insufficient_credits"
            | "exceeded_current_quota_error"
            | "Arrearage"
    )
}

impl AccountError {
    const fn rest(self) -> Duration {
        match self {
            Self::Credential => CREDENTIAL_REST,
            Self::OutOfMoney => OUT_OF_MONEY_REST,
        }
    }
}

impl StreamErrorKind {
    /// Returns the kind of error that a status stands for.
    #[must_use]
    pub const fn from_status(status: u16) -> Self {
        match status {
            401 => Self::Account(AccountError::Credential),
            402 => Self::Account(AccountError::OutOfMoney),
            429 | 529 => Self::Overload,
            400 | 403 | 404 | 413 | 422 => Self::Request,
            _ => Self::Deployment,
        }
    }
}

/// Bounds of retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryBounds {
    /// Attempts in all.
    pub attempts: u32,
    /// Time from the start of the first attempt after which no other begins.
    pub time: Duration,
}

impl Default for RetryBounds {
    fn default() -> Self {
        Self {
            attempts: 5,
            time: Duration::from_secs(120),
        }
    }
}

impl RetryBounds {
    /// Returns true if another attempt may begin after `attempts` ones, `passed` after the first
    /// began.
    #[must_use]
    pub fn allow(&self, attempts: u32, passed: Duration) -> bool {
        attempts < self.attempts && passed < self.time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_table_is_that_of_the_code() {
        let table = |text: &str, prefix: &str| -> Vec<String> {
            let rows = text.lines().filter_map(|line| line.strip_prefix(prefix));
            rows.skip_while(|row| !row.starts_with("| ending"))
                .take_while(|row| row.starts_with('|'))
                .map(str::to_owned)
                .collect()
        };
        let code = table(include_str!("retry.rs"), "    /// ");
        let page = table(include_str!("../../../docs/balancing.md"), "");
        assert!(code.len() > 10);
        assert_eq!(code, page);
    }

    fn status(status: u16) -> AttemptResult {
        AttemptResult::Status {
            status,
            account: None,
            hinted: false,
        }
    }

    fn with(status: u16, account: Option<AccountError>, hinted: bool) -> AttemptResult {
        AttemptResult::Status {
            status,
            account,
            hinted,
        }
    }

    #[test]
    fn the_table() {
        use HealthReport::{Failed, Good, Refused, Unknown};
        use NextStep::{Done, EndStream, NextCandidate, PassOn};
        let hour = Refused(Some(OUT_OF_MONEY_REST));
        let minute = Refused(Some(CREDENTIAL_REST));
        let money = Some(AccountError::OutOfMoney);
        let credential = Some(AccountError::Credential);
        for (ending, next, health) in [
            (AttemptResult::Answered, Done, Good),
            (AttemptResult::ClientGone, Done, Unknown),
            (AttemptResult::NoConnection, NextCandidate, Failed),
            (AttemptResult::CutEarly, NextCandidate, Failed),
            (AttemptResult::NoAnswer, NextCandidate, Failed),
            (AttemptResult::SilentEarly, NextCandidate, Failed),
            (
                AttemptResult::ErrorFirst(StreamErrorKind::from_status(529)),
                NextCandidate,
                Refused(None),
            ),
            (
                AttemptResult::ErrorFirst(StreamErrorKind::from_status(500)),
                NextCandidate,
                Failed,
            ),
            (
                AttemptResult::ErrorFirst(StreamErrorKind::from_status(401)),
                NextCandidate,
                minute,
            ),
            (
                AttemptResult::ErrorFirst(StreamErrorKind::Account(AccountError::OutOfMoney)),
                NextCandidate,
                hour,
            ),
            (
                AttemptResult::ErrorFirst(StreamErrorKind::from_status(400)),
                PassOn,
                Good,
            ),
            (AttemptResult::BrokenLate, EndStream, Failed),
            (AttemptResult::OutOfTime, PassOn, Failed),
            (status(200), Done, Good),
            (status(302), NextCandidate, Failed),
            (status(400), PassOn, Good),
            (with(400, credential, false), NextCandidate, minute),
            (status(401), NextCandidate, minute),
            (with(401, credential, false), NextCandidate, minute),
            (status(402), NextCandidate, hour),
            (with(402, money, false), NextCandidate, hour),
            (status(403), PassOn, Good),
            (with(403, credential, false), NextCandidate, minute),
            (status(404), PassOn, Good),
            (status(408), NextCandidate, Failed),
            (status(409), NextCandidate, Good),
            (status(413), PassOn, Good),
            (status(422), PassOn, Good),
            (status(429), NextCandidate, Refused(None)),
            (with(429, money, false), NextCandidate, hour),
            (with(429, money, true), NextCandidate, Refused(None)),
            (with(429, None, true), NextCandidate, Refused(None)),
            (status(500), NextCandidate, Failed),
            (status(502), NextCandidate, Failed),
            (status(503), NextCandidate, Failed),
            (with(503, None, true), NextCandidate, Refused(None)),
            (status(504), NextCandidate, Failed),
            (status(999), NextCandidate, Failed),
            (status(529), NextCandidate, Failed),
            (with(529, None, true), NextCandidate, Refused(None)),
        ] {
            assert_eq!(
                ending.decision(),
                RetryDecision { next, health },
                "{ending:?}"
            );
        }
    }

    #[test]
    fn codes_that_say_out_of_money() {
        for (code, want) in [
            ("enforced_spend_limit_reached", true),
            ("insufficient_quota", true),
            ("rate_limit_exceeded", false),
            ("", false),
        ] {
            assert_eq!(is_out_of_money(code), want, "{code}");
        }
    }

    #[test]
    fn trying_is_bounded() {
        let bounds = RetryBounds {
            attempts: 3,
            time: Duration::from_secs(10),
        };
        for (attempts, seconds, want) in [
            (0, 0, true),
            (2, 9, true),
            (3, 0, false),
            (1, 10, false),
            (u32::MAX, 0, false),
        ] {
            let passed = Duration::from_secs(seconds);
            assert_eq!(
                bounds.allow(attempts, passed),
                want,
                "{attempts} in {seconds} s"
            );
        }
    }
}
