//! One attempt's line of the ledger while it is under way: opened before bytes go upstream, fed
//! with the response as it passes, closed with what it used and cost. Knows nothing of Pingora.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use jiff::Timestamp;
use llm_router_domain::balance;
use llm_router_domain::format::{Endpoint, Format};
use llm_router_domain::key::Key;
use llm_router_domain::ledger::{
    Attempt, Disconnect, Ending, Entry, Explanation, Opened, Outcome, Timings, bill,
};
use llm_router_domain::price::Price;
use llm_router_domain::usage::{Class, Method, Source, Usage, estimate_tokens};
use llm_router_wire::formats;
use llm_router_wire::prompt;
use llm_router_wire::scan::Field;
use llm_router_wire::stream::AnswerStream;
use llm_router_wire::usage::{BodyMeter, Observed, UsageLayout};
use uuid::Uuid;

use super::context::Inference;
use crate::budgets::{Expected, KeyBudget};
use crate::snapshot::{Deployment, Snapshot};

/// The longest name of an end user that is kept.
const LONGEST_END_USER: usize = 256;

/// An attempt that is under way.
pub(super) struct Tab {
    opened: Opened,
    /// The provider's format.
    format: Format,
    endpoint: Endpoint,
    price: Option<Arc<Price>>,
    /// What is known of the deployment; its id names it in metrics.
    deployment: Arc<balance::Deployment>,
    type_name: &'static str,
    /// From the request's arrival until now.
    queue: Duration,
    begun: Instant,
    connected: bool,
    connect: Option<Duration>,
    first_token: Option<Duration>,
    /// When the attempt was known to have failed.
    failed_at: Option<Instant>,
    failure: Option<(&'static str, u16)>,
    status: u16,
    meter: Meter,
    whole: bool,
    /// What pays for it: that of the beginning, whatever became of the key since.
    budget: Option<KeyBudget>,
}

/// Who asks, and by which configuration.
pub(super) struct Asker<'a> {
    pub(super) request_id: &'a str,
    pub(super) key: &'a Key,
    pub(super) arrived: Instant,
    pub(super) snapshot: &'a Snapshot,
}

/// What reads the response.
enum Meter {
    /// No response yet.
    Waiting,
    /// A response that uses nothing: an error, or a count of tokens.
    Free,
    Body(BodyMeter),
    Stream(Box<AnswerStream>),
    /// A stream that was asked for usage on the client's behalf.
    Filter(Box<AnswerStream>),
    Done(Observed),
}

/// How the request that an attempt belongs to goes on.
pub(super) struct Closing {
    pub(super) now: Instant,
    /// Whether the request ends with this attempt.
    pub(super) last: bool,
    pub(super) client_gone: bool,
    /// What was done upstream if the client has gone.
    pub(super) disconnect: Disconnect,
    /// The status that the client was sent; 0 if none.
    pub(super) answered: u16,
    /// Why the request went where it went, if it ends.
    pub(super) explanation: Option<Box<Explanation>>,
}

impl Tab {
    /// The same, paid from a budget.
    pub(super) fn paid_from(self, budget: Option<KeyBudget>) -> Self {
        Self { budget, ..self }
    }

    /// What it is paid from.
    pub(super) const fn take_budget(&mut self) -> Option<KeyBudget> {
        self.budget.take()
    }

    /// The line of an attempt that is about to go to `deployment`.
    pub(super) fn new(
        id: Uuid,
        asker: &Asker<'_>,
        inference: &Inference,
        deployment: &Deployment,
        expected: Option<Expected>,
        now: Instant,
    ) -> Self {
        let provider = &deployment.provider;
        let attempt = attempt(id, asker, inference, deployment);
        let prices = &asker.snapshot.prices;
        let price = prices.find(&provider.id, provider.type_name, &deployment.model);
        let price = price.cloned();
        let bound = expected.map(|expected| expected.input);
        let typical = expected.map_or(0, |expected| expected.output);
        let estimate = estimate(inference, bound, typical);
        let billed = inference.endpoint != Endpoint::CountTokens;
        let cost = bill(price.as_deref(), &estimate, billed, attempt.day());
        Self {
            opened: Opened {
                attempt,
                estimate,
                cost,
            },
            format: inference.provider_format(),
            endpoint: inference.endpoint,
            price,
            deployment: Arc::clone(&deployment.state),
            type_name: provider.type_name,
            queue: now.saturating_duration_since(asker.arrived),
            begun: now,
            connected: false,
            connect: None,
            first_token: None,
            failed_at: None,
            failure: None,
            status: 0,
            meter: Meter::Waiting,
            whole: false,
            budget: None,
        }
    }

    /// What the journal is told before the attempt goes upstream.
    pub(super) const fn opened(&self) -> &Opened {
        &self.opened
    }

    /// What is known of the deployment.
    pub(super) const fn deployment(&self) -> &Arc<balance::Deployment> {
        &self.deployment
    }

    /// A connection stands; one that stood before took no time.
    pub(super) fn connected(&mut self, reused: bool, now: Instant) {
        self.connected = true;
        if !reused {
            self.connect = Some(now.saturating_duration_since(self.begun));
        }
    }

    /// Whether the response has come to its content.
    pub(super) const fn content_began(&self) -> bool {
        self.first_token.is_some()
    }

    /// The response's header came. `filter`: the provider was asked for usage that the client
    /// didn't ask for.
    pub(super) fn responded(&mut self, status: u16, stream: bool, filter: bool, free: bool) {
        self.status = status;
        let (format, endpoint) = (self.format, self.endpoint);
        self.meter = match (stream, filter) {
            _ if free || status >= 300 => Meter::Free,
            (true, true) => Meter::Filter(Box::new(AnswerStream::without_usage(format, endpoint))),
            (true, false) => Meter::Stream(Box::new(AnswerStream::unchanged(format, endpoint))),
            (false, _) => Meter::Body(BodyMeter::new(UsageLayout::for_endpoint(format, endpoint))),
        };
    }

    /// More of the response came, or its end. What is left in `body` is the client's.
    pub(super) fn pass(&mut self, body: &mut Option<Bytes>, end: bool, now: Instant) {
        let mut content = false;
        match &mut self.meter {
            Meter::Waiting | Meter::Free | Meter::Done(_) => {}
            Meter::Body(meter) => {
                if let Some(chunk) = body.as_ref().filter(|chunk| !chunk.is_empty()) {
                    meter.feed(chunk.clone());
                    content = true;
                }
            }
            Meter::Stream(stream) => {
                if let Some(chunk) = body.as_ref() {
                    stream.push(chunk.clone());
                    content = stream.observed().content_started();
                }
            }
            Meter::Filter(stream) => {
                let passed = body.take().map(|chunk| stream.push(chunk));
                *body = passed.filter(|passed| !passed.is_empty());
                content = stream.observed().content_started();
            }
        }
        if content && self.first_token.is_none() {
            self.first_token = Some(now.saturating_duration_since(self.begun));
        }
        if end {
            self.whole = true;
            self.finish(body);
        }
    }

    fn finish(&mut self, body: &mut Option<Bytes>) {
        self.meter = match std::mem::replace(&mut self.meter, Meter::Free) {
            Meter::Body(meter) => Meter::Done(meter.finish()),
            Meter::Stream(stream) => Meter::Done(stream.into_observed()),
            Meter::Filter(mut stream) => {
                let rest = stream.end();
                *body = Some(match body.take() {
                    Some(passed) if rest.is_empty() => passed,
                    Some(passed) => [passed, rest].concat().into(),
                    None => rest,
                });
                Meter::Done(stream.into_observed())
            }
            other => other,
        };
    }

    /// The attempt failed. `status` is the provider's, 0 if it sent none. `empty`: what it sent is
    /// nothing that is billed.
    pub(super) fn failed(&mut self, code: &'static str, status: u16, empty: bool, now: Instant) {
        self.failure = Some((code, status));
        self.failed_at = Some(now);
        if empty {
            self.meter = Meter::Free;
        }
    }

    /// The ledger's entry.
    pub(super) fn close(mut self, snapshot: &Snapshot, closing: Closing) -> Entry {
        self.finish(&mut None);
        let (ending, usage, error) = self.verdict(&closing);
        let attempt = self.opened.attempt;
        let answered = matches!(self.meter, Meter::Done(_)) && ending != Ending::Failed;
        let price = self.price.or_else(|| {
            let served = match &self.meter {
                Meter::Done(observed) => observed.model.as_deref()?,
                _ => return None,
            };
            let prices = &snapshot.prices;
            let found = prices.find(&attempt.provider, self.type_name, served);
            found.cloned()
        });
        let cost = bill(price.as_deref(), &usage, answered, attempt.day());
        let ended = self.failed_at.unwrap_or(closing.now);
        let drained = closing.disconnect == Disconnect::Drain;
        let left = closing.client_gone
            && closing.last
            && (ending == Ending::Interrupted || drained && ending == Ending::Complete);
        let status = match (self.status, self.failure) {
            (0, Some((_, status))) if status > 0 => status,
            (0, _) if closing.last => closing.answered,
            (status, _) => status,
        };
        let outcome = Outcome {
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
        Entry { attempt, outcome }
    }

    /// How the attempt ended, what it used and what went wrong.
    fn verdict(&self, closing: &Closing) -> (Ending, Usage, Option<&'static str>) {
        let input = self.opened.estimate.get(Class::Input);
        let nothing = Usage::default();
        let code = self.failure.map(|(code, _)| code);
        let gone = closing.client_gone.then_some("client_gone");
        match &self.meter {
            Meter::Waiting if code.is_none() && self.connected => {
                // The provider has the request; what it makes of it nobody will see.
                let mut usage = nothing.with(Class::Input, input);
                usage.source = Source::Estimated(Method::TextLength);
                (Ending::Interrupted, usage, gone)
            }
            Meter::Free if code.is_none() && self.status < 300 => {
                let ending = if self.whole {
                    Ending::Complete
                } else {
                    Ending::Interrupted
                };
                (ending, nothing, gone.filter(|_| !self.whole))
            }
            Meter::Done(observed) if observed.failed => {
                let used = observed.content_started() || observed.reported().is_some();
                if used {
                    let usage = observed.usage(false, input);
                    (Ending::Interrupted, usage, Some("error_event"))
                } else {
                    (Ending::Failed, nothing, Some("error_event"))
                }
            }
            Meter::Done(observed) if self.whole && code.is_none() => {
                (Ending::Complete, observed.usage(true, input), gone)
            }
            Meter::Done(observed) => {
                let usage = observed.usage(false, input);
                (Ending::Interrupted, usage, code.or(gone))
            }
            _ => (Ending::Failed, nothing, code.or(gone).or(Some("status"))),
        }
    }
}

fn attempt(id: Uuid, asker: &Asker<'_>, inference: &Inference, deployment: &Deployment) -> Attempt {
    // The id names its own moment, so that entries sort by it.
    let millis = id.get_timestamp().map_or(0, |time| {
        let (seconds, nanos) = time.to_unix();
        seconds.saturating_mul(1000) + u64::from(nanos / 1_000_000)
    });
    let at = Timestamp::from_millisecond(i64::try_from(millis).unwrap_or_default());
    Attempt {
        id,
        request_id: asker.request_id.into(),
        number: u16::try_from(inference.attempts + 1).unwrap_or(u16::MAX),
        at: at.unwrap_or_default(),
        key: asker.key.name.as_str().into(),
        owner: asker.key.owner.as_deref().unwrap_or_default().into(),
        end_user: end_user(inference),
        format: inference.endpoint.format(),
        model_asked: inference.head.model.as_str().into(),
        model: inference
            .route
            .model
            .as_ref()
            .map(|model| model.name.as_str().into()),
        provider: deployment.provider.id.as_str().into(),
        deployment: deployment.model.as_ref().into(),
        rule: inference.route.rule.as_deref().map(Into::into),
        stream: inference.head.stream,
        revision: asker.snapshot.revision,
    }
}

/// The end user that the client named: OpenAI's `user`, Anthropic's `metadata.user_id`.
fn end_user(inference: &Inference) -> Option<Box<str>> {
    let format = inference.endpoint.format();
    let name = formats::end_user(format, &inference.body, &inference.head.scan)?;
    let fits = !name.is_empty() && name.len() <= LONGEST_END_USER;
    fits.then(|| name.as_ref().into())
}

/// What the attempt is believed to use. It is what a budget reserves, and billed only if the
/// process dies before the attempt ends. Where a budget pays, the input is the bound given; else it
/// is told by the body's length without the images in it. The output is what the client allows, else
/// what is typical.
pub(super) fn estimate(inference: &Inference, bound: Option<u64>, typical_output: u64) -> Usage {
    if inference.endpoint == Endpoint::CountTokens {
        return Usage::default();
    }
    let input = bound.unwrap_or_else(|| usual_input(inference));
    let output = match inference.endpoint {
        Endpoint::Embeddings => 0,
        _ => output_allowed(inference, typical_output),
    };
    Usage::default()
        .with(Class::Input, input)
        .with(Class::Output, output)
}

/// A body below this has no image worth looking for.
const SMALLEST_WITH_IMAGE: usize = 4 * 1024;

/// Input tokens as the body's length tells them.
fn usual_input(inference: &Inference) -> u64 {
    let embedded = if inference.body_bytes < SMALLEST_WITH_IMAGE {
        prompt::Embedded::default()
    } else {
        prompt::embedded(&inference.body)
    };
    let text = inference.body_bytes.saturating_sub(embedded.bytes);
    estimate_tokens(text as u64, 1) + embedded.images * prompt::IMAGE_TOKENS
}

/// Input tokens that the provider can count at most.
pub(super) fn input_at_most(inference: &Inference, deployment: &Deployment) -> u64 {
    let anthropic = inference.endpoint.format() == Endpoint::Messages.format();
    let image = prompt::image_tokens(anthropic, &deployment.model);
    let numbers = matches!(
        inference.endpoint,
        Endpoint::Completions | Endpoint::Embeddings
    );
    prompt::input_at_most(&inference.body, image, numbers)
}

/// The output tokens that the client allows, else what is typical, for every answer it asks for.
fn output_allowed(inference: &Inference, typical: u64) -> u64 {
    let output = output_limit(inference).unwrap_or(typical);
    output.saturating_mul(number(inference, Field::N).unwrap_or(1).max(1))
}

/// The output tokens that the client allows for one answer, if it says.
pub(super) fn output_limit(inference: &Inference) -> Option<u64> {
    let limits = [
        Field::MaxCompletionTokens,
        Field::MaxTokens,
        Field::MaxOutputTokens,
    ];
    limits
        .into_iter()
        .find_map(|field| number(inference, field))
}

fn number(inference: &Inference, field: Field) -> Option<u64> {
    let value = inference.head.scan.value(&inference.body, field)?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}
