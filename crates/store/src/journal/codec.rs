//! One record as bytes. A record's variant is its version: fields are never changed, a new layout
//! is a new variant at the end of [`RecordRow`].

use jiff::Timestamp;
use llm_router_domain::bill::Billing;
use llm_router_domain::ledger::{
    AttemptEnd, AttemptOutcome, AttemptStart, Disconnect, LedgerEntry, OpenEntry, RouteExplanation,
    Timings,
};
use llm_router_domain::price::Cost;
use llm_router_domain::usage::{EstimateMethod, Fee, ServiceTier, Usage, UsageSource};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::detail::{self, MAX_DETAIL};
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
    /// A record of a newer version of the router, which this one can't read.
    Newer,
}

/// The number of the last kind of record that this version knows.
const LAST_KIND: u32 = 4;

/// Room for any record: its ten texts are clipped, the rest is numbers; an explanation is one reason
/// and two short lists of names.
pub(crate) const MAX_ENCODED: usize = 10 * (MAX_TEXT + 4) + 512 + MAX_EXPLANATION + MAX_DETAIL + 4;
const MAX_EXPLANATION: usize = (1 + RouteExplanation::MOST) * (RouteExplanation::LONGEST + 4)
    + 2 * RouteExplanation::MOST * (MAX_TEXT + 4);

/// Writes an opened attempt to the beginning of `out`; its length.
pub(crate) fn encode_opened(opened: &OpenEntry, out: &mut [u8]) -> Result<usize, postcard::Error> {
    let opened_row = OpenedRow {
        attempt: AttemptRow::from(&opened.attempt),
        estimate: UsageRow::from(&opened.estimate),
        cost: cost_bytes(opened.cost),
    };
    let detail = detail::usage_text(&opened.estimate);
    let row = match &detail {
        None => RecordRow::Opened(opened_row),
        Some(detail) => RecordRow::OpenedDetailed(OpenedDetailedRow {
            opened: opened_row,
            detail,
        }),
    };
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
    let explanation = entry.outcome.explanation.as_deref();
    let detail = detail::outcome_text(&entry.outcome);
    let row = match (explanation.map(ExplanationRow::from), &detail) {
        (explanation, Some(detail)) => RecordRow::Detailed(DetailedRow {
            settled,
            explanation,
            detail,
        }),
        (None, None) => RecordRow::Settled(settled),
        (Some(explanation), None) => RecordRow::Explained(ExplainedRow {
            settled,
            explanation,
        }),
    };
    postcard::to_slice(&row, out).map(|written| written.len())
}

/// The id of an opened attempt, without reading the rest; none if the record is another.
pub(crate) fn opened_id(bytes: &[u8]) -> Option<Uuid> {
    let ((variant, id), _) = postcard::take_from_bytes::<(u32, [u8; 16])>(bytes).ok()?;
    matches!(variant, 0 | 3).then(|| Uuid::from_bytes(id))
}

/// Reads a record.
pub(crate) fn decode(bytes: &[u8]) -> Result<JournalRecord, StoreError> {
    let kind = postcard::take_from_bytes::<u32>(bytes);
    if kind.is_ok_and(|(kind, _)| kind > LAST_KIND) {
        return Ok(JournalRecord::Newer);
    }
    let row = postcard::from_bytes::<RecordRow<'_>>(bytes)
        .map_err(|error| StoreError::Unreadable(format!("journal record: {error}")))?;
    Ok(match row {
        RecordRow::Opened(row) => JournalRecord::Opened(Box::new(row.into_entry()?)),
        RecordRow::OpenedDetailed(row) => {
            let mut opened = row.opened.into_entry()?;
            detail::put_into(row.detail, &mut opened.estimate, &mut Billing::default());
            JournalRecord::Opened(Box::new(opened))
        }
        RecordRow::Detailed(row) => {
            let mut outcome = row.settled.outcome.into_outcome();
            detail::put_into(row.detail, &mut outcome.usage, &mut outcome.billing);
            outcome.explanation = row.explanation.map(|row| Box::new(row.into()));
            JournalRecord::Settled(Box::new(LedgerEntry {
                attempt: row.settled.attempt.into_attempt()?,
                outcome,
            }))
        }
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
    #[serde(borrow)]
    OpenedDetailed(OpenedDetailedRow<'a>),
    #[serde(borrow)]
    Detailed(DetailedRow<'a>),
}

#[derive(Serialize, Deserialize)]
struct OpenedDetailedRow<'a> {
    #[serde(borrow)]
    opened: OpenedRow<'a>,
    detail: &'a str,
}

#[derive(Serialize, Deserialize)]
struct DetailedRow<'a> {
    #[serde(borrow)]
    settled: SettledRow<'a>,
    #[serde(borrow)]
    explanation: Option<ExplanationRow<'a>>,
    detail: &'a str,
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

impl OpenedRow<'_> {
    fn into_entry(self) -> Result<OpenEntry, StoreError> {
        Ok(OpenEntry {
            attempt: self.attempt.into_attempt()?,
            estimate: self.estimate.into_usage(),
            cost: cost_from(self.cost),
        })
    }
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
            billing: Billing::default(),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> LedgerEntry {
        let attempt = AttemptStart {
            id: Uuid::from_u128(7),
            request_id: "r".into(),
            number: 1,
            at: Timestamp::from_microsecond(1_790_000_000_000_000).unwrap(),
            key: "k".into(),
            owner: "o".into(),
            end_user: None,
            format: llm_router_domain::format::Format::OpenAiChat,
            model_asked: "m".into(),
            model: None,
            provider: "p".into(),
            deployment: "d".into(),
            rule: None,
            stream: false,
            revision: 1,
        };
        let usage = Usage::default()
            .with(llm_router_domain::usage::Class::Input, 300)
            .with(llm_router_domain::usage::Class::ImageOutput, 5)
            .with_uses(Fee::WebSearch, 2);
        let outcome = AttemptOutcome {
            usage,
            cost: Cost::Usd(Decimal::new(105, 4)),
            billing: Billing::default(),
            status: 200,
            error: None,
            timings: Timings::default(),
            ending: AttemptEnd::Complete,
            disconnect: None,
            last: true,
            explanation: None,
        };
        LedgerEntry { attempt, outcome }
    }

    /// Written by a version that knew no details of bills.
    const OLD: &str = "01000000000000000000000000000000070172018080afa2dbffad06016b016f000b6f70656e6169\
        2d63686174016d0001700164000001ac020000000000000000000005020000010000040069000000\
        0000000000000000c8010000000000000001";

    #[test]
    fn records_of_older_versions_read_as_they_were() {
        let bytes: Vec<u8> = (0..OLD.len() / 2)
            .map(|at| u8::from_str_radix(&OLD[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let read = decode(&bytes).unwrap();
        assert_eq!(read, JournalRecord::Settled(Box::new(entry())));
    }

    #[test]
    fn records_of_newer_versions_are_told_from_damaged_ones() {
        let mut out = vec![0; MAX_ENCODED];
        let length = encode_settled(&entry(), &mut out).unwrap();
        out.truncate(length);
        out[0] = u8::try_from(LAST_KIND + 1).unwrap();
        assert_eq!(decode(&out).unwrap(), JournalRecord::Newer);
        out[0] = 4;
        assert!(decode(&out).is_err());
    }

    #[test]
    fn the_longest_detail_has_room() {
        let mut entry = entry();
        entry.outcome.billing.parts = (0..20)
            .map(|number| llm_router_domain::usage::UsagePart {
                model: format!("{number}{}", "\u{1}".repeat(300)).into(),
                usage: entry.outcome.usage,
            })
            .collect();
        let mut out = vec![0; MAX_ENCODED];
        assert!(encode_settled(&entry, &mut out).is_ok());
    }
}
