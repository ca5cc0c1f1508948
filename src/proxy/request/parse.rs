//! Parse: reads a request's body, and from it what decides where the request goes.

use bytes::Bytes;
use http::HeaderMap;
use http::header::CONTENT_ENCODING;
use llm_router_wire::prompt::Prompt;
use llm_router_wire::request::RequestHead;
use pingora::proxy::Session;

use crate::error::ApiError;
use crate::proxy::downstream::body::{self, BodyError};
use crate::proxy::downstream::body_memory::HeldBytes;
use crate::snapshot::Snapshot;

/// Reads the body whole, and its head. Its bytes are counted in `held`.
///
/// # Errors
/// 415 for a compressed body, 400 for one that is no JSON or lacks a model; as
/// [`body::read`](crate::proxy::downstream::body::read) otherwise.
pub(crate) async fn parse(
    session: &mut Session,
    snapshot: &Snapshot,
    held: &mut HeldBytes,
) -> Result<(Bytes, RequestHead), BodyError> {
    if is_compressed(&session.req_header().headers) {
        return Err(BodyError::Refused(ApiError::unsupported_encoding()));
    }
    let server = &snapshot.server;
    let has_memory = |more| held.grow(more, server.max_memory);
    let body = body::read(session, server.max_body, server.body_timeout, has_memory).await?;
    let head = RequestHead::read(&body)
        .map_err(|error| BodyError::Refused(ApiError::invalid_body(error)))?;
    Ok((body, head))
}

fn is_compressed(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_ENCODING)
        .is_some_and(|value| value != "identity")
}

/// Counts the tokens of a request's input, where no provider does.
///
/// # Errors
/// 400 for a body that can't be read.
pub(crate) fn estimated_input(body: &[u8]) -> Result<u64, BodyError> {
    let prompt = Prompt::read(body).map_err(|error| {
        let text = error.to_string();
        BodyError::Refused(ApiError::unreadable(text))
    })?;
    Ok(prompt.tokens())
}
