//! Opens and settles the ledger's entries of attempts. Their contents are made by
//! [`ledger_entry`](crate::proxy::attempt::ledger_entry).

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use llm_router_domain::format::Endpoint;
use llm_router_domain::ledger::{AttemptStart, Disconnect, LedgerSums, OpenEntry, bill};
use llm_router_domain::price::Cost;
use llm_router_wire::formats;
use llm_router_wire::usage::UsageLayout;
use pingora::{Error, ErrorType, Result};
use uuid::Uuid;

use crate::budgets::{BudgetRefusal, BudgetRequest, DecidedBy, Expected, decision_labels};
use crate::clock;
use crate::proxy::attempt::inference::Inference;
use crate::proxy::attempt::ledger_entry::{Closing, EntryDraft};
use crate::proxy::attempt::outcome::Failure;
use crate::proxy::gateway::Gateway;
use crate::snapshot::{Deployment, Snapshot};
use crate::telemetry::traces::Trace;

/// End of a request with its last attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct End {
    pub(crate) client_gone: bool,
    /// Set if the answer was read to its end after the client had disconnected.
    pub(crate) drained: bool,
    /// The status that the client was sent; 0 if none.
    pub(crate) answered: u16,
}

impl Gateway {
    /// Journals the attempt that is about to begin, and settles the one before it: that wasn't the
    /// request's last.
    ///
    /// # Errors
    /// When the journal doesn't take it or the key's budget doesn't allow it: then nothing must go
    /// upstream.
    pub(crate) async fn open_entry(&self, inference: &mut Inference, now: Instant) -> Result<()> {
        let live = Arc::clone(&inference.request.live);
        let snapshot = &live.snapshot;
        let budget = snapshot.budget(&inference.request.key);
        let budget = budget.as_ref();
        let Some(deployment) = inference.deployment() else {
            return Error::err_in(ErrorType::InternalError);
        };
        let provider = &deployment.provider;
        let expected = budget.map(|_| {
            let input = inference.size().input_at_most(deployment);
            let model = &deployment.model;
            self.budgets.expect(&provider.id, model, input)
        });
        let bound = expected.map_or(Ok(Cost::Unpriced), |expected| {
            let at = clock::timestamp();
            let size = inference.size();
            size.bound(snapshot, deployment, expected.input, at)
        });
        let bound = match bound {
            Ok(bound) => bound,
            Err(missing) => {
                self.metrics.budget_refused();
                inference.attempts.failure = Some(Failure::Unbounded(missing));
                return Error::err_in(ErrorType::InternalError);
            }
        };
        let longest = provider.timeouts.total + provider.timeouts.connect;
        let id = self.budgets.attempt_id(budget.is_some());
        let entry = draft_entry(id, inference, deployment, expected, now);
        let attempts = &mut inference.attempts;
        if let Some(budget) = budget {
            let need = BudgetRequest {
                budget,
                cost: bound,
                opened: entry.opening(),
                replaces: attempts.entry.as_deref().map(EntryDraft::opening),
                longest,
                failure: snapshot.limits.on_counter_failure,
            };
            let reserved = self.budgets.reserve(&need, &self.ledger).await;
            self.ledger
                .metrics()
                .count_decision(decision_labels(reserved.as_ref()));
            attempts.degraded |= !matches!(
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
                attempts.failure = Some(refused.into());
                return Error::err_in(ErrorType::InternalError);
            }
        }
        if let Err(error) = self.ledger.open_entry(entry.opening()) {
            tracing::debug!(%error, "an attempt can't be journalled and is not made");
            self.budgets.release(entry.opening());
            attempts.failure = Some(Failure::Unjournalled);
            return Error::err_in(ErrorType::InternalError);
        }
        let entry = entry.paid_from(budget.cloned(), bound);
        inference.note_asked();
        let attempts = &mut inference.attempts;
        let failed = attempts.take_entry();
        attempts.entry = Some(Box::new(entry));
        if let Some(failed) = failed {
            let closing = Closing {
                now,
                last: false,
                client_gone: false,
                disconnect: Disconnect::Cancel,
                answered: 0,
                explanation: None,
            };
            let trace = attempts.trace.as_deref_mut();
            let (sums, user) = self.write(*failed, snapshot, closing, trace);
            attempts.add(sums, user);
        }
        Ok(())
    }

    /// Settles the attempt that the request ends with, unless that is done.
    pub(crate) fn settle(&self, inference: &mut Inference, end: End) {
        let Inference { request, attempts } = inference;
        let Some(entry) = attempts.take_entry() else {
            return;
        };
        let closing = Closing {
            now: clock::now(),
            last: true,
            client_gone: end.client_gone,
            disconnect: if end.drained {
                Disconnect::Drain
            } else {
                Disconnect::Cancel
            },
            answered: end.answered,
            explanation: attempts.explanation.take(),
        };
        let trace = attempts.trace.as_deref_mut();
        let (sums, user) = self.write(*entry, request.snapshot(), closing, trace);
        attempts.add(sums, user);
    }

    /// Writes an attempt into the ledger; returns what it used, and its end user or owner.
    fn write(
        &self,
        mut entry: EntryDraft,
        snapshot: &Snapshot,
        closing: Closing,
        trace: Option<&mut Trace>,
    ) -> (LedgerSums, Box<str>) {
        let held = entry.opening().estimate.input_total();
        let deployment = Arc::clone(entry.deployment());
        let (budget, bound) = entry.take_budget();
        let entry = entry.close(snapshot, closing);
        self.metrics.count_attempt(&entry, deployment.id());
        if let Some(trace) = trace {
            let provider = snapshot.provider(&entry.attempt.provider);
            trace.attempt_ended(&entry, provider.map(|(_, provider)| provider.as_ref()));
        }
        self.budgets.settle(budget.as_ref(), &entry, held, bound);
        let used = (entry.sums(), entry.user().into());
        self.ledger.settle(entry, deployment.id());
        used
    }
}

/// The longest name of an end user that is kept.
const LONGEST_END_USER: usize = 256;

/// Begins the entry of the attempt that is about to go to `deployment`.
fn draft_entry(
    id: Uuid,
    inference: &Inference,
    deployment: &Deployment,
    expected: Option<Expected>,
    now: Instant,
) -> EntryDraft {
    let provider = &deployment.provider;
    let request = &inference.request;
    let attempt = start(id, inference, deployment);
    let prices = &request.snapshot().prices;
    let price = prices.find(&provider.id, provider.kind.price_type(), &deployment.model);
    let bound = expected.map(|expected| expected.input);
    let typical = expected.map_or(0, |expected| expected.output);
    let estimate = inference.size().usage(bound, typical);
    let billed = request.endpoint != Endpoint::CountTokens;
    let cost = bill(price.map(|price| &**price), &estimate, billed, attempt.at).cost;
    let opened = OpenEntry {
        attempt,
        estimate,
        cost,
    };
    let layout = UsageLayout::for_endpoint(inference.provider_format(), request.endpoint);
    let queue = now.saturating_duration_since(request.arrived);
    EntryDraft::new(opened, layout, deployment, !billed, queue, now)
}

fn start(id: Uuid, inference: &Inference, deployment: &Deployment) -> AttemptStart {
    let Inference { request, attempts } = inference;
    // The id names its own moment, so that entries sort by it.
    let millis = id.get_timestamp().map_or(0, |time| {
        let (seconds, nanos) = time.to_unix();
        seconds.saturating_mul(1000) + u64::from(nanos / 1_000_000)
    });
    let at = Timestamp::from_millisecond(i64::try_from(millis).unwrap_or_default());
    AttemptStart {
        id,
        request_id: request.id.as_ref().into(),
        number: u16::try_from(attempts.begun + 1).unwrap_or(u16::MAX),
        at: at.unwrap_or_default(),
        key: request.key.name.as_str().into(),
        owner: request.key.owner.as_deref().unwrap_or_default().into(),
        end_user: end_user(inference),
        format: request.endpoint.format(),
        model_asked: request.head.model.as_str().into(),
        model: request.public_name().map(Into::into),
        provider: deployment.provider.id.as_str().into(),
        deployment: deployment.model.as_ref().into(),
        rule: request.rule.as_deref().map(Into::into),
        stream: request.head.stream,
        revision: request.snapshot().revision,
    }
}

/// Returns the end user that the client named: OpenAI's `user`, Anthropic's `metadata.user_id`.
fn end_user(inference: &Inference) -> Option<Box<str>> {
    let request = &inference.request;
    let body = inference.attempts.bodies.client();
    let name = formats::end_user(request.endpoint.format(), body, &request.head.scan)?;
    let fits = !name.is_empty() && name.len() <= LONGEST_END_USER;
    fits.then(|| name.as_ref().into())
}
