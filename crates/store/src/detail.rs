//! What an entry has beside the columns that every entry fills, as one JSON text: in the journal and
//! in the store the same. It must not hold what has a column of its own in both.

use std::collections::BTreeMap;

use jiff::civil::Date;
use llm_router_domain::bill::{Billing, PriceRef};
use llm_router_domain::inexact::Reasons;
use llm_router_domain::ledger::AttemptOutcome;
use llm_router_domain::usage::{Class, Fee, ServiceTier, ShortName, Usage, UsagePart};
use rust_decimal::Decimal;
use serde::{Deserialize, Serialize};

use crate::fields::CLASSES;

/// The longest text. Counts of parts and lengths of names are bounded far below it.
pub(crate) const MAX_DETAIL: usize = 32 << 10;

/// The longest model of a part, and that served.
const MAX_NAME: usize = 256;

/// What has no column.
#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct Detail {
    #[serde(flatten)]
    usage: UsageDetail,
    #[serde(skip_serializing_if = "String::is_empty")]
    inexact: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    served_model: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<PriceDetail>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    costs: Vec<(String, Decimal)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    parts: Vec<PartDetail>,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct UsageDetail {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tokens: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    uses: BTreeMap<String, u32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    service_tier: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    inference_geo: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    speed: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    search_context: String,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    thinking: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reported_cost: Option<Decimal>,
    /// Reasons of the meter, without those of the price.
    #[serde(skip_serializing_if = "String::is_empty")]
    unread: String,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct PriceDetail {
    table: String,
    entry: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<Date>,
}

#[derive(PartialEq, Serialize, Deserialize)]
struct PartDetail {
    model: String,
    #[serde(flatten)]
    usage: UsageDetail,
}

/// Returns the detail of an outcome, or none if there is nothing to say.
pub(crate) fn outcome_text(outcome: &AttemptOutcome) -> Option<String> {
    let billing = &outcome.billing;
    let detail = Detail {
        usage: beside_columns(&outcome.usage),
        inexact: billing.inexact.to_text(),
        served_model: billing.served_model.as_deref().map(clip),
        price: billing.price.as_ref().map(|price| PriceDetail {
            table: clip(&price.table),
            entry: clip(&price.entry),
            from: price.from,
        }),
        costs: billing
            .costs
            .iter()
            .map(|(name, usd)| (clip(name), *usd))
            .collect(),
        parts: billing.parts.iter().map(part_detail).collect(),
    };
    text(&detail)
}

/// Returns the detail of an estimate, or none if there is nothing to say.
pub(crate) fn usage_text(usage: &Usage) -> Option<String> {
    text(&Detail {
        usage: beside_columns(usage),
        ..Detail::default()
    })
}

fn text(detail: &Detail) -> Option<String> {
    if *detail == Detail::default() {
        return None;
    }
    let text = serde_json::to_string(detail).ok();
    text.filter(|text| text.len() <= MAX_DETAIL)
}

/// Puts a detail into a usage and a bill. One that doesn't read leaves them as they are: the entry
/// counts without it.
pub(crate) fn put_into(text: &str, usage: &mut Usage, billing: &mut Billing) {
    let Ok(detail) = serde_json::from_str::<Detail>(text) else {
        return;
    };
    detail.usage.put_into(usage);
    *billing = Billing {
        parts: detail
            .parts
            .into_iter()
            .map(PartDetail::into_part)
            .collect(),
        served_model: detail.served_model.map(Into::into),
        inexact: Reasons::from_text(&detail.inexact),
        price: detail.price.map(|price| PriceRef {
            table: price.table.into(),
            entry: price.entry.into(),
            from: price.from,
        }),
        costs: detail
            .costs
            .into_iter()
            .map(|(name, usd)| (name.into(), usd))
            .collect(),
    };
}

/// The detail of a usage whose other parts have columns.
fn beside_columns(usage: &Usage) -> UsageDetail {
    let mut detail = whole(usage);
    for class in CLASSES {
        detail.tokens.remove(class.name());
    }
    detail.uses.remove(Fee::WebSearch.name());
    detail.service_tier.clear();
    detail
}

fn whole(usage: &Usage) -> UsageDetail {
    let named = |(class, tokens): (Class, u64)| (class.name().to_owned(), tokens);
    UsageDetail {
        tokens: usage.iter().map(named).collect(),
        uses: usage
            .fees()
            .map(|(fee, uses)| (fee.name().to_owned(), uses))
            .collect(),
        service_tier: if usage.service_tier.is_standard() {
            String::new()
        } else {
            usage.service_tier.name().to_owned()
        },
        inference_geo: usage.inference_geo.to_string(),
        speed: usage.speed.to_string(),
        search_context: usage.search_context.to_string(),
        thinking: usage.thinking,
        reported_cost: usage.reported_cost,
        unread: usage.inexact.to_text(),
    }
}

fn part_detail(part: &UsagePart) -> PartDetail {
    PartDetail {
        model: clip(&part.model),
        usage: whole(&part.usage),
    }
}

impl PartDetail {
    fn into_part(self) -> UsagePart {
        let mut usage = Usage::default();
        self.usage.put_into(&mut usage);
        UsagePart {
            model: self.model.into(),
            usage,
        }
    }
}

impl UsageDetail {
    fn put_into(self, usage: &mut Usage) {
        for (name, tokens) in self.tokens {
            if let Some(class) = Class::from_name(&name) {
                usage.set(class, tokens);
            }
        }
        for (name, uses) in self.uses {
            if let Some(fee) = Fee::from_name(&name) {
                usage.set_uses(fee, uses.into());
            }
        }
        if !self.service_tier.is_empty() {
            usage.service_tier = ServiceTier::from_name(&self.service_tier);
        }
        usage.inference_geo = ShortName::new(&self.inference_geo);
        usage.speed = ShortName::new(&self.speed);
        usage.search_context = ShortName::new(&self.search_context);
        usage.thinking = self.thinking;
        usage.reported_cost = self.reported_cost;
        usage.inexact = Reasons::from_text(&self.unread);
    }
}

/// The beginning of a name, cut at a character.
fn clip(name: &str) -> String {
    let end = name.floor_char_boundary(MAX_NAME);
    name.get(..end).unwrap_or(name).to_owned()
}
