//! `/api/v1/config`: the configuration in force, its revisions, and the way back. What a
//! configuration means is the router's business.

use async_trait::async_trait;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use llm_router_store::StoreError;
use llm_router_store::objects::{AuditEntry, AuditQuery};
use serde::Serialize;
use serde_json::{Value, json};

use crate::Shared;
use crate::caller::Caller;
use crate::diff::{self, Difference};
use crate::error::Problem;
use crate::error::away;
use crate::page::{Numbered, Page, Parameters, limit, numbered_cursor};

/// What the admin service asks of the configuration.
#[async_trait]
pub trait Configuration: Send + Sync {
    /// What is in force.
    fn running(&self) -> Running;

    /// Loads the file now. The revision in force then.
    ///
    /// # Errors
    /// Everything that is wrong with it; then nothing changed.
    async fn reload(&self, actor: &str) -> Result<u64, Vec<Mistake>>;

    /// Makes what was made by API what it was after a revision.
    ///
    /// # Errors
    /// When there is no such revision, or the store fails.
    async fn roll_back(&self, number: u64, actor: &str) -> Result<RolledBack, RollBackError>;
}

/// The configuration in force.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Running {
    /// Counts what was put into force in this process, from 1. Log lines and ledger entries have it.
    pub revision: u64,
    /// The number of the newest change by API that is in force.
    pub change_number: u64,
    /// The file, or null for the built-in defaults.
    pub file: Option<String>,
    /// The file as it was read, defaults left out and secrets masked.
    pub config: Value,
    /// What was made by API, by kind.
    pub made_by_api: Value,
    /// Why the last reload changed nothing; null if it went well.
    pub refused: Option<Refused>,
}

/// A configuration that was not put into force.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Refused {
    /// When it was tried.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Everything that is wrong with it.
    pub errors: Vec<Mistake>,
}

/// Something wrong with a configuration.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Mistake {
    /// The file that it stands in.
    pub file: String,
    /// The line, counted from 1.
    pub line: Option<usize>,
    /// The setting, as `providers[0].type`.
    pub field: String,
    /// What is wrong, and what to do about it.
    pub message: String,
}

/// What a rollback did.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct RolledBack {
    /// What was changed back.
    pub changed: Vec<Undone>,
    /// What could not be, and why.
    pub left: Vec<Undone>,
}

/// One object of a rollback.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Undone {
    /// As `rule`.
    pub kind: String,
    /// Which one.
    pub id: String,
    /// What was done to it, or why nothing was.
    pub what: String,
}

/// Why nothing was rolled back.
#[derive(Debug, thiserror::Error)]
pub enum RollBackError {
    /// There is no revision with that number.
    #[error("there is no such revision")]
    Missing,
    /// More was changed since than is undone at once.
    #[error("too much was changed since")]
    TooFar,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The configuration in force, without its secrets
#[utoipa::path(get, path = "/api/v1/config", tag = "config",
    responses((status = 200, description = "What is in force", body = Running)))]
pub(crate) async fn running(State(source): State<Shared>) -> Json<Running> {
    Json(source.configuration().running())
}

/// Load the configuration file now
///
/// A file with a mistake changes nothing and is answered 422 with everything that is wrong with it.
#[utoipa::path(post, path = "/api/v1/config/reload", tag = "config",
    responses(
        (status = 200, description = "It is in force", body = Reloaded),
        (status = 422, description = "It is refused: `error.errors` has every mistake", body = Value),
    ))]
pub(crate) async fn reload(State(source): State<Shared>, caller: Caller) -> Response {
    match source.configuration().reload(&caller.key).await {
        Ok(revision) => Json(Reloaded { revision }).into_response(),
        Err(mistakes) => refused(&mistakes),
    }
}

#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Reloaded {
    revision: u64,
}

fn refused(mistakes: &[Mistake]) -> Response {
    let first = mistakes.first();
    let message = match first {
        Some(first) if mistakes.len() == 1 => first.message.clone(),
        Some(first) => format!("{} (and {} more)", first.message, mistakes.len() - 1),
        None => "The configuration can't be used.".to_owned(),
    };
    let body = json!({ "error": {
        "code": "invalid_config",
        "message": message,
        "field": first.map(|first| &first.field),
        "errors": mistakes,
    } });
    (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
}

/// A change of the configuration.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Revision {
    /// What to name it by.
    number: u64,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// The key that made it, by its name; `file` for a change of the configuration file.
    actor: String,
    /// As `create`, `replace`, `delete`, `reload`.
    action: String,
    /// As `rule`, `provider`, `key`, `config`.
    kind: String,
    /// Which object, or which file.
    object: String,
    /// What changed.
    diff: Vec<Difference>,
}

/// What the revisions are of. The toggle has its own history.
const KINDS: [&str; 5] = ["provider", "model", "rule", "key", "config"];

/// Every change of the configuration, the newest first
#[utoipa::path(get, path = "/api/v1/config/revisions", tag = "config",
    params(Numbered),
    responses((status = 200, description = "The revisions", body = inline(Page<Revision>))))]
pub(crate) async fn revisions(
    State(source): State<Shared>,
    Query(parameters): Parameters,
) -> Result<Json<Page<Revision>>, Problem> {
    let limit = limit(&parameters)?;
    let mut query = AuditQuery {
        cursor: numbered_cursor(&parameters)?,
        limit,
        ..AuditQuery::default()
    };
    let mut items: Vec<Revision> = Vec::new();
    loop {
        let page = source.store().audit(&query).await.map_err(away)?;
        let ours = page.items.into_iter().filter(is_revision);
        items.extend(ours.map(Revision::from));
        query.cursor = page.next;
        if query.cursor.is_none() || items.len() > limit as usize {
            break;
        }
    }
    let more = items.len() > limit as usize || query.cursor.is_some();
    items.truncate(limit as usize);
    let last = items.last().filter(|_| more);
    let next_cursor = last.map(|revision| revision.number.to_string());
    Ok(Json(Page { items, next_cursor }))
}

/// Make what was made by API what it was after a revision
///
/// What the file says isn't touched. The rollback is a change, and so has revisions of its own.
#[utoipa::path(post, path = "/api/v1/config/revisions/{number}/rollback", tag = "config",
    params(("number" = u64, Path)),
    responses((status = 200, description = "What was done", body = RolledBack)))]
pub(crate) async fn roll_back(
    State(source): State<Shared>,
    caller: Caller,
    Path(number): Path<String>,
) -> Result<Json<RolledBack>, Problem> {
    let missing = || Problem::not_found("There is no revision with this number.");
    let number = number.parse().map_err(|_| missing())?;
    let done = source.configuration().roll_back(number, &caller.key).await;
    done.map(Json).map_err(|error| match error {
        RollBackError::Missing => missing(),
        RollBackError::TooFar => Problem::new(
            StatusCode::CONFLICT,
            "too_far",
            "Too much was changed since that revision to undo it at once.",
        ),
        RollBackError::Store(error) => away(error),
    })
}

fn is_revision(entry: &AuditEntry) -> bool {
    KINDS.contains(&entry.what.kind.as_str())
}

impl From<AuditEntry> for Revision {
    fn from(entry: AuditEntry) -> Self {
        let what = entry.what;
        Self {
            number: entry.seq,
            at: what.at,
            actor: what.actor,
            action: what.action,
            kind: what.kind,
            object: what.object,
            diff: diff::between(what.before.as_ref(), what.after.as_ref()),
        }
    }
}
