//! The type `anthropic`: Anthropic's own API.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue};
use llm_router_domain::format::{Endpoint, Format};

use crate::authorization::{AuthorizeError, Credential, OutgoingRequest};
use crate::provider_type::{Call, DefaultBaseUrl, ProviderType, Settings};

/// Anthropic. Its base URL has no `/v1`, as in its SDKs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anthropic;

/// Version of the API, where the client names none.
static DEFAULT_HEADERS: [(HeaderName, HeaderValue); 1] = [(
    HeaderName::from_static("anthropic-version"),
    HeaderValue::from_static("2023-06-01"),
)];

impl ProviderType for Anthropic {
    fn name(&self) -> &'static str {
        "anthropic"
    }

    fn description(&self) -> &'static str {
        "Anthropic."
    }

    fn base_url(&self, _settings: &Settings) -> DefaultBaseUrl {
        DefaultBaseUrl::Known(Cow::Borrowed("https://api.anthropic.com"))
    }

    fn redundant_suffix(&self) -> &'static str {
        "/v1"
    }

    fn environment_variable(&self) -> &'static str {
        "ANTHROPIC_API_KEY"
    }

    fn is_used_without_file(&self) -> bool {
        true
    }

    fn format(&self, endpoint: Endpoint, _model: &str, _settings: &Settings) -> Option<Format> {
        match endpoint {
            Endpoint::ChatCompletions
            | Endpoint::Responses
            | Endpoint::Messages
            | Endpoint::CountTokens => Some(Format::AnthropicMessages),
            Endpoint::Completions | Endpoint::Embeddings => None,
        }
    }

    fn path<'a>(&self, call: &Call<'a>) -> Cow<'a, str> {
        Cow::Owned(["/v1", call.format_path].concat())
    }

    fn models_path(&self, _settings: &Settings) -> Cow<'static, str> {
        Cow::Borrowed("/v1/models")
    }

    fn default_headers(&self) -> &'static [(HeaderName, HeaderValue)] {
        &DEFAULT_HEADERS
    }

    fn authorize(
        &self,
        _request: &OutgoingRequest<'_>,
        credential: &Credential,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, AuthorizeError> {
        let name = HeaderName::from_static("x-api-key");
        Ok(vec![(name, credential.plain())])
    }

    fn telemetry_name(&self) -> Option<&'static str> {
        Some("anthropic")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider_type::UpstreamRoute::{Native, Translated};
    use crate::testing::{assert_calls, sent_headers};

    #[test]
    fn everything_is_asked_in_messages() {
        let settings = Settings::default();
        let translated = Translated(Format::AnthropicMessages);
        assert_calls(
            &Anthropic,
            &settings,
            &[
                (
                    Endpoint::ChatCompletions,
                    Some((translated, "/v1/messages")),
                ),
                (Endpoint::Responses, Some((translated, "/v1/messages"))),
                (Endpoint::Messages, Some((Native, "/v1/messages"))),
                (
                    Endpoint::CountTokens,
                    Some((Native, "/v1/messages/count_tokens")),
                ),
                (Endpoint::Completions, None),
                (Endpoint::Embeddings, None),
            ],
        );
        assert_eq!(Anthropic.models_path(&settings), "/v1/models");
        assert_eq!(Anthropic.health_path(&settings), "/v1/models");
    }

    #[test]
    fn the_credential_is_in_its_own_header() {
        assert_eq!(
            sent_headers(&Anthropic, "/v1/messages"),
            [
                ("anthropic-version".to_owned(), "2023-06-01".to_owned()),
                ("x-api-key".to_owned(), "sk-1".to_owned()),
            ]
        );
    }
}
