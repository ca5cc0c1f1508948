//! Starts the counters of limits and budgets: in this process, or those that replicas share.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use llm_router_config::{Config, CounterUrl, StoreUrl};
use llm_router_counters::{Counters, Link, LinkOptions, SharedServer};
use tokio::runtime::Runtime;

use crate::budgets::{self, Budgets};
use crate::limits::Limiter;
use crate::telemetry::metrics::Metrics;

/// Timeout of the start for the shared counters; without them this replica begins with its own
/// share.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

/// Interval at which their status goes into the metrics.
const STATUS_INTERVAL: Duration = Duration::from_millis(500);

/// Starts the counters of limits and budgets: for all replicas together where they have Redis,
/// budgets also where they have PostgreSQL.
///
/// # Errors
/// When an address can't be used.
pub(crate) fn start(
    config: &Config,
    runtime: &Runtime,
    metrics: &Arc<Metrics>,
) -> io::Result<(Arc<Limiter>, Arc<Budgets>)> {
    let counters = counters(config, runtime)?;
    let handle = runtime.handle();
    let budgets = if let Some(counters) = &counters {
        watch_link(counters.link(), runtime, metrics);
        Budgets::with_store(Arc::new(counters.clone()), handle)
    } else if let (StoreUrl::Postgres(url), true) = (&config.store.url, config.store.ledger) {
        let store = budgets::postgres::start(url, handle);
        let store = store.map_err(|error| io::Error::other(format!("store.url: {error}")))?;
        watch_link(&store, runtime, metrics);
        Budgets::with_store(store, handle)
    } else {
        Budgets::default()
    };
    let limits = Arc::new(Limiter::new(Arc::clone(metrics), counters));
    runtime.spawn(Arc::clone(&limits).report_losses());
    Ok((limits, Arc::new(budgets)))
}

fn counters(config: &Config, runtime: &Runtime) -> io::Result<Option<Counters>> {
    let CounterUrl::Redis(url) = &config.counters.url else {
        return Ok(None);
    };
    let options = LinkOptions {
        timeout: config.counters.timeout,
    };
    let counters = Counters::start(url, options, runtime.handle());
    let counters = counters.map_err(|error| io::Error::other(format!("counters.url: {error}")))?;
    Ok(Some(counters))
}

/// Waits a moment for the link to the shared counters, and keeps its status in the metrics.
fn watch_link<S: SharedServer>(link: &Arc<Link<S>>, runtime: &Runtime, metrics: &Arc<Metrics>) {
    runtime.block_on(link.ready(READY_TIMEOUT));
    let (link, metrics) = (Arc::clone(link), Arc::clone(metrics));
    runtime.spawn(async move {
        loop {
            metrics.counters(&link.status());
            tokio::time::sleep(STATUS_INTERVAL).await;
        }
    });
}
