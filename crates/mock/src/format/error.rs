//! Error bodies in the shapes of OpenAI, Anthropic and Gemini.

use llm_router_domain::format::Format;
use serde::Serialize;

use super::{MockRefusal, json};

/// The body of an error answer.
pub(crate) fn body(format: Format, refusal: &MockRefusal, request_id: &str) -> Vec<u8> {
    match format {
        Format::AnthropicMessages => json(&anthropic(refusal.status, &refusal.message, request_id)),
        Format::OpenAiChat | Format::OpenAiResponses => json(&openai(refusal)),
        Format::Gemini => json(&gemini(refusal)),
    }
}

/// `{"error": {…}}`, with all four fields there.
#[derive(Serialize)]
pub(crate) struct OpenAiError<'a> {
    error: OpenAiDetail<'a>,
}

#[derive(Serialize)]
struct OpenAiDetail<'a> {
    message: &'a str,
    r#type: &'a str,
    param: Option<&'a str>,
    code: Option<&'a str>,
}

/// An error as OpenAI writes it.
pub(crate) fn openai(refusal: &MockRefusal) -> OpenAiError<'_> {
    let (kind, code) = openai_kind(refusal.status);
    OpenAiError {
        error: OpenAiDetail {
            message: &refusal.message,
            r#type: kind,
            param: refusal.param.as_deref(),
            code,
        },
    }
}

fn openai_kind(status: u16) -> (&'static str, Option<&'static str>) {
    match status {
        401 => ("invalid_request_error", Some("invalid_api_key")),
        403 => ("invalid_request_error", Some("permission_denied")),
        404 => ("invalid_request_error", Some("model_not_found")),
        429 => ("requests", Some("rate_limit_exceeded")),
        400..=499 => ("invalid_request_error", None),
        503 => ("server_error", Some("engine_overloaded")),
        _ => ("server_error", None),
    }
}

/// `{"type": "error", …}`.
#[derive(Serialize)]
pub(crate) struct AnthropicError<'a> {
    r#type: &'static str,
    error: AnthropicDetail<'a>,
    #[serde(skip_serializing_if = "str::is_empty")]
    request_id: &'a str,
}

#[derive(Serialize)]
struct AnthropicDetail<'a> {
    r#type: &'static str,
    message: &'a str,
}

/// An error as Anthropic writes it; without the request's id within a stream.
pub(crate) fn anthropic<'a>(
    status: u16,
    message: &'a str,
    request_id: &'a str,
) -> AnthropicError<'a> {
    let error = AnthropicDetail {
        r#type: anthropic_kind(status),
        message,
    };
    AnthropicError {
        r#type: "error",
        error,
        request_id,
    }
}

fn anthropic_kind(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        _ => "api_error",
    }
}

/// `{"error": {…}}`, with Google's names of statuses.
#[derive(Serialize)]
pub(crate) struct GeminiError<'a> {
    error: GeminiDetail<'a>,
}

#[derive(Serialize)]
struct GeminiDetail<'a> {
    code: u16,
    message: &'a str,
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<GeminiCause>,
}

#[derive(Serialize)]
struct GeminiCause {
    #[serde(rename = "@type")]
    kind: &'static str,
    reason: &'static str,
    domain: &'static str,
}

/// Message for a wrong key; with status 400.
pub(crate) const GEMINI_WRONG_KEY: &str = "API key not valid. Please pass a valid API key.";

/// An error as Gemini writes it.
pub(crate) fn gemini(refusal: &MockRefusal) -> GeminiError<'_> {
    let wrong_key = refusal.message == GEMINI_WRONG_KEY;
    let cause = GeminiCause {
        kind: "type.googleapis.com/google.rpc.ErrorInfo",
        reason: "API_KEY_INVALID",
        domain: "googleapis.com",
    };
    GeminiError {
        error: GeminiDetail {
            code: refusal.status,
            message: &refusal.message,
            status: gemini_status(refusal.status),
            details: if wrong_key { vec![cause] } else { Vec::new() },
        },
    }
}

/// The name of a status (`google.rpc.Code`).
fn gemini_status(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        400..=499 => "INVALID_ARGUMENT",
        503 | 529 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        _ => "INTERNAL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_text(format: Format, status: u16) -> String {
        String::from_utf8(body(format, &MockRefusal::new(status, "no"), "req_1")).unwrap()
    }

    #[test]
    fn errors_have_the_shape_of_their_provider() {
        assert_eq!(
            error_text(Format::OpenAiChat, 429),
            r#"{"error":{"message":"no","type":"requests","param":null,"code":"rate_limit_exceeded"}}"#
        );
        assert_eq!(
            error_text(Format::OpenAiResponses, 500),
            r#"{"error":{"message":"no","type":"server_error","param":null,"code":null}}"#
        );
        assert_eq!(
            error_text(Format::AnthropicMessages, 529),
            r#"{"type":"error","error":{"type":"overloaded_error","message":"no"},"request_id":"req_1"}"#
        );
        assert_eq!(
            error_text(Format::Gemini, 429),
            r#"{"error":{"code":429,"message":"no","status":"RESOURCE_EXHAUSTED"}}"#
        );
    }
}
