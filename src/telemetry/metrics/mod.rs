//! Metrics of the router, by the names that Prometheus scrapes. Labels hold only what the
//! configuration or the code bounds: no key, no free text of a client's.

mod consumption;
mod deployments;
mod figures;
pub(crate) mod macros;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use llm_router_domain::ledger::LedgerEntry;
use llm_router_domain::refusal::{RefusedBy, RequestOutcome};
use llm_router_domain::toggle::ToggleOutcome;
use prometheus::process_collector::ProcessCollector;
use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use self::consumption::Consumption;
pub(crate) use self::deployments::{DeploymentMetrics, labels};
use self::figures::Figures;
use self::macros::metrics;
use crate::clock;

/// Stands for every model that the configuration has no public name for: clients make those up.
pub(crate) const OTHER: &str = "other";

/// Every metric of the process.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) deployments: DeploymentMetrics,
    counted: RouterMetrics,
    consumption: Consumption,
    figures: Figures,
    open: Arc<AtomicUsize>,
}

metrics! {
    /// The metrics of requests, of the configuration, and of what replicas share.
    struct RouterMetrics {
        requests: IntCounterVec = "requests_total" ["endpoint", "provider", "model", "status"],
            "Requests of clients, by outcome.";
        errors: IntCounterVec = "errors_total" ["code"],
            "Errors that the router answered itself.";
        outcomes: IntCounterVec = "request_outcomes_total" ["outcome"],
            "Requests to models, by outcome: answered, refused, client_error, failed, cancelled.";
        refused: IntCounterVec = "refused_requests_total" ["refused_by"],
            "Requests to models that were answered before any deployment was called, by what refused them.";
        attempts: IntCounterVec = "attempts_total" ["provider", "outcome"],
            "Attempts at upstreams, by outcome.";
        rules: IntCounterVec = "rule_requests_total" ["rule"],
            "Requests that a routing rule decided on, by rule.";
        client_disconnects: IntCounter = "client_disconnects_total",
            "Requests whose client disconnected before the answer was complete.";
        duration: HistogramVec = "request_duration_seconds" ["endpoint", "provider"] (SECONDS),
            "Time from a request's header to the end of its answer.";
        first_byte: HistogramVec = "time_to_first_byte_seconds" ["endpoint", "provider"] (SECONDS),
            "Time from a request's header to the first byte of its answer.";
        overhead: Histogram = "overhead_seconds" (OVERHEAD_SECONDS),
            "Time that the router itself took of a request's time to first byte.";
        in_flight: IntGauge = "requests_in_flight",
            "Requests in flight.";

        limit_refusals: IntCounterVec = "limit_refusals_total" ["limit", "of"],
            "Requests refused by a limit, by what was limited and whose limit it was.";
        budget_refusals: IntCounter = "budget_refusals_total",
            "Requests refused because a budget does not allow them.";
        counters_up: IntGauge = "counters_up",
            "1 if the shared counters are available: Redis, or PostgreSQL for budgets; 1 without both.";
        replicas: IntGauge = "replicas",
            "Replicas that share limits or budgets, as last known.";
        counter_calls: IntCounterVec = "counter_calls_total" ["outcome"],
            "Calls to the shared counters, by outcome.";

        reloads: IntCounterVec = "config_reloads_total" ["result"],
            "Configurations loaded, the first one included, by result.";
        reload_successful: IntGauge = "config_last_reload_successful",
            "1 if the last reload of the configuration succeeded, else 0.";
        reload_time: Gauge = "config_last_reload_success_timestamp_seconds",
            "Unix time of the last successful reload.";
        revision: IntGauge = "config_revision",
            "Revision of the active configuration.";

        routing_enabled: IntGauge = "routing_enabled",
            "1 if routing rules are enabled, else 0.";
        toggle_changes: IntCounterVec = "toggle_changes_total" ["outcome"],
            "Changes of the routing toggle that this replica took part in, by outcome.";
        rules_broken: IntGauge = "rules_broken",
            "Rules that can't work with the active configuration and are skipped.";
        store_up: IntGauge = "store_up",
            "1 if the last query of the store succeeded, else 0.";
        store_poll_failures: IntCounter = "store_poll_failures_total",
            "Failed polls of the store for changes of other replicas.";
        store_clock_skew: Gauge = "store_clock_skew_seconds",
            "Least time that the store's clock is ahead of this machine's; PostgreSQL only.";
        broadcast_up: IntGaugeVec = "broadcast_up" ["by"],
            "1 if change notifications are received, by where they come from.";

        trace_exports: IntCounterVec = "trace_exports_total" ["outcome"],
            "Batches of spans sent to the collector, by outcome.";
    }
}

/// One finished request, as far as it is counted.
pub(crate) struct Finished<'a> {
    pub(crate) endpoint: &'static str,
    /// Set if it was meant for a model.
    pub(crate) inference: bool,
    /// The provider that was asked last, by its id.
    pub(crate) provider: Option<&'a str>,
    /// The public name that it was routed to, or [`OTHER`].
    pub(crate) model: Option<&'a str>,
    /// The deployment that was asked last, by the id of its state.
    pub(crate) deployment: Option<&'a str>,
    pub(crate) status: u16,
    pub(crate) outcome: RequestOutcome,
    /// What refused it before any deployment was called.
    pub(crate) refused_by: Option<RefusedBy>,
    /// The code of the router's own error answers.
    pub(crate) code: Option<&'static str>,
    /// The rule that decided.
    pub(crate) rule: Option<&'a str>,
    pub(crate) client_gone: bool,
    pub(crate) total: Duration,
    pub(crate) first_byte: Option<Duration>,
    /// Time that the router itself took: not waiting for the client or an upstream.
    pub(crate) overhead: Duration,
}

/// The status logged for a client that left before it was answered, after nginx's custom.
pub(crate) const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Seconds from a chat's first token to a long answer's end.
const SECONDS: [f64; 14] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
];
const OVERHEAD_SECONDS: [f64; 10] = [
    0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.25,
];

impl Metrics {
    /// Registers every metric.
    ///
    /// # Errors
    /// When two of them have one name, which a test would have shown.
    pub(crate) fn new() -> prometheus::Result<Self> {
        let registry = Registry::new();
        let counted = RouterMetrics::register(&registry)?;
        // The store was opened before anything is asked of it, and nothing is shared yet.
        for gauge in [&counted.counters_up, &counted.replicas, &counted.store_up] {
            gauge.set(1);
        }
        for result in [APPLIED, REFUSED] {
            counted.reloads.with_label_values(&[result]);
        }
        for outcome in RequestOutcome::ALL {
            counted.outcomes.with_label_values(&[outcome.name()]);
        }
        for by in RefusedBy::ALL {
            counted.refused.with_label_values(&[by.name()]);
        }
        let build = IntGauge::with_opts(
            Opts::new("build_info", "The running version, in its label.")
                .namespace("llm_router")
                .const_label("version", env!("CARGO_PKG_VERSION")),
        )?;
        build.set(1);
        registry.register(Box::new(build))?;
        registry.register(Box::new(ProcessCollector::for_self()))?;
        Ok(Self {
            deployments: DeploymentMetrics::register(&registry)?,
            counted,
            consumption: Consumption::new(&registry)?,
            figures: Figures::new(clock::timestamp(), clock::now()),
            open: Arc::default(),
            registry,
        })
    }

    /// Counts a request as under way until the guard is dropped.
    pub(crate) fn begin(&self) -> InFlight {
        self.counted.in_flight.inc();
        self.open.fetch_add(1, Ordering::Relaxed);
        InFlight {
            gauge: self.counted.in_flight.clone(),
            open: Arc::clone(&self.open),
        }
    }

    /// Requests under way now.
    pub(crate) fn open_requests(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// Counts a finished request.
    pub(crate) fn finish(&self, request: &Finished<'_>) {
        let mut digits = [0; 3];
        let [provider, model] = [request.provider, request.model].map(Option::unwrap_or_default);
        let labels = [request.endpoint, provider];
        let status = status_text(request.status, &mut digits);
        let full = [request.endpoint, provider, model, status];
        self.counted.requests.with_label_values(&full).inc();
        self.counted
            .duration
            .with_label_values(&labels)
            .observe(request.total.as_secs_f64());
        if let Some(first_byte) = request.first_byte {
            self.counted
                .first_byte
                .with_label_values(&labels)
                .observe(first_byte.as_secs_f64());
            self.counted
                .overhead
                .observe(request.overhead.as_secs_f64());
        }
        if let Some(code) = request.code {
            self.counted.errors.with_label_values(&[code]).inc();
        }
        if let Some(rule) = request.rule {
            self.counted.rules.with_label_values(&[rule]).inc();
        }
        if request.client_gone {
            self.counted.client_disconnects.inc();
        }
        if request.inference {
            let outcome = [request.outcome.name()];
            self.counted.outcomes.with_label_values(&outcome).inc();
            if let Some(by) = request.refused_by {
                self.counted.refused.with_label_values(&[by.name()]).inc();
            }
            self.figures.finish(request);
        }
    }

    /// Counts what an attempt used at the deployment of that id.
    pub(crate) fn count_attempt(&self, entry: &LedgerEntry, deployment: &str) {
        self.consumption.count_attempt(entry);
        self.figures.count_attempt(entry, deployment);
    }

    /// Returns the figures since the process began, for the admin API.
    pub(crate) fn figures(&self) -> llm_router_admin::RouterMetrics {
        self.figures.to_api()
    }

    /// Counts batches of spans, by outcome.
    pub(crate) const fn trace_exports(&self) -> &IntCounterVec {
        &self.counted.trace_exports
    }

    /// Counts a request that a budget doesn't allow.
    pub(crate) fn budget_refused(&self) {
        self.counted.budget_refusals.inc();
    }

    /// Counts the end of an attempt.
    pub(crate) fn attempt(&self, provider: &str, outcome: &'static str) {
        self.counted
            .attempts
            .with_label_values(&[provider, outcome])
            .inc();
    }

    /// Notes how the shared counters are.
    pub(crate) fn counters(&self, status: &llm_router_counters::LinkStatus) {
        self.counted.counters_up.set(i64::from(status.up));
        self.counted.replicas.set(i64::from(status.replicas));
        for (outcome, total) in [("answered", status.answered), ("failed", status.failed)] {
            let counter = self.counted.counter_calls.with_label_values(&[outcome]);
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }

    /// Counts a request that a limit refused.
    pub(crate) fn limit_refused(&self, of: &'static str, limit: &'static str) {
        self.counted
            .limit_refusals
            .with_label_values(&[limit, of])
            .inc();
    }

    /// Notes a configuration that took effect.
    pub(crate) fn config_loaded(&self, revision: u64) {
        self.counted.reloads.with_label_values(&[APPLIED]).inc();
        self.counted.reload_successful.set(1);
        self.revision(revision);
        let now = clock::wall()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        self.counted.reload_time.set(now.as_secs_f64());
    }

    /// Notes the number of the configuration in force.
    pub(crate) fn revision(&self, revision: u64) {
        self.counted
            .revision
            .set(i64::try_from(revision).unwrap_or(i64::MAX));
    }

    /// Notes whether routing rules are in force.
    pub(crate) fn routing_enabled(&self, enabled: bool) {
        self.counted.routing_enabled.set(i64::from(enabled));
    }

    /// Counts what became of a request to the toggle.
    pub(crate) fn toggle_changed(&self, outcome: ToggleOutcome) {
        self.counted
            .toggle_changes
            .with_label_values(&[outcome.name()])
            .inc();
    }

    /// Notes how many rules are left out.
    pub(crate) fn rules_broken(&self, count: usize) {
        self.counted
            .rules_broken
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Notes how far the store's clock is ahead.
    pub(crate) fn store_clock_skew(&self, seconds: f64) {
        self.counted.store_clock_skew.set(seconds);
    }

    /// Notes that the store answered a look at it.
    pub(crate) fn store_polled(&self) {
        self.counted.store_up.set(1);
    }

    /// Counts a look at the store that failed.
    pub(crate) fn store_poll_failed(&self) {
        self.counted.store_up.set(0);
        self.counted.store_poll_failures.inc();
    }

    /// Notes whether changes elsewhere are heard of at once, and by whom.
    pub(crate) fn broadcast(&self, by: &'static str, up: bool) {
        let gauge = self.counted.broadcast_up.with_label_values(&[by]);
        gauge.set(i64::from(up));
    }

    /// Returns whether the last query of the store succeeded.
    pub(crate) fn store_is_up(&self) -> bool {
        self.counted.store_up.get() == 1
    }

    /// Counts a connection that was refused because its address has too many.
    pub(crate) fn too_many_connections(&self) {
        self.counted
            .errors
            .with_label_values(&["too_many_connections"])
            .inc();
    }

    /// Notes a configuration that was refused.
    pub(crate) fn config_refused(&self) {
        self.counted.reloads.with_label_values(&[REFUSED]).inc();
        self.counted.reload_successful.set(0);
    }

    /// Returns the registry that parts with metrics of their own add them to.
    pub(crate) const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Everything in Prometheus' text format (version 0.0.4).
    pub(crate) fn render(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "failed to encode the metrics");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

/// Holds a request's place among those under way.
pub(crate) struct InFlight {
    gauge: IntGauge,
    open: Arc<AtomicUsize>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gauge.dec();
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

const APPLIED: &str = "applied";
const REFUSED: &str = "refused";

/// A three-digit status as text, without an allocation.
fn status_text(status: u16, digits: &mut [u8; 3]) -> &str {
    *digits = [status / 100 % 10, status / 10 % 10, status % 10].map(|digit| b'0' + digit as u8);
    std::str::from_utf8(digits).unwrap_or("000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_outcome() {
        let metrics = Metrics::new().unwrap();
        metrics.finish(&Finished {
            endpoint: "messages",
            inference: true,
            provider: Some("anthropic"),
            model: Some("claude"),
            deployment: Some("anthropic/claude-1"),
            status: 529,
            outcome: RequestOutcome::Cancelled,
            refused_by: None,
            code: Some("upstream_error"),
            rule: Some("cheap"),
            client_gone: true,
            total: Duration::from_millis(20),
            first_byte: Some(Duration::from_millis(10)),
            overhead: Duration::from_micros(80),
        });
        let text = metrics.render();
        for line in [
            "llm_router_requests_total{endpoint=\"messages\",model=\"claude\",\
             provider=\"anthropic\",status=\"529\"} 1",
            "llm_router_errors_total{code=\"upstream_error\"} 1",
            "llm_router_rule_requests_total{rule=\"cheap\"} 1",
            "llm_router_client_disconnects_total 1",
            "llm_router_overhead_seconds_bucket{le=\"0.0001\"} 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn requests_under_way_are_counted_while_their_guard_lives() {
        let metrics = Metrics::new().unwrap();
        let guard = metrics.begin();
        assert_eq!(metrics.open_requests(), 1);
        drop(guard);
        assert_eq!(metrics.open_requests(), 0);
    }
}
