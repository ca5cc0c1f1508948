//! Writing to PostgreSQL: a batch is one statement for the entries and one for each roll-up, all
//! columns as arrays, in one transaction.

use std::collections::{BTreeMap, HashSet};

use deadpool_postgres::Object;
use jiff::Timestamp;
use jiff::civil::Date;
use llm_router_domain::ledger::{Disconnect, LedgerEntry, LedgerSums};
use llm_router_domain::usage::Fee;
use rust_decimal::Decimal;
use tokio_postgres::Transaction;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::store_error;
use crate::cost_sql::COUNTS;
use crate::detail;
use crate::error::StoreError;
use crate::fields::{
    CLASSES, COLUMNS, LATER_CLASSES, estimate_method, explanation_text, inexact_text, service_tier,
    to_i64,
};
use crate::ledger::first_id;
use crate::rollup::{BatchLine, RollUp, RollUpKind, counts, lines, spent_lines};

/// The types of the columns of [`COLUMNS`] and of the cost, in their order.
const TYPES: [&str; 49] = [
    "uuid",
    "text",
    "int4",
    "bool",
    "timestamptz",
    "text",
    "text",
    "text",
    "text",
    "text",
    "text",
    "text",
    "text",
    "text",
    "bool",
    "int8",
    "int8",
    "int8",
    "int8",
    "int8",
    "int8",
    "int8",
    "int8",
    "int8",
    "int8",
    "int8",
    "int8",
    "int8",
    "int8",
    "text",
    "text",
    "int4",
    "text",
    "int8",
    "int8",
    "int8",
    "int8",
    "text",
    "text",
    "text",
    "int8",
    "int8",
    "int8",
    "int8",
    "int8",
    "text",
    "text",
    "text",
    "numeric",
];

type Column = Box<dyn ToSql + Sync + Send>;

/// Stores entries; how many were new.
pub(super) async fn insert(
    client: &mut Object,
    entries: &[LedgerEntry],
) -> Result<usize, StoreError> {
    let transaction = client
        .transaction()
        .await
        .map_err(|error| store_error(&error))?;
    let new = insert_entries(&transaction, entries).await?;
    let mut seen = HashSet::new();
    // A batch may hold an id twice; only its first is new.
    let new: Vec<&LedgerEntry> = entries
        .iter()
        .filter(|entry| new.contains(&entry.attempt.id) && seen.insert(entry.attempt.id))
        .collect();
    for kind in RollUpKind::ALL {
        for (roll_up, sums) in lines(kind, &new) {
            add_lines(&transaction, roll_up, &sums).await?;
        }
    }
    add_spent(&transaction, &new).await?;
    transaction
        .commit()
        .await
        .map_err(|error| store_error(&error))?;
    Ok(new.len())
}

/// Deletes entries of before a moment; how many.
pub(super) async fn prune(
    client: &mut Object,
    before: Timestamp,
    limit: u32,
) -> Result<usize, StoreError> {
    let transaction = client
        .transaction()
        .await
        .map_err(|error| store_error(&error))?;
    let sql = "DELETE FROM entries WHERE id IN \
               (SELECT id FROM entries WHERE id < $1 ORDER BY id LIMIT $2)";
    let deleted = transaction
        .execute(sql, &[&first_id(before), &i64::from(limit)])
        .await;
    let deleted = deleted.map_err(|error| store_error(&error))?;
    if deleted > 0 {
        let sql = "UPDATE retention SET pruned_to = greatest(pruned_to, $1)";
        transaction
            .execute(sql, &[&before])
            .await
            .map_err(|error| store_error(&error))?;
    }
    transaction
        .commit()
        .await
        .map_err(|error| store_error(&error))?;
    Ok(usize::try_from(deleted).unwrap_or(usize::MAX))
}

async fn insert_entries(
    transaction: &Transaction<'_>,
    entries: &[LedgerEntry],
) -> Result<HashSet<Uuid>, StoreError> {
    let sql = format!(
        "INSERT INTO entries ({COLUMNS}, cost) SELECT * FROM unnest({}) \
         ON CONFLICT (id) DO NOTHING RETURNING id",
        marks(&TYPES)
    );
    let columns = entry_columns(entries);
    let rows = query(transaction, &sql, &columns).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn entry_columns(entries: &[LedgerEntry]) -> Vec<Column> {
    let mut columns = attempt_columns(entries);
    for class in CLASSES {
        columns.push(column(entries, |e| to_i64(e.outcome.usage.get(class))));
    }
    columns.extend(outcome_columns(entries));
    columns.extend(billing_columns(entries));
    columns
}

fn attempt_columns(entries: &[LedgerEntry]) -> Vec<Column> {
    let text = |of: fn(&LedgerEntry) -> &str| column(entries, |entry| clean(of(entry)));
    let optional =
        |of: fn(&LedgerEntry) -> Option<&str>| column(entries, |entry| of(entry).map(clean));
    vec![
        column(entries, |e| e.attempt.id),
        text(|e| &e.attempt.request_id),
        column(entries, |e| i32::from(e.attempt.number)),
        column(entries, |e| e.outcome.last),
        column(entries, |e| e.attempt.at),
        text(|e| &e.attempt.key),
        text(|e| &e.attempt.owner),
        optional(|e| e.attempt.end_user.as_deref()),
        text(|e| e.attempt.format.name()),
        text(|e| &e.attempt.model_asked),
        optional(|e| e.attempt.model.as_deref()),
        text(|e| &e.attempt.provider),
        text(|e| &e.attempt.deployment),
        optional(|e| e.attempt.rule.as_deref()),
        column(entries, |e| e.attempt.stream),
        column(entries, |e| to_i64(e.attempt.revision)),
    ]
}

fn outcome_columns(entries: &[LedgerEntry]) -> Vec<Column> {
    let micros = |time: Option<u32>| time.map(i64::from);
    vec![
        column(entries, |e| i64::from(e.outcome.usage.uses(Fee::WebSearch))),
        column(entries, |e| {
            service_tier(&e.outcome.usage).map(str::to_owned)
        }),
        column(entries, |e| estimate_method(&e.outcome.usage)),
        column(entries, |e| i32::from(e.outcome.status)),
        column(entries, |e| e.outcome.error.as_deref().map(clean)),
        column(entries, |e| micros(e.outcome.timings.queue)),
        column(entries, |e| micros(e.outcome.timings.connect)),
        column(entries, |e| micros(e.outcome.timings.first_token)),
        column(entries, |e| micros(e.outcome.timings.total)),
        column(entries, |e| e.outcome.ending.name()),
        column(entries, |e| e.outcome.disconnect.map(Disconnect::name)),
        column(entries, |e| explanation_text(e).as_deref().map(clean)),
    ]
}

fn billing_columns(entries: &[LedgerEntry]) -> Vec<Column> {
    let later = LATER_CLASSES.map(|class| column(entries, |e| to_i64(e.outcome.usage.get(class))));
    let mut columns: Vec<Column> = later.into_iter().collect();
    columns.push(column(entries, inexact_text));
    columns.push(column(entries, |e| {
        e.outcome.billing.served_model.as_deref().map(clean)
    }));
    columns.push(column(entries, |e| detail::outcome_text(&e.outcome)));
    columns.push(column(entries, |e| e.outcome.cost.usd()));
    columns
}

async fn add_lines(
    transaction: &Transaction<'_>,
    roll_up: RollUp,
    lines: &BTreeMap<BatchLine<'_>, LedgerSums>,
) -> Result<(), StoreError> {
    if lines.is_empty() {
        return Ok(());
    }
    let days: Vec<Date> = lines.keys().map(|(day, _)| *day).collect();
    let mut columns: Vec<Column> = vec![Box::new(days)];
    for index in 0..roll_up.columns().len() {
        let name =
            |(_, names): &BatchLine<'_>| names.get(index).map_or_else(String::new, |n| clean(n));
        columns.push(Box::new(lines.keys().map(name).collect::<Vec<String>>()));
    }
    for index in 0..COUNTS.len() {
        let count = |sums: &LedgerSums| counts(sums).get(index).copied().map_or(0, to_i64);
        columns.push(Box::new(lines.values().map(count).collect::<Vec<i64>>()));
    }
    columns.push(Box::new(
        lines
            .values()
            .map(|sums| sums.cost)
            .collect::<Vec<Decimal>>(),
    ));
    query(transaction, &upsert(roll_up), &columns)
        .await
        .map(drop)
}

async fn add_spent(
    transaction: &Transaction<'_>,
    entries: &[&LedgerEntry],
) -> Result<(), StoreError> {
    let lines = spent_lines(entries);
    if lines.is_empty() {
        return Ok(());
    }
    let days: Vec<Date> = lines.keys().map(|line| line.0).collect();
    let keys: Vec<String> = lines.keys().map(|line| clean(line.1)).collect();
    let owners: Vec<String> = lines.keys().map(|line| clean(line.2)).collect();
    let runs: Vec<i64> = lines.keys().map(|line| line.3).collect();
    let costs: Vec<Decimal> = lines.values().copied().collect();
    let columns: [Column; 5] = [
        Box::new(days),
        Box::new(keys),
        Box::new(owners),
        Box::new(runs),
        Box::new(costs),
    ];
    let marks = marks(&["date", "text", "text", "int8", "numeric"]);
    let sql = format!(
        "INSERT INTO spent_by_run (day, key, owner, run, cost) SELECT * FROM unnest({marks}) \
         ON CONFLICT (key, day, owner, run) DO UPDATE SET cost = spent_by_run.cost + excluded.cost"
    );
    query(transaction, &sql, &columns).await.map(drop)
}

fn upsert(roll_up: RollUp) -> String {
    let (table, keys) = (roll_up.table(), roll_up.columns().join(", "));
    let sums: Vec<&str> = COUNTS.into_iter().chain(["cost"]).collect();
    let mut types = vec!["date"];
    types.extend(roll_up.columns().iter().map(|_| "text"));
    types.extend(COUNTS.map(|_| "int8"));
    types.push("numeric");
    let adds: Vec<String> = sums
        .iter()
        .map(|name| format!("{name} = {table}.{name} + excluded.{name}"))
        .collect();
    format!(
        "INSERT INTO {table} (day, {keys}, {}) SELECT * FROM unnest({}) \
         ON CONFLICT (day, {keys}) DO UPDATE SET {}",
        sums.join(", "),
        marks(&types),
        adds.join(", ")
    )
}

fn marks(types: &[&str]) -> String {
    let mark = |(index, kind): (usize, &&str)| format!("${}::{kind}[]", index + 1);
    types
        .iter()
        .enumerate()
        .map(mark)
        .collect::<Vec<_>>()
        .join(", ")
}

fn column<T: ToSql + Sync + Send + 'static>(
    entries: &[LedgerEntry],
    of: impl Fn(&LedgerEntry) -> T,
) -> Column
where
    Vec<T>: ToSql,
{
    Box::new(entries.iter().map(of).collect::<Vec<T>>())
}

/// PostgreSQL's text can't hold a NUL.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

async fn query(
    transaction: &Transaction<'_>,
    sql: &str,
    columns: &[Column],
) -> Result<Vec<tokio_postgres::Row>, StoreError> {
    let statement = transaction
        .prepare(sql)
        .await
        .map_err(|error| store_error(&error))?;
    let params: Vec<&(dyn ToSql + Sync)> = columns
        .iter()
        .map(|column| &**column as &(dyn ToSql + Sync))
        .collect();
    transaction
        .query(&statement, &params)
        .await
        .map_err(|error| store_error(&error))
}
