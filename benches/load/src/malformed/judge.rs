//! What a malformed request was answered with, and whether that is right.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;
use serde_json::Value;
use tokio::time::timeout;

use super::case::{Caller, Case};
use crate::http1::{AnswerHead, Channel, Fault};

/// What came back, better ones first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verdict {
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

impl Verdict {
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

    /// Whether it is what a malformed request deserves.
    pub(crate) fn is_good(self) -> bool {
        matches!(self, Self::InFormat | Self::Closed | Self::Passed)
    }
}

/// A verdict with what it is based on.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// Status and body, shortened, or the fault.
    pub(crate) answer: String,
}

impl Outcome {
    fn new(verdict: Verdict, answer: impl Into<String>) -> Self {
        Self {
            verdict,
            answer: answer.into(),
        }
    }
}

/// Sends `case` on a connection of its own and judges the answer; the worst one if several come.
pub(crate) async fn probe(address: SocketAddr, case: &Case, deadline: Duration) -> Outcome {
    let Ok(mut channel) = Channel::connect(address).await else {
        return Outcome::new(Verdict::Unreachable, "");
    };
    match timeout(deadline, exchange(&mut channel, case)).await {
        Ok(outcome) => outcome,
        Err(_) => Outcome::new(Verdict::Hung, format!("nothing in {deadline:?}")),
    }
}

async fn exchange(channel: &mut Channel, case: &Case) -> Outcome {
    // A server may answer and close before it has read all; then sending fails, and what counts
    // is the answer.
    let sent = channel.send(&case.bytes).await.is_ok();
    if sent && case.half_close {
        let _ = channel.finish().await;
    }
    let mut worst: Option<Outcome> = None;
    for _ in 0..case.answers {
        let outcome = one(channel, case).await;
        if outcome.verdict == Verdict::Closed && worst.is_some() {
            break;
        }
        if worst
            .as_ref()
            .is_none_or(|worst| outcome.verdict > worst.verdict)
        {
            worst = Some(outcome);
        }
    }
    worst.unwrap_or_else(|| Outcome::new(Verdict::Closed, ""))
}

async fn one(channel: &mut Channel, case: &Case) -> Outcome {
    let head = match channel.answer().await {
        Ok(Some(head)) => head,
        Ok(None) => return Outcome::new(Verdict::Closed, ""),
        Err(fault) => return broken(&fault),
    };
    let mut body = Vec::new();
    match channel
        .body(head.framing, &mut |part: &[u8]| {
            body.extend_from_slice(part)
        })
        .await
    {
        Ok(()) => judge(case, &head, &body),
        Err(fault) => broken(&fault),
    }
}

fn broken(fault: &Fault) -> Outcome {
    let closed = matches!(fault, Fault::Io(error) if matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
    ));
    let verdict = if closed {
        Verdict::Closed
    } else {
        Verdict::Garbled
    };
    Outcome::new(verdict, fault.to_string())
}

fn judge(case: &Case, head: &AnswerHead, body: &[u8]) -> Outcome {
    let verdict = match head.status {
        200..300 if case.may_pass => Verdict::Passed,
        200..300 => Verdict::Accepted,
        400..500 if head.media.starts_with("application/json") && has_shape(case.caller, body) => {
            Verdict::InFormat
        }
        400..500 if body.is_empty() => Verdict::Bare,
        400..500 => Verdict::OtherShape,
        500.. => Verdict::ServerError,
        _ => Verdict::Odd,
    };
    let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
    Outcome::new(verdict, format!("{} {text:?}", head.status))
}

/// Whether `body` is an error in the caller's format.
fn has_shape(caller: Caller, body: &[u8]) -> bool {
    let Ok(json) = serde_json::from_slice(body) else {
        return false;
    };
    match caller {
        Caller::OpenAi => is_openai(&json),
        Caller::Anthropic => is_anthropic(&json),
        Caller::Unknown => is_openai(&json) || is_anthropic(&json),
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

    fn verdict(caller: Caller, may_pass: bool, status: u16, media: &str, body: &str) -> Verdict {
        let case = Case {
            caller,
            may_pass,
            ..Case::of_bytes(Vec::new())
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
            (Caller::OpenAi, 400, json, OPENAI, Verdict::InFormat),
            (Caller::OpenAi, 400, json, ANTHROPIC, Verdict::OtherShape),
            (Caller::Anthropic, 413, json, ANTHROPIC, Verdict::InFormat),
            (Caller::Anthropic, 400, json, OPENAI, Verdict::OtherShape),
            (Caller::Unknown, 400, json, OPENAI, Verdict::InFormat),
            (Caller::Unknown, 400, json, ANTHROPIC, Verdict::InFormat),
            (Caller::Unknown, 400, "", "", Verdict::Bare),
            (
                Caller::OpenAi,
                400,
                "text/html",
                OPENAI,
                Verdict::OtherShape,
            ),
            (
                Caller::OpenAi,
                400,
                json,
                r#"{"error":"m"}"#,
                Verdict::OtherShape,
            ),
            (Caller::OpenAi, 502, json, OPENAI, Verdict::ServerError),
            (Caller::OpenAi, 200, json, "{}", Verdict::Accepted),
            (Caller::OpenAi, 302, json, "{}", Verdict::Odd),
        ];
        for (caller, status, media, body, expected) in table {
            assert_eq!(
                verdict(caller, false, status, media, body),
                expected,
                "{status} {body}"
            );
        }
        assert_eq!(
            verdict(Caller::OpenAi, true, 200, json, "{}"),
            Verdict::Passed
        );
    }

    #[test]
    fn a_reset_is_a_close_and_half_an_answer_is_not() {
        assert_eq!(
            broken(&io::Error::from(io::ErrorKind::ConnectionReset).into()).verdict,
            Verdict::Closed
        );
        assert_eq!(broken(&Fault::CutShort).verdict, Verdict::Garbled);
    }
}
