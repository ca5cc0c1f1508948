#![doc = include_str!("../README.md")]

mod backend;
mod body;
mod caller;
mod connection;
mod crud;
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
mod receive;
mod serving;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Extension, Router};
use tower_http::cors::{AllowOrigin, CorsLayer};

use backend::AppState;
pub use backend::Backend;
pub use caller::{AuthenticationError, Caller, ClientAddress};
pub use diff::{Difference, differences};
pub use endpoints::serves;
pub use error::AdminError;
pub use handlers::config::{
    ConfigApi, ConfigError, RejectedConfig, RestoredObject, RollbackError, RollbackReport,
    RunningConfig,
};
pub use handlers::explain::ExplainError;
pub use handlers::keys::{KeyObject, KeysApi};
pub use handlers::providers::{
    ModelSpec, ProviderFields, ProviderHealth, ProviderModel, ProviderObject, ProvidersApi,
};
pub use handlers::refused::RefusedRequest;
pub use handlers::router_metrics::{
    DeploymentFigures, Figures, NamedFigures, Quantiles, RecentFigures, RouterMetrics,
};
pub use handlers::rules::{RuleObject, RuleProblem};
pub use handlers::toggle::{RoutingApi, ToggleStatus};
use handlers::{api_docs, dashboard};
pub use objects::{ApiObject, Collection, ObjectError, ObjectSource};
pub use page::ListPage;
pub use serving::{ConnectionLimits, serve};

/// The state of the intake, which every request passes on its way to its handler.
#[derive(Clone)]
struct Service {
    backend: AppState,
    answered: idempotency::Answered,
    large_bodies: receive::LargeBodies,
}

/// Builds the service. Pages of the origins in `cors` may call it from a browser; `*` stands for any
/// origin.
pub fn service(backend: Arc<dyn Backend>, cors: &[String]) -> Router {
    let (router, api) = endpoints::router().split_for_parts();
    let document = Arc::new(openapi::complete(&api, &backend.config_schema()));
    let service = Service {
        backend: Arc::clone(&backend),
        answered: idempotency::Answered::default(),
        large_bodies: receive::LargeBodies::default(),
    };
    let router = router
        .merge(api_docs::router())
        .merge(dashboard::router())
        .fallback(not_found)
        .layer(Extension(document))
        // The intake has its own limit, with our error.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn_with_state(service, intake::admit))
        .layer(from_fn(intake::seal));
    let router = match cors_layer(cors) {
        Some(cors) => router.layer(cors),
        None => router,
    };
    router.with_state(backend)
}

fn cors_layer(origins: &[String]) -> Option<CorsLayer> {
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

async fn not_found() -> AdminError {
    AdminError::not_found("Path not found.")
}

#[cfg(test)]
mod tests;
