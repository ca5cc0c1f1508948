//! Reading from SQLite.

use std::fmt::Write;

use jiff::Timestamp;
use jiff::civil::Date;
use llm_router_domain::ledger::{LedgerEntry, LedgerSums};
use rusqlite::types::{ToSql, Value};
use rusqlite::{Connection, Row, params_from_iter};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive as _;
use uuid::Uuid;

use super::store_error;
use crate::cost_sql::{self, COUNTS, Param};
use crate::error::StoreError;
use crate::fields::{COLUMN_COUNT, COLUMNS, UsageFields, to_i64};
use crate::ledger::{
    CostQuery, CostRow, LATENCY, Page, RequestAttempts, RequestQuery, SpentQuery, TotalsDifference,
    first_id, micros, split_requests,
};
use crate::rollup::RollUp;

const DIALECT: cost_sql::SqlDialect = cost_sql::SqlDialect {
    mark: '?',
    cost: &["cost_micro", "cost_femto"],
    sum_count: |name| format!("coalesce(sum({name}), 0)"),
    sum_cost: |name| format!("coalesce(sum({name}), 0)"),
};

/// Most ids in one statement.
const CHUNK: usize = 500;

pub(super) fn costs(
    connection: &Connection,
    query: &CostQuery,
) -> Result<Vec<CostRow>, StoreError> {
    let Some(statement) = cost_sql::statement(&DIALECT, query) else {
        return Ok(Vec::new());
    };
    let params = statement.params.into_iter().map(|param| match param {
        Param::Day(day) => day.to_string(),
        Param::Text(text) => text,
    });
    let mut prepared = connection
        .prepare_cached(&statement.sql)
        .map_err(store_error)?;
    let mut rows = prepared
        .query(params_from_iter(params))
        .map_err(store_error)?;
    let mut costs = Vec::new();
    while let Some(row) = rows.next().map_err(store_error)? {
        costs.push(cost_row(row, statement.group)?);
    }
    Ok(costs)
}

pub(super) fn spent_by_run(
    connection: &Connection,
    query: &SpentQuery,
) -> Result<Vec<(u32, Decimal)>, StoreError> {
    // One transaction, so that both sums are of one moment.
    let transaction = connection.unchecked_transaction().map_err(store_error)?;
    let (column, name, from) = query.parts();
    let sql = format!(
        "SELECT run, sum(cost_micro), sum(cost_femto) FROM spent_by_run \
         WHERE {column} = ?1 AND day >= ?2 GROUP BY run"
    );
    let mut runs = Vec::new();
    {
        let mut prepared = transaction.prepare_cached(&sql).map_err(store_error)?;
        let mut rows = prepared
            .query([name, from.to_string()])
            .map_err(store_error)?;
        while let Some(row) = rows.next().map_err(store_error)? {
            let run: u32 = get(row, 0)?;
            runs.push((run, joined_cost(get(row, 1)?, get(row, 2)?)));
        }
    }
    let total = costs(&transaction, &query.total())?;
    let total = total.iter().map(|row| row.sums.cost).sum();
    Ok(SpentQuery::with_rest(runs, total))
}

fn cost_row(row: &Row<'_>, group: &[&str]) -> Result<CostRow, StoreError> {
    let mut cost = CostRow {
        sums: sums(row, group.len())?,
        ..CostRow::default()
    };
    for (index, column) in group.iter().enumerate() {
        let text: String = get(row, index)?;
        match *column {
            "day" => cost.day = Some(day(&text)?),
            "provider" => cost.provider = Some(text),
            "model" => cost.model = Some(text),
            _ => cost.user = Some(text),
        }
    }
    Ok(cost)
}

/// The sums from column `first` on.
fn sums(row: &Row<'_>, first: usize) -> Result<LedgerSums, StoreError> {
    let count = |index: usize| get::<i64>(row, first + index).map(to_u64);
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
        cost: joined_cost(get(row, first + 9)?, get(row, first + 10)?),
    })
}

pub(super) fn requests(
    connection: &Connection,
    query: &RequestQuery,
) -> Result<Page<RequestAttempts>, StoreError> {
    let (sql, params) = requests_sql(query);
    let params = params.iter().map(|param| param as &dyn ToSql);
    let mut last = select(connection, &sql, params)?;
    let limit = query.limit as usize;
    let more = last.len() > limit;
    last.truncate(limit);
    let next = last.last().filter(|_| more).map(|entry| entry.attempt.id);
    let items = last
        .into_iter()
        .map(|entry| attempts_of(connection, entry))
        .collect::<Result<_, _>>()?;
    Ok(Page { items, next })
}

/// SQL of a request's cost in 10⁻¹⁵ USD: the sum of its attempts, if there was more than one. Those
/// are the entries under its id since the previous request with the same id.
const COST: &str = "CASE WHEN attempt = 1 THEN cost_micro * 1000000000 + cost_femto ELSE \
     (SELECT sum(one.cost_micro) * 1000000000 + sum(one.cost_femto) FROM entries AS one \
      WHERE one.request_id = entries.request_id AND one.id <= entries.id AND one.id > \
      coalesce((SELECT max(other.id) FROM entries AS other WHERE other.last = 1 \
                AND other.request_id = entries.request_id AND other.id < entries.id), x'')) END >=";

fn requests_sql(query: &RequestQuery) -> (String, Vec<Value>) {
    let mut sql = format!("SELECT {COLUMNS}, cost_micro, cost_femto FROM entries WHERE last = 1");
    let mut params: Vec<Value> = Vec::new();
    let id = |id: Uuid| Value::Blob(id.as_bytes().to_vec());
    let text = |text: &Option<String>| text.clone().map(Value::Text);
    for (condition, param) in [
        ("id >=", query.from.map(|at| id(first_id(at)))),
        ("id <", query.to.map(|at| id(first_id(at)))),
        ("id <", query.cursor.map(id)),
        ("key =", text(&query.key)),
        ("owner =", text(&query.owner)),
        ("coalesce(end_user, owner) =", text(&query.end_user)),
        ("provider =", text(&query.provider)),
        ("deployment =", text(&query.model)),
        (
            "status =",
            query.status.map(|status| Value::Integer(status.into())),
        ),
        ("rule =", text(&query.rule)),
        (
            LATENCY,
            query
                .min_latency
                .map(|least| Value::Integer(to_i64(micros(least)))),
        ),
        (
            COST,
            query.min_cost.map(|least| Value::Integer(femtos(least))),
        ),
    ] {
        if let Some(param) = param {
            params.push(param);
            let _ = write!(sql, " AND {condition} ?{}", params.len());
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

/// USD in 10⁻¹⁵, as far as an integer goes: some 9,000 USD.
fn femtos(usd: Decimal) -> i64 {
    let femtos = usd.checked_mul(Decimal::from(1_000_000_000_000_000_u64));
    femtos
        .and_then(|femtos| femtos.ceil().to_i64())
        .unwrap_or(i64::MAX)
}

/// The attempts of the request that ended with `last`.
fn attempts_of(connection: &Connection, last: LedgerEntry) -> Result<RequestAttempts, StoreError> {
    if last.attempt.number == 1 {
        return Ok(vec![last]);
    }
    let all = request(connection, &last.attempt.request_id)?;
    let id = last.attempt.id;
    let ends_so = |attempts: &RequestAttempts| attempts.last().is_some_and(|e| e.attempt.id == id);
    Ok(split_requests(all)
        .into_iter()
        .find(ends_so)
        .unwrap_or_else(|| vec![last]))
}

pub(super) fn request(
    connection: &Connection,
    request_id: &str,
) -> Result<Vec<LedgerEntry>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS}, cost_micro, cost_femto FROM entries WHERE request_id = ?1 ORDER BY id"
    );
    select(connection, &sql, [&request_id as &dyn ToSql])
}

pub(super) fn entries(
    connection: &Connection,
    ids: &[Uuid],
) -> Result<Vec<LedgerEntry>, StoreError> {
    let mut found = Vec::new();
    for chunk in ids.chunks(CHUNK) {
        let marks: Vec<String> = (1..=chunk.len())
            .map(|number| format!("?{number}"))
            .collect();
        let sql = format!(
            "SELECT {COLUMNS}, cost_micro, cost_femto FROM entries WHERE id IN ({})",
            marks.join(", ")
        );
        found.extend(select(
            connection,
            &sql,
            chunk.iter().map(|id| id as &dyn ToSql),
        )?);
    }
    Ok(found)
}

pub(super) fn check_sums(connection: &Connection) -> Result<Vec<TotalsDifference>, StoreError> {
    let pruned: i64 = connection
        .query_row("SELECT pruned_to FROM retention", [], |row| row.get(0))
        .map_err(store_error)?;
    let pruned = Timestamp::from_microsecond(pruned).unwrap_or_default();
    let mut differences = Vec::new();
    for roll_up in RollUp::ALL {
        differences.extend(crate::verify::compare_sums(
            roll_up,
            table_sums(connection, roll_up)?,
            entry_sums(connection, roll_up)?,
            pruned,
        ));
    }
    Ok(differences)
}

type SumsByLine = std::collections::BTreeMap<crate::rollup::RollUpLine, LedgerSums>;

fn table_sums(connection: &Connection, roll_up: RollUp) -> Result<SumsByLine, StoreError> {
    let (table, keys) = (roll_up.table(), roll_up.columns().join(", "));
    let sums = COUNTS.join(", ");
    let sql = format!("SELECT day, {keys}, {sums}, cost_micro, cost_femto FROM {table}");
    lines(connection, &sql, roll_up)
}

/// Reads the sums of entries, by the same definitions as [`LedgerEntry::sums`].
fn entry_sums(connection: &Connection, roll_up: RollUp) -> Result<SumsByLine, StoreError> {
    let day = "date(at / 1000000, 'unixepoch'";
    let day = if roll_up.monthly {
        format!("{day}, 'start of month')")
    } else {
        format!("{day})")
    };
    let sums = crate::verify::entry_sums("cost_micro IS NULL").join(", ");
    let keys = roll_up.entry_columns();
    let sql = format!(
        "SELECT {day} AS day, {keys}, {sums}, coalesce(sum(cost_micro), 0), \
         coalesce(sum(cost_femto), 0) FROM entries GROUP BY {day}, {keys}"
    );
    lines(connection, &sql, roll_up)
}

fn lines(connection: &Connection, sql: &str, roll_up: RollUp) -> Result<SumsByLine, StoreError> {
    let width = roll_up.columns().len();
    let mut prepared = connection.prepare(sql).map_err(store_error)?;
    let mut rows = prepared.query([]).map_err(store_error)?;
    let mut lines = SumsByLine::new();
    while let Some(row) = rows.next().map_err(store_error)? {
        let names = (1..=width)
            .map(|index| get(row, index))
            .collect::<Result<_, _>>()?;
        let day = day(&get::<String>(row, 0)?)?;
        lines.insert((day, names), sums(row, width + 1)?);
    }
    Ok(lines)
}

fn select<'p>(
    connection: &Connection,
    sql: &str,
    params: impl IntoIterator<Item = &'p dyn ToSql>,
) -> Result<Vec<LedgerEntry>, StoreError> {
    let mut prepared = connection.prepare_cached(sql).map_err(store_error)?;
    let mut rows = prepared
        .query(params_from_iter(params))
        .map_err(store_error)?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next().map_err(store_error)? {
        entries.push(fields(row)?.into_entry()?);
    }
    Ok(entries)
}

fn fields(row: &Row<'_>) -> Result<UsageFields, StoreError> {
    let mut tokens = [0; 12];
    for (index, count) in tokens.iter_mut().enumerate() {
        *count = get(row, 16 + index)?;
    }
    let micro: Option<i64> = get(row, COLUMN_COUNT)?;
    let femto: Option<i64> = get(row, COLUMN_COUNT + 1)?;
    Ok(UsageFields {
        id: get(row, 0)?,
        request_id: get(row, 1)?,
        attempt: get(row, 2)?,
        last: get(row, 3)?,
        at: Timestamp::from_microsecond(get(row, 4)?).unwrap_or_default(),
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
        status: get(row, 31)?,
        error: get(row, 32)?,
        timings: [get(row, 33)?, get(row, 34)?, get(row, 35)?, get(row, 36)?],
        ending: get(row, 37)?,
        disconnect: get(row, 38)?,
        explanation: get(row, 39)?,
        detail: get(row, 47)?,
        cost: micro
            .zip(femto)
            .map(|(micro, femto)| joined_cost(micro, femto)),
    })
}

fn get<T: rusqlite::types::FromSql>(row: &Row<'_>, index: usize) -> Result<T, StoreError> {
    row.get(index)
        .map_err(|error| StoreError::Unreadable(error.to_string()))
}

fn day(text: &str) -> Result<Date, StoreError> {
    text.parse()
        .map_err(|_| StoreError::Unreadable(format!("`{text}` is no day")))
}

fn to_u64(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}

fn joined_cost(micro: i64, femto: i64) -> Decimal {
    (Decimal::new(micro, 6) + Decimal::new(femto, 15)).normalize()
}
