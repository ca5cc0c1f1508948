//! A request that is meant for an upstream: what was asked, which nothing changes, and the attempts
//! at answering it. Which attempt follows which is [`attempt`](crate::proxy::attempt)'s.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use llm_router_config::AnswersAs;
use llm_router_domain::format::Endpoint;
use llm_router_domain::key::Key;
use llm_router_domain::ledger::{LedgerSums, RouteExplanation};
use llm_router_domain::rendezvous::stable_hash;
use llm_router_domain::retry::RetryBounds;
use llm_router_wire::coding::Decoder;
use llm_router_wire::prompt::Prompt;
use llm_router_wire::request::RequestHead;
use llm_router_wire::usage::Splice;
use rust_decimal::Decimal;

use crate::budgets::Budgets;
use crate::clock;
use crate::proxy::attempt::bodies::Bodies;
use crate::proxy::attempt::ledger_entry::EntryDraft;
use crate::proxy::attempt::outcome::Failure;
use crate::proxy::attempt::response::Response;
use crate::proxy::attempt::state::State;
use crate::proxy::upstream::live::Live;
use crate::routing::Route;
use crate::routing::balance::{RouteCursor, SelectionFacts};
use crate::routing::estimate::RequestSize;
use crate::snapshot::{Deployment, Model, Snapshot};
use crate::telemetry::traces::Trace;

/// A request that is meant for an upstream.
pub(crate) struct Inference {
    pub(crate) request: Request,
    pub(crate) attempts: Attempts,
}

/// The request and its caller. Nothing changes it once it is parsed and routed.
pub(crate) struct Request {
    pub(crate) id: Arc<str>,
    pub(crate) arrived: Instant,
    /// The configuration that the request began with and keeps.
    pub(crate) live: Arc<Live>,
    pub(crate) key: Arc<Key>,
    pub(crate) endpoint: Endpoint,
    pub(crate) head: RequestHead,
    /// Length of the body as the client sent it.
    pub(crate) body_bytes: usize,
    /// The change that makes a stream report its usage, where the client didn't ask for it.
    pub(crate) usage_option: Option<Splice>,
    /// The public name that was meant, if it was one.
    pub(crate) model: Option<Arc<Model>>,
    /// The rule that decided.
    pub(crate) rule: Option<Arc<str>>,
}

/// The attempts at answering a request, one after the other.
pub(crate) struct Attempts {
    pub(crate) cursor: RouteCursor,
    /// Explanation of the route, for the ledger.
    pub(crate) explanation: Option<Box<RouteExplanation>>,
    /// Bodies that candidates are sent.
    pub(crate) bodies: Bodies,
    /// Attempts begun so far.
    pub(crate) begun: u32,
    /// Start of the first attempt.
    pub(crate) first_began: Option<Instant>,
    /// Hash that identifies the conversation, once a strategy has asked for it.
    conversation: OnceLock<u64>,
    /// State of the current attempt.
    pub(crate) state: State,
    /// Start of the current attempt; `None` once it has failed.
    pub(crate) started: Option<Instant>,
    pub(crate) response: Response,
    /// Undoes the codings of the response's body, if it has any.
    pub(crate) decoder: Option<Decoder>,
    /// The ledger's entry of the latest attempt, until it is settled.
    pub(crate) entry: Option<Box<EntryDraft>>,
    /// The request's trace, if traces are made.
    pub(crate) trace: Option<Box<Trace>>,
    /// Sums of the settled attempts.
    pub(crate) sums: LedgerSums,
    /// End user of the settled attempts, or the key's owner.
    pub(crate) user: Option<Box<str>>,
    /// The deployment of the latest attempt that was made.
    asked: Option<Deployment>,
    /// Set if this replica checked the budget alone, because the shared one was unavailable.
    pub(crate) degraded: bool,
    /// The store could not be read when that decided on the request.
    pub(crate) store_unavailable: bool,
    /// Failure of the latest attempt that failed.
    pub(crate) failure: Option<Failure>,
    /// Arrival of the head of the response that is passed on.
    pub(crate) first_byte: Option<Instant>,
    /// Time spent between asking an upstream and its last byte, over all failed attempts.
    upstream_time: Duration,
}

impl Inference {
    /// Puts a parsed request on its route. `request.model` and `request.rule` are the route's.
    pub(crate) fn new(
        request: Request,
        body: Bytes,
        route: Route,
        trace: Option<Box<Trace>>,
    ) -> Self {
        Self {
            request,
            attempts: Attempts {
                cursor: route.course,
                explanation: route.explanation,
                bodies: Bodies::new(body),
                begun: 0,
                first_began: None,
                conversation: OnceLock::new(),
                state: State::default(),
                started: None,
                response: Response::default(),
                decoder: None,
                entry: None,
                trace,
                sums: LedgerSums::default(),
                user: None,
                asked: None,
                degraded: false,
                store_unavailable: false,
                failure: None,
                first_byte: None,
                upstream_time: Duration::ZERO,
            },
        }
    }

    /// Returns the deployment being tried, or tried last.
    pub(crate) fn deployment(&self) -> Option<&Deployment> {
        self.attempts.cursor.deployment()
    }

    /// Returns the name that the model has in answers, where it isn't the provider's.
    pub(crate) fn model_in_answers(&self) -> Option<&str> {
        let model = self.request.model.as_ref()?;
        let by_format = match self.request.endpoint {
            Endpoint::Messages => AnswersAs::Asked,
            _ => AnswersAs::Served,
        };
        let asked = model.answers_as.unwrap_or(by_format) == AnswersAs::Asked;
        asked.then_some(&self.request.head.model)
    }

    /// Returns the deployment that was asked last: unlike [`Self::deployment`] not one that was chosen and
    /// then not asked, because a budget refused or the request can't be put to it.
    pub(crate) const fn asked_deployment(&self) -> Option<&Deployment> {
        self.attempts.asked.as_ref()
    }

    /// Notes that the chosen deployment is asked.
    pub(crate) fn note_asked(&mut self) {
        self.attempts.asked = self.deployment().cloned();
    }

    /// Returns what decides how much the request uses. Its body must not have been let go of.
    pub(crate) fn size(&self) -> RequestSize<'_> {
        self.request.size(self.attempts.bodies.client())
    }

    /// Goes on to the deployment that the route's strategies prefer; false if there is none.
    pub(crate) fn choose(&mut self, budgets: &Budgets, now: Instant) -> bool {
        let Self { request, attempts } = self;
        let weighed = Weighed {
            request,
            body: attempts.bodies.client(),
            conversation: &attempts.conversation,
            budgets,
        };
        let found = attempts.cursor.advance(&weighed, now, || fastrand::u64(..));
        attempts.state.reset();
        attempts.started = None;
        found
    }

    /// Returns whether the current attempt is the first, and no other can follow.
    pub(crate) fn is_only_candidate(&self) -> bool {
        self.attempts.begun <= 1 && !self.attempts.cursor.has_next()
    }

    /// Returns whether another attempt may begin, and there is a deployment for it.
    pub(crate) fn may_go_on(&self, now: Instant) -> bool {
        let began = self.attempts.first_began;
        let passed = began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        let bounds = self.request.bounds();
        bounds.allow(self.attempts.begun, passed) && self.attempts.cursor.has_next()
    }
}

impl Request {
    /// Returns the configuration that the request began with.
    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.live.snapshot
    }

    /// Returns how often and how long is tried.
    fn bounds(&self) -> RetryBounds {
        self.snapshot().bounds
    }

    /// Returns the public name that was meant, if it was one.
    pub(crate) fn public_name(&self) -> Option<&str> {
        self.model.as_deref().map(|model| model.name.as_str())
    }

    fn size<'a>(&'a self, body: &'a [u8]) -> RequestSize<'a> {
        RequestSize {
            endpoint: self.endpoint,
            head: &self.head,
            body,
            body_bytes: self.body_bytes,
        }
    }
}

impl Attempts {
    /// Keeps why deployments are not asked: called before each choice, while it is so.
    pub(crate) fn explain_resting(&mut self, now: Instant) {
        let Some(kept) = self.explanation.as_deref_mut() else {
            return;
        };
        for (deployment, why) in self.cursor.resting(now) {
            let id = Deployment::id_of(&deployment.provider, &deployment.model);
            kept.leave_out(id, &why.to_string());
        }
    }

    /// Keeps why the deployment chosen last can't be asked.
    pub(crate) fn explain_left_out(&mut self, why: &str) {
        let chosen = self.cursor.deployment();
        if let (Some(kept), Some(chosen)) = (self.explanation.as_deref_mut(), chosen) {
            kept.leave_out(Deployment::id_of(&chosen.provider, &chosen.model), why);
        }
    }

    /// Adds up what a settled attempt used.
    pub(crate) fn add(&mut self, sums: LedgerSums, user: Box<str>) {
        self.sums += sums;
        self.user = Some(user).filter(|user| !user.is_empty());
    }

    /// Takes the ledger's entry of the latest attempt, with all that its response said of usage.
    pub(crate) fn take_entry(&mut self) -> Option<Box<EntryDraft>> {
        let mut entry = self.entry.take()?;
        entry.end_response(self.response.stream());
        Some(entry)
    }

    /// Returns how long the current attempt has taken so far; zero once it has failed.
    pub(crate) fn elapsed(&self, now: Instant) -> Duration {
        self.started.map_or(Duration::ZERO, |started| {
            now.saturating_duration_since(started)
        })
    }

    /// Stops the time of the current attempt, which has failed.
    pub(crate) fn stop_time(&mut self, now: Instant) {
        self.upstream_time += self.elapsed(now);
        self.started = None;
    }

    /// Returns the time that was spent waiting for upstreams.
    pub(crate) fn upstream_time(&self, now: Instant) -> Duration {
        self.upstream_time + self.elapsed(now)
    }
}

/// The request, as strategies weigh it.
struct Weighed<'a> {
    request: &'a Request,
    body: &'a Bytes,
    conversation: &'a OnceLock<u64>,
    budgets: &'a Budgets,
}

impl SelectionFacts for Weighed<'_> {
    fn cost(&self, deployment: &Deployment) -> Option<Decimal> {
        let provider = &deployment.provider.id;
        let typical = self.budgets.typical_output(provider, &deployment.model);
        let size = self.request.size(self.body);
        size.cost(
            self.request.snapshot(),
            deployment,
            typical,
            clock::timestamp(),
        )
    }

    fn conversation(&self) -> u64 {
        let key = self.request.key.name.as_str();
        *self.conversation.get_or_init(|| {
            Prompt::read(self.body).map_or_else(
                |_| stable_hash(key.as_bytes()),
                |prompt| prompt.conversation(key),
            )
        })
    }
}
