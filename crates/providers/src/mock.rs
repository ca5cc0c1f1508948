//! The type `mock`: the mock provider, in this process or elsewhere. The mock itself is
//! `llm-router-mock`'s.

use std::borrow::Cow;

use http::{HeaderName, HeaderValue};
use llm_router_domain::format::{Endpoint, Format};

use crate::authorization::{AuthorizeError, Credential, OutgoingRequest};
use crate::client_request;
use crate::provider_type::{Call, DefaultBaseUrl, ProviderType, Settings};

/// The mock provider, which takes every client's format.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mock;

impl ProviderType for Mock {
    fn name(&self) -> &'static str {
        "mock"
    }

    fn description(&self) -> &'static str {
        "The mock provider, which answers in the format of the request."
    }

    fn base_url(&self, _settings: &Settings) -> DefaultBaseUrl {
        DefaultBaseUrl::InProcess
    }

    fn environment_variable(&self) -> &'static str {
        "PROVIDER_API_KEY"
    }

    fn format(&self, endpoint: Endpoint, _model: &str, _settings: &Settings) -> Option<Format> {
        Some(endpoint.format())
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

    /// Passes the mock's controls besides the usual headers.
    fn passes_header(&self, format: Option<Format>, name: &str) -> bool {
        name.starts_with("x-mock-") || client_request::passes_header(format, name)
    }

    fn is_billed(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider_type::UpstreamRoute::Native;
    use crate::testing::{assert_calls, sent_headers};

    #[test]
    fn every_format_is_taken_as_it_is() {
        let settings = Settings::default();
        let table = Endpoint::ALL.map(|endpoint| (endpoint, Some((Native, endpoint.path()))));
        assert_calls(&Mock, &settings, &table);
        assert_eq!(Mock.models_path(&settings), "/models");
        assert_eq!(
            sent_headers(&Mock, "/messages"),
            [("authorization".to_owned(), "Bearer sk-1".to_owned())]
        );
    }
}
