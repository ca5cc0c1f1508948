//! Metrics of deployments: retries and fallbacks, circuits and cooldowns, requests in flight and
//! latency. Labels are ids of the configuration; models that only clients name share one.

use std::sync::Arc;

use llm_router_domain::balance::DeploymentState;
use llm_router_domain::circuit::{Availability, RestReason};
use prometheus::{GaugeVec, IntCounterVec, IntGaugeVec};

use crate::clock;
use crate::health::Health;
use crate::snapshot::{CompiledProvider, Snapshot};
use crate::telemetry::metrics::macros::metrics;

metrics! {
    /// The metrics of deployments.
    pub(crate) struct DeploymentMetrics {
        retries: IntCounterVec = "retries_total" ["provider"],
            "Attempts that went on with the same deployment over another connection.";
        fallbacks: IntCounterVec = "fallbacks_total" ["provider", "outcome"],
            "Failed attempts that were followed by one at the next candidate.";
        cooldowns: IntCounterVec = "cooldowns_total" ["provider", "deployment"],
            "Refusals that put a deployment into cooldown.";
        account_errors: IntCounterVec = "account_errors_total" ["provider", "reason"],
            "Answers that refuse the router's own credential, or say that its account has no money left.";
        circuits_opened: IntCounterVec = "circuit_openings_total" ["provider", "deployment"],
            "Times that a deployment's circuit opened.";
        circuit_state: IntGaugeVec = "circuit_state" ["provider", "deployment"],
            "A deployment's circuit: 0 closed, 1 half open, 2 open.";
        resting: IntGaugeVec = "deployment_resting" ["provider", "deployment"],
            "1 if a deployment is sent no requests: circuit, cooldown or health checks.";
        in_flight: IntGaugeVec = "deployment_requests_in_flight" ["provider", "deployment"],
            "Requests in flight at a deployment.";
        latency: GaugeVec = "deployment_latency_seconds" ["provider", "deployment"],
            "The estimated time to a deployment's first token.";
        healthy: IntGaugeVec = "provider_healthy" ["provider"],
            "1 if a provider's health checks succeed, else 0; for providers that have some.";
    }
}

impl DeploymentMetrics {
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

    /// Counts an answer that refuses our credential or account.
    pub(crate) fn account_error(&self, provider: &str, reason: &'static str) {
        let labels = [provider, reason];
        self.account_errors.with_label_values(&labels).inc();
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

    fn show_one(&self, deployment: &DeploymentState) {
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

/// Provider and model of a deployment's id.
pub(crate) fn labels(id: &str) -> [&str; 2] {
    id.split_once('/').unwrap_or((id, "")).into()
}

const fn circuit_state(availability: Availability) -> i64 {
    match availability {
        Availability::Resting {
            why: RestReason::Open,
            ..
        } => 2,
        Availability::ProbeDue
        | Availability::Resting {
            why: RestReason::Probing,
            ..
        } => 1,
        Availability::Ready { .. } | Availability::Resting { .. } => 0,
    }
}
