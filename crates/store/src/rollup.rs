//! Sums that a batch of entries adds: one line for each row of the roll-up tables. It must not
//! write them.

use std::collections::BTreeMap;

use jiff::civil::Date;
use llm_router_domain::ledger::{LedgerEntry, LedgerSums, counting_run};
use rust_decimal::Decimal;

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
