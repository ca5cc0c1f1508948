//! Vocabulary of the ledger: one [`LedgerEntry`] for each attempt that went upstream, with its key,
//! usage and cost. Message content must never be in it; storage belongs to `llm-router-store`.

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::bill::Billing;
use crate::format::Format;
use crate::inexact::Reason;
use crate::price::{Charge, Cost, Price};
use crate::usage::{Class, EstimateMethod, Usage, UsageSource};

/// Facts about an attempt that are known when it goes upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptStart {
    /// Id of the entry; version 7, so that entries sort by time.
    pub id: Uuid,
    /// Id of its request: the client's `x-request-id` or ours.
    pub request_id: Box<str>,
    /// Number of the attempt within the request, from 1.
    pub number: u16,
    /// Time at which it went upstream.
    pub at: Timestamp,
    /// Id of the key that pays.
    pub key: Box<str>,
    /// Owner of the key; empty if it has none.
    pub owner: Box<str>,
    /// The end user that the client named.
    pub end_user: Option<Box<str>>,
    /// Format of the client.
    pub format: Format,
    /// The model as the client asked for it.
    pub model_asked: Box<str>,
    /// Public name that it was routed to, if any.
    pub model: Option<Box<str>>,
    /// The id of the provider.
    pub provider: Box<str>,
    /// The deployment's model.
    pub deployment: Box<str>,
    /// The rule that decided.
    pub rule: Option<Box<str>>,
    /// True if the client asked for a stream.
    pub stream: bool,
    /// Revision of the snapshot used for routing.
    pub revision: u64,
}

impl AttemptStart {
    /// Returns the day (UTC) that the attempt counts for.
    #[must_use]
    pub fn day(&self) -> Date {
        day(self.at)
    }
}

/// Attempt in flight, with the amount to bill if its end is never recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenEntry {
    /// The attempt.
    pub attempt: AttemptStart,
    /// Estimated usage.
    pub estimate: Usage,
    /// The cost of the estimate.
    pub cost: Cost,
}

impl OpenEntry {
    /// Converts it into the entry of an attempt whose end was never recorded because the process
    /// died.
    #[must_use]
    pub fn into_interrupted(self) -> LedgerEntry {
        let mut usage = self.estimate;
        usage.source = UsageSource::Estimated(EstimateMethod::Reservation);
        usage.inexact.add(Reason::UsageMissing);
        let outcome = AttemptOutcome {
            usage,
            cost: self.cost,
            billing: Billing {
                inexact: usage.inexact,
                ..Billing::default()
            },
            status: 0,
            error: Some("process_died".into()),
            timings: Timings::default(),
            ending: AttemptEnd::Interrupted,
            disconnect: None,
            last: true,
            explanation: None,
        };
        LedgerEntry {
            attempt: self.attempt,
            outcome,
        }
    }
}

/// End of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptEnd {
    /// The response was read to its end.
    Complete,
    /// Cut off after it had begun: by the client, by the provider or by a crash.
    Interrupted,
    /// No response that a client could use: an error status, no connection, a timeout.
    Failed,
}

impl AttemptEnd {
    /// All variants.
    pub const ALL: [Self; 3] = [Self::Complete, Self::Interrupted, Self::Failed];

    /// Returns the name used in the store and in logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }
}

/// Handling of the upstream call after the client has disconnected from a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Disconnect {
    /// The upstream call was cancelled; output is estimated from the part received.
    #[default]
    Cancel,
    /// The stream was read to its end for the usage, within a time limit.
    Drain,
}

impl Disconnect {
    /// Returns the name used in the config, the store and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cancel => "cancel",
            Self::Drain => "drain",
        }
    }
}

/// Durations of the parts of an attempt, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// From the request's arrival until the attempt went upstream.
    pub queue: Option<u32>,
    /// Until the connection was established; none on a reused one.
    pub connect: Option<u32>,
    /// Until the first content arrived.
    pub first_token: Option<u32>,
    /// The attempt as a whole.
    pub total: Option<u32>,
}

/// Outcome of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptOutcome {
    /// Usage of the attempt.
    pub usage: Usage,
    /// Cost of the attempt, that of its parts included.
    pub cost: Cost,
    /// Details of the bill.
    pub billing: Billing,
    /// The HTTP status: the provider's, or ours where there was none; 0 if none was sent.
    pub status: u16,
    /// Short error code.
    pub error: Option<Box<str>>,
    /// Durations.
    pub timings: Timings,
    /// End of the attempt.
    pub ending: AttemptEnd,
    /// Handling of the upstream call if the client disconnected.
    pub disconnect: Option<Disconnect>,
    /// True if the request ended with this attempt: it counts the request.
    pub last: bool,
    /// Explanation of the route, on the last attempt, if there is something to explain.
    pub explanation: Option<Box<RouteExplanation>>,
}

/// Explanation of a request's route beyond what its attempts tell. It holds names from the
/// configuration and conditions of rules, never message content, and is bounded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteExplanation {
    /// Reason for which the rule matched, or for which none did.
    pub why: Box<str>,
    /// Deployments of its route, as `provider/model`, in the order of the configuration.
    pub candidates: Vec<Box<str>>,
    /// Deployments that were not candidates, with the reason.
    pub left_out: Vec<(Box<str>, Box<str>)>,
}

impl RouteExplanation {
    /// Longest reason, in bytes.
    pub const LONGEST: usize = 256;

    /// Most deployments named in each list.
    pub const MOST: usize = 12;

    /// Creates an explanation with a reason, truncated to [`Self::LONGEST`].
    #[must_use]
    pub fn new(why: &str) -> Self {
        Self {
            why: cut(why).into(),
            ..Self::default()
        }
    }

    /// Adds a deployment of the route, while there is room.
    pub fn add_candidate(&mut self, deployment: String) {
        if self.candidates.len() < Self::MOST {
            self.candidates.push(deployment.into());
        }
    }

    /// Adds a deployment that is left out, while there is room; once for each.
    pub fn leave_out(&mut self, deployment: String, why: &str) {
        let known = |(other, _): &(Box<str>, Box<str>)| **other == *deployment;
        if self.left_out.len() < Self::MOST && !self.left_out.iter().any(known) {
            self.left_out.push((deployment.into(), cut(why).into()));
        }
    }
}

/// Truncates a reason at a character boundary.
fn cut(why: &str) -> &str {
    let end = why.floor_char_boundary(RouteExplanation::LONGEST);
    why.get(..end).unwrap_or(why)
}

/// Entry of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerEntry {
    /// Facts known at its start.
    pub attempt: AttemptStart,
    /// Outcome of the attempt.
    pub outcome: AttemptOutcome,
}

impl LedgerEntry {
    /// Returns the user that the cost counts for: the end user, else the owner.
    #[must_use]
    pub fn user(&self) -> &str {
        self.attempt
            .end_user
            .as_deref()
            .unwrap_or(&self.attempt.owner)
    }

    /// Returns the amounts that the entry adds to a sum.
    #[must_use]
    pub fn sums(&self) -> LedgerSums {
        let outcome = &self.outcome;
        let usage = &outcome.usage;
        // An attempt that wasn't the last and used nothing has no effect on its request's flags.
        let counts = outcome.last || usage.iter().next().is_some();
        let flag = |set: bool| u64::from(set && counts);
        LedgerSums {
            requests: u64::from(outcome.last),
            input_tokens: usage.input_total(),
            cached_input_tokens: usage.cache_read_total(),
            cache_write_tokens: usage.cache_write_total(),
            output_tokens: usage.output_total(),
            reasoning_tokens: usage.get(Class::Reasoning),
            cost: outcome.cost.usd().unwrap_or_default(),
            unpriced_requests: flag(outcome.cost == Cost::Unpriced),
            estimated_requests: flag(usage.is_estimated()),
            inexact_requests: flag(!outcome.billing.inexact.is_empty()),
        }
    }
}

/// Sums over entries, as in a cost object.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerSums {
    /// Client requests, whatever their attempts.
    pub requests: u64,
    /// All input, cached included.
    pub input_tokens: u64,
    /// Input read from a cache.
    pub cached_input_tokens: u64,
    /// Input written to a cache.
    pub cache_write_tokens: u64,
    /// All output, reasoning included.
    pub output_tokens: u64,
    /// Output tokens of reasoning.
    pub reasoning_tokens: u64,
    /// USD.
    pub cost: Decimal,
    /// Requests whose model has no price: `cost` doesn't include them.
    pub unpriced_requests: u64,
    /// Requests whose usage is an estimate.
    pub estimated_requests: u64,
    /// Requests whose cost isn't exact for any reason.
    pub inexact_requests: u64,
}

impl std::ops::AddAssign for LedgerSums {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.input_tokens += other.input_tokens;
        self.cached_input_tokens += other.cached_input_tokens;
        self.cache_write_tokens += other.cache_write_tokens;
        self.output_tokens += other.output_tokens;
        self.reasoning_tokens += other.reasoning_tokens;
        self.cost += other.cost;
        self.unpriced_requests += other.unpriced_requests;
        self.estimated_requests += other.estimated_requests;
        self.inexact_requests += other.inexact_requests;
    }
}

/// Returns the charge for an attempt that ended at a moment. One without usage costs nothing, with or
/// without a price; a price per request is due only for an answer.
#[must_use]
pub fn bill(price: Option<&Price>, usage: &Usage, answered: bool, at: Timestamp) -> Charge {
    let used = !usage.is_empty();
    if !used && !answered {
        return Charge::free(usage);
    }
    price.map_or_else(|| Charge::unpriced(usage), |price| price.charge(usage, at))
}

/// Stamps an attempt's id with the run of the process, from 0 to 2³¹ - 1, and with `counted` if
/// that run counts its cost for a shared budget. The stamp replaces the last 32 bits, which are
/// random in UUIDs of version 7, so the order is kept.
#[must_use]
pub const fn stamp_run(id: Uuid, run: u32, counted: bool) -> Uuid {
    let stamp = (run << 1) | counted as u32;
    Uuid::from_u128(id.as_u128() >> 32 << 32 | stamp as u128)
}

/// Returns the run that counts the attempt's cost for a shared budget, if one does.
#[must_use]
pub const fn counting_run(id: Uuid) -> Option<u32> {
    let stamp = id.as_u128() as u32;
    if stamp & 1 == 1 {
        Some(stamp >> 1)
    } else {
        None
    }
}

/// Returns the day (UTC) of a timestamp.
#[must_use]
pub fn day(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;
    use crate::price::{Amount, PeriodSpec, Rates};

    fn open_entry() -> OpenEntry {
        let attempt = AttemptStart {
            id: Uuid::nil(),
            request_id: "req".into(),
            number: 1,
            at: "2026-11-24T23:59:59.999999Z".parse().unwrap(),
            key: "k".into(),
            owner: "team".into(),
            end_user: None,
            format: Format::OpenAiChat,
            model_asked: "auto".into(),
            model: Some("fast".into()),
            provider: "openai".into(),
            deployment: "gpt-4o-mini".into(),
            rule: None,
            stream: true,
            revision: 1,
        };
        let estimate = Usage::default().with(Class::Input, 9);
        OpenEntry {
            attempt,
            estimate,
            cost: Cost::Unpriced,
        }
    }

    #[test]
    fn days_are_utc() {
        assert_eq!(open_entry().attempt.day(), date(2026, 11, 24));
    }

    #[test]
    fn a_lost_attempt_is_billed_its_estimate() {
        let entry = open_entry().into_interrupted();
        assert_eq!(entry.outcome.ending, AttemptEnd::Interrupted);
        let sums = entry.sums();
        let figures = [
            sums.requests,
            sums.input_tokens,
            sums.unpriced_requests,
            sums.estimated_requests,
        ];
        assert_eq!(figures, [1, 9, 1, 1]);
    }

    #[test]
    fn an_attempt_that_another_followed_counts_no_request() {
        let mut entry = open_entry().into_interrupted();
        entry.outcome.last = false;
        entry.outcome.usage = Usage::default();
        entry.outcome.cost = Cost::Unpriced;
        assert_eq!(entry.sums(), LedgerSums::default());
        entry.outcome.usage.set(Class::Output, 3);
        assert_eq!(entry.sums().unpriced_requests, 1);
    }

    #[test]
    fn the_end_user_is_the_user_else_the_owner() {
        let mut entry = open_entry().into_interrupted();
        assert_eq!(entry.user(), "team");
        entry.attempt.end_user = Some("alice".into());
        assert_eq!(entry.user(), "alice");
    }

    #[test]
    fn nothing_used_costs_nothing_but_an_answer_has_its_price() {
        let amount = |text: &str| Amount::new(text.parse().unwrap()).unwrap();
        let mut rates = Rates::default().with(Class::Input, amount("1"));
        rates.per_request = Some(amount("0.005"));
        let price = Price::new([PeriodSpec::new(date(2026, 1, 1), rates)]);
        let at = "2026-06-01T12:00:00Z".parse().unwrap();
        let (none, some) = (Usage::default(), Usage::default().with(Class::Input, 1));
        let usd = |text: &str| Cost::Usd(text.parse().unwrap());
        for (price, usage, answered, cost) in [
            (None, &none, false, usd("0")),
            (None, &none, true, Cost::Unpriced),
            (None, &some, false, Cost::Unpriced),
            (Some(&price), &none, false, usd("0")),
            (Some(&price), &none, true, usd("0.005")),
            (Some(&price), &some, true, usd("0.005001")),
        ] {
            assert_eq!(bill(price, usage, answered, at).cost, cost);
        }
    }
}
