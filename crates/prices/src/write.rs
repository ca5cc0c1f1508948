//! Writes a period of a price as a line of a prices file.

use std::fmt::Write as _;

use llm_router_domain::price::{
    FactorKind, HourWindow, PricePeriod, RateLadder, Rates, SearchContextFees,
};
use llm_router_domain::usage::{Class, Fee};

/// Returns the period as a mapping on one line, as it stands in a list of periods.
#[must_use]
pub fn write_period(period: &PricePeriod) -> String {
    let mut fields = vec![format!("from: {}", period.from)];
    if !period.source.is_empty() {
        fields.push(format!("source: [{}]", period.source.join(", ")));
    }
    fields.extend(period.checked.map(|day| format!("checked: {day}")));
    fields.extend(ladder(period.standard()));
    fields.extend(search_context(period.search_context()));
    fields.extend(factors(period));
    let tiers = period.tier_ladders();
    let tiers: Vec<String> = tiers
        .map(|(tier, rates)| format!("{}: {}", tier.name(), map(&ladder(rates))))
        .collect();
    if !tiers.is_empty() {
        fields.push(format!("service_tiers: {}", map(&tiers)));
    }
    if let Some(thinking) = period.thinking() {
        let thinking = format!("thinking: {}", map(&ladder(thinking)));
        fields.push(format!("modes: {}", map(&[thinking])));
    }
    let windows: Vec<String> = period.hours().iter().map(window).collect();
    if !windows.is_empty() {
        fields.push(format!("hours: [{}]", windows.join(", ")));
    }
    map(&fields)
}

fn map(fields: &[String]) -> String {
    format!("{{ {} }}", fields.join(", "))
}

fn ladder(ladder: &RateLadder) -> Vec<String> {
    let mut fields = row(ladder.base(), None);
    let steps: Vec<String> = ladder
        .steps()
        .map(|(from, rates)| {
            let mut fields = vec![format!("at_least: {from}")];
            fields.extend(row(rates, Some(ladder.base())));
            map(&fields)
        })
        .collect();
    if !steps.is_empty() {
        fields.push(format!("tiers: [{}]", steps.join(", ")));
    }
    fields
}

/// The figures of a row but for those that `base` has too.
fn row(rates: &Rates, base: Option<&Rates>) -> Vec<String> {
    let mut fields = Vec::new();
    for class in Class::ALL {
        let known = base.and_then(|base| base.own(class));
        let own = rates.own(class).filter(|rate| known != Some(*rate));
        fields.extend(own.map(|rate| format!("{}: {}", class.name(), rate.usd())));
    }
    if base.is_none() {
        let price = rates.per_request.map(|price| price.usd());
        fields.extend(price.map(|usd| format!("per_request: {usd}")));
        let fees = Fee::ALL.into_iter().filter_map(|fee| {
            let price = rates.fee(fee)?;
            Some(format!("{}: {}", fee.name(), price.usd()))
        });
        let fees: Vec<String> = fees.collect();
        if !fees.is_empty() {
            fields.push(format!("fees_per_1k: {}", map(&fees)));
        }
    }
    fields
}

fn search_context(fees: &SearchContextFees) -> Option<String> {
    let sizes = SearchContextFees::SIZES.iter().zip(fees.0);
    let sizes = sizes.filter_map(|(size, fee)| Some(format!("{size}: {}", fee?.usd())));
    let sizes: Vec<String> = sizes.collect();
    (!sizes.is_empty()).then(|| format!("search_context_per_1k: {}", map(&sizes)))
}

fn factors(period: &PricePeriod) -> Option<String> {
    let kinds = FactorKind::ALL.into_iter().filter_map(|kind| {
        let of_kind = period.factors().iter().filter(|(of, _, _)| *of == kind);
        let values = of_kind.map(|(_, value, by)| format!("{value}: {}", by.number()));
        let values: Vec<String> = values.collect();
        (!values.is_empty()).then(|| format!("{}: {}", kind.name(), map(&values)))
    });
    let kinds: Vec<String> = kinds.collect();
    (!kinds.is_empty()).then(|| format!("factors: {}", map(&kinds)))
}

fn window(window: &HourWindow) -> String {
    let seconds = window.zone.seconds();
    let sign = if seconds < 0 { '-' } else { '+' };
    let minutes = seconds.unsigned_abs() / 60;
    let mut zone = format!("zone: \"{sign}{:02}:{:02}\"", minutes / 60, minutes % 60);
    if !window.days.is_empty() {
        let names = window.days.iter().map(|day| crate::read::day_name(*day));
        let names: Vec<&str> = names.collect();
        // Writing to a string can't fail.
        let _ = write!(zone, ", days: [{}]", names.join(", "));
    }
    if !window.dates.is_empty() {
        let dates: Vec<String> = window.dates.iter().map(ToString::to_string).collect();
        let _ = write!(zone, ", dates: [{}]", dates.join(", "));
    }
    if !window.times.is_empty() {
        let spans = window.times.iter().map(|(from, until)| {
            let until = until.map_or_else(|| "24:00".to_owned(), clock);
            format!("\"{}-{until}\"", clock(*from))
        });
        let spans: Vec<String> = spans.collect();
        let _ = write!(zone, ", times: [{}]", spans.join(", "));
    }
    map(&[zone, format!("factor: {}", window.factor.number())])
}

fn clock(time: jiff::civil::Time) -> String {
    format!("{:02}:{:02}", time.hour(), time.minute())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_period_is_read_as_it_was_written() {
        let table = crate::built_in().unwrap();
        let mut periods = 0;
        for (name, price) in table.iter() {
            for period in price.periods() {
                let line = write_period(period);
                let text = format!("\"{name}\": [{line}]");
                let read = crate::read(&text).unwrap_or_else(|errors| panic!("{line}: {errors:?}"));
                let read = read.get(name).unwrap();
                assert_eq!(
                    read.periods(),
                    std::slice::from_ref(period),
                    "{name}: {line}"
                );
                periods += 1;
            }
        }
        assert!(periods > 400, "{periods}");
    }
}
