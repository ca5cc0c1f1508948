//! Figures of `GET /api/v1/router/metrics`: requests, errors, latency and tokens since the process
//! began, in all and by name. Names are the configuration's, and there are at most so many of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use llm_router_admin as admin;
use llm_router_domain::ledger::LedgerEntry;
use llm_router_domain::quantile::Sketch;
use llm_router_domain::usage::Class;

use crate::telemetry::metrics::deployments::labels;
use crate::telemetry::metrics::{Finished, OTHER};

/// Most names that are told apart of one kind: rules and models can be made and deleted for ever.
const MOST_NAMES: usize = 1_000;

/// Everything that is told.
pub(crate) struct Figures {
    since: Timestamp,
    total: Tally,
    rules: ByName,
    models: ByName,
    providers: ByName,
    deployments: ByName,
}

impl Figures {
    /// Figures that begin now.
    pub(super) fn new(since: Timestamp) -> Self {
        Self {
            since,
            total: Tally::default(),
            rules: ByName::default(),
            models: ByName::default(),
            providers: ByName::default(),
            deployments: ByName::default(),
        }
    }

    /// Counts a finished request, for what it was routed by and where it ended.
    pub(super) fn finish(&self, request: &Finished<'_>) {
        self.total.finish(request);
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
    errors: AtomicU64,
    input_tokens: AtomicU64,
    cached_input_tokens: AtomicU64,
    output_tokens: AtomicU64,
    total: Sketch,
    first_byte: Sketch,
}

impl Tally {
    fn finish(&self, request: &Finished<'_>) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        if request.is_error() {
            self.errors.fetch_add(1, Ordering::Relaxed);
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
        admin::Figures {
            requests: count(&self.requests),
            errors: count(&self.errors),
            input_tokens: count(&self.input_tokens),
            cached_input_tokens: count(&self.cached_input_tokens),
            output_tokens: count(&self.output_tokens),
            latency_ms: quantiles(&self.total),
            first_byte_ms: quantiles(&self.first_byte),
        }
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
}
