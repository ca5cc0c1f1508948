//! `/api/v1/audit`: the log of who changed what, when. Entries are written together with the changes
//! themselves.

use axum::Json;
use axum::extract::{Query, State};
use jiff::Timestamp;
use llm_router_store::objects::{AuditEntry, AuditQuery};
use serde::Serialize;
use serde_json::Value;

use crate::backend::AppState;
use crate::error::{AdminError, store_unavailable};
use crate::page::{ListPage, NumberedPaging, Parameters, limit, numbered_cursor};

/// An entry of the audit log.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = AuditEntry)]
pub(crate) struct AuditItem {
    /// Ascending number of the entry; also the number of the configuration's revision, if the change
    /// made one.
    seq: u64,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Name of the key that made the change; `file` for a change of the configuration file.
    actor: String,
    /// Action, such as `create`, `replace`, `delete`, `reload`.
    action: String,
    /// Kind of the object, such as `rule`, `provider`, `key`, `config`.
    kind: String,
    /// Id of the object.
    object: String,
    /// Content before the change, without secrets.
    before: Option<Value>,
    /// Content after the change, without secrets.
    after: Option<Value>,
}

/// List the audit log
///
/// Newest first.
#[utoipa::path(get, path = "/api/v1/audit", tag = "config",
    params(
        ("kind" = Option<String>, Query, description = "Only this kind, such as `rule`"),
        ("object" = Option<String>, Query, description = "Only the object with this id"),
        ("actor" = Option<String>, Query, description = "Only this actor"),
        NumberedPaging,
    ),
    responses((status = 200, description = "The entries", body = inline(ListPage<AuditItem>))))]
pub(crate) async fn list(
    State(backend): State<AppState>,
    Query(parameters): Parameters,
) -> Result<Json<ListPage<AuditItem>>, AdminError> {
    let text = |name: &str| parameters.get(name).cloned();
    let query = AuditQuery {
        kind: text("kind"),
        object: text("object"),
        actor: text("actor"),
        cursor: numbered_cursor(&parameters)?,
        limit: limit(&parameters)?,
    };
    let page = backend.store().audit(&query).await;
    let page = page.map_err(store_unavailable)?;
    Ok(Json(ListPage::from_store(page, AuditItem::from)))
}

impl From<AuditEntry> for AuditItem {
    fn from(entry: AuditEntry) -> Self {
        let change = entry.what;
        Self {
            seq: entry.seq,
            at: change.at,
            actor: change.actor,
            action: change.action,
            kind: change.kind,
            object: change.object,
            before: change.before,
            after: change.after,
        }
    }
}
