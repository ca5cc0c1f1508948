//! What is counted and shown of deployments: where requests went on, who rests, how busy and how
//! quick they are. Labels are ids of the configuration; models that only clients name share one.

use std::sync::Arc;

use llm_router_domain::balance::Deployment;
use llm_router_domain::circuit::{Availability, Rest};
use prometheus::core::Collector;
use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec, Registry};

use crate::clock;
use crate::health::Health;
use crate::snapshot::{CompiledProvider, Snapshot};
use crate::telemetry::metrics::{counters, opts};

/// The metrics of deployments.
pub(crate) struct DeploymentMetrics {
    retries: IntCounterVec,
    fallbacks: IntCounterVec,
    cooldowns: IntCounterVec,
    circuits_opened: IntCounterVec,
    circuit_state: IntGaugeVec,
    resting: IntGaugeVec,
    in_flight: IntGaugeVec,
    latency: GaugeVec,
    healthy: IntGaugeVec,
}

impl DeploymentMetrics {
    /// # Errors
    /// When a name or a label is none.
    pub(super) fn new() -> prometheus::Result<Self> {
        Ok(Self {
            retries: counters(
                "retries_total",
                "Attempts that went on with the same deployment over another connection.",
                &["provider"],
            )?,
            fallbacks: counters(
                "fallbacks_total",
                "Attempts that failed and were followed by one at the next candidate.",
                &["provider", "outcome"],
            )?,
            cooldowns: counters(
                "cooldowns_total",
                "Refusals for which a deployment was left alone for a while.",
                &DEPLOYMENT,
            )?,
            circuits_opened: counters(
                "circuit_openings_total",
                "How often a deployment's circuit opened.",
                &DEPLOYMENT,
            )?,
            circuit_state: gauges(
                "circuit_state",
                "A deployment's circuit: 0 closed, 1 half open, 2 open.",
            )?,
            resting: gauges(
                "deployment_resting",
                "Whether a deployment is sent no requests: circuit, cooldown or health checks.",
            )?,
            in_flight: gauges(
                "deployment_requests_in_flight",
                "Requests under way at a deployment.",
            )?,
            latency: GaugeVec::new(
                opts(
                    "deployment_latency_seconds",
                    "The estimated time to a deployment's first token.",
                ),
                &DEPLOYMENT,
            )?,
            healthy: IntGaugeVec::new(
                opts(
                    "provider_healthy",
                    "Whether the health checks of a provider that has some find it well.",
                ),
                &["provider"],
            )?,
        })
    }

    /// Registers them.
    ///
    /// # Errors
    /// When a name is taken.
    pub(super) fn register(&self, registry: &Registry) -> prometheus::Result<()> {
        let mut collectors = self.collectors().into_iter();
        collectors.try_for_each(|collector| registry.register(collector))
    }

    fn collectors(&self) -> [Box<dyn Collector>; 9] {
        [
            Box::new(self.retries.clone()),
            Box::new(self.fallbacks.clone()),
            Box::new(self.cooldowns.clone()),
            Box::new(self.circuits_opened.clone()),
            Box::new(self.circuit_state.clone()),
            Box::new(self.resting.clone()),
            Box::new(self.in_flight.clone()),
            Box::new(self.latency.clone()),
            Box::new(self.healthy.clone()),
        ]
    }

    /// Counts another connection to the same deployment.
    pub(crate) fn retry(&self, provider: &str) {
        self.retries.with_label_values(&[provider]).inc();
    }

    /// Counts a failed attempt that is followed by one at the next candidate.
    pub(crate) fn fallback(&self, provider: &str, outcome: &'static str) {
        self.fallbacks.with_label_values(&[provider, outcome]).inc();
    }

    /// Counts a refusal that rests a deployment, by its id.
    pub(crate) fn cooldown(&self, id: &str) {
        self.cooldowns.with_label_values(&labels(id)).inc();
    }

    /// Counts a circuit that opened, by its deployment's id.
    pub(crate) fn circuit_opened(&self, id: &str) {
        self.circuits_opened.with_label_values(&labels(id)).inc();
    }

    /// Sets what is shown of deployments to what holds now; those that are gone are not shown.
    pub(crate) fn show(&self, snapshot: &Snapshot, health: &Health) {
        self.circuit_state.reset();
        self.resting.reset();
        self.in_flight.reset();
        self.latency.reset();
        self.healthy.reset();
        for deployment in snapshot.states.iter() {
            self.show_one(deployment);
        }
        let checked = |provider: &&Arc<CompiledProvider>| provider.health_check.interval.is_some();
        for provider in snapshot.providers.iter().filter(checked) {
            let healthy = i64::from(!health.is_down(provider));
            self.healthy.with_label_values(&[&provider.id]).set(healthy);
        }
    }

    fn show_one(&self, deployment: &Deployment) {
        let now = clock::now();
        let labels = labels(deployment.id());
        let availability = deployment.availability(now);
        let resting = matches!(availability, Availability::Resting { .. });
        let gauges = [
            (&self.circuit_state, circuit_state(availability)),
            (&self.resting, i64::from(resting)),
            (&self.in_flight, i64::from(deployment.in_flight())),
        ];
        for (gauge, value) in gauges {
            gauge.with_label_values(&labels).set(value);
        }
        if let Some(latency) = deployment.latency(now) {
            let seconds = latency.as_secs_f64();
            self.latency.with_label_values(&labels).set(seconds);
        }
    }
}

const DEPLOYMENT: [&str; 2] = ["provider", "deployment"];

/// Provider and model of a deployment's id.
pub(crate) fn labels(id: &str) -> [&str; 2] {
    id.split_once('/').unwrap_or((id, "")).into()
}

const fn circuit_state(availability: Availability) -> i64 {
    match availability {
        Availability::Resting {
            why: Rest::Open, ..
        } => 2,
        Availability::ProbeDue
        | Availability::Resting {
            why: Rest::Probing, ..
        } => 1,
        Availability::Ready { .. } | Availability::Resting { .. } => 0,
    }
}

fn gauges(name: &str, help: &str) -> prometheus::Result<IntGaugeVec> {
    IntGaugeVec::new(opts(name, help), &DEPLOYMENT)
}
