//! State of a deployment at run time: circuit, latency, requests in flight. It is shared by every
//! model it belongs to and kept across reloads. Names and prices must not be here.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::latency::LatencyEstimate;
use crate::{
    circuit::{Availability, Circuit, CircuitChange, CircuitSettings, RestReason},
    rendezvous::stable_hash,
    retry::HealthReport,
};

/// State of one deployment at run time.
#[derive(Debug)]
pub struct DeploymentState {
    id: Box<str>,
    hash: u64,
    settings: CircuitSettings,
    circuit: Circuit,
    latency: LatencyEstimate,
    in_flight: AtomicU32,
    /// True while its health checks fail.
    down: AtomicBool,
}

/// Rest reported for a deployment whose health checks fail: its end is unknown, but later than any
/// rest with an end.
const DOWN: Duration = Duration::from_secs(24 * 3_600);

impl DeploymentState {
    /// Creates the state of a new deployment. `seed` makes this replica's jitter differ from
    /// others'.
    #[must_use]
    pub fn new(id: &str, settings: CircuitSettings, seed: u64, now: Instant) -> Self {
        let hash = stable_hash(id.as_bytes());
        Self {
            id: id.into(),
            hash,
            settings,
            circuit: Circuit::new(settings, hash ^ seed, now),
            latency: LatencyEstimate::new(now),
            in_flight: AtomicU32::new(0),
            down: AtomicBool::new(false),
        }
    }

    /// Returns the id that identifies it across reloads.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns a hash of the id, the same on every replica.
    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }

    /// Returns whether requests may be sent now.
    #[must_use]
    pub fn availability(&self, now: Instant) -> Availability {
        if self.is_down() {
            return Availability::Resting {
                why: RestReason::Down,
                until: now.checked_add(DOWN).unwrap_or(now),
            };
        }
        self.circuit.availability(now)
    }

    /// Returns the number of requests in flight.
    #[must_use]
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Returns the estimated time to the first token; `None` before the first answer.
    #[must_use]
    pub fn latency(&self, now: Instant) -> Option<Duration> {
        self.latency.estimate(now).map(Duration::from_secs_f64)
    }

    /// Returns the same in seconds.
    pub(super) fn seconds(&self, now: Instant) -> Option<f64> {
        self.latency.estimate(now)
    }

    /// Marks it as down, as found by a health check: no request is sent until one finds it up.
    pub fn eject(&self) {
        self.down.store(true, Relaxed);
    }

    /// Returns true if health checks have found it down.
    #[must_use]
    pub fn is_down(&self) -> bool {
        self.down.load(Relaxed)
    }

    /// Marks it as up, as found by a health check. This also closes an open circuit whose time is
    /// over.
    pub fn readmit(&self, now: Instant) -> Option<CircuitChange> {
        self.down.store(false, Relaxed);
        let taken = self.circuit.take_probe(now);
        if taken {
            self.circuit.record_success(true, now)
        } else {
            None
        }
    }
}

/// States of the deployments of a snapshot, by id.
#[derive(Debug, Default)]
pub struct DeploymentStates(HashMap<Box<str>, Arc<DeploymentState>>);

impl DeploymentStates {
    /// Creates the states of deployments. The state in the registry given with an id is kept unless
    /// its settings have changed.
    pub fn new<'i, 'p>(
        ids: impl IntoIterator<Item = (&'i str, CircuitSettings, Option<&'p Self>)>,
        seed: u64,
        now: Instant,
    ) -> Self {
        let one = |(id, settings, previous): (&str, CircuitSettings, Option<&Self>)| {
            let known = previous.and_then(|previous| previous.0.get(id));
            let kept = known.filter(|deployment| deployment.settings == settings);
            let new = || Arc::new(DeploymentState::new(id, settings, seed, now));
            (id.into(), kept.map_or_else(new, Arc::clone))
        };
        Self(ids.into_iter().map(one).collect())
    }

    /// Returns the state of the deployment with this id.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Arc<DeploymentState>> {
        self.0.get(id)
    }

    /// Iterates over all deployments, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<DeploymentState>> {
        self.0.values()
    }
}

/// Request in flight to a deployment. It counts as in flight until dropped. Dropped without a
/// report it has no effect on health, and returns the probe if it was one.
#[derive(Debug)]
#[must_use]
pub struct InFlightGuard {
    deployment: Arc<DeploymentState>,
    started: Instant,
    kind: GuardKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum GuardKind {
    Usual,
    Probe,
    /// Sent although the deployment rests, because no other was left.
    LastResort,
    /// Already reported.
    Reported,
}

impl InFlightGuard {
    /// Begins a request, as the probe if one is due. Returns `None` if the deployment rests or
    /// another request has the probe.
    pub fn acquire(deployment: &Arc<DeploymentState>, now: Instant) -> Option<Self> {
        match deployment.availability(now) {
            Availability::Ready { .. } => Some(Self::new(deployment, GuardKind::Usual, now)),
            Availability::ProbeDue if deployment.circuit.take_probe(now) => {
                Some(Self::new(deployment, GuardKind::Probe, now))
            }
            _ => None,
        }
    }

    /// Begins a request regardless of the deployment's health.
    pub fn force(deployment: &Arc<DeploymentState>, now: Instant) -> Self {
        Self::acquire(deployment, now)
            .unwrap_or_else(|| Self::new(deployment, GuardKind::LastResort, now))
    }

    fn new(deployment: &Arc<DeploymentState>, kind: GuardKind, now: Instant) -> Self {
        deployment.in_flight.fetch_add(1, Relaxed);
        Self {
            deployment: Arc::clone(deployment),
            started: now,
            kind,
        }
    }

    /// Returns the deployment.
    #[must_use]
    pub fn deployment(&self) -> &Arc<DeploymentState> {
        &self.deployment
    }

    /// Returns true if it is a circuit's probe.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.kind == GuardKind::Probe
    }

    /// Reports content: the first token, or the whole answer. Call it once.
    pub fn report_content(&mut self, now: Instant) -> Option<CircuitChange> {
        self.deployment
            .latency
            .observe(now.saturating_duration_since(self.started), now);
        let decisive = matches!(self.take_kind(), GuardKind::Probe | GuardKind::LastResort);
        self.deployment.circuit.record_success(decisive, now)
    }

    /// Reports a failure before the answer or in the middle of it.
    pub fn report_failure(&mut self, now: Instant) -> Option<CircuitChange> {
        if self.kind == GuardKind::Reported {
            return self.deployment.circuit.record_break(now);
        }
        let waited = now.saturating_duration_since(self.started);
        self.deployment.latency.observe_at_least(waited, now);
        let probe = self.take_kind() == GuardKind::Probe;
        self.deployment.circuit.record_failure(probe, now)
    }

    /// Reports a temporary refusal and returns how long the deployment rests. `wait` is the time
    /// that the refusal names. A refusal shows that the deployment is alive, so a probe has
    /// succeeded.
    pub fn report_refusal(&mut self, wait: Option<Duration>, now: Instant) -> Duration {
        if self.take_kind() == GuardKind::Probe {
            self.deployment.circuit.record_success(true, now);
        }
        self.deployment.circuit.record_refusal(wait, now)
    }

    /// Reports an answer without content: the deployment is alive, but its latency is not measured.
    fn report_alive(&mut self, now: Instant) -> Option<CircuitChange> {
        match self.take_kind() {
            GuardKind::Reported => None,
            kind => self
                .deployment
                .circuit
                .record_success(kind != GuardKind::Usual, now),
        }
    }

    /// Reports the health that [`AttemptResult::decision`](crate::retry::AttemptResult::decision)
    /// assigns to the end of an attempt. `wait` is the time that the answer's headers name.
    pub fn report(
        &mut self,
        health: HealthReport,
        wait: Option<Duration>,
        now: Instant,
    ) -> Option<CircuitChange> {
        match health {
            HealthReport::Unknown => None,
            HealthReport::Good => self.report_alive(now),
            HealthReport::Failed => self.report_failure(now),
            HealthReport::Refused(rest) => {
                self.report_refusal(rest.or(wait), now);
                None
            }
        }
    }

    /// Returns the kind and marks the request as reported.
    fn take_kind(&mut self) -> GuardKind {
        std::mem::replace(&mut self.kind, GuardKind::Reported)
    }
}

impl Drop for InFlightGuard {
    fn drop(&mut self) {
        self.deployment.in_flight.fetch_sub(1, Relaxed);
        if self.kind == GuardKind::Probe {
            self.deployment.circuit.return_probe(self.started);
        }
    }
}
