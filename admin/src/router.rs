//! `/api/v1/router/…`: the routing toggle. Rules are in `rules.rs`. How the toggle acts, and who
//! else must be told, is the router's business.

use std::time::Duration;

use async_trait::async_trait;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use llm_router_domain::key::Role;
use llm_router_domain::toggle::{ToggleAnswer, ToggleRecord, ToggleRequest, ToggleView};
use llm_router_store::StoreError;
use llm_router_store::ledger::Page;
use serde::{Deserialize, Serialize};

use crate::Shared;
use crate::access::{Caller, Problem};
use crate::body;
use crate::page::{Numbered, Page as Answered, Parameters, limit, numbered_cursor};

/// What the admin service asks of the toggle.
#[async_trait]
pub trait Steering: Send + Sync {
    /// The toggle now, also as another replica has just changed it.
    async fn toggle_status(&self) -> ToggleStatus;

    /// Asks for a change of the toggle. What became of it, and the status then.
    ///
    /// # Errors
    /// When the store fails.
    async fn request_toggle(
        &self,
        request: &ToggleRequest,
    ) -> Result<(ToggleAnswer, ToggleStatus), StoreError>;

    /// Cancels the change that waits. Whether there was one, and the status then.
    ///
    /// # Errors
    /// When the store fails.
    async fn cancel_toggle(&self, actor: &str) -> Result<(bool, ToggleStatus), StoreError>;

    /// What was asked of the toggle and what became of it, newest first.
    ///
    /// # Errors
    /// When the store fails.
    async fn toggle_history(
        &self,
        cursor: Option<u64>,
        limit: u32,
    ) -> Result<Page<ToggleRecord, u64>, StoreError>;
}

/// The toggle as people see it.
#[derive(Clone, Debug)]
pub struct ToggleStatus {
    /// Its state.
    pub status: ToggleView,
    /// When this was so.
    pub at: Timestamp,
    /// Since when the store has not answered: until it does, changes of other replicas don't show.
    pub store_away_since: Option<Timestamp>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = ToggleStatus)]
pub(crate) struct Shown {
    /// Whether rules decide.
    enabled: bool,
    pending: Option<Pending>,
    #[schema(value_type = Option<String>, format = DateTime)]
    cooldown_until: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    changed_at: Option<Timestamp>,
    revision: u64,
    /// Since when the store has not answered: changes of other replicas don't show until it does.
    #[schema(value_type = Option<String>, format = DateTime)]
    store_away_since: Option<Timestamp>,
}

#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = TogglePending)]
struct Pending {
    id: u64,
    value: bool,
    #[schema(value_type = String, format = DateTime)]
    effective_at: Timestamp,
    /// The countdown.
    seconds_left: f64,
    reason: String,
    actor: String,
    #[schema(value_type = String, format = DateTime)]
    requested_at: Timestamp,
}

/// An entry of the history. For the description of the API only: it is the domain's.
#[derive(utoipa::ToSchema)]
#[schema(as = ToggleHistoryItem)]
#[expect(dead_code, reason = "it describes the domain's item")]
struct HistoryItem {
    id: u64,
    value: bool,
    reason: String,
    actor: String,
    #[schema(format = DateTime)]
    requested_at: String,
    /// When it takes or took effect; null if it never does.
    #[schema(format = DateTime)]
    effective_at: Option<String>,
    /// `pending`, `applied`, `cancelled`, `superseded` or `refused`.
    outcome: String,
    /// Who cancelled or superseded it.
    #[schema(nullable = false)]
    ended_by: Option<String>,
}

impl From<ToggleStatus> for Shown {
    fn from(now: ToggleStatus) -> Self {
        let status = now.status;
        let pending = status.pending.map(|pending| Pending {
            id: pending.id,
            value: pending.value,
            effective_at: pending.effective_at,
            seconds_left: pending
                .effective_at
                .duration_since(now.at)
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
            store_away_since: now.store_away_since,
        }
    }
}

/// Whether rules decide, and what is about to change
#[utoipa::path(get, path = "/api/v1/router/status", tag = "router",
    responses((status = 200, description = "The toggle", body = Shown)))]
pub(crate) async fn status(State(source): State<Shared>) -> Json<Shown> {
    Json(source.steering().toggle_status().await.into())
}

/// The body of `POST /api/v1/router/toggle`.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = ToggleRequest, example = json!({ "value": false, "reason": "Maintenance" }))]
struct Wish {
    /// Whether rules shall decide.
    value: bool,
    /// Why. The history shows it.
    #[schema(pattern = r"\S")]
    reason: String,
    /// Seconds until it takes effect; `routing.toggle.delay` if not given.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 31_622_400)]
    delay_seconds: Option<f64>,
    /// At once, whatever the delay and the cooldown. Needs the role `admin`.
    #[serde(default)]
    force: bool,
}

/// Switch routing on or off
#[utoipa::path(post, path = "/api/v1/router/toggle", tag = "router", request_body = Wish,
    responses(
        (status = 202, description = "It waits for its delay", body = Shown),
        (status = 200, description = "It is so", body = Shown),
    ))]
pub(crate) async fn toggle(
    State(source): State<Shared>,
    caller: Caller,
    body: Bytes,
) -> Result<Response, Problem> {
    let wish: Wish = body::read(&body)?;
    if wish.force {
        caller.must_be(Role::Admin, "Forcing a change of the toggle")?;
    }
    let request = wish.request(caller.key)?;
    let (answer, status) = source
        .steering()
        .request_toggle(&request)
        .await
        .map_err(away)?;
    let shown = Json(Shown::from(status));
    Ok(match answer {
        ToggleAnswer::Pending => (StatusCode::ACCEPTED, shown).into_response(),
        ToggleAnswer::Applied | ToggleAnswer::Unchanged => shown.into_response(),
        ToggleAnswer::Refused(wait) => refusal(wait),
    })
}

/// Cancel the change that waits
#[utoipa::path(delete, path = "/api/v1/router/toggle", tag = "router",
    responses((status = 200, description = "It is cancelled", body = Shown)))]
pub(crate) async fn cancel(
    State(source): State<Shared>,
    caller: Caller,
) -> Result<Json<Shown>, Problem> {
    let (cancelled, status) = source
        .steering()
        .cancel_toggle(&caller.key)
        .await
        .map_err(away)?;
    if !cancelled {
        let message =
            "No change of the toggle is pending: none was asked for, or it has taken effect.";
        return Err(Problem::new(
            StatusCode::CONFLICT,
            "nothing_pending",
            message,
        ));
    }
    Ok(Json(status.into()))
}

/// What was asked of the toggle and what became of it, the newest first
#[utoipa::path(get, path = "/api/v1/router/history", tag = "router",
    params(Numbered),
    responses((status = 200, description = "The requests", body = inline(Answered<HistoryItem>))))]
pub(crate) async fn history(
    State(source): State<Shared>,
    Query(parameters): Parameters,
) -> Result<Json<Answered<ToggleRecord>>, Problem> {
    let (cursor, limit) = (numbered_cursor(&parameters)?, limit(&parameters)?);
    let page = source
        .steering()
        .toggle_history(cursor, limit)
        .await
        .map_err(away)?;
    Ok(Json(Answered {
        items: page.items,
        next_cursor: page.next.map(|next| next.to_string()),
    }))
}

/// Longest delay: a year.
const LONGEST: f64 = 366.0 * 86_400.0;

impl Wish {
    fn request(self, actor: String) -> Result<ToggleRequest, Problem> {
        if self.reason.trim().is_empty() {
            let message = "reason is empty: say why, the history shows it.";
            return Err(Problem::invalid("reason", message));
        }
        let delay = |seconds: f64| {
            let fits = (0.0..=LONGEST).contains(&seconds);
            let delay = fits.then(|| Duration::try_from_secs_f64(seconds).ok());
            let message = "delay_seconds is a number of seconds from 0 to 31622400.";
            delay
                .flatten()
                .ok_or_else(|| Problem::invalid("delay_seconds", message))
        };
        Ok(ToggleRequest {
            value: self.value,
            delay: self.delay_seconds.map(delay).transpose()?,
            reason: self.reason,
            actor,
            force: self.force,
        })
    }
}

fn refusal(wait: Duration) -> Response {
    let seconds = wait.as_millis().div_ceil(1_000);
    let message = format!(
        "The toggle was changed a short time ago. Try again in {seconds} seconds; an admin can \
         force a change."
    );
    let problem = Problem::new(StatusCode::CONFLICT, "cooldown_active", message);
    let mut response = problem.into_response();
    if let Ok(value) = HeaderValue::from_str(&seconds.to_string()) {
        response.headers_mut().insert(header::RETRY_AFTER, value);
    }
    response
}

/// The store failed.
pub(crate) fn away(error: StoreError) -> Problem {
    tracing::warn!(%error, "the store failed a request of the admin API");
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "store_unavailable",
        "The store doesn't answer now. Try again later.",
    )
}
