//! Anthropic messages.

mod citation;
mod error;
mod foreign;
mod history;
mod models;
mod read_request;
mod read_response;
mod read_stream;
mod thinking;
mod usage;
mod write_request;
mod write_response;
mod write_stream;

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};
use llm_router_domain::format::Endpoint;
use serde_json::Value;

use super::{ClientCodec, Codec, RateLimitHeaders, ResetForm};
use crate::error::ErrorBody;
use crate::formats::EventKind;
use crate::formats::event_kind::{any_holds_content, holds_content};
use crate::json;
use crate::models::ListedModel;
use crate::parameters::Parameter;
use crate::scan::{Field, Scan};
use crate::translate::TranslateError;
use crate::translate::event::{ReadStream, WriteStream};
use crate::translate::json::{Json, Object};
use crate::translate::neutral::{NeutralRequest, NeutralResponse};
use crate::translate::options::{ChatDialect, RequestOptions, ResponseContext};
use crate::translate::policy::Losses;
use crate::translate::provider_error::is_error;
use crate::usage::UsageLayout;

/// The headers of rate limits (docs.claude.com, "Rate limits").
static RATE_LIMIT_HEADERS: RateLimitHeaders = RateLimitHeaders {
    requests: [
        "anthropic-ratelimit-requests-limit",
        "anthropic-ratelimit-requests-remaining",
        "anthropic-ratelimit-requests-reset",
    ],
    tokens: [
        "anthropic-ratelimit-tokens-limit",
        "anthropic-ratelimit-tokens-remaining",
        "anthropic-ratelimit-tokens-reset",
    ],
    reset: ResetForm::Moment,
};

/// The codec of Anthropic messages.
pub(crate) struct AnthropicMessages;

impl Codec for AnthropicMessages {
    fn client(&self) -> Option<&'static dyn ClientCodec> {
        Some(&Self)
    }

    fn vendor(&self) -> &'static str {
        "Anthropic"
    }

    fn path(&self, _: &str, _: bool) -> String {
        Endpoint::Messages.path().to_owned()
    }

    fn request_headers(&self) -> &'static [(&'static str, &'static str)] {
        &[("anthropic-version", "2023-06-01")]
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
        Box::new(read_stream::MessagesStreamReader::default())
    }

    fn event_kind(&self, event: &Json<'_>) -> EventKind {
        let content = match event.str("type") {
            Some("content_block_start") => {
                let block = event.get("content_block").unwrap_or(&Json::Null);
                match block.str("type") {
                    Some("text") => any_holds_content(block, &["text", "citations"]),
                    Some("thinking") => any_holds_content(block, &["thinking", "signature"]),
                    kind => kind.is_some(),
                }
            }
            Some("content_block_delta") => event.get("delta").is_some_and(holds_content),
            Some("message_stop") => return EventKind::Last,
            Some("message_delta") => {
                let delta = event.get("delta");
                let reason = delta.and_then(|delta| delta.str("stop_reason"));
                return reason.map_or(EventKind::Other, |_| EventKind::End);
            }
            Some("message_start" | "content_block_stop" | "ping") => false,
            _ if is_error(event) => return EventKind::Error,
            _ => false,
        };
        if content {
            EventKind::Content
        } else {
            EventKind::Other
        }
    }

    fn answer_members(&self, endpoint: Endpoint) -> &'static [&'static str] {
        match endpoint {
            Endpoint::CountTokens => &["input_tokens"],
            _ => &["content"],
        }
    }

    fn error_body(&self, error: &ErrorBody<'_>) -> Value {
        error::error_body(error)
    }

    fn error_event(&self, error: &ErrorBody<'_>) -> Bytes {
        format!("event: error\ndata: {}\n\n", self.error_body(error)).into()
    }

    fn usage_layout(&self, _: Endpoint) -> &'static UsageLayout {
        &usage::LAYOUT
    }
}

impl ClientCodec for AnthropicMessages {
    fn read_request<'a>(&self, body: Object<'a>) -> Result<NeutralRequest<'a>, TranslateError> {
        read_request::read_request(body)
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
        Box::new(write_stream::MessagesStreamWriter::new(context))
    }

    fn history_traces(&self) -> &'static [&'static [u8]] {
        history::TRACES
    }

    fn tells_input_first(&self) -> bool {
        true
    }

    fn may_need_cleaning(&self, body: &[u8]) -> bool {
        history::may_need_cleaning(body)
    }

    fn clean_history(&self, request: &mut Object<'_>, _: ChatDialect) -> Option<Vec<&'static str>> {
        history::clean(request)
    }

    /// A count of tokens takes no parameters.
    fn parameter_names<'n>(&self, endpoint: Endpoint, parameter: Parameter<'n>) -> Vec<&'n str> {
        match parameter {
            _ if endpoint == Endpoint::CountTokens => vec![],
            Parameter::TokenLimit(_) => vec!["max_tokens"],
            Parameter::Stop => vec!["stop_sequences"],
            Parameter::Other(name) => vec![name],
        }
    }

    /// Stop texts are a list, also where it is one text.
    fn parameter_value<'v>(&self, parameter: Parameter<'_>, value: &'v Value) -> Cow<'v, Value> {
        match value {
            Value::String(_) if parameter == Parameter::Stop => {
                Cow::Owned(Value::Array(vec![value.clone()]))
            }
            value => Cow::Borrowed(value),
        }
    }

    /// `metadata.user_id`.
    fn end_user<'b>(&self, body: &'b [u8], fields: &Scan) -> Option<&'b [u8]> {
        let metadata = fields.value(body, Field::Metadata)?;
        let id = json::members(metadata)
            .find(|member| metadata.get(member.key.clone()) == Some(b"user_id"))?;
        metadata.get(id.value)
    }

    fn rate_limit_headers(&self) -> &'static RateLimitHeaders {
        &RATE_LIMIT_HEADERS
    }

    fn request_id_header(&self) -> Option<&'static str> {
        Some("request-id")
    }

    fn model_list(&self, models: &[ListedModel<'_>]) -> Value {
        models::list(models)
    }

    fn model(&self, model: ListedModel<'_>) -> Value {
        models::one(model)
    }
}
