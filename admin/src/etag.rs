//! ETag and If-Match (RFC 9110, sections 8.8.3 and 13.1.1): keeps one of two simultaneous editors
//! from overwriting the other's change. A version is never used twice, so it is the tag.

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use crate::error::AdminError;

/// Answers with an object and, if it has one, its version as the ETag.
pub(crate) fn respond_with_etag(
    status: StatusCode,
    object: impl Serialize,
    version: Option<u64>,
) -> Response {
    let mut response = (status, Json(object)).into_response();
    let etag = version.and_then(|version| HeaderValue::try_from(format!("\"{version}\"")).ok());
    if let Some(etag) = etag {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

/// Reads the version that `If-Match` requires; none without it and for `*`.
///
/// # Errors
/// 400 for a malformed ETag; 412 for an ETag that no object can have.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, AdminError> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let tag = text.strip_prefix("W/").unwrap_or(text);
    let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
    let Some(inner) = inner else {
        let message =
            "if-match must be an ETag in quotes, as in the header etag of an answer, or *.";
        return Err(AdminError::invalid("if-match", message));
    };
    // A weak tag never matches here (RFC 9110, section 13.1.1).
    let strong = tag.len() == text.len();
    let version = inner.parse().ok().filter(|_| strong);
    version.map(Some).ok_or_else(stale)
}

/// 412.
pub(crate) fn stale() -> AdminError {
    let message =
        "The object was changed in the meantime. Read it again and send its etag in if-match.";
    AdminError::new(StatusCode::PRECONDITION_FAILED, "stale_etag", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_sent_as_they_were_answered() {
        for (value, expected) in [
            ("\"7\"", Ok(Some(7))),
            ("*", Ok(None)),
            ("7", Err(400)),
            ("", Err(400)),
            ("W/\"7\"", Err(412)),
            ("\"x\"", Err(412)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_MATCH, HeaderValue::from_static(value));
            let actual = if_match(&headers).map_err(|problem| problem.status.as_u16());
            assert_eq!(actual, expected, "{value}");
        }
        assert_eq!(if_match(&HeaderMap::new()).unwrap(), None);
        let response = respond_with_etag(StatusCode::OK, (), Some(7));
        assert_eq!(response.headers()[header::ETAG], "\"7\"");
    }
}
