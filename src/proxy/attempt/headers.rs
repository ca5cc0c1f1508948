//! Headers that cross the router: the client's that a provider is sent, and the provider's that a
//! client is sent. How a type authorizes a request is `llm-router-providers`'.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, FORWARDED, HOST, HeaderName,
    HeaderValue, SET_COOKIE, TRANSFER_ENCODING,
};
use http::uri::PathAndQuery;
use llm_router_domain::header::{CREDENTIALS, is_credential_parameter};
use llm_router_providers::OutgoingRequest;
use memchr::memmem;
use percent_encoding::percent_decode_str;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};
use secrecy::ExposeSecret as _;

use crate::clock;
use crate::snapshot::CompiledProvider;

/// Headers of the client's that are about the way to us.
const NOT_FOR_PROVIDERS: [&str; 5] = [
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-real-ip",
];

/// Headers of the provider's that are about its own connection or its own clients.
const NOT_FOR_CLIENTS: [&str; 3] = ["keep-alive", "proxy-authenticate", "alt-svc"];

/// Names the rule that decided on a request.
pub(crate) const RULE: &str = "x-llm-router-rule";

/// Prefixes of the headers of a format, which mean nothing to a provider of another one.
const OF_FORMATS: [&str; 2] = ["anthropic-", "openai-"];

/// Target of a request to a provider.
pub(crate) struct UpstreamTarget<'a> {
    /// Below the provider's base URL.
    pub(crate) path: Cow<'a, str>,
    /// True if the request was translated: then the path has its whole query.
    pub(crate) translated: bool,
}

/// Turns the client's header into the provider's: path, host, length of the body and credential.
///
/// # Errors
/// Returns an error if a header can't be set or the provider's credential can't be used.
pub(crate) fn for_provider(
    header: &mut RequestHeader,
    provider: &CompiledProvider,
    target: &UpstreamTarget<'_>,
    body: &[Bytes],
) -> Result<()> {
    let mut path = [&provider.base_path, &*target.path].concat();
    let query = header.uri.query().filter(|_| !target.translated);
    let query = query.map(without_credentials).unwrap_or_default();
    if !query.is_empty() {
        path.push(if path.contains('?') { '&' } else { '?' });
        path.push_str(&query);
    }
    header.set_raw_path(path.as_bytes())?;
    if target.translated {
        remove_foreign(header);
        header.insert_header(CONTENT_TYPE, HeaderValue::from_static("application/json"))?;
    }
    for name in [FORWARDED, EXPECT, TRANSFER_ENCODING] {
        header.remove_header(&name);
    }
    for name in CREDENTIALS.iter().chain(&NOT_FOR_PROVIDERS) {
        header.remove_header(*name);
    }
    header.insert_header(HOST, provider.host_header.clone())?;
    let length: usize = body.iter().map(Bytes::len).sum();
    header.insert_header(CONTENT_LENGTH, length)?;
    // Bytes that are passed on untouched must also be readable to whoever meters them.
    header.insert_header(ACCEPT_ENCODING, HeaderValue::from_static("identity"))?;
    for (name, value) in &provider.extra_headers {
        header.insert_header(name.clone(), value.clone())?;
    }
    authorize(header, provider, &target.path, body)
}

/// Returns a client's query without the credentials in it.
fn without_credentials(query: &str) -> String {
    let is_credential = |parameter: &&str| {
        let name = parameter.split('=').next().unwrap_or_default();
        is_credential_parameter(&percent_decode_str(name).decode_utf8_lossy())
    };
    let kept = query
        .split('&')
        .filter(|parameter| !is_credential(parameter));
    kept.collect::<Vec<_>>().join("&")
}

/// Returns whether an answer has that content type, whatever its parameters.
pub(crate) fn has_type(header: &ResponseHeader, name: &str) -> bool {
    header.headers.get(CONTENT_TYPE).is_some_and(|value| {
        let start = value.as_bytes().get(..name.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
    })
}

/// Makes the length of a stream open: what is taken out of it or added to its end would not fit the
/// length that was announced.
///
/// # Errors
/// Returns an error if a header can't be set.
pub(crate) fn open_length(header: &mut ResponseHeader) -> Result<()> {
    let length = header.headers.get(CONTENT_LENGTH);
    if length.is_some_and(|length| length != "0") {
        header.remove_header(&CONTENT_LENGTH);
        header.insert_header(TRANSFER_ENCODING, "chunked")?;
    }
    Ok(())
}

fn remove_foreign(header: &mut RequestHeader) {
    let of_format = |name: &&HeaderName| {
        let name = name.as_str();
        OF_FORMATS.iter().any(|prefix| name.starts_with(prefix))
    };
    let names: Vec<HeaderName> = header.headers.keys().filter(of_format).cloned().collect();
    for name in names {
        header.remove_header(&name);
    }
}

/// Adds the headers that the provider's type wants in every request, then those that authorize
/// this one, which must be complete. `path` is below the provider's base URL.
///
/// # Errors
/// Returns an error if a header can't be set or the provider's credential can't be used.
pub(crate) fn authorize(
    header: &mut RequestHeader,
    provider: &CompiledProvider,
    path: &str,
    body: &[Bytes],
) -> Result<()> {
    for (name, value) in provider.kind.default_headers() {
        if !header.headers.contains_key(name) {
            header.insert_header(name.clone(), value.clone())?;
        }
    }
    let Some(credential) = &provider.authorization else {
        return Ok(());
    };
    let target = header.uri.path_and_query();
    let request = OutgoingRequest {
        method: &header.method,
        path,
        target: target.map_or("/", PathAndQuery::as_str),
        headers: &header.headers,
        body,
        time: clock::wall(),
    };
    let authorization = provider.kind.authorize(&request, credential);
    let authorization = authorization
        .map_err(|error| Error::explain(ErrorType::InternalError, error.to_string()))?;
    for (name, value) in authorization {
        header.insert_header(name, value)?;
    }
    Ok(())
}

/// Headers that the router adds to a response.
pub(crate) struct Marks<'a> {
    pub(crate) request_id: &'a str,
    pub(crate) provider: &'a str,
    pub(crate) model: &'a str,
    pub(crate) rule: Option<&'a str>,
    pub(crate) attempts: u32,
    /// Fields of the request that the provider's format has nothing for.
    pub(crate) dropped: &'a [String],
}

/// Turns the provider's header into the client's: nothing of the provider's connection, nothing
/// that holds our credential, our marks added.
pub(crate) fn for_client(
    header: &mut ResponseHeader,
    provider: &CompiledProvider,
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
    if !marks.dropped.is_empty() {
        insert(header, "x-llm-router-dropped", &join_names(marks.dropped))?;
    }
    header.insert_header("x-llm-router-attempts", marks.attempts)
}

/// The longest list of dropped fields that is shown, in bytes.
const LONGEST_LIST: usize = 1024;

/// Names in a header's value. They are the client's own, so they may be anything.
fn join_names(names: &[String]) -> String {
    let mut list = String::new();
    for name in names {
        if list.len() + name.len() > LONGEST_LIST {
            list.push_str(", ...");
            break;
        }
        if !list.is_empty() {
            list.push_str(", ");
        }
        list.extend(
            name.chars()
                .map(|c| if c.is_ascii_graphic() { c } else { '?' }),
        );
    }
    list
}

/// Inserts a value that came from outside; one that no header can hold is left out.
pub(crate) fn insert(header: &mut ResponseHeader, name: &'static str, value: &str) -> Result<()> {
    match HeaderValue::from_bytes(value.as_bytes()) {
        Ok(value) => header.insert_header(name, value),
        Err(_) => Ok(()),
    }
}

fn remove_leaks(header: &mut ResponseHeader, provider: &CompiledProvider) {
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
        tracing::warn!(provider = provider.id, header = %name, "removed a response header that contained our credential");
        header.remove_header(&name);
    }
}

#[cfg(test)]
mod tests {
    use http::header::AUTHORIZATION;
    use llm_router_domain::format::{Endpoint, Format};
    use llm_router_providers::{
        AuthorizeError, Call, Credential, DefaultBaseUrl, ProviderType, Settings,
    };

    use super::*;
    use crate::snapshot::testing::{provider, provider_of};

    fn send(kind: &str, headers: &[(&'static str, &str)]) -> RequestHeader {
        let target = b"/v1/messages?beta=true";
        let mut header = RequestHeader::build("POST", target, None).unwrap();
        for (name, value) in headers {
            header.append_header(*name, *value).unwrap();
        }
        ask(&mut header, kind, "/v1/messages", false);
        header
    }

    fn ask(header: &mut RequestHeader, kind: &str, path: &str, translated: bool) {
        let target = UpstreamTarget {
            path: path.into(),
            translated,
        };
        let body = [Bytes::from_static(b"{\"a\":"), Bytes::from_static(b"1}")];
        for_provider(header, &provider("p", kind, &["*"]), &target, &body).unwrap();
    }

    fn value<'a>(header: &'a RequestHeader, name: &str) -> Option<&'a str> {
        header
            .headers
            .get(name)
            .map(|value| value.to_str().unwrap())
    }

    #[test]
    fn the_clients_key_stays_and_ours_goes() {
        let keys = CREDENTIALS.map(|name| (name, "Bearer sk-ours"));
        for (kind, name, expected) in [
            ("openai", "authorization", "Bearer sk-theirs"),
            ("anthropic", "x-api-key", "sk-theirs"),
            ("gemini", "x-goog-api-key", "sk-theirs"),
        ] {
            let header = send(kind, &keys);
            assert_eq!(value(&header, name), Some(expected));
            let values: Vec<_> = header.headers.values().collect();
            assert!(
                values
                    .iter()
                    .all(|value| !value.as_bytes().ends_with(b"sk-ours"))
            );
        }
    }

    #[test]
    fn translated_requests_lose_what_their_format_means() {
        let target = b"/v1/messages?beta=true";
        let mut header = RequestHeader::build("POST", target, None).unwrap();
        for name in ["anthropic-version", "anthropic-beta", "openai-project"] {
            header.append_header(name, "x").unwrap();
        }
        let path = "/models/g:streamGenerateContent?alt=sse";
        ask(&mut header, "gemini", path, true);
        assert_eq!(header.uri.to_string(), format!("/base{path}"));
        for name in ["anthropic-version", "anthropic-beta", "openai-project"] {
            assert_eq!(value(&header, name), None);
        }
        assert_eq!(value(&header, "content-type"), Some("application/json"));
        ask(&mut header, "gemini", "/openai/embeddings", false);
        assert_eq!(value(&header, "authorization"), Some("Bearer sk-theirs"));
    }

    /// A type that signs: what it was handed comes back in a header.
    struct Signing;

    impl ProviderType for Signing {
        fn name(&self) -> &'static str {
            "signing"
        }

        fn description(&self) -> &'static str {
            "Signs."
        }

        fn base_url(&self, _: &Settings) -> DefaultBaseUrl {
            DefaultBaseUrl::Required
        }

        fn environment_variable(&self) -> &'static str {
            "SIGNING_KEY"
        }

        fn format(&self, endpoint: Endpoint, _: &str, _: &Settings) -> Option<Format> {
            Some(endpoint.format())
        }

        fn path<'a>(&self, call: &Call<'a>) -> Cow<'a, str> {
            Cow::Borrowed(call.format_path)
        }

        fn authorize(
            &self,
            request: &OutgoingRequest<'_>,
            credential: &Credential,
        ) -> std::result::Result<Vec<(HeaderName, HeaderValue)>, AuthorizeError> {
            let body = request.body.concat();
            if body.is_empty() {
                return Err(AuthorizeError::new("there is nothing to sign"));
            }
            let signature = format!(
                "{} {} {:?} {:?} {}",
                request.method,
                request.target,
                request.headers.get(HOST).unwrap(),
                request.headers.get(CONTENT_LENGTH).unwrap(),
                String::from_utf8(body).unwrap(),
            );
            let name = HeaderName::from_static("x-signature");
            let signature = HeaderValue::from_str(&signature).unwrap();
            Ok(vec![
                (name, signature),
                (AUTHORIZATION, credential.bearer()),
            ])
        }
    }

    #[test]
    fn what_is_signed_is_what_is_sent() {
        let provider = provider_of("p", &Signing, &["*"]);
        let mut header = RequestHeader::build("POST", b"/v1/chat/completions?a=1", None).unwrap();
        header.append_header("host", "router").unwrap();
        let target = UpstreamTarget {
            path: "/deployments/m?api-version=1".into(),
            translated: false,
        };
        let body = [Bytes::from_static(b"{"), Bytes::from_static(b"}")];
        for_provider(&mut header, &provider, &target, &body).unwrap();
        let signed = r#"POST /base/deployments/m?api-version=1&a=1 "provider.test" "2" {}"#;
        assert_eq!(value(&header, "x-signature"), Some(signed));
        assert_eq!(value(&header, "authorization"), Some("Bearer sk-theirs"));
        let error = for_provider(&mut header, &provider, &target, &[]).unwrap_err();
        assert!(error.to_string().contains("nothing to sign"), "{error}");
    }

    #[test]
    fn dropped_fields_are_listed_as_far_as_a_header_can() {
        assert_eq!(
            join_names(&["top_k".into(), "a b\n日".into()]),
            "top_k, a?b??"
        );
        let many = vec!["x".repeat(100); 100];
        assert!(join_names(&many).len() < 2 * LONGEST_LIST);
    }

    #[test]
    fn path_host_and_length_are_the_providers() {
        let header = send(
            "openai",
            &[("host", "router"), ("transfer-encoding", "chunked")],
        );
        assert_eq!(header.uri, "/base/v1/messages?beta=true");
        assert_eq!(value(&header, "host"), Some("provider.test"));
        assert_eq!(value(&header, "content-length"), Some("7"));
        assert_eq!(value(&header, "transfer-encoding"), None);
        assert_eq!(value(&header, "x-extra"), Some("1"));
    }

    #[test]
    fn credentials_in_a_query_stay_here() {
        for (query, passed) in [
            ("beta=true", "beta=true"),
            ("key=sk-ours", ""),
            ("alt=sse&key=sk-ours&page_token=x", "alt=sse&page_token=x"),
            ("KEY=sk-ours&a", "a"),
            (
                "%6bey=sk-ours&include%5B%5D=a&access_token=y",
                "include%5B%5D=a",
            ),
            ("keys=1&api_key=sk-ours", "keys=1"),
            ("", ""),
        ] {
            assert_eq!(without_credentials(query), passed, "{query}");
        }
    }

    #[test]
    fn sdk_headers_pass_and_private_ones_do_not() {
        let header = send(
            "anthropic",
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
            value(&send("anthropic", &[]), "anthropic-version"),
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
            dropped: &["top_k".to_owned()],
        };
        for_client(&mut header, &provider("p", "openai", &["*"]), &marks).unwrap();
        let value = |name: &str| header.headers.get(name).map(|value| value.as_bytes());
        assert_eq!(value("set-cookie"), None);
        assert_eq!(value("x-debug"), None);
        assert_eq!(value("x-request-id"), Some(&b"ours"[..]));
        assert_eq!(value("x-upstream-request-id"), Some(&b"theirs"[..]));
        assert_eq!(value(RULE), Some(&b"ours"[..]));
        assert_eq!(value("x-llm-router-attempts"), Some(&b"2"[..]));
        assert_eq!(value("x-llm-router-dropped"), Some(&b"top_k"[..]));
        assert_eq!(value("anthropic-ratelimit-requests-limit"), Some(&b"5"[..]));
    }
}
