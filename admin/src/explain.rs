//! `POST /api/v1/router/explain`: how a request would be routed. The decision is the router's.

use std::borrow::Cow;
use std::collections::HashMap;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use llm_router_domain::format::Format;
use llm_router_domain::key::Role;

use crate::Shared;
use crate::access::{Problem, caller};

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

/// Formats that a client may speak.
const FORMATS: [Format; 3] = [
    Format::OpenAiChat,
    Format::OpenAiResponses,
    Format::AnthropicMessages,
];

pub(crate) async fn explain(
    State(source): State<Shared>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    if caller(source.as_ref(), &headers)?.role < Role::Viewer {
        let message = "Explaining needs a key with the role viewer or above.";
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "permission_denied",
            message,
        ));
    }
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
