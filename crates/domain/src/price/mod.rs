//! Prices of models, dated, and the exact cost of a usage. It must not hold any actual price; reading
//! a prices file belongs to `llm-router-prices`.

mod amount;
mod charge;
mod hours;
mod period;
mod rates;
mod table;

use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;

pub use amount::{Amount, AmountError, Factor, FactorError, MAX_FACTOR, MAX_PRICE, MAX_SCALE};
pub use charge::{Charge, PriceUsed};
pub use hours::HourWindow;
pub use period::{FactorKind, PeriodSpec, PricePeriod, SearchContextFees};
pub use rates::{RateChange, RateLadder, Rates, Threshold};
pub use table::{PriceTable, ServedPrice};

use crate::usage::Usage;

/// Every price a model has had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Price {
    periods: Arc<[PricePeriod]>,
    /// Name of the entry.
    entry: Arc<str>,
    /// Name of the table's revision.
    table: Arc<str>,
    /// Multiplies all of it: a provider's discount or uplift.
    factor: Factor,
}

impl Price {
    /// A price of these periods.
    #[must_use]
    pub fn new(periods: impl IntoIterator<Item = impl Into<PricePeriod>>) -> Self {
        let mut periods: Vec<PricePeriod> = periods.into_iter().map(Into::into).collect();
        periods.sort_by_key(|period| period.from);
        Self {
            periods: periods.into(),
            ..Self::default()
        }
    }

    /// The period that holds on a day.
    #[must_use]
    pub fn on(&self, day: Date) -> Option<&PricePeriod> {
        self.periods.iter().rev().find(|period| period.from <= day)
    }

    /// Every period, the oldest first.
    #[must_use]
    pub fn periods(&self) -> &[PricePeriod] {
        &self.periods
    }

    /// The number that the whole price is multiplied by.
    #[must_use]
    pub const fn factor(&self) -> Factor {
        self.factor
    }

    /// The exact charge for a usage at a moment, with its parts and what isn't exact about it.
    #[must_use]
    pub fn charge(&self, usage: &Usage, at: Timestamp) -> Charge {
        let Some(period) = self.on(charge::day_of(at)) else {
            return Charge::unpriced(usage);
        };
        let mut charge = period.charge(usage, at, self.factor);
        charge.price = Some(PriceUsed {
            table: Arc::clone(&self.table),
            entry: Arc::clone(&self.entry),
            from: period.from,
        });
        charge
    }

    /// The exact cost of a usage at a moment.
    #[must_use]
    pub fn cost(&self, usage: &Usage, at: Timestamp) -> Cost {
        self.charge(usage, at).cost
    }

    /// The most that a usage can cost on the day of a moment, whatever tier, mode, region, speed or
    /// hour it ends in.
    #[must_use]
    pub fn bound(&self, usage: &Usage, at: Timestamp) -> Cost {
        let period = self.on(charge::day_of(at));
        period.map_or(Cost::Unpriced, |period| period.bound(usage, self.factor))
    }

    /// The price under the name of its entry.
    fn named(self, entry: &str) -> Self {
        Self {
            entry: entry.into(),
            ..self
        }
    }

    fn in_table(&self, revision: &Arc<str>) -> Self {
        Self {
            table: Arc::clone(revision),
            ..self.clone()
        }
    }

    fn scaled(&self, factor: Factor) -> Self {
        Self {
            factor,
            ..self.clone()
        }
    }
}

/// Cost of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Exactly this much.
    Usd(Decimal),
    /// No price is known. It is not zero.
    Unpriced,
}

impl Cost {
    /// The amount, if there is a price.
    #[must_use]
    pub const fn usd(self) -> Option<Decimal> {
        match self {
            Self::Usd(usd) => Some(usd),
            Self::Unpriced => None,
        }
    }

    /// The cost with an amount added, if there is a price.
    fn plus(self, usd: Decimal) -> Self {
        match self {
            Self::Usd(cost) => Self::Usd((cost + usd).normalize()),
            Self::Unpriced => Self::Unpriced,
        }
    }
}

#[cfg(test)]
mod tests;
