//! OpenAI chat completions, as OpenAI and the many compatible servers speak them, and what lives
//! beside them: completions and embeddings, which are metered and never translated.

mod balance;
mod call_fragments;
mod history;
mod read_request;
mod read_response;
mod read_stream;
mod search_results;
mod usage;
mod write_request;
mod write_response;
mod write_stream;

use bytes::BytesMut;
use llm_router_domain::format::Endpoint;
use serde_json::Value;

pub(crate) use read_request::{read_allowed, read_choice_word, read_schema};
pub(crate) use write_request::{lose_default, tier, write_schema};

use super::{ClientCodec, Codec, RateLimitHeaders, openai};
use crate::error::ErrorBody;
use crate::formats::EventKind;
use crate::formats::event_kind::{any_holds_content, elements};
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

/// The codec of OpenAI chat completions.
pub(crate) struct OpenAiChat;

impl Codec for OpenAiChat {
    fn client(&self) -> Option<&'static dyn ClientCodec> {
        Some(&Self)
    }

    fn vendor(&self) -> &'static str {
        openai::VENDOR
    }

    fn path(&self, _: &str, _: bool) -> String {
        Endpoint::ChatCompletions.path().to_owned()
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
        context: &ResponseContext,
    ) -> Result<NeutralResponse<'a>, TranslateError> {
        read_response::read_response(body, context)
    }

    fn stream_reader(&self, context: &ResponseContext) -> Box<dyn ReadStream> {
        Box::new(read_stream::ChatStreamReader::new(context))
    }

    fn event_kind(&self, event: &Json<'_>) -> EventKind {
        let choices = elements(event, "choices");
        let reason = |choice: &Json<'_>| match choice.str("finish_reason") {
            None | Some("") => EventKind::Other,
            // OpenRouter's, beside the error.
            Some("error") => EventKind::Error,
            Some(_) => EventKind::End,
        };
        let ends = |kind: EventKind| choices.iter().any(|choice| reason(choice) == kind);
        if any_holds_content(event, &SOURCES) || choices.iter().any(is_content_choice) {
            EventKind::Content
        } else if is_error(event) || ends(EventKind::Error) {
            EventKind::Error
        } else if ends(EventKind::End) {
            EventKind::End
        } else {
            EventKind::Other
        }
    }

    fn answer_members(&self, endpoint: Endpoint) -> &'static [&'static str] {
        match endpoint {
            Endpoint::Embeddings => &["data", "embeddings"],
            _ => &["choices"],
        }
    }

    fn error_body(&self, error: &ErrorBody<'_>) -> Value {
        openai::error_body(error)
    }

    fn usage_layout(&self, endpoint: Endpoint) -> &'static UsageLayout {
        match endpoint {
            Endpoint::Completions => &usage::COMPLETIONS,
            Endpoint::Embeddings => &usage::EMBEDDINGS,
            _ => &usage::CHAT,
        }
    }
}

impl ClientCodec for OpenAiChat {
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
        Box::new(write_stream::ChatStreamWriter::new(context))
    }

    fn history_traces(&self) -> &'static [&'static [u8]] {
        history::TRACES
    }

    fn clean_history(
        &self,
        request: &mut Object<'_>,
        dialect: ChatDialect,
    ) -> Option<Vec<&'static str>> {
        history::clean(request, dialect)
    }

    fn parameter_names<'n>(&self, endpoint: Endpoint, parameter: Parameter<'n>) -> Vec<&'n str> {
        match (endpoint, parameter) {
            (Endpoint::Embeddings, Parameter::TokenLimit(_) | Parameter::Stop) => vec![],
            (Endpoint::Completions, Parameter::TokenLimit(_)) => vec!["max_tokens"],
            // Both names are in use; a body with the two of them is refused.
            (_, Parameter::TokenLimit("max_tokens")) => vec!["max_tokens", "max_completion_tokens"],
            (_, Parameter::TokenLimit(_)) => vec!["max_completion_tokens", "max_tokens"],
            (_, Parameter::Stop) => vec!["stop"],
            (_, Parameter::Other(name)) => vec![name],
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

/// Members beside the choices that name sources (Perplexity).
const SOURCES: [&str; 2] = ["citations", "search_results"];

/// Members of a delta that hold content, those of compatible servers included.
const CONTENT: [&str; 11] = [
    "content",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "thinking_blocks",
    "refusal",
    "tool_calls",
    "function_call",
    "annotations",
    "audio",
    "images",
];

/// Returns true if a choice of a chunk holds content; of completions, its text.
fn is_content_choice(choice: &Json<'_>) -> bool {
    let parts = ["delta", "message"].map(|key| choice.get(key));
    any_holds_content(choice, &["text"])
        || parts
            .into_iter()
            .flatten()
            .any(|part| any_holds_content(part, &CONTENT))
}
