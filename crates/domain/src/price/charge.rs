//! What a usage costs at a price, line by line. It must not know where prices come from.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use rust_decimal::Decimal;

use super::Cost;
use super::amount::{Factor, TOKENS_PER_PRICE, USES_PER_PRICE};
use super::period::PricePeriod;
use super::rates::Rates;
use crate::inexact::{Reason, Reasons};
use crate::usage::{Class, Fee, Usage};

/// The price that a charge was computed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PriceUsed {
    /// Name of the table's revision.
    pub table: Arc<str>,
    /// Name of the entry, `provider/model`.
    pub entry: Arc<str>,
    /// First day of the period.
    pub from: Date,
}

/// The cost of a usage with its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The sum of the parts; unpriced if there is no price for a part of it.
    pub cost: Cost,
    by_class: [Decimal; Class::COUNT],
    by_fee: [Decimal; Fee::COUNT],
    /// USD for the request as such.
    pub request: Decimal,
    /// Reasons for which the sum isn't exactly what the provider bills, those of the usage included.
    pub inexact: Reasons,
    /// The price used, if there is one.
    pub price: Option<PriceUsed>,
}

impl Charge {
    /// A charge without a price.
    #[must_use]
    pub fn unpriced(usage: &Usage) -> Self {
        Self {
            cost: Cost::Unpriced,
            by_class: [Decimal::ZERO; Class::COUNT],
            by_fee: [Decimal::ZERO; Fee::COUNT],
            request: Decimal::ZERO,
            inexact: usage.inexact,
            price: None,
        }
    }

    /// A charge for nothing.
    #[must_use]
    pub fn free(usage: &Usage) -> Self {
        Self {
            cost: Cost::Usd(Decimal::ZERO),
            ..Self::unpriced(usage)
        }
    }

    /// The parts that aren't 0, in USD, by the names of classes and fees; `request` is the price of
    /// the request as such.
    pub fn parts(&self) -> impl Iterator<Item = (&'static str, Decimal)> {
        let classes = Class::ALL.into_iter().map(Class::name).zip(self.by_class);
        let fees = Fee::ALL.into_iter().map(Fee::name).zip(self.by_fee);
        classes
            .chain(fees)
            .chain([("request", self.request)])
            .filter(|(_, usd)| !usd.is_zero())
    }

    /// USD for the tokens of a class.
    #[must_use]
    pub fn of_class(&self, class: Class) -> Decimal {
        self.by_class
            .get(class as usize)
            .copied()
            .unwrap_or_default()
    }

    /// USD for the uses of a fee.
    #[must_use]
    pub fn of_fee(&self, fee: Fee) -> Decimal {
        self.by_fee.get(fee as usize).copied().unwrap_or_default()
    }
}

impl PricePeriod {
    /// The charge for a usage at a moment. `factor` multiplies all of it.
    pub(super) fn charge(&self, usage: &Usage, at: Timestamp, factor: Factor) -> Charge {
        let mut inexact = usage.inexact;
        let of_tokens = self.factor(usage, at, &mut inexact).and(factor);
        let mut charge = match self.ladder(usage) {
            Some(ladder) => rows_charge(ladder.at(usage.input_total()), usage, of_tokens, factor),
            None => {
                inexact.add(Reason::UnknownServiceTier);
                self.dearest_row(usage, of_tokens, factor)
            }
        };
        if let Some(fee) = self.search_context_fee(usage, &mut inexact) {
            let usd = fee.scaled(factor).times(1, USES_PER_PRICE);
            charge.request += usd;
            charge.cost = charge.cost.plus(usd);
        }
        charge.inexact |= inexact;
        charge
    }

    /// The most that the usage can cost at any moment, in any tier, mode, region and speed.
    pub(super) fn bound(&self, usage: &Usage, factor: Factor) -> Cost {
        let of_tokens = self.highest_factor().and(factor);
        let charge = self.dearest_row(usage, of_tokens, factor);
        let mut ignored = Reasons::NONE;
        let fee = self.search_context_fee(usage, &mut ignored);
        let fee = fee.map_or(Decimal::ZERO, |fee| {
            fee.scaled(factor).times(1, USES_PER_PRICE)
        });
        charge.cost.plus(fee)
    }

    /// The highest charge of all tiers and modes.
    fn dearest_row(&self, usage: &Usage, of_tokens: Factor, factor: Factor) -> Charge {
        let input = usage.input_total();
        let charges = self
            .ladders()
            .map(|ladder| rows_charge(ladder.at(input), usage, of_tokens, factor));
        charges
            .max_by_key(|charge| charge.cost.usd())
            .unwrap_or_else(|| Charge::unpriced(usage))
    }
}

/// The charge by one row of figures.
fn rows_charge(rates: &Rates, usage: &Usage, of_tokens: Factor, factor: Factor) -> Charge {
    let mut charge = Charge::unpriced(usage);
    let mut sum = Some(Decimal::ZERO);
    for (class, tokens) in usage.iter() {
        if rates.exact_rate(class).is_none() {
            charge.inexact.add(Reason::MissingRate(class));
        }
        let Some(rate) = rates.rate(class) else {
            sum = None;
            continue;
        };
        let usd = rate.scaled(of_tokens).times(tokens, TOKENS_PER_PRICE);
        if let Some(part) = charge.by_class.get_mut(class as usize) {
            *part = usd.normalize();
        }
        sum = sum.map(|sum| sum + usd);
    }
    for (fee, uses) in usage.fees() {
        let Some(price) = rates.fee(fee) else {
            if fee
                .alternative()
                .and_then(|other| rates.fee(other))
                .is_none()
            {
                charge.inexact.add(Reason::UnpricedTool);
            }
            continue;
        };
        let usd = price.scaled(factor).times(u64::from(uses), USES_PER_PRICE);
        if let Some(part) = charge.by_fee.get_mut(fee as usize) {
            *part = usd.normalize();
        }
        sum = sum.map(|sum| sum + usd);
    }
    if let Some(price) = rates.per_request {
        charge.request = price.scaled(factor).usd();
        sum = sum.map(|sum| sum + charge.request);
    }
    charge.cost = sum.map_or(Cost::Unpriced, |sum| Cost::Usd(sum.normalize()));
    charge
}

/// The day (UTC) of a moment.
pub(super) fn day_of(at: Timestamp) -> Date {
    at.to_zoned(TimeZone::UTC).date()
}
