//! The admin service: what operators and their tools read over HTTP. Knows nothing of how
//! requests are proxied.

mod access;
mod audit;
mod body;
mod config;
mod connection;
mod cost;
mod diff;
mod etag;
mod explain;
mod figures;
mod idempotency;
mod inference;
mod intake;
mod keys;
mod me;
mod objects;
mod openapi;
mod page;
mod providers;
mod receive;
mod requests;
mod roles;
mod router;
mod rules;
mod serving;
mod ui;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use jiff::Timestamp;
use jiff::civil::Date;
use llm_router_domain::format::Format;
use llm_router_domain::rule::RuleSpec;
use llm_router_store::objects::ObjectStore;
use llm_router_store::{LedgerStore, StoreError};
use serde_json::{Value, json};
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

pub use access::{Caller, Problem};
pub use config::{Configuration, Mistake, Refused, RollBackError, RolledBack, Running, Undone};
pub use diff::{Difference, between};
pub use explain::Unexplained;
pub use figures::{DeploymentFigures, Figures, NamedFigures, Quantiles, RouterFigures};
pub use keys::{Key, Keys};
pub use objects::{Collection, Listed, ObjectError, Origin, Shown};
pub use providers::{Check, Fields, Hosting, ModelSpec, Provider, ProviderModel};
pub use router::{Steering, ToggleStatus};
pub use rules::{Rule, RuleProblem};
pub use serving::{ConnectionLimits, serve};

/// What the admin service asks of the router.
#[async_trait]
pub trait Source: Send + Sync + 'static {
    /// The toggle.
    fn steering(&self) -> &dyn Steering;

    /// The rules, in the order they are tried.
    fn rules(&self) -> &dyn Collection<Shown = Rule, Spec = RuleSpec>;

    /// The keys.
    fn keys(&self) -> &dyn Keys;

    /// The providers.
    fn hosting(&self) -> &dyn Hosting;

    /// The configuration as a whole.
    fn configuration(&self) -> &dyn Configuration;

    /// The store of what is made by API.
    fn store(&self) -> &dyn ObjectStore;

    /// The JSON Schema of the configuration file.
    fn config_schema(&self) -> Value;

    /// Every metric in Prometheus' text format.
    fn metrics(&self) -> String;

    /// What this process has counted.
    fn figures(&self) -> RouterFigures;

    /// Whether metrics may be read without a key.
    fn metrics_are_public(&self) -> bool;

    /// The port that requests to models are sent to.
    fn clients_port(&self) -> u16;

    /// How long the body of a request may stand still.
    fn body_timeout(&self) -> Duration;

    /// Who presents a request.
    ///
    /// # Errors
    /// Why nobody does, for the client to read.
    fn caller(&self, headers: &header::HeaderMap) -> Result<Caller, String>;

    /// The time it is.
    fn now(&self) -> Timestamp;

    /// The day (UTC) it is.
    fn today(&self) -> Date;

    /// How a request with these headers and this body would be routed, as JSON. The body's format
    /// is guessed where it isn't said.
    ///
    /// # Errors
    /// When no endpoint would take the body.
    fn explain(
        &self,
        headers: &header::HeaderMap,
        format: Option<Format>,
        body: &[u8],
    ) -> Result<String, Unexplained>;

    /// The ledger's store, once everything that was settled before the call is in it.
    ///
    /// # Errors
    /// When the store doesn't take it.
    async fn ledger(&self) -> Result<Arc<dyn LedgerStore>, StoreError>;
}

type Shared = Arc<dyn Source>;

/// What every request passes on its way to its handler.
#[derive(Clone)]
struct Service {
    source: Shared,
    answered: idempotency::Answered,
    large_bodies: receive::LargeBodies,
}

/// The service. Pages of the origins in `cors` may call it from a browser; `*` is any.
pub fn service(source: Arc<dyn Source>, cors: &[String]) -> Router {
    let (router, api) = routes().split_for_parts();
    let document = Arc::new(openapi::complete(&api, &source.config_schema()));
    let docs = utoipa_swagger_ui::Config::new(["/openapi.json"]);
    let docs = docs.persist_authorization(true).validator_url("none");
    let docs = SwaggerUi::new("/docs").config(docs);
    let service = Service {
        source: Arc::clone(&source),
        answered: idempotency::Answered::default(),
        large_bodies: receive::LargeBodies::default(),
    };
    let router = router
        .merge(docs)
        .merge(ui::routes())
        .fallback(not_found)
        .layer(Extension(document))
        // The intake has its own limit, with our error.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(service, intake::admit))
        .layer(from_fn(intake::seal));
    let router = match cross_origin(cors) {
        Some(cross_origin) => router.layer(cross_origin),
        None => router,
    };
    router.with_state(source)
}

/// Whether a path is the admin service's, where a listener serves others too.
#[must_use]
pub fn serves(path: &str) -> bool {
    const ROOTS: [&str; 12] = [
        "/ui",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/api/v1/router",
        "/api/v1/cost",
        "/api/v1/requests",
        "/api/v1/providers",
        "/api/v1/keys",
        "/api/v1/config",
        "/api/v1/audit",
        "/api/v1/me",
    ];
    path == "/"
        || ROOTS.iter().any(|root| {
            let below = path.strip_prefix(root);
            below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
        })
}

/// Every path, with its description.
fn routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::with_openapi(openapi::Base::openapi())
        .merge(service_routes())
        .merge(usage_routes())
        .merge(routing_routes())
        .merge(provider_routes())
        .merge(key_routes())
        .merge(config_routes())
}

fn service_routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(healthz))
        .routes(routes!(readyz))
        .routes(routes!(openapi::document))
        .routes(routes!(metrics))
}

fn usage_routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(cost::current))
        .routes(routes!(cost::daily))
        .routes(routes!(cost::summary))
        .routes(routes!(cost::by_model))
        .routes(routes!(cost::by_user))
        .routes(routes!(requests::list))
        .routes(routes!(requests::one))
}

fn routing_routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(router::status))
        .routes(routes!(router::toggle, router::cancel))
        .routes(routes!(router::history))
        .routes(routes!(figures::figures))
        .routes(routes!(explain::explain))
        .routes(routes!(rules::list, rules::create))
        .routes(routes!(rules::one, rules::replace, rules::delete))
}

fn provider_routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(providers::list, providers::create))
        .routes(routes!(
            providers::one,
            providers::replace,
            providers::delete
        ))
        .routes(routes!(providers::checks, providers::check))
        .routes(routes!(providers::models, providers::set_model))
}

fn key_routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::one, keys::replace, keys::delete))
        .routes(routes!(keys::rotate))
        .routes(routes!(me::me))
}

fn config_routes() -> OpenApiRouter<Shared> {
    OpenApiRouter::new()
        .routes(routes!(config::running))
        .routes(routes!(config::reload))
        .routes(routes!(config::revisions))
        .routes(routes!(config::roll_back))
        .routes(routes!(audit::list))
}

fn cross_origin(origins: &[String]) -> Option<CorsLayer> {
    let origins = match origins {
        [] => return None,
        _ if origins.iter().any(|origin| origin == "*") => AllowOrigin::any(),
        _ => AllowOrigin::list(
            origins
                .iter()
                .filter_map(|origin| HeaderValue::try_from(origin).ok()),
        ),
    };
    let api_key = HeaderName::from_static("x-api-key");
    let idempotency_key = HeaderName::from_static(idempotency::HEADER);
    let sent = [
        header::AUTHORIZATION,
        header::CONTENT_TYPE,
        header::IF_MATCH,
        api_key,
        idempotency_key,
    ];
    let layer = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(sent)
        .expose_headers([header::ETAG, header::RETRY_AFTER]);
    Some(layer)
}

/// Whether the process is alive
#[utoipa::path(get, path = "/healthz", tag = "service",
    responses((status = 200, description = "It is", body = Object, example = json!({ "status": "ok" }))))]
async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Whether the process may be sent requests
///
/// Doesn't depend on providers.
#[utoipa::path(get, path = "/readyz", tag = "service",
    responses((status = 200, description = "It may", body = Object, example = json!({ "status": "ok" }))))]
async fn readyz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Metrics in Prometheus' text format
///
/// Needs a key of the role `viewer` or above, unless `admin.metrics_public` is set.
#[utoipa::path(get, path = "/metrics", tag = "service",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain")))]
async fn metrics(State(source): State<Shared>) -> Response {
    let kind = [(
        header::CONTENT_TYPE,
        "text/plain; version=0.0.4; charset=utf-8",
    )];
    (kind, source.metrics()).into_response()
}

async fn not_found() -> Problem {
    Problem::not_found("There is nothing at this path.")
}

#[cfg(test)]
mod tests;
