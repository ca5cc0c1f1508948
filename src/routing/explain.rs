//! Explains a routing decision: the code that routes, with its reasons written down. Nothing is
//! sent, counted or remembered.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use http::HeaderMap;
use jiff::Timestamp;
use llm_router_domain::complexity::Score;
use llm_router_domain::format::{Endpoint, Format};
use llm_router_domain::key::Key;
use llm_router_domain::ledger;
use llm_router_domain::price::Rates;
use llm_router_domain::rule::{RuleDecision, RuleTrace};
use llm_router_domain::usage::Class;
use llm_router_wire::json;
use llm_router_wire::request::RequestHead;
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::clock;
use crate::error::ApiError;
use crate::routing::balance;
use crate::routing::estimate::{RequestSize, with_parameters};
use crate::routing::{self, Request, RouteRequest, SCORER};
use crate::snapshot::{Deployment, Snapshot};

/// A request whose route is to be explained.
pub(crate) struct ExplainRequest<'a> {
    pub(crate) snapshot: &'a Snapshot,
    /// State of the toggle: rules apply if set.
    pub(crate) enabled: bool,
    pub(crate) key: &'a Key,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    /// The body's format; guessed from the body where it isn't said.
    pub(crate) format: Option<Format>,
    pub(crate) now: SystemTime,
    /// Random number for splits that aren't sticky.
    pub(crate) random: u64,
    /// Output tokens that are typical of a provider's model, for a request that sets no limit.
    pub(crate) typical_output: &'a dyn Fn(&str, &str) -> u64,
    /// Set if the JSON is indented for people.
    pub(crate) pretty: bool,
}

/// The explanation, as JSON.
///
/// # Errors
/// 400 for a body that no endpoint would take.
pub(crate) fn explain(question: &ExplainRequest<'_>) -> Result<String, ApiError> {
    let head = RequestHead::read(question.body).map_err(ApiError::invalid_body)?;
    let asking = RouteRequest {
        snapshot: question.snapshot,
        enabled: question.enabled,
        key: question.key,
        endpoint: endpoint(question.format, question.body),
        model: &head.model,
        headers: question.headers,
        body: question.body,
        now: question.now,
        random: question.random,
    };
    let request = Request::new(asking);
    let (decision, rules) = match routing::bypass(&asking) {
        None => question.snapshot.rules.explain(&request),
        Some(why) => (
            RuleDecision::default(),
            question.snapshot.rules.trace_untried(why),
        ),
    };
    let plan = routing::plan(&asking, &decision);
    let body = Bytes::copy_from_slice(question.body);
    let (body, head) = with_parameters(body, head.clone(), asking.endpoint, decision.set)
        .map_err(ApiError::invalid_body)?;
    let weighed = Weighed {
        request: &request,
        size: RequestSize {
            endpoint: asking.endpoint,
            head: &head,
            body: &body,
            body_bytes: question.body.len(),
        },
        typical_output: question.typical_output,
    };
    let (candidates, resting) = plan.course.rank(&weighed, clock::now());
    let explanation = Explanation {
        model_asked: asking.model,
        enabled: question.enabled,
        rule: decision.rule.map(|rule| Named { name: rule.name }),
        rules,
        complexity: SCORER.explain(&request.prompt().complexity()),
        model: plan.model.as_ref().map(|model| model.name.as_str()),
        set: decision
            .set
            .iter()
            .map(|(name, value)| (name.as_str(), value))
            .collect(),
        candidates: candidates
            .iter()
            .map(|found| Candidate::of(&asking, found))
            .collect(),
        left_out: plan
            .left_out
            .iter()
            .map(|(found, why)| LeftOut::of(found, why))
            .chain(resting.iter().map(|(found, why)| LeftOut::of(found, why)))
            .collect(),
        refused: plan.refused.as_ref().map(Refusal::of),
    };
    let write = if question.pretty {
        serde_json::to_string_pretty
    } else {
        serde_json::to_string
    };
    write(&explanation).map_err(|_| ApiError::internal())
}

/// The request as strategies weigh it.
struct Weighed<'a> {
    request: &'a Request<'a>,
    size: RequestSize<'a>,
    typical_output: &'a dyn Fn(&str, &str) -> u64,
}

impl balance::SelectionFacts for Weighed<'_> {
    fn cost(&self, deployment: &Deployment) -> Option<Decimal> {
        let asking = self.request.asking();
        let now = Timestamp::try_from(asking.now).unwrap_or_default();
        let typical = (self.typical_output)(&deployment.provider.id, &deployment.model);
        self.size.cost(asking.snapshot, deployment, typical, now)
    }

    fn conversation(&self) -> u64 {
        let key = &self.request.asking().key.name;
        self.request.prompt().conversation(key)
    }
}

#[derive(Serialize)]
struct Explanation<'a> {
    model_asked: &'a str,
    enabled: bool,
    /// The rule that decided.
    rule: Option<Named<'a>>,
    rules: Vec<RuleTrace>,
    complexity: Score,
    /// The public name it goes by, if it is one.
    model: Option<&'a str>,
    /// Parameters that the rule sets in the body.
    set: BTreeMap<&'a str, &'a Value>,
    candidates: Vec<Candidate<'a>>,
    left_out: Vec<LeftOut<'a>>,
    /// The error that the client would be answered.
    refused: Option<Refusal<'a>>,
}

#[derive(Serialize)]
struct Named<'a> {
    name: &'a str,
}

#[derive(Serialize)]
struct Candidate<'a> {
    provider: &'a str,
    model: &'a str,
    /// USD for a million tokens, by class.
    price: Option<BTreeMap<&'static str, Box<RawValue>>>,
}

#[derive(Serialize)]
struct LeftOut<'a> {
    provider: &'a str,
    model: &'a str,
    why: &'a str,
}

#[derive(Serialize)]
struct Refusal<'a> {
    status: u16,
    code: &'static str,
    message: &'a str,
}

impl<'a> Candidate<'a> {
    fn of(asking: &RouteRequest<'_>, found: &'a Deployment) -> Self {
        let provider = &found.provider;
        let prices = &asking.snapshot.prices;
        let price = prices.find(&provider.id, provider.kind.price_type(), &found.model);
        let now = Timestamp::try_from(asking.now).unwrap_or_default();
        let period = price.and_then(|price| price.on(ledger::day(now)));
        Self {
            provider: &provider.id,
            model: &found.model,
            price: period.map(|period| figures(period.list())),
        }
    }
}

/// Prices as JSON numbers with their exact digits.
fn figures(rates: &Rates) -> BTreeMap<&'static str, Box<RawValue>> {
    let own = |class: Class| {
        let usd = rates.own(class)?.usd().normalize().to_string();
        Some((class.name(), RawValue::from_string(usd).ok()?))
    };
    Class::ALL.into_iter().filter_map(own).collect()
}

impl<'a> LeftOut<'a> {
    fn of(found: &'a Deployment, why: &'a str) -> Self {
        Self {
            provider: &found.provider.id,
            model: &found.model,
            why,
        }
    }
}

impl<'a> Refusal<'a> {
    fn of(fault: &'a ApiError) -> Self {
        Self {
            status: fault.status,
            code: fault.code,
            message: &fault.message,
        }
    }
}

/// The endpoint that a body is meant for.
fn endpoint(format: Option<Format>, body: &[u8]) -> Endpoint {
    let has = |name: &str| json::member(body, name.as_bytes()).is_some();
    let any = |names: &[&str]| names.iter().any(|name| has(name));
    match format {
        Some(format) if format != Format::OpenAiChat => {
            let mut endpoints = Endpoint::ALL.into_iter();
            let first = endpoints.find(|endpoint| endpoint.format() == format);
            first.unwrap_or(Endpoint::ChatCompletions)
        }
        None if has("messages") && any(&["system", "stop_sequences", "thinking", "top_k"]) => {
            Endpoint::Messages
        }
        _ if has("messages") => Endpoint::ChatCompletions,
        _ if has("prompt") => Endpoint::Completions,
        Some(_) if has("input") => Endpoint::Embeddings,
        None if any(&["encoding_format", "dimensions"]) => Endpoint::Embeddings,
        None if has("input") => Endpoint::Responses,
        _ => Endpoint::ChatCompletions,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_guessed_from_bodies() {
        let (openai, responses) = (Some(Format::OpenAiChat), Some(Format::OpenAiResponses));
        for (format, body, expected) in [
            (None, r#"{"messages":[]}"#, Endpoint::ChatCompletions),
            (None, r#"{"messages":[],"system":"s"}"#, Endpoint::Messages),
            (
                openai,
                r#"{"messages":[],"system":"s"}"#,
                Endpoint::ChatCompletions,
            ),
            (None, r#"{"prompt":"p"}"#, Endpoint::Completions),
            (None, r#"{"input":"i"}"#, Endpoint::Responses),
            (
                None,
                r#"{"input":"i","dimensions":3}"#,
                Endpoint::Embeddings,
            ),
            (openai, r#"{"input":"i"}"#, Endpoint::Embeddings),
            (responses, r#"{"messages":[]}"#, Endpoint::Responses),
            (Some(Format::AnthropicMessages), "{}", Endpoint::Messages),
            (None, "{}", Endpoint::ChatCompletions),
        ] {
            assert_eq!(endpoint(format, body.as_bytes()), expected, "{body}");
        }
    }
}
