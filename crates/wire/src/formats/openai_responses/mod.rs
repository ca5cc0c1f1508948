//! OpenAI responses.

mod foreign;
mod history;
mod read_request;
mod read_response;
mod read_stream;
mod usage;
mod write_request;
mod write_response;
mod write_stream;

use bytes::{Bytes, BytesMut};
use llm_router_domain::format::Endpoint;
use serde_json::{Value, json};

use super::{ClientCodec, Codec, RateLimitHeaders, openai};
use crate::error::ErrorBody;
use crate::formats::EventKind;
use crate::formats::event_kind::any_holds_content;
use crate::models::ListedModel;
use crate::parameters::Parameter;
use crate::scan::Scan;
use crate::translate::TranslateError;
use crate::translate::event::{ReadStream, WriteStream};
use crate::translate::json::{Json, Object};
use crate::translate::neutral::{NeutralRequest, NeutralResponse};
use crate::translate::options::{ChatDialect, RequestOptions, ResponseContext};
use crate::translate::policy::Losses;
use crate::translate::provider_error::is_error;
use crate::usage::UsageLayout;

/// The codec of OpenAI responses.
pub(crate) struct OpenAiResponses;

impl Codec for OpenAiResponses {
    fn client(&self) -> Option<&'static dyn ClientCodec> {
        Some(&Self)
    }

    fn vendor(&self) -> &'static str {
        openai::VENDOR
    }

    fn path(&self, _: &str, _: bool) -> String {
        Endpoint::Responses.path().to_owned()
    }

    fn write_request(
        &self,
        request: &NeutralRequest<'_>,
        model: &str,
        options: &RequestOptions,
        losses: &mut Losses,
        out: &mut BytesMut,
    ) {
        write_request::write_request(request, model, options, losses, out);
    }

    fn read_response<'a>(
        &self,
        body: Json<'a>,
        _: &ResponseContext,
    ) -> Result<NeutralResponse<'a>, TranslateError> {
        read_response::read_response(body)
    }

    fn stream_reader(&self, _: &ResponseContext) -> Box<dyn ReadStream> {
        Box::new(read_stream::ResponsesStreamReader::default())
    }

    fn event_kind(&self, event: &Json<'_>) -> EventKind {
        let content = match event.str("type").unwrap_or_default() {
            "response.completed" | "response.incomplete" | "response.cancelled" => {
                return EventKind::Last;
            }
            "response.failed" => return EventKind::Error,
            "response.created" | "response.queued" | "response.in_progress" => false,
            "response.output_item.added" | "response.output_item.done" => {
                let item = event.get("item").unwrap_or(&Json::Null);
                match item.str("type") {
                    Some("message") => any_holds_content(item, &["content"]),
                    Some("reasoning") => {
                        any_holds_content(item, &["content", "summary", "encrypted_content"])
                    }
                    kind => kind.is_some(),
                }
            }
            // What a tool at the provider is doing.
            kind if kind.contains("_call.") => true,
            kind if kind.starts_with("response.") => any_holds_content(event, &CONTENT),
            _ if is_error(event) => return EventKind::Error,
            _ => false,
        };
        if content {
            EventKind::Content
        } else {
            EventKind::Other
        }
    }

    fn answer_members(&self, _: Endpoint) -> &'static [&'static str] {
        &["output", "output_text", "status"]
    }

    fn error_body(&self, error: &ErrorBody<'_>) -> Value {
        openai::error_body(error)
    }

    fn error_event(&self, error: &ErrorBody<'_>) -> Bytes {
        let event = json!({
            "type": "error",
            "code": error.code,
            "message": error.message,
            "param": error.param,
            "sequence_number": 0,
        });
        format!("event: error\ndata: {event}\n\n").into()
    }

    fn usage_layout(&self, _: Endpoint) -> &'static UsageLayout {
        &usage::LAYOUT
    }
}

impl ClientCodec for OpenAiResponses {
    fn read_request<'a>(&self, body: Object<'a>) -> Result<NeutralRequest<'a>, TranslateError> {
        read_request::read_request(body)
    }

    fn echo(&self, request: &Object<'_>) -> String {
        read_request::echo(request)
    }

    fn write_response(
        &self,
        response: &NeutralResponse<'_>,
        context: &ResponseContext,
        out: &mut BytesMut,
    ) {
        write_response::write_response(response, context, out);
    }

    fn stream_writer(&self, context: ResponseContext) -> Box<dyn WriteStream> {
        Box::new(write_stream::ResponsesStreamWriter::new(context))
    }

    fn history_traces(&self) -> &'static [&'static [u8]] {
        history::TRACES
    }

    fn clean_history(&self, request: &mut Object<'_>, _: ChatDialect) -> Option<Vec<&'static str>> {
        history::clean(request)
    }

    fn parameter_names<'n>(&self, _: Endpoint, parameter: Parameter<'n>) -> Vec<&'n str> {
        match parameter {
            Parameter::TokenLimit(_) => vec!["max_output_tokens"],
            Parameter::Stop => vec![],
            Parameter::Other(name) => vec![name],
        }
    }

    fn end_user<'b>(&self, body: &'b [u8], fields: &Scan) -> Option<&'b [u8]> {
        openai::end_user(body, fields)
    }

    fn rate_limit_headers(&self) -> &'static RateLimitHeaders {
        &openai::RATE_LIMIT_HEADERS
    }

    fn model_list(&self, models: &[ListedModel<'_>]) -> Value {
        openai::model_list(models)
    }

    fn model(&self, model: ListedModel<'_>) -> Value {
        openai::model(model)
    }
}

/// Members of an event that hold content.
const CONTENT: [&str; 7] = [
    "delta",
    "text",
    "refusal",
    "arguments",
    "part",
    "annotation",
    "transcript",
];
