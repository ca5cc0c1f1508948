//! The common parts of OpenAI's formats: error bodies, headers, model lists and annotations. It must
//! not know requests and responses, which differ.

use serde_json::{Value, json};

use super::{RateLimitHeaders, ResetForm};
use crate::error::ErrorBody;
use crate::models::{CREATED, ListedModel};
use crate::scan::{Field, Scan};
use crate::translate::emit::ObjectWriter;
use crate::translate::json::Json;
use crate::translate::neutral::Citation;

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

/// Reads OpenAI's `url_citation`: in chat it stands in a field of that name, in responses not.
pub(super) fn read_annotation(annotation: Json<'_>) -> Option<Citation<'_>> {
    let mut annotation = annotation.into_object()?;
    if annotation.str("type") != Some("url_citation") {
        return None;
    }
    let mut inner = annotation.take_object("url_citation").unwrap_or(annotation);
    Some(Citation {
        url: inner.take("url")?.into_text()?,
        title: inner.take_string("title"),
        quote: inner.take_string("content"),
        span: inner.u64("start_index").zip(inner.u64("end_index")),
    })
}

/// Writes the fields of a `url_citation`. Where the place is unknown it is zero: the SDKs demand a
/// number.
pub(super) fn write_url_citation(fields: &mut ObjectWriter<'_>, citation: &Citation<'_>) {
    let (start, end) = citation.span.unwrap_or_default();
    fields.num("start_index", start);
    fields.num("end_index", end);
    fields.str("title", citation.title.as_deref().unwrap_or_default());
    fields.str("url", &citation.url);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_both_of_openais_shapes() {
        for text in [
            r#"{"type":"url_citation","url_citation":{"url":"u","title":"t","start_index":1,"end_index":2}}"#,
            r#"{"type":"url_citation","url":"u","title":"t","start_index":1,"end_index":2}"#,
        ] {
            let citation = read_annotation(Json::parse(text).unwrap()).unwrap();
            assert_eq!((&*citation.url, citation.span), ("u", Some((1, 2))));
        }
        let file = r#"{"type":"file_citation","file_id":"f"}"#;
        assert_eq!(read_annotation(Json::parse(file).unwrap()), None);
    }
}
