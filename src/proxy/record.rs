//! The end of a request: its access line, its metrics, and the connection handed back.

use http::Method;
use pingora::Error;
use pingora::proxy::Session;

use super::Gateway;
use super::attempt;
use super::context::Context;
use super::downstream::{Downstream, keep};
use super::limit::settle_limits;
use crate::access_log::Line;
use crate::clock;
use crate::metrics::{CLIENT_CLOSED_REQUEST, Finished, OTHER};

impl Gateway {
    /// Counts and logs a request, and puts its real session back.
    pub(super) fn record(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Context) {
        if let Some(exchange) = &ctx.exchange {
            Downstream::unwrap(&mut session.downstream_session, exchange);
        }
        self.settle_last(ctx);
        settle_limits(ctx);
        self.count_and_log(session, error, ctx);
        if let Some(exchange) = ctx.exchange.as_deref().filter(|_| ctx.complete) {
            keep(&mut session.downstream_session, exchange);
        }
        ctx.in_flight = None;
    }

    fn count_and_log(&self, session: &Session, error: Option<&Error>, ctx: &Context) {
        let now = clock::now();
        let arrived = ctx.arrived.unwrap_or(now);
        let total = now.saturating_duration_since(arrived);
        let (status, code) = ctx.answered.unwrap_or((CLIENT_CLOSED_REQUEST, None));
        let code = code.or(ctx.broke_off);
        let inference = ctx.inference.as_deref();
        let deployment = inference.and_then(|inference| inference.deployment());
        if error.is_none()
            && let Some(deployment) = deployment
            && code.is_none()
            && inference.is_some_and(|inference| !inference.attempt.counted)
        {
            self.metrics.attempt(&deployment.provider.id, "answered");
        }
        let first_byte = inference.and_then(|inference| inference.first_byte);
        let first_byte = first_byte.map(|at| at.saturating_duration_since(arrived));
        let waiting = inference.map_or_else(Default::default, |inference| {
            inference.upstream_time + attempt::elapsed(inference, now)
        });
        let overhead = total.saturating_sub(waiting);
        self.metrics.finish(&Finished {
            endpoint: ctx.endpoint.map_or(OTHER, |endpoint| endpoint.name()),
            inference: ctx.endpoint.is_some() && session.req_header().method == Method::POST,
            provider: deployment.map(|found| found.provider.id.as_str()),
            model: inference.map(|inference| inference.route.public_name().unwrap_or(OTHER)),
            deployment: deployment.map(|found| found.state.id()),
            status,
            code,
            rule: ctx.rule.as_deref(),
            client_gone: ctx.client_gone,
            total,
            first_byte,
            overhead,
        });
        let header = session.req_header();
        self.access_log.add(&Line {
            time: jiff::Timestamp::try_from(clock::wall())
                .map(|time| format!("{time:.3}"))
                .unwrap_or_default(),
            level: "INFO",
            message: "request",
            request_id: &ctx.request_id,
            method: header.method.as_str(),
            path: header.uri.path(),
            status,
            error_code: code,
            key: ctx.key.as_deref().map(|key| key.name.as_str()),
            owner: ctx.key.as_deref().and_then(|key| key.owner.as_deref()),
            model_asked: inference
                .map(|inference| inference.head.model.as_str())
                .or(ctx.refused_model.as_deref()),
            model: deployment.map(|deployment| deployment.model.as_ref()),
            provider: deployment.map(|deployment| deployment.provider.id.as_str()),
            rule: ctx.rule.as_deref(),
            stream: inference.is_some_and(|inference| inference.head.stream),
            attempts: inference.map_or(0, |inference| inference.attempts),
            client_gone: ctx.client_gone,
            request_bytes: inference.map_or(0, |inference| inference.body_bytes),
            response_bytes: session.body_bytes_sent(),
            duration_ms: milliseconds(total),
            first_byte_ms: first_byte.map(milliseconds),
            router_ms: milliseconds(overhead),
            revision: ctx.live.as_deref().map_or(0, |live| live.snapshot.revision),
        });
    }
}

/// Milliseconds to the microsecond.
fn milliseconds(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
