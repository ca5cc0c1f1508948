//! The end of a request: its access line, its metrics, and the connection handed back.

use std::time::Duration;

use http::Method;
use llm_router_admin::RefusedRequest;
use llm_router_domain::network::client_network;
use llm_router_domain::refusal::{RefusedBy, RequestOutcome};
use pingora::Error;
use pingora::proxy::Session;

use crate::clock;
use crate::error::refused_by;
use crate::proxy::attempt::inference::Inference;
use crate::proxy::context::Context;
use crate::proxy::downstream::session::{Downstream, keep};
use crate::proxy::gateway::Gateway;
use crate::proxy::request::reserve::settle_limits;
use crate::telemetry::access_log::{AccessLine, LoggedUsage, TARGET, level};
use crate::telemetry::log_format::timestamp;
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
        self.keep_refusal(ctx, &ended);
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
        let deployment = inference.and_then(Inference::asked_deployment);
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
            outcome: ended.outcome,
            refused_by: ended.refused_by,
            code: ended.code,
            rule: ctx.rule.as_deref(),
            client_gone: ctx.client_gone,
            total: ended.total,
            first_byte: ended.first_byte,
            overhead: ended.overhead,
        });
    }

    fn log(&self, session: &Session, ctx: &Context, ended: &Ended, trace: Option<&Trace>) {
        let no_key = ctx.key.is_none() && ended.outcome != RequestOutcome::Answered;
        let wanted = self
            .access_log
            .wants(ended.outcome, ctx.client_gone, no_key);
        if !wanted {
            return;
        }
        let inference = ctx.inference.as_deref();
        let deployment = inference.and_then(Inference::asked_deployment);
        let attempts = inference.map(|inference| &inference.attempts);
        let header = session.req_header();
        self.access_log.add(&AccessLine {
            timestamp: timestamp(),
            level: level(ended.outcome).as_str(),
            target: TARGET,
            message: "request",
            request_id: &ctx.request_id,
            trace_id: trace.map(Trace::id),
            method: header.method.as_str(),
            path: header.uri.path(),
            status: ended.status,
            outcome: ended.outcome.name(),
            refused_by: ended.refused_by.map(RefusedBy::name),
            error_code: ended.code,
            error_message: ctx.error_text.as_deref(),
            client: shown_client(ctx),
            key: ctx.key.as_deref().map(|key| key.name.as_str()),
            owner: ctx.key.as_deref().and_then(|key| key.owner.as_deref()),
            user: attempts.and_then(|attempts| attempts.user.as_deref()),
            model_asked: ctx.model_asked(),
            model: deployment.map(|deployment| deployment.model.as_ref()),
            provider: deployment.map(|deployment| deployment.provider.id.as_str()),
            rule: ctx.rule.as_deref(),
            stream: inference.is_some_and(|inference| inference.request.head.stream),
            attempts: attempts.map_or(0, |attempts| attempts.begun),
            usage: attempts
                .filter(|attempts| attempts.begun > 0)
                .map(|attempts| LoggedUsage::new(&attempts.sums)),
            client_gone: ctx.client_gone,
            request_bytes: inference.map_or(0, |inference| inference.request.body_bytes),
            response_bytes: session.body_bytes_sent(),
            duration_ms: milliseconds(ended.total),
            first_byte_ms: ended.first_byte.map(milliseconds),
            router_ms: milliseconds(ended.overhead),
            revision: ctx.live.as_deref().map_or(0, |live| live.snapshot.revision),
        });
    }

    /// Keeps a request that was refused before any deployment was called, for the API to find.
    fn keep_refusal(&self, ctx: &Context, ended: &Ended) {
        let (Some(by), Some(code)) = (ended.refused_by, ended.code) else {
            return;
        };
        // Scanners ask for paths that no client of ours knows; their requests would displace others.
        if !ctx.known_path && ctx.key.is_none() {
            return;
        }
        let key = ctx.key.as_deref();
        let client = shown_client(ctx);
        let address = || {
            ctx.client
                .map(|address| client_network(address).to_string())
        };
        let caller = key.map(|key| key.name.clone()).or_else(address);
        let passed = jiff::SignedDuration::try_from(ended.total).unwrap_or_default();
        let inference = ctx.inference.as_deref();
        let refused = RefusedRequest {
            place: uuid::Uuid::now_v7(),
            id: ctx.request_id.to_string(),
            time: clock::timestamp() - passed,
            key: key.map(|key| key.name.clone()),
            owner: key.and_then(|key| key.owner.clone()),
            format: ctx.format().name(),
            model_asked: ctx.model_asked().map(cut_name),
            rule: ctx.rule.as_deref().map(str::to_owned),
            status: ended.status,
            code,
            message: ctx.error_text.as_deref().map(str::to_owned),
            refused_by: by,
            stream: inference.is_some_and(|inference| inference.request.head.stream),
            client,
            latency_ms: milliseconds(ended.total),
            revision: ctx.live.as_deref().map_or(0, |live| live.snapshot.revision),
        };
        self.refusals.add(&caller.unwrap_or_default(), refused);
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
    outcome: RequestOutcome,
    /// Part of the router that refused it before any deployment was called.
    refused_by: Option<RefusedBy>,
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
        let called = inference.is_some_and(|inference| inference.attempts.begun > 0);
        let (outcome, refused_by) = outcome(ctx, status, code, called);
        let first_byte = inference.and_then(|inference| inference.attempts.first_byte);
        let waiting = inference.map_or(Duration::ZERO, |inference| {
            inference.attempts.upstream_time(now)
        });
        Self {
            well: error.is_none() && code.is_none(),
            status,
            code,
            outcome,
            refused_by,
            total,
            first_byte: first_byte.map(|at| at.saturating_duration_since(arrived)),
            overhead: total.saturating_sub(waiting),
        }
    }
}

/// Returns the outcome of a request, and what refused it if no deployment was called.
fn outcome(
    ctx: &Context,
    status: u16,
    code: Option<&'static str>,
    called: bool,
) -> (RequestOutcome, Option<RefusedBy>) {
    if ctx.answer.broke_off.is_some() {
        let outcome = if ctx.client_gone {
            RequestOutcome::Cancelled
        } else {
            RequestOutcome::Failed
        };
        return (outcome, None);
    }
    let Some(code) = code else {
        let outcome = RequestOutcome::from_provider(status);
        let left = ctx.client_gone && outcome == RequestOutcome::Answered;
        return (
            if left {
                RequestOutcome::Cancelled
            } else {
                outcome
            },
            None,
        );
    };
    // Too many wrong keys from one address are answered by a limit.
    let by = match refused_by(code) {
        Some(RefusedBy::Limit) if ctx.key.is_none() => Some(RefusedBy::Key),
        by => by,
    };
    let outcome = by.map_or(RequestOutcome::Failed, RefusedBy::outcome);
    (outcome, by.filter(|_| !called))
}

/// Returns the client's address, as far as it is shown.
fn shown_client(ctx: &Context) -> Option<String> {
    let detail = ctx.live.as_deref()?.snapshot.client_address;
    detail.show(ctx.client?)
}

/// Returns a name that a client made up, cut to a length that memory has room for.
fn cut_name(name: &str) -> String {
    const LONGEST: usize = 200;
    name.chars().take(LONGEST).collect()
}

/// Milliseconds to the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
