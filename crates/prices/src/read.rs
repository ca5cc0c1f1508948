//! The shape of a prices file: names, periods, figures, and what is wrong with them. It must not
//! stop at the first mistake.

use std::collections::HashSet;
use std::fmt;

use jiff::civil::Date;
use llm_router_domain::price::{Amount, Price, PricePeriod, PriceTable, Rates};
use llm_router_domain::usage::{Class, ServiceTier};
use rust_decimal::Decimal;

use crate::tree::{self, Node, Value};

const PIECES: [&str; 2] = ["searches_per_1k", "per_request"];
const SERVICE_TIERS: [ServiceTier; 3] =
    [ServiceTier::Flex, ServiceTier::Priority, ServiceTier::Batch];

/// A mistake in a prices file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PriceError {
    /// The line, from 1.
    pub line: usize,
    /// The way to the value, as `openai/gpt-4o[0].input`.
    pub path: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl fmt::Display for PriceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.line, self.path, self.message)
    }
}

/// Reads a prices file.
///
/// # Errors
/// Every mistake in it; only a text that is no YAML ends at its first.
pub fn read(text: &str) -> Result<PriceTable, Vec<PriceError>> {
    let root = tree::parse(text).map_err(|(line, message)| {
        vec![PriceError {
            line,
            path: "prices".to_owned(),
            message,
        }]
    })?;
    let mut reader = Reader::default();
    let table = reader.table(&root);
    if reader.errors.is_empty() {
        Ok(table)
    } else {
        Err(reader.errors)
    }
}

#[derive(Default)]
struct Reader {
    errors: Vec<PriceError>,
    path: String,
}

impl Reader {
    fn table(&mut self, root: &Node) -> PriceTable {
        let entries = match &root.value {
            Value::Null => return PriceTable::default(),
            Value::Map(entries) => entries,
            other => {
                "prices".clone_into(&mut self.path);
                self.expected(root.line, "a mapping of provider/model to periods", other);
                return PriceTable::default();
            }
        };
        let mut seen = HashSet::new();
        let mut prices = Vec::new();
        for (line, name, node) in entries {
            self.path.clone_from(name);
            let named = name
                .split_once('/')
                .is_some_and(|(a, b)| !a.is_empty() && !b.is_empty());
            if !named {
                self.error(*line, "a name has the form provider/model");
            }
            if !seen.insert(name) {
                self.error(*line, "stands here twice; put all periods into one list");
            }
            prices.push((name.clone(), self.price(node)));
        }
        PriceTable::new(prices)
    }

    fn price(&mut self, node: &Node) -> Price {
        let Value::List(items) = &node.value else {
            self.expected(
                node.line,
                "a list of periods, each with `from`",
                &node.value,
            );
            return Price::default();
        };
        if items.is_empty() {
            self.error(
                node.line,
                "has no period; give at least one with `from` and `input`",
            );
        }
        let mut days = HashSet::new();
        let mut periods = Vec::new();
        for (index, item) in items.iter().enumerate() {
            if let Some(period) = self.below(&format!("[{index}]"), |r| r.period(item)) {
                if !days.insert(period.from) {
                    let message = format!("two periods begin on {}", period.from);
                    self.error(item.line, &message);
                }
                periods.push(period);
            }
        }
        Price::new(periods)
    }

    fn period(&mut self, node: &Node) -> Option<PricePeriod> {
        let Value::Map(entries) = &node.value else {
            self.expected(
                node.line,
                "a mapping with `from`, `input` and `output`",
                &node.value,
            );
            return None;
        };
        let (mut from, mut tiers, mut service_tiers) = (None, Vec::new(), Vec::new());
        let mut rates = Rates::default();
        let known = ["from", "tiers", "service_tiers"];
        self.entries(entries, |reader, key, value| match key {
            "from" => from = reader.day(value),
            "tiers" => tiers = reader.tiers(value),
            "service_tiers" => service_tiers = reader.service_tiers(value),
            _ => reader.figure(&mut rates, key, value, &known),
        });
        self.require(
            node.line,
            entries,
            "from",
            "the first day (UTC), as 2026-01-01",
        );
        self.require(node.line, entries, "input", "USD per million input tokens");
        Some(PricePeriod::new(from?, rates, tiers, service_tiers))
    }

    fn tiers(&mut self, node: &Node) -> Vec<(u64, Rates)> {
        let Value::List(items) = &node.value else {
            self.expected(node.line, "a list of mappings with `above`", &node.value);
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
            self.expected(node.line, "a mapping with `above` and prices", &node.value);
            return None;
        };
        let mut above = None;
        let mut rates = Rates::default();
        self.entries(entries, |reader, key, value| match key {
            "above" => above = reader.tokens(value),
            _ => reader.figure(&mut rates, key, value, &["above"]),
        });
        self.require(
            node.line,
            entries,
            "above",
            "input tokens above which the tier holds",
        );
        Some((above?, rates))
    }

    fn service_tiers(&mut self, node: &Node) -> Vec<(ServiceTier, Rates)> {
        let Value::Map(entries) = &node.value else {
            self.expected(
                node.line,
                "a mapping of flex, priority or batch to prices",
                &node.value,
            );
            return Vec::new();
        };
        let mut tiers = Vec::new();
        self.entries(entries, |reader, key, value| {
            let Some(tier) = SERVICE_TIERS.into_iter().find(|tier| tier.name() == key) else {
                return reader.unknown(value.line, key, SERVICE_TIERS.map(ServiceTier::name));
            };
            let Value::Map(figures) = &value.value else {
                return reader.expected(value.line, "a mapping of prices", &value.value);
            };
            let mut rates = Rates::default();
            reader.entries(figures, |reader, key, value| {
                reader.figure(&mut rates, key, value, &[])
            });
            tiers.push((tier, rates));
        });
        tiers
    }

    fn entries(
        &mut self,
        entries: &[(usize, String, Node)],
        mut each: impl FnMut(&mut Self, &str, &Node),
    ) {
        let mut seen = HashSet::new();
        for (line, key, value) in entries {
            self.below(&format!(".{key}"), |reader| {
                if seen.insert(key) {
                    each(reader, key, value);
                } else {
                    reader.error(*line, "stands here twice");
                }
            });
        }
    }

    fn figure(&mut self, rates: &mut Rates, key: &str, node: &Node, others: &[&'static str]) {
        let class = Class::from_name(key);
        if class.is_none() && !PIECES.contains(&key) {
            let names = Class::ALL.map(Class::name).into_iter().chain(PIECES);
            return self.unknown(node.line, key, names.chain(others.iter().copied()));
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
        let text = self.text(node, "a price in USD, as 0.15")?;
        // The text itself is read: a detour over a float would lose digits.
        let number = Decimal::from_str_exact(text).or_else(|_| Decimal::from_scientific(text));
        let price = number.map_err(|_| format!("`{text}` is no price; write USD, as 0.15"));
        match price.and_then(|usd| Amount::new(usd).map_err(|error| error.to_string())) {
            Ok(price) => Some(price),
            Err(message) => {
                self.error(node.line, &message);
                None
            }
        }
    }

    fn day(&mut self, node: &Node) -> Option<Date> {
        let text = self.text(node, "a day, as 2026-01-01")?;
        let day = text.parse().ok();
        if day.is_none() {
            self.error(
                node.line,
                &format!("`{text}` is no day; write it as 2026-01-01"),
            );
        }
        day
    }

    fn tokens(&mut self, node: &Node) -> Option<u64> {
        let text = self.text(node, "a number of tokens, as 200000")?;
        let tokens = text.replace('_', "").parse().ok();
        if tokens.is_none() {
            self.error(
                node.line,
                &format!("`{text}` is no number of tokens, as 200000"),
            );
        }
        tokens
    }

    fn text<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n str> {
        if let Value::Text(text) = &node.value {
            return Some(text);
        }
        self.expected(node.line, what, &node.value);
        None
    }

    fn require(&mut self, line: usize, entries: &[(usize, String, Node)], key: &str, what: &str) {
        if !entries.iter().any(|(_, found, _)| found == key) {
            self.error(line, &format!("`{key}` is missing: {what}"));
        }
    }

    fn unknown<'k>(&mut self, line: usize, key: &str, known: impl IntoIterator<Item = &'k str>) {
        let like = |name: &&str| strsim::jaro_winkler(key, name);
        let nearest = known.into_iter().max_by(|a, b| like(a).total_cmp(&like(b)));
        let hint = nearest.filter(|name| like(name) > 0.75);
        let hint = hint.map_or(String::new(), |name| format!("; did you mean `{name}`?"));
        self.error(line, &format!("unknown field{hint}"));
    }

    fn expected(&mut self, line: usize, what: &str, found: &Value) {
        self.error(line, &format!("expected {what}, found {}", found.kind()));
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
            "1: gpt-4o: a name has the form provider/model",
            "3: a/b[0].from: `yesterday` is no day; write it as 2026-01-01",
            "3: a/b[0].ouput: unknown field; did you mean `output`?",
            "4: a/b[1].input: a price can't be below 0",
            "6: a/b[1].tiers[0]: `above` is missing: input tokens above which the tier holds",
            "6: a/b[1].tiers[1].above: `many` is no number of tokens, as 200000",
            "7: a/b[1].service_tiers.flexx: unknown field; did you mean `flex`?",
            "7: a/b[1].service_tiers.flex: expected a mapping of prices, found a single value",
            "8: a/b[2].input: a price has at most 9 digits after the point",
            "8: a/b[2].output: `x` is no price; write USD, as 0.15",
            "8: a/b: two periods begin on 2026-02-01",
            "9: a/c: expected a list of periods, each with `from`, found a single value",
            "10: a/d: has no period; give at least one with `from` and `input`",
            "11: a/b: stands here twice; put all periods into one list",
            "11: a/b[0].input: expected a price in USD, as 0.15, found a list",
            "11: a/b[0].input: stands here twice",
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
            (
                "a/b: &x [{ from: 2026-01-01, input: 1 }]\na/c: *x",
                Some("2: prices: anchors and aliases aren't read here"),
            ),
            (
                "a/b: [{ from: 2026-01-01 }]",
                Some("1: a/b[0]: `input` is missing: USD per million input tokens"),
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
    fn figures_keep_their_digits() {
        for (written, cost) in [
            ("0.1", "0.1"),
            ("\"0.30\"", "0.3"),
            ("1e-3", "0.001"),
            ("0.123456789", "0.123456789"),
        ] {
            let table = read(&format!("a/b: [{{from: 2026-01-01, input: {written}}}]")).unwrap();
            let usage = Usage::default().with(Class::Input, 1_000_000);
            let found = table
                .get("a/b")
                .unwrap()
                .cost(&usage, date(2026, 1, 1))
                .usd()
                .unwrap();
            assert_eq!(found.to_string(), cost, "{written}");
        }
    }

    #[test]
    fn tiers_and_pieces_are_read() {
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
        usage.service_tier = ServiceTier::Priority;
        usage.web_searches = 1;
        assert_eq!(cost(usage), "2.61");
    }
}
