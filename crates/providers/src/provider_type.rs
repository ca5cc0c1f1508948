//! The trait of a provider type, and the values it is asked with and answers with. It must not name
//! any type.

use std::borrow::Cow;
use std::fmt;

use http::{HeaderName, HeaderValue};
use llm_router_domain::format::{ChatDialect, Endpoint, Format};

use crate::authorization::{AuthorizeError, Credential, OutgoingRequest};
use crate::client_request;

/// A kind of API that providers have.
///
/// Methods are called on the way of every request, so they neither block nor look anything up
/// outside of their arguments.
pub trait ProviderType: Send + Sync {
    /// Returns the name in the configuration's `type`.
    fn name(&self) -> &'static str;

    /// Returns a sentence about the type, for the schema of the configuration.
    fn description(&self) -> &'static str;

    /// Returns where providers of the type are unless `base_url` is set.
    fn base_url(&self, settings: &Settings) -> DefaultBaseUrl;

    /// Returns the end of a base URL's path that users write and that the paths of this type begin
    /// with, such as `/v1`: it is cut off.
    fn redundant_suffix(&self) -> &'static str {
        ""
    }

    /// Returns the environment variable that the credential is usually in.
    fn environment_variable(&self) -> &'static str;

    /// Returns true if a router without a configuration file uses the type, once its variable is set.
    fn is_used_without_file(&self) -> bool {
        false
    }

    /// Returns the format that requests to `endpoint` for `model` are sent in; `None` if the type
    /// has nothing for them.
    fn format(&self, endpoint: Endpoint, model: &str, settings: &Settings) -> Option<Format>;

    /// Returns how a client's request to `endpoint` for `model` is sent.
    fn route(&self, endpoint: Endpoint, model: &str, settings: &Settings) -> Option<UpstreamRoute> {
        let format = self.format(endpoint, model, settings)?;
        Some(if format == endpoint.format() {
            UpstreamRoute::Native
        } else {
            UpstreamRoute::Translated(format)
        })
    }

    /// Returns the path of a call below the base URL, with its query if it has one.
    fn path<'a>(&self, call: &Call<'a>) -> Cow<'a, str>;

    /// Returns the path that lists the models, below the base URL.
    fn models_path(&self, _settings: &Settings) -> Cow<'static, str> {
        Cow::Borrowed("/models")
    }

    /// Returns the path that health checks ask for unless one is set, below the base URL.
    fn health_path(&self, settings: &Settings) -> Cow<'static, str> {
        self.models_path(settings)
    }

    /// Returns true if a client's header of that name, in lower case, is passed on. `format` is the
    /// one that client and provider share; `None` if the request was translated.
    fn passes_header(&self, format: Option<Format>, name: &str) -> bool {
        client_request::passes_header(format, name)
    }

    /// Returns headers that every request must have and that clients may leave out.
    fn default_headers(&self) -> &'static [(HeaderName, HeaderValue)] {
        &[]
    }

    /// Returns the headers that authorize a request. It is called for each attempt, when the
    /// request's target, headers and body are as they will be sent.
    ///
    /// # Errors
    /// [`AuthorizeError`] if the credential can't be used for the request.
    fn authorize(
        &self,
        request: &OutgoingRequest<'_>,
        credential: &Credential,
    ) -> Result<Vec<(HeaderName, HeaderValue)>, AuthorizeError>;

    /// Returns the framing of streams in `format`.
    fn framing(&self, _format: Format) -> Framing {
        Framing::ServerSentEvents
    }

    /// Returns the deviations from the format.
    fn quirks(&self) -> Quirks {
        Quirks::default()
    }

    /// Returns the part before the slash under which the prices file has the models of the type.
    fn price_type(&self) -> &'static str {
        self.name()
    }

    /// Returns true if calls cost money, so that a model without a price is worth a warning.
    fn is_billed(&self) -> bool {
        true
    }

    /// Returns the `gen_ai.provider.name` of OpenTelemetry's semantic conventions, if they have one.
    fn telemetry_name(&self) -> Option<&'static str> {
        None
    }
}

/// Settings of a provider that its type reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// True if a server that speaks OpenAI's formats has `/responses`.
    pub responses: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { responses: true }
    }
}

/// Location of providers for which no base URL is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DefaultBaseUrl {
    /// At this URL.
    Known(Cow<'static, str>),
    /// Nowhere: the configuration must set one.
    Required,
    /// Inside the router's process.
    InProcess,
}

/// Way in which a provider is sent a client's request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamRoute {
    /// In the client's own format.
    Native,
    /// Translated into this format.
    Translated(Format),
}

/// Parts that the path of a call is built from.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The endpoint that the client called.
    pub endpoint: Endpoint,
    /// The format that the request is sent in.
    pub format: Format,
    /// The path, with its query, that the call has in the API that the format was made for, below
    /// the version: `/chat/completions`, `/models/gemini-2.5-pro:generateContent`.
    pub format_path: &'a str,
    /// The provider's name of the model.
    pub model: &'a str,
    /// True if a stream is asked for.
    pub stream: bool,
    /// Settings of the provider.
    pub settings: &'a Settings,
}

/// Framing of a streamed answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Server-sent events (WHATWG HTML, section 9.2).
    ServerSentEvents,
}

impl Framing {
    /// Returns the media type by which a streamed answer is told from a plain one.
    #[must_use]
    pub const fn media_type(self) -> &'static str {
        match self {
            Self::ServerSentEvents => "text/event-stream",
        }
    }
}

/// Deviations of a type from the formats that it speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// The dialect of chat completions, where it speaks them.
    pub chat_dialect: ChatDialect,
}

impl fmt::Debug for dyn ProviderType + '_ {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Types are equal if their names are: each name is in the registry once.
impl PartialEq for dyn ProviderType + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn ProviderType + '_ {}
