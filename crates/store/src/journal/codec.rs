//! One record as bytes. A record's variant is its version: fields are never changed, a new layout
//! is a new variant at the end of [`RecordRow`].

use jiff::Timestamp;
use llm_router_domain::ledger::{
    AttemptEnd, AttemptOutcome, AttemptStart, Disconnect, LedgerEntry, OpenEntry, RouteExplanation,
    Timings,
};
use llm_router_domain::price::Cost;
use llm_router_domain::usage::{EstimateMethod, Fee, ServiceTier, Usage, UsageSource};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::StoreError;
use crate::fields::{CLASSES, estimate_method, format_named, service_tier};

/// Texts that come from clients are cut off here, in bytes.
const MAX_TEXT: usize = 512;

/// A record as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JournalRecord {
    /// An attempt goes upstream.
    Opened(Box<OpenEntry>),
    /// It has ended.
    Settled(Box<LedgerEntry>),
}

/// Room for any record: its ten texts are clipped, the rest is numbers; an explanation is one reason
/// and two short lists of names.
pub(crate) const MAX_ENCODED: usize = 10 * (MAX_TEXT + 4) + 512 + MAX_EXPLANATION;
const MAX_EXPLANATION: usize = (1 + RouteExplanation::MOST) * (RouteExplanation::LONGEST + 4)
    + 2 * RouteExplanation::MOST * (MAX_TEXT + 4);

/// Writes an opened attempt to the beginning of `out`; its length.
pub(crate) fn encode_opened(opened: &OpenEntry, out: &mut [u8]) -> Result<usize, postcard::Error> {
    let row = RecordRow::Opened(OpenedRow {
        attempt: AttemptRow::from(&opened.attempt),
        estimate: UsageRow::from(&opened.estimate),
        cost: cost_bytes(opened.cost),
    });
    postcard::to_slice(&row, out).map(|written| written.len())
}

/// Writes a settled entry to the beginning of `out`; its length.
pub(crate) fn encode_settled(
    entry: &LedgerEntry,
    out: &mut [u8],
) -> Result<usize, postcard::Error> {
    let settled = SettledRow {
        attempt: AttemptRow::from(&entry.attempt),
        outcome: OutcomeRow::from(&entry.outcome),
    };
    let row = match &entry.outcome.explanation {
        None => RecordRow::Settled(settled),
        Some(explanation) => RecordRow::Explained(ExplainedRow {
            settled,
            explanation: ExplanationRow::from(&**explanation),
        }),
    };
    postcard::to_slice(&row, out).map(|written| written.len())
}

/// The id of an opened attempt, without reading the rest; none if the record is another.
pub(crate) fn opened_id(bytes: &[u8]) -> Option<Uuid> {
    let ((variant, id), _) = postcard::take_from_bytes::<(u32, [u8; 16])>(bytes).ok()?;
    (variant == 0).then(|| Uuid::from_bytes(id))
}

/// Reads a record.
pub(crate) fn decode(bytes: &[u8]) -> Result<JournalRecord, StoreError> {
    let row = postcard::from_bytes::<RecordRow<'_>>(bytes)
        .map_err(|error| StoreError::Unreadable(format!("journal record: {error}")))?;
    Ok(match row {
        RecordRow::Opened(row) => JournalRecord::Opened(Box::new(OpenEntry {
            attempt: row.attempt.into_attempt()?,
            estimate: row.estimate.into_usage(),
            cost: cost_from(row.cost),
        })),
        RecordRow::Settled(row) => JournalRecord::Settled(Box::new(LedgerEntry {
            attempt: row.attempt.into_attempt()?,
            outcome: row.outcome.into_outcome(),
        })),
        RecordRow::Explained(row) => JournalRecord::Settled(Box::new(LedgerEntry {
            attempt: row.settled.attempt.into_attempt()?,
            outcome: AttemptOutcome {
                explanation: Some(Box::new(row.explanation.into())),
                ..row.settled.outcome.into_outcome()
            },
        })),
    })
}

#[derive(Serialize, Deserialize)]
enum RecordRow<'a> {
    #[serde(borrow)]
    Opened(OpenedRow<'a>),
    #[serde(borrow)]
    Settled(SettledRow<'a>),
    #[serde(borrow)]
    Explained(ExplainedRow<'a>),
}

#[derive(Serialize, Deserialize)]
struct OpenedRow<'a> {
    #[serde(borrow)]
    attempt: AttemptRow<'a>,
    #[serde(borrow)]
    estimate: UsageRow<'a>,
    cost: Option<[u8; 16]>,
}

#[derive(Serialize, Deserialize)]
struct SettledRow<'a> {
    #[serde(borrow)]
    attempt: AttemptRow<'a>,
    #[serde(borrow)]
    outcome: OutcomeRow<'a>,
}

#[derive(Serialize, Deserialize)]
struct AttemptRow<'a> {
    id: [u8; 16],
    request_id: &'a str,
    number: u16,
    at: i64,
    key: &'a str,
    owner: &'a str,
    end_user: Option<&'a str>,
    format: &'a str,
    model_asked: &'a str,
    model: Option<&'a str>,
    provider: &'a str,
    deployment: &'a str,
    rule: Option<&'a str>,
    stream: bool,
    revision: u64,
}

#[derive(Serialize, Deserialize)]
struct UsageRow<'a> {
    tokens: [u64; 12],
    web_searches: u64,
    service_tier: Option<&'a str>,
    estimated: Option<&'a str>,
}

#[derive(Serialize, Deserialize)]
struct OutcomeRow<'a> {
    #[serde(borrow)]
    usage: UsageRow<'a>,
    cost: Option<[u8; 16]>,
    status: u16,
    error: Option<&'a str>,
    timings: [Option<u32>; 4],
    ending: u8,
    disconnect: Option<u8>,
    last: bool,
}

#[derive(Serialize, Deserialize)]
struct ExplainedRow<'a> {
    #[serde(borrow)]
    settled: SettledRow<'a>,
    #[serde(borrow)]
    explanation: ExplanationRow<'a>,
}

#[derive(Serialize, Deserialize)]
struct ExplanationRow<'a> {
    why: &'a str,
    #[serde(borrow)]
    candidates: Vec<&'a str>,
    #[serde(borrow)]
    left_out: Vec<(&'a str, &'a str)>,
}

impl<'a> From<&'a RouteExplanation> for ExplanationRow<'a> {
    fn from(explanation: &'a RouteExplanation) -> Self {
        let left_out = explanation.left_out.iter();
        Self {
            why: clip(&explanation.why),
            candidates: explanation.candidates.iter().map(|one| clip(one)).collect(),
            left_out: left_out.map(|(one, why)| (clip(one), clip(why))).collect(),
        }
    }
}

impl From<ExplanationRow<'_>> for RouteExplanation {
    fn from(row: ExplanationRow<'_>) -> Self {
        let left_out = row.left_out.into_iter();
        Self {
            why: row.why.into(),
            candidates: row.candidates.into_iter().map(Into::into).collect(),
            left_out: left_out
                .map(|(one, why)| (one.into(), why.into()))
                .collect(),
        }
    }
}

impl<'a> From<&'a AttemptStart> for AttemptRow<'a> {
    fn from(attempt: &'a AttemptStart) -> Self {
        Self {
            id: attempt.id.into_bytes(),
            request_id: clip(&attempt.request_id),
            number: attempt.number,
            at: attempt.at.as_microsecond(),
            key: clip(&attempt.key),
            owner: clip(&attempt.owner),
            end_user: attempt.end_user.as_deref().map(clip),
            format: attempt.format.name(),
            model_asked: clip(&attempt.model_asked),
            model: attempt.model.as_deref().map(clip),
            provider: clip(&attempt.provider),
            deployment: clip(&attempt.deployment),
            rule: attempt.rule.as_deref().map(clip),
            stream: attempt.stream,
            revision: attempt.revision,
        }
    }
}

impl AttemptRow<'_> {
    fn into_attempt(self) -> Result<AttemptStart, StoreError> {
        Ok(AttemptStart {
            id: Uuid::from_bytes(self.id),
            request_id: self.request_id.into(),
            number: self.number,
            at: Timestamp::from_microsecond(self.at).unwrap_or_default(),
            key: self.key.into(),
            owner: self.owner.into(),
            end_user: self.end_user.map(Into::into),
            format: format_named(self.format)?,
            model_asked: self.model_asked.into(),
            model: self.model.map(Into::into),
            provider: self.provider.into(),
            deployment: self.deployment.into(),
            rule: self.rule.map(Into::into),
            stream: self.stream,
            revision: self.revision,
        })
    }
}

impl<'a> From<&'a Usage> for UsageRow<'a> {
    fn from(usage: &'a Usage) -> Self {
        Self {
            tokens: CLASSES.map(|class| usage.get(class)),
            web_searches: u64::from(usage.uses(Fee::WebSearch)),
            service_tier: service_tier(usage),
            estimated: estimate_method(usage),
        }
    }
}

impl UsageRow<'_> {
    fn into_usage(self) -> Usage {
        let mut usage = Usage::default();
        for (class, tokens) in CLASSES.into_iter().zip(self.tokens) {
            usage.set(class, tokens);
        }
        usage.set_uses(Fee::WebSearch, self.web_searches);
        usage.service_tier = self
            .service_tier
            .map_or_else(Default::default, ServiceTier::from_name);
        if let Some(method) = self.estimated.and_then(EstimateMethod::from_name) {
            usage.source = UsageSource::Estimated(method);
        }
        usage
    }
}

impl<'a> From<&'a AttemptOutcome> for OutcomeRow<'a> {
    fn from(outcome: &'a AttemptOutcome) -> Self {
        let timings = &outcome.timings;
        Self {
            usage: UsageRow::from(&outcome.usage),
            cost: cost_bytes(outcome.cost),
            status: outcome.status,
            error: outcome.error.as_deref().map(clip),
            timings: [
                timings.queue,
                timings.connect,
                timings.first_token,
                timings.total,
            ],
            ending: match outcome.ending {
                AttemptEnd::Complete => 0,
                AttemptEnd::Interrupted => 1,
                AttemptEnd::Failed => 2,
            },
            disconnect: outcome
                .disconnect
                .map(|policy| u8::from(policy == Disconnect::Drain)),
            last: outcome.last,
        }
    }
}

impl OutcomeRow<'_> {
    fn into_outcome(self) -> AttemptOutcome {
        let [queue, connect, first_token, total] = self.timings;
        let disconnect = |drain: u8| {
            if drain == 1 {
                Disconnect::Drain
            } else {
                Disconnect::Cancel
            }
        };
        AttemptOutcome {
            usage: self.usage.into_usage(),
            cost: cost_from(self.cost),
            status: self.status,
            error: self.error.map(Into::into),
            timings: Timings {
                queue,
                connect,
                first_token,
                total,
            },
            ending: match self.ending {
                0 => AttemptEnd::Complete,
                1 => AttemptEnd::Interrupted,
                _ => AttemptEnd::Failed,
            },
            disconnect: self.disconnect.map(disconnect),
            last: self.last,
            explanation: None,
        }
    }
}

fn cost_bytes(cost: Cost) -> Option<[u8; 16]> {
    cost.usd().map(|usd| usd.serialize())
}

fn cost_from(bytes: Option<[u8; 16]>) -> Cost {
    bytes.map_or(Cost::Unpriced, |bytes| {
        Cost::Usd(Decimal::deserialize(bytes))
    })
}

/// The beginning of a text, cut at a character.
fn clip(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_TEXT))
        .unwrap_or(text)
}
