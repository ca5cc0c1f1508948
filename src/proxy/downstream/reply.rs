//! Answers that the router gives itself: errors, model lists and health. What they say comes from
//! the phases; this file knows how they are sent.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{Method, StatusCode};
use llm_router_domain::refusal::RefusedBy;
use llm_router_wire::error::ErrorBody;
use pingora::Result;
use pingora::http::ResponseHeader;
use pingora::proxy::Session;

use crate::error::{ApiError, refused_by};
use crate::proxy::attempt::headers;
use crate::proxy::context::Context;
use crate::proxy::downstream::session::Downstream;
use crate::proxy::response::limit_headers;
use crate::telemetry::access_log::clean_error;

/// Sends an error in the caller's format.
pub(crate) async fn send_fault(
    session: &mut Session,
    ctx: &mut Context,
    fault: &ApiError,
) -> Result<()> {
    ctx.answer.status = Some((fault.status, Some(fault.code)));
    ctx.error_text = error_text(fault);
    let body = body_of(fault, &ctx.request_id).render(ctx.format());
    let mut header = ResponseHeader::build(fault.status, Some(8))?;
    if let Some(retry_after) = &fault.retry_after {
        header.insert_header(RETRY_AFTER, retry_after.as_str())?;
    }
    if let Some(allow) = fault.allow {
        header.insert_header(ALLOW, allow.names())?;
    }
    if fault.final_answer {
        header.insert_header("x-should-retry", "false")?;
    }
    let attempts = ctx.inference.as_deref().map(|found| found.attempts.begun);
    if let Some(attempts) = attempts.filter(|attempts| *attempts > 0) {
        header.insert_header("x-llm-router-attempts", attempts)?;
    }
    send(session, ctx, header, body).await
}

/// Returns what the log may say of an error: not what describes the request, which may quote it.
pub(crate) fn error_text(fault: &ApiError) -> Option<Box<str>> {
    let quotes = refused_by(fault.code) == Some(RefusedBy::Request);
    (!quotes).then(|| clean_error(&fault.message))
}

/// The body of an error.
pub(crate) fn body_of<'a>(fault: &'a ApiError, request_id: &'a str) -> ErrorBody<'a> {
    ErrorBody {
        status: fault.status,
        code: fault.code,
        message: &fault.message,
        param: fault.param.as_deref(),
        details: fault.details.as_deref(),
        request_id,
    }
}

/// Sends a JSON answer.
pub(crate) async fn send_json(
    session: &mut Session,
    ctx: &mut Context,
    value: &serde_json::Value,
) -> Result<()> {
    ctx.answer.status = Some((200, None));
    let header = ResponseHeader::build(200, Some(4))?;
    send(session, ctx, header, value.to_string().into()).await
}

/// Sends a count of tokens that is the router's own estimate, and says so.
pub(crate) async fn send_estimate(
    session: &mut Session,
    ctx: &mut Context,
    tokens: u64,
) -> Result<()> {
    ctx.answer.status = Some((200, None));
    let mut header = ResponseHeader::build(200, Some(5))?;
    header.insert_header("x-llm-router-estimated", "input_tokens")?;
    let body = serde_json::json!({ "input_tokens": tokens }).to_string();
    send(session, ctx, header, body.into()).await
}

async fn send(
    session: &mut Session,
    ctx: &Context,
    mut header: ResponseHeader,
    body: Bytes,
) -> Result<()> {
    header.insert_header(CONTENT_TYPE, "application/json")?;
    deliver(session, ctx, header, body).await
}

/// Sends an answer whose header is complete but for what concerns the connection.
pub(crate) async fn deliver(
    session: &mut Session,
    ctx: &Context,
    mut header: ResponseHeader,
    body: Bytes,
) -> Result<()> {
    let head = session.req_header().method == Method::HEAD;
    // Who knows what a GET would have been answered has said so.
    if !head || !header.headers.contains_key(CONTENT_LENGTH) {
        header.insert_header(CONTENT_LENGTH, body.len())?;
    }
    let bodiless = header.status == StatusCode::NO_CONTENT;
    if bodiless {
        header.remove_header(&CONTENT_LENGTH);
    }
    header.insert_header("x-request-id", &*ctx.request_id)?;
    if let Some(rule) = &ctx.rule {
        headers::insert(&mut header, headers::RULE, rule)?;
    }
    limit_headers::insert(&mut header, ctx)?;
    // The real session: only it knows whether its connection can be kept alive.
    if let Some(exchange) = &ctx.exchange {
        Downstream::unwrap(&mut session.downstream_session, exchange);
    }
    let stopping = ctx.exchange.as_ref().is_some_and(|one| one.stopping());
    if ctx.answer.close || stopping {
        session.set_keepalive(None);
    }
    if head || bodiless {
        return session.write_response_header(Box::new(header), true).await;
    }
    session
        .write_response_header(Box::new(header), false)
        .await?;
    session.write_response_body(Some(body), true).await?;
    linger(session, ctx).await;
    Ok(())
}

/// Time that a client which is still sending gets to read its answer.
const LINGER: Duration = Duration::from_secs(2);

/// Reads on for a while what the client is still sending. A connection that is closed with unread
/// bytes is reset, and the client may lose the answer that says why.
async fn linger(session: &mut Session, ctx: &Context) {
    let session = &mut session.downstream_session;
    if ctx.answer.close || session.is_custom() || session.is_body_done() {
        return;
    }
    session.set_total_drain_timeout(Some(LINGER));
    if let Err(error) = session.drain_request_body().await {
        tracing::debug!(%error, "a client was still sending after its answer");
    }
}
