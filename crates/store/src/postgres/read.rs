//! Reading from PostgreSQL.

use std::collections::BTreeMap;
use std::fmt::Write;

use deadpool_postgres::{GenericClient, Object};
use jiff::Timestamp;
use llm_router_domain::ledger::{LedgerEntry, LedgerSums};
use rust_decimal::Decimal;
use tokio_postgres::types::ToSql;
use tokio_postgres::{IsolationLevel, Row};
use uuid::Uuid;

use super::{get, store_error};
use crate::cost_sql::{self, COUNTS, Param};
use crate::error::StoreError;
use crate::fields::{COLUMN_COUNT, COLUMNS, UsageFields, to_i64};
use crate::ledger::{
    CostQuery, CostRow, LATENCY, NO_RUN, Page, RequestAttempts, RequestQuery, SpentQuery,
    TotalsDifference, first_id, micros, split_requests,
};
use crate::rollup::{RollUp, RollUpLine};

const DIALECT: cost_sql::SqlDialect = cost_sql::SqlDialect {
    mark: '$',
    cost: &["cost"],
    sum_count: |name| format!("coalesce(sum({name}), 0)::int8"),
    sum_cost: |name| format!("coalesce(sum({name}), 0)"),
};

/// Most ids in one statement.
const CHUNK: usize = 5_000;

type Params = Vec<Box<dyn ToSql + Sync + Send>>;

pub(super) async fn costs<C: GenericClient>(
    client: &C,
    query: &CostQuery,
) -> Result<Vec<CostRow>, StoreError> {
    let Some(statement) = cost_sql::statement(&DIALECT, query) else {
        return Ok(Vec::new());
    };
    let params: Params = statement
        .params
        .into_iter()
        .map(|param| -> Box<dyn ToSql + Sync + Send> {
            match param {
                Param::Day(day) => Box::new(day),
                Param::Text(text) => Box::new(text),
            }
        })
        .collect();
    let rows = select(client, &statement.sql, &params).await?;
    rows.iter()
        .map(|row| cost_row(row, statement.group))
        .collect()
}

pub(super) async fn spent_by_run(
    client: &mut Object,
    query: &SpentQuery,
) -> Result<Vec<(u32, Decimal)>, StoreError> {
    // One snapshot, so that both sums are of one moment.
    let transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true)
        .start()
        .await
        .map_err(|error| store_error(&error))?;
    let (column, name, from) = query.parts();
    let sql = format!(
        "SELECT run, sum(cost) FROM spent_by_run WHERE {column} = $1 AND day >= $2 GROUP BY run"
    );
    let rows = select(&transaction, &sql, &[Box::new(name), Box::new(from)]).await?;
    let run = |row: &Row| {
        let run: i64 = get(row, 0)?;
        Ok((u32::try_from(run).unwrap_or(NO_RUN), get(row, 1)?))
    };
    let runs = rows.iter().map(run).collect::<Result<_, StoreError>>()?;
    let total = costs(&transaction, &query.total()).await?;
    let total = total.iter().map(|row| row.sums.cost).sum();
    transaction
        .commit()
        .await
        .map_err(|error| store_error(&error))?;
    Ok(SpentQuery::with_rest(runs, total))
}

fn cost_row(row: &Row, group: &[&str]) -> Result<CostRow, StoreError> {
    let mut cost = CostRow {
        sums: sums(row, group.len())?,
        ..CostRow::default()
    };
    for (index, column) in group.iter().enumerate() {
        match *column {
            "day" => cost.day = Some(get(row, index)?),
            "provider" => cost.provider = Some(get(row, index)?),
            "model" => cost.model = Some(get(row, index)?),
            _ => cost.user = Some(get(row, index)?),
        }
    }
    Ok(cost)
}

/// The sums from column `first` on.
fn sums(row: &Row, first: usize) -> Result<LedgerSums, StoreError> {
    let count = |index: usize| {
        get::<i64>(row, first + index).map(|count| u64::try_from(count).unwrap_or_default())
    };
    Ok(LedgerSums {
        requests: count(0)?,
        input_tokens: count(1)?,
        cached_input_tokens: count(2)?,
        cache_write_tokens: count(3)?,
        output_tokens: count(4)?,
        reasoning_tokens: count(5)?,
        unpriced_requests: count(6)?,
        estimated_requests: count(7)?,
        inexact_requests: count(8)?,
        cost: get::<Decimal>(row, first + 9)?.normalize(),
    })
}

pub(super) async fn requests(
    client: &Object,
    query: &RequestQuery,
) -> Result<Page<RequestAttempts>, StoreError> {
    let (sql, params) = requests_sql(query);
    let mut last = entries_of(select(client, &sql, &params).await?)?;
    let limit = query.limit as usize;
    let more = last.len() > limit;
    last.truncate(limit);
    let next = last.last().filter(|_| more).map(|entry| entry.attempt.id);
    let mut items = Vec::with_capacity(last.len());
    for entry in last {
        items.push(attempts_of(client, entry).await?);
    }
    Ok(Page { items, next })
}

fn requests_sql(query: &RequestQuery) -> (String, Params) {
    let mut sql = format!("SELECT {COLUMNS}, cost FROM entries WHERE last");
    let mut params: Params = Vec::new();
    let id = |id: Option<Uuid>| id.map(|id| Box::new(id) as Box<dyn ToSql + Sync + Send>);
    let text = |text: &Option<String>| {
        text.clone()
            .map(|text| Box::new(text) as Box<dyn ToSql + Sync + Send>)
    };
    let status = query
        .status
        .map(|status| Box::new(i32::from(status)) as Box<dyn ToSql + Sync + Send>);
    let min_latency = query.min_latency.map(|least| {
        let least = to_i64(micros(least));
        Box::new(least) as Box<dyn ToSql + Sync + Send>
    });
    let min_cost = query
        .min_cost
        .map(|least| Box::new(least) as Box<dyn ToSql + Sync + Send>);
    for (condition, param) in [
        ("id >=", id(query.from.map(first_id))),
        ("id <", id(query.to.map(first_id))),
        ("id <", id(query.cursor)),
        ("key =", text(&query.key)),
        ("owner =", text(&query.owner)),
        ("coalesce(end_user, owner) =", text(&query.end_user)),
        ("provider =", text(&query.provider)),
        ("deployment =", text(&query.model)),
        ("status =", status),
        ("rule =", text(&query.rule)),
        (LATENCY, min_latency),
        (COST, min_cost),
    ] {
        if let Some(param) = param {
            params.push(param);
            let _ = write!(sql, " AND {condition} ${}", params.len());
        }
    }
    if query.status.is_some_and(|status| status != 200) {
        // The planner can't know this of a parameter; there is an index for it.
        sql.push_str(" AND status <> 200");
    }
    let _ = write!(
        sql,
        " ORDER BY id DESC LIMIT {}",
        u64::from(query.limit) + 1
    );
    (sql, params)
}

/// SQL of a request's cost: the sum of its attempts, if there was more than one. Those are the
/// entries under its id since the previous request with the same id.
const COST: &str = "CASE WHEN attempt = 1 THEN cost ELSE \
     (SELECT sum(one.cost) FROM entries AS one \
      WHERE one.request_id = entries.request_id AND one.id <= entries.id AND one.id > \
      coalesce((SELECT other.id FROM entries AS other WHERE other.last \
                AND other.request_id = entries.request_id AND other.id < entries.id \
                ORDER BY other.id DESC LIMIT 1), '00000000-0000-0000-0000-000000000000')) END >=";

/// The attempts of the request that ended with `last`.
async fn attempts_of(client: &Object, last: LedgerEntry) -> Result<RequestAttempts, StoreError> {
    if last.attempt.number == 1 {
        return Ok(vec![last]);
    }
    let all = request(client, &last.attempt.request_id).await?;
    let id = last.attempt.id;
    let ends_so = |attempts: &RequestAttempts| attempts.last().is_some_and(|e| e.attempt.id == id);
    Ok(split_requests(all)
        .into_iter()
        .find(ends_so)
        .unwrap_or_else(|| vec![last]))
}

pub(super) async fn request(
    client: &Object,
    request_id: &str,
) -> Result<Vec<LedgerEntry>, StoreError> {
    let sql = format!("SELECT {COLUMNS}, cost FROM entries WHERE request_id = $1 ORDER BY id");
    let params: Params = vec![Box::new(request_id.to_owned())];
    entries_of(select(client, &sql, &params).await?)
}

pub(super) async fn entries(client: &Object, ids: &[Uuid]) -> Result<Vec<LedgerEntry>, StoreError> {
    let sql = format!("SELECT {COLUMNS}, cost FROM entries WHERE id = ANY($1)");
    let mut found = Vec::new();
    for chunk in ids.chunks(CHUNK) {
        let params: Params = vec![Box::new(chunk.to_vec())];
        found.extend(entries_of(select(client, &sql, &params).await?)?);
    }
    Ok(found)
}

/// Reads sums and entries in one snapshot, so that writers going on aren't taken for differences.
pub(super) async fn check_sums(client: &mut Object) -> Result<Vec<TotalsDifference>, StoreError> {
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
    client
        .batch_execute(begin)
        .await
        .map_err(|error| store_error(&error))?;
    let differences = differences(client).await;
    client
        .batch_execute("ROLLBACK")
        .await
        .map_err(|error| store_error(&error))?;
    differences
}

async fn differences(client: &Object) -> Result<Vec<TotalsDifference>, StoreError> {
    let rows = select(client, "SELECT pruned_to FROM retention", &[]).await?;
    let pruned = rows
        .first()
        .map_or(Ok(Timestamp::UNIX_EPOCH), |row| get(row, 0))?;
    let mut differences = Vec::new();
    for roll_up in RollUp::ALL {
        let found = lines(client, &table_sql(roll_up), roll_up).await?;
        let expected = lines(client, &entries_sql(roll_up), roll_up).await?;
        differences.extend(crate::verify::compare_sums(
            roll_up, found, expected, pruned,
        ));
    }
    Ok(differences)
}

fn table_sql(roll_up: RollUp) -> String {
    let (table, keys, sums) = (
        roll_up.table(),
        roll_up.columns().join(", "),
        COUNTS.join(", "),
    );
    format!("SELECT day, {keys}, {sums}, cost FROM {table}")
}

/// SQL of the sums of entries, by the same definitions as [`LedgerEntry::sums`].
fn entries_sql(roll_up: RollUp) -> String {
    let day = "(at AT TIME ZONE 'UTC')";
    let day = if roll_up.monthly {
        format!("date_trunc('month', {day})::date")
    } else {
        format!("{day}::date")
    };
    let keys = roll_up.entry_columns();
    let sums = crate::verify::entry_sums("cost IS NULL")
        .map(|sum| format!("({sum})::int8"))
        .join(", ");
    format!(
        "SELECT {day} AS day, {keys}, {sums}, coalesce(sum(cost), 0) FROM entries \
         GROUP BY {day}, {keys}"
    )
}

async fn lines(
    client: &Object,
    sql: &str,
    roll_up: RollUp,
) -> Result<BTreeMap<RollUpLine, LedgerSums>, StoreError> {
    let width = roll_up.columns().len();
    let rows = select(client, sql, &[]).await?;
    rows.iter()
        .map(|row| {
            let names = (1..=width)
                .map(|index| get(row, index))
                .collect::<Result<_, _>>()?;
            Ok(((get(row, 0)?, names), sums(row, width + 1)?))
        })
        .collect()
}

async fn select<C: GenericClient>(
    client: &C,
    sql: &str,
    params: &[Box<dyn ToSql + Sync + Send>],
) -> Result<Vec<Row>, StoreError> {
    let statement = client
        .prepare_cached(sql)
        .await
        .map_err(|error| store_error(&error))?;
    let params: Vec<&(dyn ToSql + Sync)> = params
        .iter()
        .map(|param| &**param as &(dyn ToSql + Sync))
        .collect();
    client
        .query(&statement, &params)
        .await
        .map_err(|error| store_error(&error))
}

fn entries_of(rows: Vec<Row>) -> Result<Vec<LedgerEntry>, StoreError> {
    rows.iter().map(|row| fields(row)?.into_entry()).collect()
}

fn fields(row: &Row) -> Result<UsageFields, StoreError> {
    let mut tokens = [0; 12];
    for (index, count) in tokens.iter_mut().enumerate() {
        *count = get(row, 16 + index)?;
    }
    let cost: Option<Decimal> = get(row, COLUMN_COUNT)?;
    Ok(UsageFields {
        id: get(row, 0)?,
        request_id: get(row, 1)?,
        attempt: get::<i32>(row, 2)?.into(),
        last: get(row, 3)?,
        at: get(row, 4)?,
        key: get(row, 5)?,
        owner: get(row, 6)?,
        end_user: get(row, 7)?,
        format: get(row, 8)?,
        model_asked: get(row, 9)?,
        model: get(row, 10)?,
        provider: get(row, 11)?,
        deployment: get(row, 12)?,
        rule: get(row, 13)?,
        stream: get(row, 14)?,
        revision: get(row, 15)?,
        tokens,
        web_searches: get(row, 28)?,
        service_tier: get(row, 29)?,
        estimated: get(row, 30)?,
        status: get::<i32>(row, 31)?.into(),
        error: get(row, 32)?,
        timings: [get(row, 33)?, get(row, 34)?, get(row, 35)?, get(row, 36)?],
        ending: get(row, 37)?,
        disconnect: get(row, 38)?,
        explanation: get(row, 39)?,
        detail: get(row, 47)?,
        cost: cost.map(|cost| cost.normalize()),
    })
}
