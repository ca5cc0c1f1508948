//! `/api/v1/requests`: what became of single requests. Never what was said in them.

use std::collections::HashMap;
use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Query, State};
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use llm_router_domain::ledger::{AttemptEnd, Disconnect, LedgerEntry, LedgerSums};
use llm_router_store::ledger::{RequestQuery, split_requests};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::Shared;
use crate::access::{Caller, Problem, Scope};
use crate::cost::{exact, ledger, unavailable};
use crate::page::{Page, Parameters, limit, number};

/// One request, as `GET /api/v1/requests/{id}` shows it.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Request {
    id: String,
    #[schema(format = DateTime)]
    time: String,
    key: String,
    owner: Option<String>,
    user: Option<String>,
    format: &'static str,
    model_asked: String,
    /// The deployment's model that answered.
    model: String,
    provider: String,
    rule: Option<String>,
    status: u16,
    stream: bool,
    complete: bool,
    usage: Tokens,
    /// With its exact decimal digits; null if something of it has no price.
    #[schema(value_type = Option<f64>)]
    cost_usd: Option<Box<RawValue>>,
    estimated: bool,
    attempts: Vec<Attempt>,
    /// Until the first attempt went upstream.
    router_ms: Option<f64>,
    /// From its arrival to its end.
    latency_ms: Option<f64>,
    revision: u64,
    explanation: Why,
}

/// Why a request went where it went.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = RequestExplanation)]
struct Why {
    /// What made the rule match, or why none decided.
    why: String,
    /// The deployments of its route, in the order of the configuration; at most 12.
    candidates: Vec<Candidate>,
    /// Those that could not be asked, or were not when it was routed; at most 12.
    left_out: Vec<LeftOut>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = RequestCandidate)]
struct Candidate {
    provider: String,
    model: String,
    /// Whether an attempt was made there.
    tried: bool,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = RequestLeftOut)]
struct LeftOut {
    provider: String,
    model: String,
    why: String,
}

impl Why {
    /// What was kept, and what the attempts tell themselves.
    fn of(attempts: &[LedgerEntry], last: &LedgerEntry) -> Self {
        let kept = last.outcome.explanation.as_deref();
        let why = kept.map(|kept| kept.why.to_string());
        let why = why.filter(|why| !why.is_empty());
        let tried = |provider: &str, model: &str| {
            let mut attempts = attempts.iter().map(|entry| &entry.attempt);
            attempts.any(|one| *one.provider == *provider && *one.deployment == *model)
        };
        let listed = kept.map_or(&[][..], |kept| &kept.candidates);
        let mut candidates: Vec<Candidate> = listed
            .iter()
            .map(|id| {
                let (provider, model) = parts(id);
                let tried = tried(&provider, &model);
                Candidate {
                    provider,
                    model,
                    tried,
                }
            })
            .collect();
        for entry in attempts {
            let (provider, model) = (&*entry.attempt.provider, &*entry.attempt.deployment);
            let listed = |one: &Candidate| one.provider == provider && one.model == model;
            if !candidates.iter().any(listed) {
                let (provider, model) = (provider.to_owned(), model.to_owned());
                candidates.push(Candidate {
                    provider,
                    model,
                    tried: true,
                });
            }
        }
        let left_out = kept.map_or(&[][..], |kept| &kept.left_out);
        let left_out = left_out.iter().map(|(id, why)| {
            let (provider, model) = parts(id);
            let why = why.to_string();
            LeftOut {
                provider,
                model,
                why,
            }
        });
        Self {
            why: why.unwrap_or_else(|| "no rule decided".to_owned()),
            candidates,
            left_out: left_out.collect(),
        }
    }
}

/// Provider and model of a deployment.
fn parts(id: &str) -> (String, String) {
    let (provider, model) = id.split_once('/').unwrap_or((id, ""));
    (provider.to_owned(), model.to_owned())
}

#[derive(Serialize, utoipa::ToSchema)]
struct Tokens {
    input_tokens: u64,
    cached_input_tokens: u64,
    cache_write_tokens: u64,
    output_tokens: u64,
    reasoning_tokens: u64,
}

#[derive(Serialize, utoipa::ToSchema)]
struct Attempt {
    provider: String,
    model: String,
    status: u16,
    error: Option<String>,
    /// What was done upstream when the client had gone: `cancel` or `drain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    disconnect: Option<&'static str>,
    connect_ms: Option<f64>,
    first_token_ms: Option<f64>,
    total_ms: Option<f64>,
}

/// Which requests.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes what `list` reads")]
pub(crate) struct Filter {
    /// Of a key, by its name.
    key: Option<String>,
    /// Of an owner.
    owner: Option<String>,
    /// Of an end user.
    user: Option<String>,
    /// Answered by a provider.
    provider: Option<String>,
    /// Answered by a deployment's model.
    model: Option<String>,
    /// Decided on by a rule, by its name.
    rule: Option<String>,
    /// Answered with a status.
    #[param(minimum = 100, maximum = 599)]
    status: Option<u16>,
    /// From this moment on: RFC 3339, or a day (UTC).
    #[param(format = DateTime, example = "2026-11-24T13:00:00Z")]
    from: Option<String>,
    /// Before this moment; a day is included whole.
    #[param(format = DateTime, example = "2099-12-31T00:00:00Z")]
    to: Option<String>,
    /// That cost at least this. What has no price is not among them.
    #[param(value_type = Option<f64>, minimum = 0)]
    min_cost_usd: Option<f64>,
    /// That took at least this, from arrival to end.
    #[param(value_type = Option<i64>, minimum = 0, maximum = 4_294_967_295_i64)]
    min_latency_ms: Option<u32>,
    /// How many items at most; 50 if not given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// The `next_cursor` of the page before.
    #[param(value_type = Option<uuid::Uuid>)]
    cursor: Option<String>,
}

/// What became of recent requests, the newest first
#[utoipa::path(get, path = "/api/v1/requests", tag = "requests", params(Filter),
    responses((status = 200, description = "The requests", body = Page<Request>)))]
pub(crate) async fn list(
    State(source): State<Shared>,
    caller: Caller,
    Query(parameters): Parameters,
) -> Result<Json<Page<Request>>, Problem> {
    let scope = Scope::of(caller);
    let text = |name: &str| parameters.get(name).cloned();
    let query = RequestQuery {
        key: scope.key.or_else(|| text("key")),
        owner: scope.owner.or_else(|| text("owner")),
        end_user: text("user"),
        provider: text("provider"),
        model: text("model"),
        rule: text("rule"),
        status: status(&parameters)?,
        from: moment("from", &parameters, Edge::Start)?,
        to: moment("to", &parameters, Edge::End)?,
        min_cost: cost(&parameters)?,
        min_latency: number("min_latency_ms", &parameters)?
            .map(|millis: u32| Duration::from_millis(millis.into())),
        cursor: cursor(&parameters)?,
        limit: limit(&parameters)?,
    };
    let store = ledger(source.as_ref()).await?;
    let page = store.requests(&query).await.map_err(unavailable)?;
    Ok(Json(Page {
        items: page.items.iter().filter_map(|one| shown(one)).collect(),
        next_cursor: page.next.map(|next| next.to_string()),
    }))
}

/// What became of one request
#[utoipa::path(get, path = "/api/v1/requests/{id}", tag = "requests",
    params(("id" = String, Path, description = "Its `x-request-id`")),
    responses((status = 200, description = "The request", body = Request)))]
pub(crate) async fn one(
    State(source): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Request>, Problem> {
    let scope = Scope::of(caller);
    let store = ledger(source.as_ref()).await?;
    let entries = store.request(&id).await.map_err(unavailable)?;
    let mut requests = split_requests(entries);
    requests.retain(|attempts| {
        let seen = |entry: &LedgerEntry| scope.shows(&entry.attempt.key, &entry.attempt.owner);
        attempts.iter().all(seen)
    });
    // A client may use an id again; the latest is meant.
    let request = requests.pop().and_then(|attempts| shown(&attempts));
    request
        .map(Json)
        .ok_or_else(|| Problem::not_found("There is no finished request with this id."))
}

fn shown(attempts: &[LedgerEntry]) -> Option<Request> {
    let (first, last) = (attempts.first()?, attempts.last()?);
    let mut sums = LedgerSums::default();
    for entry in attempts {
        sums += entry.sums();
    }
    let owner = Some(last.attempt.owner.to_string()).filter(|owner| !owner.is_empty());
    let user = Some(last.user().to_owned()).filter(|user| !user.is_empty());
    Some(Request {
        id: last.attempt.request_id.to_string(),
        time: first.attempt.at.to_string(),
        key: last.attempt.key.to_string(),
        owner,
        user,
        format: last.attempt.format.name(),
        model_asked: last.attempt.model_asked.to_string(),
        model: last.attempt.deployment.to_string(),
        provider: last.attempt.provider.to_string(),
        rule: last.attempt.rule.as_deref().map(str::to_owned),
        status: last.outcome.status,
        stream: last.attempt.stream,
        complete: last.outcome.ending == AttemptEnd::Complete,
        usage: Tokens {
            input_tokens: sums.input_tokens,
            cached_input_tokens: sums.cached_input_tokens,
            cache_write_tokens: sums.cache_write_tokens,
            output_tokens: sums.output_tokens,
            reasoning_tokens: sums.reasoning_tokens,
        },
        cost_usd: (sums.unpriced_requests == 0).then(|| exact(sums.cost)),
        estimated: sums.estimated_requests > 0,
        attempts: attempts.iter().map(attempt).collect(),
        router_ms: milliseconds(first.outcome.timings.queue),
        latency_ms: latency(last),
        revision: last.attempt.revision,
        explanation: Why::of(attempts, last),
    })
}

fn attempt(entry: &LedgerEntry) -> Attempt {
    let timings = &entry.outcome.timings;
    Attempt {
        provider: entry.attempt.provider.to_string(),
        model: entry.attempt.deployment.to_string(),
        status: entry.outcome.status,
        error: entry.outcome.error.as_deref().map(str::to_owned),
        disconnect: entry.outcome.disconnect.map(Disconnect::name),
        connect_ms: milliseconds(timings.connect),
        first_token_ms: milliseconds(timings.first_token),
        total_ms: milliseconds(timings.total),
    }
}

/// Until the last attempt went upstream, and that attempt.
fn latency(last: &LedgerEntry) -> Option<f64> {
    let timings = &last.outcome.timings;
    milliseconds(timings.queue?.checked_add(timings.total?))
}

fn milliseconds(micros: Option<u32>) -> Option<f64> {
    micros.map(|micros| f64::from(micros) / 1e3)
}

fn status(parameters: &HashMap<String, String>) -> Result<Option<u16>, Problem> {
    let status = number("status", parameters)?;
    if status.is_some_and(|status| !(100..600).contains(&status)) {
        return Err(Problem::invalid("status", "status is from 100 to 599."));
    }
    Ok(status)
}

/// Which end of a day is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    Start,
    End,
}

/// A moment, or the start or the end of a day.
fn moment(
    name: &'static str,
    parameters: &HashMap<String, String>,
    edge: Edge,
) -> Result<Option<Timestamp>, Problem> {
    let parse = |text: &String| {
        // A `+` in an address means a space.
        let text = text.replace(' ', "+");
        let day = || {
            let day: Date = text.parse().ok()?;
            let day = match edge {
                Edge::Start => day,
                Edge::End => day.tomorrow().ok()?,
            };
            Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp())
        };
        let found = text.parse().ok().or_else(day);
        let message = format!("{name} is a time as 2026-11-24T13:00:00Z, or a day.");
        found.ok_or_else(|| Problem::invalid(name, message))
    };
    parameters.get(name).map(parse).transpose()
}

/// A number that is too small or too large for exact digits: no cost at all, or the largest.
fn coarse(text: &str) -> Option<Decimal> {
    let usd: f64 = text.parse().ok()?;
    let finite = usd.is_finite() && usd >= 0.0;
    finite.then_some(if usd < 1.0 {
        Decimal::ZERO
    } else {
        Decimal::MAX
    })
}

fn cost(parameters: &HashMap<String, String>) -> Result<Option<Decimal>, Problem> {
    const NAME: &str = "min_cost_usd";
    let parse = |text: &String| {
        let exact = Decimal::from_str_exact(text).or_else(|_| Decimal::from_scientific(text));
        let positive = exact.ok().or_else(|| coarse(text));
        let positive = positive.filter(|usd| !usd.is_sign_negative());
        positive.ok_or_else(|| Problem::invalid(NAME, format!("{NAME} is a number of USD.")))
    };
    parameters.get(NAME).map(parse).transpose()
}

fn cursor(parameters: &HashMap<String, String>) -> Result<Option<uuid::Uuid>, Problem> {
    let parse = |text: &String| {
        let message = "cursor is the next_cursor of another answer.";
        text.parse()
            .map_err(|_| Problem::invalid("cursor", message))
    };
    parameters.get("cursor").map(parse).transpose()
}
