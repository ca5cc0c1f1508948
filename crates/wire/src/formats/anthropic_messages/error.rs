//! Error bodies as Anthropic's SDKs read them.

use std::borrow::Cow;

use serde_json::{Value, json};

use crate::error::ErrorBody;
use crate::translate::provider_error::CONTEXT_OVERFLOW;

/// The words by which Anthropic's clients know that a prompt exceeds the context window: the body
/// has no code.
const OVERFLOW: &str = "prompt is too long";

/// The error body.
pub(super) fn error_body(error: &ErrorBody<'_>) -> Value {
    let mut body = json!({
        "type": "error",
        "error": { "type": error_type(error.status), "message": message(error) },
        "request_id": error.request_id,
    });
    if let Some(details) = error.details {
        body["error"]["details"] = details.clone();
    }
    body
}

/// The message, with the words for an overflow where they are missing.
fn message<'e>(error: &ErrorBody<'e>) -> Cow<'e, str> {
    if error.code == CONTEXT_OVERFLOW && !error.message.to_ascii_lowercase().contains(OVERFLOW) {
        return Cow::Owned(format!("{OVERFLOW}: {}", error.message));
    }
    Cow::Borrowed(error.message)
}

/// The `error.type` of a status (docs.claude.com, "Errors").
fn error_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}
