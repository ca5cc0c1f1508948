//! What one request accumulates on its way through the phases. Each field has one phase that sets
//! it; phases of the business itself take plain values instead.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use llm_router_domain::format::{Endpoint, Format};
use llm_router_domain::key::Key;
use llm_router_domain::retry::Bounds;
use llm_router_wire::request::RequestHead;
use llm_router_wire::usage::Splice;

use crate::limits::{Permit, RateLimitStatus};
use crate::proxy::attempt::ledger_entry::EntryDraft;
use crate::proxy::attempt::outcome::{Failure, Refusal};
use crate::proxy::attempt::translation::TranslatedBodies;
use crate::proxy::downstream::exchange::Exchange;
use crate::proxy::response::stream::Response;
use crate::proxy::upstream::live::Live;
use crate::routing::Route;
use crate::snapshot::Deployment;
use crate::telemetry::metrics::InFlight;
use crate::telemetry::traces::Trace;

/// One request from its first byte to its access line.
#[derive(Default)]
pub(crate) struct Context {
    pub(crate) arrived: Option<Instant>,
    pub(crate) request_id: String,
    /// The configuration that the request began with and keeps.
    pub(crate) live: Option<Arc<Live>>,
    pub(crate) exchange: Option<Arc<Exchange>>,
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) key: Option<Arc<Key>>,
    pub(crate) in_flight: Option<InFlight>,
    pub(crate) inference: Option<Box<Inference>>,
    /// Its trace, until it has a route.
    pub(crate) trace: Option<Box<Trace>>,
    /// The rule that decided, also when it decided against the request.
    pub(crate) rule: Option<Arc<str>>,
    /// The model as asked, of a request that was refused a route.
    pub(crate) refused_model: Option<String>,
    /// The status that the client was sent, and the code if the answer was ours.
    pub(crate) answered: Option<(u16, Option<&'static str>)>,
    /// The code of the error that ended a stream after it had begun.
    pub(crate) broke_off: Option<&'static str>,
    /// Whether the answer to a failed request was sent whole.
    pub(crate) complete: bool,
    /// Whether the client's connection must be closed after the answer.
    pub(crate) close: bool,
    /// The request's place under the limits, while it is under way.
    pub(crate) admission: Option<Permit>,
    /// Whether replicas counted by themselves when the request came.
    pub(crate) alone: bool,
    /// Whether the store was away when the request came.
    pub(crate) store_away: bool,
    /// Where the limits stand that the client is told of.
    pub(crate) standing: RateLimitStatus,
    /// Whether the client went away before the answer was complete.
    pub(crate) client_gone: bool,
}

impl Context {
    /// The model as asked, once it is known.
    pub(crate) fn model_asked(&self) -> Option<&str> {
        let inference = self.inference.as_deref();
        let asked = inference.map(|inference| inference.head.model.as_str());
        asked.or(self.refused_model.as_deref())
    }

    /// The request's trace, wherever it has come to.
    pub(crate) fn take_trace(&mut self) -> Option<Box<Trace>> {
        let inference = self.inference.as_deref_mut();
        let routed = inference.and_then(|inference| inference.trace.take());
        routed.or_else(|| self.trace.take())
    }

    /// The format that the caller understands; OpenAI's where the path doesn't tell.
    pub(crate) fn format(&self) -> Format {
        self.endpoint.map_or(Format::OpenAiChat, Endpoint::format)
    }
}

/// A request that is meant for an upstream.
pub(crate) struct Inference {
    pub(crate) endpoint: Endpoint,
    pub(crate) head: RequestHead,
    /// The body as the client sent it; kept while another attempt may need it.
    pub(crate) body: Bytes,
    pub(crate) body_bytes: usize,
    /// The change that makes a stream report its usage, where the client didn't ask for it.
    pub(crate) ask: Option<Splice>,
    /// What was made of the body for candidates.
    pub(crate) versions: TranslatedBodies,
    pub(crate) route: Route,
    /// Attempts begun so far.
    pub(crate) attempts: u32,
    /// How often and how long is tried.
    pub(crate) bounds: Bounds,
    /// When the first attempt began.
    pub(crate) began: Option<Instant>,
    /// What tells its conversation from others, once a strategy has asked.
    pub(crate) conversation: OnceLock<u64>,
    pub(crate) attempt: Attempt,
    /// Its trace, if traces are made.
    pub(crate) trace: Option<Box<Trace>>,
    /// The ledger's line of the latest attempt, until it is settled.
    pub(crate) tab: Option<Box<EntryDraft>>,
    /// Tokens that the settled attempts used.
    pub(crate) used_tokens: u64,
    /// Whether this replica decided by itself that the budget allows it.
    pub(crate) alone: bool,
    /// How the latest failed attempt failed.
    pub(crate) failure: Option<Failure>,
    /// The refusal whose body is being read before it is judged.
    pub(crate) refusal: Option<Refusal>,
    pub(crate) response: Response,
    /// When the first byte of the response that is passed on came.
    pub(crate) first_byte: Option<Instant>,
    /// Time spent between asking an upstream and its last byte, over all attempts.
    pub(crate) upstream_time: Duration,
}

/// The attempt under way.
#[derive(Default)]
pub(crate) struct Attempt {
    pub(crate) started: Option<Instant>,
    /// Bytes that the upstream is to be sent, known once the model is spliced in.
    pub(crate) length: usize,
    /// Whether a connection that turned out dead has been replaced already.
    pub(crate) reconnected: bool,
    /// Whether the next connection is for the same candidate and the same attempt.
    pub(crate) again: bool,
    /// Whether the upstream has begun to answer.
    pub(crate) answered: bool,
    /// Whether its deployment's circuit knows how the answer is.
    pub(crate) told: bool,
    /// Whether its failure has been counted.
    pub(crate) counted: bool,
    /// Whether the request goes to the next candidate after it.
    pub(crate) next: bool,
    /// How many addresses the upstream's host has, and how many could not be connected to.
    pub(crate) addresses: usize,
    pub(crate) addresses_tried: usize,
}

impl Inference {
    /// The deployment being tried, or tried last.
    pub(crate) fn deployment(&self) -> Option<&Deployment> {
        self.route.course.deployment()
    }

    /// Keeps why deployments are not asked: called before each choice, while it is so.
    pub(crate) fn tell_of_resting(&mut self, now: Instant) {
        let Some(kept) = self.route.explanation.as_deref_mut() else {
            return;
        };
        for (deployment, why) in self.route.course.resting(now) {
            let id = Deployment::id_of(&deployment.provider, &deployment.model);
            kept.leave_out(id, &why.to_string());
        }
    }

    /// Keeps why the deployment chosen last can't be asked.
    pub(crate) fn left_out(&mut self, why: &str) {
        let chosen = self.route.course.deployment();
        if let (Some(kept), Some(chosen)) = (self.route.explanation.as_deref_mut(), chosen) {
            kept.leave_out(Deployment::id_of(&chosen.provider, &chosen.model), why);
        }
    }

    /// Whether another attempt may begin, and there is a deployment for it.
    pub(crate) fn may_go_on(&self, now: Instant) -> bool {
        let passed = self
            .began
            .map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        self.bounds.allow(self.attempts, passed) && self.route.course.has_next()
    }
}
