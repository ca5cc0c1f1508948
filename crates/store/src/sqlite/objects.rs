//! Objects made by API, and the audit, in SQLite.

use async_trait::async_trait;
use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{
    Connection, OptionalExtension as _, Params, Row, Transaction, params, params_from_iter,
};
use secrecy::ExposeSecret as _;

use super::{SqliteStore, store_error};
use crate::error::StoreError;
use crate::fields::to_i64;
use crate::ledger::Page;
use crate::objects::{
    AuditDraft, AuditEntry, AuditQuery, ChangeError, ChangeMarks, ChangedBy, Changes, Handle,
    KeyUse, OBJECT_COLUMNS, ObjectChange, ObjectKind, ObjectRow, ObjectStore, Objects, REMEMBERED,
    Removal, StoredObject, is_remembered, json,
};

#[async_trait]
impl ObjectStore for SqliteStore {
    async fn marks(&self) -> Result<ChangeMarks, StoreError> {
        self.read(|connection| marks(connection).map_err(store_error))
            .await
    }

    async fn objects(&self) -> Result<Objects, StoreError> {
        self.read(objects).await
    }

    async fn changes(&self, since: u64, limit: u32) -> Result<Option<Changes>, StoreError> {
        self.read(move |connection| changes(connection, since, limit))
            .await
    }

    async fn page(
        &self,
        kind: ObjectKind,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<StoredObject>, StoreError> {
        let after = after.unwrap_or_default().to_owned();
        let sql = format!(
            "SELECT {OBJECT_COLUMNS} FROM objects WHERE kind = ?1 AND id > ?2 ORDER BY id LIMIT ?3"
        );
        self.read(move |connection| list_rows(connection, &sql, params![kind.name(), after, limit]))
            .await
    }

    async fn find(
        &self,
        kind: ObjectKind,
        handle: Handle<'_>,
    ) -> Result<Option<StoredObject>, StoreError> {
        let (column, text) = handle.column();
        let text = text.to_owned();
        let sql = format!("SELECT {OBJECT_COLUMNS} FROM objects WHERE kind = ?1 AND {column} = ?2");
        let found =
            self.read(move |connection| list_rows(connection, &sql, params![kind.name(), text]));
        Ok(found.await?.pop())
    }

    async fn note_uses(&self, uses: Vec<KeyUse>) -> Result<(), StoreError> {
        self.write(move |connection| note_uses(connection, &uses))
            .await
    }

    async fn uses(&self, keys: Vec<String>) -> Result<Vec<KeyUse>, StoreError> {
        self.read(move |connection| uses(connection, &keys).map_err(store_error))
            .await
    }

    async fn change(
        &self,
        change: ObjectChange,
        by: ChangedBy,
    ) -> Result<Option<StoredObject>, ChangeError> {
        self.write(move |connection| apply(connection, &change, &by))
            .await?
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditEntry, u64>, StoreError> {
        let query = query.clone();
        self.read(move |connection| audit(connection, &query)).await
    }

    async fn record(&self, what: AuditDraft) -> Result<(), StoreError> {
        self.write(move |connection| record(connection, &what))
            .await
    }
}

fn marks(connection: &Connection) -> rusqlite::Result<ChangeMarks> {
    let sql = "SELECT change_number, coalesce((SELECT revision FROM toggle), 0) FROM configuration";
    connection.prepare_cached(sql)?.query_row([], |row| {
        Ok(ChangeMarks {
            change_number: to_u64(row.get(0)?),
            toggle_revision: to_u64(row.get(1)?),
            clock: None,
        })
    })
}

fn objects(connection: &Connection) -> Result<Objects, StoreError> {
    // One snapshot for both reads.
    let transaction = connection.unchecked_transaction().map_err(store_error)?;
    let marks = marks(&transaction).map_err(store_error)?;
    let sql = format!(
        "SELECT {OBJECT_COLUMNS} FROM objects WHERE kind <> 'key' ORDER BY kind, created_at, id"
    );
    Ok(Objects {
        change_number: marks.change_number,
        items: list_rows(&transaction, &sql, [])?,
    })
}

fn list_rows(
    connection: &Connection,
    sql: &str,
    values: impl Params,
) -> Result<Vec<StoredObject>, StoreError> {
    let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
    let rows = statement
        .query_map(values, object_row)
        .map_err(store_error)?;
    rows.map(|row| row.map_err(store_error)?.into_object())
        .collect()
}

fn changes(connection: &Connection, since: u64, limit: u32) -> Result<Option<Changes>, StoreError> {
    // One snapshot for all reads.
    let transaction = connection.unchecked_transaction().map_err(store_error)?;
    let now = marks(&transaction).map_err(store_error)?.change_number;
    if !is_remembered(since, now) {
        return Ok(None);
    }
    let sql = format!(
        "SELECT {OBJECT_COLUMNS} FROM objects WHERE version > ?1 ORDER BY version LIMIT ?2"
    );
    let items = list_rows(&transaction, &sql, params![to_i64(since), limit])?;
    let mut changes = Changes::from_items(items, now, limit);
    let until = to_i64(changes.change_number);
    changes.removed = removals(&transaction, to_i64(since), until)?;
    Ok(Some(changes))
}

fn removals(connection: &Connection, since: i64, until: i64) -> Result<Vec<Removal>, StoreError> {
    let sql = "SELECT kind, id, version FROM removals WHERE version > ?1 AND version <= ?2 \
               ORDER BY version";
    let mut statement = connection.prepare_cached(sql).map_err(store_error)?;
    let mut rows = statement.query([since, until]).map_err(store_error)?;
    let mut removals = Vec::new();
    while let Some(row) = rows.next().map_err(store_error)? {
        removals.push(Removal {
            kind: ObjectKind::from_name(&row.get::<_, String>(0).map_err(store_error)?)?,
            id: row.get(1).map_err(store_error)?,
            version: to_u64(row.get(2).map_err(store_error)?),
        });
    }
    Ok(removals)
}

fn note_uses(connection: &mut Connection, uses: &[KeyUse]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    {
        let sql = "INSERT INTO key_uses VALUES (?1, ?2) ON CONFLICT (id) DO UPDATE \
                   SET last_used_at = max(last_used_at, excluded.last_used_at)";
        let mut statement = transaction.prepare_cached(sql)?;
        for one in uses {
            statement.execute(params![one.key, one.at.as_microsecond()])?;
        }
    }
    transaction.commit()
}

fn uses(connection: &Connection, keys: &[String]) -> rusqlite::Result<Vec<KeyUse>> {
    let sql = "SELECT last_used_at FROM key_uses WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let mut uses = Vec::new();
    for key in keys {
        let at = statement.query_row([key], |row| time(row, 0)).optional()?;
        uses.extend(at.map(|at| KeyUse {
            key: key.clone(),
            at,
        }));
    }
    Ok(uses)
}

type AppliedChange = Result<Option<StoredObject>, ChangeError>;

fn apply(
    connection: &mut Connection,
    change: &ObjectChange,
    by: &ChangedBy,
) -> rusqlite::Result<AppliedChange> {
    let transaction = connection.transaction()?;
    let sql = "UPDATE configuration SET change_number = change_number + 1 RETURNING change_number";
    let number = to_u64(transaction.query_row(sql, [], |row| row.get(0))?);
    let found = match find_row(&transaction, change)?.map(ObjectRow::into_object) {
        Some(Err(error)) => return Ok(Err(error.into())),
        Some(Ok(found)) => Some(found),
        None => None,
    };
    let after = match change.outcome(found.as_ref(), number, by.at) {
        Ok(_) if is_name_taken(&transaction, change)? => Err(ChangeError::Taken),
        outcome => outcome,
    };
    let after = match after {
        Ok(after) => after,
        Err(error) => return Ok(Err(error)),
    };
    match &after {
        Some(object) => put(&transaction, object)?,
        None => remove(&transaction, change, number)?,
    }
    record(
        &transaction,
        &change.to_audit(found.as_ref(), after.as_ref(), by),
    )?;
    transaction.commit()?;
    Ok(Ok(after))
}

fn find_row(
    transaction: &Transaction<'_>,
    change: &ObjectChange,
) -> rusqlite::Result<Option<ObjectRow>> {
    let sql = format!("SELECT {OBJECT_COLUMNS} FROM objects WHERE kind = ?1 AND id = ?2");
    let key = [change.kind().name(), change.id()];
    transaction.query_row(&sql, key, object_row).optional()
}

fn is_name_taken(transaction: &Transaction<'_>, change: &ObjectChange) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM objects WHERE kind = ?1 AND name = ?2 AND id <> ?3)";
    let name = params![change.kind().name(), change.name(), change.id()];
    transaction.query_row(sql, name, |row| row.get(0))
}

fn put(transaction: &Transaction<'_>, object: &StoredObject) -> rusqlite::Result<()> {
    let sql = format!(
        "INSERT OR REPLACE INTO objects ({OBJECT_COLUMNS}) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
    );
    let sealed = object.sealed.as_ref().map(|sealed| sealed.expose_secret());
    transaction
        .execute(
            &sql,
            params![
                object.kind.name(),
                object.id,
                object.name,
                object.body.to_string(),
                sealed,
                to_i64(object.version),
                object.created_at.as_microsecond(),
                object.updated_at.as_microsecond(),
            ],
        )
        .map(drop)
}

fn remove(
    transaction: &Transaction<'_>,
    change: &ObjectChange,
    number: u64,
) -> rusqlite::Result<()> {
    let (kind, id) = (change.kind().name(), change.id());
    let sql = "DELETE FROM objects WHERE kind = ?1 AND id = ?2";
    transaction.execute(sql, [kind, id])?;
    if change.kind() == ObjectKind::Key {
        transaction.execute("DELETE FROM key_uses WHERE id = ?1", [id])?;
    }
    let sql = "INSERT INTO removals (version, kind, id) VALUES (?1, ?2, ?3)";
    transaction.execute(sql, params![to_i64(number), kind, id])?;
    let forgotten = to_i64(number.saturating_sub(REMEMBERED));
    let sql = "DELETE FROM removals WHERE version <= ?1";
    transaction.execute(sql, [forgotten]).map(drop)
}

/// Adds to the audit.
pub(super) fn record(connection: &Connection, what: &AuditDraft) -> rusqlite::Result<()> {
    let sql = "INSERT INTO audit (at, actor, action, kind, object, before, after) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let text = |json: &Option<serde_json::Value>| json.as_ref().map(ToString::to_string);
    connection
        .execute(
            sql,
            params![
                what.at.as_microsecond(),
                what.actor,
                what.action,
                what.kind,
                what.object,
                text(&what.before),
                text(&what.after),
            ],
        )
        .map(drop)
}

fn audit(connection: &Connection, query: &AuditQuery) -> Result<Page<AuditEntry, u64>, StoreError> {
    let mut sql =
        "SELECT seq, at, actor, action, kind, object, before, after FROM audit WHERE true"
            .to_owned();
    let mut values = Vec::new();
    for (condition, value) in [
        (" AND kind = ?", query.kind.clone().map(Value::Text)),
        (" AND object = ?", query.object.clone().map(Value::Text)),
        (" AND actor = ?", query.actor.clone().map(Value::Text)),
        (
            " AND seq < ?",
            query.cursor.map(|seq| Value::Integer(to_i64(seq))),
        ),
    ] {
        if let Some(value) = value {
            sql.push_str(condition);
            values.push(value);
        }
    }
    sql.push_str(" ORDER BY seq DESC LIMIT ?");
    values.push(Value::Integer(i64::from(query.limit) + 1));
    let mut statement = connection.prepare_cached(&sql).map_err(store_error)?;
    let mut rows = statement
        .query(params_from_iter(values))
        .map_err(store_error)?;
    let mut items = Vec::new();
    while let Some(row) = rows.next().map_err(store_error)? {
        items.push(audit_entry(row)?);
    }
    Ok(Page::cut(items, query.limit, |entry| entry.seq))
}

fn audit_entry(row: &Row<'_>) -> Result<AuditEntry, StoreError> {
    let text = |index: usize| row.get::<_, Option<String>>(index).map_err(store_error);
    let body = |index: usize| {
        let text = text(index)?;
        text.map(|text| json("audit", &text)).transpose()
    };
    Ok(AuditEntry {
        seq: to_u64(row.get(0).map_err(store_error)?),
        what: AuditDraft {
            at: time(row, 1).map_err(store_error)?,
            actor: text(2)?.unwrap_or_default(),
            action: text(3)?.unwrap_or_default(),
            kind: text(4)?.unwrap_or_default(),
            object: text(5)?.unwrap_or_default(),
            before: body(6)?,
            after: body(7)?,
        },
    })
}

fn object_row(row: &Row<'_>) -> rusqlite::Result<ObjectRow> {
    Ok(ObjectRow {
        kind: row.get(0)?,
        id: row.get(1)?,
        name: row.get(2)?,
        body: row.get(3)?,
        sealed: row.get(4)?,
        version: row.get(5)?,
        created_at: time(row, 6)?,
        updated_at: time(row, 7)?,
    })
}

/// A time kept in microseconds.
pub(super) fn time(row: &Row<'_>, index: usize) -> rusqlite::Result<Timestamp> {
    let micros: i64 = row.get(index)?;
    Timestamp::from_microsecond(micros)
        .map_err(|_| rusqlite::Error::IntegralValueOutOfRange(index, micros))
}

pub(super) fn to_u64(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
