//! What replicas ask and tell the book of budgets that they share. Where that book is kept, and how
//! it is reached, is the adapters' business; it must not decide what follows from an answer.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::{Account, Budget, Period};

/// An account's spending in one of its periods: what the shared book has a page for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Line {
    /// Whose spending.
    pub account: Account,
    /// The kind of period.
    pub period: Period,
    /// Its first day; none for [`Period::Total`].
    pub start: Option<Date>,
}

impl Line {
    /// The line of an account that a moment counts for.
    #[must_use]
    pub fn at(account: &Account, budget: &Budget, now: Timestamp) -> Self {
        Self {
            account: account.clone(),
            period: budget.period,
            start: budget.period.start(now),
        }
    }

    /// The name in the shared book: the same on every replica, as in `key:ci:month:2026-11-01`.
    #[must_use]
    pub fn name(&self) -> String {
        let (kind, name) = match &self.account {
            Account::Key(name) => ("key", name),
            Account::Owner(name) => ("owner", name),
        };
        let start = self.start.map(|day| day.to_string()).unwrap_or_default();
        format!("{kind}:{name}:{}:{start}", self.period.name())
    }
}

/// What one run of a process has spent of a line in all. It only grows, so that telling it twice,
/// late or out of order changes nothing.
pub type Spent = (u32, Decimal);

/// How a line stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Spent by all runs.
    pub spent: Decimal,
    /// Held by calls under way.
    pub reserved: Decimal,
}

/// A line that a claim is made on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimLine {
    /// Its name.
    pub name: String,
    /// USD that may be spent.
    pub ceiling: Decimal,
    /// What the run that asks has spent of it.
    pub spent: Decimal,
}

/// A question: may this much be held, on every line or on none?
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The run that asks.
    pub run: u32,
    /// Names the reservation.
    pub id: Uuid,
    /// A reservation that this one takes the place of.
    pub instead: Option<Uuid>,
    /// USD.
    pub amount: Decimal,
    /// After this it is let go by itself.
    pub lasts: Duration,
    /// The lines.
    pub lines: Vec<ClaimLine>,
}

/// The answer to a [`Claim`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claimed {
    /// Nothing was held: the book doesn't know what was spent of some line before.
    Unknown,
    /// It is held.
    Held(Vec<Figures>),
    /// It doesn't fit.
    Exceeded {
        /// The position of the line.
        position: usize,
        /// All lines as they stand.
        figures: Vec<Figures>,
    },
}

/// What is to become of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// None is concerned.
    None,
    /// It is let go.
    Release(Uuid),
    /// It stands, whether or not it fits: the call is under way.
    Hold {
        /// Its name.
        id: Uuid,
        /// USD.
        amount: Decimal,
        /// After this it is let go by itself.
        lasts: Duration,
    },
}

/// A line that is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewsLine {
    /// Its name.
    pub name: String,
    /// What runs have spent of it.
    pub spent: Vec<Spent>,
    /// Whether this is all that the store knows: then the book knows what was spent before.
    pub whole: bool,
}

/// What a replica tells. Telling it again changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// What becomes of a reservation.
    pub change: Change,
    /// The lines, for a reservation those that it is held on.
    pub lines: Vec<NewsLine>,
}

/// How a line stands, and whether the book knows what was spent of it before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Otherwise the figures lack what is in the store only.
    pub known: bool,
    /// The figures.
    pub figures: Figures,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_lines_apart() {
        let now = "2026-11-24T12:00:00Z".parse().unwrap();
        for (account, period, name) in [
            (
                Account::Key("ci".into()),
                Period::Month,
                "key:ci:month:2026-11-01",
            ),
            (
                Account::Owner("team".into()),
                Period::Total,
                "owner:team:total:",
            ),
        ] {
            let usd = Decimal::ONE;
            assert_eq!(
                Line::at(&account, &Budget { usd, period }, now).name(),
                name
            );
        }
    }
}
