//! Reads the tree of a prices file: names, periods, prices. It must not stop at the first mistake.

use std::collections::HashSet;

use jiff::civil::{Time, Weekday};
use jiff::tz::Offset;
use llm_router_domain::model_table::SharedModels;
use llm_router_domain::price::{
    Amount, Factor, FactorKind, HourWindow, PeriodSpec, Price, PriceTable, RateChange, Rates,
    SearchContextFees, Threshold,
};
use llm_router_domain::usage::{Class, Fee, ServiceTier, ShortName};
use llm_router_yaml::{Entry, Node, Value};
use rust_decimal::Decimal;

use crate::tree::{PriceError, TreeReader};

/// Prices in a row that are not for a class of tokens.
const OTHER_PRICES: [&str; 3] = ["fees_per_1k", "searches_per_1k", "per_request"];
const PERIOD_FIELDS: [&str; 9] = [
    "from",
    "source",
    "checked",
    "tiers",
    "service_tiers",
    "modes",
    "factors",
    "hours",
    "search_context_per_1k",
];
const ENTRY_FIELDS: [&str; 3] = ["aliases", "periods", "same_as"];
const STEP_FIELDS: [&str; 2] = ["above", "at_least"];
const CHANGE_FIELDS: [&str; 2] = ["factor", "tiers"];
const WINDOW_FIELDS: [&str; 5] = ["zone", "days", "dates", "times", "factor"];
const DAYS: [(&str, Weekday); 7] = [
    ("mon", Weekday::Monday),
    ("tue", Weekday::Tuesday),
    ("wed", Weekday::Wednesday),
    ("thu", Weekday::Thursday),
    ("fri", Weekday::Friday),
    ("sat", Weekday::Saturday),
    ("sun", Weekday::Sunday),
];

/// Reads a prices file.
///
/// # Errors
/// Returns every mistake in it; of a text that is not valid YAML only the first.
pub fn read(text: &str) -> Result<PriceTable, Vec<PriceError>> {
    let root = llm_router_yaml::parse(text)
        .map_err(|error| vec![PriceError::from_syntax(&error, "prices")])?;
    let mut reader = TreeReader::default();
    let mut table = PriceTable::default();
    let wanted = "a mapping of provider/model to periods";
    reader.models(&root, "prices", wanted, |reader, entry| {
        model(reader, entry, &mut table);
    });
    if reader.errors.is_empty() {
        Ok(table)
    } else {
        Err(reader.errors)
    }
}

/// Reads one entry: a list of periods, or a mapping that has one besides other fields.
fn model(reader: &mut TreeReader, entry: &Entry, table: &mut PriceTable) {
    let (name, node) = (entry.key.as_str(), &entry.node);
    let Value::Map(fields) = &node.value else {
        let price = price(reader, node);
        return table.insert(name, price);
    };
    let line = node.mark.line;
    let (mut aliases, mut shared, mut found) = (Vec::new(), Vec::new(), None);
    reader.entries(fields, |reader, key, node| match key {
        "aliases" => aliases = reader.texts(node, "a list of names"),
        "periods" => found = Some(price(reader, node)),
        "same_as" => shared = reader.texts(node, "the name of a provider, or a list of them"),
        _ => reader.unknown(node.mark.line, key, &ENTRY_FIELDS),
    });
    let pattern = name.split_once('/').and_then(|(provider, model)| {
        let prefix = model.strip_suffix('*')?;
        Some((provider.to_lowercase(), prefix.to_lowercase()))
    });
    match (shared.is_empty(), pattern, found) {
        (false, Some((provider, prefix)), None) if aliases.is_empty() => {
            for of in shared {
                table.share(SharedModels {
                    provider: provider.clone(),
                    prefix: prefix.clone(),
                    of: of.to_lowercase(),
                });
            }
        }
        (false, _, _) => reader.error(
            line,
            "`same_as` stands alone, in an entry whose name ends in *; for one model use `aliases`",
        ),
        (true, _, Some(price)) => {
            table.insert(name, price);
            for alias in aliases {
                table.add_alias(name, alias);
            }
        }
        (true, _, None) => reader.error(line, "`periods` is missing; add a list of periods"),
    }
}

fn price(reader: &mut TreeReader, node: &Node) -> Price {
    if let Value::List(items) = &node.value
        && items.is_empty()
    {
        let line = node.mark.line;
        reader.error(
            line,
            "has no periods; add at least one with `from` and `input`",
        );
    }
    let mut days = HashSet::new();
    let wanted = "a list of periods, each with `from`";
    let periods = reader.list(node, wanted, |reader, item| {
        let spec = period(reader, item)?;
        if !days.insert(spec.from) {
            let message = format!("two periods begin on {}; remove one", spec.from);
            reader.error(item.mark.line, &message);
        }
        Some(spec)
    });
    Price::new(periods)
}

fn period(reader: &mut TreeReader, node: &Node) -> Option<PeriodSpec> {
    let fields = reader.map(node, "a mapping with `from`, `input` and `output`")?;
    let mut spec = PeriodSpec::new(jiff::civil::Date::ZERO, Rates::default());
    let mut from = None;
    reader.entries(fields, |reader, key, value| match key {
        "from" => from = reader.day(value),
        "checked" => spec.checked = reader.day(value),
        "source" => {
            let names = reader.texts(value, "the source of the figures, or a list of them");
            spec.source = names.into_iter().map(str::to_owned).collect();
        }
        "tiers" => spec.steps = steps(reader, value),
        "service_tiers" => spec.service_tiers = service_tiers(reader, value),
        "modes" => spec.thinking = modes(reader, value),
        "factors" => spec.factors = factors(reader, value),
        "hours" => {
            let wanted = "a list of mappings with `factor`";
            spec.hours = reader.list(value, wanted, window);
        }
        "search_context_per_1k" => spec.search_context = search_context(reader, value),
        _ => rate(reader, &mut spec.rates, key, value, &PERIOD_FIELDS),
    });
    let line = node.mark.line;
    let first_day = "the first day in UTC, for example 2026-01-01";
    reader.require(line, fields, "from", first_day);
    reader.require(line, fields, "input", "USD per million input tokens");
    spec.from = from?;
    Some(spec)
}

fn steps(reader: &mut TreeReader, node: &Node) -> Vec<(Threshold, Rates)> {
    reader.list(node, "a list of mappings with `above`", |reader, item| {
        let fields = reader.map(item, "a mapping with `above` and prices")?;
        let (mut above, mut at_least) = (None, None);
        let mut rates = Rates::default();
        reader.entries(fields, |reader, key, value| match key {
            "above" => above = reader.tokens(value).map(Threshold::above),
            "at_least" => at_least = reader.tokens(value).map(Threshold::at_least),
            _ => rate(reader, &mut rates, key, value, &STEP_FIELDS),
        });
        let has = |key: &str| fields.iter().any(|field| field.key == key);
        let line = item.mark.line;
        match (has("above"), has("at_least")) {
            (true, true) => reader.error(line, "has both `above` and `at_least`; remove one"),
            (false, false) => reader.error(
                line,
                "`above` is missing; add the number of input tokens above which the tier applies, \
                 or `at_least` with the number from which it does",
            ),
            _ => {}
        }
        Some((above.or(at_least)?, rates))
    })
}

fn service_tiers(reader: &mut TreeReader, node: &Node) -> Vec<(ServiceTier, RateChange)> {
    let wanted = "a mapping of a service tier, as flex or priority, to prices";
    let Some(fields) = reader.map(node, wanted) else {
        return Vec::new();
    };
    let mut tiers: Vec<(ServiceTier, RateChange)> = Vec::new();
    reader.entries(fields, |reader, key, value| {
        let tier = ServiceTier::from_name(key);
        let line = value.mark.line;
        if tier.is_standard() {
            let message = "is the list price; write its prices beside `from`";
            return reader.error(line, message);
        }
        if tiers.iter().any(|(known, _)| *known == tier) {
            let message = format!("is another name of the tier `{}`; remove one", tier.name());
            return reader.error(line, &message);
        }
        tiers.extend(change(reader, value).map(|change| (tier, change)));
    });
    tiers
}

fn modes(reader: &mut TreeReader, node: &Node) -> Option<RateChange> {
    let fields = reader.map(node, "a mapping of a mode, as thinking, to prices")?;
    let mut thinking = None;
    reader.entries(fields, |reader, key, value| match key {
        "thinking" => thinking = change(reader, value),
        _ => reader.unknown(value.mark.line, key, &["thinking"]),
    });
    thinking
}

/// Reads the rates of a tier or a mode.
fn change(reader: &mut TreeReader, node: &Node) -> Option<RateChange> {
    let fields = reader.map(node, "a mapping of prices")?;
    let mut change = RateChange::default();
    reader.entries(fields, |reader, key, value| match key {
        "factor" => change.factor = factor(reader, value),
        "tiers" => change.steps = steps(reader, value),
        _ => rate(reader, &mut change.rates, key, value, &CHANGE_FIELDS),
    });
    Some(change)
}

fn factors(reader: &mut TreeReader, node: &Node) -> Vec<(FactorKind, ShortName, Factor)> {
    let known = FactorKind::ALL.map(FactorKind::name);
    let wanted = "a mapping of inference_geo or speed to factors";
    let Some(fields) = reader.map(node, wanted) else {
        return Vec::new();
    };
    let mut read = Vec::new();
    reader.entries(fields, |reader, key, value| {
        let Some(kind) = FactorKind::ALL.into_iter().find(|kind| kind.name() == key) else {
            return reader.unknown(value.mark.line, key, &known);
        };
        let Some(values) = reader.map(value, "a mapping of a value to its factor") else {
            return;
        };
        reader.entries(values, |reader, name, value| {
            let factor = factor(reader, value);
            read.extend(factor.map(|factor| (kind, ShortName::new(name), factor)));
        });
    });
    read
}

fn window(reader: &mut TreeReader, node: &Node) -> Option<HourWindow> {
    let fields = reader.map(node, "a mapping with `factor` and hours")?;
    let mut by = None;
    let (mut zone, mut days, mut dates, mut times) =
        (Some(Offset::UTC), Vec::new(), Vec::new(), Vec::new());
    reader.entries(fields, |reader, key, value| match key {
        "zone" => zone = reader.parse(value, "a time zone", "UTC or +08:00", parse_zone),
        "days" => {
            let known = DAYS.map(|(name, _)| name);
            days = reader.list(value, "a list of days, as [sat, sun]", |reader, item| {
                let text = reader.text(item, "a day, for example mon")?;
                let day = DAYS.into_iter().find(|(name, _)| *name == text);
                if day.is_none() {
                    reader.unknown_name(item.mark.line, text, &known);
                }
                day.map(|(_, day)| day)
            });
        }
        "dates" => dates = reader.list(value, "a list of dates", TreeReader::day),
        "times" => {
            times = reader.list(value, "a list of times", |reader, item| {
                reader.parse(item, "a span of the day", "16:30-24:00", parse_span)
            });
        }
        "factor" => by = factor(reader, value),
        _ => reader.unknown(value.mark.line, key, &WINDOW_FIELDS),
    });
    let meaning = "the number that rates are multiplied by in these hours";
    reader.require(node.mark.line, fields, "factor", meaning);
    Some(HourWindow {
        zone: zone?,
        days,
        dates,
        times,
        factor: by?,
    })
}

fn parse_zone(text: &str) -> Option<Offset> {
    if text == "UTC" {
        return Some(Offset::UTC);
    }
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let is_sane = (0..=14).contains(&hours) && (0..60).contains(&minutes);
    let seconds = sign * (hours * 3600 + minutes * 60);
    is_sane
        .then(|| Offset::from_seconds(seconds).ok())
        .flatten()
}

/// Reads `16:30-24:00`. A span over midnight is two.
fn parse_span(text: &str) -> Option<(Time, Option<Time>)> {
    let moment = |text: &str| {
        let (hour, minute) = text.split_once(':')?;
        Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok()
    };
    let (from, until) = text.split_once('-')?;
    let from = moment(from.trim())?;
    match until.trim() {
        "24:00" => Some((from, None)),
        until => {
            let until = moment(until)?;
            (from < until).then_some((from, Some(until)))
        }
    }
}

fn search_context(reader: &mut TreeReader, node: &Node) -> SearchContextFees {
    let sizes = SearchContextFees::SIZES;
    let mut fees = SearchContextFees::default();
    let Some(fields) = reader.map(node, "a mapping of low, medium and high to USD") else {
        return fees;
    };
    reader.entries(fields, |reader, key, value| {
        let place = sizes.iter().position(|size| *size == key);
        match place.and_then(|place| fees.0.get_mut(place)) {
            Some(fee) => *fee = amount(reader, value),
            None => reader.unknown(value.mark.line, key, &sizes),
        }
    });
    fees
}

/// Reads a price of a row; `others` are the row's fields that are no price.
fn rate(
    reader: &mut TreeReader,
    rates: &mut Rates,
    key: &str,
    node: &Node,
    others: &[&'static str],
) {
    if let Some(class) = Class::from_name(key) {
        if let Some(price) = amount(reader, node) {
            rates.set(class, price);
        }
        return;
    }
    match key {
        "per_request" => rates.per_request = amount(reader, node),
        "searches_per_1k" => {
            if let Some(price) = amount(reader, node) {
                rates.set_fee(Fee::WebSearch, price);
            }
        }
        "fees_per_1k" => fees(reader, rates, node),
        _ => {
            let names = Class::ALL.map(Class::name).into_iter().chain(OTHER_PRICES);
            let names: Vec<&str> = names.chain(others.iter().copied()).collect();
            reader.unknown(node.mark.line, key, &names);
        }
    }
}

fn fees(reader: &mut TreeReader, rates: &mut Rates, node: &Node) {
    let wanted = "a mapping of uses, as web_search, to USD for a thousand of them";
    let Some(fields) = reader.map(node, wanted) else {
        return;
    };
    reader.entries(fields, |reader, key, value| {
        let Some(fee) = Fee::from_name(key) else {
            let names = Fee::ALL.map(Fee::name);
            return reader.unknown(value.mark.line, key, &names);
        };
        if let Some(price) = amount(reader, value) {
            rates.set_fee(fee, price);
        }
    });
}

fn amount(reader: &mut TreeReader, node: &Node) -> Option<Amount> {
    number(reader, node, "a price in USD", "USD", "0.15", |usd| {
        Amount::new(usd).map_err(|error| error.to_string())
    })
}

fn factor(reader: &mut TreeReader, node: &Node) -> Option<Factor> {
    number(reader, node, "a factor", "a number", "0.5", |number| {
        Factor::new(number).map_err(|error| error.to_string())
    })
}

fn number<T>(
    reader: &mut TreeReader,
    node: &Node,
    kind: &str,
    form: &str,
    example: &str,
    check: impl FnOnce(Decimal) -> Result<T, String>,
) -> Option<T> {
    let text = reader.text(node, &format!("{kind}, for example {example}"))?;
    // The text itself is parsed: a float in between would lose digits.
    let number = Decimal::from_str_exact(text).or_else(|_| Decimal::from_scientific(text));
    let kind = kind.split(" in ").next().unwrap_or(kind);
    let number =
        number.map_err(|_| format!("`{text}` is not {kind}; write {form}, for example {example}"));
    match number.and_then(check) {
        Ok(value) => Some(value),
        Err(message) => {
            reader.error(node.mark.line, &message);
            None
        }
    }
}

#[cfg(test)]
mod tests;
