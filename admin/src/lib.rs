//! The admin service: what operators and their tools read over HTTP. Knows nothing of how
//! requests are proxied.

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use llm_router_domain::key::Role;
use serde_json::json;
use tokio::net::TcpListener;

/// What the admin service asks of the router.
pub trait Source: Send + Sync + 'static {
    /// Every metric in Prometheus' text format.
    fn metrics(&self) -> String;

    /// Whether metrics may be read without a key.
    fn metrics_are_public(&self) -> bool;

    /// The role of the key that a request presents.
    ///
    /// # Errors
    /// Why there is none, for the client to read.
    fn role(&self, headers: &HeaderMap) -> Result<Role, String>;
}

type Shared = Arc<dyn Source>;

/// Serves until `stop` resolves.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    source: Shared,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    axum::serve(listener, router(source))
        .with_graceful_shutdown(stop)
        .await
}

fn router(source: Shared) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(health))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .with_state(source)
}

async fn health() -> Response {
    axum::Json(json!({ "status": "ok" })).into_response()
}

async fn metrics(State(source): State<Shared>, headers: HeaderMap) -> Response {
    if !source.metrics_are_public() {
        match source.role(&headers) {
            Err(message) => {
                return problem(StatusCode::UNAUTHORIZED, "invalid_api_key", &message);
            }
            Ok(role) if role < Role::Viewer => {
                let message = "Metrics need a key with the role viewer or above.";
                return problem(StatusCode::FORBIDDEN, "permission_denied", message);
            }
            Ok(_) => {}
        }
    }
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, source.metrics()).into_response()
}

async fn not_found() -> Response {
    problem(
        StatusCode::NOT_FOUND,
        "not_found",
        "There is nothing at this path.",
    )
}

/// The one shape of the admin service's errors.
fn problem(status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({ "error": { "code": code, "message": message, "field": null } });
    (status, axum::Json(body)).into_response()
}
