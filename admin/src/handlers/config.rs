//! `/api/v1/config`: the running configuration, reload, revisions and rollback. What a setting means
//! is the router's business.

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

use crate::backend::AppState;
use crate::caller::Caller;
use crate::diff::{self, Difference};
use crate::error::{AdminError, store_unavailable};
use crate::page::{ListPage, NumberedPaging, Parameters, limit, numbered_cursor};

/// Operations on the configuration as a whole.
#[async_trait]
pub trait ConfigApi: Send + Sync {
    /// Returns the running configuration.
    fn running_config(&self) -> RunningConfig;

    /// Reloads the configuration file and returns the new revision.
    ///
    /// # Errors
    /// Every error of the file; the running configuration then stays.
    async fn reload(&self, actor: &str) -> Result<u64, Vec<ConfigError>>;

    /// Restores the objects created through the API as they were after a revision.
    ///
    /// # Errors
    /// If there is no such revision, too much has changed since, or the store is unavailable.
    async fn roll_back(&self, number: u64, actor: &str) -> Result<RollbackReport, RollbackError>;
}

/// The running configuration.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct RunningConfig {
    /// Counts the configurations activated by this process, from 1. Log lines and ledger entries
    /// contain it.
    pub revision: u64,
    /// Number of the newest active change made through the API.
    pub change_number: u64,
    /// Path of the file, or null for the built-in defaults.
    pub file: Option<String>,
    /// The file as it was read, without defaults and with secrets masked.
    pub config: Value,
    /// Objects created through the API, by kind.
    pub made_by_api: Value,
    /// The configuration that the last reload rejected; null if the reload succeeded.
    pub refused: Option<RejectedConfig>,
}

/// A configuration that a reload rejected.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct RejectedConfig {
    /// Time of the reload.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// Every error of the configuration.
    pub errors: Vec<ConfigError>,
}

/// An error in a configuration.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ConfigError {
    /// Path of the file.
    pub file: String,
    /// Line in the file, from 1.
    pub line: Option<usize>,
    /// Path of the setting, such as `providers[0].type`.
    pub field: String,
    /// The error and its remedy.
    pub message: String,
}

/// Result of a rollback.
#[derive(Clone, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct RollbackReport {
    /// Objects that were restored.
    pub changed: Vec<RestoredObject>,
    /// Objects that could not be restored, with the reason.
    pub left: Vec<RestoredObject>,
}

/// An object of a rollback.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct RestoredObject {
    /// Kind of the object, such as `rule`.
    pub kind: String,
    /// Id of the object.
    pub id: String,
    /// The change made to it, or the reason why none was made.
    pub what: String,
}

/// Failure of a rollback.
#[derive(Debug, thiserror::Error)]
pub enum RollbackError {
    /// No revision has that number.
    #[error("no such revision")]
    Missing,
    /// More changes were made since than one rollback can undo.
    #[error("too many changes since that revision")]
    TooFar,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Get the running configuration
///
/// Secrets are masked.
#[utoipa::path(get, path = "/api/v1/config", tag = "config",
    responses((status = 200, description = "The configuration", body = RunningConfig)))]
pub(crate) async fn get(State(backend): State<AppState>) -> Json<RunningConfig> {
    Json(backend.config().running_config())
}

/// Reload the configuration file
///
/// A file with an error changes nothing; 422 lists every error.
#[utoipa::path(post, path = "/api/v1/config/reload", tag = "config",
    responses(
        (status = 200, description = "Reloaded and active", body = ReloadResult),
        (status = 422, description = "Rejected: `error.errors` lists every error", body = Value),
    ))]
pub(crate) async fn reload(State(backend): State<AppState>, caller: Caller) -> Response {
    match backend.config().reload(&caller.key).await {
        Ok(revision) => Json(ReloadResult { revision }).into_response(),
        Err(errors) => respond_invalid_config(&errors),
    }
}

#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct ReloadResult {
    revision: u64,
}

fn respond_invalid_config(errors: &[ConfigError]) -> Response {
    let first = errors.first();
    let message = match first {
        Some(first) if errors.len() == 1 => first.message.clone(),
        Some(first) => format!("{} (and {} more)", first.message, errors.len() - 1),
        None => "The configuration is invalid.".to_owned(),
    };
    let body = json!({ "error": {
        "code": "invalid_config",
        "message": message,
        "field": first.map(|first| &first.field),
        "errors": errors,
    } });
    (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
}

/// A change of the configuration.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Revision)]
pub(crate) struct ConfigRevision {
    /// Number of the revision.
    number: u64,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Name of the key that made the change; `file` for a change of the configuration file.
    actor: String,
    /// Action, such as `create`, `replace`, `delete`, `reload`.
    action: String,
    /// Kind of the object, such as `rule`, `provider`, `key`, `config`.
    kind: String,
    /// Id of the object, or path of the file.
    object: String,
    /// Revision of the configuration after a change of the file; null for other changes.
    revision: Option<u64>,
    /// The differences between before and after.
    diff: Vec<Difference>,
}

/// Kinds of audit entries that are revisions. The toggle has its own history.
const KINDS: [&str; 5] = ["provider", "model", "rule", "key", "config"];

/// List the revisions of the configuration
///
/// Every change, newest first.
#[utoipa::path(get, path = "/api/v1/config/revisions", tag = "config",
    params(NumberedPaging),
    responses((status = 200, description = "The revisions",
        body = inline(ListPage<ConfigRevision>))))]
pub(crate) async fn revisions(
    State(backend): State<AppState>,
    Query(parameters): Parameters,
) -> Result<Json<ListPage<ConfigRevision>>, AdminError> {
    let limit = limit(&parameters)?;
    let mut query = AuditQuery {
        cursor: numbered_cursor(&parameters)?,
        limit,
        ..AuditQuery::default()
    };
    let mut items: Vec<ConfigRevision> = Vec::new();
    loop {
        let page = backend.store().audit(&query).await;
        let page = page.map_err(store_unavailable)?;
        let revisions = page.items.into_iter().filter(is_revision);
        items.extend(revisions.map(ConfigRevision::from));
        query.cursor = page.next;
        if query.cursor.is_none() || items.len() > limit as usize {
            break;
        }
    }
    let more = items.len() > limit as usize || query.cursor.is_some();
    items.truncate(limit as usize);
    let last = items.last().filter(|_| more);
    let next_cursor = last.map(|revision| revision.number.to_string());
    Ok(Json(ListPage { items, next_cursor }))
}

/// Roll back to a revision
///
/// Restores the objects created through the API as they were after the revision. The file isn't
/// touched. The rollback itself is recorded as new revisions.
#[utoipa::path(post, path = "/api/v1/config/revisions/{number}/rollback", tag = "config",
    params(("number" = u64, Path)),
    responses((status = 200, description = "The restored objects", body = RollbackReport)))]
pub(crate) async fn roll_back(
    State(backend): State<AppState>,
    caller: Caller,
    Path(number): Path<String>,
) -> Result<Json<RollbackReport>, AdminError> {
    let missing = || AdminError::not_found("No revision has this number.");
    let number = number.parse().map_err(|_| missing())?;
    let report = backend.config().roll_back(number, &caller.key).await;
    report.map(Json).map_err(|error| match error {
        RollbackError::Missing => missing(),
        RollbackError::TooFar => AdminError::new(
            StatusCode::CONFLICT,
            "too_far",
            "Too many changes were made since that revision to undo them in one rollback.",
        ),
        RollbackError::Store(error) => store_unavailable(error),
    })
}

fn is_revision(entry: &AuditEntry) -> bool {
    KINDS.contains(&entry.what.kind.as_str())
}

impl From<AuditEntry> for ConfigRevision {
    fn from(entry: AuditEntry) -> Self {
        let change = entry.what;
        let of_file = change.kind == "config";
        let revision = change.after.as_ref().filter(|_| of_file);
        Self {
            number: entry.seq,
            revision: revision.and_then(|after| after["revision"].as_u64()),
            at: change.at,
            actor: change.actor,
            action: change.action,
            kind: change.kind,
            object: change.object,
            diff: diff::differences(change.before.as_ref(), change.after.as_ref()),
        }
    }
}
