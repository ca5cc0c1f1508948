//! Counts what attempts used, as they are settled: tokens, cost, speed. Money is a float
//! here because Prometheus knows nothing else; the ledger has it exact.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use llm_router_domain::ledger::{AttemptEnd, LedgerEntry};
use llm_router_domain::price::Cost;
use llm_router_domain::usage::Class;
use prometheus::{CounterVec, HistogramVec, IntCounter, IntCounterVec, Registry};
use rust_decimal::prelude::ToPrimitive as _;

use crate::telemetry::metrics::declare::metrics;
use crate::telemetry::metrics::{OTHER, SECONDS};

/// Output tokens a second, from a slow reasoner to a cache.
const SPEEDS: [f64; 11] = [
    1.0, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 120.0, 200.0, 400.0, 1_000.0,
];

metrics! {
    /// The metrics of what is used.
    struct UsageMetrics {
        tokens: IntCounterVec = "tokens_total" ["provider", "model", "class"],
            "Tokens that attempts used, by class; the classes don't overlap.";
        cost: CounterVec = "cost_usd_total" ["provider", "model"],
            "Cost of attempts in US dollars, rounded; the ledger has it exact.";
        first_token: HistogramVec = "time_to_first_token_seconds" ["provider", "model"] (SECONDS),
            "Time from a streaming request's header to the first content of its answer.";
        speed: HistogramVec = "output_tokens_per_second" ["provider", "model"] (SPEEDS),
            "Output tokens of a complete stream by the time from its first content to its end.";
    }
}

/// Counts what attempts use.
pub(super) struct Consumption {
    metrics: UsageMetrics,
    /// The series of a provider's models, so that they are looked up once for each attempt.
    series: RwLock<HashMap<Box<str>, SeriesByModel>>,
}

type SeriesByModel = HashMap<Box<str>, Arc<Series>>;

/// The series of one model at one provider.
struct Series {
    tokens: [OnceLock<IntCounter>; Class::COUNT],
    cost: prometheus::Counter,
    first_token: prometheus::Histogram,
    speed: prometheus::Histogram,
}

impl Consumption {
    /// # Errors
    /// When a name is taken or can't be used.
    pub(super) fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            metrics: UsageMetrics::register(registry)?,
            series: RwLock::default(),
        })
    }

    /// Counts what an attempt used.
    pub(super) fn count_attempt(&self, entry: &LedgerEntry) {
        let (attempt, outcome) = (&entry.attempt, &entry.outcome);
        if outcome.ending == AttemptEnd::Failed {
            return;
        }
        let labels = [
            &*attempt.provider,
            attempt.model.as_deref().unwrap_or(OTHER),
        ];
        let series = self.series(labels);
        for (class, tokens) in outcome.usage.iter() {
            let [provider, model] = labels;
            let counter = series.tokens[class as usize].get_or_init(|| {
                let labels = [provider, model, class.name()];
                self.metrics.tokens.with_label_values(&labels)
            });
            counter.inc_by(tokens);
        }
        if let Cost::Usd(usd) = outcome.cost {
            series.cost.inc_by(usd.to_f64().unwrap_or_default());
        }
        if attempt.stream {
            series.pace(entry);
        }
    }

    fn series(&self, labels: [&str; 2]) -> Arc<Series> {
        let [provider, model] = labels;
        let known = self.series.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = known.get(provider).and_then(|models| models.get(model)) {
            return Arc::clone(series);
        }
        drop(known);
        let series = Arc::new(Series {
            tokens: [const { OnceLock::new() }; Class::COUNT],
            cost: self.metrics.cost.with_label_values(&labels),
            first_token: self.metrics.first_token.with_label_values(&labels),
            speed: self.metrics.speed.with_label_values(&labels),
        });
        let mut known = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let models = known.entry(provider.into()).or_default();
        Arc::clone(models.entry(model.into()).or_insert(series))
    }
}

impl Series {
    /// Observes the speed of a stream.
    fn pace(&self, entry: &LedgerEntry) {
        let outcome = &entry.outcome;
        let seconds = |micros: u32| Duration::from_micros(micros.into()).as_secs_f64();
        let timings = &outcome.timings;
        let (Some(queue), Some(first), Some(total)) =
            (timings.queue, timings.first_token, timings.total)
        else {
            return;
        };
        self.first_token.observe(seconds(queue) + seconds(first));
        let streaming = seconds(total.saturating_sub(first));
        let output = outcome.usage.output_total();
        if outcome.ending == AttemptEnd::Complete && streaming > 0.0 && output > 1 {
            #[expect(
                clippy::cast_precision_loss,
                reason = "counts of tokens are far below 2^52"
            )]
            self.speed.observe((output - 1) as f64 / streaming);
        }
    }
}
