//! The seam to the router: what the admin service reads from it and changes through it. Nothing here
//! knows HTTP handlers.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::http::HeaderMap;
use jiff::Timestamp;
use jiff::civil::Date;
use llm_router_domain::format::Format;
use llm_router_domain::rule::RuleSpec;
use llm_router_store::objects::ObjectStore;
use llm_router_store::{LedgerStore, StoreError};
use serde_json::Value;

use crate::caller::{AuthenticationError, Caller};
use crate::handlers::config::ConfigApi;
use crate::handlers::explain::ExplainError;
use crate::handlers::keys::KeysApi;
use crate::handlers::providers::ProvidersApi;
use crate::handlers::refused::RefusedRequest;
use crate::handlers::router_metrics::RouterMetrics;
use crate::handlers::rules::RuleObject;
use crate::handlers::toggle::RoutingApi;
use crate::objects::Collection;

/// The state of every handler.
pub(crate) type AppState = Arc<dyn Backend>;

/// The router, as the admin service sees it.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Returns the routing toggle.
    fn routing(&self) -> &dyn RoutingApi;

    /// Returns the rules, in the order in which they are tried.
    fn rules(&self) -> &dyn Collection<Object = RuleObject, Spec = RuleSpec>;

    /// Returns the keys.
    fn keys(&self) -> &dyn KeysApi;

    /// Returns the providers.
    fn providers(&self) -> &dyn ProvidersApi;

    /// Returns the configuration as a whole.
    fn config(&self) -> &dyn ConfigApi;

    /// Returns the store of objects created through the API.
    fn store(&self) -> &dyn ObjectStore;

    /// Returns the JSON Schema of the configuration file.
    fn config_schema(&self) -> Value;

    /// Renders every metric in Prometheus' text format.
    fn metrics(&self) -> String;

    /// Returns the counts of this process.
    fn router_metrics(&self) -> RouterMetrics;

    /// Returns the latest requests that this process refused before any deployment was called, newest
    /// first.
    fn refused_requests(&self) -> Vec<Arc<RefusedRequest>>;

    /// Returns true if metrics may be read without a key.
    fn metrics_are_public(&self) -> bool;

    /// Returns the port that serves inference requests.
    fn clients_port(&self) -> u16;

    /// Returns how long a request's body may go without progress.
    fn body_timeout(&self) -> Duration;

    /// Authenticates a request by its headers.
    ///
    /// # Errors
    /// If the request has no valid key. Unknown keys are counted by the client's address.
    fn authenticate(
        &self,
        headers: &HeaderMap,
        address: Option<IpAddr>,
    ) -> Result<Caller, AuthenticationError>;

    /// Returns the current time.
    fn now(&self) -> Timestamp;

    /// Returns the current day (UTC).
    fn today(&self) -> Date;

    /// Explains as JSON how a request with these headers and this body would be routed. Without a
    /// format the body's format is guessed.
    ///
    /// # Errors
    /// If no endpoint would accept the body.
    fn explain(
        &self,
        headers: &HeaderMap,
        format: Option<Format>,
        body: &[u8],
    ) -> Result<String, ExplainError>;

    /// Returns the ledger's store after writing to it every entry settled before the call.
    ///
    /// # Errors
    /// If the store is unavailable.
    async fn ledger(&self) -> Result<Arc<dyn LedgerStore>, StoreError>;
}
