//! Which headers cross the router: what a provider is sent of the client's, and what a client is
//! sent of the provider's. Values are made elsewhere.

use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, FORWARDED, HOST,
    HeaderName, HeaderValue, SET_COOKIE, TRANSFER_ENCODING,
};
use memchr::memmem;
use pingora::Result;
use pingora::http::{RequestHeader, ResponseHeader};
use secrecy::ExposeSecret as _;

use crate::authenticate::KEY_HEADERS;
use crate::snapshot::{Provider, ProviderKind};

/// Headers of the client's that are about the way to us, or hold its secrets.
const NOT_FOR_PROVIDERS: [&str; 6] = [
    "proxy-authorization",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-real-ip",
];

/// Headers of the provider's that are about its own connection or its own clients.
const NOT_FOR_CLIENTS: [&str; 3] = ["keep-alive", "proxy-authenticate", "alt-svc"];

/// Names the rule that decided on a request.
pub(super) const RULE: &str = "x-llm-router-rule";

const ANTHROPIC_VERSION: &str = "anthropic-version";

/// Turns the client's header into the provider's: path, host, credential and length.
pub(super) fn for_provider(
    header: &mut RequestHeader,
    provider: &Provider,
    path: &str,
    length: usize,
) -> Result<()> {
    let query = header
        .uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    header.set_raw_path(format!("{}{path}{query}", provider.base_path).as_bytes())?;
    for name in [AUTHORIZATION, COOKIE, FORWARDED, EXPECT, TRANSFER_ENCODING] {
        header.remove_header(&name);
    }
    for name in KEY_HEADERS.iter().chain(&NOT_FOR_PROVIDERS) {
        header.remove_header(*name);
    }
    header.insert_header(HOST, provider.host_header.clone())?;
    header.insert_header(CONTENT_LENGTH, length)?;
    // Bytes that are passed on untouched must also be readable to whoever meters them.
    header.insert_header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))?;
    for (name, value) in &provider.headers {
        header.insert_header(name.clone(), value.clone())?;
    }
    insert_credential(header, provider)
}

fn insert_credential(header: &mut RequestHeader, provider: &Provider) -> Result<()> {
    let anthropic = provider.kind == ProviderKind::Anthropic;
    if anthropic && !header.headers.contains_key(ANTHROPIC_VERSION) {
        header.insert_header(ANTHROPIC_VERSION, HeaderValue::from_static("2023-06-01"))?;
    }
    let Some(credential) = &provider.credential else {
        return Ok(());
    };
    let name = if anthropic {
        HeaderName::from_static("x-api-key")
    } else {
        AUTHORIZATION
    };
    header.insert_header(name, credential.clone())
}

/// What the router says of itself in a response.
pub(super) struct Marks<'a> {
    pub(super) request_id: &'a str,
    pub(super) provider: &'a str,
    pub(super) model: &'a str,
    pub(super) rule: Option<&'a str>,
    pub(super) attempts: u32,
}

/// Turns the provider's header into the client's: nothing of the provider's connection, nothing
/// that holds our credential, our marks added.
pub(super) fn for_client(
    header: &mut ResponseHeader,
    provider: &Provider,
    marks: &Marks<'_>,
) -> Result<()> {
    header.remove_header(&CONNECTION);
    header.remove_header(&SET_COOKIE);
    for name in NOT_FOR_CLIENTS {
        header.remove_header(name);
    }
    remove_leaks(header, provider);
    if let Some(theirs) = header.remove_header("x-request-id") {
        header.insert_header("x-upstream-request-id", theirs)?;
    }
    insert(header, "x-request-id", marks.request_id)?;
    insert(header, "x-llm-router-provider", marks.provider)?;
    insert(header, "x-llm-router-model", marks.model)?;
    // One of the provider's would be another router's.
    header.remove_header(RULE);
    if let Some(rule) = marks.rule {
        insert(header, RULE, rule)?;
    }
    header.insert_header("x-llm-router-attempts", marks.attempts)
}

/// Inserts a value that came from outside; one that no header can hold is left out.
pub(super) fn insert(header: &mut ResponseHeader, name: &'static str, value: &str) -> Result<()> {
    match HeaderValue::from_bytes(value.as_bytes()) {
        Ok(value) => header.insert_header(name, value),
        Err(_) => Ok(()),
    }
}

fn remove_leaks(header: &mut ResponseHeader, provider: &Provider) {
    let leaks = |value: &HeaderValue| {
        let holds = |secret: &secrecy::SecretString| {
            memmem::find(value.as_bytes(), secret.expose_secret().as_bytes()).is_some()
        };
        provider.secrets.iter().any(holds)
    };
    let names: Vec<HeaderName> = header
        .headers
        .iter()
        .filter(|(_, value)| leaks(value))
        .map(|(name, _)| name.clone())
        .collect();
    for name in names {
        tracing::warn!(provider = provider.id, header = %name, "a response held our credential");
        header.remove_header(&name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::ProviderKind::{Anthropic, OpenAi};
    use crate::snapshot::testing::provider;

    fn sent(kind: ProviderKind, headers: &[(&'static str, &str)]) -> RequestHeader {
        let target = b"/v1/messages?beta=true";
        let mut header = RequestHeader::build("POST", target, None).unwrap();
        for (name, value) in headers {
            header.append_header(*name, *value).unwrap();
        }
        for_provider(&mut header, &provider("p", kind, &["*"]), "/v1/messages", 7).unwrap();
        header
    }

    fn value<'a>(header: &'a RequestHeader, name: &str) -> Option<&'a str> {
        header
            .headers
            .get(name)
            .map(|value| value.to_str().unwrap())
    }

    #[test]
    fn the_clients_key_stays_and_ours_goes() {
        let keys = [
            ("authorization", "Bearer sk-ours"),
            ("x-api-key", "sk-ours"),
            ("api-key", "sk-ours"),
        ];
        for (kind, name) in [(OpenAi, "authorization"), (Anthropic, "x-api-key")] {
            let header = sent(kind, &keys);
            assert_eq!(value(&header, name), Some("sk-theirs"));
            let values: Vec<_> = header.headers.values().collect();
            assert!(
                values
                    .iter()
                    .all(|value| !value.as_bytes().ends_with(b"sk-ours"))
            );
        }
    }

    #[test]
    fn path_host_and_length_are_the_providers() {
        let header = sent(
            OpenAi,
            &[("host", "router"), ("transfer-encoding", "chunked")],
        );
        assert_eq!(header.uri, "/base/v1/messages?beta=true");
        assert_eq!(value(&header, "host"), Some("provider.test"));
        assert_eq!(value(&header, "content-length"), Some("7"));
        assert_eq!(value(&header, "transfer-encoding"), None);
        assert_eq!(value(&header, "x-extra"), Some("1"));
    }

    #[test]
    fn sdk_headers_pass_and_private_ones_do_not() {
        let header = sent(
            Anthropic,
            &[
                ("anthropic-beta", "a"),
                ("anthropic-beta", "b"),
                ("anthropic-version", "2024-01-01"),
                ("x-stainless-lang", "python"),
                ("cookie", "session=1"),
                ("x-forwarded-for", "10.0.0.1"),
            ],
        );
        let betas: Vec<_> = header.headers.get_all("anthropic-beta").iter().collect();
        assert_eq!(betas, ["a", "b"]);
        assert_eq!(value(&header, "anthropic-version"), Some("2024-01-01"));
        assert_eq!(value(&header, "x-stainless-lang"), Some("python"));
        assert!(value(&header, "cookie").is_none() && value(&header, "x-forwarded-for").is_none());
        assert_eq!(
            value(&sent(Anthropic, &[]), "anthropic-version"),
            Some("2023-06-01")
        );
    }

    #[test]
    fn responses_lose_what_is_not_the_clients() {
        let mut header = ResponseHeader::build(200, None).unwrap();
        for (name, text) in [
            ("set-cookie", "a=b"),
            ("x-request-id", "theirs"),
            ("x-debug", "key sk-theirs was used"),
            ("anthropic-ratelimit-requests-limit", "5"),
        ] {
            header.append_header(name, text).unwrap();
        }
        let marks = Marks {
            request_id: "ours",
            provider: "p",
            model: "模型",
            rule: Some("ours"),
            attempts: 2,
        };
        for_client(&mut header, &provider("p", OpenAi, &["*"]), &marks).unwrap();
        let value = |name: &str| header.headers.get(name).map(|value| value.as_bytes());
        assert_eq!(value("set-cookie"), None);
        assert_eq!(value("x-debug"), None);
        assert_eq!(value("x-request-id"), Some(&b"ours"[..]));
        assert_eq!(value("x-upstream-request-id"), Some(&b"theirs"[..]));
        assert_eq!(value(RULE), Some(&b"ours"[..]));
        assert_eq!(value("x-llm-router-attempts"), Some(&b"2"[..]));
        assert_eq!(value("anthropic-ratelimit-requests-limit"), Some(&b"5"[..]));
    }
}
