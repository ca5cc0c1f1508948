//! `/api/v1/router/…`: the routing toggle. Rules are in `rules.rs`. When a change takes effect, and
//! how other replicas learn of it, is the router's business.

use std::time::Duration;

use async_trait::async_trait;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use llm_router_domain::key::Role;
use llm_router_domain::toggle::{ToggleAnswer, ToggleChange, ToggleRecord, ToggleView};
use llm_router_store::StoreError;
use llm_router_store::ledger::Page;
use serde::{Deserialize, Serialize};

use crate::backend::AppState;
use crate::body;
use crate::caller::Caller;
use crate::error::{AdminError, store_unavailable};
use crate::page::{ListPage, NumberedPaging, Parameters, limit, numbered_cursor};

/// Operations on the routing toggle.
#[async_trait]
pub trait RoutingApi: Send + Sync {
    /// Returns the current state, changes made on other replicas included.
    async fn toggle_status(&self) -> ToggleStatus;

    /// Requests a change and returns its outcome with the state after it.
    ///
    /// # Errors
    /// If the store is unavailable.
    async fn request_toggle(
        &self,
        request: &ToggleChange,
    ) -> Result<(ToggleAnswer, ToggleStatus), StoreError>;

    /// Cancels the pending change. Returns true if there was one, and the state after it.
    ///
    /// # Errors
    /// If the store is unavailable.
    async fn cancel_toggle(&self, actor: &str) -> Result<(bool, ToggleStatus), StoreError>;

    /// Returns a page of the requested changes with their outcomes, newest first.
    ///
    /// # Errors
    /// If the store is unavailable.
    async fn toggle_history(
        &self,
        cursor: Option<u64>,
        limit: u32,
    ) -> Result<Page<ToggleRecord, u64>, StoreError>;
}

/// State of the toggle at a moment.
#[derive(Clone, Debug)]
pub struct ToggleStatus {
    /// The state.
    pub status: ToggleView,
    /// The moment.
    pub at: Timestamp,
    /// Start of the store's outage, if it is unavailable: changes made on other replicas are not
    /// visible during an outage.
    pub store_away_since: Option<Timestamp>,
}

/// State of the toggle, as the API returns it.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ToggleStatus)]
pub(crate) struct ToggleStatusBody {
    /// True if rules are applied.
    enabled: bool,
    pending: Option<TogglePending>,
    #[schema(value_type = Option<String>, format = DateTime)]
    cooldown_until: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    changed_at: Option<Timestamp>,
    revision: u64,
    /// Start of the store's outage; null if it is available. Changes made on other replicas are not
    /// visible during an outage.
    #[schema(value_type = Option<String>, format = DateTime)]
    store_away_since: Option<Timestamp>,
}

/// A change that hasn't taken effect yet.
#[derive(Serialize, utoipa::ToSchema)]
struct TogglePending {
    id: u64,
    value: bool,
    #[schema(value_type = String, format = DateTime)]
    effective_at: Timestamp,
    /// Seconds until it takes effect.
    seconds_left: f64,
    reason: String,
    actor: String,
    #[schema(value_type = String, format = DateTime)]
    requested_at: Timestamp,
}

/// An entry of the history, for the description of the API only: handlers return the domain's type.
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "it describes the domain's item")]
struct ToggleHistoryItem {
    id: u64,
    value: bool,
    reason: String,
    actor: String,
    #[schema(format = DateTime)]
    requested_at: String,
    /// Time at which it takes or took effect; null if it never does.
    #[schema(format = DateTime)]
    effective_at: Option<String>,
    /// `pending`, `applied`, `cancelled`, `superseded` or `refused`.
    outcome: String,
    /// The actor who cancelled or superseded it.
    #[schema(nullable = false)]
    ended_by: Option<String>,
}

impl From<ToggleStatus> for ToggleStatusBody {
    fn from(toggle: ToggleStatus) -> Self {
        let status = toggle.status;
        let pending = status.pending.map(|pending| TogglePending {
            id: pending.id,
            value: pending.value,
            effective_at: pending.effective_at,
            seconds_left: pending
                .effective_at
                .duration_since(toggle.at)
                .as_millis_f64()
                .max(0.0)
                / 1e3,
            reason: pending.reason,
            actor: pending.actor,
            requested_at: pending.requested_at,
        });
        Self {
            enabled: status.enabled,
            pending,
            cooldown_until: status.cooldown_until,
            changed_at: status.changed_at,
            revision: status.revision,
            store_away_since: toggle.store_away_since,
        }
    }
}

/// Get the state of the routing toggle
#[utoipa::path(get, path = "/api/v1/router/status", tag = "router",
    responses((status = 200, description = "The state", body = ToggleStatusBody)))]
pub(crate) async fn status(State(backend): State<AppState>) -> Json<ToggleStatusBody> {
    Json(backend.routing().toggle_status().await.into())
}

/// Body of `POST /api/v1/router/toggle`.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "value": false, "reason": "Maintenance" }))]
struct ToggleRequest {
    /// True to apply rules, false to ignore them.
    value: bool,
    /// Reason for the change, shown in the history.
    #[schema(pattern = r"\S")]
    reason: String,
    /// Seconds until it takes effect; `routing.toggle.delay` by default.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 31_622_400)]
    delay_seconds: Option<f64>,
    /// Takes effect at once, without delay or cooldown. Needs the role `admin`.
    #[serde(default)]
    force: bool,
}

/// Turn routing by rules on or off
#[utoipa::path(post, path = "/api/v1/router/toggle", tag = "router", request_body = ToggleRequest,
    responses(
        (status = 202, description = "Pending until its delay has passed", body = ToggleStatusBody),
        (status = 200, description = "In effect", body = ToggleStatusBody),
    ))]
pub(crate) async fn request_change(
    State(backend): State<AppState>,
    caller: Caller,
    body: Bytes,
) -> Result<Response, AdminError> {
    let body: ToggleRequest = body::read(&body)?;
    if body.force {
        caller.must_be(Role::Admin, "Forcing a change of the toggle")?;
    }
    let request = body.into_request(caller.key)?;
    let answer = backend.routing().request_toggle(&request).await;
    let (answer, status) = answer.map_err(store_unavailable)?;
    let body = Json(ToggleStatusBody::from(status));
    Ok(match answer {
        ToggleAnswer::Pending => (StatusCode::ACCEPTED, body).into_response(),
        ToggleAnswer::Applied | ToggleAnswer::Unchanged => body.into_response(),
        ToggleAnswer::Refused(wait) => respond_cooldown(wait),
    })
}

/// Cancel the pending change
#[utoipa::path(delete, path = "/api/v1/router/toggle", tag = "router",
    responses((status = 200, description = "Cancelled", body = ToggleStatusBody)))]
pub(crate) async fn cancel_change(
    State(backend): State<AppState>,
    caller: Caller,
) -> Result<Json<ToggleStatusBody>, AdminError> {
    let answer = backend.routing().cancel_toggle(&caller.key).await;
    let (cancelled, status) = answer.map_err(store_unavailable)?;
    if !cancelled {
        let message =
            "No change of the toggle is pending: none was requested, or it has taken effect.";
        return Err(AdminError::new(
            StatusCode::CONFLICT,
            "nothing_pending",
            message,
        ));
    }
    Ok(Json(status.into()))
}

/// List the requested changes of the toggle
///
/// With their outcomes, newest first.
#[utoipa::path(get, path = "/api/v1/router/history", tag = "router",
    params(NumberedPaging),
    responses((status = 200, description = "The changes",
        body = inline(ListPage<ToggleHistoryItem>))))]
pub(crate) async fn history(
    State(backend): State<AppState>,
    Query(parameters): Parameters,
) -> Result<Json<ListPage<ToggleRecord>>, AdminError> {
    let (cursor, limit) = (numbered_cursor(&parameters)?, limit(&parameters)?);
    let page = backend.routing().toggle_history(cursor, limit).await;
    let page = page.map_err(store_unavailable)?;
    Ok(Json(ListPage::from_store(page, |item| item)))
}

/// Longest delay in seconds: a year.
const MAX_DELAY: f64 = 366.0 * 86_400.0;

impl ToggleRequest {
    fn into_request(self, actor: String) -> Result<ToggleChange, AdminError> {
        if self.reason.trim().is_empty() {
            let message = "reason must not be empty; the history shows it.";
            return Err(AdminError::invalid("reason", message));
        }
        let delay = |seconds: f64| {
            let fits = (0.0..=MAX_DELAY).contains(&seconds);
            let delay = fits.then(|| Duration::try_from_secs_f64(seconds).ok());
            let message = "delay_seconds must be a number from 0 to 31622400.";
            delay
                .flatten()
                .ok_or_else(|| AdminError::invalid("delay_seconds", message))
        };
        Ok(ToggleChange {
            value: self.value,
            delay: self.delay_seconds.map(delay).transpose()?,
            reason: self.reason,
            actor,
            force: self.force,
        })
    }
}

/// Answers 409 to a change during the cooldown.
fn respond_cooldown(wait: Duration) -> Response {
    let seconds = wait.as_millis().div_ceil(1_000);
    let message = format!(
        "The toggle was changed recently. Try again in {seconds} seconds, or let an admin force the \
         change."
    );
    let error = AdminError::new(StatusCode::CONFLICT, "cooldown_active", message);
    let mut response = error.into_response();
    if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}
