//! The routing toggle in PostgreSQL.

use async_trait::async_trait;
use deadpool_postgres::Object;
use llm_router_domain::toggle::{Toggle, ToggleOutcome, ToggleRecord};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Transaction};

use super::listen::announce;
use super::objects::{number, record};
use super::{ANSWER, PostgresStore, get, store_error, with_timeout};
use crate::error::StoreError;
use crate::fields::to_i64;
use crate::ledger::Page;
use crate::toggle::{HISTORY_COLUMNS, ToggleStep, ToggleStore, outcome_named, state, state_text};

#[async_trait]
impl ToggleStore for PostgresStore {
    async fn toggle(&self) -> Result<Option<Toggle>, StoreError> {
        with_timeout(ANSWER, async { read(&self.client().await?).await }).await
    }

    async fn begin_toggle(&self, first: &Toggle) -> Result<Toggle, StoreError> {
        with_timeout(ANSWER, async {
            let client = self.client().await?;
            let values: [&(dyn ToSql + Sync); 2] = [&to_i64(first.revision()), &state_text(first)?];
            let sql = "INSERT INTO toggle VALUES (1, $1, $2) ON CONFLICT DO NOTHING";
            let done = client.execute(sql, &values).await;
            done.map_err(|error| store_error(&error))?;
            Ok(read(&client).await?.unwrap_or_else(|| first.clone()))
        })
        .await
    }

    async fn step_toggle(&self, step: ToggleStep) -> Result<bool, StoreError> {
        with_timeout(ANSWER, async {
            let mut client = self.client().await?;
            let transaction = client.transaction().await;
            let transaction = transaction.map_err(|error| store_error(&error))?;
            if !take(&transaction, &step).await? {
                return Ok(false);
            }
            let committed = transaction.commit().await;
            committed.map_err(|error| store_error(&error))?;
            Ok(true)
        })
        .await
    }

    async fn toggle_history(
        &self,
        cursor: Option<u64>,
        limit: u32,
    ) -> Result<Page<ToggleRecord, u64>, StoreError> {
        with_timeout(ANSWER, async {
            let sql = format!(
                "SELECT {HISTORY_COLUMNS} FROM toggle_history h WHERE id < $1 \
                 AND (ended OR NOT EXISTS \
                 (SELECT 1 FROM toggle_history l WHERE l.id = h.id AND l.ended)) \
                 ORDER BY id DESC LIMIT $2"
            );
            let values: [&(dyn ToSql + Sync); 2] =
                [&cursor.map_or(i64::MAX, to_i64), &(i64::from(limit) + 1)];
            let rows = self.client().await?.query(&sql, &values).await;
            let rows = rows.map_err(|error| store_error(&error))?;
            let items = rows.iter().map(item).collect::<Result<_, _>>()?;
            Ok(Page::cut(items, limit, |item: &ToggleRecord| item.id))
        })
        .await
    }
}

async fn read(client: &Object) -> Result<Option<Toggle>, StoreError> {
    let row = client.query_opt("SELECT state FROM toggle", &[]).await;
    let row = row.map_err(|error| store_error(&error))?;
    let Some(row) = row else { return Ok(None) };
    state(get(&row, 0)?).map(Some)
}

async fn take(transaction: &Transaction<'_>, step: &ToggleStep) -> Result<bool, StoreError> {
    let sql = "UPDATE toggle SET revision = $1, state = $2 WHERE revision = $3";
    let values: [&(dyn ToSql + Sync); 3] = [
        &to_i64(step.to.revision()),
        &state_text(&step.to)?,
        &to_i64(step.from),
    ];
    let replaced = transaction.execute(sql, &values).await;
    if replaced.map_err(|error| store_error(&error))? == 0 {
        return Ok(false);
    }
    for item in &step.items {
        add(transaction, item).await?;
    }
    if let Some(audit) = &step.audit {
        record(transaction, audit).await?;
    }
    announce(transaction, step.to.revision()).await?;
    Ok(true)
}

async fn add(transaction: &Transaction<'_>, item: &ToggleRecord) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO toggle_history ({HISTORY_COLUMNS}, ended) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)"
    );
    let values: [&(dyn ToSql + Sync); 9] = [
        &to_i64(item.id),
        &item.value,
        &item.reason,
        &item.actor,
        &item.requested_at,
        &item.effective_at,
        &item.outcome.name(),
        &item.ended_by,
        &(item.outcome != ToggleOutcome::Pending),
    ];
    let done = transaction.execute(&sql, &values).await;
    done.map(drop).map_err(|error| store_error(&error))
}

fn item(row: &Row) -> Result<ToggleRecord, StoreError> {
    Ok(ToggleRecord {
        id: number(row, 0)?,
        value: get(row, 1)?,
        reason: get(row, 2)?,
        actor: get(row, 3)?,
        requested_at: get(row, 4)?,
        effective_at: get(row, 5)?,
        outcome: outcome_named(get(row, 6)?)?,
        ended_by: get(row, 7)?,
    })
}
