//! Servers that speak OpenAI's formats at OpenAI's paths: their types are rows of data. It must not
//! hold what is only true of one of them.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue};
use llm_router_domain::format::{Endpoint, Format};

use crate::authorization::{AuthorizeError, Credential, OutgoingRequest};
use crate::provider_type::{Call, DefaultBaseUrl, ProviderType, Quirks, Settings};

/// A type that speaks OpenAI's formats: what differs between them.
#[derive(Clone, Copy, Debug)]
pub struct OpenAiCompatible {
    /// See [`ProviderType::name`].
    pub name: &'static str,
    /// See [`ProviderType::description`].
    pub description: &'static str,
    /// See [`ProviderType::base_url`]; `None`: the configuration must set one.
    pub base_url: Option<&'static str>,
    /// See [`ProviderType::environment_variable`].
    pub environment_variable: &'static str,
    /// See [`ProviderType::is_used_without_file`].
    pub is_used_without_file: bool,
    /// True if it has `/responses`.
    pub has_responses: bool,
    /// See [`ProviderType::quirks`].
    pub quirks: Quirks,
    /// See [`ProviderType::telemetry_name`].
    pub telemetry_name: Option<&'static str>,
}

impl ProviderType for OpenAiCompatible {
    fn name(&self) -> &'static str {
        self.name
    }

    fn description(&self) -> &'static str {
        self.description
    }

    fn base_url(&self, _settings: &Settings) -> DefaultBaseUrl {
        self.base_url.map_or(DefaultBaseUrl::Required, |url| {
            DefaultBaseUrl::Known(Cow::Borrowed(url))
        })
    }

    fn environment_variable(&self) -> &'static str {
        self.environment_variable
    }

    fn is_used_without_file(&self) -> bool {
        self.is_used_without_file
    }

    fn format(&self, endpoint: Endpoint, _model: &str, settings: &Settings) -> Option<Format> {
        match endpoint {
            Endpoint::Responses if self.has_responses && settings.responses => {
                Some(Format::OpenAiResponses)
            }
            Endpoint::ChatCompletions
            | Endpoint::Completions
            | Endpoint::Embeddings
            | Endpoint::Responses
            | Endpoint::Messages => Some(Format::OpenAiChat),
            Endpoint::CountTokens => None,
        }
    }

    fn path<'a>(&self, call: &Call<'a>) -> Cow<'a, str> {
        Cow::Borrowed(call.format_path)
    }

    fn authorize(
        &self,
        _request: &OutgoingRequest<'_>,
        credential: &Credential,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, AuthorizeError> {
        Ok(credential.bearer_header())
    }

    fn quirks(&self) -> Quirks {
        self.quirks
    }

    fn telemetry_name(&self) -> Option<&'static str> {
        self.telemetry_name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::custom::CUSTOM;
    use crate::openai::OPENAI;
    use crate::provider_type::UpstreamRoute::{Native, Translated};
    use crate::testing::{Expected, assert_calls, sent_headers};

    const TABLE: [Expected; 6] = [
        (
            Endpoint::ChatCompletions,
            Some((Native, "/chat/completions")),
        ),
        (Endpoint::Completions, Some((Native, "/completions"))),
        (Endpoint::Embeddings, Some((Native, "/embeddings"))),
        (Endpoint::Responses, Some((Native, "/responses"))),
        (
            Endpoint::Messages,
            Some((Translated(Format::OpenAiChat), "/chat/completions")),
        ),
        (Endpoint::CountTokens, None),
    ];

    #[test]
    fn openai_formats_are_at_openai_paths() {
        for kind in [&OPENAI, &CUSTOM] {
            assert_calls(kind, &Settings::default(), &TABLE);
            let settings = Settings::default();
            assert_eq!(kind.models_path(&settings), "/models");
            assert_eq!(kind.health_path(&settings), "/models");
            assert_eq!(
                sent_headers(kind, "/chat/completions"),
                [("authorization".to_owned(), "Bearer sk-1".to_owned())]
            );
        }
    }

    #[test]
    fn responses_are_translated_where_there_are_none() {
        let chat_only = Settings { responses: false };
        let mut table = TABLE;
        table[3].1 = Some((Translated(Format::OpenAiChat), "/chat/completions"));
        assert_calls(&CUSTOM, &chat_only, &table);
        let without = OpenAiCompatible {
            has_responses: false,
            ..CUSTOM
        };
        assert_calls(&without, &Settings::default(), &table);
    }
}
