//! What monitoring reads: liveness, readiness and metrics.

use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::Shared;

/// Whether the process is alive
#[utoipa::path(get, path = "/healthz", tag = "service",
    responses((status = 200, description = "It is", body = Object, example = json!({ "status": "ok" }))))]
pub(crate) async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Whether the process may be sent requests
///
/// Doesn't depend on providers.
#[utoipa::path(get, path = "/readyz", tag = "service",
    responses((status = 200, description = "It may", body = Object, example = json!({ "status": "ok" }))))]
pub(crate) async fn readyz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Metrics in Prometheus' text format
///
/// Needs a key of the role `viewer` or above, unless `admin.metrics_public` is set.
#[utoipa::path(get, path = "/metrics", tag = "service",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain")))]
pub(crate) async fn metrics(State(source): State<Shared>) -> Response {
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, source.metrics()).into_response()
}
