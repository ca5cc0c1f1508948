//! ETag and If-Match (RFC 9110, sections 8.8.3 and 13.1.1): what two people edit isn't overwritten
//! by who saw it earlier. A version is never used twice, so it is the tag.

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde::Serialize;

use crate::error::Problem;

/// An answer with an object, and its version as the ETag if it has one.
pub(crate) fn tagged(status: StatusCode, object: impl Serialize, version: Option<u64>) -> Response {
    let mut response = (status, Json(object)).into_response();
    let etag = version.and_then(|version| HeaderValue::try_from(format!("\"{version}\"")).ok());
    if let Some(etag) = etag {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

/// The version that `If-Match` asks for; any, without it and for `*`.
///
/// # Errors
/// 400 for what is no ETag; 412 for one that isn't ours: nothing can match it.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
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
        let message = "if-match is an ETag in quotes, as answers show it, or *.";
        return Err(Problem::invalid("if-match", message));
    };
    // A weak tag never matches here (RFC 9110, section 13.1.1).
    let strong = tag.len() == text.len();
    let version = inner.parse().ok().filter(|_| strong);
    version.map(Some).ok_or_else(stale)
}

/// 412.
pub(crate) fn stale() -> Problem {
    let message = "This was changed meanwhile. Read it again, and send its etag in if-match.";
    Problem::new(StatusCode::PRECONDITION_FAILED, "stale_etag", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_asked_for_as_they_are_shown() {
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
            let found = if_match(&headers).map_err(|problem| problem.status.as_u16());
            assert_eq!(found, expected, "{value}");
        }
        assert_eq!(if_match(&HeaderMap::new()).unwrap(), None);
        let shown = tagged(StatusCode::OK, (), Some(7));
        assert_eq!(shown.headers()[header::ETAG], "\"7\"");
    }
}
