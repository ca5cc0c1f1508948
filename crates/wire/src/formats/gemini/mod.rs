//! Gemini `generateContent`, as providers speak it. No client speaks it, so its requests are only
//! written and its responses only read.

mod count;
mod grounding;
mod path;
mod read_response;
mod read_stream;
mod thinking;
mod usage;
mod write_request;

use bytes::BytesMut;
use llm_router_domain::format::Endpoint;
use serde_json::{Value, json};

use super::{Codec, CountRequest};
use crate::error::ErrorBody;
use crate::formats::EventKind;
use crate::formats::event_kind::{any_holds_content, elements};
use crate::translate::TranslateError;
use crate::translate::event::{AnswerEvent, ReadStream, Sink, replay};
use crate::translate::json::Json;
use crate::translate::neutral::{NeutralRequest, NeutralResponse};
use crate::translate::options::{RequestOptions, ResponseContext};
use crate::translate::policy::Losses;
use crate::translate::provider_error::is_error;
use crate::usage::UsageLayout;
use path::Method;

/// The codec of Gemini `generateContent`.
pub(crate) struct Gemini;

impl Codec for Gemini {
    fn vendor(&self) -> &'static str {
        "Google"
    }

    fn path(&self, model: &str, stream: bool) -> String {
        let method = if stream {
            Method::Stream
        } else {
            Method::Generate
        };
        path::path(model, method)
    }

    fn write_request(
        &self,
        request: &NeutralRequest<'_>,
        model: &str,
        _: &RequestOptions,
        losses: &mut Losses,
        out: &mut BytesMut,
    ) {
        write_request::write_request(request, model, losses, out);
    }

    fn read_response<'a>(
        &self,
        body: Json<'a>,
        context: &ResponseContext,
    ) -> Result<NeutralResponse<'a>, TranslateError> {
        read_response::read_response(body, context)
    }

    fn stream_reader(&self, context: &ResponseContext) -> Box<dyn ReadStream> {
        Box::new(read_stream::GeminiStreamReader::new(context))
    }

    /// Without `alt=sse` Gemini streams a list.
    fn read_document(&self, body: Json<'_>, context: &ResponseContext, sink: &mut Sink<'_>) {
        match body {
            Json::Array(chunks) => read_stream::read_list(chunks, context, sink),
            body => match self.read_response(body, context) {
                Ok(response) => replay(response, sink),
                Err(error) => sink(AnswerEvent::Failed(error.into())),
            },
        }
    }

    fn count_request(&self, body: &[u8], model: &str) -> Option<CountRequest> {
        Some(count::request(body, model))
    }

    fn read_count(&self, body: &Json<'_>) -> Option<u64> {
        body.get("totalTokens")?.as_u64()
    }

    fn event_kind(&self, event: &Json<'_>) -> EventKind {
        let candidates = elements(event, "candidates");
        let holds_parts = |candidate: &Json<'_>| {
            let content = candidate.get("content");
            let parts = content.is_some_and(|content| any_holds_content(content, &["parts"]));
            let sources = candidate.get("groundingMetadata");
            parts || sources.is_some_and(|all| any_holds_content(all, &["groundingChunks"]))
        };
        let feedback = event.get("promptFeedback");
        let blocked = feedback.is_some_and(|feedback| feedback.str("blockReason").is_some());
        let finished = |candidate: &Json<'_>| candidate.str("finishReason").is_some();
        if candidates.iter().any(holds_parts) {
            EventKind::Content
        } else if is_error(event) {
            EventKind::Error
        } else if blocked || candidates.iter().any(finished) {
            EventKind::End
        } else {
            EventKind::Other
        }
    }

    fn answer_members(&self, endpoint: Endpoint) -> &'static [&'static str] {
        match endpoint {
            Endpoint::CountTokens => &["totalTokens"],
            _ => &["candidates", "promptFeedback"],
        }
    }

    fn error_body(&self, error: &ErrorBody<'_>) -> Value {
        json!({
            "error": {
                "code": error.status,
                "message": error.message,
                "status": error_status(error.status),
            },
        })
    }

    fn usage_layout(&self, _: Endpoint) -> &'static UsageLayout {
        &usage::LAYOUT
    }
}

/// The `error.status` of an HTTP status (google.rpc.Code).
fn error_status(status: u16) -> &'static str {
    match status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        504 => "DEADLINE_EXCEEDED",
        500 => "INTERNAL",
        _ => "UNAVAILABLE",
    }
}
