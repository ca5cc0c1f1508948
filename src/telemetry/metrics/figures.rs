//! Figures of `GET /api/v1/router/metrics`: requests, errors, latency and tokens since the process
//! began, in all and by name. Names are the configuration's, and there are at most so many of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use llm_router_admin as admin;
use llm_router_domain::ledger::LedgerEntry;
use llm_router_domain::quantile::Sketch;
use llm_router_domain::refusal::RequestOutcome;
use llm_router_domain::usage::Class;

use crate::clock;
use crate::telemetry::metrics::deployments::labels;
use crate::telemetry::metrics::{Finished, OTHER};

/// Most names that are told apart of one kind: rules and models can be made and deleted for ever.
const MOST_NAMES: usize = 1_000;

/// Everything that is told.
pub(crate) struct Figures {
    since: Timestamp,
    total: Tally,
    recent: RecentCounts,
    rules: ByName,
    models: ByName,
    providers: ByName,
    deployments: ByName,
}

impl Figures {
    /// Figures that begin now.
    pub(super) fn new(since: Timestamp, now: Instant) -> Self {
        Self {
            since,
            total: Tally::default(),
            recent: RecentCounts::new(now),
            rules: ByName::default(),
            models: ByName::default(),
            providers: ByName::default(),
            deployments: ByName::default(),
        }
    }

    /// Counts a finished request, for what it was routed by and where it ended.
    pub(super) fn finish(&self, request: &Finished<'_>) {
        self.total.finish(request);
        self.recent.note(request.outcome, clock::now());
        let Finished {
            rule,
            model,
            provider,
            deployment,
            ..
        } = *request;
        self.each_of([rule, model, provider, deployment], |tally| {
            tally.finish(request);
        });
    }

    /// Counts what an attempt used. `deployment` is the id of the one that it went to.
    pub(super) fn count_attempt(&self, entry: &LedgerEntry, deployment: &str) {
        if entry.outcome.usage.iter().next().is_none() {
            return;
        }
        self.total.count_attempt(entry);
        let attempt = &entry.attempt;
        let (rule, model) = (attempt.rule.as_deref(), attempt.model.as_deref());
        let model = model.unwrap_or(OTHER);
        let names = [
            rule,
            Some(model),
            Some(&*attempt.provider),
            Some(deployment),
        ];
        self.each_of(names, |tally| tally.count_attempt(entry));
    }

    /// The tallies of a rule, a model, a provider and a deployment, as far as they are named.
    fn each_of(&self, names: [Option<&str>; 4], note: impl Fn(&Tally)) {
        let kinds = [
            &self.rules,
            &self.models,
            &self.providers,
            &self.deployments,
        ];
        for (kind, name) in kinds.into_iter().zip(names) {
            if let Some(name) = name {
                note(&kind.of(name));
            }
        }
    }

    /// Returns the figures for the admin API.
    pub(crate) fn to_api(&self) -> admin::RouterMetrics {
        let deployment = |(id, figures): (Box<str>, admin::Figures)| {
            let [provider, model] = labels(&id).map(str::to_owned);
            admin::DeploymentFigures {
                provider,
                model,
                figures,
            }
        };
        admin::RouterMetrics {
            since: self.since,
            total: self.total.to_api(),
            recent: self.recent.to_api(clock::now()),
            by_rule: self.rules.to_api(),
            by_model: self.models.to_api(),
            by_provider: self.providers.to_api(),
            by_deployment: self
                .deployments
                .each()
                .into_iter()
                .map(deployment)
                .collect(),
        }
    }
}

/// Tallies by name, up to [`MOST_NAMES`] and one for the rest.
#[derive(Default)]
struct ByName {
    tallies: RwLock<HashMap<Box<str>, Arc<Tally>>>,
}

impl ByName {
    fn of(&self, name: &str) -> Arc<Tally> {
        let tallies = self.tallies.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(tally) = tallies.get(name) {
            return Arc::clone(tally);
        }
        drop(tallies);
        let mut tallies = self.tallies.write().unwrap_or_else(PoisonError::into_inner);
        let full = tallies.len() >= MOST_NAMES && !tallies.contains_key(name);
        let name = if full { OTHER } else { name };
        Arc::clone(tallies.entry(name.into()).or_default())
    }

    /// All of them, by name.
    fn each(&self) -> Vec<(Box<str>, admin::Figures)> {
        let tallies = self.tallies.read().unwrap_or_else(PoisonError::into_inner);
        let mut each: Vec<_> = tallies
            .iter()
            .map(|(name, tally)| (name.clone(), tally.to_api()))
            .collect();
        each.sort_by(|(one, _), (other, _)| one.cmp(other));
        each
    }

    fn to_api(&self) -> Vec<admin::NamedFigures> {
        let named = |(name, figures): (Box<str>, _)| admin::NamedFigures {
            name: name.into(),
            figures,
        };
        self.each().into_iter().map(named).collect()
    }
}

/// Counts of one name.
#[derive(Default)]
struct Tally {
    requests: AtomicU64,
    refused: AtomicU64,
    client_errors: AtomicU64,
    failures: AtomicU64,
    input_tokens: AtomicU64,
    cached_input_tokens: AtomicU64,
    output_tokens: AtomicU64,
    total: Sketch,
    first_byte: Sketch,
}

impl Tally {
    fn finish(&self, request: &Finished<'_>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let counter = match request.outcome {
            RequestOutcome::Refused => Some(&self.refused),
            RequestOutcome::ClientError => Some(&self.client_errors),
            RequestOutcome::Failed => Some(&self.failures),
            RequestOutcome::Answered | RequestOutcome::Cancelled => None,
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        self.total.note(request.total);
        if let Some(first_byte) = request.first_byte {
            self.first_byte.note(first_byte);
        }
    }

    fn count_attempt(&self, entry: &LedgerEntry) {
        let usage = &entry.outcome.usage;
        for (counter, tokens) in [
            (&self.input_tokens, usage.input_total()),
            (&self.cached_input_tokens, usage.get(Class::CacheRead)),
            (&self.output_tokens, usage.output_total()),
        ] {
            counter.fetch_add(tokens, Ordering::Relaxed);
        }
    }

    fn to_api(&self) -> admin::Figures {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let [refused, client_errors, failures] =
            [&self.refused, &self.client_errors, &self.failures].map(count);
        admin::Figures {
            requests: count(&self.requests),
            errors: refused + client_errors + failures,
            refused,
            client_errors,
            failures,
            input_tokens: count(&self.input_tokens),
            cached_input_tokens: count(&self.cached_input_tokens),
            output_tokens: count(&self.output_tokens),
            latency_ms: quantiles(&self.total),
            first_byte_ms: quantiles(&self.first_byte),
        }
    }
}

/// Outcomes of the last minute, by which the dashboard tells whether something is wrong now.
struct RecentCounts {
    start: Instant,
    slots: Mutex<[SecondCounts; SLOTS]>,
}

/// Counts of one interval.
#[derive(Clone, Copy, Default)]
struct SecondCounts {
    /// Number of the interval since the start.
    interval: u64,
    requests: u64,
    refused: u64,
    client_errors: u64,
    failures: u64,
}

/// Intervals that are kept, and the length of each.
const SLOTS: usize = 12;
const INTERVAL: Duration = Duration::from_secs(5);

impl RecentCounts {
    fn new(start: Instant) -> Self {
        Self {
            start,
            slots: Mutex::default(),
        }
    }

    fn note(&self, outcome: RequestOutcome, now: Instant) {
        let interval = self.interval(now);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let position = usize::try_from(interval).unwrap_or_default() % SLOTS;
        let slot = &mut slots[position];
        if slot.interval != interval {
            *slot = SecondCounts {
                interval,
                ..SecondCounts::default()
            };
        }
        slot.requests += 1;
        match outcome {
            RequestOutcome::Refused => slot.refused += 1,
            RequestOutcome::ClientError => slot.client_errors += 1,
            RequestOutcome::Failed => slot.failures += 1,
            RequestOutcome::Answered | RequestOutcome::Cancelled => {}
        }
    }

    fn to_api(&self, now: Instant) -> admin::RecentFigures {
        let interval = self.interval(now);
        let slots = *self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = slots.iter().filter(|slot| {
            let age = interval.saturating_sub(slot.interval);
            usize::try_from(age).is_ok_and(|age| age < SLOTS)
        });
        let mut sum = admin::RecentFigures {
            seconds: INTERVAL.as_secs() * SLOTS as u64,
            ..admin::RecentFigures::default()
        };
        for slot in kept {
            sum.requests += slot.requests;
            sum.refused += slot.refused;
            sum.client_errors += slot.client_errors;
            sum.failures += slot.failures;
        }
        sum
    }

    fn interval(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / INTERVAL.as_secs()
    }
}

fn quantiles(sketch: &Sketch) -> Option<admin::Quantiles> {
    let [p50, p90, p95, p99] = sketch.quantiles([0.5, 0.9, 0.95, 0.99])?.map(|seconds| {
        let micros = Duration::from_secs_f64(seconds).as_micros();
        // Three digits say all there is to say: a quantile is off by up to 5 %.
        f64::from(u32::try_from(micros).unwrap_or(u32::MAX)) / 1e3
    });
    Some(admin::Quantiles { p50, p90, p95, p99 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_past_the_bound_share_one_tally() {
        let by_name = ByName::default();
        for number in 0..MOST_NAMES + 50 {
            let tally = by_name.of(&format!("rule-{number}"));
            tally.requests.fetch_add(1, Ordering::Relaxed);
        }
        let each = by_name.each();
        assert_eq!(each.len(), MOST_NAMES + 1);
        let other = each.iter().find(|(name, _)| **name == *OTHER).unwrap();
        assert_eq!(other.1.requests, 50);
    }

    #[test]
    fn what_is_long_ago_is_not_recent() {
        let start = clock::now();
        let recent = RecentCounts::new(start);
        let at = |seconds| start + Duration::from_secs(seconds);
        recent.note(RequestOutcome::Failed, at(1));
        recent.note(RequestOutcome::Refused, at(2));
        recent.note(RequestOutcome::Answered, at(56));
        let counts = |now| {
            let found = recent.to_api(now);
            (found.requests, found.refused, found.failures)
        };
        assert_eq!(counts(at(59)), (3, 1, 1));
        assert_eq!(counts(at(60)), (1, 0, 0));
        assert_eq!(counts(at(900)), (0, 0, 0));
        // The place of an old interval is used again.
        recent.note(RequestOutcome::ClientError, at(900));
        assert_eq!(counts(at(900)), (1, 0, 0));
    }
}
