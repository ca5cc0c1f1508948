//! Replaces bills of entries in PostgreSQL, with their sums. It must not compute costs.

use deadpool_postgres::Object;
use jiff::civil::Date;
use llm_router_domain::ledger::LedgerEntry;
use rust_decimal::Decimal;
use tokio_postgres::Transaction;
use tokio_postgres::types::ToSql;

use super::read::entries_of;
use super::store_error;
use super::write::{Column, clean, query as run, upsert};
use crate::cost_sql::COUNTS;
use crate::detail;
use crate::error::StoreError;
use crate::fields::{COLUMNS, inexact_text};
use crate::ledger::{RepriceQuery, Repricing};
use crate::rollup::{
    Repriced, RollUp, RollUpKind, RollUpLine, SumsChange, change_lines, change_spent,
};

/// Lists entries to bill anew.
pub(super) async fn entries(
    client: &Object,
    query: &RepriceQuery,
) -> Result<Vec<LedgerEntry>, StoreError> {
    let (from, to) = query.bounds();
    let after = if query.after.is_some() { ">" } else { ">=" };
    let mut sql = format!("SELECT {COLUMNS}, cost FROM entries WHERE id {after} $1 AND id < $2");
    let mut values: Vec<&(dyn ToSql + Sync)> = vec![&from, &to];
    let filters: Vec<_> = query.filters().collect();
    for (column, value) in &filters {
        values.push(value);
        sql.push_str(&format!(" AND {column} = ${}", values.len()));
    }
    sql.push_str(&format!(" ORDER BY id LIMIT {}", query.limit));
    let rows = client.query(&sql, &values).await;
    entries_of(rows.map_err(|error| store_error(&error))?)
}

/// Replaces bills; how many.
pub(super) async fn apply(client: &mut Object, repricing: &Repricing) -> Result<usize, StoreError> {
    let transaction = client
        .transaction()
        .await
        .map_err(|error| store_error(&error))?;
    let mut changed: Vec<&Repriced> = Vec::new();
    for pair in &repricing.entries {
        if replace(&transaction, repricing, pair).await? {
            changed.push(pair);
        }
    }
    for kind in RollUpKind::ALL {
        for (roll_up, lines) in change_lines(kind, &changed) {
            change_sums(&transaction, roll_up, &lines).await?;
        }
    }
    for ((day, key, owner, run), cost) in change_spent(&changed) {
        let sql = "UPDATE spent_by_run SET cost = cost + $5 \
                   WHERE day = $1 AND key = $2 AND owner = $3 AND run = $4";
        let done = transaction
            .execute(sql, &[&day, &key, &owner, &run, &cost])
            .await;
        done.map_err(|error| store_error(&error))?;
    }
    transaction
        .commit()
        .await
        .map_err(|error| store_error(&error))?;
    Ok(changed.len())
}

async fn change_sums(
    transaction: &Transaction<'_>,
    roll_up: RollUp,
    lines: &std::collections::BTreeMap<RollUpLine, SumsChange>,
) -> Result<(), StoreError> {
    if lines.is_empty() {
        return Ok(());
    }
    let days: Vec<Date> = lines.keys().map(|(day, _)| *day).collect();
    let mut columns: Vec<Column> = vec![Box::new(days)];
    for index in 0..roll_up.columns().len() {
        let name =
            |(_, names): &RollUpLine| names.get(index).map_or_else(String::new, |n| clean(n));
        columns.push(Box::new(lines.keys().map(name).collect::<Vec<String>>()));
    }
    for index in 0..COUNTS.len() {
        let count = |change: &SumsChange| change.counts.get(index).copied().unwrap_or_default();
        columns.push(Box::new(lines.values().map(count).collect::<Vec<i64>>()));
    }
    let costs: Vec<Decimal> = lines.values().map(|change| change.cost).collect();
    columns.push(Box::new(costs));
    run(transaction, &upsert(roll_up), &columns).await.map(drop)
}

/// Replaces one bill unless the entry has another cost by now; keeps the one before.
async fn replace(
    transaction: &Transaction<'_>,
    repricing: &Repricing,
    (before, after): &Repriced,
) -> Result<bool, StoreError> {
    let (old, new) = (before.outcome.cost.usd(), after.outcome.cost.usd());
    let sql = "UPDATE entries SET cost = $2, inexact = $3, detail = $4 \
               WHERE id = $1 AND cost IS NOT DISTINCT FROM $5";
    let (inexact, detail) = (inexact_text(after), detail::outcome_text(&after.outcome));
    let id = before.attempt.id;
    let statement = transaction.prepare_typed(sql, &[]).await;
    let statement = statement.map_err(|error| store_error(&error))?;
    let updated = transaction
        .execute(&statement, &[&id, &new, &inexact, &detail, &old])
        .await;
    if updated.map_err(|error| store_error(&error))? == 0 {
        return Ok(false);
    }
    let sql = "INSERT INTO repriced (entry, at, reason, cost, inexact, detail) \
               VALUES ($1, $2, $3, $4, $5, $6)";
    let (inexact, detail) = (inexact_text(before), detail::outcome_text(&before.outcome));
    let reason = clean(&repricing.reason);
    let kept = transaction
        .execute(sql, &[&id, &repricing.at, &reason, &old, &inexact, &detail])
        .await;
    kept.map_err(|error| store_error(&error))?;
    Ok(true)
}
