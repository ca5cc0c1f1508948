//! When an attempt's line of the ledger is opened and settled. What it says is the meter's.

use std::time::Instant;

use llm_router_domain::format::Endpoint;
use llm_router_domain::ledger::Disconnect;
use pingora::{Error, ErrorType, Result};

use super::Gateway;
use super::context::{Context, Inference};
use super::failure::Failure;
use super::meter::{Asker, Closing, Tab};
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
            self.prepare(budget).await?;
            if let Some(failed) = inference.tab.as_deref() {
                self.budgets.release(failed.opened());
            }
        }
        let Some(deployment) = inference.deployment() else {
            return Error::err_in(ErrorType::InternalError);
        };
        let provider = &deployment.provider;
        let typical = match budget {
            Some(_) if inference.endpoint != Endpoint::Embeddings => {
                let model = &deployment.model;
                self.budgets.typical_output(&provider.id, model)
            }
            _ => 0,
        };
        let longest = provider.timeouts.total + provider.timeouts.connect;
        let tab = Tab::new(asker, inference, deployment, typical, now);
        if let Some(budget) = budget
            && let Err(why) = self.budgets.reserve(budget, tab.opened(), longest)
        {
            inference.failure = Some(Failure::OverBudget(why));
            return Error::err_in(ErrorType::InternalError);
        }
        if let Err(error) = self.ledger.opened(tab.opened()) {
            tracing::error!(%error, "an attempt can't be journalled and is not made");
            self.budgets.release(tab.opened());
            return Error::err_in(ErrorType::InternalError);
        }
        if let Some(failed) = inference.tab.replace(Box::new(tab)) {
            let closing = Closing {
                now,
                last: false,
                client_gone: false,
                disconnect: Disconnect::Cancel,
                answered: 0,
            };
            inference.used_tokens += self.settle(*failed, asker.snapshot, &closing);
        }
        Ok(())
    }

    async fn prepare(&self, budget: &KeyBudget) -> Result<()> {
        let now = jiff::Timestamp::try_from(clock::wall()).unwrap_or_default();
        let prepared = self.budgets.prepare(budget, &self.ledger, now).await;
        prepared.or_else(|error| {
            tracing::error!(%error, "what was spent of a budget can't be read");
            Error::err_in(ErrorType::InternalError)
        })
    }

    /// Writes an attempt into the ledger; the tokens that it used.
    fn settle(&self, tab: Tab, snapshot: &Snapshot, closing: &Closing) -> u64 {
        let entry = tab.close(snapshot, closing);
        self.ledger.settled(&entry);
        if let Some(budget) = snapshot.budgets.get(entry.attempt.key.as_ref()) {
            self.budgets.settle(budget, &entry);
        }
        let usage = &entry.outcome.usage;
        self.limits
            .observe_output(&entry.attempt.deployment, usage.output_total());
        usage.input_total() + usage.output_total()
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
            };
            let used = self.settle(*tab, &live.snapshot, &closing);
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
