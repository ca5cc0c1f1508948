//! The admin service: what operators and their tools read over HTTP. Knows nothing of how
//! requests are proxied.

mod backend;
mod body;
mod caller;
mod diff;
mod endpoints;
mod error;
mod etag;
mod handlers;
mod idempotency;
mod intake;
mod objects;
mod openapi;
mod page;
mod serving;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Extension, Router};
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::OpenApi as _;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

pub use backend::Source;
pub use caller::Caller;
pub use diff::{Difference, between};
use error::Problem;
pub use handlers::config::{
    Configuration, Mistake, Refused, RollBackError, RolledBack, Running, Undone,
};
pub use handlers::explain::Unexplained;
pub use handlers::keys::{Key, Keys};
pub use handlers::providers::{Check, Fields, Hosting, ModelSpec, Provider, ProviderModel};
pub use handlers::router_metrics::{
    DeploymentFigures, Figures, NamedFigures, Quantiles, RouterFigures,
};
pub use handlers::rules::{Rule, RuleProblem};
pub use handlers::toggle::{Steering, ToggleStatus};
use handlers::{
    audit, config, cost, dashboard, explain, keys, me, monitoring, providers, requests,
    router_metrics, rules, toggle,
};
pub use objects::{Collection, Listed, ObjectError, Origin, Shown};
pub use serving::serve;

type Shared = Arc<dyn Source>;

/// What every request passes on its way to its handler.
#[derive(Clone)]
struct Service {
    source: Shared,
    answered: idempotency::Answered,
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
    };
    let router = router
        .merge(docs)
        .merge(dashboard::routes())
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
        .routes(routes!(monitoring::healthz))
        .routes(routes!(monitoring::readyz))
        .routes(routes!(openapi::document))
        .routes(routes!(monitoring::metrics))
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
        .routes(routes!(toggle::status))
        .routes(routes!(toggle::toggle, toggle::cancel))
        .routes(routes!(toggle::history))
        .routes(routes!(router_metrics::figures))
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

async fn not_found() -> Problem {
    Problem::not_found("There is nothing at this path.")
}

#[cfg(test)]
mod tests;
