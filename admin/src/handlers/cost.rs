//! `/api/v1/cost/…`: costs, from the sums in the store. Amounts must never become floats.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use jiff::ToSpan as _;
use jiff::civil::Date;
use llm_router_domain::ledger::LedgerSums;
use llm_router_store::LedgerStore;
use llm_router_store::ledger::{CostQuery, CostRow, SumGroup};
use rust_decimal::Decimal;
use serde::Serialize;
use serde_json::json;
use serde_json::value::RawValue;

use crate::backend::{AppState, Backend};
use crate::caller::{Caller, UsageScope};
use crate::error::{AdminError, ledger_unavailable};
use crate::page::{ListPage, Parameters, invalid_cursor, limit_up_to};

/// Days of `/daily` without a range.
const DEFAULT_DAYS: i32 = 30;

/// Rows of a list without `limit`, and the largest `limit`: few callers ever need a second page.
const MAX_ROWS: u32 = 10_000;

/// A cost object.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Cost)]
pub(crate) struct CostSums {
    requests: u64,
    /// All input tokens, cached ones included.
    input_tokens: u64,
    cached_input_tokens: u64,
    cache_write_tokens: u64,
    output_tokens: u64,
    reasoning_tokens: u64,
    /// Amount with its exact decimal digits.
    #[schema(value_type = f64)]
    cost_usd: Box<RawValue>,
    unpriced_requests: u64,
    estimated_requests: u64,
    /// Requests whose cost isn't exact; each says why.
    inexact_requests: u64,
}

/// Costs of today, of this month and of all time.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct CurrentCost {
    today: CostSums,
    month: CostSums,
    total: CostSums,
}

/// Meaning of `user` in `/by-user`, for the description of the API only.
#[derive(utoipa::ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "it describes what `by_user` reads")]
enum CostGroup {
    Owner,
    EndUser,
    Key,
}

/// A cost object with the values of its group.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct CostItem {
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
    cost: CostSums,
}

/// Costs in total and by model, user and provider.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct CostSummary {
    total: CostSums,
    by_model: Vec<CostItem>,
    by_user: Vec<CostItem>,
    by_provider: Vec<CostItem>,
}

/// A range of days (UTC, both included), for the description of the API only.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes what `cost_query` reads")]
struct DateRange {
    /// First day.
    #[param(format = Date, example = "2026-01-01")]
    from: Option<String>,
    /// Last day.
    #[param(format = Date, example = "2026-12-31")]
    to: Option<String>,
}

/// Parameters of a list of costs, for the description of the API only.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes what `list_costs` reads")]
struct CostPaging {
    /// Maximum number of items; 10,000 by default.
    #[param(minimum = 1, maximum = 10_000)]
    limit: Option<u32>,
    /// The `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// Get the costs of today, this month and all time
#[utoipa::path(get, path = "/api/v1/cost/current", tag = "cost",
    responses((status = 200, description = "The sums", body = CurrentCost)))]
pub(crate) async fn current(
    State(backend): State<AppState>,
    caller: Caller,
) -> Result<Json<CurrentCost>, AdminError> {
    let scope = UsageScope::new(caller);
    let store = ledger(backend.as_ref()).await?;
    let today = backend.today();
    let sum = async |from: Option<Date>| {
        let query = CostQuery {
            from,
            key: scope.key.clone(),
            owner: scope.owner.clone(),
            ..CostQuery::default()
        };
        total(store.as_ref(), &query).await
    };
    Ok(Json(CurrentCost {
        today: sum(Some(today)).await?,
        month: sum(Some(today.first_of_month())).await?,
        total: sum(None).await?,
    }))
}

/// List the costs by day
///
/// Of the last 30 days by default.
#[utoipa::path(get, path = "/api/v1/cost/daily", tag = "cost", params(DateRange, CostPaging),
    responses((status = 200, description = "The sums", body = ListPage<CostItem>)))]
pub(crate) async fn daily(
    State(backend): State<AppState>,
    caller: Caller,
    Query(parameters): Parameters,
) -> Result<Json<ListPage<CostItem>>, AdminError> {
    let mut query = cost_query(caller, &parameters)?;
    if query.from.is_none() {
        let last = query.to.unwrap_or_else(|| backend.today());
        query.from = last.checked_sub((DEFAULT_DAYS - 1).days()).ok();
    }
    query.group = SumGroup::Day;
    list_costs(backend.as_ref(), query, &parameters).await
}

/// List the costs by provider and model
#[utoipa::path(get, path = "/api/v1/cost/by-model", tag = "cost", params(DateRange, CostPaging),
    responses((status = 200, description = "The sums", body = ListPage<CostItem>)))]
pub(crate) async fn by_model(
    State(backend): State<AppState>,
    caller: Caller,
    Query(parameters): Parameters,
) -> Result<Json<ListPage<CostItem>>, AdminError> {
    let query = CostQuery {
        group: SumGroup::Model,
        ..cost_query(caller, &parameters)?
    };
    list_costs(backend.as_ref(), query, &parameters).await
}

/// List the costs by user
#[utoipa::path(get, path = "/api/v1/cost/by-user", tag = "cost",
    params(DateRange, CostPaging, ("group" = inline(Option<CostGroup>), Query,
        description = "Meaning of `user`: the end user named by the client (default), the key's \
            owner, or the key")),
    responses((status = 200, description = "The sums", body = ListPage<CostItem>)))]
pub(crate) async fn by_user(
    State(backend): State<AppState>,
    caller: Caller,
    Query(parameters): Parameters,
) -> Result<Json<ListPage<CostItem>>, AdminError> {
    let group = match parameters.get("group").map(String::as_str) {
        None | Some("end_user") => SumGroup::EndUser,
        Some("owner") => SumGroup::Owner,
        Some("key") => SumGroup::Key,
        Some(_) => {
            let message = "group must be end_user, owner or key.";
            return Err(AdminError::invalid("group", message));
        }
    };
    let query = CostQuery {
        group,
        ..cost_query(caller, &parameters)?
    };
    list_costs(backend.as_ref(), query, &parameters).await
}

/// Get the costs in total and by model, user and provider
#[utoipa::path(get, path = "/api/v1/cost/summary", tag = "cost", params(DateRange),
    responses((status = 200, description = "The sums", body = CostSummary)))]
pub(crate) async fn summary(
    State(backend): State<AppState>,
    caller: Caller,
    Query(parameters): Parameters,
) -> Result<Json<CostSummary>, AdminError> {
    let query = cost_query(caller, &parameters)?;
    let store = ledger(backend.as_ref()).await?;
    let by = async |group| {
        let query = CostQuery {
            group,
            ..query.clone()
        };
        items(store.as_ref(), &query).await
    };
    Ok(Json(CostSummary {
        total: total(store.as_ref(), &query).await?,
        by_model: by(SumGroup::Model).await?,
        by_user: by(SumGroup::EndUser).await?,
        by_provider: by(SumGroup::Provider).await?,
    }))
}

impl From<&LedgerSums> for CostSums {
    fn from(sums: &LedgerSums) -> Self {
        Self {
            requests: sums.requests,
            input_tokens: sums.input_tokens,
            cached_input_tokens: sums.cached_input_tokens,
            cache_write_tokens: sums.cache_write_tokens,
            output_tokens: sums.output_tokens,
            reasoning_tokens: sums.reasoning_tokens,
            cost_usd: exact_number(sums.cost),
            unpriced_requests: sums.unpriced_requests,
            estimated_requests: sums.estimated_requests,
            inexact_requests: sums.inexact_requests,
        }
    }
}

/// Converts an amount into a JSON number with exactly its digits.
pub(crate) fn exact_number(usd: Decimal) -> Box<RawValue> {
    // The text of a decimal is always a JSON number; `null` at least is no wrong amount.
    RawValue::from_string(usd.normalize().to_string()).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// Returns the ledger's store with every settled entry in it.
///
/// # Errors
/// 503 if the store is unavailable.
pub(crate) async fn ledger(backend: &dyn Backend) -> Result<Arc<dyn LedgerStore>, AdminError> {
    backend.ledger().await.map_err(ledger_unavailable)
}

/// Reads the range of days, within the usage that the caller may see.
fn cost_query(
    caller: Caller,
    parameters: &HashMap<String, String>,
) -> Result<CostQuery, AdminError> {
    let scope = UsageScope::new(caller);
    let from = day("from", parameters)?;
    let to = day("to", parameters)?;
    if let (Some(from), Some(to)) = (from, to)
        && from > to
    {
        return Err(AdminError::invalid("to", "to must not be before from."));
    }
    Ok(CostQuery {
        from,
        to,
        key: scope.key,
        owner: scope.owner,
        ..CostQuery::default()
    })
}

fn day(
    name: &'static str,
    parameters: &HashMap<String, String>,
) -> Result<Option<Date>, AdminError> {
    let Some(text) = parameters.get(name) else {
        return Ok(None);
    };
    let shaped = text.len() == "YYYY-MM-DD".len();
    match text.parse() {
        Ok(day) if shaped => Ok(Some(day)),
        _ => Err(AdminError::invalid(
            name,
            format!("{name} must be a day such as 2026-01-31."),
        )),
    }
}

async fn total(store: &dyn LedgerStore, query: &CostQuery) -> Result<CostSums, AdminError> {
    let rows = store.costs(query).await.map_err(ledger_unavailable)?;
    let mut sums = LedgerSums::default();
    for row in &rows {
        sums += row.sums;
    }
    Ok(CostSums::from(&sums))
}

async fn items(store: &dyn LedgerStore, query: &CostQuery) -> Result<Vec<CostItem>, AdminError> {
    let rows = store.costs(query).await.map_err(ledger_unavailable)?;
    Ok(rows.into_iter().map(CostItem::from).collect())
}

/// Answers with the page of a list that the parameters ask for.
async fn list_costs(
    backend: &dyn Backend,
    mut query: CostQuery,
    parameters: &HashMap<String, String>,
) -> Result<Json<ListPage<CostItem>>, AdminError> {
    let limit = limit_up_to(MAX_ROWS, MAX_ROWS, parameters)?;
    if let Some(cursor) = parameters.get("cursor") {
        begin_after(&mut query, cursor)?;
    }
    // One row more tells whether there is a next page.
    query.limit = Some(limit + 1);
    let store = ledger(backend).await?;
    let mut rows = store.costs(&query).await.map_err(ledger_unavailable)?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next_cursor = rows.last().filter(|_| more).map(cursor_after);
    let items = rows.into_iter().map(CostItem::from).collect();
    Ok(Json(ListPage { items, next_cursor }))
}

/// Returns the cursor of the page after a row: the values of its group, as a JSON array.
fn cursor_after(row: &CostRow) -> String {
    let day = row.day.map(|day| day.to_string());
    let group = [&day, &row.provider, &row.model, &row.user];
    let values: Vec<&String> = group.into_iter().flatten().collect();
    json!(values).to_string()
}

/// Makes a query begin after the row that a cursor names.
fn begin_after(query: &mut CostQuery, cursor: &str) -> Result<(), AdminError> {
    let values: Vec<String> = serde_json::from_str(cursor).map_err(|_| invalid_cursor())?;
    match (query.group, values.as_slice()) {
        (SumGroup::Day, [day]) => {
            let day: Date = day.parse().map_err(|_| invalid_cursor())?;
            query.from = Some(day.tomorrow().map_err(|_| invalid_cursor())?);
        }
        (SumGroup::Model, [_, _])
        | (SumGroup::Provider | SumGroup::Owner | SumGroup::Key | SumGroup::EndUser, [_]) => {
            query.after = values;
        }
        _ => return Err(invalid_cursor()),
    }
    Ok(())
}

impl From<CostRow> for CostItem {
    fn from(row: CostRow) -> Self {
        Self {
            day: row.day,
            provider: row.provider,
            model: row.model,
            user: row.user,
            cost: CostSums::from(&row.sums),
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
        let text = serde_json::to_string(&CostItem::from(row)).unwrap();
        let expected = "\"cost_usd\":12345678901.000000000000001,";
        assert!(text.contains(expected), "{text}");
        assert!(
            text.starts_with("{\"user\":\"a\",\"requests\":0,"),
            "{text}"
        );
    }

    #[test]
    fn cursors_begin_after_the_row_they_were_made_of() {
        let text = |text: &str| Some(text.to_owned());
        let model = CostRow {
            provider: text("p"),
            model: text("m, \"x\""),
            ..CostRow::default()
        };
        let user = CostRow {
            user: text(""),
            ..CostRow::default()
        };
        let day = CostRow {
            day: Some(jiff::civil::date(2026, 1, 31)),
            ..CostRow::default()
        };
        let begin = |group, row: &CostRow| {
            let mut query = CostQuery {
                group,
                ..CostQuery::default()
            };
            begin_after(&mut query, &cursor_after(row)).map(|()| (query.after, query.from))
        };
        let (after, _) = begin(SumGroup::Model, &model).unwrap();
        assert_eq!(after, ["p", "m, \"x\""]);
        assert_eq!(begin(SumGroup::EndUser, &user).unwrap().0, [""]);
        let (_, from) = begin(SumGroup::Day, &day).unwrap();
        assert_eq!(from, Some(jiff::civil::date(2026, 2, 1)));
        for (group, row) in [
            (SumGroup::EndUser, &model),
            (SumGroup::Model, &user),
            (SumGroup::Day, &user),
            (SumGroup::Nothing, &user),
        ] {
            assert!(begin(group, row).is_err(), "{group:?} {row:?}");
        }
        let garbage = begin_after(&mut CostQuery::default(), "x").unwrap_err();
        assert_eq!(garbage.field.as_deref(), Some("cursor"));
    }

    #[test]
    fn days_have_one_form() {
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
