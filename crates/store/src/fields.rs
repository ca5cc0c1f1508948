//! An entry as the columns both databases have. It must not speak SQL.

use jiff::Timestamp;
use llm_router_domain::bill::Billing;
use llm_router_domain::format::Format;
use llm_router_domain::ledger::{
    AttemptEnd, AttemptOutcome, AttemptStart, Disconnect, LedgerEntry, RouteExplanation, Timings,
};
use llm_router_domain::price::Cost;
use llm_router_domain::usage::{Class, EstimateMethod, Fee, ServiceTier, Usage, UsageSource};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::detail;
use crate::error::StoreError;

/// The columns of `entries` that both databases have in common, in the order of [`UsageFields`]; the
/// cost, which each keeps in its own way, comes after them.
pub(crate) const COLUMNS: &str = "id, request_id, attempt, last, at, key, owner, end_user, format, \
     model_asked, model, provider, deployment, rule, stream, revision, input, cached_input, \
     cache_write_5m, cache_write_1h, audio_input, image_input, output, reasoning, \
     accepted_prediction, rejected_prediction, audio_output, image_output, web_searches, \
     service_tier, estimated, status, error, queue_us, connect_us, first_token_us, total_us, \
     ending, disconnect, explanation, cached_audio_input, cached_image_input, cache_write_30m, \
     cache_write_12h, citation, inexact, served_model, detail";

/// Classes of tokens that have a column of their own, in the order of [`COLUMNS`].
pub(crate) const CLASSES: [Class; 12] = [
    Class::Input,
    Class::CacheRead,
    Class::CacheWrite5m,
    Class::CacheWrite1h,
    Class::AudioInput,
    Class::ImageInput,
    Class::Output,
    Class::Reasoning,
    Class::AcceptedPrediction,
    Class::RejectedPrediction,
    Class::AudioOutput,
    Class::ImageOutput,
];

/// Classes whose columns came later, in the order of [`COLUMNS`]. Entries are read from their
/// detail; the columns are for sums.
pub(crate) const LATER_CLASSES: [Class; 5] = [
    Class::CachedAudioInput,
    Class::CachedImageInput,
    Class::CacheWrite30m,
    Class::CacheWrite12h,
    Class::Citation,
];

/// Number of columns in [`COLUMNS`].
pub(crate) const COLUMN_COUNT: usize = 48;

/// A row as read.
pub(crate) struct UsageFields {
    pub(crate) id: Uuid,
    pub(crate) request_id: String,
    pub(crate) attempt: i64,
    pub(crate) last: bool,
    pub(crate) at: Timestamp,
    pub(crate) key: String,
    pub(crate) owner: String,
    pub(crate) end_user: Option<String>,
    pub(crate) format: String,
    pub(crate) model_asked: String,
    pub(crate) model: Option<String>,
    pub(crate) provider: String,
    pub(crate) deployment: String,
    pub(crate) rule: Option<String>,
    pub(crate) stream: bool,
    pub(crate) revision: i64,
    pub(crate) tokens: [i64; CLASSES.len()],
    pub(crate) web_searches: i64,
    pub(crate) service_tier: Option<String>,
    pub(crate) estimated: Option<String>,
    pub(crate) status: i64,
    pub(crate) error: Option<String>,
    pub(crate) timings: [Option<i64>; 4],
    pub(crate) ending: String,
    pub(crate) disconnect: Option<String>,
    pub(crate) explanation: Option<String>,
    pub(crate) detail: Option<String>,
    pub(crate) cost: Option<Decimal>,
}

impl UsageFields {
    pub(crate) fn into_entry(self) -> Result<LedgerEntry, StoreError> {
        let mut usage = self.usage()?;
        let mut billing = Billing::default();
        if let Some(text) = &self.detail {
            detail::put_into(text, &mut usage, &mut billing);
        }
        let ending = AttemptEnd::ALL
            .into_iter()
            .find(|ending| ending.name() == self.ending);
        let disconnect = [Disconnect::Cancel, Disconnect::Drain]
            .into_iter()
            .find(|policy| Some(policy.name()) == self.disconnect.as_deref());
        let [queue, connect, first_token, total] = self
            .timings
            .map(|time| time.and_then(|us| u32::try_from(us).ok()));
        let outcome = AttemptOutcome {
            usage,
            cost: self.cost.map_or(Cost::Unpriced, Cost::Usd),
            billing,
            status: u16::try_from(self.status).unwrap_or_default(),
            error: self.error.map(Into::into),
            timings: Timings {
                queue,
                connect,
                first_token,
                total,
            },
            ending: ending.ok_or_else(|| unreadable("ending", &self.ending))?,
            disconnect,
            last: self.last,
            explanation: self.explanation.as_deref().and_then(explanation_from),
        };
        let attempt = AttemptStart {
            id: self.id,
            request_id: self.request_id.into(),
            number: u16::try_from(self.attempt).unwrap_or(u16::MAX),
            at: self.at,
            key: self.key.into(),
            owner: self.owner.into(),
            end_user: self.end_user.map(Into::into),
            format: format_named(&self.format)?,
            model_asked: self.model_asked.into(),
            model: self.model.map(Into::into),
            provider: self.provider.into(),
            deployment: self.deployment.into(),
            rule: self.rule.map(Into::into),
            stream: self.stream,
            revision: u64::try_from(self.revision).unwrap_or_default(),
        };
        Ok(LedgerEntry { attempt, outcome })
    }

    fn usage(&self) -> Result<Usage, StoreError> {
        let mut usage = Usage::default();
        for (class, tokens) in CLASSES.into_iter().zip(self.tokens) {
            usage.set(class, u64::try_from(tokens).unwrap_or_default());
        }
        let searches = u64::try_from(self.web_searches).unwrap_or_default();
        usage.set_uses(Fee::WebSearch, searches);
        usage.service_tier = self
            .service_tier
            .as_deref()
            .map_or_else(Default::default, ServiceTier::from_name);
        if let Some(name) = &self.estimated {
            let method =
                EstimateMethod::from_name(name).ok_or_else(|| unreadable("estimated", name))?;
            usage.source = UsageSource::Estimated(method);
        }
        Ok(usage)
    }
}

/// An explanation as it is stored.
pub(crate) fn explanation_text(entry: &LedgerEntry) -> Option<String> {
    let explanation = entry.outcome.explanation.as_deref()?;
    serde_json::to_string(explanation).ok()
}

/// One that doesn't read is none: the entry counts without it.
pub(crate) fn explanation_from(text: &str) -> Option<Box<RouteExplanation>> {
    serde_json::from_str(text).ok()
}

/// The names of the reasons for which an entry isn't exact, or none.
pub(crate) fn inexact_text(entry: &LedgerEntry) -> Option<String> {
    let inexact = entry.outcome.billing.inexact;
    (!inexact.is_empty()).then(|| inexact.to_text())
}

/// The tier's name, or none for the standard one.
pub(crate) fn service_tier(usage: &Usage) -> Option<&str> {
    Some(&usage.service_tier)
        .filter(|tier| !tier.is_standard())
        .map(ServiceTier::name)
}

/// The method's name, or none where usage was reported.
pub(crate) const fn estimate_method(usage: &Usage) -> Option<&'static str> {
    match usage.source {
        UsageSource::Reported => None,
        UsageSource::Estimated(method) => Some(method.name()),
    }
}

/// A count as the databases' signed integer; counts are capped far below its limit.
pub(crate) fn to_i64(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

pub(crate) fn format_named(name: &str) -> Result<Format, StoreError> {
    let found = Format::ALL.into_iter().find(|format| format.name() == name);
    found.ok_or_else(|| unreadable("format", name))
}

fn unreadable(column: &str, value: &str) -> StoreError {
    StoreError::Unreadable(format!("`{value}` in {column}"))
}
