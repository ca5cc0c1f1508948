//! The end of a request: its access line, its metrics, and the connection handed back.

use std::time::Duration;

use http::Method;
use pingora::Error;
use pingora::proxy::Session;

use crate::clock;
use crate::proxy::context::Context;
use crate::proxy::downstream::session::{Downstream, keep};
use crate::proxy::gateway::Gateway;
use crate::proxy::request::reserve::settle_limits;
use crate::telemetry::access_log::AccessLine;
use crate::telemetry::metrics::{CLIENT_CLOSED_REQUEST, Finished, OTHER};
use crate::telemetry::traces::{self, Trace};

impl Gateway {
    /// Counts and logs a request, and puts its real session back.
    pub(crate) fn record(&self, session: &mut Session, error: Option<&Error>, ctx: &mut Context) {
        if let Some(exchange) = &ctx.exchange {
            Downstream::unwrap(&mut session.downstream_session, exchange);
        }
        self.settle_last(ctx);
        settle_limits(ctx);
        let ended = Ended::of(ctx, error);
        let trace = ctx.take_trace();
        self.count(session, ctx, &ended);
        self.log(session, ctx, &ended, trace.as_deref());
        if let Some(trace) = trace {
            self.trace(session, ctx, &ended, *trace);
        }
        if let Some(exchange) = ctx.exchange.as_deref().filter(|_| ctx.answer.complete) {
            keep(&mut session.downstream_session, exchange);
        }
        ctx.in_flight = None;
    }

    fn count(&self, session: &Session, ctx: &Context, ended: &Ended) {
        let inference = ctx.inference.as_deref();
        let deployment = inference.and_then(|inference| inference.deployment());
        if ended.well
            && let Some(deployment) = deployment
            && inference.is_some_and(|inference| !inference.attempts.state.has_failed())
        {
            self.metrics.attempt(&deployment.provider.id, "answered");
        }
        self.metrics.finish(&Finished {
            endpoint: ctx.endpoint.map_or(OTHER, |endpoint| endpoint.name()),
            inference: ctx.endpoint.is_some() && session.req_header().method == Method::POST,
            provider: deployment.map(|found| found.provider.id.as_str()),
            model: inference.map(|inference| inference.request.public_name().unwrap_or(OTHER)),
            deployment: deployment.map(|found| found.state.id()),
            status: ended.status,
            code: ended.code,
            rule: ctx.rule.as_deref(),
            client_gone: ctx.client_gone,
            total: ended.total,
            first_byte: ended.first_byte,
            overhead: ended.overhead,
        });
    }

    fn log(&self, session: &Session, ctx: &Context, ended: &Ended, trace: Option<&Trace>) {
        let failed = ended.status >= 400 || ended.code.is_some() || ctx.client_gone;
        if !self.access_log.wants(failed) {
            return;
        }
        let inference = ctx.inference.as_deref();
        let deployment = inference.and_then(|inference| inference.deployment());
        let header = session.req_header();
        self.access_log.add(&AccessLine {
            time: jiff::Timestamp::try_from(clock::wall())
                .map(|time| format!("{time:.3}"))
                .unwrap_or_default(),
            level: "INFO",
            message: "request",
            request_id: &ctx.request_id,
            trace_id: trace.map(Trace::id),
            method: header.method.as_str(),
            path: header.uri.path(),
            status: ended.status,
            error_code: ended.code,
            key: ctx.key.as_deref().map(|key| key.name.as_str()),
            owner: ctx.key.as_deref().and_then(|key| key.owner.as_deref()),
            model_asked: ctx.model_asked(),
            model: deployment.map(|deployment| deployment.model.as_ref()),
            provider: deployment.map(|deployment| deployment.provider.id.as_str()),
            rule: ctx.rule.as_deref(),
            stream: inference.is_some_and(|inference| inference.request.head.stream),
            attempts: inference.map_or(0, |inference| inference.attempts.begun),
            client_gone: ctx.client_gone,
            request_bytes: inference.map_or(0, |inference| inference.request.body_bytes),
            response_bytes: session.body_bytes_sent(),
            duration_ms: milliseconds(ended.total),
            first_byte_ms: ended.first_byte.map(milliseconds),
            router_ms: milliseconds(ended.overhead),
            revision: ctx.live.as_deref().map_or(0, |live| live.snapshot.revision),
        });
    }

    fn trace(&self, session: &Session, ctx: &Context, ended: &Ended, trace: Trace) {
        let Some(traces) = self.traces.as_deref() else {
            return;
        };
        let header = session.req_header();
        traces.finish(
            trace,
            &traces::Finished {
                request_id: &ctx.request_id,
                method: header.method.as_str(),
                path: header.uri.path(),
                status: ended.status,
                code: ended.code,
                model_asked: ctx.model_asked(),
                key: ctx.key.as_deref().map(|key| key.name.as_str()),
                rule: ctx.rule.as_deref(),
                attempts: ctx
                    .inference
                    .as_deref()
                    .map_or(0, |found| found.attempts.begun),
                revision: ctx.live.as_deref().map_or(0, |live| live.snapshot.revision),
                total: ended.total,
            },
        );
    }
}

/// End of a request.
struct Ended {
    /// Set if neither Pingora nor the router reported an error.
    well: bool,
    status: u16,
    code: Option<&'static str>,
    total: Duration,
    first_byte: Option<Duration>,
    /// The router's own time: not waiting for the client or an upstream.
    overhead: Duration,
}

impl Ended {
    fn of(ctx: &Context, error: Option<&Error>) -> Self {
        let now = clock::now();
        let arrived = ctx.arrived.unwrap_or(now);
        let total = now.saturating_duration_since(arrived);
        let (status, code) = ctx.answer.status.unwrap_or((CLIENT_CLOSED_REQUEST, None));
        let code = code.or(ctx.answer.broke_off);
        let inference = ctx.inference.as_deref();
        let first_byte = inference.and_then(|inference| inference.attempts.first_byte);
        let waiting = inference.map_or(Duration::ZERO, |inference| {
            inference.attempts.upstream_time(now)
        });
        Self {
            well: error.is_none() && code.is_none(),
            status,
            code,
            total,
            first_byte: first_byte.map(|at| at.saturating_duration_since(arrived)),
            overhead: total.saturating_sub(waiting),
        }
    }
}

/// Milliseconds to the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
