//! `POST /api/v1/router/explain`: the routing decision for a request that isn't sent. The decision
//! is the router's.

use std::borrow::Cow;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use llm_router_domain::format::Format;

use crate::backend::AppState;
use crate::error::AdminError;
use crate::page::Parameters;

/// Reason why a request can't be explained: no endpoint would accept its body.
#[derive(Debug)]
pub struct ExplainError {
    /// The code that the endpoint would answer.
    pub code: &'static str,
    /// The message that the endpoint would answer.
    pub message: String,
    /// The wrong field of the body.
    pub field: Option<Cow<'static, str>>,
}

/// The values of [`FORMATS`], for the description of the API only.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "kebab-case")]
#[expect(dead_code, reason = "it describes what `parse_format` reads")]
enum ClientFormat {
    #[schema(rename = "openai-chat")]
    OpenAiChat,
    #[schema(rename = "openai-responses")]
    OpenAiResponses,
    AnthropicMessages,
}

/// Formats that a client may send.
const FORMATS: [Format; 3] = [
    Format::OpenAiChat,
    Format::OpenAiResponses,
    Format::AnthropicMessages,
];

/// Body of `POST /api/v1/router/explain`, for the description of the API only.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "it describes what the router reads of a request")]
struct RequestToExplain {
    /// A public name, `provider/model`, a model that a provider serves, or `auto`.
    #[schema(min_length = 1)]
    model: String,
}

/// Explain the routing of a request
///
/// The body is an inference request. It isn't sent to a provider.
#[utoipa::path(post, path = "/api/v1/router/explain", tag = "router",
    params(("format" = inline(Option<ClientFormat>), Query,
        description = "Format of the body; guessed by default")),
    request_body(content = RequestToExplain,
        example = json!({ "model": "fast", "messages": [{ "role": "user", "content": "Hello!" }] })),
    responses((status = 200, description = "The decision, with every rule and deployment and the reasons",
        body = Object)))]
pub(crate) async fn explain(
    State(backend): State<AppState>,
    Query(query): Parameters,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, AdminError> {
    let format = query
        .get("format")
        .map(|name| parse_format(name))
        .transpose()?;
    match backend.explain(&headers, format, &body) {
        Ok(json) => Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response()),
        Err(ExplainError {
            code,
            message,
            field,
        }) => Err(AdminError {
            field,
            ..AdminError::new(StatusCode::BAD_REQUEST, code, message)
        }),
    }
}

fn parse_format(name: &str) -> Result<Format, AdminError> {
    let format = FORMATS.into_iter().find(|format| format.name() == name);
    format.ok_or_else(|| {
        let known = FORMATS.map(Format::name).join(", ");
        AdminError::invalid("format", format!("format must be one of {known}."))
    })
}
