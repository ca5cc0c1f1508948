//! `/api/v1/audit`: who changed what, when. It is recorded with the changes themselves.

use axum::Json;
use axum::extract::{Query, State};
use jiff::Timestamp;
use llm_router_store::objects::{AuditEntry, AuditQuery};
use serde::Serialize;
use serde_json::Value;

use crate::Shared;
use crate::error::Problem;
use crate::error::away;
use crate::page::{Numbered, Page, Parameters, limit, numbered_cursor};

/// Something that was done.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = AuditEntry)]
pub(crate) struct Item {
    /// Grows; the number of the configuration's revision, if it made one.
    seq: u64,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The key that did it, by its name; `file` for a change of the configuration file.
    actor: String,
    /// As `create`, `replace`, `delete`, `reload`.
    action: String,
    /// As `rule`, `provider`, `key`, `config`.
    kind: String,
    /// Which one.
    object: String,
    /// What it was, without secrets.
    before: Option<Value>,
    /// What it became, without secrets.
    after: Option<Value>,
}

/// What was done by whom, the newest first
#[utoipa::path(get, path = "/api/v1/audit", tag = "config",
    params(
        ("kind" = Option<String>, Query, description = "Only of this kind, as `rule`"),
        ("object" = Option<String>, Query, description = "Only of this object, by its id"),
        ("actor" = Option<String>, Query, description = "Only by this actor"),
        Numbered,
    ),
    responses((status = 200, description = "The record", body = inline(Page<Item>))))]
pub(crate) async fn list(
    State(source): State<Shared>,
    Query(parameters): Parameters,
) -> Result<Json<Page<Item>>, Problem> {
    let text = |name: &str| parameters.get(name).cloned();
    let query = AuditQuery {
        kind: text("kind"),
        object: text("object"),
        actor: text("actor"),
        cursor: numbered_cursor(&parameters)?,
        limit: limit(&parameters)?,
    };
    let page = source.store().audit(&query).await.map_err(away)?;
    Ok(Json(Page {
        items: page.items.into_iter().map(Item::from).collect(),
        next_cursor: page.next.map(|next| next.to_string()),
    }))
}

impl From<AuditEntry> for Item {
    fn from(entry: AuditEntry) -> Self {
        let what = entry.what;
        Self {
            seq: entry.seq,
            at: what.at,
            actor: what.actor,
            action: what.action,
            kind: what.kind,
            object: what.object,
            before: what.before,
            after: what.after,
        }
    }
}
