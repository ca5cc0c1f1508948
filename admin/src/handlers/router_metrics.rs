//! `GET /api/v1/router/metrics`: what one replica has counted since it began. How it is counted is
//! the router's business.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;

use crate::Shared;

/// What a process has counted, in all and by name.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = RouterMetrics)]
pub struct RouterFigures {
    /// Since when this replica counts: its start. Other replicas count for themselves.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Every request that was meant for a model, those refused included.
    pub total: Figures,
    /// By the rule that decided; requests that none decided are in none of them.
    pub by_rule: Vec<NamedFigures>,
    /// By public name; `other` is every model without one.
    pub by_model: Vec<NamedFigures>,
    /// By the provider that was asked last. Tokens count where they were used.
    pub by_provider: Vec<NamedFigures>,
    /// By the deployment that was asked last; models that the configuration doesn't name are `*`.
    pub by_deployment: Vec<DeploymentFigures>,
}

/// The figures of one name.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct NamedFigures {
    /// The name, or `other` for those past the thousandth.
    pub name: String,
    #[serde(flatten)]
    /// What is counted of it.
    pub figures: Figures,
}

/// The figures of one deployment.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DeploymentFigures {
    /// The id of its provider.
    pub provider: String,
    /// The provider's name of its model.
    pub model: String,
    #[serde(flatten)]
    /// What is counted of it.
    pub figures: Figures,
}

/// What is counted.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Figures {
    /// Requests that have ended.
    pub requests: u64,
    /// Those answered with an error, or whose answer broke off. Clients that left are none.
    pub errors: u64,
    /// All input, cached included.
    pub input_tokens: u64,
    /// Input that a cache served.
    pub cached_input_tokens: u64,
    /// All output, reasoning included.
    pub output_tokens: u64,
    /// From a request's header to the end of its answer; null without requests.
    pub latency_ms: Option<Quantiles>,
    /// From a request's header to the first byte of an upstream's answer; null without any.
    pub first_byte_ms: Option<Quantiles>,
}

/// Quantiles in milliseconds, each off by 5 % at most.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Quantiles {
    /// The median.
    pub p50: f64,
    /// Nine of ten are not longer.
    pub p90: f64,
    /// 95 % are not longer.
    pub p95: f64,
    /// 99 % are not longer.
    pub p99: f64,
}

/// Requests, errors, latency and tokens, in all and by rule, model, provider and deployment
///
/// What this replica has counted since `since`, in memory: a restart begins anew. Costs, and usage
/// over all replicas, are under `/api/v1/cost`.
#[utoipa::path(get, path = "/api/v1/router/metrics", tag = "router",
    responses((status = 200, description = "The figures of this replica", body = RouterFigures)))]
pub(crate) async fn figures(State(source): State<Shared>) -> Json<RouterFigures> {
    Json(source.figures())
}
