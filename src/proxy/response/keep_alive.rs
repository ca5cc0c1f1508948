//! The head that a client is sent when a stream keeps it waiting for its first content. When that is,
//! and which comments follow, is the stand-in session's.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, TRANSFER_ENCODING};
use pingora::Result;
use pingora::http::ResponseHeader;

use crate::proxy::attempt::headers::{self, RULE};
use crate::proxy::context::Context;
use crate::proxy::response::limit_headers;

/// Plans the head for the client of a streamed request, before its first attempt.
///
/// # Errors
/// When a header can't be set.
pub(crate) fn arm(ctx: &Context) -> Result<()> {
    let (Some(exchange), Some(inference)) = (&ctx.exchange, ctx.inference.as_deref()) else {
        return Ok(());
    };
    let request = &inference.request;
    if !request.head.stream || inference.attempts.first_began.is_some() {
        return Ok(());
    }
    let wait = request.snapshot().server.keep_alive;
    let Some(due) = request.arrived.checked_add(wait) else {
        return Ok(());
    };
    let mut head = ResponseHeader::build(200, Some(8))?;
    head.insert_header(CONTENT_TYPE, "text/event-stream; charset=utf-8")?;
    head.insert_header(CACHE_CONTROL, "no-cache")?;
    head.insert_header(TRANSFER_ENCODING, "chunked")?;
    headers::insert(&mut head, "x-request-id", &request.id)?;
    if let Some(rule) = &request.rule {
        headers::insert(&mut head, RULE, rule)?;
    }
    limit_headers::insert(&mut head, ctx)?;
    exchange.keep_alive(due, wait, Box::new(head));
    Ok(())
}
