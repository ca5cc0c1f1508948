//! Headers that cross the router: the client's that a provider is sent, and the provider's that a
//! client is sent. How a type authorizes a request is `llm-router-providers`'.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName,
    HeaderValue, SET_COOKIE, TRANSFER_ENCODING,
};
use http::uri::PathAndQuery;
use llm_router_domain::format::Format;
use llm_router_domain::header::is_credential_parameter;
use llm_router_domain::pattern::PatternList;
use llm_router_providers::OutgoingRequest;
use llm_router_providers::client_request::{passes_parameter, withheld_header};
use llm_router_wire::coding::Codings;
use memchr::memmem;
use percent_encoding::percent_decode_str;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{Error, ErrorType, Result};
use secrecy::ExposeSecret as _;

use crate::clock;
use crate::snapshot::CompiledProvider;

/// Headers of the provider's that are about its own connection or its own clients.
const NOT_FOR_CLIENTS: [&str; 8] = [
    "alt-svc",
    "keep-alive",
    "proxy-authenticate",
    "proxy-connection",
    "set-cookie2",
    "strict-transport-security",
    "te",
    "upgrade",
];

/// Prefix of the headers that the router adds. Those of a provider's are another router's.
const OURS: &str = "x-llm-router-";

/// Names the rule that decided on a request.
pub(crate) const RULE: &str = "x-llm-router-rule";

/// Target of a request to a provider.
pub(crate) struct UpstreamTarget<'a> {
    /// Below the provider's base URL.
    pub(crate) path: Cow<'a, str>,
    /// The id of the client's request; `None` for a request of the router's own.
    pub(crate) request_id: Option<&'a str>,
    /// The format that client and provider share; `None` if the request was translated or is the
    /// router's own: then the path has its whole query.
    pub(crate) format: Option<Format>,
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
    if let (Some(format), Some(query)) = (target.format, header.uri.query()) {
        let query = permitted_parameters(query, format, &provider.forward_query);
        if !query.is_empty() {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(&query);
        }
    }
    header.set_raw_path(path.as_bytes())?;
    remove_withheld(header, target.format, provider);
    if let Some(id) = target.request_id {
        header.insert_header("x-request-id", id)?;
        if target.format.is_none() {
            header.remove_header(&CONTENT_ENCODING);
            header.insert_header(CONTENT_TYPE, HeaderValue::from_static("application/json"))?;
        }
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

/// Returns the parameters of a client's query that the provider is sent, as the client wrote them.
fn permitted_parameters(query: &str, format: Format, forwarded: &PatternList) -> String {
    let is_permitted = |parameter: &&str| {
        let name = parameter.split('=').next().unwrap_or_default();
        let name = percent_decode_str(name).decode_utf8_lossy();
        passes_parameter(format, &name)
            || (forwarded.allows(&name) && !is_credential_parameter(&name))
    };
    let permitted = query.split('&').filter(is_permitted);
    permitted.collect::<Vec<_>>().join("&")
}

/// Removes what the provider isn't sent from a client's header.
fn remove_withheld(
    header: &mut RequestHeader,
    format: Option<Format>,
    provider: &CompiledProvider,
) {
    let is_sent = |name: &str| {
        provider.kind.passes_header(format, name)
            || (provider.forward_headers.allows(name) && withheld_header(name).is_none())
    };
    let names = header.headers.keys();
    let withheld = names.filter(|name| !is_sent(name.as_str()));
    let withheld: Vec<HeaderName> = withheld.cloned().collect();
    for name in withheld {
        header.remove_header(&name);
    }
}

/// Returns whether an answer has that content type, whatever its parameters.
pub(crate) fn has_type(header: &ResponseHeader, name: &str) -> bool {
    header.headers.get(CONTENT_TYPE).is_some_and(|value| {
        let start = value.as_bytes().get(..name.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(name.as_bytes()))
    })
}

/// Returns the codings of a response's body.
pub(crate) fn codings(header: &ResponseHeader) -> Codings {
    let values = header.headers.get_all(CONTENT_ENCODING).iter();
    // What can't be read as text names no coding that is known.
    Codings::read(values.map(|value| value.to_str().unwrap_or("?")))
}

/// Makes the header one of a body whose codings have been undone.
///
/// # Errors
/// Returns an error if a header can't be set.
pub(crate) fn set_decoded(header: &mut ResponseHeader) -> Result<()> {
    header.remove_header(&CONTENT_ENCODING);
    open_length(header)
}

/// Returns whether a header says that no body follows.
pub(crate) fn has_no_body(header: &ResponseHeader) -> bool {
    let length = header.headers.get(CONTENT_LENGTH);
    matches!(header.status.as_u16(), 101 | 204 | 205 | 304)
        || length.is_some_and(|length| length == "0")
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
    remove_connection_headers(header);
    header.remove_header(&SET_COOKIE);
    for name in NOT_FOR_CLIENTS {
        header.remove_header(name);
    }
    let theirs = header.headers.keys();
    let theirs = theirs.filter(|name| name.as_str().starts_with(OURS));
    for name in theirs.cloned().collect::<Vec<HeaderName>>() {
        header.remove_header(&name);
    }
    remove_leaks(header, provider);
    if let Some(theirs) = header.remove_header("x-request-id") {
        header.insert_header("x-upstream-request-id", theirs)?;
    }
    insert(header, "x-request-id", marks.request_id)?;
    insert(header, "x-llm-router-provider", marks.provider)?;
    insert(header, "x-llm-router-model", marks.model)?;
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

/// Removes `connection` and the headers that it names, which are for the next hop alone (RFC 9110,
/// section 7.6.1). Those that say what the answer's bytes are stay, whatever it names.
fn remove_connection_headers(header: &mut ResponseHeader) {
    let values = header.headers.get_all(CONNECTION).into_iter();
    let names: Vec<HeaderName> = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        .filter(|name| {
            ![
                CONTENT_LENGTH,
                CONTENT_TYPE,
                TRANSFER_ENCODING,
                CONTENT_ENCODING,
            ]
            .contains(name)
        })
        .collect();
    for name in names {
        header.remove_header(&name);
    }
    header.remove_header(&CONNECTION);
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
    use llm_router_domain::format::Endpoint;
    use llm_router_domain::header::CREDENTIALS;
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
        let format = match kind {
            "anthropic" => Format::AnthropicMessages,
            "gemini" => Format::Gemini,
            _ => Format::OpenAiChat,
        };
        ask(&mut header, kind, "/v1/messages", Some(format));
        header
    }

    fn ask(header: &mut RequestHeader, kind: &str, path: &str, format: Option<Format>) {
        let target = UpstreamTarget {
            path: path.into(),
            request_id: Some("ours"),
            format,
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
        ask(&mut header, "gemini", path, None);
        assert_eq!(header.uri.to_string(), format!("/base{path}"));
        for name in ["anthropic-version", "anthropic-beta", "openai-project"] {
            assert_eq!(value(&header, name), None);
        }
        assert_eq!(value(&header, "content-type"), Some("application/json"));
        ask(
            &mut header,
            "gemini",
            "/openai/embeddings",
            Some(Format::OpenAiChat),
        );
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
        let mut header =
            RequestHeader::build("POST", b"/v1/chat/completions?limit=1", None).unwrap();
        header.append_header("host", "router").unwrap();
        let target = UpstreamTarget {
            path: "/deployments/m?api-version=1".into(),
            request_id: Some("ours"),
            format: Some(Format::OpenAiChat),
        };
        let body = [Bytes::from_static(b"{"), Bytes::from_static(b"}")];
        for_provider(&mut header, &provider, &target, &body).unwrap();
        let signed = r#"POST /base/deployments/m?api-version=1&limit=1 "provider.test" "2" {}"#;
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
        assert_eq!(header.uri, "/base/v1/messages");
        assert_eq!(value(&header, "host"), Some("provider.test"));
        assert_eq!(value(&header, "content-length"), Some("7"));
        assert_eq!(value(&header, "transfer-encoding"), None);
        assert_eq!(value(&header, "x-extra"), Some("1"));
    }

    #[test]
    fn documented_and_configured_parameters_pass() {
        use Format::{AnthropicMessages, Gemini, OpenAiChat};
        for (format, query, passed) in [
            (AnthropicMessages, "beta=true", "beta=true"),
            (Gemini, "key=sk-ours", ""),
            (
                Gemini,
                "alt=sse&key=sk-ours&pageToken=x",
                "alt=sse&pageToken=x",
            ),
            (OpenAiChat, "KEY=sk-ours&after=a&a", "after=a"),
            (
                OpenAiChat,
                "%6bey=sk-ours&include%5B%5D=a&access_token=y",
                "include%5B%5D=a",
            ),
            (
                OpenAiChat,
                "keys=1&key=2&api_key=sk-ours&tenant=7",
                "keys=1&tenant=7",
            ),
            (OpenAiChat, "", ""),
        ] {
            let passed_on =
                permitted_parameters(query, format, &PatternList::new(["tenant", "k*"]));
            assert_eq!(passed_on, passed, "{query}");
        }
    }

    #[test]
    fn configured_headers_pass_and_unknown_ones_do_not() {
        for kind in ["openai", "anthropic", "gemini"] {
            let header = send(
                kind,
                &[
                    ("x-tenant", "7"),
                    ("x-tenant-token", "sk-ours"),
                    ("x-internal", "1"),
                    ("openai-organization", "org-1"),
                    ("openai-project", "proj_1"),
                    ("x-goog-user-project", "p"),
                    ("cf-connecting-ip", "10.0.0.1"),
                    ("via", "1.1 a"),
                    ("referer", "http://intranet/"),
                    ("upgrade", "h2c"),
                    ("x-request-id", "not sane\u{e9}"),
                ],
            );
            assert_eq!(value(&header, "x-tenant"), Some("7"));
            assert_eq!(value(&header, "x-request-id"), Some("ours"));
            for name in [
                "x-internal",
                "x-tenant-token",
                "openai-organization",
                "openai-project",
                "x-goog-user-project",
                "cf-connecting-ip",
                "via",
                "referer",
                "upgrade",
            ] {
                assert_eq!(value(&header, name), None, "{kind} {name}");
            }
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
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("strict-transport-security", "max-age=1"),
            ("set-cookie2", "a=b"),
            ("x-llm-router-rule", "theirs"),
            ("x-llm-router-budget-remaining", "1"),
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
        for name in [
            "set-cookie",
            "set-cookie2",
            "x-debug",
            "connection",
            "x-hop",
            "strict-transport-security",
            "x-llm-router-budget-remaining",
        ] {
            assert_eq!(value(name), None, "{name}");
        }
        assert_eq!(value("x-request-id"), Some(&b"ours"[..]));
        assert_eq!(value("x-upstream-request-id"), Some(&b"theirs"[..]));
        assert_eq!(value(RULE), Some(&b"ours"[..]));
        assert_eq!(value("x-llm-router-attempts"), Some(&b"2"[..]));
        assert_eq!(value("x-llm-router-dropped"), Some(&b"top_k"[..]));
        assert_eq!(value("anthropic-ratelimit-requests-limit"), Some(&b"5"[..]));
    }
}
