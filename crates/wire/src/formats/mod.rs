//! The wire formats: a folder each, all behind one trait, looked up in one table.
//!
//! A folder holds everything that is particular to its format: how requests, responses and streams
//! are read and written, its error bodies, its paths, where usage stands. What formats have in
//! common is not here: neutral types in `translate`, metering in `usage`. What is dropped on the
//! way from one format to another is in `translate::policy`.

pub(crate) mod anthropic_messages;
mod event_kind;
pub(crate) mod gemini;
mod openai;
pub(crate) mod openai_chat;
pub(crate) mod openai_responses;

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use llm_router_domain::format::{Endpoint, Format};
use memchr::memmem::find;
use serde_json::Value;

use crate::error::ErrorBody;
pub(crate) use crate::formats::event_kind::EventKind;
use crate::json;
use crate::models::ListedModel;
use crate::parameters::Parameter;
use crate::scan::Scan;
use crate::translate::TranslateError;
use crate::translate::event::{AnswerEvent, ReadStream, Sink, WriteStream, replay};
use crate::translate::json::{Json, Object};
use crate::translate::neutral::{NeutralRequest, NeutralResponse};
use crate::translate::options::{ChatDialect, RequestOptions, ResponseContext};
use crate::translate::policy::Losses;
use crate::translate::provider_error::ProviderError;
use crate::usage::UsageLayout;

/// The table of formats.
pub(crate) const fn codec(format: Format) -> &'static dyn Codec {
    match format {
        Format::OpenAiChat => &openai_chat::OpenAiChat,
        Format::OpenAiResponses => &openai_responses::OpenAiResponses,
        Format::AnthropicMessages => &anthropic_messages::AnthropicMessages,
        Format::Gemini => &gemini::Gemini,
    }
}

/// One wire format: how a provider that speaks it is asked, and how it answers.
pub(crate) trait Codec: Sync {
    /// The side of clients; none where no client speaks the format.
    fn client(&self) -> Option<&'static dyn ClientCodec> {
        None
    }

    /// The company that defined the format. A file kept there is known in all of its formats.
    fn vendor(&self) -> &'static str;

    /// The path and query of a request, below the provider's base URL.
    fn path(&self, model: &str, stream: bool) -> String;

    /// Headers that a request needs besides credentials.
    fn request_headers(&self) -> &'static [(&'static str, &'static str)] {
        &[]
    }

    /// Writes a request's body. `model` is the deployment's name of the model; what can't be
    /// expressed is reported to `losses`.
    fn write_request(
        &self,
        request: &NeutralRequest<'_>,
        model: &str,
        options: &RequestOptions,
        losses: &mut Losses,
        out: &mut BytesMut,
    );

    /// Reads the body of a response.
    ///
    /// # Errors
    /// Status 502 if the body is no response in this format or says that the model failed.
    fn read_response<'a>(
        &self,
        body: Json<'a>,
        context: &ResponseContext,
    ) -> Result<NeutralResponse<'a>, TranslateError>;

    /// A reader for the events of one streamed response.
    fn stream_reader(&self, context: &ResponseContext) -> Box<dyn ReadStream>;

    /// Reads a JSON document that came where a stream was asked for.
    fn read_document(&self, body: Json<'_>, context: &ResponseContext, sink: &mut Sink<'_>) {
        match self.read_response(body, context) {
            Ok(response) => replay(response, sink),
            Err(error) => sink(AnswerEvent::Failed(error.into())),
        }
    }

    /// Makes a request that counts tokens out of the body of one that asks for a response. None if
    /// the format has no way to count, or counts in a client's own format only.
    fn count_request(&self, body: &[u8], model: &str) -> Option<CountRequest> {
        let _ = (body, model);
        None
    }

    /// Reads the number of tokens out of the answer to such a request.
    fn read_count(&self, body: &Json<'_>) -> Option<u64> {
        let _ = body;
        None
    }

    /// Reads a provider's error; `status` is the response's, if the error isn't within a stream.
    ///
    /// The shared reader knows the shapes of all vendors: servers that speak one vendor's format
    /// send errors in another's.
    fn read_error(&self, status: Option<u16>, body: &Json<'_>) -> ProviderError {
        ProviderError::read(status, body)
    }

    /// Returns the kind of a stream's event by its data.
    fn event_kind(&self, event: &Json<'_>) -> EventKind;

    /// Returns the members of which every plain answer to a request to `endpoint` has one.
    fn answer_members(&self, endpoint: Endpoint) -> &'static [&'static str];

    /// The error body that the SDKs of this format read.
    fn error_body(&self, error: &ErrorBody<'_>) -> Value;

    /// The event that ends a broken stream.
    fn error_event(&self, error: &ErrorBody<'_>) -> Bytes {
        format!("data: {}\n\n", self.error_body(error)).into()
    }

    /// The layout of usage and text in the responses of an endpoint.
    fn usage_layout(&self, endpoint: Endpoint) -> &'static UsageLayout;
}

/// The side of a format that clients see.
pub(crate) trait ClientCodec: Sync {
    /// Reads a request's body.
    ///
    /// # Errors
    /// Status 400 if a field is missing or has a type it can't have.
    fn read_request<'a>(&self, body: Object<'a>) -> Result<NeutralRequest<'a>, TranslateError>;

    /// The fields of a request that every response repeats, written out.
    fn echo(&self, request: &Object<'_>) -> String {
        let _ = request;
        String::new()
    }

    /// Writes a response's body.
    fn write_response(
        &self,
        response: &NeutralResponse<'_>,
        context: &ResponseContext,
        out: &mut BytesMut,
    );

    /// A writer for the events of one streamed response.
    fn stream_writer(&self, context: ResponseContext) -> Box<dyn WriteStream>;

    /// Returns true if streams begin with the input's tokens, which are estimated where the provider
    /// tells them at the end.
    fn tells_input_first(&self) -> bool {
        false
    }

    /// Byte sequences that show that a request may hold thoughts of another format's provider.
    fn history_traces(&self) -> &'static [&'static [u8]];

    /// Returns true if a request may hold what [`Self::clean_history`] removes.
    fn may_need_cleaning(&self, body: &[u8]) -> bool {
        let mut traces = self.history_traces().iter();
        traces.any(|trace| find(body, trace).is_some())
    }

    /// Removes thoughts of other formats' providers from a request, and what can't be had without
    /// thoughts. Returns the names of what was removed, or none if the request is as it was.
    fn clean_history(
        &self,
        request: &mut Object<'_>,
        dialect: ChatDialect,
    ) -> Option<Vec<&'static str>>;

    /// The names under which an endpoint may have a parameter, the one to use first; none if it has
    /// no such parameter.
    fn parameter_names<'n>(&self, endpoint: Endpoint, parameter: Parameter<'n>) -> Vec<&'n str>;

    /// The value of a parameter in the format's shape.
    fn parameter_value<'v>(&self, parameter: Parameter<'_>, value: &'v Value) -> Cow<'v, Value> {
        let _ = parameter;
        Cow::Borrowed(value)
    }

    /// The end user that a request names, as JSON text.
    fn end_user<'b>(&self, body: &'b [u8], fields: &Scan) -> Option<&'b [u8]>;

    /// The headers that tell a client of its rate limits.
    fn rate_limit_headers(&self) -> &'static RateLimitHeaders;

    /// The header in which SDKs look for the request's id.
    fn request_id_header(&self) -> Option<&'static str> {
        None
    }

    /// `GET /v1/models`.
    fn model_list(&self, models: &[ListedModel<'_>]) -> Value;

    /// `GET /v1/models/{id}`.
    fn model(&self, model: ListedModel<'_>) -> Value;
}

/// A request that counts tokens.
#[derive(Clone, Debug)]
pub(crate) struct CountRequest {
    /// Path below the provider's base URL.
    pub(crate) path: String,
    pub(crate) body: Bytes,
}

/// The names of the headers that tell a client of its rate limits.
#[derive(Clone, Copy, Debug)]
pub struct RateLimitHeaders {
    /// Limit, remaining and reset of requests.
    pub requests: [&'static str; 3],
    /// Limit, remaining and reset of tokens.
    pub tokens: [&'static str; 3],
    /// The form that resets have.
    pub reset: ResetForm,
}

/// The form in which a header gives the time until a limit is full again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetForm {
    /// A span such as `6m0s`.
    Span,
    /// A moment in RFC 3339.
    Moment,
}

/// The formats that clients speak, in the order of [`Format::ALL`].
pub fn client_formats() -> impl Iterator<Item = Format> {
    let spoken = |format: &Format| codec(*format).client().is_some();
    Format::ALL.into_iter().filter(spoken)
}

/// The codec for clients of `format`, or the error that there are none.
pub(crate) fn client_codec(format: Format) -> Result<&'static dyn ClientCodec, TranslateError> {
    let client = codec(format).client();
    client.ok_or_else(|| TranslateError::no_translation(format))
}

/// The side of clients; OpenAI chat's where no client speaks the format.
pub(crate) fn client_side(format: Format) -> &'static dyn ClientCodec {
    codec(format).client().unwrap_or(&openai_chat::OpenAiChat)
}

/// The names of the headers that tell clients of `format` of their rate limits.
#[must_use]
pub fn rate_limit_headers(format: Format) -> &'static RateLimitHeaders {
    client_side(format).rate_limit_headers()
}

/// The header in which the SDKs of `format` look for the request's id, besides the router's own.
#[must_use]
pub fn request_id_header(format: Format) -> Option<&'static str> {
    client_side(format).request_id_header()
}

/// The end user that a request in `format` names; `fields` is the scan of `body`.
#[must_use]
pub fn end_user<'b>(format: Format, body: &'b [u8], fields: &Scan) -> Option<Cow<'b, str>> {
    client_side(format)
        .end_user(body, fields)
        .and_then(json::string)
}
