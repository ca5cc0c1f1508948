//! The budgets of keys at run time: an estimate is held before a call, its cost is spent after
//! it, and what was spent before this process began is asked of the ledger once. The arithmetic
//! is `llm-router-domain`'s.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use llm_router_domain::budget::{Account, Book, Budget, InputMargin, Period, TypicalOutput};
use llm_router_domain::ledger::{Entry, Opened};
use llm_router_domain::price::Cost;
use llm_router_store::StoreError;
use llm_router_store::ledger::spent;
use tokio::sync::OnceCell;

use crate::ledger::Ledger;

/// The budgets that one key spends from.
#[derive(Debug)]
pub(crate) struct KeyBudget {
    line: Box<[(Account, Budget)]>,
    /// Whether models without a price may be used all the same.
    allow_unpriced: bool,
}

/// What every key with a budget has spent and reserved.
#[derive(Default)]
pub(crate) struct Budgets {
    /// Held for a few look-ups at a time.
    state: Mutex<State>,
}

/// The tokens to expect of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) input: u64,
    pub(crate) output: u64,
}

#[derive(Default)]
struct State {
    book: Book,
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

impl Budgets {
    /// Learns what was spent of a budget before, unless that is known.
    ///
    /// # Errors
    /// When the store can't say.
    pub(crate) async fn prepare(
        &self,
        budget: &KeyBudget,
        ledger: &Ledger,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        for (account, ceiling) in &budget.line {
            let line = (account.clone(), ceiling.period);
            let known = Arc::clone(self.state().known.entry(line).or_default());
            known
                .get_or_try_init(|| self.restore(account, ceiling.period, ledger, now))
                .await?;
        }
        Ok(())
    }

    async fn restore(
        &self,
        account: &Account,
        period: Period,
        ledger: &Ledger,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (key, owner) = match account {
            Account::Key(key) => (Some(key.to_string()), None),
            Account::Owner(owner) => (None, Some(owner.to_string())),
        };
        let start = period.start(now);
        let store = ledger.up_to_date().await?;
        let spent = spent(store.as_ref(), key, owner, start).await?;
        self.state()
            .book
            .restore(account.clone(), period, start, spent);
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

    /// Holds the estimate of an attempt, at most for `longest`.
    ///
    /// # Errors
    /// When it doesn't fit, or has no price: why, for the client to read.
    pub(crate) fn reserve(
        &self,
        budget: &KeyBudget,
        opened: &Opened,
        longest: Duration,
    ) -> Result<(), String> {
        let attempt = &opened.attempt;
        let amount = match opened.cost {
            Cost::Usd(usd) => usd,
            Cost::Unpriced if budget.allow_unpriced => return Ok(()),
            Cost::Unpriced => {
                return Err(format!(
                    "The model \"{}\" has no price, so a key with a budget may not use it.",
                    attempt.model_asked
                ));
            }
        };
        let expires = attempt.at.checked_add(longest).unwrap_or(Timestamp::MAX);
        self.state()
            .book
            .reserve(attempt.id, &budget.line, amount, attempt.at, expires)
            .map_err(|exceeded| format!("You are over budget: {exceeded}."))
    }

    /// How many calls money is held for.
    pub(crate) fn reservations(&self) -> usize {
        self.state().book.reservations()
    }

    /// Lets go of what was held for an attempt that is not made.
    pub(crate) fn release(&self, opened: &Opened) {
        self.state().book.release(opened.attempt.id);
    }

    /// Learns what a model gave, and spends what the attempt cost, in place of what was held for it,
    /// where a budget pays; `held` is the input that was believed.
    pub(crate) fn settle(&self, budget: Option<&KeyBudget>, entry: &Entry, held: u64) {
        let (attempt, outcome) = (&entry.attempt, &entry.outcome);
        let cost = outcome.cost.usd().unwrap_or_default();
        let output = outcome.usage.output_total();
        let (provider, model) = (&attempt.provider, &attempt.deployment);
        let mut state = self.state();
        if output > 0 {
            state.typical.observe(provider, model, output);
        }
        let Some(budget) = budget else {
            return;
        };
        if !outcome.usage.is_estimated() {
            let input = outcome.usage.input_total();
            state.margin.observe(provider, model, held, input);
        }
        state
            .book
            .settle(attempt.id, &budget.line, attempt.at, cost);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
