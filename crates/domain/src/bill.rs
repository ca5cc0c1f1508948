//! The bill of an attempt: its cost, which price it used, what each class cost, what was billed at
//! other models' rates, and why it isn't exact. Rates and lookup are [`crate::price`]'s.

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;

use crate::inexact::{Reason, Reasons};
use crate::ledger::{AttemptEnd, LedgerEntry, bill};
use crate::model_table::is_same_model;
use crate::price::{Charge, Cost, PriceTable, PriceUsed};
use crate::usage::{Usage, UsagePart};

/// A price of a table, as an entry of the ledger refers to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PriceRef {
    /// The table and its revision; [`PriceRef::REPORTED`] for a cost that the provider stated.
    pub table: Box<str>,
    /// The entry in it, `provider/model`.
    pub entry: Box<str>,
    /// The first day of the period that held.
    pub from: Option<Date>,
}

impl PriceRef {
    /// The table of costs that are the provider's own figure.
    pub const REPORTED: &str = "reported";
}

impl From<&PriceUsed> for PriceRef {
    fn from(price: &PriceUsed) -> Self {
        Self {
            table: price.table.as_ref().into(),
            entry: price.entry.as_ref().into(),
            from: Some(price.from),
        }
    }
}

/// Details of an attempt's bill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Billing {
    /// Usage that is billed at the rates of other models, and isn't in that of the attempt.
    pub parts: Vec<UsagePart>,
    /// The model that the provider says it served, where it is another than the deployment's.
    pub served_model: Option<Box<str>>,
    /// Reasons for which the cost isn't exact.
    pub inexact: Reasons,
    /// The price used; none if there is no cost, or none is due.
    pub price: Option<PriceRef>,
    /// USD by class of tokens, by fee, and `request`; those of a part begin with its model and a
    /// space. Their sum is the cost unless the provider's own figure is used.
    pub costs: Vec<(Box<str>, Decimal)>,
}

impl Billing {
    /// Returns the cost by the price table, whichever figure was used.
    #[must_use]
    pub fn table_cost(&self) -> Decimal {
        self.costs.iter().map(|(_, usd)| *usd).sum()
    }
}

/// Facts that decide an attempt's bill, besides its usage.
#[derive(Clone, Copy, Debug)]
pub struct BillTerms<'t> {
    /// The prices.
    pub prices: &'t PriceTable,
    /// Id of the provider.
    pub provider: &'t str,
    /// Type of the provider, as prices are named by it.
    pub price_type: &'t str,
    /// Model of the deployment.
    pub model: &'t str,
    /// The model that the provider says it served.
    pub served: Option<&'t str>,
    /// The cost that the provider states is used even where the table has an exact price.
    pub prefers_reported: bool,
    /// There was an answer, so that a price per request is due.
    pub answered: bool,
    /// The attempt's end.
    pub at: Timestamp,
}

impl BillTerms<'_> {
    /// Bills a usage with its parts.
    #[must_use]
    pub fn bill(&self, usage: &Usage, parts: Vec<UsagePart>) -> (Cost, Billing) {
        let found =
            self.prices
                .find_served(self.provider, self.price_type, self.model, self.served);
        let price = found.price.map(|price| &**price);
        let charge = bill(price, usage, self.answered, self.at);
        let differs = |served: &&str| !is_same_model(served, self.model);
        let mut billing = Billing {
            served_model: self.served.filter(differs).map(Into::into),
            inexact: charge.inexact,
            price: charge.price.as_ref().map(PriceRef::from),
            costs: named(&charge, ""),
            parts,
        };
        if charge.price.is_some() {
            billing.inexact |= found.inexact;
        }
        let mut cost = charge.cost;
        for part in &billing.parts {
            let charge = self.part(part);
            let Some(usd) = charge.cost.usd() else {
                billing.inexact.add(Reason::UnpricedPart);
                continue;
            };
            billing.inexact |= charge.inexact;
            billing.costs.extend(named(&charge, &part.model));
            cost = match cost {
                Cost::Usd(sum) => Cost::Usd((sum + usd).normalize()),
                Cost::Unpriced => Cost::Unpriced,
            };
        }
        let cost = self.compare_reported(usage, cost, &mut billing);
        (cost, billing)
    }

    fn part(&self, part: &UsagePart) -> Charge {
        let price = self
            .prices
            .find(self.provider, self.price_type, &part.model);
        bill(price.map(|price| &**price), &part.usage, false, self.at)
    }

    /// Chooses between our figure and the provider's own, and marks a difference.
    fn compare_reported(&self, usage: &Usage, cost: Cost, billing: &mut Billing) -> Cost {
        let Some(reported) = usage.reported_cost else {
            return cost;
        };
        let ours = cost.usd().filter(|_| billing.inexact.is_empty());
        if self.prefers_reported || ours.is_none() {
            // The provider's own figure is exact, whatever the table doesn't know.
            billing.inexact = Reasons::NONE;
            billing.price = Some(PriceRef {
                table: PriceRef::REPORTED.into(),
                entry: format!("{}/{}", self.provider, self.model).into(),
                from: None,
            });
        }
        if ours.is_some_and(|ours| differ(ours, reported)) {
            billing.inexact.add(Reason::ReportedCostDiffers);
        }
        match ours {
            Some(ours) if !self.prefers_reported => Cost::Usd(ours),
            _ => Cost::Usd(reported),
        }
    }
}

/// Returns true if two figures differ by more than 1 % of the reported one.
fn differ(ours: Decimal, reported: Decimal) -> bool {
    let allowed = reported * Decimal::new(1, 2);
    (ours - reported).abs() > allowed
}

/// The parts of a charge by name.
fn named(charge: &Charge, model: &str) -> Vec<(Box<str>, Decimal)> {
    let name = |name: &str| match model {
        "" => name.into(),
        model => format!("{model} {name}").into(),
    };
    charge
        .parts()
        .map(|(class, usd)| (name(class), usd))
        .collect()
}

/// Returns the cost and the bill of an entry by other prices, from what it has stored.
#[must_use]
pub fn reprice(
    entry: &LedgerEntry,
    prices: &PriceTable,
    price_type: &str,
    prefers_reported: bool,
) -> (Cost, Billing) {
    let (attempt, outcome) = (&entry.attempt, &entry.outcome);
    let billing = &outcome.billing;
    let elapsed = i64::from(outcome.timings.total.unwrap_or_default());
    let elapsed = jiff::SignedDuration::from_micros(elapsed);
    let was_due = billing.price.is_some() || outcome.cost == Cost::Unpriced;
    let terms = BillTerms {
        prices,
        provider: &attempt.provider,
        price_type,
        model: &attempt.deployment,
        served: billing.served_model.as_deref(),
        prefers_reported,
        answered: outcome.ending != AttemptEnd::Failed && was_due,
        at: attempt.at.checked_add(elapsed).unwrap_or(attempt.at),
    };
    terms.bill(&outcome.usage, billing.parts.clone())
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;
    use crate::price::{Amount, PeriodSpec, Price, Rates};
    use crate::usage::{Class, Fee};

    fn price(input: &str, output: &str) -> Price {
        let amount = |text: &str| Amount::new(text.parse().unwrap()).unwrap();
        let rates = Rates::default()
            .with(Class::Input, amount(input))
            .with(Class::Output, amount(output));
        Price::new([PeriodSpec::new(date(2026, 1, 1), rates)])
    }

    fn table() -> PriceTable {
        PriceTable::new([
            ("t/small".to_owned(), price("1", "10")),
            ("t/large".to_owned(), price("5", "25")),
        ])
    }

    fn usage(input: u64, output: u64) -> Usage {
        Usage::default()
            .with(Class::Input, input)
            .with(Class::Output, output)
    }

    /// Cost, reasons, table or entry of the price, served model.
    fn billed(
        model: &str,
        served: Option<&str>,
        prefers_reported: bool,
        usage: &Usage,
        parts: &[(&str, Usage)],
    ) -> (String, String, String, Option<String>) {
        let table = table();
        let terms = BillTerms {
            prices: &table,
            provider: "p",
            price_type: "t",
            model,
            served,
            prefers_reported,
            answered: true,
            at: "2026-06-01T12:00:00Z".parse().unwrap(),
        };
        let part = |(model, usage): &(&str, Usage)| UsagePart {
            model: (*model).into(),
            usage: *usage,
        };
        let (cost, billing) = terms.bill(usage, parts.iter().map(part).collect());
        let cost = cost.usd().map_or("unpriced".into(), |usd| usd.to_string());
        let price = billing.price.unwrap_or_default();
        let price = match &*price.table {
            PriceRef::REPORTED => "reported".to_owned(),
            _ => price.entry.to_string(),
        };
        let served = billing.served_model.map(Into::into);
        (cost, billing.inexact.to_text(), price, served)
    }

    #[test]
    fn the_model_that_served_is_priced_or_the_difference_is_marked() {
        let used = usage(1000, 500);
        for (served, cost, inexact, entry, kept) in [
            (None, "0.006", "", "t/small", None),
            (Some("small-2026-05-01"), "0.006", "", "t/small", None),
            (Some("large"), "0.0175", "", "t/large", Some("large")),
            (
                Some("other"),
                "0.006",
                "served_model_differs",
                "t/small",
                Some("other"),
            ),
        ] {
            let kept = kept.map(str::to_owned);
            let expected = (cost.to_owned(), inexact.to_owned(), entry.to_owned(), kept);
            assert_eq!(billed("small", served, false, &used, &[]), expected);
        }
    }

    #[test]
    fn parts_cost_what_their_model_costs_or_are_marked() {
        let used = usage(412, 1230);
        let one = |name| {
            let (cost, inexact, ..) =
                billed("small", None, false, &used, &[(name, usage(823, 1612))]);
            (cost, inexact)
        };
        assert_eq!(one("large"), ("0.057127".into(), String::new()));
        assert_eq!(one("nobody's"), ("0.012712".into(), "unpriced_part".into()));
    }

    #[test]
    fn the_providers_own_figure_is_used_where_ours_is_not_exact_or_where_it_is_preferred() {
        let stated = |cost: &str| {
            let mut used = usage(1000, 500);
            used.reported_cost = Some(cost.parse().unwrap());
            used
        };
        let mut unread = stated("0.009");
        unread.inexact.add(Reason::UnknownUsage);
        let tool = stated("0.016").with_uses(Fee::ServerTool, 2);
        for (model, prefers, used, cost, inexact, price) in [
            ("small", false, stated("0.006"), "0.006", "", "t/small"),
            ("small", false, stated("0.00605"), "0.006", "", "t/small"),
            (
                "small",
                false,
                stated("0.007"),
                "0.006",
                "reported_cost_differs",
                "t/small",
            ),
            (
                "small",
                true,
                stated("0.007"),
                "0.007",
                "reported_cost_differs",
                "reported",
            ),
            ("small", true, stated("0.00605"), "0.00605", "", "reported"),
            ("unknown", false, stated("0.02"), "0.02", "", "reported"),
            ("small", false, unread, "0.009", "", "reported"),
            ("small", false, tool, "0.016", "", "reported"),
        ] {
            let (found, reasons, by, _) = billed(model, None, prefers, &used, &[]);
            assert_eq!(
                (&*found, &*reasons, &*by),
                (cost, inexact, price),
                "{model} {prefers} {used:?}"
            );
        }
    }

    #[test]
    fn nothing_used_and_no_answer_costs_nothing() {
        let table = PriceTable::default();
        let terms = BillTerms {
            prices: &table,
            provider: "p",
            price_type: "t",
            model: "m",
            served: None,
            prefers_reported: false,
            answered: false,
            at: Timestamp::UNIX_EPOCH,
        };
        let (cost, billing) = terms.bill(&Usage::default(), Vec::new());
        assert_eq!(cost, Cost::Usd(Decimal::ZERO));
        assert_eq!(billing, Billing::default());
    }
}
