//! Route: lets the rules decide on a request, and puts it on its way to the deployments that serve
//! the model they chose.

use std::sync::Arc;

use bytes::Bytes;
use llm_router_domain::format::Endpoint;
use llm_router_wire::request::RequestHead;
use pingora::proxy::Session;
use serde_json::Value;

use crate::clock;
use crate::error::ApiError;
use crate::proxy::attempt::bodies::usage_option;
use crate::proxy::attempt::inference::{Inference, Request};
use crate::proxy::context::Context;
use crate::proxy::gateway::Gateway;
use crate::routing::estimate::{RequestSize, with_parameters};
use crate::routing::{Route, RouteRequest, route};
use crate::snapshot::Snapshot;

impl Gateway {
    /// Routes a parsed request.
    ///
    /// # Errors
    /// As [`route`], and 400 where a rule's parameters make a body that can't be read.
    pub(crate) fn route(
        &self,
        session: &Session,
        ctx: &mut Context,
        endpoint: Endpoint,
        body: Bytes,
        head: RequestHead,
    ) -> Result<(), ApiError> {
        let (Some(live), Some(key)) = (ctx.live.clone(), ctx.key.clone()) else {
            return Err(ApiError::internal());
        };
        let now = clock::wall();
        let routed = route(&RouteRequest {
            snapshot: &live.snapshot,
            enabled: self.switch.is_enabled(now),
            key: &key,
            endpoint,
            model: &head.model,
            headers: &session.req_header().headers,
            body: &body,
            now,
            random: fastrand::u64(..),
        });
        let route = match routed {
            Ok(route) => route,
            Err(refused) => {
                ctx.rule = refused.rule;
                ctx.refused_model = Some(head.model);
                return Err(refused.fault);
            }
        };
        ctx.rule.clone_from(&route.rule);
        let body_bytes = body.len();
        let (body, head) =
            with_parameters(body, head, endpoint, &route.set).map_err(ApiError::invalid_body)?;
        let (body, head) = if live.snapshot.budget(&key).is_some() {
            with_ceiling(body, head, endpoint, &live.snapshot, &route)?
        } else {
            (body, head)
        };
        let request = Request {
            id: Arc::clone(&ctx.request_id),
            arrived: ctx.arrived.unwrap_or_else(clock::now),
            key,
            endpoint,
            usage_option: usage_option(&head, &body, endpoint),
            head,
            body_bytes,
            model: route.model.clone(),
            rule: route.rule.clone(),
            live,
        };
        let trace = ctx.trace.take();
        ctx.inference = Some(Box::new(Inference::new(request, body, route, trace)));
        Ok(())
    }
}

/// Sets the ceiling of output in the request of a key with a budget, if the client set none: nothing
/// else bounds what the answer costs.
///
/// # Errors
/// 400 where that makes a body that can't be read.
fn with_ceiling(
    body: Bytes,
    head: RequestHead,
    endpoint: Endpoint,
    snapshot: &Snapshot,
    route: &Route,
) -> Result<(Bytes, RequestHead), ApiError> {
    let size = RequestSize {
        endpoint,
        head: &head,
        body: &body,
        body_bytes: body.len(),
    };
    match size.missing_ceiling(snapshot, route.course.remaining()) {
        None => Ok((body, head)),
        Some((field, tokens)) => {
            let set = [(field.to_owned(), Value::from(tokens))];
            with_parameters(body, head, endpoint, &set).map_err(ApiError::invalid_body)
        }
    }
}
