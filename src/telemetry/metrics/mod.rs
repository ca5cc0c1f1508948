//! What the router counts, by the names that Prometheus scrapes. Labels hold only what the
//! configuration or the code bounds: no key, no free text of a client's.

mod consumption;
mod deployments;
mod figures;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use llm_router_domain::ledger::Entry;
use llm_router_domain::toggle::Outcome;
use prometheus::{
    Encoder as _, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use self::consumption::Consumption;
pub(crate) use self::deployments::{DeploymentMetrics, labels};
use self::figures::Figures;
use crate::clock;

/// Stands for every model that the configuration has no public name for: clients make those up.
pub(crate) const OTHER: &str = "other";

/// Every metric of the process.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) deployments: DeploymentMetrics,
    requests: IntCounterVec,
    errors: IntCounterVec,
    attempts: IntCounterVec,
    rules: IntCounterVec,
    budget_refusals: IntCounter,
    consumption: Consumption,
    figures: Figures,
    counters: SharedCounters,
    client_disconnects: IntCounter,
    duration: HistogramVec,
    first_byte: HistogramVec,
    overhead: Histogram,
    in_flight: IntGauge,
    open: Arc<AtomicUsize>,
    reloads: IntCounterVec,
    reload_successful: IntGauge,
    reload_time: Gauge,
    revision: IntGauge,
    trace_exports: IntCounterVec,
    following: Following,
}

/// What limits refused, and how the counters are that replicas share.
struct SharedCounters {
    refusals: IntCounterVec,
    up: IntGauge,
    replicas: IntGauge,
    calls: IntCounterVec,
}

impl SharedCounters {
    fn new() -> prometheus::Result<Self> {
        Ok(Self {
            refusals: limit_refusals()?,
            up: IntGauge::with_opts(opts(
                "counters_up",
                "Whether what replicas share can be asked: Redis, or PostgreSQL for budgets; 1 without both.",
            ))?,
            replicas: IntGauge::with_opts(opts(
                "replicas",
                "Replicas that share limits or budgets, as last known.",
            ))?,
            calls: counters(
                "counter_calls_total",
                "Calls of what replicas share, by outcome.",
                &["outcome"],
            )?,
        })
    }

    fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        self.up.set(1);
        self.replicas.set(1);
        registry.register(Box::new(self.refusals.clone()))?;
        registry.register(Box::new(self.up.clone()))?;
        registry.register(Box::new(self.replicas.clone()))?;
        registry.register(Box::new(self.calls.clone()))
    }

    fn note(&self, status: &llm_router_counters::Status) {
        self.up.set(i64::from(status.up));
        self.replicas.set(i64::from(status.replicas));
        for (outcome, total) in [("answered", status.answered), ("failed", status.failed)] {
            let counter = self.calls.with_label_values(&[outcome]);
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }
}

/// One finished request, as far as it is counted.
pub(crate) struct Finished<'a> {
    pub(crate) endpoint: &'static str,
    /// Whether it was meant for a model.
    pub(crate) inference: bool,
    /// The provider that was asked last, by its id.
    pub(crate) provider: Option<&'a str>,
    /// The public name that it was routed to, or [`OTHER`].
    pub(crate) model: Option<&'a str>,
    /// The deployment that was asked last, by the id of its state.
    pub(crate) deployment: Option<&'a str>,
    pub(crate) status: u16,
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

impl Finished<'_> {
    /// Whether the client didn't get what it asked for: an error status, or an answer that broke
    /// off. One that the client itself broke off is none.
    pub(crate) fn is_error(&self) -> bool {
        let cut_off = self.code.is_some() && !self.client_gone;
        cut_off || (self.status >= 400 && self.status != CLIENT_CLOSED_REQUEST)
    }
}

/// The status logged for a client that left before it was answered, after nginx's custom.
pub(crate) const CLIENT_CLOSED_REQUEST: u16 = 499;

/// How this replica follows the store: the toggle and what was made by API.
struct Following {
    routing_enabled: IntGauge,
    toggle_changes: IntCounterVec,
    rules_broken: IntGauge,
    store_up: IntGauge,
    store_poll_failures: IntCounter,
    store_clock_skew: Gauge,
    broadcast_up: IntGaugeVec,
}

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
        let metrics = Self {
            deployments: DeploymentMetrics::new()?,
            requests: counters(
                "requests_total",
                "Requests of clients, by outcome.",
                &["endpoint", "provider", "model", "status"],
            )?,
            errors: counters(
                "errors_total",
                "Errors that the router answered itself.",
                &["code"],
            )?,
            attempts: counters(
                "attempts_total",
                "Attempts at upstreams, by outcome.",
                &["provider", "outcome"],
            )?,
            rules: counters(
                "rule_requests_total",
                "Requests that a routing rule decided on, by rule.",
                &["rule"],
            )?,
            budget_refusals: IntCounter::with_opts(opts(
                "budget_refusals_total",
                "Requests refused because a budget doesn't allow them.",
            ))?,
            consumption: Consumption::new(&registry)?,
            figures: Figures::new(clock::timestamp()),
            counters: SharedCounters::new()?,
            client_disconnects: IntCounter::with_opts(opts(
                "client_disconnects_total",
                "Requests whose client went away before the answer was complete.",
            ))?,
            duration: histograms(
                "request_duration_seconds",
                "Time from a request's header to the end of its answer.",
                &SECONDS,
                &["endpoint", "provider"],
            )?,
            first_byte: histograms(
                "time_to_first_byte_seconds",
                "Time from a request's header to the first byte of its answer.",
                &SECONDS,
                &["endpoint", "provider"],
            )?,
            overhead: Histogram::with_opts(
                HistogramOpts::from(opts(
                    "overhead_seconds",
                    "Time that the router itself took of a request's time to first byte.",
                ))
                .buckets(OVERHEAD_SECONDS.to_vec()),
            )?,
            in_flight: IntGauge::with_opts(opts("requests_in_flight", "Requests under way."))?,
            open: Arc::default(),
            reloads: counters(
                "config_reloads_total",
                "Configurations loaded, the first one included, by result.",
                &["result"],
            )?,
            reload_successful: IntGauge::with_opts(opts(
                "config_last_reload_successful",
                "Whether the configuration was last loaded without an error.",
            ))?,
            reload_time: Gauge::with_opts(opts(
                "config_last_reload_success_timestamp_seconds",
                "When the configuration in force was loaded.",
            ))?,
            revision: IntGauge::with_opts(opts(
                "config_revision",
                "The number of the configuration in force.",
            ))?,
            trace_exports: trace_exports()?,
            following: Following::new(&registry)?,
            registry,
        };
        metrics.register()?;
        Ok(metrics)
    }

    fn register(&self) -> prometheus::Result<()> {
        let build = IntGauge::with_opts(
            opts("build_info", "The running version, in its label.")
                .const_label("version", env!("CARGO_PKG_VERSION")),
        )?;
        build.set(1);
        self.deployments.register(&self.registry)?;
        self.registry.register(Box::new(build))?;
        self.registry.register(Box::new(self.requests.clone()))?;
        self.registry.register(Box::new(self.errors.clone()))?;
        self.registry.register(Box::new(self.attempts.clone()))?;
        self.registry
            .register(Box::new(self.budget_refusals.clone()))?;
        for result in [APPLIED, REFUSED] {
            self.reloads.with_label_values(&[result]);
        }
        self.registry.register(Box::new(self.reloads.clone()))?;
        self.counters.register(&self.registry)?;
        self.registry.register(Box::new(self.rules.clone()))?;
        self.registry
            .register(Box::new(self.client_disconnects.clone()))?;
        self.registry.register(Box::new(self.duration.clone()))?;
        self.registry.register(Box::new(self.first_byte.clone()))?;
        self.registry.register(Box::new(self.overhead.clone()))?;
        self.registry.register(Box::new(self.in_flight.clone()))?;
        self.registry
            .register(Box::new(self.reload_successful.clone()))?;
        self.registry.register(Box::new(self.reload_time.clone()))?;
        self.registry.register(Box::new(self.revision.clone()))?;
        self.registry
            .register(Box::new(self.trace_exports.clone()))?;
        self.registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))
    }

    /// Counts a request as under way until the guard is dropped.
    pub(crate) fn begin(&self) -> InFlight {
        self.in_flight.inc();
        self.open.fetch_add(1, Ordering::Relaxed);
        InFlight {
            gauge: self.in_flight.clone(),
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
        self.requests.with_label_values(&full).inc();
        self.duration
            .with_label_values(&labels)
            .observe(request.total.as_secs_f64());
        if let Some(first_byte) = request.first_byte {
            self.first_byte
                .with_label_values(&labels)
                .observe(first_byte.as_secs_f64());
            self.overhead.observe(request.overhead.as_secs_f64());
        }
        if let Some(code) = request.code {
            self.errors.with_label_values(&[code]).inc();
        }
        if let Some(rule) = request.rule {
            self.rules.with_label_values(&[rule]).inc();
        }
        if request.client_gone {
            self.client_disconnects.inc();
        }
        if request.inference {
            self.figures.finish(request);
        }
    }

    /// Counts what an attempt used at the deployment of that id.
    pub(crate) fn settled(&self, entry: &Entry, deployment: &str) {
        self.consumption.settled(entry);
        self.figures.settled(entry, deployment);
    }

    /// What the process has counted since it began, for people.
    pub(crate) fn figures(&self) -> llm_router_admin::RouterFigures {
        self.figures.shown()
    }

    /// Counts batches of spans, by outcome.
    pub(crate) const fn trace_exports(&self) -> &IntCounterVec {
        &self.trace_exports
    }

    /// Counts a request that a budget doesn't allow.
    pub(crate) fn budget_refused(&self) {
        self.budget_refusals.inc();
    }

    /// Counts the end of an attempt.
    pub(crate) fn attempt(&self, provider: &str, outcome: &'static str) {
        self.attempts.with_label_values(&[provider, outcome]).inc();
    }

    /// Notes how the shared counters are.
    pub(crate) fn counters(&self, status: &llm_router_counters::Status) {
        self.counters.note(status);
    }

    /// Counts a request that a limit refused.
    pub(crate) fn limit_refused(&self, of: &'static str, limit: &'static str) {
        self.counters.refusals.with_label_values(&[limit, of]).inc();
    }

    /// Notes a configuration that took effect.
    pub(crate) fn config_loaded(&self, revision: u64) {
        self.reloads.with_label_values(&[APPLIED]).inc();
        self.reload_successful.set(1);
        self.revision(revision);
        let now = clock::wall()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        self.reload_time.set(now.as_secs_f64());
    }

    /// Notes the number of the configuration in force.
    pub(crate) fn revision(&self, revision: u64) {
        self.revision
            .set(i64::try_from(revision).unwrap_or(i64::MAX));
    }

    /// Notes whether routing rules are in force.
    pub(crate) fn routing_enabled(&self, enabled: bool) {
        self.following.routing_enabled.set(i64::from(enabled));
    }

    /// Counts what became of a request to the toggle.
    pub(crate) fn toggle_changed(&self, outcome: Outcome) {
        self.following
            .toggle_changes
            .with_label_values(&[outcome.name()])
            .inc();
    }

    /// Notes how many rules are left out.
    pub(crate) fn rules_broken(&self, count: usize) {
        self.following
            .rules_broken
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Notes how far the store's clock is ahead.
    pub(crate) fn store_clock_skew(&self, seconds: f64) {
        self.following.store_clock_skew.set(seconds);
    }

    /// Notes that the store answered a look at it.
    pub(crate) fn store_polled(&self) {
        self.following.store_up.set(1);
    }

    /// Counts a look at the store that failed.
    pub(crate) fn store_poll_failed(&self) {
        self.following.store_up.set(0);
        self.following.store_poll_failures.inc();
    }

    /// Notes whether changes elsewhere are heard of at once, and by whom.
    pub(crate) fn broadcast(&self, by: &'static str, up: bool) {
        let gauge = self.following.broadcast_up.with_label_values(&[by]);
        gauge.set(i64::from(up));
    }

    /// Whether the store answered when it was last asked.
    pub(crate) fn store_is_up(&self) -> bool {
        self.following.store_up.get() == 1
    }

    /// Counts a connection that was refused because its address has too many.
    pub(crate) fn too_many_connections(&self) {
        self.errors
            .with_label_values(&["too_many_connections"])
            .inc();
    }

    /// Notes a configuration that was refused.
    pub(crate) fn config_refused(&self) {
        self.reloads.with_label_values(&[REFUSED]).inc();
        self.reload_successful.set(0);
    }

    /// Where parts with metrics of their own add them.
    pub(crate) const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Everything in Prometheus' text format (version 0.0.4).
    pub(crate) fn render(&self) -> String {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "the metrics could not be written");
        }
        String::from_utf8(text).unwrap_or_default()
    }
}

impl Following {
    fn new(registry: &Registry) -> prometheus::Result<Self> {
        let following = Self {
            routing_enabled: IntGauge::with_opts(opts(
                "routing_enabled",
                "Whether routing rules are in force.",
            ))?,
            toggle_changes: counters(
                "toggle_changes_total",
                "What became of requests to the routing toggle, as far as this replica took part.",
                &["outcome"],
            )?,
            store_up: IntGauge::with_opts(opts(
                "store_up",
                "Whether the store answered when it was last asked.",
            ))?,
            store_poll_failures: IntCounter::with_opts(opts(
                "store_poll_failures_total",
                "How often the store could not be asked whether another replica changed anything.",
            ))?,
            rules_broken: IntGauge::with_opts(opts(
                "rules_broken",
                "Rules that can't work as the configuration is now, and are left out.",
            ))?,
            store_clock_skew: Gauge::with_opts(opts(
                "store_clock_skew_seconds",
                "How far the store's clock is ahead of this machine's, at least; PostgreSQL only.",
            ))?,
            broadcast_up: IntGaugeVec::new(
                opts(
                    "broadcast_up",
                    "Whether changes elsewhere are heard of at once, by what tells of them.",
                ),
                &["by"],
            )?,
        };
        registry.register(Box::new(following.routing_enabled.clone()))?;
        registry.register(Box::new(following.toggle_changes.clone()))?;
        registry.register(Box::new(following.rules_broken.clone()))?;
        // It was opened before anything is asked.
        following.store_up.set(1);
        registry.register(Box::new(following.store_up.clone()))?;
        registry.register(Box::new(following.store_poll_failures.clone()))?;
        registry.register(Box::new(following.store_clock_skew.clone()))?;
        registry.register(Box::new(following.broadcast_up.clone()))?;
        Ok(following)
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

fn limit_refusals() -> prometheus::Result<IntCounterVec> {
    counters(
        "limit_refusals_total",
        "Requests refused by a limit, by what was limited and whose limit it was.",
        &["limit", "of"],
    )
}

fn trace_exports() -> prometheus::Result<IntCounterVec> {
    counters(
        "trace_exports_total",
        "Batches of spans that were sent to the collector, by outcome.",
        &["outcome"],
    )
}

fn opts(name: &str, help: &str) -> Opts {
    Opts::new(name, help).namespace("llm_router")
}

fn counters(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntCounterVec> {
    IntCounterVec::new(opts(name, help), labels)
}

fn histograms(
    name: &str,
    help: &str,
    buckets: &[f64],
    labels: &[&str],
) -> prometheus::Result<HistogramVec> {
    HistogramVec::new(
        HistogramOpts::from(opts(name, help)).buckets(buckets.to_vec()),
        labels,
    )
}

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
