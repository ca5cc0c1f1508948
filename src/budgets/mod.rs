//! The budgets of keys at run time: an estimate is held before a call, its cost is spent after
//! it, and what was spent before is asked of the ledger once. Replicas share a book of it; a process
//! that is alone keeps its own. The arithmetic is `llm-router-domain`'s.

pub(crate) mod postgres;
pub(crate) mod shared;
pub(crate) mod store;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use llm_router_config::OnCounterFailure;
use llm_router_domain::budget::{
    Account, Book as OwnBook, Budget, Exceeded, InputMargin, Period, TypicalOutput,
};
use llm_router_domain::ledger::{Entry, Opened, stamped};
use llm_router_domain::price::Cost;
use llm_router_store::StoreError;
use llm_router_store::ledger::SpentQuery;
use rust_decimal::Decimal;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::clock;
use crate::ledger::Ledger;
pub(crate) use shared::By;
use shared::{Ask, Shared};
pub(crate) use store::Book;

/// The budgets that one key spends from.
#[derive(Clone, Debug)]
pub(crate) struct KeyBudget {
    line: Arc<[(Account, Budget)]>,
    /// Whether models without a price may be used all the same.
    allow_unpriced: bool,
}

/// What every key with a budget has spent and reserved.
pub(crate) struct Budgets {
    /// Names this run of the process in the ids of its attempts.
    run: u32,
    /// Held for a few look-ups at a time.
    state: Mutex<State>,
    /// What replicas share, if there may be several.
    shared: Option<Arc<Shared>>,
}

/// An attempt that money is to be held for.
pub(crate) struct Need<'a> {
    pub(crate) budget: &'a KeyBudget,
    pub(crate) opened: &'a Opened,
    /// The attempt before it, which has failed: what was held for it is free.
    pub(crate) instead: Option<&'a Opened>,
    /// How long the attempt may last.
    pub(crate) longest: Duration,
    /// What holds while replicas can't ask each other.
    pub(crate) failure: OnCounterFailure,
}

/// Why no money was held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It doesn't fit, or has no price: why, for the client to read.
    OverBudget(String),
    /// It doesn't fit into this replica's share: the same.
    Share(String),
    /// What was spent before can't be known.
    Unknown,
    /// Replicas can't ask each other, and the configuration says that nothing passes then.
    Unavailable,
}

impl Refused {
    #[expect(clippy::needless_pass_by_value, reason = "it is mapped over errors")]
    fn exceeded(exceeded: Exceeded) -> Self {
        Self::OverBudget(format!("You are over budget: {exceeded}."))
    }

    fn share(exceeded: &Exceeded, replicas: u32) -> Self {
        let of = &exceeded.account;
        Self::Share(format!(
            "You are over budget: while replicas can't ask each other, each may spend one \
             {replicas}th of what was left for {of}, and this one has. Try again in a while."
        ))
    }
}

/// The tokens to expect of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) input: u64,
    pub(crate) output: u64,
}

#[derive(Default)]
struct State {
    book: OwnBook,
    typical: TypicalOutput,
    margin: InputMargin,
    /// Done once the ledger has said what was spent before.
    known: HashMap<(Account, Period), Arc<OnceCell<()>>>,
}

impl KeyBudget {
    /// The budgets of `line`; none if it is empty.
    pub(crate) fn new(line: Vec<(Account, Budget)>, allow_unpriced: bool) -> Option<Self> {
        (!line.is_empty()).then(|| Self {
            line: line.into(),
            allow_unpriced,
        })
    }
}

impl Default for Budgets {
    fn default() -> Self {
        Self {
            run: fastrand::u32(..) >> 1,
            state: Mutex::default(),
            shared: None,
        }
    }
}

impl Budgets {
    /// Budgets that replicas share by way of `book`, which is talked with on `runtime`.
    pub(crate) fn shared(book: Arc<dyn Book>, runtime: &Handle) -> Self {
        let (shared, waiting) = Shared::new(book);
        runtime.spawn(Arc::clone(&shared).keep_told(waiting));
        Self {
            shared: Some(shared),
            ..Self::default()
        }
    }

    /// Tells the other replicas what this one has spent, before it ends.
    pub(crate) async fn leave(&self) {
        if let Some(shared) = &self.shared {
            shared.leave().await;
        }
    }

    /// The id of a new attempt; `budgeted` where a budget pays for it.
    pub(crate) fn attempt_id(&self, budgeted: bool) -> Uuid {
        let id = Uuid::now_v7();
        let run = self.shared.as_ref().map_or(self.run, |shared| shared.run());
        stamped(id, run, budgeted)
    }

    /// Learns what was spent of a budget before, unless that is known.
    async fn prepare(
        &self,
        budget: &KeyBudget,
        ledger: &Ledger,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for (account, ceiling) in budget.line.iter() {
            let line = (account.clone(), ceiling.period);
            let known = Arc::clone(self.state().known.entry(line).or_default());
            known
                .get_or_try_init(|| self.restore(account, ceiling.period, ledger, now))
                .await?;
        }
        Ok(())
    }

    /// Learns what others have spent: processes before this one, and those that are ending beside it.
    async fn restore(
        &self,
        account: &Account,
        period: Period,
        ledger: &Ledger,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let query = SpentQuery {
            account: account.clone(),
            from: period.start(now),
        };
        let store = ledger.up_to_date().await?;
        let runs = store.spent_by_run(&query).await?;
        let others = runs.iter().filter(|(run, _)| *run != self.run);
        let spent = others.map(|(_, usd)| *usd).sum();
        self.state()
            .book
            .restore(account.clone(), period, query.from, spent);
        Ok(())
    }

    /// Learns anew what others have spent, while a process beside this one still spends.
    ///
    /// # Errors
    /// When the store doesn't say.
    pub(crate) async fn look_again(&self, ledger: &Ledger) -> Result<(), StoreError> {
        let known: Vec<_> = {
            let state = self.state();
            let known = state.known.iter().filter(|(_, asked)| asked.initialized());
            known.map(|(line, _)| line.clone()).collect()
        };
        let now = clock::timestamp();
        for (account, period) in known {
            self.restore(&account, period, ledger, now).await?;
        }
        Ok(())
    }

    /// Output tokens to expect of a model when the client names no limit.
    pub(crate) fn typical_output(&self, provider: &str, model: &str) -> u64 {
        self.state().typical.estimate(provider, model, None)
    }

    /// The tokens to hold for a call: its input, believed to be `input` at most, by what this
    /// provider counts, and the output to expect when the client names no limit.
    pub(crate) fn expected(&self, provider: &str, model: &str, input: u64) -> Expected {
        let state = self.state();
        Expected {
            input: state.margin.apply(provider, model, input),
            output: state.typical.estimate(provider, model, None),
        }
    }

    /// Holds the estimate of an attempt, in place of that of the attempt before it.
    ///
    /// # Errors
    /// When it doesn't fit, has no price, or that can't be known.
    pub(crate) async fn reserve(&self, need: &Need<'_>, ledger: &Ledger) -> Result<By, Refused> {
        let attempt = &need.opened.attempt;
        // A key made by API may have a budget, whatever the file says.
        if !ledger.is_kept() {
            tracing::error!("a key has a budget, and the ledger is off: it can't be used");
            return Err(Refused::Unknown);
        }
        let amount = match need.opened.cost {
            Cost::Usd(usd) => usd,
            Cost::Unpriced if need.budget.allow_unpriced => Decimal::ZERO,
            Cost::Unpriced => {
                return Err(Refused::OverBudget(format!(
                    "The model \"{}\" has no price, so a key with a budget may not use it.",
                    attempt.model_asked
                )));
            }
        };
        let Some(shared) = &self.shared else {
            self.reserve_here(need, amount, ledger).await?;
            return Ok(By::All);
        };
        let ask = Ask {
            id: attempt.id,
            instead: need.instead.map(|opened| opened.attempt.id),
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
        need: &Need<'_>,
        amount: Decimal,
        ledger: &Ledger,
    ) -> Result<(), Refused> {
        let now = clock::timestamp();
        if let Err(error) = self.prepare(need.budget, ledger, now).await {
            tracing::error!(%error, "what was spent of a budget can't be read");
            return Err(Refused::Unknown);
        }
        if let Some(instead) = need.instead {
            self.release(instead);
        }
        let (line, attempt) = (&need.budget.line, &need.opened.attempt);
        let expires = attempt.at.checked_add(need.longest);
        let expires = expires.unwrap_or(Timestamp::MAX);
        self.state()
            .book
            .reserve(attempt.id, line, amount, attempt.at, expires)
            .map_err(Refused::exceeded)
    }

    /// How many calls money is held for.
    pub(crate) fn reservations(&self) -> usize {
        let shared = self.shared.as_ref();
        shared.map_or_else(
            || self.state().book.reservations(),
            |shared| shared.reservations(),
        )
    }

    /// Lets go of what was held for an attempt that is not made.
    pub(crate) fn release(&self, opened: &Opened) {
        match &self.shared {
            Some(shared) => shared.end(opened.attempt.id, Decimal::ZERO),
            None => self.state().book.release(opened.attempt.id),
        }
    }

    /// Learns what a model gave, and spends what the attempt cost, in place of what was held for it,
    /// where a budget pays; `held` is the input that was believed.
    pub(crate) fn settle(&self, budget: Option<&KeyBudget>, entry: &Entry, held: u64) {
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
        if let Some(shared) = &self.shared {
            drop(state);
            // It knows by the attempt's id whether a budget pays.
            shared.settle(entry);
        } else if let Some(budget) = budget {
            let cost = outcome.cost.usd().unwrap_or_default();
            state
                .book
                .settle(attempt.id, &budget.line, attempt.at, cost);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
