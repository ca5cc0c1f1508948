//! `GET /api/v1/me`: the caller, for pages and tools that show only what the caller may do.

use axum::Json;
use axum::extract::State;
use llm_router_domain::key::Role;
use serde::Serialize;

use crate::backend::AppState;
use crate::caller::Caller;
use crate::handlers::keys::KeyObject;

/// The caller.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Me {
    /// Name of the key.
    name: String,
    /// Role: user, viewer, operator or admin.
    #[schema(value_type = String)]
    role: Role,
    /// The team or project that the key belongs to.
    owner: Option<String>,
    /// The key with its limits; null for the bootstrap key, and while the store is unavailable.
    key: Option<KeyObject>,
    /// Port that serves inference requests.
    clients_port: u16,
}

/// Get the caller's key and role
#[utoipa::path(get, path = "/api/v1/me", tag = "keys",
    responses((status = 200, description = "The caller", body = Me)))]
pub(crate) async fn me(State(backend): State<AppState>, caller: Caller) -> Json<Me> {
    // An operator must get into the dashboard even if the store is what failed.
    let key = backend.keys().find_by_name(&caller.key).await;
    Json(Me {
        name: caller.key,
        role: caller.role,
        owner: caller.owner,
        key: key.unwrap_or_default(),
        clients_port: backend.clients_port(),
    })
}
