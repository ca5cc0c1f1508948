//! `/api/v1/cost/…`: what was spent, out of the store's sums. It must not add up money in floats.

use std::collections::HashMap;

use axum::Json;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use jiff::ToSpan as _;
use jiff::civil::Date;
use llm_router_domain::ledger::LedgerSums;
use llm_router_store::ledger::{CostQuery, CostRow, Group};
use llm_router_store::{LedgerStore, StoreError};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::access::{Caller, Problem, Scope};
use crate::page::{Page, Parameters};
use crate::{Shared, Source};

/// Days that `/daily` shows when it isn't told.
const DAYS: i32 = 30;

/// A cost object.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct Cost {
    requests: u64,
    /// All input, cached included.
    input_tokens: u64,
    cached_input_tokens: u64,
    cache_write_tokens: u64,
    output_tokens: u64,
    reasoning_tokens: u64,
    /// With its exact decimal digits.
    #[schema(value_type = f64)]
    cost_usd: Box<RawValue>,
    unpriced_requests: u64,
    estimated_requests: u64,
}

#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Current {
    today: Cost,
    month: Cost,
    total: Cost,
}

/// What `user` is in `/by-user`. For the description of the API only.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "snake_case", as = CostGroup)]
#[expect(dead_code, reason = "it describes what `by_user` reads")]
enum By {
    Owner,
    EndUser,
    Key,
}

/// A cost object with what it was added up by.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = CostItem)]
pub(crate) struct Item {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = Date)]
    day: Option<Date>,
    #[serde(skip_serializing_if = "Option::is_none")]
    provider: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    #[serde(flatten)]
    cost: Cost,
}

#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Summary {
    total: Cost,
    by_model: Vec<Item>,
    by_user: Vec<Item>,
    by_provider: Vec<Item>,
}

/// From which day to which (UTC, both included).
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes what `query` reads")]
struct Days {
    /// The first day.
    #[param(format = Date, example = "2026-01-01")]
    from: Option<String>,
    /// The last day.
    #[param(format = Date, example = "2026-12-31")]
    to: Option<String>,
}

/// What was spent today, this month and in all
#[utoipa::path(get, path = "/api/v1/cost/current", tag = "cost",
    responses((status = 200, description = "The sums", body = Current)))]
pub(crate) async fn current(
    State(source): State<Shared>,
    caller: Caller,
) -> Result<Json<Current>, Problem> {
    let scope = Scope::of(caller);
    let store = ledger(source.as_ref()).await?;
    let today = source.today();
    let sum = async |from: Option<Date>| {
        let query = CostQuery {
            from,
            key: scope.key.clone(),
            owner: scope.owner.clone(),
            ..CostQuery::default()
        };
        total(store.as_ref(), &query).await
    };
    Ok(Json(Current {
        today: sum(Some(today)).await?,
        month: sum(Some(today.first_of_month())).await?,
        total: sum(None).await?,
    }))
}

/// What was spent, day by day
///
/// The last 30 days, if not said otherwise.
#[utoipa::path(get, path = "/api/v1/cost/daily", tag = "cost", params(Days),
    responses((status = 200, description = "The sums", body = Page<Item>)))]
pub(crate) async fn daily(
    State(source): State<Shared>,
    caller: Caller,
    Query(parameters): Parameters,
) -> Result<Json<Page<Item>>, Problem> {
    let mut query = query(caller, &parameters)?;
    if query.from.is_none() {
        let last = query.to.unwrap_or_else(|| source.today());
        query.from = last.checked_sub((DAYS - 1).days()).ok();
    }
    query.group = Group::Day;
    listed(source.as_ref(), &query).await
}

/// What was spent, by provider and model
#[utoipa::path(get, path = "/api/v1/cost/by-model", tag = "cost", params(Days),
    responses((status = 200, description = "The sums", body = Page<Item>)))]
pub(crate) async fn by_model(
    State(source): State<Shared>,
    caller: Caller,
    Query(parameters): Parameters,
) -> Result<Json<Page<Item>>, Problem> {
    let query = CostQuery {
        group: Group::Model,
        ..query(caller, &parameters)?
    };
    listed(source.as_ref(), &query).await
}

/// What was spent, by owner of the key, by end user, or by key
#[utoipa::path(get, path = "/api/v1/cost/by-user", tag = "cost", params(Days, ("group" = inline(Option<By>), Query, description = "What `user` is: the key's owner, the end user that the client named, or the key")),
    responses((status = 200, description = "The sums", body = Page<Item>)))]
pub(crate) async fn by_user(
    State(source): State<Shared>,
    caller: Caller,
    Query(parameters): Parameters,
) -> Result<Json<Page<Item>>, Problem> {
    let group = match parameters.get("group").map(String::as_str) {
        None | Some("end_user") => Group::EndUser,
        Some("owner") => Group::Owner,
        Some("key") => Group::Key,
        Some(_) => {
            let message = "group is end_user, owner or key.";
            return Err(Problem::invalid("group", message));
        }
    };
    let query = CostQuery {
        group,
        ..query(caller, &parameters)?
    };
    listed(source.as_ref(), &query).await
}

/// What was spent in all, by model, by user and by provider
#[utoipa::path(get, path = "/api/v1/cost/summary", tag = "cost", params(Days),
    responses((status = 200, description = "The sums", body = Summary)))]
pub(crate) async fn summary(
    State(source): State<Shared>,
    caller: Caller,
    Query(parameters): Parameters,
) -> Result<Json<Summary>, Problem> {
    let query = query(caller, &parameters)?;
    let store = ledger(source.as_ref()).await?;
    let by = async |group| {
        let query = CostQuery {
            group,
            ..query.clone()
        };
        items(store.as_ref(), &query).await
    };
    Ok(Json(Summary {
        total: total(store.as_ref(), &query).await?,
        by_model: by(Group::Model).await?,
        by_user: by(Group::EndUser).await?,
        by_provider: by(Group::Provider).await?,
    }))
}

impl From<&LedgerSums> for Cost {
    fn from(sums: &LedgerSums) -> Self {
        Self {
            requests: sums.requests,
            input_tokens: sums.input_tokens,
            cached_input_tokens: sums.cached_input_tokens,
            cache_write_tokens: sums.cache_write_tokens,
            output_tokens: sums.output_tokens,
            reasoning_tokens: sums.reasoning_tokens,
            cost_usd: exact(sums.cost),
            unpriced_requests: sums.unpriced_requests,
            estimated_requests: sums.estimated_requests,
        }
    }
}

/// A JSON number with exactly the digits of the amount.
pub(crate) fn exact(usd: Decimal) -> Box<RawValue> {
    // A decimal's text is a JSON number; were it not, `null` is no wrong amount.
    RawValue::from_string(usd.normalize().to_string()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// The store, with everything settled so far in it.
///
/// # Errors
/// 503 when the store is away.
pub(crate) async fn ledger(
    source: &dyn Source,
) -> Result<std::sync::Arc<dyn LedgerStore>, Problem> {
    source.ledger().await.map_err(unavailable)
}

pub(crate) fn unavailable(error: StoreError) -> Problem {
    tracing::warn!(%error, "the ledger can't be read");
    let message = "The ledger can't be read now. Try again later.";
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "store_unavailable",
        message,
    )
}

fn query(caller: Caller, parameters: &HashMap<String, String>) -> Result<CostQuery, Problem> {
    let scope = Scope::of(caller);
    let from = day("from", parameters)?;
    let to = day("to", parameters)?;
    if let (Some(from), Some(to)) = (from, to)
        && from > to
    {
        return Err(Problem::invalid("to", "to is before from."));
    }
    Ok(CostQuery {
        from,
        to,
        key: scope.key,
        owner: scope.owner,
        group: Group::Nothing,
    })
}

fn day(name: &'static str, parameters: &HashMap<String, String>) -> Result<Option<Date>, Problem> {
    let Some(text) = parameters.get(name) else {
        return Ok(None);
    };
    let shaped = text.len() == "YYYY-MM-DD".len();
    match text.parse() {
        Ok(day) if shaped => Ok(Some(day)),
        _ => Err(Problem::invalid(
            name,
            format!("{name} is a day, as 2026-01-31."),
        )),
    }
}

async fn total(store: &dyn LedgerStore, query: &CostQuery) -> Result<Cost, Problem> {
    let rows = store.costs(query).await.map_err(unavailable)?;
    let mut sums = LedgerSums::default();
    for row in &rows {
        sums += row.sums;
    }
    Ok(Cost::from(&sums))
}

async fn items(store: &dyn LedgerStore, query: &CostQuery) -> Result<Vec<Item>, Problem> {
    let rows = store.costs(query).await.map_err(unavailable)?;
    Ok(rows.into_iter().map(Item::from).collect())
}

async fn listed(source: &dyn Source, query: &CostQuery) -> Result<Json<Page<Item>>, Problem> {
    let store = ledger(source).await?;
    Ok(Json(Page {
        items: items(store.as_ref(), query).await?,
        next_cursor: None,
    }))
}

impl From<CostRow> for Item {
    fn from(row: CostRow) -> Self {
        Self {
            day: row.day,
            provider: row.provider,
            model: row.model,
            user: row.user,
            cost: Cost::from(&row.sums),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_keep_their_digits() {
        let sums = LedgerSums {
            cost: "12345678901.000000000000001".parse().unwrap(),
            ..LedgerSums::default()
        };
        let row = CostRow {
            user: Some("a".to_owned()),
            sums,
            ..CostRow::default()
        };
        let text = serde_json::to_string(&Item::from(row)).unwrap();
        let expected = "\"cost_usd\":12345678901.000000000000001,";
        assert!(text.contains(expected), "{text}");
        assert!(
            text.starts_with("{\"user\":\"a\",\"requests\":0,"),
            "{text}"
        );
    }

    #[test]
    fn days_are_days() {
        let given = |text: &str| HashMap::from([("from".to_owned(), text.to_owned())]);
        for (text, good) in [
            ("2026-02-28", true),
            ("2026-02-30", false),
            ("2026-2-3", false),
            ("2026-02-28T00:00:00", false),
            ("", false),
        ] {
            assert_eq!(day("from", &given(text)).is_ok(), good, "{text}");
        }
    }
}
