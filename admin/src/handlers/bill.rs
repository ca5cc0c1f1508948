//! The bill of an attempt as the API shows it: usage by class, cost by class, the price used and why
//! a cost isn't exact. It must not compute costs.

use std::collections::BTreeMap;

use jiff::civil::Date;
use llm_router_domain::bill::PriceRef;
use llm_router_domain::inexact::{Reason, Reasons};
use llm_router_domain::ledger::LedgerEntry;
use llm_router_domain::usage::{ShortName, Usage, UsagePart};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::handlers::cost::exact_number;

/// Counts by the names of classes or fees.
type Counts = BTreeMap<&'static str, u64>;

/// Usage of one attempt, as it was metered.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct AttemptUsage {
    /// Tokens by class: `input`, `cached_input`, `output`, `reasoning` and so on. They add up to all
    /// tokens.
    #[schema(value_type = BTreeMap<String, u64>)]
    classes: Counts,
    /// Uses by fee: `web_search`, `file_search` and so on.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, u64>)]
    fees: Counts,
    /// Tier that the provider served: `standard`, or its name of another.
    service_tier: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    inference_geo: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    speed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    search_context: Option<String>,
    /// True if the model reasoned.
    thinking: bool,
    /// True if a part of it is an estimate.
    estimated: bool,
}

/// Usage that is billed at another model's rates.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct PartRecord {
    model: String,
    usage: AttemptUsage,
}

/// Reference to the price of an attempt.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = PriceReference)]
pub(crate) struct PriceRecord {
    /// The table and its revision, or `reported` for the provider's own figure.
    table: String,
    /// The entry, `provider/model`.
    entry: String,
    /// The first day of the period that held.
    #[schema(value_type = Option<String>, format = Date)]
    from: Option<Date>,
}

/// Bill of one attempt.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct AttemptBill {
    usage: AttemptUsage,
    /// Parts of other models, which `usage` leaves out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<PartRecord>,
    /// Cost with its exact decimal digits; null if a part of it has no price.
    #[schema(value_type = Option<f64>)]
    cost_usd: Option<Box<RawValue>>,
    /// Cost by class and fee; those of a part begin with its model and a space.
    #[schema(value_type = BTreeMap<String, f64>)]
    costs: BTreeMap<String, Box<RawValue>>,
    /// The provider's own figure, where it states one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>)]
    reported_cost_usd: Option<Box<RawValue>>,
    /// Reasons for which the cost isn't exact.
    inexact: Vec<String>,
    price: Option<PriceRecord>,
    /// Model that served, where it isn't the deployment's.
    #[serde(skip_serializing_if = "Option::is_none")]
    served_model: Option<String>,
}

impl From<&LedgerEntry> for AttemptBill {
    fn from(entry: &LedgerEntry) -> Self {
        let (outcome, billing) = (&entry.outcome, &entry.outcome.billing);
        let costs = billing.costs.iter();
        Self {
            usage: AttemptUsage::from(&outcome.usage),
            parts: billing.parts.iter().map(PartRecord::from).collect(),
            cost_usd: outcome.cost.usd().map(exact_number),
            costs: costs
                .map(|(name, usd)| (name.to_string(), exact_number(*usd)))
                .collect(),
            reported_cost_usd: outcome.usage.reported_cost.map(exact_number),
            inexact: names(billing.inexact),
            price: billing.price.as_ref().map(PriceRecord::from),
            served_model: billing.served_model.as_deref().map(str::to_owned),
        }
    }
}

impl From<&Usage> for AttemptUsage {
    fn from(usage: &Usage) -> Self {
        let named = |name: ShortName| (!name.is_empty()).then(|| name.to_string());
        let fees = usage.fees();
        Self {
            classes: usage.iter().map(|(class, n)| (class.name(), n)).collect(),
            fees: fees.map(|(fee, n)| (fee.name(), n.into())).collect(),
            service_tier: usage.service_tier.name().to_owned(),
            inference_geo: named(usage.inference_geo),
            speed: named(usage.speed),
            search_context: named(usage.search_context),
            thinking: usage.thinking,
            estimated: usage.is_estimated(),
        }
    }
}

impl From<&UsagePart> for PartRecord {
    fn from(part: &UsagePart) -> Self {
        Self {
            model: part.model.to_string(),
            usage: AttemptUsage::from(&part.usage),
        }
    }
}

impl From<&PriceRef> for PriceRecord {
    fn from(price: &PriceRef) -> Self {
        Self {
            table: price.table.to_string(),
            entry: price.entry.to_string(),
            from: price.from,
        }
    }
}

/// Returns the names of reasons.
pub(crate) fn names(reasons: Reasons) -> Vec<String> {
    reasons
        .iter()
        .map(|one| Reason::name(one).into_owned())
        .collect()
}

/// Returns the tokens of a request's attempts by class.
pub(crate) fn classes(attempts: &[LedgerEntry]) -> Counts {
    let mut counts = Counts::new();
    for (class, tokens) in attempts.iter().flat_map(|entry| entry.outcome.usage.iter()) {
        *counts.entry(class.name()).or_default() += tokens;
    }
    counts
}
