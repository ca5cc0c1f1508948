//! When an attempt's line of the ledger is opened and settled. What it says is the meter's.

use std::sync::Arc;
use std::time::Instant;

use llm_router_domain::ledger::Disconnect;
use pingora::{Error, ErrorType, Result};

use crate::budgets::{BudgetRefusal, BudgetRequest, DecidedBy};
use crate::clock;
use crate::proxy::attempt::ledger_entry::{Closing, EntryDraft, RequestFacts, input_at_most};
use crate::proxy::attempt::outcome::Failure;
use crate::proxy::context::{Context, Inference};
use crate::proxy::gateway::Gateway;
use crate::snapshot::Snapshot;
use crate::telemetry::traces::Trace;

impl Gateway {
    /// Journals the attempt that is about to begin, and settles the one before it: that wasn't the
    /// request's last.
    ///
    /// # Errors
    /// When the journal doesn't take it or the key's budget doesn't allow it: then nothing must go
    /// upstream.
    pub(crate) async fn open_tab(
        &self,
        asker: &RequestFacts<'_>,
        inference: &mut Inference,
        now: Instant,
    ) -> Result<()> {
        let budget = asker.snapshot.budget(asker.key);
        let budget = budget.as_ref();
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
        let id = self.budgets.attempt_id(budget.is_some());
        let tab = EntryDraft::new(id, asker, inference, deployment, expected, now);
        if let Some(budget) = budget {
            let need = BudgetRequest {
                budget,
                opened: tab.opened(),
                replaces: inference.tab.as_deref().map(EntryDraft::opened),
                longest,
                failure: asker.snapshot.limits.on_counter_failure,
            };
            let reserved = self.budgets.reserve(&need, &self.ledger).await;
            self.ledger.metrics().decided(reserved.as_ref());
            inference.alone |= !matches!(
                reserved,
                Ok(DecidedBy::All) | Err(BudgetRefusal::OverBudget(_))
            );
            if let Err(refused) = reserved {
                if matches!(
                    refused,
                    BudgetRefusal::OverBudget(_) | BudgetRefusal::Share(_)
                ) {
                    self.metrics.budget_refused();
                }
                inference.failure = Some(refused.into());
                return Error::err_in(ErrorType::InternalError);
            }
        }
        if let Err(error) = self.ledger.opened(tab.opened()) {
            tracing::debug!(%error, "an attempt can't be journalled and is not made");
            self.budgets.release(tab.opened());
            inference.failure = Some(Failure::Unjournalled);
            return Error::err_in(ErrorType::InternalError);
        }
        let tab = tab.paid_from(budget.cloned());
        if let Some(failed) = inference.tab.replace(Box::new(tab)) {
            let closing = Closing {
                now,
                last: false,
                client_gone: false,
                disconnect: Disconnect::Cancel,
                answered: 0,
                explanation: None,
            };
            let trace = inference.trace.as_deref_mut();
            inference.used_tokens += self.settle(*failed, asker.snapshot, closing, trace);
        }
        Ok(())
    }

    /// Writes an attempt into the ledger; the tokens that it used.
    fn settle(
        &self,
        mut tab: EntryDraft,
        snapshot: &Snapshot,
        closing: Closing,
        trace: Option<&mut Trace>,
    ) -> u64 {
        let held = tab.opened().estimate.input_total();
        let deployment = Arc::clone(tab.deployment());
        let budget = tab.take_budget();
        let entry = tab.close(snapshot, closing);
        self.metrics.settled(&entry, deployment.id());
        if let Some(trace) = trace {
            let provider = snapshot.provider(&entry.attempt.provider);
            trace.attempt_ended(&entry, provider.map(|(_, provider)| provider.as_ref()));
        }
        self.budgets.settle(budget.as_ref(), &entry, held);
        let usage = &entry.outcome.usage;
        let used = usage.input_total() + usage.output_total();
        self.ledger.settled(entry, deployment.id());
        used
    }

    /// Settles the attempt that the request ends with, unless that is done.
    pub(crate) fn settle_last(&self, ctx: &mut Context) {
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
            if let Some(inference) = ctx.inference.as_deref_mut() {
                let trace = inference.trace.as_deref_mut();
                inference.used_tokens += self.settle(*tab, &live.snapshot, closing, trace);
            }
        }
    }
}

impl From<BudgetRefusal> for Failure {
    fn from(refused: BudgetRefusal) -> Self {
        match refused {
            BudgetRefusal::OverBudget(why) | BudgetRefusal::Share(why) => Self::OverBudget(why),
            BudgetRefusal::Unknown => Self::Unjournalled,
            BudgetRefusal::Unavailable => Self::Uncounted,
        }
    }
}

impl Context {
    /// The attempt under way has its connection.
    pub(crate) fn connected(&mut self, reused: bool) {
        let inference = self.inference.as_deref_mut();
        if let Some(tab) = inference.and_then(|inference| inference.tab.as_deref_mut()) {
            tab.connected(reused, clock::now());
        }
    }
}
