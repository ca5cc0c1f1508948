//! The endpoints of monitoring: liveness, readiness and metrics.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::backend::AppState;

/// Check that the process is alive
#[utoipa::path(get, path = "/healthz", tag = "service",
    responses((status = 200, description = "Alive", body = Object, example = json!({ "status": "ok" }))))]
pub(crate) async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Check that the process is ready for requests
///
/// Doesn't depend on providers.
#[utoipa::path(get, path = "/readyz", tag = "service",
    responses((status = 200, description = "Ready", body = Object, example = json!({ "status": "ok" }))))]
pub(crate) async fn readyz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Get the metrics in Prometheus' text format
///
/// Needs a key of the role `viewer` or above, unless `admin.metrics_public` is set.
#[utoipa::path(get, path = "/metrics", tag = "service",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain")))]
pub(crate) async fn metrics(State(backend): State<AppState>) -> Response {
    let content_type = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (content_type, backend.metrics()).into_response()
}
