//! One attempt after the other: which candidate, and what it is sent. What its end means is told
//! by [`failure`](crate::proxy::attempt::outcome).

pub(crate) mod headers;
pub(crate) mod ledger_entry;
pub(crate) mod outcome;
pub(crate) mod settle;
pub(crate) mod translation;

use std::mem;
use std::time::{Duration, Instant};

use bytes::Bytes;
use llm_router_domain::key::Key;
use llm_router_domain::ledger;
use llm_router_domain::rendezvous::stable_hash;
use llm_router_wire::prompt::Prompt;
use pingora::http::RequestHeader;
use pingora::upstreams::peer::HttpPeer;
use pingora::{Error, ErrorType, Result};
use rust_decimal::Decimal;

use crate::budgets::Budgets;
use crate::clock;
use crate::proxy::attempt::ledger_entry::RequestFacts;
use crate::proxy::attempt::outcome::Failure;
use crate::proxy::context::{Attempt, Context, Inference};
use crate::proxy::gateway::Gateway;
use crate::proxy::response::stream::Response;
use crate::routing::balance::SelectionFacts;
use crate::snapshot::{Deployment, Snapshot};
use crate::telemetry::traces::{TRACEPARENT, TRACESTATE};

impl Gateway {
    /// Chooses the peer of the next attempt and readies the body for it.
    pub(crate) async fn begin_attempt(&self, ctx: &mut Context) -> Result<Box<HttpPeer>> {
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
        let now = clock::now();
        if !again {
            inference.began.get_or_insert(now);
            let asker = RequestFacts {
                request_id: &ctx.request_id,
                key,
                arrived: ctx.arrived.unwrap_or(now),
                snapshot: &live.snapshot,
            };
            self.next_candidate(inference, &asker, now)?;
            self.open_tab(&asker, inference, now).await?;
            if let Some(trace) = inference.trace.as_deref_mut() {
                trace.next_attempt();
            }
        }
        let Some(deployment) = inference.deployment() else {
            return Error::err_in(ErrorType::InternalError);
        };
        let timeouts = deployment.provider.timeouts;
        let Some(upstream) = live.upstreams.get(deployment.provider_index) else {
            return Error::err_in(ErrorType::InternalError);
        };
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

    /// Goes on to the next candidate that the request can be put to, and readies what it is sent.
    fn next_candidate(
        &self,
        inference: &mut Inference,
        asker: &RequestFacts<'_>,
        now: Instant,
    ) -> Result<()> {
        let before = inference.deployment().cloned();
        let mut refusal = None;
        inference.tell_of_resting(now);
        while self.choose(inference, asker, now) {
            let Err(error) = inference.prepare(asker.request_id) else {
                return Ok(());
            };
            let id = asker.request_id;
            tracing::debug!(%error, request.id = id, "a candidate can't be asked");
            inference.left_out("it can't express the request");
            refusal.get_or_insert(error);
        }
        // What was tried before says more than what could not be tried.
        if let (None, Some(error)) = (&inference.failure, refusal) {
            inference.failure = Some(Failure::Untranslatable(error));
        } else {
            inference.route.course.go_back(before);
        }
        Error::err_in(ErrorType::InternalError)
    }

    /// Goes on to the deployment that the route's strategies prefer; false if there is none.
    fn choose(&self, inference: &mut Inference, asker: &RequestFacts<'_>, now: Instant) -> bool {
        let mut course = mem::take(&mut inference.route.course);
        let question = Request {
            inference,
            key: asker.key,
            snapshot: asker.snapshot,
            budgets: &self.budgets,
        };
        let found = course.advance(&question, now, || fastrand::u64(..));
        inference.route.course = course;
        inference.attempt = Attempt::default();
        found
    }
}

/// The request, as strategies ask about it.
struct Request<'a> {
    inference: &'a Inference,
    key: &'a Key,
    snapshot: &'a Snapshot,
    budgets: &'a Budgets,
}

impl SelectionFacts for Request<'_> {
    fn cost(&self, deployment: &Deployment) -> Option<Decimal> {
        let provider = &deployment.provider;
        let prices = &self.snapshot.prices;
        let price = prices.find(&provider.id, provider.type_name, &deployment.model)?;
        let typical = self.budgets.typical_output(&provider.id, &deployment.model);
        let usage = ledger_entry::estimate(self.inference, None, typical);
        let today = clock::timestamp();
        price.cost(&usage, ledger::day(today)).usd()
    }

    fn conversation(&self) -> u64 {
        let (inference, key) = (self.inference, self.key.name.as_str());
        *inference.conversation.get_or_init(|| {
            Prompt::read(&inference.body).map_or_else(
                |_| stable_hash(key.as_bytes()),
                |prompt| prompt.conversation(key),
            )
        })
    }
}

/// Addresses the request to the candidate.
pub(crate) fn address(request: &mut RequestHeader, ctx: &Context) -> Result<()> {
    let Some(inference) = ctx.inference.as_deref() else {
        return Ok(());
    };
    let Some(deployment) = inference.deployment() else {
        return Ok(());
    };
    if let Some(trace) = &inference.trace {
        let (parent, keeps_state) = trace.context();
        if !keeps_state {
            request.remove_header(TRACESTATE);
        }
        if let Some(parent) = parent {
            request.insert_header(TRACEPARENT, parent)?;
        }
    }
    headers::for_provider(request, &deployment.provider, &inference.asked())
}

/// How long the attempt that is passed on has taken so far.
pub(crate) fn elapsed(inference: &Inference, now: Instant) -> Duration {
    inference.attempt.started.map_or(Duration::ZERO, |started| {
        now.saturating_duration_since(started)
    })
}
