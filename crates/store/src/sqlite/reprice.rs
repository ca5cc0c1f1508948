//! Replaces bills of entries in SQLite, with their sums. It must not compute costs.

use llm_router_domain::ledger::LedgerEntry;
use llm_router_domain::price::Cost;
use rusqlite::types::ToSql;
use rusqlite::{Connection, Transaction, params};

use super::read::select;
use super::write::{split_cost, upsert};
use crate::detail;
use crate::error::StoreError;
use crate::fields::{COLUMNS, inexact_text};
use crate::ledger::{RepriceQuery, Repricing};
use crate::rollup::{Repriced, RollUpKind, change_lines, change_spent};

/// Lists entries to bill anew.
pub(super) fn entries(
    connection: &Connection,
    query: &RepriceQuery,
) -> Result<Vec<LedgerEntry>, StoreError> {
    let (from, to) = query.bounds();
    let after = if query.after.is_some() { ">" } else { ">=" };
    let mut sql = format!(
        "SELECT {COLUMNS}, cost_micro, cost_femto FROM entries WHERE id {after} ?1 AND id < ?2"
    );
    let mut values: Vec<&dyn ToSql> = vec![&from, &to];
    let filters: Vec<_> = query.filters().collect();
    for (column, value) in &filters {
        values.push(value);
        sql.push_str(&format!(" AND {column} = ?{}", values.len()));
    }
    sql.push_str(&format!(" ORDER BY id LIMIT {}", query.limit));
    select(connection, &sql, values)
}

/// Replaces bills; how many.
pub(super) fn apply(connection: &mut Connection, repricing: &Repricing) -> rusqlite::Result<usize> {
    let transaction = connection.transaction()?;
    let mut changed: Vec<&Repriced> = Vec::new();
    for pair in &repricing.entries {
        if replace(&transaction, repricing, pair)? {
            changed.push(pair);
        }
    }
    for kind in RollUpKind::ALL {
        for (roll_up, lines) in change_lines(kind, &changed) {
            let mut statement = transaction.prepare_cached(&upsert(roll_up))?;
            for ((day, names), change) in lines {
                let day = day.to_string();
                let cost = split_cost(change.cost);
                let names = names.iter().map(|name| name as &dyn ToSql);
                let numbers = change.counts.iter().chain(&cost);
                let numbers = numbers.map(|number| number as &dyn ToSql);
                let row = std::iter::once(&day as &dyn ToSql);
                statement.execute(rusqlite::params_from_iter(row.chain(names).chain(numbers)))?;
            }
        }
    }
    for ((day, key, owner, run), cost) in change_spent(&changed) {
        let [micro, femto] = split_cost(cost);
        transaction.execute(
            "UPDATE spent_by_run SET cost_micro = cost_micro + ?5, cost_femto = cost_femto + ?6 \
             WHERE day = ?1 AND key = ?2 AND owner = ?3 AND run = ?4",
            params![day.to_string(), key, owner, run, micro, femto],
        )?;
    }
    transaction.commit()?;
    Ok(changed.len())
}

/// Replaces one bill unless the entry has another cost by now; keeps the one before.
fn replace(
    transaction: &Transaction<'_>,
    repricing: &Repricing,
    (before, after): &Repriced,
) -> rusqlite::Result<bool> {
    let parts = |entry: &LedgerEntry| match entry.outcome.cost {
        Cost::Usd(usd) => split_cost(usd).map(Some),
        Cost::Unpriced => [None, None],
    };
    let ([old_micro, old_femto], [micro, femto]) = (parts(before), parts(after));
    let (inexact, detail) = (inexact_text(after), detail::outcome_text(&after.outcome));
    let updated = transaction
        .prepare_cached(
            "UPDATE entries SET cost_micro = ?2, cost_femto = ?3, inexact = ?4, detail = ?5 \
         WHERE id = ?1 AND cost_micro IS ?6 AND cost_femto IS ?7",
        )?
        .execute(params![
            before.attempt.id,
            micro,
            femto,
            inexact,
            detail,
            old_micro,
            old_femto
        ])?;
    if updated == 0 {
        return Ok(false);
    }
    transaction
        .prepare_cached(
            "INSERT INTO repriced (entry, at, reason, cost_micro, cost_femto, inexact, detail) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![
            before.attempt.id,
            repricing.at.as_microsecond(),
            repricing.reason,
            old_micro,
            old_femto,
            inexact_text(before),
            detail::outcome_text(&before.outcome)
        ])?;
    Ok(true)
}
