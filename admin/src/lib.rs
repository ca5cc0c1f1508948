//! The admin service: what operators and their tools read over HTTP. Knows nothing of how
//! requests are proxied.

mod access;
mod body;
mod cost;
mod explain;
mod requests;
mod router;
mod rules;

use std::future::Future;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use jiff::civil::Date;
use llm_router_domain::format::Format;
use llm_router_domain::key::Role;
use llm_router_store::{LedgerStore, StoreError};
use serde_json::json;
use tokio::net::TcpListener;

pub use access::Caller;
use access::{Problem, caller};
pub use explain::Unexplained;
pub use router::{Steering, ToggleStatus};
pub use rules::{Origin, Rule, RuleError, RuleProblem};

/// What the admin service asks of the router.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// The toggle and the rules.
    fn steering(&self) -> &dyn Steering;

    /// Every metric in Prometheus' text format.
    fn metrics(&self) -> String;

    /// Whether metrics may be read without a key.
    fn metrics_are_public(&self) -> bool;

    /// Who presents a request.
    ///
    /// # Errors
    /// Why nobody does, for the client to read.
    fn caller(&self, headers: &HeaderMap) -> Result<Caller, String>;

    /// The day (UTC) it is.
    fn today(&self) -> Date;

    /// How a request with these headers and this body would be routed, as JSON. The body's format
    /// is guessed where it isn't said.
    ///
    /// # Errors
    /// When no endpoint would take the body.
    fn explain(
        &self,
        headers: &HeaderMap,
        format: Option<Format>,
        body: &[u8],
    ) -> Result<String, Unexplained>;

    /// The ledger's store, once everything that was settled before the call is in it.
    ///
    /// # Errors
    /// When the store doesn't take it.
    async fn ledger(&self) -> Result<Arc<dyn LedgerStore>, StoreError>;
}

/// The largest request that is explained, in bytes.
const LARGEST_REQUEST: usize = 32 << 20;

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
    axum::serve(listener, routes(source))
        .with_graceful_shutdown(stop)
        .await
}

fn routes(source: Shared) -> Router {
    Router::new()
        .route("/healthz", get(health))
        .route("/readyz", get(health))
        .route("/metrics", get(metrics))
        .route("/api/v1/router/explain", post(explain::explain))
        .layer(DefaultBodyLimit::max(LARGEST_REQUEST))
        .route("/api/v1/cost/current", get(cost::current))
        .route("/api/v1/cost/daily", get(cost::daily))
        .route("/api/v1/cost/summary", get(cost::summary))
        .route("/api/v1/cost/by-model", get(cost::by_model))
        .route("/api/v1/cost/by-user", get(cost::by_user))
        .route("/api/v1/requests", get(requests::list))
        .route("/api/v1/requests/{id}", get(requests::one))
        .route("/api/v1/router/status", get(router::status))
        .route(
            "/api/v1/router/toggle",
            post(router::toggle).delete(router::cancel),
        )
        .route("/api/v1/router/history", get(router::history))
        .route("/api/v1/router/rules", get(rules::list).post(rules::create))
        .route(
            "/api/v1/router/rules/{id}",
            get(rules::one).put(rules::replace).delete(rules::delete),
        )
        .fallback(not_found)
        .with_state(source)
}

async fn health() -> Response {
    axum::Json(json!({ "status": "ok" })).into_response()
}

async fn metrics(State(source): State<Shared>, headers: HeaderMap) -> Result<Response, Problem> {
    if !source.metrics_are_public() && caller(source.as_ref(), &headers)?.role < Role::Viewer {
        let message = "Metrics need a key with the role viewer or above.";
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "permission_denied",
            message,
        ));
    }
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    Ok((kind, source.metrics()).into_response())
}

async fn not_found() -> Problem {
    Problem::not_found("There is nothing at this path.")
}
