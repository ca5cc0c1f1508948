//! Answers the admin service's questions: each file implements one of its traits over the snapshot,
//! the store and the toggle. It must not speak HTTP.

pub(crate) mod config;
pub(crate) mod editor;
pub(crate) mod keys;
pub(crate) mod providers;
pub(crate) mod routing;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::HeaderMap;
use jiff::Timestamp;
use jiff::civil::Date;
use llm_router_admin::{
    AuthenticationError, Caller, Collection, ExplainError, RefusedRequest, RuleObject,
};
use llm_router_domain::format::Format;
use llm_router_domain::ledger;
use llm_router_domain::rule::RuleSpec;
use llm_router_store::objects::ObjectStore;
use llm_router_store::{LedgerStore, StoreError};

use crate::admin_api::config::ConfigEditor;
use crate::admin_api::keys::KeyEditor;
use crate::admin_api::providers::ProviderEditor;
use crate::admin_api::routing::RoutingEditor;
use crate::budgets::Budgets;
use crate::clock;
use crate::health::Health;
use crate::keys::authenticate::authenticate;
use crate::ledger::Ledger;
use crate::limits::Limiter;
use crate::proxy::SharedLive;
use crate::routing::explain::{ExplainRequest, explain};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::refusals::Refusals;

/// Backend of the admin service: the state of the router, and the editors that change it.
pub(crate) struct AdminBackend {
    pub(crate) live: SharedLive,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) limits: Arc<Limiter>,
    pub(crate) health: Arc<Health>,
    pub(crate) metrics_public: bool,
    pub(crate) clients_port: u16,
    pub(crate) providers: ProviderEditor,
    pub(crate) config: ConfigEditor,
    pub(crate) keys: KeyEditor,
    pub(crate) routing: RoutingEditor,
}

#[async_trait]
impl llm_router_admin::Backend for AdminBackend {
    fn routing(&self) -> &dyn llm_router_admin::RoutingApi {
        &self.routing
    }

    fn rules(&self) -> &dyn Collection<Object = RuleObject, Spec = RuleSpec> {
        &self.routing
    }

    fn keys(&self) -> &dyn llm_router_admin::KeysApi {
        &self.keys
    }

    fn providers(&self) -> &dyn llm_router_admin::ProvidersApi {
        &self.providers
    }

    fn config(&self) -> &dyn llm_router_admin::ConfigApi {
        &self.config
    }

    fn store(&self) -> &dyn ObjectStore {
        &*self.routing.editor.store
    }

    fn config_schema(&self) -> serde_json::Value {
        llm_router_config::schema()
    }

    fn metrics(&self) -> String {
        // What the ledger's parts count is taken over when somebody looks.
        let money = self.ledger.metrics();
        money.set_reservations(self.budgets.reservations());
        let enabled = self.routing.switch.is_enabled(clock::wall());
        self.metrics.routing_enabled(enabled);
        let live = self.live.load();
        self.metrics.deployments.show(&live.snapshot, &self.health);
        self.metrics.render()
    }

    fn router_metrics(&self) -> llm_router_admin::RouterMetrics {
        self.metrics.figures()
    }

    fn refused_requests(&self) -> Vec<Arc<RefusedRequest>> {
        self.refusals.list()
    }

    fn metrics_are_public(&self) -> bool {
        self.metrics_public
    }

    fn body_timeout(&self) -> Duration {
        self.live.load().snapshot.server.body_timeout
    }

    fn authenticate(
        &self,
        headers: &HeaderMap,
        address: Option<IpAddr>,
    ) -> Result<Caller, AuthenticationError> {
        let live = self.live.load();
        let lines = headers.get_all("x-forwarded-for").iter();
        let lines = lines.filter_map(|line| line.to_str().ok());
        let proxies = &live.snapshot.server.trusted_proxies;
        let address = address.map(|address| proxies.client(address, lines));
        let key = authenticate(&live.snapshot.keys, headers, clock::wall()).map_err(|error| {
            let limits = &self.limits;
            let error = limits.throttle_unknown_key(headers, address, error, clock::now());
            AuthenticationError {
                message: error.message.into_owned(),
                retry_after: error.retry_after,
            }
        })?;
        Ok(Caller {
            role: key.role,
            key: key.name.clone(),
            owner: key.owner.clone(),
        })
    }

    fn clients_port(&self) -> u16 {
        self.clients_port
    }

    fn now(&self) -> Timestamp {
        clock::timestamp()
    }

    fn explain(
        &self,
        headers: &HeaderMap,
        format: Option<Format>,
        body: &[u8],
    ) -> Result<String, ExplainError> {
        let live = self.live.load();
        let snapshot = &live.snapshot;
        let now = clock::wall();
        let explained = authenticate(&snapshot.keys, headers, now).and_then(|key| {
            explain(&ExplainRequest {
                snapshot,
                enabled: self.routing.switch.is_enabled(now),
                key: &key,
                headers,
                body,
                format,
                now,
                random: fastrand::u64(..),
                typical_output: &|provider, model| self.budgets.typical_output(provider, model),
                pretty: false,
            })
        });
        explained.map_err(|fault| ExplainError {
            code: fault.code,
            message: fault.message.into_owned(),
            field: fault.param,
        })
    }

    fn today(&self) -> Date {
        ledger::day(self.now())
    }

    async fn ledger(&self) -> Result<Arc<dyn LedgerStore>, StoreError> {
        self.ledger.up_to_date().await
    }
}
