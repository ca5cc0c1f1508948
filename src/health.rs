//! Results of health checks, and the providers that are down by them. The proxy makes the checks;
//! this file must not use the network.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use llm_router_config::HealthCheck;
use llm_router_domain::balance::DeploymentStates;

use crate::snapshot::{CompiledProvider, Snapshot};

/// Result of one check.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) at: SystemTime,
    pub(crate) healthy: bool,
    /// From the first byte sent to the header of the answer, connecting included.
    pub(crate) latency: Duration,
    /// The status of the answer, if there was one.
    pub(crate) status: Option<u16>,
    /// Error, for people.
    pub(crate) error: Option<String>,
}

/// The latest checks of every provider.
#[derive(Debug, Default)]
pub(crate) struct Health {
    /// Held for a look-up at a time.
    providers: Mutex<HashMap<String, History>>,
}

#[derive(Debug, Default)]
struct History {
    /// The provider as it was checked; another one begins anew.
    fingerprint: u64,
    /// The newest last.
    latest: VecDeque<Checked>,
    /// Number of the newest results that are alike.
    in_row: u32,
    down: bool,
}

/// Most checks that are remembered of each provider.
const REMEMBERED: usize = 20;

impl Health {
    /// Remembers a check. True if the provider went down or came up by it.
    pub(crate) fn note(&self, provider: &CompiledProvider, checked: Checked) -> bool {
        let mut providers = self.providers();
        let history = providers.entry(provider.id.clone()).or_default();
        if history.fingerprint != provider.fingerprint {
            *history = History {
                fingerprint: provider.fingerprint,
                ..History::default()
            };
        }
        history.add(checked, &provider.health_check)
    }

    /// Returns whether a provider is down by its checks. One that isn't checked by the clock never is:
    /// nothing would bring it up again.
    pub(crate) fn is_down(&self, provider: &CompiledProvider) -> bool {
        let providers = self.providers();
        let history = providers.get(&provider.id);
        provider.health_check.interval.is_some()
            && history.is_some_and(|found| found.down && found.fingerprint == provider.fingerprint)
    }

    /// The latest checks of a provider, the newest last.
    pub(crate) fn history(&self, provider: &str) -> Vec<Checked> {
        let providers = self.providers();
        let history = providers.get(provider);
        history.map_or_else(Vec::new, |found| found.latest.iter().cloned().collect())
    }

    /// Ejects the deployments of providers that are down and readmits those of the others.
    pub(crate) fn apply(&self, snapshot: &Snapshot, now: Instant) {
        for provider in &snapshot.providers {
            self.apply_to(provider, &snapshot.states, now);
        }
        let known = |id: &String, _: &mut History| snapshot.provider(id).is_some();
        self.providers().retain(known);
    }

    /// The same for one provider.
    pub(crate) fn apply_to(
        &self,
        provider: &CompiledProvider,
        states: &DeploymentStates,
        now: Instant,
    ) {
        let down = self.is_down(provider);
        let of_provider = |id: &str| id.split_once('/').is_some_and(|(id, _)| id == provider.id);
        for state in states.iter().filter(|state| of_provider(state.id())) {
            if down {
                state.eject();
            } else if state.is_down() {
                state.readmit(now);
            }
        }
    }

    fn providers(&self) -> MutexGuard<'_, HashMap<String, History>> {
        self.providers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl History {
    fn add(&mut self, checked: Checked, check: &HealthCheck) -> bool {
        let healthy = checked.healthy;
        let alike = self
            .latest
            .back()
            .is_some_and(|last| last.healthy == healthy);
        self.in_row = if alike {
            self.in_row.saturating_add(1)
        } else {
            1
        };
        if self.latest.len() == REMEMBERED {
            self.latest.pop_front();
        }
        self.latest.push_back(checked);
        let enough = if healthy {
            check.healthy_after
        } else {
            check.unhealthy_after
        };
        let turns = self.down == healthy && self.in_row >= enough;
        if turns {
            self.down = !healthy;
        }
        turns
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::snapshot::testing::provider;

    fn check_result(healthy: bool) -> Checked {
        Checked {
            at: SystemTime::UNIX_EPOCH,
            healthy,
            latency: Duration::ZERO,
            status: None,
            error: None,
        }
    }

    fn checked_provider(fingerprint: u64, interval: Option<Duration>) -> CompiledProvider {
        let mut found = Arc::into_inner(provider("p", "openai", &["*"])).unwrap();
        found.fingerprint = fingerprint;
        let check = &mut Arc::make_mut(&mut found.config).health_check;
        check.interval = interval;
        check.unhealthy_after = 3;
        check.healthy_after = 2;
        found
    }

    #[test]
    fn providers_go_down_and_come_up_by_checks_in_a_row() {
        let (health, every) = (Health::default(), Some(Duration::from_secs(1)));
        let provider = checked_provider(1, every);
        let steps = [
            (false, false),
            (false, false),
            (true, false),
            (false, false),
            (false, false),
            (false, true),
            (false, true),
            (true, true),
            (true, false),
        ];
        let mut before = false;
        for (index, (healthy, down)) in steps.into_iter().enumerate() {
            let turned = health.note(&provider, check_result(healthy));
            assert_eq!(turned, before != down, "step {index}");
            assert_eq!(health.is_down(&provider), down, "step {index}");
            before = down;
        }
        assert_eq!(health.history("p").len(), steps.len());
        for _ in 0..30 {
            health.note(&provider, check_result(false));
        }
        assert_eq!(health.history("p").len(), REMEMBERED);
        assert!(health.is_down(&provider));
        assert!(!health.is_down(&checked_provider(1, None)), "not checked");
        assert!(!health.is_down(&checked_provider(2, every)), "another one");
    }
}
