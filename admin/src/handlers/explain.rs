//! `POST /api/v1/router/explain`: how a request would be routed. The decision is the router's.

use std::borrow::Cow;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use llm_router_domain::format::Format;

use crate::Shared;
use crate::error::Problem;
use crate::page::Parameters;

/// Why a request can't be explained: no endpoint would take its body.
#[derive(Debug)]
pub struct Unexplained {
    /// The code that the endpoint would answer.
    pub code: &'static str,
    /// The message that it would answer.
    pub message: String,
    /// The field of the body that is wrong.
    pub field: Option<Cow<'static, str>>,
}

/// As [`FORMATS`], for the description of the API only.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "kebab-case")]
#[expect(dead_code, reason = "it describes what `named` reads")]
enum Spoken {
    #[schema(rename = "openai-chat")]
    OpenAiChat,
    #[schema(rename = "openai-responses")]
    OpenAiResponses,
    AnthropicMessages,
}

/// Formats that a client may speak.
const FORMATS: [Format; 3] = [
    Format::OpenAiChat,
    Format::OpenAiResponses,
    Format::AnthropicMessages,
];

/// The body of `POST /api/v1/router/explain`. For the description of the API only.
#[derive(utoipa::ToSchema)]
#[schema(as = RequestToExplain)]
#[expect(dead_code, reason = "it describes what the router reads of a request")]
struct Body {
    /// A public name, `provider/model`, a name that a provider serves, or `auto`.
    #[schema(min_length = 1)]
    model: String,
}

/// How a request would be routed, and why
///
/// The body is a request as it would be sent to a model. It goes nowhere.
#[utoipa::path(post, path = "/api/v1/router/explain", tag = "router",
    params(("format" = inline(Option<Spoken>), Query,
        description = "The format of the body; guessed if not given")),
    request_body(content = Body,
        example = json!({ "model": "fast", "messages": [{ "role": "user", "content": "Hello!" }] })),
    responses((status = 200, description = "The decision, and every rule and deployment with its why",
        body = Object)))]
pub(crate) async fn explain(
    State(source): State<Shared>,
    Query(query): Parameters,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let format = query.get("format").map(|name| named(name)).transpose()?;
    match source.explain(&headers, format, &body) {
        Ok(json) => Ok(([(header::CONTENT_TYPE, "application/json")], json).into_response()),
        Err(Unexplained {
            code,
            message,
            field,
        }) => Err(Problem {
            field,
            ..Problem::new(StatusCode::BAD_REQUEST, code, message)
        }),
    }
}

fn named(name: &str) -> Result<Format, Problem> {
    let found = FORMATS.into_iter().find(|format| format.name() == name);
    found.ok_or_else(|| {
        let known = FORMATS.map(Format::name).join(", ");
        Problem::invalid("format", format!("`{name}` is none of {known}."))
    })
}
