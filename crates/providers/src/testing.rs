//! Checks that the tests of all types share: of every endpoint, and of the headers.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Method};
use llm_router_domain::format::{Endpoint, Format};

use crate::{Call, Credential, OutgoingRequest, ProviderType, Settings, UpstreamRoute};

/// Route and path of an endpoint; `None` if the type has nothing for it.
pub(crate) type Expected = (Endpoint, Option<(UpstreamRoute, &'static str)>);

/// Checks the route and the path of every endpoint.
pub(crate) fn assert_calls(kind: &dyn ProviderType, settings: &Settings, table: &[Expected]) {
    let mut endpoints: Vec<_> = table.iter().map(|(endpoint, _)| *endpoint).collect();
    endpoints.sort_unstable();
    assert_eq!(endpoints, Endpoint::ALL, "{kind:?}: each endpoint once");
    for (endpoint, expected) in table {
        let route = kind.route(*endpoint, "m", settings);
        let found = route.map(|route| {
            let format = match route {
                UpstreamRoute::Native => endpoint.format(),
                UpstreamRoute::Translated(format) => format,
            };
            let call = Call {
                endpoint: *endpoint,
                format,
                format_path: match route {
                    UpstreamRoute::Native => endpoint.path(),
                    UpstreamRoute::Translated(format) => makers_path(format),
                },
                model: "m",
                stream: false,
                settings,
            };
            (route, kind.path(&call).into_owned())
        });
        let expected = expected.map(|(route, path)| (route, path.to_owned()));
        assert_eq!(found, expected, "{kind:?} {endpoint:?}");
    }
}

/// The path of a translated request, as `llm-router-wire` has it.
fn makers_path(format: Format) -> &'static str {
    match format {
        Format::OpenAiChat => "/chat/completions",
        Format::OpenAiResponses => "/responses",
        Format::AnthropicMessages => "/messages",
        Format::Gemini => "/models/m:generateContent",
    }
}

/// The headers that a request to `path` gets of the type, in order.
pub(crate) fn sent_headers(kind: &dyn ProviderType, path: &str) -> Vec<(String, String)> {
    let request = OutgoingRequest {
        method: &Method::POST,
        path,
        target: path,
        headers: &HeaderMap::new(),
        body: &[Bytes::from_static(b"{}")],
        time: SystemTime::UNIX_EPOCH,
    };
    let credential = Credential::new(&"sk-1".into()).unwrap();
    let authorization = kind.authorize(&request, &credential).unwrap();
    assert!(authorization.iter().all(|(_, value)| value.is_sensitive()));
    let defaults = kind.default_headers().iter().cloned();
    defaults
        .chain(authorization)
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect()
}
