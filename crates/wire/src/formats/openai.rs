//! What OpenAI's formats have in common: error bodies, headers and model lists. It must not know
//! requests and responses, which differ.

use serde_json::{Value, json};

use super::{RateLimitHeaders, ResetForm};
use crate::error::ErrorBody;
use crate::models::{CREATED, ListedModel};
use crate::scan::{Field, Scan};

/// The company's name.
pub(super) const VENDOR: &str = "OpenAI";

/// The headers of rate limits (platform.openai.com, "Rate limits in headers").
pub(super) static RATE_LIMIT_HEADERS: RateLimitHeaders = RateLimitHeaders {
    requests: [
        "x-ratelimit-limit-requests",
        "x-ratelimit-remaining-requests",
        "x-ratelimit-reset-requests",
    ],
    tokens: [
        "x-ratelimit-limit-tokens",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-tokens",
    ],
    reset: ResetForm::Span,
};

/// The error body: all four keys, as the SDKs expect.
pub(super) fn error_body(error: &ErrorBody<'_>) -> Value {
    json!({
        "error": {
            "message": error.message,
            "type": error_type(error.status, error.code),
            "param": error.param,
            "code": error.code,
        },
    })
}

/// The `error.type` of a status.
fn error_type(status: u16, code: &str) -> &str {
    match (status, code) {
        (429, "insufficient_quota") => code,
        (401, _) => "authentication_error",
        (403, _) => "permission_error",
        (429, _) => "rate_limit_error",
        (400..=499, _) => "invalid_request_error",
        _ => "server_error",
    }
}

/// The value of `user`.
pub(super) fn end_user<'b>(body: &'b [u8], fields: &Scan) -> Option<&'b [u8]> {
    fields.value(body, Field::User)
}

/// The list of all models.
pub(super) fn model_list(models: &[ListedModel<'_>]) -> Value {
    let data: Vec<Value> = models.iter().copied().map(model).collect();
    json!({ "object": "list", "data": data })
}

/// One model.
pub(super) fn model(model: ListedModel<'_>) -> Value {
    json!({
        "id": model.id,
        "object": "model",
        "created": CREATED,
        "owned_by": model.owned_by,
    })
}
