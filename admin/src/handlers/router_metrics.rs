//! `GET /api/v1/router/metrics`: the counts of one replica since it started. Counting is the
//! router's business.

use axum::Json;
use axum::extract::State;
use jiff::Timestamp;
use serde::Serialize;

use crate::backend::AppState;

/// Counts of a process, in total and by name.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct RouterMetrics {
    /// Start of this replica, and so of its counts. Other replicas have their own.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// Every inference request, rejected ones included.
    pub total: Figures,
    /// Outcomes of the last minute.
    pub recent: RecentFigures,
    /// By the rule that decided; requests without a rule are in none of them.
    pub by_rule: Vec<NamedFigures>,
    /// By public name; `other` stands for every model without one.
    pub by_model: Vec<NamedFigures>,
    /// By the provider of the last attempt that was made. Tokens count for the provider that used them.
    pub by_provider: Vec<NamedFigures>,
    /// By the deployment of the last attempt that was made; `*` stands for models that the configuration doesn't
    /// name.
    pub by_deployment: Vec<DeploymentFigures>,
}

/// Counts of one name.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct NamedFigures {
    /// The name, or `other` for names past the thousandth.
    pub name: String,
    #[serde(flatten)]
    /// Its counts.
    pub figures: Figures,
}

/// Counts of one deployment.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DeploymentFigures {
    /// Id of the provider.
    pub provider: String,
    /// The provider's name of the model.
    pub model: String,
    #[serde(flatten)]
    /// Its counts.
    pub figures: Figures,
}

/// Counts and quantiles.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Figures {
    /// Finished requests.
    pub requests: u64,
    /// Requests that were answered with an error or whose answer broke off: the sum of the next three.
    /// Cancelled requests don't count.
    pub errors: u64,
    /// Requests refused by a key, a limit, a budget or a rule. No deployment was called.
    pub refused: u64,
    /// Requests that were wrong themselves, by the router's word or the provider's.
    pub client_errors: u64,
    /// Requests that failed because deployments or the router did.
    pub failures: u64,
    /// All input tokens, cached ones included.
    pub input_tokens: u64,
    /// Input tokens read from a cache.
    pub cached_input_tokens: u64,
    /// All output tokens, reasoning included.
    pub output_tokens: u64,
    /// From the request's header to the end of its answer; null without requests.
    pub latency_ms: Option<Quantiles>,
    /// From the request's header to the first byte of an upstream's answer; null without answers.
    pub first_byte_ms: Option<Quantiles>,
}

/// Outcomes of the last minute.
#[derive(Clone, Copy, Debug, Default, Serialize, utoipa::ToSchema)]
pub struct RecentFigures {
    /// Length of the time that the counts cover.
    pub seconds: u64,
    /// Finished requests.
    pub requests: u64,
    /// Requests refused by a key, a limit, a budget or a rule.
    pub refused: u64,
    /// Requests that were wrong themselves.
    pub client_errors: u64,
    /// Requests that failed because deployments or the router did.
    pub failures: u64,
}

/// Quantiles in milliseconds, with an error of at most 5 %.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Quantiles {
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
}

/// Get requests, errors, latency and tokens of this replica
///
/// In total and by rule, model, provider and deployment, counted in memory since `since`: a restart
/// begins anew. Costs, and usage over all replicas, are under `/api/v1/cost`.
#[utoipa::path(get, path = "/api/v1/router/metrics", tag = "router",
    responses((status = 200, description = "The counts of this replica", body = RouterMetrics)))]
pub(crate) async fn router_metrics(State(backend): State<AppState>) -> Json<RouterMetrics> {
    Json(backend.router_metrics())
}
