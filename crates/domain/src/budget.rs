//! Budgets: money ceilings per period. An estimate is reserved before a call, its cost is settled
//! after it, and a reservation that is never settled expires. It must not know what a call costs
//! nor where spending is kept.

mod local;
mod margin;
pub mod replica;
pub mod shared;
mod typical;

use std::fmt;

use jiff::civil::{Date, Weekday};
use jiff::{Timestamp, ToSpan};
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ledger;

pub use local::{BudgetExceeded, LocalBudgets};
pub use margin::InputMargin;
pub use typical::TypicalOutput;

/// The time that a budget is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Period {
    /// A day in UTC.
    Day,
    /// A week in UTC, beginning on Monday.
    Week,
    /// A calendar month in UTC.
    Month,
    /// The whole life of the key or owner.
    Total,
}

impl Period {
    /// Every period.
    pub const ALL: [Self; 4] = [Self::Day, Self::Week, Self::Month, Self::Total];

    /// Returns the name used in the config.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Total => "total",
        }
    }

    /// Returns the first day of the period that contains `now`; none for [`Self::Total`].
    #[must_use]
    pub fn start(self, now: Timestamp) -> Option<Date> {
        let today = ledger::day(now);
        match self {
            Self::Day => Some(today),
            Self::Week => {
                let since_monday = i32::from(today.weekday().since(Weekday::Monday));
                today.checked_sub(since_monday.days()).ok()
            }
            Self::Month => Some(today.first_of_month()),
            Self::Total => None,
        }
    }

    /// Returns the first day of the next period; none for [`Self::Total`].
    #[must_use]
    pub fn next_start(self, now: Timestamp) -> Option<Date> {
        let start = self.start(now)?;
        let span = match self {
            Self::Day => 1.day(),
            Self::Week => 1.week(),
            Self::Month => 1.month(),
            Self::Total => return None,
        };
        start.checked_add(span).ok()
    }
}

/// A money ceiling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// USD that may be spent in a period.
    pub usd: Decimal,
    /// The period.
    pub period: Period,
}

/// Account whose spending is limited.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Account {
    /// One key, by its id.
    Key(Box<str>),
    /// All keys of an owner.
    Owner(Box<str>),
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(id) => write!(f, "key {id}"),
            Self::Owner(name) => write!(f, "owner {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn periods_begin_in_utc_and_weeks_on_monday() {
        for (period, now, start, next) in [
            (
                Period::Day,
                "2026-11-24T00:00:00Z",
                date(2026, 11, 24),
                date(2026, 11, 25),
            ),
            (
                Period::Week,
                "2026-11-24T12:00:00Z",
                date(2026, 11, 23),
                date(2026, 11, 30),
            ),
            (
                Period::Week,
                "2026-11-23T00:00:00Z",
                date(2026, 11, 23),
                date(2026, 11, 30),
            ),
            (
                Period::Week,
                "2026-11-22T23:59:59Z",
                date(2026, 11, 16),
                date(2026, 11, 23),
            ),
            (
                Period::Month,
                "2026-12-31T23:59:59Z",
                date(2026, 12, 1),
                date(2027, 1, 1),
            ),
        ] {
            let now = now.parse().unwrap();
            assert_eq!(
                (period.start(now), period.next_start(now)),
                (Some(start), Some(next))
            );
        }
        assert_eq!(Period::Total.start(Timestamp::UNIX_EPOCH), None);
    }
}
