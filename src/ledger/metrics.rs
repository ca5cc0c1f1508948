//! The metrics of money: what is reserved, what has no price, what the journal could not take. It
//! decides nothing.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::telemetry::metrics::labels;
use crate::telemetry::metrics::macros::metrics;
use llm_router_domain::inexact::Reason;
use llm_router_domain::ledger::LedgerEntry;
use llm_router_domain::price::Cost;
use llm_router_store::journal::Journal;
use prometheus::{CounterVec, IntCounter, IntCounterVec, IntGauge, Registry};
use rust_decimal::prelude::ToPrimitive as _;

/// Models without a price that have a warning of their own: names come from clients.
const MOST_MODELS: usize = 100;

metrics! {
    /// The metrics of budgets and of the ledger.
    struct MoneyMetrics {
        reservations: IntGauge = "budget_reservations",
            "Calls in flight that a budget holds money for.";
        decisions: IntCounterVec = "budget_decisions_total" ["by", "outcome"],
            "Attempts checked against a budget, by who decided: all replicas together, this one by \
             its share, or nobody.";
        unpriced: IntCounterVec = "unpriced_attempts_total" ["provider", "deployment"],
            "Attempts that used a model without a price.";
        journal_failures: IntCounter = "journal_failures_total",
            "Records that could not be written to the ledger's journal.";
        lost_entries: IntCounter = "ledger_lost_entries_total",
            "Entries lost because neither the journal nor memory had room for them.";
        damaged_entries: IntCounter = "ledger_damaged_entries_total",
            "Entries lost because their records of the journal were damaged, or because the store \
             refused them.";
        inexact: IntCounterVec = "inexact_attempts_total" ["reason", "provider", "deployment"],
            "Attempts whose cost isn't exact, by reason.";
        compared: CounterVec = "compared_cost_usd_total" ["provider", "deployment", "source"],
            "Cost of the attempts whose provider states a cost, by source: `table` is ours, \
             `reported` the provider's. Their difference shows prices that are out of date.";
        entries_in_memory: IntGauge = "ledger_entries_in_memory",
            "Entries that wait for the store in memory because the journal is full.";
        entries_waiting: IntGauge = "journal_entries",
            "Entries in the ledger's journal that the store doesn't have yet.";
    }
}

/// Counts what concerns money.
pub(crate) struct LedgerMetrics {
    counted: MoneyMetrics,
    /// The models without a price that were warned of.
    warned: Mutex<HashSet<(Box<str>, Box<str>)>>,
}

impl LedgerMetrics {
    /// Makes metrics that `registry` shows.
    ///
    /// # Errors
    /// When it has one of their names already, which a test would have shown.
    pub(crate) fn new(registry: &Registry) -> prometheus::Result<Self> {
        Ok(Self {
            counted: MoneyMetrics::register(registry)?,
            warned: Mutex::default(),
        })
    }

    /// Sets the number of calls that budgets hold money for.
    pub(crate) fn set_reservations(&self, calls: usize) {
        self.counted
            .reservations
            .set(i64::try_from(calls).unwrap_or(i64::MAX));
    }

    /// Counts a decision on an attempt that a budget pays for, by who decided and the outcome.
    pub(crate) fn count_decision(&self, [by, outcome]: [&'static str; 2]) {
        self.counted
            .decisions
            .with_label_values(&[by, outcome])
            .inc();
    }

    /// Counts an entry that used something without a price, at the deployment of that id, and
    /// warns of its model once.
    pub(crate) fn count_attempt(&self, entry: &LedgerEntry, deployment: &str) {
        let mut kinds: Vec<_> = entry
            .outcome
            .billing
            .inexact
            .iter()
            .map(Reason::kind)
            .collect();
        kinds.dedup();
        for kind in kinds {
            let [provider, model] = labels(deployment);
            let inexact = self
                .counted
                .inexact
                .with_label_values(&[kind, provider, model]);
            inexact.inc();
        }
        self.compare(entry, deployment);
        if entry.outcome.cost != Cost::Unpriced {
            return;
        }
        self.counted
            .unpriced
            .with_label_values(&labels(deployment))
            .inc();
        let (provider, model) = (&entry.attempt.provider, &entry.attempt.deployment);
        let line = (provider.clone(), model.clone());
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.len() < MOST_MODELS && warned.insert(line) {
            tracing::warn!(
                %provider,
                %model,
                "a model has no price, so what it costs is not known; add it to the prices file"
            );
        }
    }

    /// Counts both figures of an attempt whose provider states a cost.
    fn compare(&self, entry: &LedgerEntry, deployment: &str) {
        let billing = &entry.outcome.billing;
        let (ours, reported) = (billing.table_cost(), entry.outcome.usage.reported_cost);
        let Some(reported) = reported.filter(|_| !billing.costs.is_empty()) else {
            return;
        };
        let [provider, model] = labels(deployment);
        for (source, usd) in [("table", ours), ("reported", reported)] {
            let counter = self
                .counted
                .compared
                .with_label_values(&[provider, model, source]);
            counter.inc_by(usd.to_f64().unwrap_or_default());
        }
    }

    /// Takes over what a journal has counted.
    pub(crate) fn observe(&self, journal: &Journal) {
        let catch_up = |counter: &IntCounter, now: u64| {
            counter.inc_by(now.saturating_sub(counter.get()));
        };
        catch_up(&self.counted.journal_failures, journal.failures());
        catch_up(&self.counted.lost_entries, journal.dropped_records());
        catch_up(&self.counted.damaged_entries, journal.unreadable_records());
        let waiting = i64::try_from(journal.in_memory()).unwrap_or(i64::MAX);
        self.counted.entries_in_memory.set(waiting);
        let journalled = i64::try_from(journal.waiting()).unwrap_or(i64::MAX);
        self.counted.entries_waiting.set(journalled);
    }
}
