//! The type `gemini`: Google's Gemini API with keys of AI Studio.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue};
use llm_router_domain::format::{Endpoint, Format};

use crate::authorization::{AuthorizeError, Credential, OutgoingRequest};
use crate::provider_type::{Call, DefaultBaseUrl, ProviderType, Settings};

/// Google Gemini: its own format, and an OpenAI-compatible endpoint for embeddings.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gemini;

/// The paths that speak OpenAI's format begin with it, and take the credential as OpenAI does.
const COMPATIBLE: &str = "/openai";

impl ProviderType for Gemini {
    fn name(&self) -> &'static str {
        "gemini"
    }

    fn description(&self) -> &'static str {
        "Google Gemini."
    }

    fn base_url(&self, _settings: &Settings) -> DefaultBaseUrl {
        let url = "https://generativelanguage.googleapis.com/v1beta";
        DefaultBaseUrl::Known(Cow::Borrowed(url))
    }

    fn redundant_suffix(&self) -> &'static str {
        COMPATIBLE
    }

    fn environment_variable(&self) -> &'static str {
        "GEMINI_API_KEY"
    }

    fn is_used_without_file(&self) -> bool {
        true
    }

    fn format(&self, endpoint: Endpoint, _model: &str, _settings: &Settings) -> Option<Format> {
        match endpoint {
            Endpoint::ChatCompletions
            | Endpoint::Responses
            | Endpoint::Messages
            | Endpoint::CountTokens => Some(Format::Gemini),
            Endpoint::Embeddings => Some(Format::OpenAiChat),
            Endpoint::Completions => None,
        }
    }

    fn path<'a>(&self, call: &Call<'a>) -> Cow<'a, str> {
        match call.format {
            Format::OpenAiChat => Cow::Owned([COMPATIBLE, call.format_path].concat()),
            _ => Cow::Borrowed(call.format_path),
        }
    }

    fn authorize(
        &self,
        request: &OutgoingRequest<'_>,
        credential: &Credential,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, AuthorizeError> {
        let below = request.path.strip_prefix(COMPATIBLE);
        if below.is_some_and(|rest| rest.starts_with('/')) {
            return Ok(credential.bearer_header());
        }
        let name = HeaderName::from_static("x-goog-api-key");
        Ok(vec![(name, credential.plain())])
    }

    fn telemetry_name(&self) -> Option<&'static str> {
        Some("gcp.gemini")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider_type::UpstreamRoute::{Native, Translated};
    use crate::testing::{assert_calls, sent_headers};

    #[test]
    fn everything_but_embeddings_is_asked_in_gemini() {
        let settings = Settings::default();
        let path = "/models/m:generateContent";
        let gemini = Some((Translated(Format::Gemini), path));
        assert_calls(
            &Gemini,
            &settings,
            &[
                (Endpoint::ChatCompletions, gemini),
                (Endpoint::Responses, gemini),
                (Endpoint::Messages, gemini),
                (
                    Endpoint::CountTokens,
                    Some((Translated(Format::Gemini), path)),
                ),
                (Endpoint::Embeddings, Some((Native, "/openai/embeddings"))),
                (Endpoint::Completions, None),
            ],
        );
        assert_eq!(Gemini.models_path(&settings), "/models");
        assert_eq!(Gemini.health_path(&settings), "/models");
    }

    #[test]
    fn the_credential_is_in_the_header_that_the_path_wants() {
        let own = [("x-goog-api-key".to_owned(), "sk-1".to_owned())];
        let bearer = [("authorization".to_owned(), "Bearer sk-1".to_owned())];
        assert_eq!(sent_headers(&Gemini, "/models/m:generateContent"), own);
        assert_eq!(sent_headers(&Gemini, "/openai/embeddings"), bearer);
        assert_eq!(sent_headers(&Gemini, "/openaix"), own);
    }
}
