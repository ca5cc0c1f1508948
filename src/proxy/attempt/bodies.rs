//! The request's body, and what was made of it for candidates so far. Making it is
//! [`translation`](crate::proxy::attempt::translation)'s.

use std::sync::Arc;

use bytes::Bytes;
use llm_router_domain::format::{Endpoint, Format};
use llm_router_wire::request::RequestHead;
use llm_router_wire::translate::{ChatDialect, Compat, TranslatedRequest};
use llm_router_wire::usage::{Splice, UsageLayout};

/// The request's body, and what was made of it for candidates so far: the latest of each kind.
pub(crate) struct Bodies {
    /// The body that the client sent, with the parameters that a rule set; empty once nothing is
    /// sent any more.
    client: Bytes,
    forgotten: bool,
    /// Set if the current candidate is asked for a usage chunk that the client didn't ask for.
    pub(super) asks_usage: bool,
    pub(super) translated: Option<Translated>,
    pub(super) cleaned: Option<Cleaned>,
}

impl Bodies {
    /// Begins with the client's body, of which nothing was made yet.
    pub(crate) const fn new(client: Bytes) -> Self {
        Self {
            client,
            forgotten: false,
            asks_usage: true,
            translated: None,
            cleaned: None,
        }
    }

    /// Returns the body that the client sent.
    pub(crate) const fn client(&self) -> &Bytes {
        &self.client
    }

    /// Returns whether nothing can be sent again.
    pub(crate) const fn is_forgotten(&self) -> bool {
        self.forgotten
    }

    /// Lets go of all bytes: nothing will be sent again.
    pub(crate) fn forget(&mut self) {
        self.forgotten = true;
        self.client = Bytes::new();
        self.cleaned = None;
        if let Some(translated) = &mut self.translated {
            translated.request.body = Bytes::new();
        }
    }
}

/// Returns the change that makes a stream report its usage, if it doesn't by itself.
pub(crate) fn usage_option(head: &RequestHead, body: &[u8], endpoint: Endpoint) -> Option<Splice> {
    let layout = UsageLayout::for_endpoint(endpoint.format(), endpoint);
    if head.stream && layout.has_usage_option() {
        head.ask_for_usage(body)
    } else {
        None
    }
}

/// The request in another format.
pub(super) struct Translated {
    pub(super) target: Target,
    pub(super) request: TranslatedRequest,
}

/// Facts that decide how a request is translated.
#[derive(PartialEq, Eq)]
pub(super) struct Target {
    pub(super) format: Format,
    pub(super) model: Arc<str>,
    pub(super) compat: Compat,
    pub(super) dialect: ChatDialect,
    pub(super) usage_chunk: bool,
    /// The most tokens of output that the model gives, where that is known.
    pub(super) max_output: Option<u64>,
}

/// Facts that decide what of a request in the client's format a provider would refuse.
#[derive(PartialEq, Eq)]
pub(super) struct CleanTarget {
    pub(super) dialect: ChatDialect,
    pub(super) compat: Compat,
    /// The most tokens of output that the model gives, where that is known.
    pub(super) max_output: Option<u64>,
}

/// The request in the client's format, without thoughts and ceilings that the provider would
/// refuse.
pub(super) struct Cleaned {
    pub(super) target: CleanTarget,
    /// None where there was nothing to change.
    pub(super) request: Option<(RequestHead, Bytes, Option<Splice>)>,
    /// Fields that were taken out or lowered, as the client spells them.
    pub(super) dropped: Vec<String>,
}
