//! The proxy's parts: what every request needs besides its own context. The phases are its methods,
//! each in a file of its own.

use std::sync::Arc;

use crate::budgets::Budgets;
use crate::ledger::Ledger;
use crate::limits::Limiter;
use crate::proxy::upstream::live::SharedLive;
use crate::routing::toggle::ToggleReplica;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::refusals::Refusals;
use crate::telemetry::traces::Traces;

/// The proxy.
pub(crate) struct Gateway {
    pub(crate) live: SharedLive,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) access_log: AccessLog,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) budgets: Arc<Budgets>,
    /// The admin service, while its paths are served here.
    pub(crate) admin: Option<axum::Router>,
    pub(crate) limits: Arc<Limiter>,
    pub(crate) switch: Arc<ToggleReplica>,
    /// Makes traces, if they are wanted.
    pub(crate) traces: Option<Arc<Traces>>,
}
