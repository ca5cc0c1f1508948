//! The phases before an upstream is chosen: accept, authenticate, parse, route. Each step's
//! decision is made by its own module; this file is their order.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::CONTENT_ENCODING;
use http::{HeaderMap, Method};
use llm_router_domain::format::Endpoint;
use llm_router_wire::prompt::Prompt;
use llm_router_wire::request::RequestHead;
use llm_router_wire::usage::{Dialect, Splice};
use llm_router_wire::{models, parameters};
use pingora::Result;
use pingora::proxy::Session;
use serde_json::{Value, json};

use super::admin;
use super::answer::{send_estimate, send_fault, send_json};
use super::app::Arrival;
use super::body::{self, BodyError};
use super::context::{Attempt, Context, Inference};
use super::response::Response;
use super::translation::Versions;
use super::{Gateway, new_request_id};
use crate::authenticate::authenticate;
use crate::clock;
use crate::fault::{Allowed, Fault};
use crate::listing;
use crate::paths::{Target, target};
use crate::route::{Asking, route};
use crate::traces::Trace;

/// What a request turned out to want.
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
    pub(super) fn accept(&self, session: &Session, ctx: &mut Context) {
        let arrival = Arrival::current();
        ctx.arrived = Some(
            arrival
                .as_ref()
                .map_or_else(clock::now, |arrival| arrival.at),
        );
        ctx.exchange = arrival.map(|arrival| arrival.exchange);
        ctx.live = Some(self.live.load_full());
        ctx.in_flight = Some(self.metrics.begin());
        ctx.request_id = client_request_id(&session.req_header().headers)
            .map_or_else(new_request_id, str::to_owned);
    }

    /// Takes a request up to the point where it needs an upstream; true if it has been answered.
    pub(super) async fn receive(&self, session: &mut Session, ctx: &mut Context) -> Result<bool> {
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
            Err(BodyError::Fault(fault)) => {
                send_fault(session, ctx, &fault).await?;
                Ok(true)
            }
            Err(BodyError::Unframed(fault)) => {
                ctx.close = true;
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
            .ok_or_else(|| BodyError::Fault(Fault::internal()))?;
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
            check_method(&target, &header.method, header.uri.path()).map_err(BodyError::Fault)?;
            return Ok(Step::Answer(json!({ "status": "ok" })));
        }
        if self.admin.is_some() && llm_router_admin::serves(header.uri.path()) {
            return Ok(Step::Admin);
        }
        let key = authenticate(&snapshot.keys, &header.headers, clock::wall());
        let key = key.map_err(|fault| BodyError::Fault(self.slowed(session, fault)))?;
        ctx.key = Some(Arc::clone(&key));
        ctx.store_away = !self.metrics.store_is_up();
        check_method(&target, &header.method, header.uri.path()).map_err(BodyError::Fault)?;
        let anthropic = ctx.endpoint.is_some();
        let enabled = self.switch.is_enabled(clock::wall());
        match target {
            Target::Inference(endpoint) => {
                self.admit(ctx, &key).map_err(BodyError::Fault)?;
                self.parse(session, ctx, endpoint).await?;
                self.reserve_tokens(ctx).await.map_err(BodyError::Fault)?;
                match ctx
                    .inference
                    .take_if(|inference| !inference.route.course.has_next())
                {
                    Some(inference) => Ok(Step::Count(estimated_input(&inference.body)?)),
                    None => Ok(Step::Proxy),
                }
            }
            Target::Models => {
                let names = listing::visible(snapshot, enabled, &key);
                let listed = names.iter().map(listing::Entry::listed);
                Ok(Step::Answer(if anthropic {
                    models::anthropic_list(listed)
                } else {
                    models::openai_list(listed)
                }))
            }
            Target::Model(id) => {
                let names = listing::visible(snapshot, enabled, &key);
                let entry = names.iter().find(|entry| entry.id == id);
                let entry = entry.ok_or_else(|| BodyError::Fault(Fault::model_not_found(&id)))?;
                Ok(Step::Answer(if anthropic {
                    models::anthropic_model(entry.listed())
                } else {
                    models::openai_model(entry.listed())
                }))
            }
            Target::Health | Target::Ready | Target::Unknown => Err(BodyError::Fault(
                Fault::not_found(session.req_header().uri.path()),
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
            return Err(BodyError::Fault(Fault::internal()));
        };
        let snapshot = &live.snapshot;
        if is_compressed(&session.req_header().headers) {
            return Err(BodyError::Fault(Fault::unsupported_encoding()));
        }
        let body = body::read(session, snapshot.max_body, snapshot.body_timeout).await?;
        let head = RequestHead::read(&body)
            .map_err(|error| BodyError::Fault(Fault::invalid_body(error)))?;
        let now = clock::wall();
        let routed = route(&Asking {
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
                return Err(BodyError::Fault(refused.fault));
            }
        };
        ctx.rule.clone_from(&route.rule);
        let body_bytes = body.len();
        let (body, head) = with_parameters(body, head, endpoint, &route.set)?;
        ctx.inference = Some(Box::new(Inference {
            endpoint,
            ask: usage_to_ask_for(&head, &body, endpoint),
            versions: Versions::default(),
            head,
            body_bytes,
            body,
            route,
            attempts: 0,
            bounds: snapshot.bounds,
            began: None,
            conversation: OnceLock::new(),
            attempt: Attempt::default(),
            trace: ctx.trace.take(),
            tab: None,
            used_tokens: 0,
            alone: false,
            failure: None,
            refusal: None,
            response: Response::default(),
            first_byte: None,
            upstream_time: Duration::ZERO,
        }));
        Ok(())
    }
}

/// The tokens of a request's input, where no provider counts them.
fn estimated_input(body: &[u8]) -> std::result::Result<u64, BodyError> {
    let prompt = Prompt::read(body).map_err(|error| {
        let text = error.to_string();
        BodyError::Fault(Fault::unreadable(text))
    })?;
    Ok(prompt.tokens())
}

/// The body with the parameters that a rule sets. Whatever reads it from here on, to estimate, to
/// translate or to send it, sees them.
fn with_parameters(
    body: Bytes,
    head: RequestHead,
    endpoint: Endpoint,
    set: &[(String, Value)],
) -> std::result::Result<(Bytes, RequestHead), BodyError> {
    let changed = if set.is_empty() {
        None
    } else {
        parameters::set(&body, endpoint, set)
    };
    match changed {
        None => Ok((body, head)),
        Some(body) => match RequestHead::read(&body) {
            Ok(head) => Ok((body, head)),
            Err(error) => Err(BodyError::Fault(Fault::invalid_body(error))),
        },
    }
}

/// How a stream is made to report its usage, if it doesn't by itself.
pub(super) fn usage_to_ask_for(
    head: &RequestHead,
    body: &[u8],
    endpoint: Endpoint,
) -> Option<Splice> {
    let dialect = Dialect::of(endpoint.format(), endpoint);
    if head.stream && dialect.has_usage_option() {
        head.ask_for_usage(body)
    } else {
        None
    }
}

fn check_method(target: &Target, method: &Method, path: &str) -> std::result::Result<(), Fault> {
    let allow = match target {
        Target::Inference(_) => Allowed::Post,
        Target::Models | Target::Model(_) | Target::Health | Target::Ready => Allowed::Read,
        Target::Unknown => return Ok(()),
    };
    if allow.takes(method) {
        Ok(())
    } else {
        Err(Fault::method_not_allowed(method.as_str(), path, allow))
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
