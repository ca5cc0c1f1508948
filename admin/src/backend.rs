//! The seam to the router: what the admin service asks of it. Nothing here knows HTTP handlers.

use std::sync::Arc;

use async_trait::async_trait;
use axum::http::HeaderMap;
use jiff::Timestamp;
use jiff::civil::Date;
use llm_router_domain::format::Format;
use llm_router_domain::rule::RuleSpec;
use llm_router_store::objects::ObjectStore;
use llm_router_store::{LedgerStore, StoreError};
use serde_json::Value;

use crate::caller::Caller;
use crate::handlers::config::Configuration;
use crate::handlers::explain::Unexplained;
use crate::handlers::keys::Keys;
use crate::handlers::providers::Hosting;
use crate::handlers::router_metrics::RouterFigures;
use crate::handlers::rules::Rule;
use crate::handlers::toggle::Steering;
use crate::objects::Collection;

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

    /// Who presents a request.
    ///
    /// # Errors
    /// Why nobody does, for the client to read.
    fn caller(&self, headers: &HeaderMap) -> Result<Caller, String>;

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
