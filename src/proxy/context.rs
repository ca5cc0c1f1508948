//! The state of one request on its way through the phases. Each field names the phase that sets it;
//! code outside the proxy takes plain values instead.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use llm_router_domain::format::{Endpoint, Format};
use llm_router_domain::key::Key;
use llm_router_wire::answer_model::AnswerModel;

use crate::limits::{Permit, RateLimitStatus};
use crate::proxy::attempt::inference::Inference;
use crate::proxy::attempt::settle::End;
use crate::proxy::downstream::exchange::Exchange;
use crate::proxy::upstream::live::Live;
use crate::telemetry::metrics::InFlight;
use crate::telemetry::traces::Trace;

/// Makes the id of a request whose client gave it none.
pub(crate) fn new_request_id() -> String {
    format!("req_{}", uuid::Uuid::now_v7().simple())
}

/// One request from its first byte to its access line.
#[derive(Default)]
pub(crate) struct Context {
    /// Accept: when the request's head had come.
    pub(crate) arrived: Option<Instant>,
    /// Accept.
    pub(crate) request_id: Arc<str>,
    /// Accept: the configuration that the request began with and keeps.
    pub(crate) live: Option<Arc<Live>>,
    /// Accept.
    pub(crate) exchange: Option<Arc<Exchange>>,
    /// Accept; record ends it.
    pub(crate) in_flight: Option<InFlight>,
    /// Accept: the client's address, by the word of trusted proxies where there are some.
    pub(crate) client: Option<IpAddr>,
    /// Receive: set if the path is one that clients call for models.
    pub(crate) known_path: bool,
    /// Receive: the endpoint of its path.
    pub(crate) endpoint: Option<Endpoint>,
    /// Receive: its trace, until it has a route.
    pub(crate) trace: Option<Box<Trace>>,
    /// Authenticate.
    pub(crate) key: Option<Arc<Key>>,
    /// Authenticate: the store could not be read when the request came.
    pub(crate) store_unavailable: bool,
    /// Admit and reserve: the request's place under the limits; record frees it.
    pub(crate) permit: Option<Permit>,
    /// Admit and reserve: limits were enforced locally because Redis was unavailable.
    pub(crate) degraded: bool,
    /// Admit and reserve: where the limits stand that the client is told of.
    pub(crate) rate_limits: RateLimitStatus,
    /// Route: the rule that decided, also when it decided against the request.
    pub(crate) rule: Option<Arc<str>>,
    /// Route: the model as asked, of a request that was refused a route.
    pub(crate) refused_model: Option<String>,
    /// Route: the request to an upstream, with its attempts.
    pub(crate) inference: Option<Box<Inference>>,
    /// Respond: puts the name that the client asked for into the answer.
    pub(crate) answer_model: Option<AnswerModel>,
    /// Respond: the text of the error that the client was sent, if it is ours and quotes no request.
    pub(crate) error_text: Option<Box<str>>,
    /// Respond, or whoever answers instead.
    pub(crate) answer: ClientAnswer,
    /// Whoever reads from or writes to the client: it went away before the answer was complete.
    pub(crate) client_gone: bool,
}

/// Answer that the client was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ClientAnswer {
    /// The status that it was sent, and the code if the answer was ours.
    pub(crate) status: Option<(u16, Option<&'static str>)>,
    /// The code of the error that ended a stream after it had begun.
    pub(crate) broke_off: Option<&'static str>,
    /// Set if the answer to a failed request was sent whole.
    pub(crate) complete: bool,
    /// Set if the client's connection must be closed after the answer.
    pub(crate) close: bool,
}

impl Context {
    /// Returns the model as asked, once it is known.
    pub(crate) fn model_asked(&self) -> Option<&str> {
        let inference = self.inference.as_deref();
        let asked = inference.map(|inference| inference.request.head.model.as_str());
        asked.or(self.refused_model.as_deref())
    }

    /// Takes the request's trace, wherever it has come to.
    pub(crate) fn take_trace(&mut self) -> Option<Box<Trace>> {
        let inference = self.inference.as_deref_mut();
        let routed = inference.and_then(|inference| inference.attempts.trace.take());
        routed.or_else(|| self.trace.take())
    }

    /// Returns the format that the caller understands; OpenAI's where the path doesn't tell.
    pub(crate) fn format(&self) -> Format {
        self.endpoint.map_or(Format::OpenAiChat, Endpoint::format)
    }

    /// Returns how the request ends with the attempt that it has now.
    pub(crate) fn end(&mut self) -> End {
        let exchange = self.exchange.as_ref();
        let drained = exchange.is_some_and(|exchange| exchange.draining());
        self.client_gone |= drained;
        End {
            client_gone: self.client_gone,
            drained,
            answered: self.answer.status.map_or(0, |(status, _)| status),
        }
    }
}
