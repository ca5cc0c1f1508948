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

use super::exchange::Exchange;
use super::failure::{Failure, Refusal};
use super::live::Live;
use super::meter::Tab;
use super::response::Response;
use super::translation::Versions;
use crate::limits::{Admission, Standing};
use crate::metrics::InFlight;
use crate::route::Route;
use crate::snapshot::Deployment;
use crate::traces::Trace;

/// One request from its first byte to its access line.
#[derive(Default)]
pub(crate) struct Context {
    pub(super) arrived: Option<Instant>,
    pub(super) request_id: String,
    /// The configuration that the request began with and keeps.
    pub(super) live: Option<Arc<Live>>,
    pub(super) exchange: Option<Arc<Exchange>>,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) key: Option<Arc<Key>>,
    pub(super) in_flight: Option<InFlight>,
    pub(super) inference: Option<Box<Inference>>,
    /// Its trace, until it has a route.
    pub(super) trace: Option<Box<Trace>>,
    /// The rule that decided, also when it decided against the request.
    pub(super) rule: Option<Arc<str>>,
    /// The model as asked, of a request that was refused a route.
    pub(super) refused_model: Option<String>,
    /// The status that the client was sent, and the code if the answer was ours.
    pub(super) answered: Option<(u16, Option<&'static str>)>,
    /// The code of the error that ended a stream after it had begun.
    pub(super) broke_off: Option<&'static str>,
    /// Whether the answer to a failed request was sent whole.
    pub(super) complete: bool,
    /// Whether the client's connection must be closed after the answer.
    pub(super) close: bool,
    /// The request's place under the limits, while it is under way.
    pub(super) admission: Option<Admission>,
    /// Whether replicas counted by themselves when the request came.
    pub(super) alone: bool,
    /// Whether the store was away when the request came.
    pub(super) store_away: bool,
    /// Where the limits stand that the client is told of.
    pub(super) standing: Standing,
    /// Whether the client went away before the answer was complete.
    pub(super) client_gone: bool,
}

impl Context {
    /// The model as asked, once it is known.
    pub(super) fn model_asked(&self) -> Option<&str> {
        let inference = self.inference.as_deref();
        let asked = inference.map(|inference| inference.head.model.as_str());
        asked.or(self.refused_model.as_deref())
    }

    /// The request's trace, wherever it has come to.
    pub(super) fn take_trace(&mut self) -> Option<Box<Trace>> {
        let inference = self.inference.as_deref_mut();
        let routed = inference.and_then(|inference| inference.trace.take());
        routed.or_else(|| self.trace.take())
    }

    /// The format that the caller understands; OpenAI's where the path doesn't tell.
    pub(super) fn format(&self) -> Format {
        self.endpoint.map_or(Format::OpenAiChat, Endpoint::format)
    }
}

/// A request that is meant for an upstream.
pub(super) struct Inference {
    pub(super) endpoint: Endpoint,
    pub(super) head: RequestHead,
    /// The body as the client sent it; kept while another attempt may need it.
    pub(super) body: Bytes,
    pub(super) body_bytes: usize,
    /// The change that makes a stream report its usage, where the client didn't ask for it.
    pub(super) ask: Option<Splice>,
    /// What was made of the body for candidates.
    pub(super) versions: Versions,
    pub(super) route: Route,
    /// Attempts begun so far.
    pub(super) attempts: u32,
    /// How often and how long is tried.
    pub(super) bounds: Bounds,
    /// When the first attempt began.
    pub(super) began: Option<Instant>,
    /// What tells its conversation from others, once a strategy has asked.
    pub(super) conversation: OnceLock<u64>,
    pub(super) attempt: Attempt,
    /// Its trace, if traces are made.
    pub(super) trace: Option<Box<Trace>>,
    /// The ledger's line of the latest attempt, until it is settled.
    pub(super) tab: Option<Box<Tab>>,
    /// Tokens that the settled attempts used.
    pub(super) used_tokens: u64,
    /// Whether this replica decided by itself that the budget allows it.
    pub(super) alone: bool,
    /// How the latest failed attempt failed.
    pub(super) failure: Option<Failure>,
    /// The refusal whose body is being read before it is judged.
    pub(super) refusal: Option<Refusal>,
    pub(super) response: Response,
    /// When the first byte of the response that is passed on came.
    pub(super) first_byte: Option<Instant>,
    /// Time spent between asking an upstream and its last byte, over all attempts.
    pub(super) upstream_time: Duration,
}

/// The attempt under way.
#[derive(Default)]
pub(super) struct Attempt {
    pub(super) started: Option<Instant>,
    /// Bytes that the upstream is to be sent, known once the model is spliced in.
    pub(super) length: usize,
    /// Whether a connection that turned out dead has been replaced already.
    pub(super) reconnected: bool,
    /// Whether the next connection is for the same candidate and the same attempt.
    pub(super) again: bool,
    /// Whether the upstream has begun to answer.
    pub(super) answered: bool,
    /// Whether its deployment's circuit knows how the answer is.
    pub(super) told: bool,
    /// Whether its failure has been counted.
    pub(super) counted: bool,
    /// Whether the request goes to the next candidate after it.
    pub(super) next: bool,
    /// How many addresses the upstream's host has, and how many could not be connected to.
    pub(super) addresses: usize,
    pub(super) addresses_tried: usize,
}

impl Inference {
    /// The deployment being tried, or tried last.
    pub(super) fn deployment(&self) -> Option<&Deployment> {
        self.route.course.deployment()
    }

    /// Keeps why deployments are not asked: called before each choice, while it is so.
    pub(super) fn tell_of_resting(&mut self, now: Instant) {
        let Some(kept) = self.route.explanation.as_deref_mut() else {
            return;
        };
        for (deployment, why) in self.route.course.resting(now) {
            let id = Deployment::id_of(&deployment.provider, &deployment.model);
            kept.leave_out(id, &why.to_string());
        }
    }

    /// Keeps why the deployment chosen last can't be asked.
    pub(super) fn left_out(&mut self, why: &str) {
        let chosen = self.route.course.deployment();
        if let (Some(kept), Some(chosen)) = (self.route.explanation.as_deref_mut(), chosen) {
            kept.leave_out(Deployment::id_of(&chosen.provider, &chosen.model), why);
        }
    }

    /// Whether another attempt may begin, and there is a deployment for it.
    pub(super) fn may_go_on(&self, now: Instant) -> bool {
        let passed = self
            .began
            .map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        self.bounds.allow(self.attempts, passed) && self.route.course.has_next()
    }
}
