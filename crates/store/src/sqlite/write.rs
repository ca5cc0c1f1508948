//! Writing to SQLite: entries with their sums in one transaction, and retention.

use std::collections::BTreeMap;

use jiff::Timestamp;
use llm_router_domain::ledger::{LedgerEntry, LedgerSums};
use llm_router_domain::price::Cost;
use llm_router_domain::usage::Fee;
use rusqlite::types::ToSql;
use rusqlite::{Connection, Transaction, params};
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;

use crate::cost_sql::COUNTS;
use crate::detail;
use crate::fields::{
    CLASSES, COLUMN_COUNT, COLUMNS, LATER_CLASSES, estimate_method, explanation_text, inexact_text,
    service_tier, to_i64,
};
use crate::ledger::first_id;
use crate::rollup::{BatchLine, RollUp, RollUpKind, counts, lines, spent_lines};

/// Stores entries; how many were new.
pub(super) fn insert(
    connection: &mut Connection,
    entries: &[LedgerEntry],
) -> rusqlite::Result<usize> {
    let transaction = connection.transaction()?;
    let new = insert_entries(&transaction, entries)?;
    for kind in RollUpKind::ALL {
        for (roll_up, sums) in lines(kind, &new) {
            add_lines(&transaction, roll_up, &sums)?;
        }
    }
    add_spent(&transaction, &new)?;
    transaction.commit()?;
    Ok(new.len())
}

/// Deletes entries of before a moment; how many.
pub(super) fn prune(
    connection: &mut Connection,
    before: Timestamp,
    limit: u32,
) -> rusqlite::Result<usize> {
    let transaction = connection.transaction()?;
    let deleted = transaction.execute(
        "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE id < ?1 ORDER BY id LIMIT ?2)",
        params![first_id(before), limit],
    )?;
    if deleted > 0 {
        transaction.execute(
            "UPDATE retention SET pruned_to = max(pruned_to, ?1)",
            [before.as_microsecond()],
        )?;
    }
    transaction.commit()?;
    Ok(deleted)
}

fn insert_entries<'e>(
    transaction: &Transaction<'_>,
    entries: &'e [LedgerEntry],
) -> rusqlite::Result<Vec<&'e LedgerEntry>> {
    let marks: Vec<String> = (1..=COLUMN_COUNT + 2)
        .map(|number| format!("?{number}"))
        .collect();
    let mut statement = transaction.prepare_cached(&format!(
        "INSERT OR IGNORE INTO entries ({COLUMNS}, cost_micro, cost_femto) VALUES ({})",
        marks.join(", ")
    ))?;
    let mut new = Vec::with_capacity(entries.len());
    for entry in entries {
        if insert_entry(&mut statement, entry)? == 1 {
            new.push(entry);
        }
    }
    Ok(new)
}

fn insert_entry(
    statement: &mut rusqlite::CachedStatement<'_>,
    entry: &LedgerEntry,
) -> rusqlite::Result<usize> {
    let (attempt, outcome) = (&entry.attempt, &entry.outcome);
    let usage = &outcome.usage;
    let tokens = CLASSES.map(|class| to_i64(usage.get(class)));
    let (at, revision) = (attempt.at.as_microsecond(), to_i64(attempt.revision));
    let searches = i64::from(usage.uses(Fee::WebSearch));
    let (tier, estimated) = (service_tier(usage), estimate_method(usage));
    let (ending, format) = (outcome.ending.name(), attempt.format.name());
    let disconnect = outcome
        .disconnect
        .map(llm_router_domain::ledger::Disconnect::name);
    let cost = match outcome.cost {
        Cost::Usd(usd) => split_cost(usd).map(Some),
        Cost::Unpriced => [None, None],
    };
    let timings = &outcome.timings;
    let explanation = explanation_text(entry);
    let head: [&dyn ToSql; 16] = [
        &attempt.id,
        &attempt.request_id,
        &attempt.number,
        &outcome.last,
        &at,
        &attempt.key,
        &attempt.owner,
        &attempt.end_user,
        &format,
        &attempt.model_asked,
        &attempt.model,
        &attempt.provider,
        &attempt.deployment,
        &attempt.rule,
        &attempt.stream,
        &revision,
    ];
    let later = LATER_CLASSES.map(|class| to_i64(usage.get(class)));
    let (inexact, detail) = (inexact_text(entry), detail::outcome_text(outcome));
    let tail: [&dyn ToSql; 12] = [
        &searches,
        &tier,
        &estimated,
        &outcome.status,
        &outcome.error,
        &timings.queue,
        &timings.connect,
        &timings.first_token,
        &timings.total,
        &ending,
        &disconnect,
        &explanation,
    ];
    let end: [&dyn ToSql; 5] = [
        &inexact,
        &outcome.billing.served_model,
        &detail,
        &cost[0],
        &cost[1],
    ];
    let counts = tokens.iter().map(|count| count as &dyn ToSql);
    let later = later.iter().map(|count| count as &dyn ToSql);
    let head = head.into_iter().chain(counts).chain(tail);
    statement.execute(rusqlite::params_from_iter(head.chain(later).chain(end)))
}

fn add_lines(
    transaction: &Transaction<'_>,
    roll_up: RollUp,
    lines: &BTreeMap<BatchLine<'_>, LedgerSums>,
) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(&upsert(roll_up))?;
    for ((day, names), sums) in lines {
        let day = day.to_string();
        let numbers: Vec<i64> = counts(sums)
            .into_iter()
            .map(to_i64)
            .chain(split_cost(sums.cost))
            .collect();
        let names = names
            .iter()
            .take(roll_up.columns().len())
            .map(|name| name as &dyn ToSql);
        let numbers = numbers.iter().map(|number| number as &dyn ToSql);
        let row = std::iter::once(&day as &dyn ToSql)
            .chain(names)
            .chain(numbers);
        statement.execute(rusqlite::params_from_iter(row))?;
    }
    Ok(())
}

fn add_spent(transaction: &Transaction<'_>, entries: &[&LedgerEntry]) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached(
        "INSERT INTO spent_by_run (day, key, owner, run, cost_micro, cost_femto) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (key, day, owner, run) DO UPDATE SET \
         cost_micro = cost_micro + excluded.cost_micro, cost_femto = cost_femto + excluded.cost_femto",
    )?;
    for ((day, key, owner, run), cost) in spent_lines(entries) {
        let [micro, femto] = split_cost(cost);
        statement.execute(params![day.to_string(), key, owner, run, micro, femto])?;
    }
    Ok(())
}

fn upsert(roll_up: RollUp) -> String {
    let (table, keys) = (roll_up.table(), roll_up.columns().join(", "));
    let sums: Vec<&str> = COUNTS
        .into_iter()
        .chain(["cost_micro", "cost_femto"])
        .collect();
    let marks: Vec<String> = (1..=1 + roll_up.columns().len() + sums.len())
        .map(|number| format!("?{number}"))
        .collect();
    let adds: Vec<String> = sums
        .iter()
        .map(|name| format!("{name} = {name} + excluded.{name}"))
        .collect();
    format!(
        "INSERT INTO {table} (day, {keys}, {}) VALUES ({}) ON CONFLICT (day, {keys}) DO UPDATE SET {}",
        sums.join(", "),
        marks.join(", "),
        adds.join(", ")
    )
}

/// USD as whole millionths and the rest in 10⁻¹⁵: two integers that SQLite adds up exactly, where
/// one would be too coarse or too small.
fn split_cost(usd: Decimal) -> [i64; 2] {
    let micros = (usd * Decimal::from(1_000_000)).trunc();
    let rest = usd * Decimal::from(1_000_000) - micros;
    let femto = (rest * Decimal::from(1_000_000_000)).round();
    [
        micros.to_i64().unwrap_or(i64::MAX),
        femto.to_i64().unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_splits_without_loss() {
        for (usd, parts) in [
            ("0", [0, 0]),
            ("0.000005775", [5, 775_000_000]),
            (
                "123456789.123456789012345",
                [123_456_789_123_456, 789_012_345],
            ),
            ("0.000000000000001", [0, 1]),
        ] {
            assert_eq!(split_cost(usd.parse().unwrap()), parts, "{usd}");
        }
    }
}
