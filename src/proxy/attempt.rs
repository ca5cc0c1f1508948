//! One attempt after the other: which candidate, and what it is sent. What its end means is told
//! by [`failure`](super::failure).

use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};

use super::Gateway;
use super::context::{Attempt, Context, Inference};
use super::failure::Failure;
use super::headers;
use super::meter::Asker;
use super::response::Response;
use crate::clock;

impl Gateway {
    /// Chooses the peer of the next attempt and readies the body for it.
    pub(super) async fn begin_attempt(&self, ctx: &mut Context) -> Result<Box<HttpPeer>> {
        let (Some(live), Some(exchange), Some(key), Some(inference)) = (
            &ctx.live,
            &ctx.exchange,
            &ctx.key,
            ctx.inference.as_deref_mut(),
        ) else {
            return Error::err_in(ErrorType::InternalError);
        };
        if exchange.draining() {
            // What was read on without the client has failed: nobody waits for another attempt.
            return Error::err_down(ErrorType::ConnectionClosed);
        }
        let again = inference.attempt.again;
        if inference.failure.is_some() && inference.has_next() && !again {
            inference.candidate += 1;
            inference.attempt = Attempt::default();
        }
        if !again {
            ready_candidate(inference, &ctx.request_id)?;
        }
        let Some(deployment) = inference.deployment() else {
            return Error::err_in(ErrorType::InternalError);
        };
        let timeouts = deployment.provider.timeouts;
        let Some(upstream) = live.upstreams.get(deployment.provider_index) else {
            return Error::err_in(ErrorType::InternalError);
        };
        let now = clock::now();
        if !again {
            let asker = Asker {
                request_id: &ctx.request_id,
                key,
                arrived: ctx.arrived.unwrap_or(now),
                snapshot: &live.snapshot,
            };
            self.open_tab(&asker, inference, now).await?;
        }
        let pieces = inference.body_pieces();
        let length = pieces.iter().map(Bytes::len).sum();
        exchange.begin(pieces, now, timeouts.first_byte, timeouts.total);
        exchange.set_drain(timeouts.drain);
        inference.response = Response::default();
        inference.attempt.started = Some(now);
        inference.attempt.length = length;
        inference.attempt.addresses = upstream.address_count();
        inference.attempt.answered = false;
        inference.attempt.again = false;
        inference.attempts += u32::from(!again);
        let peer = upstream.peer(&timeouts).await;
        peer.map_err(|error| self.connection_failed(ctx, error))
    }
}

/// Readies what the candidate is sent, or the next one that the request can be put to.
fn ready_candidate(inference: &mut Inference, request_id: &str) -> Result<()> {
    let first = inference.candidate;
    let mut refusal = None;
    loop {
        let Err(error) = inference.prepare(request_id) else {
            return Ok(());
        };
        tracing::debug!(%error, request.id = request_id, "a candidate can't be asked");
        refusal.get_or_insert(error);
        if !inference.has_next() {
            break;
        }
        inference.candidate += 1;
    }
    // What was tried before says more than what could not be tried.
    if let (None, Some(error)) = (&inference.failure, refusal) {
        inference.failure = Some(Failure::Untranslatable(error));
    } else {
        inference.candidate = first.saturating_sub(1);
    }
    Error::err_in(ErrorType::InternalError)
}

/// Addresses the request to the candidate.
pub(super) fn address(request: &mut RequestHeader, ctx: &Context) -> Result<()> {
    let Some(inference) = ctx.inference.as_deref() else {
        return Ok(());
    };
    let Some(deployment) = inference.deployment() else {
        return Ok(());
    };
    headers::for_provider(request, &deployment.provider, &inference.asked())
}

/// How long the attempt that is passed on has taken so far.
pub(super) fn elapsed(inference: &Inference, now: Instant) -> Duration {
    inference.attempt.started.map_or(Duration::ZERO, |started| {
        now.saturating_duration_since(started)
    })
}
