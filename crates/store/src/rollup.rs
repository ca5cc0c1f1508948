//! Sums that a batch of entries adds: one line for each row of the roll-up tables. It must not
//! write them.

use std::collections::BTreeMap;

use jiff::civil::Date;
use llm_router_domain::ledger::{LedgerEntry, LedgerSums, counting_run};
use rust_decimal::Decimal;

use crate::fields::to_i64;

/// A roll-up table: by model or by end user, by day or by month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RollUp {
    pub(crate) kind: RollUpKind,
    pub(crate) monthly: bool,
}

/// Dimension of a roll-up besides day, key and owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RollUpKind {
    /// Provider and model.
    Model,
    /// End user.
    User,
}

impl RollUpKind {
    pub(crate) const ALL: [Self; 2] = [Self::Model, Self::User];
}

impl RollUp {
    pub(crate) const ALL: [Self; 4] = [
        Self {
            kind: RollUpKind::Model,
            monthly: false,
        },
        Self {
            kind: RollUpKind::Model,
            monthly: true,
        },
        Self {
            kind: RollUpKind::User,
            monthly: false,
        },
        Self {
            kind: RollUpKind::User,
            monthly: true,
        },
    ];

    pub(crate) const fn table(self) -> &'static str {
        match (self.kind, self.monthly) {
            (RollUpKind::Model, false) => "cost_daily",
            (RollUpKind::Model, true) => "cost_monthly",
            (RollUpKind::User, false) => "user_daily",
            (RollUpKind::User, true) => "user_monthly",
        }
    }

    /// Returns the expressions of [`Self::columns`] over the table of entries, as a list for SQL.
    pub(crate) fn entry_columns(self) -> String {
        let columns = self.columns().iter().map(|name| match *name {
            "model" => "deployment",
            "end_user" => "coalesce(end_user, owner)",
            name => name,
        });
        columns.collect::<Vec<_>>().join(", ")
    }

    /// The text columns of the table's key, after `day`.
    pub(crate) const fn columns(self) -> &'static [&'static str] {
        match self.kind {
            RollUpKind::Model => &["key", "owner", "provider", "model"],
            RollUpKind::User => &["key", "owner", "end_user"],
        }
    }

    fn line(self, entry: &LedgerEntry) -> BatchLine<'_> {
        let attempt = &entry.attempt;
        let (key, owner) = (&*attempt.key, &*attempt.owner);
        match self.kind {
            RollUpKind::Model => (
                attempt.day(),
                [key, owner, &attempt.provider, &attempt.deployment],
            ),
            RollUpKind::User => (attempt.day(), [key, owner, entry.user(), ""]),
        }
    }
}

/// The key of a row: its day and its texts.
pub(crate) type RollUpLine = (Date, Vec<String>);

/// The same, borrowed of a batch; a table with fewer columns leaves the last text empty.
pub(crate) type BatchLine<'a> = (Date, [&'a str; 4]);

/// Returns the sums that entries add to the tables of a kind, by day and by month. Sorted, so that
/// two writers lock rows in the same order.
pub(crate) fn lines<'a>(
    kind: RollUpKind,
    entries: &[&'a LedgerEntry],
) -> [(RollUp, BTreeMap<BatchLine<'a>, LedgerSums>); 2] {
    let [daily, monthly] = [false, true].map(|monthly| RollUp { kind, monthly });
    let mut days: BTreeMap<BatchLine<'a>, LedgerSums> = BTreeMap::new();
    for entry in entries {
        *days.entry(daily.line(entry)).or_default() += entry.sums();
    }
    let mut months: BTreeMap<BatchLine<'a>, LedgerSums> = BTreeMap::new();
    for ((day, names), sums) in &days {
        *months.entry((day.first_of_month(), *names)).or_default() += *sums;
    }
    [(daily, days), (monthly, months)]
}

/// Change of a row of sums; counts may fall.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SumsChange {
    /// In the order of [`crate::cost_sql::COUNTS`].
    pub(crate) counts: [i64; 9],
    pub(crate) cost: Decimal,
}

impl SumsChange {
    pub(crate) fn new(before: &LedgerSums, after: &LedgerSums) -> Self {
        let (before_counts, after_counts) = (counts(before), counts(after));
        let change = |(before, after)| to_i64(after) - to_i64(before);
        let mut changes = before_counts.into_iter().zip(after_counts).map(change);
        Self {
            counts: std::array::from_fn(|_| changes.next().unwrap_or_default()),
            cost: after.cost - before.cost,
        }
    }
}

impl std::ops::AddAssign for SumsChange {
    fn add_assign(&mut self, other: Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        self.cost += other.cost;
    }
}

/// An entry before and after it was billed anew.
pub(crate) type Repriced = (LedgerEntry, LedgerEntry);

/// Returns what repriced entries change in the tables of a kind, by day and by month.
pub(crate) fn change_lines(
    kind: RollUpKind,
    entries: &[&Repriced],
) -> [(RollUp, BTreeMap<RollUpLine, SumsChange>); 2] {
    [false, true].map(|monthly| {
        let roll_up = RollUp { kind, monthly };
        let mut lines: BTreeMap<RollUpLine, SumsChange> = BTreeMap::new();
        for (before, after) in entries {
            let (day, names) = roll_up.line(before);
            let day = if monthly { day.first_of_month() } else { day };
            let names = names.iter().take(roll_up.columns().len());
            let names = names.map(|name| (*name).to_owned()).collect();
            let change = SumsChange::new(&before.sums(), &after.sums());
            *lines.entry((day, names)).or_default() += change;
        }
        (roll_up, lines)
    })
}

/// Returns what repriced entries change in `spent_by_run`.
pub(crate) fn change_spent(entries: &[&Repriced]) -> BTreeMap<SpentLine, Decimal> {
    let mut lines = BTreeMap::new();
    for (before, after) in entries {
        let attempt = &before.attempt;
        let Some(run) = counting_run(attempt.id) else {
            continue;
        };
        let usd = |entry: &LedgerEntry| entry.outcome.cost.usd().unwrap_or_default();
        let (key, owner) = (attempt.key.to_string(), attempt.owner.to_string());
        let line = (attempt.day(), key, owner, i64::from(run));
        *lines.entry(line).or_default() += usd(after) - usd(before);
    }
    lines
}

/// Day, key, owner and run of spending.
pub(crate) type SpentLine = (Date, String, String, i64);

/// Returns the sums that entries add to `spent_by_run`, by day, key, owner and run; sorted as by
/// [`lines`].
pub(crate) fn spent_lines<'a>(
    entries: &[&'a LedgerEntry],
) -> BTreeMap<(Date, &'a str, &'a str, i64), Decimal> {
    let mut lines = BTreeMap::new();
    for entry in entries {
        let attempt = &entry.attempt;
        let (Some(run), Some(cost)) = (counting_run(attempt.id), entry.outcome.cost.usd()) else {
            continue;
        };
        let line = (
            attempt.day(),
            &*attempt.key,
            &*attempt.owner,
            i64::from(run),
        );
        *lines.entry(line).or_default() += cost;
    }
    lines
}

/// The counts in the order of [`crate::cost_sql::COUNTS`].
pub(crate) const fn counts(sums: &LedgerSums) -> [u64; 9] {
    [
        sums.requests,
        sums.input_tokens,
        sums.cached_input_tokens,
        sums.cache_write_tokens,
        sums.output_tokens,
        sums.reasoning_tokens,
        sums.unpriced_requests,
        sums.estimated_requests,
        sums.inexact_requests,
    ]
}
