//! The phases before an upstream is chosen, in their order: accept, authenticate, admit, parse,
//! route, reserve. Each is a file of its own.

pub(crate) mod accept;
pub(crate) mod authenticate;
pub(crate) mod parse;
pub(crate) mod reserve;
pub(crate) mod route;

use llm_router_domain::format::Endpoint;
use llm_router_wire::models;
use pingora::Result;
use pingora::proxy::Session;
use serde_json::{Value, json};

use crate::clock;
use crate::error::ApiError;
use crate::proxy::context::Context;
use crate::proxy::downstream::admin;
use crate::proxy::downstream::body::BodyError;
use crate::proxy::downstream::reply::{send_estimate, send_fault, send_json};
use crate::proxy::gateway::Gateway;
use crate::proxy::request::authenticate::check_method;
use crate::proxy::request::parse::{estimated_input, parse};
use crate::routing::model_list;
use crate::routing::paths::{Target, target};

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
        ctx.known_path = matches!(
            target,
            Target::Inference(_) | Target::Models | Target::Model(_)
        );
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
        let key = self
            .authenticate(session, ctx, snapshot)
            .map_err(BodyError::Refused)?;
        let header = session.req_header();
        check_method(&target, &header.method, header.uri.path()).map_err(BodyError::Refused)?;
        let format = ctx.format();
        let enabled = self.switch.is_enabled(clock::wall());
        match target {
            Target::Inference(endpoint) => {
                self.admit(ctx, &key).map_err(BodyError::Refused)?;
                let (body, head) = parse(session, snapshot).await?;
                self.route(session, ctx, endpoint, body, head)
                    .map_err(BodyError::Refused)?;
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
                let listed = names.iter().map(model_list::Entry::to_listed);
                Ok(Step::Answer(models::list(format, listed)))
            }
            Target::Model(id) => {
                let names = model_list::visible(snapshot, enabled, &key);
                let entry = names.iter().find(|entry| entry.id == id);
                let entry =
                    entry.ok_or_else(|| BodyError::Refused(ApiError::model_not_found(&id)))?;
                Ok(Step::Answer(models::one(format, entry.to_listed())))
            }
            Target::Health | Target::Ready | Target::Unknown => Err(BodyError::Refused(
                ApiError::not_found(session.req_header().uri.path()),
            )),
        }
    }
}
