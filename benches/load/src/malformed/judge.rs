//! Judgement of the answers to malformed requests. It must not send any.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;

use super::case::{CallerFormat, MalformedCase};
use crate::http1::{AnswerHead, Channel, HttpFault};

/// Kind of answer, better ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CaseVerdict {
    /// 4xx in the caller's format.
    InFormat,
    /// Closed without an answer.
    Closed,
    /// 2xx, and the request was such that it may.
    Passed,
    /// 4xx without a body.
    Bare,
    /// 4xx, but the body is not the caller's format.
    OtherShape,
    /// 2xx for what should have been refused.
    Accepted,
    /// 1xx or 3xx.
    Odd,
    /// 5xx.
    ServerError,
    /// An answer that is no HTTP, or is cut short.
    Garbled,
    /// No connection.
    Unreachable,
    /// Nothing until the deadline.
    Hung,
}

impl CaseVerdict {
    pub(crate) const ALL: [Self; 11] = [
        Self::InFormat,
        Self::Closed,
        Self::Passed,
        Self::Bare,
        Self::OtherShape,
        Self::Accepted,
        Self::Odd,
        Self::ServerError,
        Self::Garbled,
        Self::Unreachable,
        Self::Hung,
    ];

    /// For people.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::InFormat => "4xx in format",
            Self::Closed => "closed",
            Self::Passed => "passed on",
            Self::Bare => "4xx, no body",
            Self::OtherShape => "4xx, other shape",
            Self::Accepted => "ACCEPTED",
            Self::Odd => "odd status",
            Self::ServerError => "5xx",
            Self::Garbled => "garbled",
            Self::Unreachable => "no connection",
            Self::Hung => "HUNG",
        }
    }

    /// Returns true if it is a correct answer to a malformed request.
    pub(crate) fn is_good(self) -> bool {
        matches!(self, Self::InFormat | Self::Closed | Self::Passed)
    }
}

/// A verdict with what it is based on.
#[derive(Debug)]
pub(crate) struct CaseOutcome {
    pub(crate) verdict: CaseVerdict,
    /// Status and body, shortened, or the fault.
    pub(crate) answer: String,
}

impl CaseOutcome {
    fn new(verdict: CaseVerdict, answer: impl Into<String>) -> Self {
        Self {
            verdict,
            answer: answer.into(),
        }
    }
}

/// Sends `case` on a connection of its own and judges the answer; the worst one if several come.
pub(crate) async fn probe(
    address: SocketAddr,
    case: &MalformedCase,
    deadline: Duration,
) -> CaseOutcome {
    let Ok(mut channel) = Channel::connect(address).await else {
        return CaseOutcome::new(CaseVerdict::Unreachable, "");
    };
    match timeout(deadline, exchange(&mut channel, case)).await {
        Ok(outcome) => outcome,
        Err(_) => CaseOutcome::new(CaseVerdict::Hung, format!("nothing in {deadline:?}")),
    }
}

async fn exchange(channel: &mut Channel, case: &MalformedCase) -> CaseOutcome {
    // A server may answer and close before it has read all; then sending fails, and what counts
    // is the answer.
    let sent = channel.send(&case.bytes).await.is_ok();
    if sent && case.half_close {
        let _ = channel.finish().await;
    }
    let mut worst: Option<CaseOutcome> = None;
    for _ in 0..case.answers {
        let outcome = one(channel, case).await;
        if outcome.verdict == CaseVerdict::Closed && worst.is_some() {
            break;
        }
        if worst
            .as_ref()
            .is_none_or(|worst| outcome.verdict > worst.verdict)
        {
            worst = Some(outcome);
        }
    }
    worst.unwrap_or_else(|| CaseOutcome::new(CaseVerdict::Closed, ""))
}

async fn one(channel: &mut Channel, case: &MalformedCase) -> CaseOutcome {
    let head = match channel.answer().await {
        Ok(Some(head)) => head,
        Ok(None) => return CaseOutcome::new(CaseVerdict::Closed, ""),
        Err(fault) => return broken_off(&fault),
    };
    let mut body = Vec::new();
    match channel
        .body(head.framing, &mut |part: &[u8]| {
            body.extend_from_slice(part)
        })
        .await
    {
        Ok(()) => judge(case, &head, &body),
        Err(fault) => broken_off(&fault),
    }
}

fn broken_off(fault: &HttpFault) -> CaseOutcome {
    let closed = matches!(fault, HttpFault::Io(error) if matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    ));
    let verdict = if closed {
        CaseVerdict::Closed
    } else {
        CaseVerdict::Garbled
    };
    CaseOutcome::new(verdict, fault.to_string())
}

fn judge(case: &MalformedCase, head: &AnswerHead, body: &[u8]) -> CaseOutcome {
    let verdict = match head.status {
        200..300 if case.may_pass => CaseVerdict::Passed,
        200..300 => CaseVerdict::Accepted,
        400..500 if head.media.starts_with("application/json") && has_shape(case.caller, body) => {
            CaseVerdict::InFormat
        }
        400..500 if body.is_empty() => CaseVerdict::Bare,
        400..500 => CaseVerdict::OtherShape,
        500.. => CaseVerdict::ServerError,
        _ => CaseVerdict::Odd,
    };
    let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
    CaseOutcome::new(verdict, format!("{} {text:?}", head.status))
}

/// Returns true if `body` is an error in the caller's format.
fn has_shape(caller: CallerFormat, body: &[u8]) -> bool {
    let Ok(json) = serde_json::from_slice(body) else {
        return false;
    };
    match caller {
        CallerFormat::OpenAi => is_openai(&json),
        CallerFormat::Anthropic => is_anthropic(&json),
        CallerFormat::Unknown => is_openai(&json) || is_anthropic(&json),
    }
}

/// `{"error":{"message","type","param","code"}}`: all four are required, the last two nullable.
fn is_openai(json: &Value) -> bool {
    let Some(error) = json.get("error") else {
        return false;
    };
    let nullable = |name| {
        error
            .get(name)
            .is_some_and(|value| value.is_string() || value.is_null())
    };
    text(error, "message") && text(error, "type") && nullable("param") && nullable("code")
}

/// `{"type":"error","error":{"type","message"},"request_id"}`.
fn is_anthropic(json: &Value) -> bool {
    let Some(error) = json.get("error") else {
        return false;
    };
    json.get("type").and_then(Value::as_str) == Some("error")
        && text(error, "type")
        && text(error, "message")
        && text(json, "request_id")
}

fn text(json: &Value, name: &str) -> bool {
    json.get(name).is_some_and(Value::is_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::Framing;

    const OPENAI: &str = r#"{"error":{"message":"m","type":"invalid_request_error","param":null,"code":"invalid_json"}}"#;
    const ANTHROPIC: &str = r#"{"type":"error","error":{"type":"invalid_request_error","message":"m"},"request_id":"r"}"#;

    fn verdict(
        caller: CallerFormat,
        may_pass: bool,
        status: u16,
        media: &str,
        body: &str,
    ) -> CaseVerdict {
        let case = MalformedCase {
            caller,
            may_pass,
            ..MalformedCase::from_bytes(Vec::new())
        };
        let (framing, media) = (Framing::Length(0), media.to_owned());
        let head = AnswerHead {
            status,
            framing,
            close: false,
            media,
        };
        judge(&case, &head, body.as_bytes()).verdict
    }

    #[test]
    fn answers_are_judged_by_status_and_shape() {
        let json = "application/json; charset=utf-8";
        let table = [
            (
                CallerFormat::OpenAi,
                400,
                json,
                OPENAI,
                CaseVerdict::InFormat,
            ),
            (
                CallerFormat::OpenAi,
                400,
                json,
                ANTHROPIC,
                CaseVerdict::OtherShape,
            ),
            (
                CallerFormat::Anthropic,
                413,
                json,
                ANTHROPIC,
                CaseVerdict::InFormat,
            ),
            (
                CallerFormat::Anthropic,
                400,
                json,
                OPENAI,
                CaseVerdict::OtherShape,
            ),
            (
                CallerFormat::Unknown,
                400,
                json,
                OPENAI,
                CaseVerdict::InFormat,
            ),
            (
                CallerFormat::Unknown,
                400,
                json,
                ANTHROPIC,
                CaseVerdict::InFormat,
            ),
            (CallerFormat::Unknown, 400, "", "", CaseVerdict::Bare),
            (
                CallerFormat::OpenAi,
                400,
                "text/html",
                OPENAI,
                CaseVerdict::OtherShape,
            ),
            (
                CallerFormat::OpenAi,
                400,
                json,
                r#"{"error":"m"}"#,
                CaseVerdict::OtherShape,
            ),
            (
                CallerFormat::OpenAi,
                502,
                json,
                OPENAI,
                CaseVerdict::ServerError,
            ),
            (CallerFormat::OpenAi, 200, json, "{}", CaseVerdict::Accepted),
            (CallerFormat::OpenAi, 302, json, "{}", CaseVerdict::Odd),
        ];
        for (caller, status, media, body, expected) in table {
            assert_eq!(
                verdict(caller, false, status, media, body),
                expected,
                "{status} {body}"
            );
        }
        assert_eq!(
            verdict(CallerFormat::OpenAi, true, 200, json, "{}"),
            CaseVerdict::Passed
        );
    }

    #[test]
    fn a_reset_is_a_close_and_half_an_answer_is_not() {
        assert_eq!(
            broken_off(&io::Error::from(io::ErrorKind::ConnectionReset).into()).verdict,
            CaseVerdict::Closed
        );
        assert_eq!(
            broken_off(&HttpFault::CutShort).verdict,
            CaseVerdict::Garbled
        );
    }
}
