//! When an attempt's line of the ledger is opened and settled. What it says is the meter's.

use std::sync::Arc;
use std::time::Instant;

use llm_router_domain::ledger::Disconnect;
use pingora::{Error, ErrorType, Result};

use super::Gateway;
use super::context::{Context, Inference};
use super::failure::Failure;
use super::meter::{Asker, Closing, Tab, input_at_most};
use crate::budgets::KeyBudget;
use crate::clock;
use crate::snapshot::Snapshot;

impl Gateway {
    /// Journals the attempt that is about to begin, and settles the one before it: that wasn't the
    /// request's last.
    ///
    /// # Errors
    /// When the journal doesn't take it or the key's budget doesn't allow it: then nothing must go
    /// upstream.
    pub(super) async fn open_tab(
        &self,
        asker: &Asker<'_>,
        inference: &mut Inference,
        now: Instant,
    ) -> Result<()> {
        let budget = asker.snapshot.budgets.get(&asker.key.name);
        if let Some(budget) = budget {
            if let Err(error) = self.prepare(budget).await {
                inference.failure = Some(Failure::Unjournalled);
                return Err(error);
            }
            if let Some(failed) = inference.tab.as_deref() {
                self.budgets.release(failed.opened());
            }
        }
        let Some(deployment) = inference.deployment() else {
            return Error::err_in(ErrorType::InternalError);
        };
        let provider = &deployment.provider;
        let expected = budget.map(|_| {
            let input = input_at_most(inference, deployment);
            let model = &deployment.model;
            self.budgets.expected(&provider.id, model, input)
        });
        let longest = provider.timeouts.total + provider.timeouts.connect;
        let tab = Tab::new(asker, inference, deployment, expected, now);
        if let Some(budget) = budget
            && let Err(why) = self.budgets.reserve(budget, tab.opened(), longest)
        {
            inference.failure = Some(Failure::OverBudget(why));
            self.metrics.budget_refused();
            self.count_reservations();
            return Error::err_in(ErrorType::InternalError);
        }
        if let Err(error) = self.ledger.opened(tab.opened()) {
            tracing::debug!(%error, "an attempt can't be journalled and is not made");
            self.budgets.release(tab.opened());
            inference.failure = Some(Failure::Unjournalled);
            return Error::err_in(ErrorType::InternalError);
        }
        if budget.is_some() {
            self.count_reservations();
        }
        if let Some(failed) = inference.tab.replace(Box::new(tab)) {
            let closing = Closing {
                now,
                last: false,
                client_gone: false,
                disconnect: Disconnect::Cancel,
                answered: 0,
                explanation: None,
            };
            inference.used_tokens += self.settle(*failed, asker.snapshot, closing);
        }
        Ok(())
    }

    fn count_reservations(&self) {
        let reservations = self.budgets.reservations();
        self.ledger.metrics().reserved(reservations);
    }

    async fn prepare(&self, budget: &KeyBudget) -> Result<()> {
        // A key made by API may have one, whatever the file says.
        if !self.ledger.is_kept() {
            tracing::error!("a key has a budget, and the ledger is off: it can't be used");
            return Error::err_in(ErrorType::InternalError);
        }
        let now = jiff::Timestamp::try_from(clock::wall()).unwrap_or_default();
        let prepared = self.budgets.prepare(budget, &self.ledger, now).await;
        prepared.or_else(|error| {
            tracing::error!(%error, "what was spent of a budget can't be read");
            Error::err_in(ErrorType::InternalError)
        })
    }

    /// Writes an attempt into the ledger; the tokens that it used.
    fn settle(&self, tab: Tab, snapshot: &Snapshot, closing: Closing) -> u64 {
        let held = tab.opened().estimate.input_total();
        let deployment = Arc::clone(tab.deployment());
        let entry = tab.close(snapshot, closing);
        self.metrics.settled(&entry, deployment.id());
        let budget = snapshot.budgets.get(entry.attempt.key.as_ref());
        self.budgets.settle(budget.map(Arc::as_ref), &entry, held);
        if budget.is_some() {
            self.count_reservations();
        }
        let usage = &entry.outcome.usage;
        let used = usage.input_total() + usage.output_total();
        self.ledger.settled(entry, deployment.id());
        used
    }

    /// Settles the attempt that the request ends with, unless that is done.
    pub(super) fn settle_last(&self, ctx: &mut Context) {
        let drained = ctx
            .exchange
            .as_ref()
            .is_some_and(|exchange| exchange.draining());
        ctx.client_gone |= drained;
        let tab = ctx
            .inference
            .as_deref_mut()
            .and_then(|inference| inference.tab.take());
        if let (Some(tab), Some(live)) = (tab, &ctx.live) {
            let closing = Closing {
                now: clock::now(),
                last: true,
                client_gone: ctx.client_gone,
                disconnect: if drained {
                    Disconnect::Drain
                } else {
                    Disconnect::Cancel
                },
                answered: ctx.answered.map_or(0, |(status, _)| status),
                explanation: ctx
                    .inference
                    .as_deref_mut()
                    .and_then(|inference| inference.route.explanation.take()),
            };
            let used = self.settle(*tab, &live.snapshot, closing);
            if let Some(inference) = ctx.inference.as_deref_mut() {
                inference.used_tokens += used;
            }
        }
    }
}

impl Context {
    /// The attempt under way has its connection.
    pub(super) fn connected(&mut self, reused: bool) {
        let inference = self.inference.as_deref_mut();
        if let Some(tab) = inference.and_then(|inference| inference.tab.as_deref_mut()) {
            tab.connected(reused, clock::now());
        }
    }
}
