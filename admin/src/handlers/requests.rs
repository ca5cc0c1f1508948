//! `/api/v1/requests`: single requests with their routes, attempts, usage and costs. Must never
//! contain a message.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use llm_router_domain::inexact::Reasons;
use llm_router_domain::ledger::{AttemptEnd, Disconnect, LedgerEntry, LedgerSums};
use llm_router_store::ledger::{Page, RequestAttempts, RequestQuery, split_requests};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::backend::AppState;
use crate::caller::{Caller, UsageScope};
use crate::error::{AdminError, ledger_unavailable};
use crate::handlers::bill::{self, AttemptBill, PriceRecord};
use crate::handlers::cost::{exact_number, ledger};
use crate::handlers::refused::{self, RefusedRequest, refused_by};
use crate::page::{ListPage, Parameters, invalid_cursor, limit, number};

/// A request, as the API returns it.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Request)]
pub(crate) struct RequestRecord {
    id: String,
    #[schema(format = DateTime)]
    time: String,
    /// Name of the key; null if the request had none that is known.
    key: Option<String>,
    owner: Option<String>,
    user: Option<String>,
    format: &'static str,
    /// The model asked for; null if the request was refused before it was read.
    model_asked: Option<String>,
    /// Model of the deployment that answered; null if none was called.
    model: Option<String>,
    /// Provider that answered; null if none was called.
    provider: Option<String>,
    rule: Option<String>,
    status: u16,
    /// The part of the router that refused the request before any deployment was called: `key`,
    /// `permission`, `limit`, `budget`, `rule`, `request` or `router`; null if one was called.
    refused_by: Option<&'static str>,
    /// Code and message of a refusal.
    error: Option<RequestError>,
    /// The client's address or network, by `telemetry.client_address`.
    client: Option<String>,
    stream: bool,
    complete: bool,
    usage: TokenUsage,
    /// Cost with its exact decimal digits; null if a part of it has no price.
    #[schema(value_type = Option<f64>)]
    cost_usd: Option<Box<RawValue>>,
    estimated: bool,
    /// Reasons for which the cost isn't exact.
    inexact: Vec<String>,
    /// Price of the last attempt.
    price: Option<PriceRecord>,
    /// Model that served the last attempt, where it isn't the deployment's.
    served_model: Option<String>,
    attempts: Vec<AttemptRecord>,
    /// Milliseconds from arrival to the start of the first attempt.
    router_ms: Option<f64>,
    /// Milliseconds from arrival to end.
    latency_ms: Option<f64>,
    revision: u64,
    explanation: RequestExplanation,
}

/// The error that a refused request was answered with.
#[derive(Serialize, utoipa::ToSchema)]
struct RequestError {
    code: &'static str,
    /// The message, unless it describes the request.
    message: Option<String>,
}

/// The reasons of a routing decision.
#[derive(Serialize, utoipa::ToSchema)]
struct RequestExplanation {
    /// Reason why the rule matched, or why none did.
    why: String,
    /// Deployments of the route, in the order of the configuration; at most 12.
    candidates: Vec<RequestCandidate>,
    /// Deployments that were not tried, and why; at most 12.
    left_out: Vec<RequestLeftOut>,
}

#[derive(Serialize, utoipa::ToSchema)]
struct RequestCandidate {
    provider: String,
    model: String,
    /// True if an attempt was made there.
    tried: bool,
}

#[derive(Serialize, utoipa::ToSchema)]
struct RequestLeftOut {
    provider: String,
    model: String,
    why: String,
}

impl RequestExplanation {
    /// Combines the stored explanation with the attempts.
    fn new(attempts: &[LedgerEntry], last: Option<&LedgerEntry>) -> Self {
        let kept = last.and_then(|last| last.outcome.explanation.as_deref());
        let why = kept.map(|kept| kept.why.to_string());
        let why = why.filter(|why| !why.is_empty());
        let tried = |provider: &str, model: &str| {
            let mut attempts = attempts.iter().map(|entry| &entry.attempt);
            attempts.any(|one| *one.provider == *provider && *one.deployment == *model)
        };
        let listed = kept.map_or(&[][..], |kept| &kept.candidates);
        let mut candidates: Vec<RequestCandidate> = listed
            .iter()
            .map(|id| {
                let (provider, model) = split_id(id);
                let tried = tried(&provider, &model);
                RequestCandidate {
                    provider,
                    model,
                    tried,
                }
            })
            .collect();
        for entry in attempts {
            let (provider, model) = (&*entry.attempt.provider, &*entry.attempt.deployment);
            let listed = |one: &RequestCandidate| one.provider == provider && one.model == model;
            if !candidates.iter().any(listed) {
                let (provider, model) = (provider.to_owned(), model.to_owned());
                candidates.push(RequestCandidate {
                    provider,
                    model,
                    tried: true,
                });
            }
        }
        let left_out = kept.map_or(&[][..], |kept| &kept.left_out);
        let left_out = left_out.iter().filter_map(|(id, why)| {
            let (provider, model) = split_id(id);
            // One that was tried may have been unavailable afterwards, or before.
            let why = why.to_string();
            (!tried(&provider, &model)).then_some(RequestLeftOut {
                provider,
                model,
                why,
            })
        });
        Self {
            why: why.unwrap_or_else(|| "no rule applied".to_owned()),
            candidates,
            left_out: left_out.collect(),
        }
    }
}

/// Splits the id of a deployment into provider and model.
fn split_id(id: &str) -> (String, String) {
    let (provider, model) = id.split_once('/').unwrap_or((id, ""));
    (provider.to_owned(), model.to_owned())
}

#[derive(Default, Serialize, utoipa::ToSchema)]
struct TokenUsage {
    input_tokens: u64,
    cached_input_tokens: u64,
    cache_write_tokens: u64,
    output_tokens: u64,
    reasoning_tokens: u64,
    /// Tokens of all attempts by class.
    #[schema(value_type = BTreeMap<String, u64>)]
    classes: BTreeMap<&'static str, u64>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Attempt)]
struct AttemptRecord {
    provider: String,
    model: String,
    status: u16,
    error: Option<String>,
    /// Handling of the upstream after the client disconnected: `cancel` or `drain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    disconnect: Option<&'static str>,
    connect_ms: Option<f64>,
    first_token_ms: Option<f64>,
    total_ms: Option<f64>,
    #[serde(flatten)]
    bill: AttemptBill,
}

/// Filters of the list, for the description of the API only.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes what `list` reads")]
pub(crate) struct RequestFilter {
    /// Name of the key.
    key: Option<String>,
    /// Owner of the key.
    owner: Option<String>,
    /// End user.
    user: Option<String>,
    /// Provider that answered.
    provider: Option<String>,
    /// Model of the deployment that answered.
    model: Option<String>,
    /// Name of the rule that decided.
    rule: Option<String>,
    /// Status of the answer.
    #[param(minimum = 100, maximum = 599)]
    status: Option<u16>,
    /// Only requests refused by this part of the router before any deployment was called.
    #[param(pattern = "^(key|permission|limit|budget|rule|request|router)$")]
    refused_by: Option<String>,
    /// Start: RFC 3339, or a day (UTC).
    #[param(format = DateTime, example = "2026-11-24T13:00:00Z")]
    from: Option<String>,
    /// End, excluded; of a day, its end.
    #[param(format = DateTime, example = "2099-12-31T00:00:00Z")]
    to: Option<String>,
    /// Minimum cost. Requests without a price are left out.
    #[param(value_type = Option<f64>, minimum = 0)]
    min_cost_usd: Option<f64>,
    /// Minimum latency from arrival to end.
    #[param(value_type = Option<i64>, minimum = 0, maximum = 4_294_967_295_i64)]
    min_latency_ms: Option<u32>,
    /// Maximum number of items; 50 by default.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    #[param(value_type = Option<uuid::Uuid>)]
    cursor: Option<String>,
}

/// List recent requests
///
/// Newest first. Requests that a replica refused before any deployment was called are among them, as far
/// as it remembers them: the latest 1,000 of each `refused_by`, since it started.
#[utoipa::path(get, path = "/api/v1/requests", tag = "requests", params(RequestFilter),
    responses((status = 200, description = "The requests", body = ListPage<RequestRecord>)))]
pub(crate) async fn list(
    State(backend): State<AppState>,
    caller: Caller,
    Query(parameters): Parameters,
) -> Result<Json<ListPage<RequestRecord>>, AdminError> {
    let scope = UsageScope::new(caller);
    let text = |name: &str| parameters.get(name).cloned();
    let query = RequestQuery {
        key: scope.key.clone().or_else(|| text("key")),
        owner: scope.owner.clone().or_else(|| text("owner")),
        end_user: text("user"),
        provider: text("provider"),
        model: text("model"),
        rule: text("rule"),
        status: status(&parameters)?,
        from: parse_time("from", &parameters, Edge::Start)?,
        to: parse_time("to", &parameters, Edge::End)?,
        min_cost: min_cost(&parameters)?,
        min_latency: number("min_latency_ms", &parameters)?
            .map(|millis: u32| Duration::from_millis(millis.into())),
        cursor: cursor(&parameters)?,
        limit: limit(&parameters)?,
    };
    let by = refused_by(&parameters)?;
    let refused = refused::matching(backend.refused_requests(), &query, by, &scope);
    let stored = if by.is_none() {
        let store = ledger(backend.as_ref()).await?;
        store.requests(&query).await.map_err(ledger_unavailable)?
    } else {
        Page {
            items: Vec::new(),
            next: None,
        }
    };
    Ok(Json(merge(stored, &refused, query.limit)))
}

/// Merges requests of the ledger with refused ones into one page, newest first.
fn merge(
    stored: Page<RequestAttempts>,
    refused: &[Arc<RefusedRequest>],
    limit: u32,
) -> ListPage<RequestRecord> {
    let limit = limit as usize;
    let more = stored.next.is_some() || stored.items.len() + refused.len() > limit;
    let stored = stored.items.iter().filter_map(|attempts| {
        let place = attempts.last()?.attempt.id;
        Some((place, to_api(attempts)?))
    });
    let refused = refused.iter().map(|one| (one.place, refused_to_api(one)));
    let mut items: Vec<_> = stored.chain(refused).collect();
    items.sort_by_key(|(place, _)| Reverse(*place));
    items.truncate(limit);
    let last = items.last().filter(|_| more);
    ListPage {
        next_cursor: last.map(|(place, _)| place.to_string()),
        items: items.into_iter().map(|(_, request)| request).collect(),
    }
}

/// Get a request
#[utoipa::path(get, path = "/api/v1/requests/{id}", tag = "requests",
    params(("id" = String, Path, description = "The `x-request-id`")),
    responses((status = 200, description = "The request", body = RequestRecord)))]
pub(crate) async fn get(
    State(backend): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<RequestRecord>, AdminError> {
    let scope = UsageScope::new(caller);
    let store = ledger(backend.as_ref()).await?;
    let entries = store.request(&id).await.map_err(ledger_unavailable)?;
    let mut requests = split_requests(entries);
    requests.retain(|attempts| {
        let visible =
            |entry: &LedgerEntry| scope.includes(&entry.attempt.key, &entry.attempt.owner);
        attempts.iter().all(visible)
    });
    // A client may reuse an id; the latest request wins.
    let request = requests.pop().and_then(|attempts| to_api(&attempts));
    let refused = || {
        let all = backend.refused_requests();
        let mut all = all.iter();
        let found = all.find(|one| one.id == id && refused::visible(one, &scope));
        found.map(|one| refused_to_api(one))
    };
    request
        .or_else(refused)
        .map(Json)
        .ok_or_else(|| AdminError::not_found("No finished request has this id."))
}

/// Converts the attempts of a request; the last one ended it.
fn to_api(attempts: &[LedgerEntry]) -> Option<RequestRecord> {
    let (first, last) = (attempts.first()?, attempts.last()?);
    let mut sums = LedgerSums::default();
    let mut inexact = Reasons::NONE;
    for entry in attempts {
        sums += entry.sums();
        inexact |= entry.outcome.billing.inexact;
    }
    let owner = Some(last.attempt.owner.to_string()).filter(|owner| !owner.is_empty());
    let user = Some(last.user().to_owned()).filter(|user| !user.is_empty());
    Some(RequestRecord {
        id: last.attempt.request_id.to_string(),
        time: first.attempt.at.to_string(),
        key: Some(last.attempt.key.to_string()),
        owner,
        user,
        format: last.attempt.format.name(),
        model_asked: Some(last.attempt.model_asked.to_string()),
        model: Some(last.attempt.deployment.to_string()),
        provider: Some(last.attempt.provider.to_string()),
        rule: last.attempt.rule.as_deref().map(str::to_owned),
        status: last.outcome.status,
        refused_by: None,
        error: None,
        client: None,
        stream: last.attempt.stream,
        complete: last.outcome.ending == AttemptEnd::Complete,
        usage: TokenUsage {
            input_tokens: sums.input_tokens,
            cached_input_tokens: sums.cached_input_tokens,
            cache_write_tokens: sums.cache_write_tokens,
            output_tokens: sums.output_tokens,
            reasoning_tokens: sums.reasoning_tokens,
            classes: bill::classes(attempts),
        },
        cost_usd: (sums.unpriced_requests == 0).then(|| exact_number(sums.cost)),
        estimated: sums.estimated_requests > 0,
        inexact: bill::names(inexact),
        price: last.outcome.billing.price.as_ref().map(PriceRecord::from),
        served_model: last
            .outcome
            .billing
            .served_model
            .as_deref()
            .map(str::to_owned),
        attempts: attempts.iter().map(attempt).collect(),
        router_ms: milliseconds(first.outcome.timings.queue),
        latency_ms: latency(last),
        revision: last.attempt.revision,
        explanation: RequestExplanation::new(attempts, Some(last)),
    })
}

fn refused_to_api(refused: &RefusedRequest) -> RequestRecord {
    RequestRecord {
        id: refused.id.clone(),
        time: refused.time.to_string(),
        key: refused.key.clone(),
        owner: refused.owner.clone(),
        user: refused.owner.clone(),
        format: refused.format,
        model_asked: refused.model_asked.clone(),
        model: None,
        provider: None,
        rule: refused.rule.clone(),
        status: refused.status,
        refused_by: Some(refused.refused_by.name()),
        error: Some(RequestError {
            code: refused.code,
            message: refused.message.clone(),
        }),
        client: refused.client.clone(),
        stream: refused.stream,
        complete: false,
        usage: TokenUsage::default(),
        cost_usd: Some(exact_number(Decimal::ZERO)),
        estimated: false,
        inexact: Vec::new(),
        price: None,
        served_model: None,
        attempts: Vec::new(),
        router_ms: Some(refused.latency_ms),
        latency_ms: Some(refused.latency_ms),
        revision: refused.revision,
        explanation: RequestExplanation::new(&[], None),
    }
}

fn attempt(entry: &LedgerEntry) -> AttemptRecord {
    let timings = &entry.outcome.timings;
    AttemptRecord {
        provider: entry.attempt.provider.to_string(),
        model: entry.attempt.deployment.to_string(),
        status: entry.outcome.status,
        error: entry.outcome.error.as_deref().map(str::to_owned),
        disconnect: entry.outcome.disconnect.map(Disconnect::name),
        connect_ms: milliseconds(timings.connect),
        first_token_ms: milliseconds(timings.first_token),
        total_ms: milliseconds(timings.total),
        bill: AttemptBill::from(entry),
    }
}

/// Adds the time before the last attempt and that of the attempt.
fn latency(last: &LedgerEntry) -> Option<f64> {
    let timings = &last.outcome.timings;
    milliseconds(timings.queue?.checked_add(timings.total?))
}

fn milliseconds(micros: Option<u32>) -> Option<f64> {
    micros.map(|micros| f64::from(micros) / 1e3)
}

fn status(parameters: &HashMap<String, String>) -> Result<Option<u16>, AdminError> {
    let status = number("status", parameters)?;
    if status.is_some_and(|status| !(100..600).contains(&status)) {
        return Err(AdminError::invalid(
            "status",
            "status must be from 100 to 599.",
        ));
    }
    Ok(status)
}

/// An end of a day.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    Start,
    End,
}

/// Reads a time, or a day as its start or end.
fn parse_time(
    name: &'static str,
    parameters: &HashMap<String, String>,
    edge: Edge,
) -> Result<Option<Timestamp>, AdminError> {
    let parse = |text: &String| {
        // A `+` in a query stands for a space.
        let text = text.replace(' ', "+");
        let day = || {
            let day: Date = text.parse().ok()?;
            let day = match edge {
                Edge::Start => day,
                Edge::End => day.tomorrow().ok()?,
            };
            Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp())
        };
        let time = text.parse().ok().or_else(day);
        let message = format!("{name} must be a time such as 2026-11-24T13:00:00Z, or a day.");
        time.ok_or_else(|| AdminError::invalid(name, message))
    };
    parameters.get(name).map(parse).transpose()
}

/// Parses a number that is too small or too large for exact digits, as zero or as the largest
/// amount.
fn parse_extreme(text: &str) -> Option<Decimal> {
    let usd: f64 = text.parse().ok()?;
    let finite = usd.is_finite() && usd >= 0.0;
    finite.then_some(if usd < 1.0 {
        Decimal::ZERO
    } else {
        Decimal::MAX
    })
}

fn min_cost(parameters: &HashMap<String, String>) -> Result<Option<Decimal>, AdminError> {
    const NAME: &str = "min_cost_usd";
    let parse = |text: &String| {
        let exact = Decimal::from_str_exact(text).or_else(|_| Decimal::from_scientific(text));
        let positive = exact.ok().or_else(|| parse_extreme(text));
        let positive = positive.filter(|usd| !usd.is_sign_negative());
        positive
            .ok_or_else(|| AdminError::invalid(NAME, format!("{NAME} must be an amount of USD.")))
    };
    parameters.get(NAME).map(parse).transpose()
}

fn cursor(parameters: &HashMap<String, String>) -> Result<Option<uuid::Uuid>, AdminError> {
    let parse = |text: &String| text.parse().map_err(|_| invalid_cursor());
    parameters.get("cursor").map(parse).transpose()
}
