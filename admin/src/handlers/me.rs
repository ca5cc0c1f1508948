//! `GET /api/v1/me`: who calls, for pages and tools that show only what the caller may do.

use axum::Json;
use axum::extract::State;
use llm_router_domain::key::Role;
use serde::Serialize;

use crate::Shared;
use crate::caller::Caller;
use crate::handlers::keys::Key;

/// Who calls.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Me {
    /// The name of the key.
    name: String,
    /// What it may do: user, viewer, operator or admin.
    #[schema(value_type = String)]
    role: Role,
    /// The team or project it belongs to.
    owner: Option<String>,
    /// The key with its limits; null of the bootstrap key, and while the store doesn't answer.
    key: Option<Key>,
    /// The port that requests to models are sent to.
    clients_port: u16,
}

/// Who calls, and what the key may do
#[utoipa::path(get, path = "/api/v1/me", tag = "keys",
    responses((status = 200, description = "The caller", body = Me)))]
pub(crate) async fn me(State(source): State<Shared>, caller: Caller) -> Json<Me> {
    // Who is looking for what is broken must get in also when it is the store.
    let key = source.keys().named(&caller.key).await.unwrap_or_default();
    Json(Me {
        name: caller.key,
        role: caller.role,
        owner: caller.owner,
        key,
        clients_port: source.clients_port(),
    })
}
