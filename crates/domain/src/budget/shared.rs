//! Messages between replicas and the store of the budgets that they share. It must not know where
//! that store is, nor decide what follows from an answer.

use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::{Account, Budget, Period};

/// Account in one of its periods: the unit that a budget store sums up.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BudgetLine {
    /// The account.
    pub account: Account,
    /// Kind of period.
    pub period: Period,
    /// First day of the period; none for [`Period::Total`].
    pub start: Option<Date>,
}

impl BudgetLine {
    /// Creates the line of the period that contains `now`.
    #[must_use]
    pub fn new(account: &Account, budget: &Budget, now: Timestamp) -> Self {
        Self {
            account: account.clone(),
            period: budget.period,
            start: budget.period.start(now),
        }
    }

    /// Returns the line's name in the store, as in `key:ci:month:2026-11-01`. It is the same on
    /// every replica.
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

/// Run of a process and the total that it has spent on a line. The total only grows, so reporting
/// it twice, late or out of order is harmless.
pub type RunSpending = (u32, Decimal);

/// Totals of a line, in USD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineTotals {
    /// Spent by all runs.
    pub spent: Decimal,
    /// Reserved by calls in flight.
    pub reserved: Decimal,
}

/// Line that a reservation is made on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReservationLine {
    /// The line's name.
    pub name: String,
    /// USD that may be spent.
    pub ceiling: Decimal,
    /// USD that the requesting run has spent.
    pub spent: Decimal,
}

/// Request to reserve an amount on every line, or on none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The requesting run.
    pub run: u32,
    /// Id of the reservation.
    pub id: Uuid,
    /// Reservation that this one replaces.
    pub replaces: Option<Uuid>,
    /// Amount in USD.
    pub amount: Decimal,
    /// Time until it expires.
    pub lasts: Duration,
    /// The lines.
    pub lines: Vec<ReservationLine>,
}

/// Outcome of a [`Reservation`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReserveOutcome {
    /// Not reserved: the store doesn't know the earlier spending of a line.
    Unknown,
    /// Not reserved: the store has lost its data and needs what replicas know.
    Forgotten,
    /// Reserved.
    Held(Vec<LineTotals>),
    /// Not reserved: it doesn't fit.
    Exceeded {
        /// Position of the line without room.
        position: usize,
        /// Totals of all lines.
        figures: Vec<LineTotals>,
    },
}

/// Change of a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReservationChange {
    /// No change.
    None,
    /// The reservation is released.
    Release(Uuid),
    /// The amount is reserved whether or not it fits: the call is in flight.
    Hold {
        /// Id of the reservation.
        id: Uuid,
        /// Amount in USD.
        amount: Decimal,
        /// Time until it expires.
        lasts: Duration,
    },
}

/// Line of a [`SpendUpdate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpendUpdateLine {
    /// The line's name.
    pub name: String,
    /// Totals by run.
    pub spent: Vec<RunSpending>,
    /// True if these are the totals of all runs in the ledger.
    pub complete: bool,
}

/// Report of a replica to the store. Idempotent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpendUpdate {
    /// Change of a reservation.
    pub change: ReservationChange,
    /// The lines; with a change, those of the reservation.
    pub lines: Vec<SpendUpdateLine>,
}

/// Totals of a line as the store has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LineStatus {
    /// True if the earlier spending is included. Otherwise the totals lack what only the ledger
    /// has.
    pub known: bool,
    /// The totals.
    pub figures: LineTotals,
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
                BudgetLine::new(&account, &Budget { usd, period }, now).name(),
                name
            );
        }
    }
}
