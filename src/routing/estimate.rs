//! The one estimate of what a request will use and cost, for balancing, budgets, limits and
//! explanations. It sends nothing and remembers nothing.

use bytes::Bytes;
use jiff::Timestamp;
use llm_router_domain::format::Endpoint;
use llm_router_domain::usage::{Class, Usage, estimate_tokens};
use llm_router_wire::parameters;
use llm_router_wire::prompt;
use llm_router_wire::request::{HeadError, RequestHead};
use llm_router_wire::scan::Field;
use rust_decimal::Decimal;
use serde_json::Value;

use crate::snapshot::{Deployment, Snapshot};

/// A body below this has no image worth looking for, in bytes.
const SMALLEST_WITH_IMAGE: usize = 4 * 1024;

/// The parts of a request that decide how much it uses.
#[derive(Clone, Copy)]
pub(crate) struct RequestSize<'a> {
    pub(crate) endpoint: Endpoint,
    pub(crate) head: &'a RequestHead,
    /// The body with the parameters that a rule set.
    pub(crate) body: &'a [u8],
    /// Length of the body as the client sent it.
    pub(crate) body_bytes: usize,
}

impl RequestSize<'_> {
    /// Returns what an attempt is expected to use. It is what a budget reserves, and billed only if
    /// the process dies before the attempt ends. Where a budget pays, the input is the `bound`
    /// given; else it follows from the body's length without the images in it. The output is what
    /// the client allows, else `typical_output`.
    pub(crate) fn usage(&self, bound: Option<u64>, typical_output: u64) -> Usage {
        if self.endpoint == Endpoint::CountTokens {
            return Usage::default();
        }
        let input = bound.unwrap_or_else(|| self.input());
        let output = match self.endpoint {
            Endpoint::Embeddings => 0,
            _ => self.output(typical_output),
        };
        Usage::default()
            .with(Class::Input, input)
            .with(Class::Output, output)
    }

    /// Returns what a deployment is expected to charge, in USD; `None` where it has no price.
    pub(crate) fn cost(
        &self,
        snapshot: &Snapshot,
        deployment: &Deployment,
        typical_output: u64,
        now: Timestamp,
    ) -> Option<Decimal> {
        let provider = &deployment.provider;
        let prices = &snapshot.prices;
        let price = prices.find(&provider.id, provider.kind.price_type(), &deployment.model)?;
        let usage = self.usage(None, typical_output);
        price.cost(&usage, now).usd()
    }

    /// Returns the input tokens that the provider can count at most.
    pub(crate) fn input_at_most(&self, deployment: &Deployment) -> u64 {
        let anthropic = self.endpoint.format() == Endpoint::Messages.format();
        let image = prompt::image_tokens(anthropic, &deployment.model);
        let numbers = matches!(self.endpoint, Endpoint::Completions | Endpoint::Embeddings);
        prompt::input_at_most(self.body, image, numbers)
    }

    /// Returns the output tokens that the client allows for one answer, if it says.
    pub(crate) fn output_limit(&self) -> Option<u64> {
        let limits = [
            Field::MaxCompletionTokens,
            Field::MaxTokens,
            Field::MaxOutputTokens,
        ];
        limits.into_iter().find_map(|field| self.number(field))
    }

    /// Returns the input tokens that the body's length amounts to.
    fn input(&self) -> u64 {
        let embedded = if self.body_bytes < SMALLEST_WITH_IMAGE {
            prompt::Embedded::default()
        } else {
            prompt::find_embedded(self.body)
        };
        let text = self.body_bytes.saturating_sub(embedded.bytes);
        estimate_tokens(text as u64, 1) + embedded.images * prompt::IMAGE_TOKENS
    }

    /// Returns the output tokens that the client allows, else what is typical, for every answer
    /// that it asks for.
    fn output(&self, typical: u64) -> u64 {
        let output = self.output_limit().unwrap_or(typical);
        output.saturating_mul(self.number(Field::N).unwrap_or(1).max(1))
    }

    fn number(&self, field: Field) -> Option<u64> {
        let value = self.head.scan.value(self.body, field)?;
        std::str::from_utf8(value).ok()?.parse().ok()
    }
}

/// Sets the parameters of a rule in a body. Whatever reads the body from here on, to estimate, to
/// translate or to send it, sees them.
///
/// # Errors
/// When the body with the parameters can't be read.
pub(crate) fn with_parameters(
    body: Bytes,
    head: RequestHead,
    endpoint: Endpoint,
    set: &[(String, Value)],
) -> Result<(Bytes, RequestHead), HeadError> {
    let changed = if set.is_empty() {
        None
    } else {
        parameters::set(&body, endpoint, set)
    };
    match changed {
        None => Ok((body, head)),
        Some(body) => RequestHead::read(&body).map(|head| (body, head)),
    }
}
