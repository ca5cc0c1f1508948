//! The routing toggle in SQLite.

use async_trait::async_trait;
use llm_router_domain::toggle::{Toggle, ToggleOutcome, ToggleRecord};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::objects::{record, time, to_u64};
use super::{SqliteStore, store_error};
use crate::error::StoreError;
use crate::fields::to_i64;
use crate::ledger::Page;
use crate::toggle::{HISTORY_COLUMNS, ToggleStep, ToggleStore, outcome_named, state, state_text};

#[async_trait]
impl ToggleStore for SqliteStore {
    async fn toggle(&self) -> Result<Option<Toggle>, StoreError> {
        let text = self.read(|connection| read(connection).map_err(store_error));
        text.await?.map(|text| state(&text)).transpose()
    }

    async fn begin_toggle(&self, first: &Toggle) -> Result<Toggle, StoreError> {
        let (revision, text) = (to_i64(first.revision()), state_text(first)?);
        let text = self.write(move |connection| {
            let sql = "INSERT INTO toggle VALUES (1, ?1, ?2) ON CONFLICT DO NOTHING";
            connection.execute(sql, params![revision, text])?;
            Ok(read(connection)?.unwrap_or(text))
        });
        state(&text.await?)
    }

    async fn step_toggle(&self, step: ToggleStep) -> Result<bool, StoreError> {
        let text = state_text(&step.to)?;
        self.write(move |connection| take(connection, &step, &text))
            .await
    }

    async fn toggle_history(
        &self,
        cursor: Option<u64>,
        limit: u32,
    ) -> Result<Page<ToggleRecord, u64>, StoreError> {
        self.read(move |connection| history(connection, cursor, limit))
            .await
    }
}

fn read(connection: &Connection) -> rusqlite::Result<Option<String>> {
    let mut statement = connection.prepare_cached("SELECT state FROM toggle")?;
    statement.query_row([], |row| row.get(0)).optional()
}

fn take(connection: &mut Connection, step: &ToggleStep, text: &str) -> rusqlite::Result<bool> {
    let transaction = connection.transaction()?;
    let replaced = transaction.execute(
        "UPDATE toggle SET revision = ?1, state = ?2 WHERE revision = ?3",
        params![to_i64(step.to.revision()), text, to_i64(step.from)],
    )?;
    if replaced == 0 {
        return Ok(false);
    }
    for item in &step.items {
        transaction.execute(
            &format!(
                "INSERT INTO toggle_history ({HISTORY_COLUMNS}, ended) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)"
            ),
            params![
                to_i64(item.id),
                item.value,
                item.reason,
                item.actor,
                item.requested_at.as_microsecond(),
                item.effective_at.map(|at| at.as_microsecond()),
                item.outcome.name(),
                item.ended_by,
                item.outcome != ToggleOutcome::Pending,
            ],
        )?;
    }
    if let Some(audit) = &step.audit {
        record(&transaction, audit)?;
    }
    transaction.commit()?;
    Ok(true)
}

fn history(
    connection: &Connection,
    cursor: Option<u64>,
    limit: u32,
) -> Result<Page<ToggleRecord, u64>, StoreError> {
    let sql = format!(
        "SELECT {HISTORY_COLUMNS} FROM toggle_history h WHERE id < ?1 AND (ended OR NOT EXISTS \
         (SELECT 1 FROM toggle_history l WHERE l.id = h.id AND l.ended)) ORDER BY id DESC LIMIT ?2"
    );
    let mut statement = connection.prepare_cached(&sql).map_err(store_error)?;
    let before = cursor.map_or(i64::MAX, to_i64);
    let mut rows = statement
        .query(params![before, i64::from(limit) + 1])
        .map_err(store_error)?;
    let mut items = Vec::new();
    while let Some(row) = rows.next().map_err(store_error)? {
        let outcome: String = row.get(6).map_err(store_error)?;
        items.push(item(row, outcome_named(&outcome)?).map_err(store_error)?);
    }
    Ok(Page::cut(items, limit, |item| item.id))
}

fn item(row: &Row<'_>, outcome: ToggleOutcome) -> rusqlite::Result<ToggleRecord> {
    let effective = row.get::<_, Option<i64>>(5)?;
    Ok(ToggleRecord {
        id: to_u64(row.get(0)?),
        value: row.get(1)?,
        reason: row.get(2)?,
        actor: row.get(3)?,
        requested_at: time(row, 4)?,
        effective_at: effective.map(|_| time(row, 5)).transpose()?,
        outcome,
        ended_by: row.get(7)?,
    })
}
