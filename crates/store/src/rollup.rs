//! What a batch of entries adds to the sums: one line for each row of the roll-up tables.

use std::collections::BTreeMap;

use jiff::civil::Date;
use llm_router_domain::ledger::{Entry, Sums};

/// A roll-up table: by model or by end user, by day or by month.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RollUp {
    pub(crate) kind: Kind,
    pub(crate) monthly: bool,
}

/// What a roll-up keeps apart besides day, key and owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Provider and model.
    Model,
    /// End user.
    User,
}

impl RollUp {
    pub(crate) const ALL: [Self; 4] = [
        Self {
            kind: Kind::Model,
            monthly: false,
        },
        Self {
            kind: Kind::Model,
            monthly: true,
        },
        Self {
            kind: Kind::User,
            monthly: false,
        },
        Self {
            kind: Kind::User,
            monthly: true,
        },
    ];

    pub(crate) const fn table(self) -> &'static str {
        match (self.kind, self.monthly) {
            (Kind::Model, false) => "cost_daily",
            (Kind::Model, true) => "cost_monthly",
            (Kind::User, false) => "user_daily",
            (Kind::User, true) => "user_monthly",
        }
    }

    /// The text columns of the table's key, after `day`.
    pub(crate) const fn columns(self) -> &'static [&'static str] {
        match self.kind {
            Kind::Model => &["key", "owner", "provider", "model"],
            Kind::User => &["key", "owner", "end_user"],
        }
    }

    fn line(self, entry: &Entry) -> Line {
        let attempt = &entry.attempt;
        let day = attempt.day();
        let day = if self.monthly {
            day.first_of_month()
        } else {
            day
        };
        let mut names = vec![attempt.key.to_string(), attempt.owner.to_string()];
        match self.kind {
            Kind::Model => {
                names.extend([attempt.provider.to_string(), attempt.deployment.to_string()])
            }
            Kind::User => names.push(entry.user().to_owned()),
        }
        (day, names)
    }
}

/// The key of a row: its day and its texts.
pub(crate) type Line = (Date, Vec<String>);

/// What entries add to a table. Sorted, so that two writers lock rows in the same order.
pub(crate) fn lines<'a>(
    roll_up: RollUp,
    entries: impl IntoIterator<Item = &'a Entry>,
) -> BTreeMap<Line, Sums> {
    let mut lines: BTreeMap<Line, Sums> = BTreeMap::new();
    for entry in entries {
        *lines.entry(roll_up.line(entry)).or_default() += entry.sums();
    }
    lines
}

/// The counts in the order of [`crate::cost_sql::COUNTS`].
pub(crate) const fn counts(sums: &Sums) -> [u64; 8] {
    [
        sums.requests,
        sums.input_tokens,
        sums.cached_input_tokens,
        sums.cache_write_tokens,
        sums.output_tokens,
        sums.reasoning_tokens,
        sums.unpriced_requests,
        sums.estimated_requests,
    ]
}
