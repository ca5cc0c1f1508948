//! The phases before an upstream is chosen: accept, authenticate, parse, route. Each step's
//! decision is made by its own module; this file is their order.

pub(crate) mod limit;

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::CONTENT_ENCODING;
use http::{HeaderMap, Method};
use llm_router_domain::format::Endpoint;
use llm_router_wire::models;
use llm_router_wire::prompt::Prompt;
use llm_router_wire::request::RequestHead;
use pingora::Result;
use pingora::proxy::Session;
use serde_json::{Value, json};

use crate::clock;
use crate::error::{Allowed, ApiError};
use crate::keys::authenticate::authenticate;
use crate::proxy::attempt::inference::{Inference, Request};
use crate::proxy::attempt::translation::usage_option;
use crate::proxy::context::{Context, new_request_id};
use crate::proxy::downstream::admin;
use crate::proxy::downstream::body::{self, BodyError};
use crate::proxy::downstream::exchange::Arrival;
use crate::proxy::downstream::reply::{send_estimate, send_fault, send_json};
use crate::proxy::gateway::Gateway;
use crate::routing::estimate::with_parameters;
use crate::routing::model_list;
use crate::routing::paths::{Target, target};
use crate::routing::{RouteRequest, route};
use crate::telemetry::traces::Trace;

/// Next step of a request that was decided on.
enum Step {
    /// An upstream.
    Proxy,
    /// An answer that the router has.
    Answer(Value),
    /// The admin service's.
    Admin,
    /// A count of tokens that no provider of the model makes.
    Count(u64),
}

impl Gateway {
    /// Accept: pins the configuration and gives the request its id.
    pub(crate) fn accept(&self, session: &mut Session, ctx: &mut Context) {
        let arrival = Arrival::take(session.req_header_mut());
        ctx.arrived = Some(
            arrival
                .as_ref()
                .map_or_else(clock::now, |arrival| arrival.at),
        );
        ctx.exchange = arrival.map(|arrival| arrival.exchange);
        ctx.live = Some(self.live.load_full());
        ctx.in_flight = Some(self.metrics.begin());
        ctx.request_id = client_request_id(&session.req_header().headers)
            .map_or_else(|| new_request_id().into(), Into::into);
    }

    /// Takes a request up to the point where it needs an upstream; true if it has been answered.
    pub(crate) async fn receive(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        let step = self.decide(session, ctx).await;
        self.take(step, session, ctx).await
    }

    /// Takes a step; true if the request has been answered by it.
    async fn take(
        &self,
        step: std::result::Result<Step, BodyError>,
        session: &mut Session,
        ctx: &mut Context,
    ) -> Result<bool> {
        match step {
            Ok(Step::Proxy) => Ok(false),
            Ok(Step::Admin) => self.administer(session, ctx).await,
            Ok(Step::Answer(value)) => {
                send_json(session, ctx, &value).await?;
                Ok(true)
            }
            Ok(Step::Count(tokens)) => {
                send_estimate(session, ctx, tokens).await?;
                Ok(true)
            }
            Err(BodyError::Refused(fault)) => {
                send_fault(session, ctx, &fault).await?;
                Ok(true)
            }
            Err(BodyError::Unframed(fault)) => {
                ctx.answer.close = true;
                send_fault(session, ctx, &fault).await?;
                Ok(true)
            }
            Err(BodyError::Gone(error)) => {
                ctx.client_gone = true;
                Err(error.into_down())
            }
        }
    }

    /// Lets the admin service answer.
    async fn administer(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
        let Some(router) = &self.admin else {
            return Ok(false);
        };
        match admin::ask(router, session, ctx).await {
            Ok(answer) => {
                admin::send(answer, session, ctx).await?;
                Ok(true)
            }
            Err(error) => Box::pin(self.take(Err(error), session, ctx)).await,
        }
    }

    async fn decide(
        &self,
        session: &mut Session,
        ctx: &mut Context,
    ) -> std::result::Result<Step, BodyError> {
        let live = ctx
            .live
            .clone()
            .ok_or_else(|| BodyError::Refused(ApiError::internal()))?;
        let snapshot = &live.snapshot;
        let header = session.req_header();
        let target = target(header.uri.path());
        if let Target::Inference(endpoint) = target {
            ctx.endpoint = Some(endpoint);
            ctx.trace = self.begin_trace(&header.headers, endpoint, ctx.arrived);
        } else if header.headers.contains_key("anthropic-version") {
            // The caller of a path without a format is told errors in the one it names.
            ctx.endpoint = Some(Endpoint::Messages);
        }
        if let Target::Health | Target::Ready = target {
            check_method(&target, &header.method, header.uri.path()).map_err(BodyError::Refused)?;
            return Ok(Step::Answer(json!({ "status": "ok" })));
        }
        if self.admin.is_some() && llm_router_admin::serves(header.uri.path()) {
            return Ok(Step::Admin);
        }
        let key = authenticate(&snapshot.keys, &header.headers, clock::wall());
        let key =
            key.map_err(|fault| BodyError::Refused(self.throttle_unknown_key(session, fault)))?;
        ctx.key = Some(Arc::clone(&key));
        ctx.store_unavailable = !self.metrics.store_is_up();
        check_method(&target, &header.method, header.uri.path()).map_err(BodyError::Refused)?;
        let format = ctx.format();
        let enabled = self.switch.is_enabled(clock::wall());
        match target {
            Target::Inference(endpoint) => {
                self.admit(ctx, &key).map_err(BodyError::Refused)?;
                self.parse(session, ctx, endpoint).await?;
                self.reserve_tokens(ctx).await.map_err(BodyError::Refused)?;
                match ctx
                    .inference
                    .take_if(|inference| !inference.attempts.cursor.has_next())
                {
                    Some(inference) => Ok(Step::Count(estimated_input(
                        inference.attempts.bodies.client(),
                    )?)),
                    None => Ok(Step::Proxy),
                }
            }
            Target::Models => {
                let names = model_list::visible(snapshot, enabled, &key);
                let listed = names.iter().map(model_list::Entry::listed);
                Ok(Step::Answer(models::list(format, listed)))
            }
            Target::Model(id) => {
                let names = model_list::visible(snapshot, enabled, &key);
                let entry = names.iter().find(|entry| entry.id == id);
                let entry =
                    entry.ok_or_else(|| BodyError::Refused(ApiError::model_not_found(&id)))?;
                Ok(Step::Answer(models::one(format, entry.listed())))
            }
            Target::Health | Target::Ready | Target::Unknown => Err(BodyError::Refused(
                ApiError::not_found(session.req_header().uri.path()),
            )),
        }
    }

    /// The trace of a request that arrived at that moment, if traces are made.
    fn begin_trace(
        &self,
        headers: &HeaderMap,
        endpoint: Endpoint,
        arrived: Option<Instant>,
    ) -> Option<Box<Trace>> {
        let traces = self.traces.as_deref()?;
        let passed = arrived.map_or(Duration::ZERO, |arrived| {
            clock::now().saturating_duration_since(arrived)
        });
        let at = clock::wall().checked_sub(passed)?;
        Some(Box::new(traces.begin(headers, endpoint, at)))
    }

    /// Parse and route: reads the body, and from it the model and where that is served.
    async fn parse(
        &self,
        session: &mut Session,
        ctx: &mut Context,
        endpoint: Endpoint,
    ) -> std::result::Result<(), BodyError> {
        let (Some(live), Some(key)) = (ctx.live.clone(), ctx.key.clone()) else {
            return Err(BodyError::Refused(ApiError::internal()));
        };
        let snapshot = &live.snapshot;
        if is_compressed(&session.req_header().headers) {
            return Err(BodyError::Refused(ApiError::unsupported_encoding()));
        }
        let body = body::read(
            session,
            snapshot.server.max_body,
            snapshot.server.body_timeout,
        )
        .await?;
        let head = RequestHead::read(&body)
            .map_err(|error| BodyError::Refused(ApiError::invalid_body(error)))?;
        let now = clock::wall();
        let routed = route(&RouteRequest {
            snapshot,
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
                return Err(BodyError::Refused(refused.fault));
            }
        };
        ctx.rule.clone_from(&route.rule);
        let body_bytes = body.len();
        let (body, head) = with_parameters(body, head, endpoint, &route.set)
            .map_err(|error| BodyError::Refused(ApiError::invalid_body(error)))?;
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

/// The tokens of a request's input, where no provider counts them.
fn estimated_input(body: &[u8]) -> std::result::Result<u64, BodyError> {
    let prompt = Prompt::read(body).map_err(|error| {
        let text = error.to_string();
        BodyError::Refused(ApiError::unreadable(text))
    })?;
    Ok(prompt.tokens())
}

fn check_method(target: &Target, method: &Method, path: &str) -> std::result::Result<(), ApiError> {
    let allow = match target {
        Target::Inference(_) => Allowed::Post,
        Target::Models | Target::Model(_) | Target::Health | Target::Ready => Allowed::Read,
        Target::Unknown => return Ok(()),
    };
    if allow.takes(method) {
        Ok(())
    } else {
        Err(ApiError::method_not_allowed(method.as_str(), path, allow))
    }
}

fn is_compressed(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_ENCODING)
        .is_some_and(|value| value != "identity")
}

/// The id that the client gave its request, if it is fit for headers, logs and file names.
fn client_request_id(headers: &HeaderMap) -> Option<&str> {
    const LONGEST: usize = 128;
    let id = headers.get("x-request-id")?.to_str().ok()?;
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    (!id.is_empty() && id.len() <= LONGEST && id.bytes().all(sane)).then_some(id)
}
