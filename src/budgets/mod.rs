//! Budgets of keys at run time: an estimate is reserved before a call, its cost is settled after
//! it, and earlier spending is read from the ledger once. Replicas share a store of it; a single
//! process keeps its own. The arithmetic is `llm-router-domain`'s.

pub(crate) mod postgres;
pub(crate) mod shared;
pub(crate) mod store;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use llm_router_config::OnCounterFailure;
use llm_router_domain::budget::replica::budget_lines;
use llm_router_domain::budget::shared::BudgetLine;
use llm_router_domain::budget::{
    Account, BudgetExceeded, InputMargin, LocalBudgets as OwnBook, Period, TypicalOutput,
};
use llm_router_domain::inexact::Reason;
use llm_router_domain::ledger::{LedgerEntry, OpenEntry, stamp_run};
use llm_router_domain::price::Cost;
use llm_router_store::StoreError;
use llm_router_store::ledger::SpentQuery;
use rust_decimal::Decimal;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::clock;
use crate::ledger::Ledger;
pub(crate) use crate::snapshot::KeyBudget;
pub(crate) use shared::DecidedBy;
use shared::{ReserveRequest, SharedBudgets};
pub(crate) use store::BudgetStore;

/// Timeout of reading earlier spending, and the time after a failure in which it isn't read.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Spending and reservations of every key with a budget.
pub(crate) struct Budgets {
    /// Identifies this run of the process in the ids of its attempts.
    run: u32,
    /// Locked for a few look-ups at a time.
    state: Mutex<LocalState>,
    /// Budgets shared with other replicas, if there may be several.
    shared: Option<Arc<SharedBudgets>>,
    outage: StoreOutage,
}

/// Last failure to read earlier spending.
#[derive(Debug, Default)]
struct StoreOutage(Mutex<Option<Instant>>);

impl StoreOutage {
    fn is_recent(&self) -> bool {
        let failed = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|at| at.elapsed() < STORE_TIMEOUT)
    }

    fn begin(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(clock::now());
    }
}

/// Attempt to reserve money for.
pub(crate) struct BudgetRequest<'a> {
    pub(crate) budget: &'a KeyBudget,
    /// The most that the attempt can cost.
    pub(crate) cost: Cost,
    pub(crate) opened: &'a OpenEntry,
    /// Failed attempt whose reservation this one replaces.
    pub(crate) replaces: Option<&'a OpenEntry>,
    /// Longest duration of the attempt.
    pub(crate) longest: Duration,
    /// Policy while the shared store is unavailable.
    pub(crate) failure: OnCounterFailure,
}

/// Reason for which no money was reserved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum BudgetRefusal {
    /// It doesn't fit, or has no price. Holds the message for the client.
    OverBudget(String),
    /// It doesn't fit into this replica's share. Holds the message for the client.
    Share(String),
    /// Earlier spending is unknown.
    Unknown,
    /// The shared store is unavailable, and the configuration refuses everything then.
    Unavailable,
}

impl BudgetRefusal {
    /// Returns true if the store of the ledger is the reason.
    pub(crate) const fn is_for_store(&self) -> bool {
        matches!(self, Self::Unknown)
    }

    #[expect(clippy::needless_pass_by_value, reason = "it is mapped over errors")]
    fn over_budget(exceeded: BudgetExceeded) -> Self {
        Self::OverBudget(sentence(&exceeded.to_string()))
    }

    fn share(exceeded: &BudgetExceeded, replicas: u32) -> Self {
        let of = &exceeded.account;
        Self::Share(format!(
            "You are over budget: while replicas can't ask each other, each may spend one \
             {replicas}th of what was left for {of}, and this one has. Try again in a while."
        ))
    }
}

/// Returns what a budget is charged for an attempt: its cost, but the bound that was reserved where
/// a part of it has no price.
fn budget_charge(entry: &LedgerEntry, bound: Cost) -> Decimal {
    let outcome = &entry.outcome;
    let cost = outcome.cost.usd().unwrap_or_default();
    let has_no_price = |reason: Reason| {
        matches!(
            reason,
            Reason::UnknownServiceTier
                | Reason::UnpricedTool
                | Reason::UnknownFactor
                | Reason::UnpricedPart
                | Reason::ServedModelDiffers
                | Reason::MissingRate(_)
        )
    };
    if outcome.billing.inexact.iter().any(has_no_price) {
        cost.max(bound.usd().unwrap_or_default())
    } else {
        cost
    }
}

/// Returns a sentence that begins with a capital letter and ends with a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first = letters.next().map(|letter| letter.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(['.']).collect()
}

/// Tokens to expect of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) input: u64,
    pub(crate) output: u64,
}

#[derive(Default)]
struct LocalState {
    book: OwnBook,
    typical: TypicalOutput,
    margin: InputMargin,
    /// The current line of each account and kind of period.
    known: HashMap<(Account, Period), KnownLine>,
}

/// A line, and the cell that is set once earlier spending was read from the ledger. A period that
/// begins has a new one: the clock may have been wrong until now.
struct KnownLine {
    line: BudgetLine,
    cell: Arc<OnceCell<()>>,
}

impl LocalState {
    /// Returns the cell of a line, and forgets the line of the period before.
    fn known_cell(&mut self, line: &BudgetLine) -> Arc<OnceCell<()>> {
        let key = (line.account.clone(), line.period);
        if let Some(known) = self.known.get(&key) {
            if known.line == *line {
                return Arc::clone(&known.cell);
            }
            self.book.forget(&known.line);
        }
        let cell = Arc::<OnceCell<()>>::default();
        let known = KnownLine {
            line: line.clone(),
            cell: Arc::clone(&cell),
        };
        self.known.insert(key, known);
        cell
    }
}

/// Returns the labels of a decision in metrics: who decided, and the outcome.
pub(crate) const fn decision_labels(
    reserved: Result<&DecidedBy, &BudgetRefusal>,
) -> [&'static str; 2] {
    match reserved {
        Ok(DecidedBy::All) => ["all", "held"],
        Ok(DecidedBy::Share) => ["share", "held"],
        Ok(DecidedBy::Nobody) => ["nobody", "held"],
        Err(BudgetRefusal::OverBudget(_)) => ["all", "over_budget"],
        Err(BudgetRefusal::Share(_)) => ["share", "over_budget"],
        Err(BudgetRefusal::Unknown | BudgetRefusal::Unavailable) => ["nobody", "refused"],
    }
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            run: fastrand::u32(..) >> 1,
            state: Mutex::default(),
            shared: None,
            outage: StoreOutage::default(),
        }
    }
}

impl Budgets {
    /// Creates budgets shared through `book`, with its background tasks on `runtime`.
    pub(crate) fn with_store(book: Arc<dyn BudgetStore>, runtime: &Handle) -> Self {
        let (shared, waiting) = SharedBudgets::new(book);
        runtime.spawn(Arc::clone(&shared).run_reporting(waiting));
        Self {
            shared: Some(shared),
            ..Self::default()
        }
    }

    /// Reports this replica's spending to the others before the process stops.
    pub(crate) async fn leave(&self) {
        if let Some(shared) = &self.shared {
            shared.leave().await;
        }
    }

    /// Creates the id of a new attempt; `budgeted` if a budget pays for it.
    pub(crate) fn attempt_id(&self, budgeted: bool) -> Uuid {
        let id = Uuid::now_v7();
        let run = self.shared.as_ref().map_or(self.run, |shared| shared.run());
        stamp_run(id, run, budgeted)
    }

    /// Reads a budget's earlier spending, unless that is known.
    async fn prepare(
        &self,
        budget: &KeyBudget,
        ledger: &Ledger,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for line in budget_lines(&budget.line, now) {
            let known = self.state().known_cell(&line);
            let restored = known.get_or_try_init(async || {
                // Whoever comes while the store is unavailable is told at once.
                if self.outage.is_recent() {
                    return Err(StoreError::Unavailable("it was a moment ago".to_owned()));
                }
                let restore = tokio::time::timeout(STORE_TIMEOUT, self.restore(&line, ledger));
                let restored = restore
                    .await
                    .unwrap_or_else(|_| Err(StoreError::Unavailable("timeout".to_owned())));
                if restored.is_err() {
                    self.outage.begin();
                }
                restored
            });
            restored.await?;
        }
        Ok(())
    }

    /// Reads the spending of other processes: earlier ones and those stopping beside this one.
    async fn restore(&self, line: &BudgetLine, ledger: &Ledger) -> Result<(), StoreError> {
        let query = SpentQuery {
            account: line.account.clone(),
            from: line.start,
        };
        let store = ledger.up_to_date().await?;
        let runs = store.spent_by_run(&query).await?;
        let others = runs.iter().filter(|(run, _)| *run != self.run);
        let spent = others.map(|(_, usd)| *usd).sum();
        self.state().book.restore(line, spent);
        Ok(())
    }

    /// Reads the spending of other processes again, while one beside this process still spends.
    ///
    /// # Errors
    /// Returns an error if the store can't be read.
    pub(crate) async fn refresh_others(&self, ledger: &Ledger) -> Result<(), StoreError> {
        let known: Vec<_> = {
            let state = self.state();
            let known = state.known.values();
            let known = known.filter(|known| known.cell.initialized());
            known.map(|known| known.line.clone()).collect()
        };
        for line in known {
            self.restore(&line, ledger).await?;
        }
        Ok(())
    }

    /// Returns the output tokens to expect of a model if the client sets no limit.
    pub(crate) fn typical_output(&self, provider: &str, model: &str) -> u64 {
        self.state().typical.estimate(provider, model, None)
    }

    /// Returns the tokens to reserve for a call: the upper bound `input` by this provider's counts,
    /// and the output to expect if the client sets no limit.
    pub(crate) fn expect(&self, provider: &str, model: &str, input: u64) -> Expected {
        let state = self.state();
        Expected {
            input: state.margin.apply(provider, model, input),
            output: state.typical.estimate(provider, model, None),
        }
    }

    /// Reserves the estimate of an attempt, replacing that of the attempt before it.
    ///
    /// # Errors
    /// Returns an error if it doesn't fit, has no price, or earlier spending is unknown.
    pub(crate) async fn reserve(
        &self,
        need: &BudgetRequest<'_>,
        ledger: &Ledger,
    ) -> Result<DecidedBy, BudgetRefusal> {
        let attempt = &need.opened.attempt;
        // A key made by API may have a budget, whatever the file says.
        if !ledger.is_kept() {
            tracing::error!("a key has a budget, and the ledger is off: it can't be used");
            return Err(BudgetRefusal::Unknown);
        }
        let amount = match need.cost {
            Cost::Usd(usd) => usd,
            Cost::Unpriced if need.budget.allow_unpriced => Decimal::ZERO,
            Cost::Unpriced => {
                return Err(BudgetRefusal::OverBudget(format!(
                    "The model \"{}\" has no price, so a key with a budget may not use it.",
                    attempt.model_asked
                )));
            }
        };
        let Some(shared) = &self.shared else {
            self.reserve_here(need, amount, ledger).await?;
            return Ok(DecidedBy::All);
        };
        let ask = ReserveRequest {
            id: attempt.id,
            replaces: need.replaces.map(|opened| opened.attempt.id),
            budgets: &need.budget.line,
            amount,
            at: attempt.at,
            lasts: need.longest,
            failure: need.failure,
        };
        shared.reserve(&ask, ledger).await
    }

    async fn reserve_here(
        &self,
        need: &BudgetRequest<'_>,
        amount: Decimal,
        ledger: &Ledger,
    ) -> Result<(), BudgetRefusal> {
        let now = clock::timestamp();
        if let Err(error) = self.prepare(need.budget, ledger, now).await {
            tracing::error!(%error, "failed to read the spending of a budget");
            return Err(BudgetRefusal::Unknown);
        }
        if let Some(replaces) = need.replaces {
            self.release(replaces);
        }
        let (line, attempt) = (&need.budget.line, &need.opened.attempt);
        let expires = attempt.at.checked_add(need.longest);
        let expires = expires.unwrap_or(Timestamp::MAX);
        self.state()
            .book
            .reserve(attempt.id, line, amount, attempt.at, expires)
            .map_err(BudgetRefusal::over_budget)
    }

    /// Returns the number of calls with a reservation.
    pub(crate) fn reservations(&self) -> usize {
        let shared = self.shared.as_ref();
        shared.map_or_else(
            || self.state().book.reservations(),
            |shared| shared.reservations(),
        )
    }

    /// Releases the reservation of an attempt that is not made.
    pub(crate) fn release(&self, opened: &OpenEntry) {
        match &self.shared {
            Some(shared) => shared.end(opened.attempt.id, Decimal::ZERO),
            None => self.state().book.release(opened.attempt.id),
        }
    }

    /// Records the model's output and, where a budget pays, replaces the reservation with the cost.
    /// `held` is the input that was reserved, `bound` the cost.
    pub(crate) fn settle(
        &self,
        budget: Option<&KeyBudget>,
        entry: &LedgerEntry,
        held: u64,
        bound: Cost,
    ) {
        let (attempt, outcome) = (&entry.attempt, &entry.outcome);
        let output = outcome.usage.output_total();
        let (provider, model) = (&attempt.provider, &attempt.deployment);
        let mut state = self.state();
        if output > 0 {
            state.typical.observe(provider, model, output);
        }
        if budget.is_some() && !outcome.usage.is_estimated() {
            let input = outcome.usage.input_total();
            state.margin.observe(provider, model, held, input);
        }
        let cost = budget_charge(entry, bound);
        if let Some(shared) = &self.shared {
            drop(state);
            // It knows by the attempt's id whether a budget pays.
            shared.settle(entry, cost);
        } else if let Some(budget) = budget {
            state
                .book
                .settle(attempt.id, &budget.line, attempt.at, cost);
        }
    }

    fn state(&self) -> MutexGuard<'_, LocalState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
