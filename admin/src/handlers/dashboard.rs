//! The dashboard's files, built into the program: its page at `/`, below `/ui/` what the page loads.
//! It reads the API as any client does, with the key that its user types in: nothing here is secret,
//! and nothing here is made of what the router knows.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;

use crate::error::Problem;

#[derive(rust_embed::Embed)]
#[folder = "ui/"]
struct Files;

const PAGE: &str = "index.html";

/// Only what comes from here runs and is asked, no text becomes markup, and nobody may frame the page
/// (Content Security Policy Level 3; Trusted Types).
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
    require-trusted-types-for 'script'; trusted-types 'none'";

pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route(
            "/",
            get(async |headers: HeaderMap| served(PAGE, &headers, true)),
        )
        .route("/ui/{*file}", get(file))
}

async fn file(Path(file): Path<String>, headers: HeaderMap) -> Result<Response, Problem> {
    served(&file, &headers, false)
}

/// A file. Browsers keep it, but ask each time whether it is still the same, so that page and router
/// never differ after an upgrade.
fn served(name: &str, asked: &HeaderMap, is_page: bool) -> Result<Response, Problem> {
    let found = Files::get(name).ok_or_else(|| Problem::not_found("There is no such file."))?;
    let hash = found.metadata.sha256_hash();
    let etag = hash[..16]
        .iter()
        .fold(String::from("\""), |tag, byte| format!("{tag}{byte:02x}"))
        + "\"";
    let same = asked
        .get(header::IF_NONE_MATCH)
        .is_some_and(|tags| names(tags, &etag));
    let mut response = if same {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        let kind = [(header::CONTENT_TYPE, media_type(name))];
        (kind, Body::from(found.data)).into_response()
    };
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(etag) = HeaderValue::try_from(etag) {
        headers.insert(header::ETAG, etag);
    }
    if is_page {
        guard(headers);
    }
    Ok(response)
}

fn guard(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Whether `If-None-Match` names this tag (RFC 9110, section 13.1.2: compared weakly).
fn names(tags: &HeaderValue, etag: &str) -> bool {
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
    fn every_file_has_its_type_and_stays_in_the_cache_while_it_is_the_same() {
        assert!(Files::iter().count() > 10);
        for name in Files::iter() {
            let first = served(&name, &HeaderMap::new(), false).unwrap();
            let kind = &first.headers()[header::CONTENT_TYPE];
            assert_ne!(kind, "application/octet-stream", "{name}");
            let etag = first.headers()[header::ETAG].to_str().unwrap();
            for (tags, status) in [
                (etag.to_owned(), StatusCode::NOT_MODIFIED),
                (format!("\"x\", W/{etag}"), StatusCode::NOT_MODIFIED),
                ("\"x\"".to_owned(), StatusCode::OK),
            ] {
                let mut asked = HeaderMap::new();
                asked.insert(header::IF_NONE_MATCH, tags.parse().unwrap());
                let again = served(&name, &asked, false).unwrap();
                assert_eq!(again.status(), status, "{name} {tags}");
            }
        }
        assert!(served("../Cargo.toml", &HeaderMap::new(), false).is_err());
    }
}
