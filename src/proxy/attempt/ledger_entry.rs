//! Ledger entry of an in-flight attempt: opened before bytes go upstream, fed with the response as
//! it passes, closed with what it used and cost. Knows nothing of Pingora.

use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use llm_router_config::PriceFrom;
use llm_router_domain::balance;
use llm_router_domain::bill::BillTerms;
use llm_router_domain::inexact::Reason;
use llm_router_domain::ledger::{
    AttemptEnd, AttemptOutcome, Disconnect, LedgerEntry, OpenEntry, RouteExplanation, Timings,
};
use llm_router_domain::price::Cost;
use llm_router_domain::usage::{Class, EstimateMethod, Usage, UsageSource};
use llm_router_wire::stream::AnswerStream;
use llm_router_wire::usage::{BodyMeter, Observations, UsageLayout};

use crate::budgets::KeyBudget;
use crate::proxy::attempt::outcome::NO_ANSWER;
use crate::snapshot::{Deployment, Snapshot};

/// Code of an attempt whose answer took too long.
const TIMEOUT: &str = "timeout";

/// An attempt that is under way.
pub(crate) struct EntryDraft {
    opened: OpenEntry,
    layout: &'static UsageLayout,
    /// Health state of the deployment; its id names it in metrics.
    deployment: Arc<balance::DeploymentState>,
    price_type: &'static str,
    /// From the request's arrival until now.
    queue: Duration,
    begun: Instant,
    connected: bool,
    connect: Option<Duration>,
    first_token: Option<Duration>,
    /// Time of the attempt's failure.
    failed_at: Option<Instant>,
    failure: Option<(&'static str, u16)>,
    status: u16,
    meter: Meter,
    /// The service tier that the response's header names.
    header_tier: Option<Box<str>>,
    price_from: PriceFrom,
    whole: bool,
    /// Budget that it is charged to: the one at its start, even if the key has changed since.
    budget: Option<KeyBudget>,
    /// The most that it can cost, as reserved; unpriced if no budget pays.
    bound: Cost,
}

/// Reader of the response's usage.
enum Meter {
    /// No response yet.
    Waiting,
    /// A response that uses nothing: an error, or a count of tokens.
    Free,
    Body(BodyMeter),
    /// A stream of events, which has a meter of its own.
    Stream,
    Done(Observations),
}

/// End of an attempt, as far as its request decides it.
pub(crate) struct Closing {
    pub(crate) now: Instant,
    /// Set if the request ends with this attempt.
    pub(crate) last: bool,
    pub(crate) client_gone: bool,
    /// Policy that applied upstream if the client has disconnected.
    pub(crate) disconnect: Disconnect,
    /// The status that the client was sent; 0 if none.
    pub(crate) answered: u16,
    /// Explanation of the route, if the request ends.
    pub(crate) explanation: Option<Box<RouteExplanation>>,
}

impl EntryDraft {
    /// The same, paid from a budget, on which at most `bound` is reserved.
    pub(crate) fn paid_from(self, budget: Option<KeyBudget>, bound: Cost) -> Self {
        Self {
            budget,
            bound,
            ..self
        }
    }

    /// Takes the budget that it is charged to, with the most that it can cost.
    pub(crate) const fn take_budget(&mut self) -> (Option<KeyBudget>, Cost) {
        (self.budget.take(), self.bound)
    }

    /// Begins the entry of an attempt that is about to go to `deployment`. `free`: it uses nothing.
    /// `queue`: time since the request's arrival.
    pub(crate) fn new(
        opened: OpenEntry,
        layout: &'static UsageLayout,
        deployment: &Deployment,
        free: bool,
        queue: Duration,
        now: Instant,
    ) -> Self {
        Self {
            opened,
            layout,
            deployment: Arc::clone(&deployment.state),
            price_type: deployment.provider.kind.price_type(),
            queue,
            begun: now,
            connected: false,
            connect: None,
            first_token: None,
            failed_at: None,
            failure: None,
            status: 0,
            meter: if free { Meter::Free } else { Meter::Waiting },
            header_tier: None,
            price_from: deployment.provider.price_from,
            whole: false,
            budget: None,
            bound: Cost::Unpriced,
        }
    }

    /// Returns the record that is journalled before the attempt goes upstream.
    pub(crate) const fn opening(&self) -> &OpenEntry {
        &self.opened
    }

    /// Returns the health state of the deployment.
    pub(crate) const fn deployment(&self) -> &Arc<balance::DeploymentState> {
        &self.deployment
    }

    /// A connection stands; one that stood before took no time.
    pub(crate) fn note_connection(&mut self, reused: bool, now: Instant) {
        self.connected = true;
        if !reused {
            self.connect = Some(now.saturating_duration_since(self.begun));
        }
    }

    /// Returns whether content of the response has come.
    pub(crate) const fn content_began(&self) -> bool {
        self.first_token.is_some()
    }

    /// The response's header came. `stream`: its body is a stream of events. `free`: it is not
    /// billed.
    pub(crate) fn begin_response(&mut self, status: u16, stream: bool, free: bool) {
        self.status = status;
        self.meter = if free || status >= 300 {
            Meter::Free
        } else if stream {
            Meter::Stream
        } else {
            Meter::Body(BodyMeter::new(self.layout))
        };
    }

    /// The response's header names a service tier.
    pub(crate) fn note_tier(&mut self, tier: Option<&str>) {
        self.header_tier = tier.map(Into::into);
    }

    /// More of the response came, or its end.
    pub(crate) fn note_body(&mut self, body: Option<&Bytes>, end: bool, now: Instant) {
        let chunk = body.filter(|chunk| !chunk.is_empty());
        if let (Meter::Body(meter), Some(chunk)) = (&mut self.meter, chunk) {
            meter.feed(chunk.clone());
            self.note_content(now);
        }
        self.whole |= end;
    }

    /// Events of the response's stream came. `content`: some of them held content, or one before.
    pub(crate) fn note_events(&mut self, content: bool, now: Instant) {
        if matches!(self.meter, Meter::Stream) && content {
            self.note_content(now);
        }
    }

    fn note_content(&mut self, now: Instant) {
        if self.first_token.is_none() {
            self.first_token = Some(now.saturating_duration_since(self.begun));
        }
    }

    /// Ends the reading of usage; `stream` is the response, if it is one of events.
    pub(crate) fn end_response(&mut self, stream: Option<&AnswerStream>) {
        self.meter = match (mem::replace(&mut self.meter, Meter::Free), stream) {
            (Meter::Body(meter), _) => Meter::Done(meter.finish()),
            (Meter::Stream, Some(stream)) => Meter::Done(stream.final_observations()),
            (meter, _) => meter,
        };
        if let (Meter::Done(observed), Some(tier)) = (&mut self.meter, &self.header_tier) {
            observed.saw_header_tier(tier);
        }
    }

    /// The answer broke after its content had begun.
    pub(crate) fn note_broken(&mut self, code: &'static str, now: Instant) {
        self.failure = Some((code, self.status));
        self.failed_at = Some(now);
    }

    /// The attempt failed. `status` is the provider's, 0 if it sent none. `empty`: what it sent is
    /// nothing that is billed.
    pub(crate) fn note_failure(
        &mut self,
        code: &'static str,
        status: u16,
        empty: bool,
        now: Instant,
    ) {
        self.failure = Some((code, status));
        self.failed_at = Some(now);
        if empty {
            self.meter = Meter::Free;
        }
    }

    /// The ledger's entry of an attempt whose response has been ended.
    pub(crate) fn close(self, snapshot: &Snapshot, closing: Closing) -> LedgerEntry {
        let (ending, usage, error) = self.verdict(&closing);
        let attempt = self.opened.attempt;
        let answered = matches!(self.meter, Meter::Done(_)) && ending != AttemptEnd::Failed;
        let served = match &self.meter {
            Meter::Done(observed) => observed.served_model(),
            _ => None,
        };
        let parts = match &self.meter {
            Meter::Done(observed) if ending != AttemptEnd::Failed => observed.parts(),
            _ => Vec::new(),
        };
        let ended = self.failed_at.unwrap_or(closing.now);
        // Providers whose price depends on the hour go by the end of a request.
        let elapsed = ended.saturating_duration_since(self.begun);
        let ended_at = attempt.at.saturating_add(elapsed).unwrap_or(attempt.at);
        let terms = BillTerms {
            prices: &snapshot.prices,
            provider: &attempt.provider,
            price_type: self.price_type,
            model: &attempt.deployment,
            served,
            prefers_reported: self.price_from == PriceFrom::Reported,
            answered,
            at: ended_at,
        };
        let (cost, billing) = terms.bill(&usage, parts);
        let drained = closing.disconnect == Disconnect::Drain;
        let left = closing.client_gone
            && closing.last
            && (ending == AttemptEnd::Interrupted || drained && ending == AttemptEnd::Complete);
        let status = match (self.status, self.failure) {
            (0, Some((_, status))) if status > 0 => status,
            (0, _) if closing.last => closing.answered,
            (status, _) => status,
        };
        let outcome = AttemptOutcome {
            billing,
            usage,
            cost,
            status,
            error: error.map(Into::into),
            timings: Timings {
                queue: Some(micros(self.queue)),
                connect: self.connect.map(micros),
                first_token: self.first_token.map(micros),
                total: Some(micros(ended.saturating_duration_since(self.begun))),
            },
            ending,
            disconnect: left.then_some(closing.disconnect),
            last: closing.last,
            explanation: closing.explanation,
        };
        LedgerEntry { attempt, outcome }
    }

    /// Returns how the attempt ended, what it used and the code of its error.
    fn verdict(&self, closing: &Closing) -> (AttemptEnd, Usage, Option<&'static str>) {
        let input = self.opened.estimate.get(Class::Input);
        let nothing = Usage::default();
        let code = self.failure.map(|(code, _)| code);
        let gone = closing.client_gone.then_some("client_gone");
        match &self.meter {
            // The provider has the request; what it makes of it nobody will see.
            Meter::Waiting if code.is_none() && self.connected => {
                let usage = unseen_usage(input, Reason::UsageMissing);
                (AttemptEnd::Interrupted, usage, gone)
            }
            Meter::Waiting if code == Some(TIMEOUT) && self.connected => {
                let usage = unseen_usage(input, Reason::TimeoutMayHaveBilled);
                (AttemptEnd::Failed, usage, code)
            }
            Meter::Free if code.is_none() && self.status < 300 => {
                let ending = if self.whole {
                    AttemptEnd::Complete
                } else {
                    AttemptEnd::Interrupted
                };
                (ending, nothing, gone.filter(|_| !self.whole))
            }
            Meter::Done(observed) if code == Some(NO_ANSWER) => {
                if observed.content_started() || observed.reported_usage().is_some() {
                    (AttemptEnd::Interrupted, observed.usage(false, input), code)
                } else {
                    (AttemptEnd::Failed, nothing, code)
                }
            }
            Meter::Done(observed) if observed.failed => {
                let used = observed.content_started() || observed.reported_usage().is_some();
                if used {
                    let usage = observed.usage(false, input);
                    (AttemptEnd::Interrupted, usage, Some("error_event"))
                } else {
                    (AttemptEnd::Failed, nothing, Some("error_event"))
                }
            }
            Meter::Done(observed) if self.whole && code.is_none() => {
                (AttemptEnd::Complete, observed.usage(true, input), gone)
            }
            Meter::Done(observed) => {
                let mut usage = observed.usage(false, input);
                if code == Some(TIMEOUT) && usage.is_estimated() {
                    usage.inexact.add(Reason::TimeoutMayHaveBilled);
                }
                (AttemptEnd::Interrupted, usage, code.or(gone))
            }
            _ => (
                AttemptEnd::Failed,
                nothing,
                code.or(gone).or(Some("status")),
            ),
        }
    }
}

/// Usage of a request that a provider has taken without an answer that could be read.
fn unseen_usage(input: u64, reason: Reason) -> Usage {
    let mut usage = Usage::default().with(Class::Input, input);
    usage.source = UsageSource::Estimated(EstimateMethod::TextLength);
    usage.inexact.add(reason);
    usage
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
