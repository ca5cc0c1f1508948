//! `/api/v1/requests`: what became of single requests. Never what was said in them.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use llm_router_domain::ledger::{Disconnect, Ending, Entry, Sums};
use llm_router_store::ledger::{RequestQuery, split_requests};
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
    revision: u64,
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
    /// Answered with a status.
    #[param(minimum = 100, maximum = 599)]
    status: Option<u16>,
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
        status: status(&parameters)?,
        cursor: cursor(&parameters)?,
        limit: limit(&parameters)?,
        ..RequestQuery::default()
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
        let seen = |entry: &Entry| scope.shows(&entry.attempt.key, &entry.attempt.owner);
        attempts.iter().all(seen)
    });
    // A client may use an id again; the latest is meant.
    let request = requests.pop().and_then(|attempts| shown(&attempts));
    request
        .map(Json)
        .ok_or_else(|| Problem::not_found("There is no finished request with this id."))
}

fn shown(attempts: &[Entry]) -> Option<Request> {
    let (first, last) = (attempts.first()?, attempts.last()?);
    let mut sums = Sums::default();
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
        complete: last.outcome.ending == Ending::Complete,
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
        revision: last.attempt.revision,
    })
}

fn attempt(entry: &Entry) -> Attempt {
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

fn cursor(parameters: &HashMap<String, String>) -> Result<Option<uuid::Uuid>, Problem> {
    let parse = |text: &String| {
        let message = "cursor is the next_cursor of another answer.";
        text.parse()
            .map_err(|_| Problem::invalid("cursor", message))
    };
    parameters.get("cursor").map(parse).transpose()
}
