//! The one estimate of what a request will use and cost, for balancing, budgets, limits and
//! explanations. It sends nothing and remembers nothing.

use bytes::Bytes;
use jiff::Timestamp;
use llm_router_domain::format::{ChatDialect, Endpoint};
use llm_router_domain::ledger::day;
use llm_router_domain::price::{Cost, Price, PricePeriod};
use llm_router_domain::usage::{Class, ServiceTier, Usage, estimate_tokens};
use llm_router_prices::ModelFacts;
use llm_router_wire::bounds::{BoundError, CacheWrite, RequestBounds, Unbounded};
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

    /// Returns the most that the request can cost at a deployment, for a budget to reserve. `input`
    /// is the most input tokens that its body makes, by this provider's counts.
    ///
    /// # Errors
    /// [`MissingBound`] if nothing bounds it.
    pub(crate) fn bound(
        &self,
        snapshot: &Snapshot,
        deployment: &Deployment,
        input: u64,
        at: Timestamp,
    ) -> Result<Cost, MissingBound> {
        if self.endpoint == Endpoint::CountTokens {
            return Ok(Cost::Usd(Decimal::ZERO));
        }
        let provider = &deployment.provider;
        let (id, kind) = (provider.id.as_str(), provider.kind.price_type());
        let Some(price) = snapshot.prices.find(id, kind, &deployment.model) else {
            return Ok(Cost::Unpriced);
        };
        let facts = snapshot.model_facts(id, kind, &deployment.model);
        let bounds = RequestBounds::read(self.body, self.endpoint)?;
        if let Some(unbounded) = bounds.unbounded {
            return Err(MissingBound::of_tool(&unbounded));
        }
        let input = whole_input(input, &bounds, facts)?;
        let output = match self.endpoint {
            Endpoint::Embeddings => 0,
            endpoint => {
                let known = snapshot.max_output(provider, &deployment.model);
                most_output(endpoint, &bounds, known)?
            }
        };
        Ok(dearest(price, &bounds, input, output, at))
    }

    /// Returns the ceiling to set in the request of a key with a budget, with the name of its field,
    /// if the request has none: the largest of what the models can write. `None` where the request
    /// has one, or where no model's is known.
    pub(crate) fn missing_ceiling<'d>(
        &self,
        snapshot: &Snapshot,
        deployments: impl Iterator<Item = &'d Deployment>,
    ) -> Option<(&'static str, u64)> {
        let field = match self.endpoint {
            Endpoint::ChatCompletions | Endpoint::Completions => "max_tokens",
            Endpoint::Responses => "max_output_tokens",
            Endpoint::Messages | Endpoint::CountTokens | Endpoint::Embeddings => return None,
        };
        let bounds = RequestBounds::read(self.body, self.endpoint).ok()?;
        if bounds.output.is_some() {
            return None;
        }
        let mut known = deployments.filter_map(|deployment| {
            let provider = &deployment.provider;
            let most = snapshot.max_output(provider, &deployment.model)?;
            // OpenAI's models that reason refuse the older name.
            let chat = self.endpoint == Endpoint::ChatCompletions;
            let field = match provider.kind.quirks().chat_dialect {
                ChatDialect::OpenAi if chat => "max_completion_tokens",
                ChatDialect::OpenAi | ChatDialect::Compatible => field,
            };
            Some((field, most))
        });
        let (field, first) = known.next()?;
        Some((field, known.map(|(_, most)| most).fold(first, u64::max)))
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

/// Field that a request must set, or leave out, before its cost has a bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MissingBound {
    pub(crate) field: String,
    /// The problem and the remedy, as sentences.
    pub(crate) message: String,
}

impl MissingBound {
    fn of_tool(unbounded: &Unbounded) -> Self {
        let Unbounded { field, reason } = unbounded;
        // A field inside a tool limits it; the tool alone can't be limited.
        let remedy = match field.ends_with(']') {
            true => "leave it out".to_owned(),
            false => format!("set \"{field}\""),
        };
        Self {
            field: field.clone(),
            message: format!(
                "This key has a budget, and a tool that the provider runs {reason}: {remedy}."
            ),
        }
    }
}

impl From<BoundError> for MissingBound {
    fn from(error: BoundError) -> Self {
        Self {
            message: format!("This key has a budget. {error}"),
            field: error.field,
        }
    }
}

/// Input tokens that one use of a tool that the provider runs adds: results of a search come back
/// as input. Pages of results have at most this length by what providers document.
const ROUND_TOKENS: u64 = 20_000;

/// Returns the most input tokens, with what the provider adds to the body.
fn whole_input(
    input: u64,
    bounds: &RequestBounds,
    facts: Option<&ModelFacts>,
) -> Result<u64, MissingBound> {
    let rounds = u64::from(bounds.rounds).saturating_mul(ROUND_TOKENS);
    let input = input.saturating_add(rounds);
    let Some(field) = bounds.stored_input else {
        return Ok(input);
    };
    // Content that the provider holds can fill the model's context, and no more.
    let longest = facts.and_then(|facts| facts.max_input.or(facts.context));
    longest
        .map(|longest| longest.max(input))
        .ok_or_else(|| MissingBound {
            field: field.to_owned(),
            message: format!(
                "This key has a budget, and nothing bounds what \"{field}\" brings in: the model's \
             context length isn't known. Send the content in the request."
            ),
        })
}

/// Returns the most output tokens of all answers together.
fn most_output(
    endpoint: Endpoint,
    bounds: &RequestBounds,
    known: Option<u64>,
) -> Result<u64, MissingBound> {
    let one = match (bounds.output, known) {
        (Some(asked), Some(known)) => asked.min(known),
        (Some(most), None) | (None, Some(most)) => most,
        (None, None) => {
            let field = match endpoint {
                Endpoint::Responses => "max_output_tokens",
                _ => "max_tokens",
            };
            return Err(MissingBound {
                field: field.to_owned(),
                message: format!(
                    "This key has a budget, and nothing bounds this answer's length: set \"{field}\"."
                ),
            });
        }
    };
    // Of a prediction each byte may be a token that wasn't used.
    let one = one.saturating_add(bounds.prediction);
    Ok(one.saturating_mul(bounds.answers.max(1)))
}

/// Returns the cost of the dearest way in which a provider may count the tokens.
fn dearest(price: &Price, bounds: &RequestBounds, input: u64, output: u64, at: Timestamp) -> Cost {
    let written = match bounds.cache_write {
        CacheWrite::Unasked => &[Class::CacheWrite30m][..],
        CacheWrite::Usual => &[Class::CacheWrite5m, Class::CacheWrite30m],
        CacheWrite::OneHour => &[
            Class::CacheWrite5m,
            Class::CacheWrite1h,
            Class::CacheWrite30m,
        ],
        CacheWrite::Extended => &[
            Class::CacheWrite1h,
            Class::CacheWrite30m,
            Class::CacheWrite12h,
        ],
    };
    let heard = bounds.audio_input.then_some(Class::AudioInput);
    let inputs = [Class::Input, Class::ImageInput].into_iter();
    let inputs = inputs.chain(written.iter().copied()).chain(heard);
    let outputs = [
        Some(Class::Output),
        bounds.audio_output.then_some(Class::AudioOutput),
    ];
    let mut usage = Usage::default();
    usage.inference_geo = bounds.inference_geo;
    usage.speed = bounds.speed;
    usage.search_context = bounds.search_context;
    for (fee, uses) in &bounds.uses {
        usage.set_uses(*fee, u64::from(*uses));
    }
    let mut most: Option<Decimal> = None;
    for input_class in inputs {
        for output_class in outputs.into_iter().flatten() {
            let usage = usage.with(input_class, input).with(output_class, output);
            most = most.max(cost_at_most(price, bounds, usage, at));
        }
    }
    most.map_or(Cost::Unpriced, Cost::Usd)
}

/// Returns the most that a usage costs in the tiers that the request can end in, thinking or not.
fn cost_at_most(
    price: &Price,
    bounds: &RequestBounds,
    usage: Usage,
    at: Timestamp,
) -> Option<Decimal> {
    let by_the_hour = price.on(day(at)).is_some_and(PricePeriod::has_hours);
    if bounds.any_tier() || by_the_hour {
        return price.bound(&usage, at).usd();
    }
    let tiers = [ServiceTier::STANDARD, bounds.tier()];
    let modes = [false, true];
    let all = tiers
        .into_iter()
        .flat_map(|tier| modes.map(|mode| (tier, mode)));
    let costs = all.filter_map(|(tier, thinking)| {
        let mut usage = usage;
        usage.service_tier = tier;
        usage.thinking = thinking;
        price.cost(&usage, at).usd()
    });
    costs.max()
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
