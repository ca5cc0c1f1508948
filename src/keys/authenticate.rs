//! Authenticates a caller: finds the key that a request presents, and the identity behind it.

use std::sync::Arc;
use std::time::SystemTime;

use http::HeaderMap;
use http::header::AUTHORIZATION;
use llm_router_domain::header::KEY_HEADERS;
use llm_router_domain::key::Key;

use crate::error::ApiError;
use crate::keys::key_ring::{KeyRing, NoKey};

/// Finds who presents the request.
///
/// # Errors
/// 401 when there is no key, when two headers disagree, or when the key is unknown
/// or expired.
pub(crate) fn authenticate(
    keys: &KeyRing,
    headers: &HeaderMap,
    now: SystemTime,
) -> Result<Arc<Key>, ApiError> {
    let found = keys.present(presented_key(headers)?, now);
    found.map_err(|why| {
        ApiError::invalid_api_key(match why {
            NoKey::Unknown => "The API key is not known here. Ask your administrator for one.",
            NoKey::Expired => "The API key has expired.",
        })
    })
}

fn presented_key(headers: &HeaderMap) -> Result<&[u8], ApiError> {
    let mut found: Option<&[u8]> = None;
    let bearer = headers
        .get_all(AUTHORIZATION)
        .iter()
        .map(|value| bearer(value.as_bytes()));
    let plain = KEY_HEADERS.iter().flat_map(|name| headers.get_all(*name));
    for key in bearer.chain(plain.map(|value| value.as_bytes().trim_ascii())) {
        if key.is_empty() {
            continue;
        }
        if found.is_some_and(|first| first != key) {
            return Err(ApiError::invalid_api_key(
                "The request carries two different API keys; send one.",
            ));
        }
        found = Some(key);
    }
    found.ok_or_else(|| {
        ApiError::invalid_api_key(
            "No API key was given. Send it as \"Authorization: Bearer KEY\" or \"x-api-key: KEY\".",
        )
    })
}

/// The credentials of a bearer header (RFC 6750, section 2.1); the scheme's case is free.
fn bearer(value: &[u8]) -> &[u8] {
    const SCHEME: &[u8] = b"bearer ";
    match value.split_at_checked(SCHEME.len()) {
        Some((scheme, key)) if scheme.eq_ignore_ascii_case(SCHEME) => key.trim_ascii(),
        _ => value.trim_ascii(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{HeaderName, HeaderValue};
    use llm_router_domain::key::{KeyHasher, Role};
    use llm_router_domain::limit::Limits;
    use llm_router_domain::pattern::PatternList;

    use super::*;

    fn outcome(headers: &[(&str, &str)]) -> Result<String, String> {
        let mut keys = KeyRing::new(KeyHasher::new(&"salt".into()), Arc::default(), None);
        let key = |name: &str, expires_at| Key {
            name: name.into(),
            owner: None,
            role: Role::User,
            models: PatternList::new(["*"]),
            expires_at,
            limits: Limits::NONE,
            budget: None,
        };
        keys.add(
            "sk-1",
            key(
                "one",
                Some(SystemTime::UNIX_EPOCH + Duration::from_secs(100)),
            ),
        );
        keys.add(
            "sk-old",
            key(
                "old",
                Some(SystemTime::UNIX_EPOCH + Duration::from_secs(99)),
            ),
        );
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        authenticate(
            &keys,
            &map,
            SystemTime::UNIX_EPOCH + Duration::from_secs(99),
        )
        .map(|key| key.name.clone())
        .map_err(|fault| fault.message.into_owned())
    }

    #[test]
    fn keys_come_in_any_of_three_headers() {
        for headers in [
            &[("authorization", "Bearer sk-1")][..],
            &[("authorization", "bearer  sk-1 ")],
            &[("authorization", "sk-1")],
            &[("x-api-key", "sk-1")],
            &[("api-key", "sk-1")],
            &[("authorization", "Bearer sk-1"), ("x-api-key", "sk-1")],
            &[("authorization", "Bearer "), ("x-api-key", "sk-1")],
        ] {
            assert_eq!(outcome(headers), Ok("one".into()), "{headers:?}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for (headers, said) in [
            (&[][..], "No API key"),
            (&[("authorization", "")], "No API key"),
            (&[("x-api-key", "sk-2")], "not known"),
            (&[("x-api-key", "sk-old")], "expired"),
            (&[("authorization", "Basic c2stMQ==")], "not known"),
            (
                &[("authorization", "Bearer sk-1"), ("x-api-key", "sk-2")],
                "two different",
            ),
            (
                &[("x-api-key", "sk-1"), ("x-api-key", "sk-3")],
                "two different",
            ),
        ] {
            let message = outcome(headers).unwrap_err();
            assert!(message.contains(said), "{headers:?}: {message}");
        }
    }
}
