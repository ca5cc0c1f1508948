//! Reads the tree of a prices file: names, periods, prices. It must not stop at the first mistake.

use std::collections::HashSet;

use jiff::civil::Date;
use llm_router_domain::price::{Amount, Price, PricePeriod, PriceTable, Rates};
use llm_router_domain::usage::{Class, ServiceTier};
use llm_router_yaml::{Entry, Node, Value, nearest};
use rust_decimal::Decimal;

use crate::tree::PriceError;

/// Prices that are not for a class of tokens.
const OTHER_PRICES: [&str; 2] = ["searches_per_1k", "per_request"];
const SERVICE_TIERS: [ServiceTier; 3] =
    [ServiceTier::FLEX, ServiceTier::PRIORITY, ServiceTier::BATCH];

/// Reads a prices file.
///
/// # Errors
/// Returns every mistake in it; of a text that is not valid YAML only the first.
pub fn read(text: &str) -> Result<PriceTable, Vec<PriceError>> {
    let root = llm_router_yaml::parse(text)
        .map_err(|error| vec![PriceError::from_syntax(&error, "prices")])?;
    let mut reader = PriceReader::default();
    let table = reader.table(&root);
    if reader.errors.is_empty() {
        Ok(table)
    } else {
        Err(reader.errors)
    }
}

#[derive(Default)]
struct PriceReader {
    errors: Vec<PriceError>,
    path: String,
}

impl PriceReader {
    fn table(&mut self, root: &Node) -> PriceTable {
        let Value::Map(entries) = &root.value else {
            "prices".clone_into(&mut self.path);
            self.expect("a mapping of provider/model to periods", root);
            return PriceTable::default();
        };
        let mut seen = HashSet::new();
        let mut prices = Vec::new();
        for entry in entries {
            let (line, name) = (entry.mark.line, &entry.key);
            self.path.clone_from(name);
            let is_valid = name
                .split_once('/')
                .is_some_and(|(provider, model)| !provider.is_empty() && !model.is_empty());
            if !is_valid {
                self.error(line, "the name must have the form provider/model");
            }
            if !seen.insert(name) {
                self.error(line, "is listed twice; put all periods into one list");
            }
            prices.push((name.clone(), self.price(&entry.node)));
        }
        PriceTable::new(prices)
    }

    fn price(&mut self, node: &Node) -> Price {
        let Value::List(items) = &node.value else {
            self.expect("a list of periods, each with `from`", node);
            return Price::default();
        };
        if items.is_empty() {
            let line = node.mark.line;
            self.error(
                line,
                "has no periods; add at least one with `from` and `input`",
            );
        }
        let mut days = HashSet::new();
        let mut periods = Vec::new();
        for (index, item) in items.iter().enumerate() {
            if let Some(period) = self.below(&format!("[{index}]"), |r| r.period(item)) {
                if !days.insert(period.from) {
                    let message = format!("two periods begin on {}; remove one", period.from);
                    self.error(item.mark.line, &message);
                }
                periods.push(period);
            }
        }
        Price::new(periods)
    }

    fn period(&mut self, node: &Node) -> Option<PricePeriod> {
        let Value::Map(entries) = &node.value else {
            self.expect("a mapping with `from`, `input` and `output`", node);
            return None;
        };
        let (mut from, mut tiers, mut service_tiers) = (None, Vec::new(), Vec::new());
        let mut rates = Rates::default();
        let known = ["from", "tiers", "service_tiers"];
        self.entries(entries, |reader, key, value| match key {
            "from" => from = reader.day(value),
            "tiers" => tiers = reader.tiers(value),
            "service_tiers" => service_tiers = reader.service_tiers(value),
            _ => reader.rate(&mut rates, key, value, &known),
        });
        let line = node.mark.line;
        self.require(
            line,
            entries,
            "from",
            "the first day in UTC, for example 2026-01-01",
        );
        self.require(line, entries, "input", "USD per million input tokens");
        Some(PricePeriod::new(from?, rates, tiers, service_tiers))
    }

    fn tiers(&mut self, node: &Node) -> Vec<(u64, Rates)> {
        let Value::List(items) = &node.value else {
            self.expect("a list of mappings with `above`", node);
            return Vec::new();
        };
        let mut tiers = Vec::new();
        for (index, item) in items.iter().enumerate() {
            tiers.extend(self.below(&format!("[{index}]"), |reader| reader.tier(item)));
        }
        tiers
    }

    fn tier(&mut self, node: &Node) -> Option<(u64, Rates)> {
        let Value::Map(entries) = &node.value else {
            self.expect("a mapping with `above` and prices", node);
            return None;
        };
        let mut above = None;
        let mut rates = Rates::default();
        self.entries(entries, |reader, key, value| match key {
            "above" => above = reader.tokens(value),
            _ => reader.rate(&mut rates, key, value, &["above"]),
        });
        let meaning = "the number of input tokens above which the tier applies";
        self.require(node.mark.line, entries, "above", meaning);
        Some((above?, rates))
    }

    fn service_tiers(&mut self, node: &Node) -> Vec<(ServiceTier, Rates)> {
        let Value::Map(entries) = &node.value else {
            self.expect("a mapping of flex, priority or batch to prices", node);
            return Vec::new();
        };
        let mut tiers = Vec::new();
        self.entries(entries, |reader, key, value| {
            let Some(tier) = SERVICE_TIERS.into_iter().find(|tier| tier.name() == key) else {
                let names = SERVICE_TIERS.each_ref().map(ServiceTier::name);
                return reader.unknown(value.mark.line, key, &names);
            };
            let Value::Map(prices) = &value.value else {
                return reader.expect("a mapping of prices", value);
            };
            let mut rates = Rates::default();
            reader.entries(prices, |reader, key, value| {
                reader.rate(&mut rates, key, value, &[]);
            });
            tiers.push((tier, rates));
        });
        tiers
    }

    fn entries(&mut self, entries: &[Entry], mut each: impl FnMut(&mut Self, &str, &Node)) {
        let mut seen = HashSet::new();
        for entry in entries {
            self.below(&format!(".{}", entry.key), |reader| {
                if seen.insert(&entry.key) {
                    each(reader, &entry.key, &entry.node);
                } else {
                    reader.error(entry.mark.line, "is set twice; remove one of them");
                }
            });
        }
    }

    fn rate(&mut self, rates: &mut Rates, key: &str, node: &Node, others: &[&'static str]) {
        let class = Class::from_name(key);
        if class.is_none() && !OTHER_PRICES.contains(&key) {
            let names = Class::ALL.map(Class::name).into_iter().chain(OTHER_PRICES);
            let names: Vec<&str> = names.chain(others.iter().copied()).collect();
            return self.unknown(node.mark.line, key, &names);
        }
        let Some(price) = self.amount(node) else {
            return;
        };
        match (class, key) {
            (Some(class), _) => rates.set(class, price),
            (None, "per_request") => rates.per_request = Some(price),
            (None, _) => rates.searches_per_1k = Some(price),
        }
    }

    fn amount(&mut self, node: &Node) -> Option<Amount> {
        let text = self.text(node, "a price in USD, for example 0.15")?;
        // The text itself is parsed: a float in between would lose digits.
        let number = Decimal::from_str_exact(text).or_else(|_| Decimal::from_scientific(text));
        let number =
            number.map_err(|_| format!("`{text}` is not a price; write USD, for example 0.15"));
        match number.and_then(|usd| Amount::new(usd).map_err(|error| error.to_string())) {
            Ok(price) => Some(price),
            Err(message) => {
                self.error(node.mark.line, &message);
                None
            }
        }
    }

    fn day(&mut self, node: &Node) -> Option<Date> {
        let text = self.text(node, "a date, for example 2026-01-01")?;
        let day = text.parse().ok();
        if day.is_none() {
            let message = format!("`{text}` is not a date; write it as 2026-01-01");
            self.error(node.mark.line, &message);
        }
        day
    }

    fn tokens(&mut self, node: &Node) -> Option<u64> {
        let text = self.text(node, "a number of tokens, for example 200000")?;
        let tokens = text.replace('_', "").parse().ok();
        if tokens.is_none() {
            let message = format!("`{text}` is not a number of tokens; write it as 200000");
            self.error(node.mark.line, &message);
        }
        tokens
    }

    fn text<'n>(&mut self, node: &'n Node, wanted: &str) -> Option<&'n str> {
        let text = node.text().filter(|_| !node.is_null());
        if text.is_none() {
            self.expect(wanted, node);
        }
        text
    }

    /// Reports a missing field.
    fn require(&mut self, line: usize, entries: &[Entry], key: &str, meaning: &str) {
        if !entries.iter().any(|entry| entry.key == key) {
            self.error(line, &format!("`{key}` is missing; add {meaning}"));
        }
    }

    fn unknown(&mut self, line: usize, key: &str, known: &[&str]) {
        let remedy = match nearest(key, known.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("known fields: {}", known.join(", ")),
        };
        self.error(line, &format!("unknown field; {remedy}"));
    }

    /// Reports a node that has another kind than is wanted.
    fn expect(&mut self, wanted: &str, node: &Node) {
        let message = format!("expected {wanted}, found {}", node.kind());
        self.error(node.mark.line, &message);
    }

    fn error(&mut self, line: usize, message: &str) {
        self.errors.push(PriceError {
            line,
            path: self.path.clone(),
            message: message.to_owned(),
        });
    }

    fn below<T>(&mut self, step: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let len = self.path.len();
        self.path.push_str(step);
        let out = read(self);
        self.path.truncate(len);
        out
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use llm_router_domain::usage::Usage;

    use super::*;

    fn errors(text: &str) -> Vec<String> {
        read(text)
            .err()
            .unwrap_or_default()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn every_mistake_is_named_with_its_line() {
        let text = "\
gpt-4o: [{ from: 2026-01-01, input: 1 }]
a/b:
  - { from: yesterday, input: 0.15, ouput: 1 }
  - input: -1
    from: 2026-02-01
    tiers: [{ input: 1 }, { above: many, input: 1 }]
    service_tiers: { flexx: { input: 1 }, flex: 3 }
  - { from: 2026-02-01, input: 0.0000000001, output: x }
a/c: 3
a/d: []
a/b: [{ from: 2026-01-01, input: [1], input: 2 }]
";
        let expected = [
            "1: gpt-4o: the name must have the form provider/model",
            "3: a/b[0].from: `yesterday` is not a date; write it as 2026-01-01",
            "3: a/b[0].ouput: unknown field; did you mean `output`?",
            "4: a/b[1].input: a price can't be below 0",
            "6: a/b[1].tiers[0]: `above` is missing; add the number of input tokens above which the tier applies",
            "6: a/b[1].tiers[1].above: `many` is not a number of tokens; write it as 200000",
            "7: a/b[1].service_tiers.flexx: unknown field; did you mean `flex`?",
            "7: a/b[1].service_tiers.flex: expected a mapping of prices, found a single value",
            "8: a/b[2].input: a price has at most 9 digits after the point",
            "8: a/b[2].output: `x` is not a price; write USD, for example 0.15",
            "8: a/b: two periods begin on 2026-02-01; remove one",
            "9: a/c: expected a list of periods, each with `from`, found a single value",
            "10: a/d: has no periods; add at least one with `from` and `input`",
            "11: a/b: is listed twice; put all periods into one list",
            "11: a/b[0].input: expected a price in USD, for example 0.15, found a list",
            "11: a/b[0].input: is set twice; remove one of them",
        ];
        assert_eq!(errors(text), expected);
    }

    #[test]
    fn other_texts_are_refused_or_empty() {
        for (text, expected) in [
            ("", None),
            ("# nothing yet\n", None),
            (
                "- a",
                Some("1: prices: expected a mapping of provider/model to periods, found a list"),
            ),
            ("a/b: &x [{ from: 2026-01-01, input: 1 }]\na/c: *x", None),
            (
                "a/b: []\n---\na/c: []",
                Some(
                    "2: prices: a second YAML document begins here; keep one document in the file \
                     and remove the line `---`",
                ),
            ),
            (
                "a/b:",
                Some("1: a/b: expected a list of periods, each with `from`, found nothing"),
            ),
            (
                "a/b: [{ from: 2026-01-01 }]",
                Some("1: a/b[0]: `input` is missing; add USD per million input tokens"),
            ),
        ] {
            assert_eq!(
                errors(text).first().map(String::as_str),
                expected,
                "{text:?}"
            );
        }
        assert!(!errors("a: [").is_empty());
    }

    #[test]
    fn prices_keep_their_digits() {
        for (written, cost) in [
            ("0.1", "0.1"),
            ("\"0.30\"", "0.3"),
            ("1e-3", "0.001"),
            ("0.123456789", "0.123456789"),
        ] {
            let table = read(&format!("a/b: [{{from: 2026-01-01, input: {written}}}]")).unwrap();
            let usage = Usage::default().with(Class::Input, 1_000_000);
            let price = table
                .get("a/b")
                .unwrap()
                .cost(&usage, date(2026, 1, 1))
                .usd()
                .unwrap();
            assert_eq!(price.to_string(), cost, "{written}");
        }
    }

    #[test]
    fn tiers_and_other_prices_are_read() {
        let text = "
a/b:
  - from: 2026-01-01
    input: 1
    output: 2
    per_request: 0.5
    searches_per_1k: 10
    tiers:
      - { above: 200_000, input: 3 }
    service_tiers:
      priority: { input: 7 }
";
        let price = read(text).unwrap().get("a/b").unwrap().as_ref().clone();
        let cost = |usage: Usage| {
            price
                .cost(&usage, date(2026, 1, 1))
                .usd()
                .unwrap()
                .to_string()
        };
        let mut usage = Usage::default().with(Class::Input, 200_000);
        assert_eq!(cost(usage), "0.7");
        usage.set(Class::Input, 300_000);
        assert_eq!(cost(usage), "1.4");
        usage.service_tier = ServiceTier::PRIORITY;
        usage.set_uses(llm_router_domain::usage::Fee::WebSearch, 1);
        assert_eq!(cost(usage), "2.61");
    }
}
