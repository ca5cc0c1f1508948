//! Objects made by API, and the audit, in PostgreSQL.

use std::fmt::Write as _;

use async_trait::async_trait;
use secrecy::ExposeSecret as _;
use tokio_postgres::types::ToSql;
use tokio_postgres::{IsolationLevel, Row, Transaction};

use super::listen::announce;
use super::{ANSWER, CONNECT, PostgresStore, get, store_error, with_timeout};
use crate::error::StoreError;
use crate::fields::to_i64;
use crate::ledger::Page;
use crate::objects::{
    AuditDraft, AuditEntry, AuditQuery, ChangeError, ChangeMarks, ChangedBy, Changes, Handle,
    KeyUse, OBJECT_COLUMNS, ObjectChange, ObjectKind, ObjectRow, ObjectStore, Objects, REMEMBERED,
    Removal, StoredObject, is_remembered, json,
};

#[async_trait]
impl ObjectStore for PostgresStore {
    async fn marks(&self) -> Result<ChangeMarks, StoreError> {
        with_timeout(CONNECT, async {
            let client = self.client().await?;
            let sql = "SELECT change_number, coalesce((SELECT revision FROM toggle), 0), \
                       clock_timestamp() FROM configuration";
            let statement = client.prepare_cached(sql).await;
            let statement = statement.map_err(|error| store_error(&error))?;
            let row = client.query_one(&statement, &[]).await;
            let row = row.map_err(|error| store_error(&error))?;
            Ok(ChangeMarks {
                change_number: number(&row, 0)?,
                toggle_revision: number(&row, 1)?,
                clock: Some(get(&row, 2)?),
            })
        })
        .await
    }

    async fn objects(&self) -> Result<Objects, StoreError> {
        with_timeout(ANSWER, self.all_objects()).await
    }

    async fn changes(&self, since: u64, limit: u32) -> Result<Option<Changes>, StoreError> {
        with_timeout(ANSWER, self.changes_since(since, limit)).await
    }

    async fn page(
        &self,
        kind: ObjectKind,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<StoredObject>, StoreError> {
        let sql = format!(
            "SELECT {OBJECT_COLUMNS} FROM objects WHERE kind = $1 AND id > $2 ORDER BY id LIMIT $3"
        );
        let (after, limit) = (after.unwrap_or_default(), i64::from(limit));
        let values: [&(dyn ToSql + Sync); 3] = [&kind.name(), &after, &limit];
        with_timeout(ANSWER, self.list_rows(&sql, &values)).await
    }

    async fn find(
        &self,
        kind: ObjectKind,
        handle: Handle<'_>,
    ) -> Result<Option<StoredObject>, StoreError> {
        let (column, text) = handle.column();
        let sql = format!("SELECT {OBJECT_COLUMNS} FROM objects WHERE kind = $1 AND {column} = $2");
        let values: [&(dyn ToSql + Sync); 2] = [&kind.name(), &text];
        let mut found = with_timeout(ANSWER, self.list_rows(&sql, &values)).await?;
        Ok(found.pop())
    }

    async fn note_uses(&self, uses: Vec<KeyUse>) -> Result<(), StoreError> {
        let (keys, times): (Vec<_>, Vec<_>) = uses.into_iter().map(|one| (one.key, one.at)).unzip();
        let sql = "INSERT INTO key_uses SELECT * FROM unnest($1::text[], $2::timestamptz[]) \
                   ON CONFLICT (id) DO UPDATE SET last_used_at = \
                   greatest(key_uses.last_used_at, excluded.last_used_at)";
        with_timeout(ANSWER, async {
            let done = self.client().await?.execute(sql, &[&keys, &times]).await;
            done.map(drop).map_err(|error| store_error(&error))
        })
        .await
    }

    async fn uses(&self, keys: Vec<String>) -> Result<Vec<KeyUse>, StoreError> {
        let sql = "SELECT id, last_used_at FROM key_uses WHERE id = ANY($1)";
        with_timeout(ANSWER, async {
            let rows = self.client().await?.query(sql, &[&keys]).await;
            let rows = rows.map_err(|error| store_error(&error))?;
            let read = |row| {
                Ok(KeyUse {
                    key: get(row, 0)?,
                    at: get(row, 1)?,
                })
            };
            rows.iter().map(read).collect()
        })
        .await
    }

    async fn change(
        &self,
        change: ObjectChange,
        by: ChangedBy,
    ) -> Result<Option<StoredObject>, ChangeError> {
        let work = async { Ok(self.apply(&change, &by).await) };
        with_timeout(ANSWER, work).await?
    }

    async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditEntry, u64>, StoreError> {
        with_timeout(ANSWER, self.list_audit(query)).await
    }

    async fn record(&self, what: AuditDraft) -> Result<(), StoreError> {
        with_timeout(ANSWER, async {
            let mut client = self.client().await?;
            let transaction = client.transaction().await;
            let transaction = transaction.map_err(|error| store_error(&error))?;
            record(&transaction, &what).await?;
            transaction
                .commit()
                .await
                .map_err(|error| store_error(&error))
        })
        .await
    }
}

impl PostgresStore {
    async fn all_objects(&self) -> Result<Objects, StoreError> {
        let mut client = self.client().await?;
        let (transaction, change_number) = moment(&mut client).await?;
        let sql = format!(
            "SELECT {OBJECT_COLUMNS} FROM objects WHERE kind <> 'key' ORDER BY kind, created_at, id"
        );
        let rows = transaction.query(&sql, &[]).await;
        let rows = rows.map_err(|error| store_error(&error))?;
        let items = rows.iter().map(object).collect::<Result<_, _>>()?;
        Ok(Objects {
            change_number,
            items,
        })
    }

    async fn changes_since(&self, since: u64, limit: u32) -> Result<Option<Changes>, StoreError> {
        let mut client = self.client().await?;
        let (transaction, now) = moment(&mut client).await?;
        if !is_remembered(since, now) {
            return Ok(None);
        }
        let sql = format!(
            "SELECT {OBJECT_COLUMNS} FROM objects WHERE version > $1 ORDER BY version LIMIT $2"
        );
        let since = to_i64(since);
        let rows = transaction.query(&sql, &[&since, &i64::from(limit)]).await;
        let rows = rows.map_err(|error| store_error(&error))?;
        let items = rows.iter().map(object).collect::<Result<_, _>>()?;
        let mut changes = Changes::from_items(items, now, limit);
        let sql = "SELECT kind, id, version FROM removals WHERE version > $1 AND version <= $2 \
                   ORDER BY version";
        let until = to_i64(changes.change_number);
        let rows = transaction.query(sql, &[&since, &until]).await;
        let rows = rows.map_err(|error| store_error(&error))?;
        changes.removed = rows.iter().map(removal).collect::<Result<_, _>>()?;
        Ok(Some(changes))
    }

    async fn list_rows(
        &self,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<StoredObject>, StoreError> {
        let client = self.client().await?;
        let statement = client.prepare_cached(sql).await;
        let statement = statement.map_err(|error| store_error(&error))?;
        let rows = client.query(&statement, values).await;
        let rows = rows.map_err(|error| store_error(&error))?;
        rows.iter().map(object).collect()
    }

    async fn apply(
        &self,
        change: &ObjectChange,
        by: &ChangedBy,
    ) -> Result<Option<StoredObject>, ChangeError> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await;
        let transaction = transaction.map_err(|error| store_error(&error))?;
        // Takes the lock that changes wait for each other by.
        let sql =
            "UPDATE configuration SET change_number = change_number + 1 RETURNING change_number";
        let row = transaction.query_one(sql, &[]).await;
        let number = number(&row.map_err(|error| store_error(&error))?, 0)?;
        let found = find_row(&transaction, change).await?;
        let after = change.outcome(found.as_ref(), number, by.at)?;
        if is_name_taken(&transaction, change).await? {
            return Err(ChangeError::Taken);
        }
        match &after {
            Some(object) => put(&transaction, object).await?,
            None => remove(&transaction, change, number).await?,
        }
        let audited = change.to_audit(found.as_ref(), after.as_ref(), by);
        record(&transaction, &audited).await?;
        announce(&transaction, number).await?;
        let committed = transaction.commit().await;
        committed.map_err(|error| store_error(&error))?;
        Ok(after)
    }

    async fn list_audit(&self, query: &AuditQuery) -> Result<Page<AuditEntry, u64>, StoreError> {
        let mut sql =
            "SELECT seq, at, actor, action, kind, object, before, after FROM audit WHERE true"
                .to_owned();
        let cursor = query.cursor.map(to_i64);
        let limit = i64::from(query.limit) + 1;
        let mut params: Vec<&(dyn ToSql + Sync)> = Vec::new();
        let text = |text| Option::map(text, |text: &String| text as &(dyn ToSql + Sync));
        for (condition, param) in [
            ("kind =", text(query.kind.as_ref())),
            ("object =", text(query.object.as_ref())),
            ("actor =", text(query.actor.as_ref())),
            (
                "seq <",
                cursor.as_ref().map(|seq| seq as &(dyn ToSql + Sync)),
            ),
        ] {
            if let Some(param) = param {
                params.push(param);
                let _ = write!(sql, " AND {condition} ${}", params.len());
            }
        }
        params.push(&limit);
        let _ = write!(sql, " ORDER BY seq DESC LIMIT ${}", params.len());
        let rows = self.client().await?.query(&sql, &params).await;
        let rows = rows.map_err(|error| store_error(&error))?;
        let items = rows.iter().map(audit_entry).collect::<Result<_, _>>()?;
        Ok(Page::cut(items, query.limit, |entry: &AuditEntry| {
            entry.seq
        }))
    }
}

/// A snapshot that several reads share, and its change number.
async fn moment(client: &mut tokio_postgres::Client) -> Result<(Transaction<'_>, u64), StoreError> {
    let reading = client
        .build_transaction()
        .isolation_level(IsolationLevel::RepeatableRead)
        .read_only(true);
    let transaction = reading.start().await.map_err(|error| store_error(&error))?;
    let sql = "SELECT change_number FROM configuration";
    let row = transaction.query_one(sql, &[]).await;
    let change_number = number(&row.map_err(|error| store_error(&error))?, 0)?;
    Ok((transaction, change_number))
}

async fn find_row(
    transaction: &Transaction<'_>,
    change: &ObjectChange,
) -> Result<Option<StoredObject>, StoreError> {
    let sql = format!("SELECT {OBJECT_COLUMNS} FROM objects WHERE kind = $1 AND id = $2");
    let key: [&(dyn ToSql + Sync); 2] = [&change.kind().name(), &change.id()];
    let row = transaction.query_opt(&sql, &key).await;
    let row = row.map_err(|error| store_error(&error))?;
    row.as_ref().map(object).transpose()
}

async fn is_name_taken(
    transaction: &Transaction<'_>,
    change: &ObjectChange,
) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM objects WHERE kind = $1 AND name = $2 AND id <> $3)";
    let name: [&(dyn ToSql + Sync); 3] = [&change.kind().name(), &change.name(), &change.id()];
    let row = transaction.query_one(sql, &name).await;
    get(&row.map_err(|error| store_error(&error))?, 0)
}

async fn put(transaction: &Transaction<'_>, object: &StoredObject) -> Result<(), StoreError> {
    let sql = format!(
        "INSERT INTO objects ({OBJECT_COLUMNS}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
         ON CONFLICT (kind, id) DO UPDATE SET name = excluded.name, body = excluded.body, \
         sealed = excluded.sealed, version = excluded.version, updated_at = excluded.updated_at"
    );
    let sealed = object.sealed.as_ref().map(|sealed| sealed.expose_secret());
    let values: [&(dyn ToSql + Sync); 8] = [
        &object.kind.name(),
        &object.id,
        &object.name,
        &object.body.to_string(),
        &sealed,
        &to_i64(object.version),
        &object.created_at,
        &object.updated_at,
    ];
    let done = transaction.execute(&sql, &values).await;
    done.map(drop).map_err(|error| store_error(&error))
}

async fn remove(
    transaction: &Transaction<'_>,
    change: &ObjectChange,
    number: u64,
) -> Result<(), StoreError> {
    let (kind, id) = (change.kind().name(), change.id());
    let number = to_i64(number);
    let forgotten = number.saturating_sub_unsigned(REMEMBERED);
    let statements: [(&str, &[&(dyn ToSql + Sync)]); 4] = [
        (
            "DELETE FROM objects WHERE kind = $1 AND id = $2",
            &[&kind, &id],
        ),
        (
            "DELETE FROM key_uses WHERE $1 = 'key' AND id = $2",
            &[&kind, &id],
        ),
        (
            "INSERT INTO removals (version, kind, id) VALUES ($1, $2, $3)",
            &[&number, &kind, &id],
        ),
        ("DELETE FROM removals WHERE version <= $1", &[&forgotten]),
    ];
    for (sql, values) in statements {
        let done = transaction.execute(sql, values).await;
        done.map_err(|error| store_error(&error))?;
    }
    Ok(())
}

/// Adds to the audit.
pub(super) async fn record(
    transaction: &Transaction<'_>,
    what: &AuditDraft,
) -> Result<(), StoreError> {
    let sql = "INSERT INTO audit (at, actor, action, kind, object, before, after) \
               VALUES ($1, $2, $3, $4, $5, $6, $7)";
    let text = |json: &Option<serde_json::Value>| json.as_ref().map(ToString::to_string);
    let values: [&(dyn ToSql + Sync); 7] = [
        &what.at,
        &what.actor,
        &what.action,
        &what.kind,
        &what.object,
        &text(&what.before),
        &text(&what.after),
    ];
    let done = transaction.execute(sql, &values).await;
    done.map(drop).map_err(|error| store_error(&error))
}

fn audit_entry(row: &Row) -> Result<AuditEntry, StoreError> {
    let body = |index: usize| {
        let text = get::<Option<String>>(row, index)?;
        text.map(|text| json("audit", &text)).transpose()
    };
    Ok(AuditEntry {
        seq: number(row, 0)?,
        what: AuditDraft {
            at: get(row, 1)?,
            actor: get(row, 2)?,
            action: get(row, 3)?,
            kind: get(row, 4)?,
            object: get(row, 5)?,
            before: body(6)?,
            after: body(7)?,
        },
    })
}

fn removal(row: &Row) -> Result<Removal, StoreError> {
    Ok(Removal {
        kind: ObjectKind::from_name(&get::<String>(row, 0)?)?,
        id: get(row, 1)?,
        version: number(row, 2)?,
    })
}

fn object(row: &Row) -> Result<StoredObject, StoreError> {
    ObjectRow {
        kind: get(row, 0)?,
        id: get(row, 1)?,
        name: get(row, 2)?,
        body: get(row, 3)?,
        sealed: get(row, 4)?,
        version: get(row, 5)?,
        created_at: get(row, 6)?,
        updated_at: get(row, 7)?,
    }
    .into_object()
}

pub(super) fn number(row: &Row, index: usize) -> Result<u64, StoreError> {
    get::<i64>(row, index).map(|number| u64::try_from(number).unwrap_or_default())
}
