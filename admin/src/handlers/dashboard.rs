//! The files of the dashboard, embedded in the program: the page at `/`, its scripts and styles below
//! `/ui/`. The page reads the API like any client, with the key that its user enters: the files must
//! not contain secrets or data of the router.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use crate::error::AdminError;

#[derive(rust_embed::Embed)]
#[folder = "ui/"]
struct Files;

const PAGE: &str = "index.html";

/// Restricts the page to scripts and requests of its own origin, keeps text from becoming markup, and
/// forbids framing (Content Security Policy Level 3; Trusted Types).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

/// Routes the files.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route(
            "/",
            get(async |headers: HeaderMap| respond_file(PAGE, &headers)),
        )
        .route("/ui/{*file}", get(file))
}

async fn file(Path(file): Path<String>, headers: HeaderMap) -> Result<Response, AdminError> {
    respond_file(&file, &headers)
}

/// Answers with a file. Browsers cache it but revalidate it each time, so that page and router have the
/// same version after an upgrade.
fn respond_file(name: &str, request: &HeaderMap) -> Result<Response, AdminError> {
    let content = Files::get(name).ok_or_else(|| AdminError::not_found("No such file."))?;
    let hash = content.metadata.sha256_hash();
    let etag = hash[..16]
        .iter()
        .fold(String::from("\""), |tag, byte| format!("{tag}{byte:02x}"))
        + "\"";
    let unchanged = request
        .get(header::IF_NONE_MATCH)
        .is_some_and(|tags| matches_etag(tags, &etag));
    let mut response = if unchanged {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let content_type = [(header::CONTENT_TYPE, media_type(name))];
        (content_type, Body::from(content.data)).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(etag) = HeaderValue::try_from(etag) {
        headers.insert(header::ETAG, etag);
    }
    if name.ends_with(".html") {
        add_page_headers(headers, HeaderValue::from_static(POLICY));
    }
    Ok(response)
}

/// Adds the headers of a page, with its content security policy.
pub(crate) fn add_page_headers(headers: &mut HeaderMap, policy: HeaderValue) {
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    for (name, value) in [
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Returns true if `If-None-Match` contains this tag (RFC 9110, section 13.1.2: weak comparison).
fn matches_etag(tags: &HeaderValue, etag: &str) -> bool {
    let tags = tags.to_str().unwrap_or_default();
    tags.split(',')
        .map(|tag| tag.trim().trim_start_matches("W/"))
        .any(|tag| tag == etag || tag == "*")
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_have_a_type_and_stay_cached_until_they_change() {
        assert!(Files::iter().count() > 10);
        for name in Files::iter() {
            let first = respond_file(&name, &HeaderMap::new()).unwrap();
            let content_type = &first.headers()[header::CONTENT_TYPE];
            assert_ne!(content_type, "application/octet-stream", "{name}");
            let etag = first.headers()[header::ETAG].to_str().unwrap();
            for (tags, status) in [
                (etag.to_owned(), StatusCode::NOT_MODIFIED),
                (format!("\"x\", W/{etag}"), StatusCode::NOT_MODIFIED),
                ("\"x\"".to_owned(), StatusCode::OK),
            ] {
                let mut asked = HeaderMap::new();
                asked.insert(header::IF_NONE_MATCH, tags.parse().unwrap());
                let again = respond_file(&name, &asked).unwrap();
                assert_eq!(again.status(), status, "{name} {tags}");
            }
        }
        assert!(respond_file("../Cargo.toml", &HeaderMap::new()).is_err());
    }
}
