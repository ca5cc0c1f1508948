//! The SELECT that sums costs: by months where whole months are requested, by days at the ends. One
//! text serves both databases but for placeholders and the columns of the cost.

use std::fmt::Write;

use jiff::ToSpan;
use jiff::civil::Date;

use crate::ledger::{CostQuery, SumGroup};
use crate::rollup::{RollUp, RollUpKind};

/// The counts of a roll-up row, in the order they are read.
pub(crate) const COUNTS: [&str; 9] = [
    "requests",
    "input_tokens",
    "cached_input_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "unpriced_requests",
    "estimated_requests",
    "inexact_requests",
];

/// Dialect of SQL that a database needs.
pub(crate) struct SqlDialect {
    /// Mark before a parameter's number.
    pub(crate) mark: char,
    /// The columns that hold the cost.
    pub(crate) cost: &'static [&'static str],
    /// A sum of counts.
    pub(crate) sum_count: fn(&str) -> String,
    /// A sum of costs.
    pub(crate) sum_cost: fn(&str) -> String,
}

/// A parameter of the statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Param {
    Day(Date),
    Text(String),
}

/// A statement with its parameters.
pub(crate) struct Statement {
    pub(crate) sql: String,
    pub(crate) params: Vec<Param>,
    /// Columns with which rows begin, before the sums.
    pub(crate) group: &'static [&'static str],
}

/// The statement for a query, or none if its range holds no day.
pub(crate) fn statement(dialect: &SqlDialect, query: &CostQuery) -> Option<Statement> {
    let kind = if query.group == SumGroup::EndUser {
        RollUpKind::User
    } else {
        RollUpKind::Model
    };
    let parts = parts(query.from, query.to, query.group == SumGroup::Day)?;
    let group = group_columns(query.group);
    let mut builder = SqlBuilder {
        dialect,
        sql: String::new(),
        params: Vec::new(),
    };
    builder.outer(group);
    for (index, part) in parts.iter().enumerate() {
        builder
            .sql
            .push_str(if index == 0 { "" } else { " UNION ALL " });
        builder.part(
            RollUp {
                kind,
                monthly: part.monthly,
            },
            part,
            query,
        );
    }
    builder.sql.push_str(") AS parts");
    if !group.is_empty() {
        builder.page(group, query);
    }
    Some(Statement {
        sql: builder.sql,
        params: builder.params,
        group,
    })
}

const fn group_columns(group: SumGroup) -> &'static [&'static str] {
    match group {
        SumGroup::Nothing => &[],
        SumGroup::Day => &["day"],
        SumGroup::Model => &["provider", "model"],
        SumGroup::Provider => &["provider"],
        SumGroup::Owner => &["owner"],
        SumGroup::Key => &["key"],
        SumGroup::EndUser => &["end_user"],
    }
}

/// A stretch of days read from one table; `to` is not included.
#[derive(Debug, PartialEq, Eq)]
struct CostPart {
    monthly: bool,
    from: Option<Date>,
    to: Option<Date>,
}

/// The stretches that make up a range of days, last day included.
fn parts(from: Option<Date>, to: Option<Date>, by_day: bool) -> Option<Vec<CostPart>> {
    let end = to.map(|day| day.checked_add(1.day()).unwrap_or(Date::MAX));
    if let (Some(from), Some(end)) = (from, end)
        && from >= end
    {
        return None;
    }
    if by_day {
        return Some(vec![CostPart {
            monthly: false,
            from,
            to: end,
        }]);
    }
    // The whole months within the range.
    let first = from.map(next_month_start);
    let last = end.map(Date::first_of_month);
    if let (Some(first), Some(last)) = (first, last)
        && first >= last
    {
        return Some(vec![CostPart {
            monthly: false,
            from,
            to: end,
        }]);
    }
    let mut parts = vec![CostPart {
        monthly: true,
        from: first,
        to: last,
    }];
    if from != first {
        parts.push(CostPart {
            monthly: false,
            from,
            to: first,
        });
    }
    if last != end {
        parts.push(CostPart {
            monthly: false,
            from: last,
            to: end,
        });
    }
    Some(parts)
}

/// The first day of a month that is not before `day`.
fn next_month_start(day: Date) -> Date {
    if day.day() == 1 {
        return day;
    }
    day.first_of_month()
        .checked_add(1.month())
        .unwrap_or(Date::MAX)
}

struct SqlBuilder<'a> {
    dialect: &'a SqlDialect,
    sql: String,
    params: Vec<Param>,
}

impl SqlBuilder<'_> {
    fn outer(&mut self, group: &[&str]) {
        let counts = COUNTS.iter().map(|name| (self.dialect.sum_count)(name));
        let cost = self
            .dialect
            .cost
            .iter()
            .map(|name| (self.dialect.sum_cost)(name));
        let columns: Vec<String> = group
            .iter()
            .map(|name| (*name).to_owned())
            .chain(counts)
            .chain(cost)
            .collect();
        let _ = write!(self.sql, "SELECT {} FROM (", columns.join(", "));
    }

    fn part(&mut self, roll_up: RollUp, part: &CostPart, query: &CostQuery) {
        let names = roll_up
            .columns()
            .iter()
            .chain(&COUNTS)
            .chain(self.dialect.cost);
        let columns: Vec<&str> = names.copied().collect();
        let (columns, table) = (columns.join(", "), roll_up.table());
        let _ = write!(self.sql, "SELECT day, {columns} FROM {table} WHERE TRUE");
        self.condition("day >=", part.from.map(Param::Day));
        self.condition("day <", part.to.map(Param::Day));
        self.condition("key =", query.key.clone().map(Param::Text));
        self.condition("owner =", query.owner.clone().map(Param::Text));
    }

    /// Adds the rows up by their group, and takes those of one page.
    fn page(&mut self, group: &[&str], query: &CostQuery) {
        let names = group.join(", ");
        if query.group != SumGroup::Day && query.after.len() == group.len() {
            let values = query.after.iter().cloned().map(Param::Text);
            let marks: Vec<String> = values.map(|value| self.mark(value)).collect();
            let _ = write!(self.sql, " WHERE ({names}) > ({})", marks.join(", "));
        }
        let _ = write!(self.sql, " GROUP BY {names} ORDER BY {names}");
        if let Some(limit) = query.limit {
            let _ = write!(self.sql, " LIMIT {limit}");
        }
    }

    fn condition(&mut self, left: &str, right: Option<Param>) {
        if let Some(param) = right {
            let mark = self.mark(param);
            let _ = write!(self.sql, " AND {left} {mark}");
        }
    }

    /// Adds a parameter and returns its placeholder.
    fn mark(&mut self, param: Param) -> String {
        self.params.push(param);
        format!("{}{}", self.dialect.mark, self.params.len())
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn stretches(from: Option<Date>, to: Option<Date>) -> Vec<String> {
        let day = |day: &Option<Date>| day.map_or_else(|| "..".to_owned(), |day| day.to_string());
        let text = |part: &CostPart| {
            let kind = if part.monthly { "m" } else { "d" };
            format!("{kind} {} {}", day(&part.from), day(&part.to))
        };
        parts(from, to, false)
            .unwrap_or_default()
            .iter()
            .map(text)
            .collect()
    }

    #[test]
    fn a_range_is_whole_months_and_ragged_ends() {
        let (a, b) = (date(2026, 1, 15), date(2026, 4, 10));
        assert_eq!(stretches(None, None), ["m .. .."]);
        assert_eq!(
            stretches(Some(a), None),
            ["m 2026-02-01 ..", "d 2026-01-15 2026-02-01"]
        );
        assert_eq!(
            stretches(None, Some(b)),
            ["m .. 2026-04-01", "d 2026-04-01 2026-04-11"]
        );
        assert_eq!(
            stretches(Some(a), Some(b)),
            [
                "m 2026-02-01 2026-04-01",
                "d 2026-01-15 2026-02-01",
                "d 2026-04-01 2026-04-11"
            ]
        );
        assert_eq!(
            stretches(Some(a), Some(date(2026, 2, 3))),
            ["d 2026-01-15 2026-02-04"]
        );
        assert_eq!(
            stretches(Some(date(2026, 1, 1)), Some(date(2026, 1, 31))),
            ["m 2026-01-01 2026-02-01"]
        );
        assert_eq!(stretches(Some(a), Some(a)), ["d 2026-01-15 2026-01-16"]);
        assert!(stretches(Some(b), Some(a)).is_empty());
    }
}
