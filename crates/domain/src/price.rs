//! Prices of tokens, dated, by provider and model, and the exact cost of a usage. It must not hold
//! any actual price; reading a prices file belongs to `llm-router-prices`.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use jiff::civil::Date;
use rust_decimal::Decimal;

use crate::usage::{Class, Fee, ServiceTier, Usage};

/// Digits after the point that a price may have, in USD per million tokens. With it every cost
/// is a whole number of 10⁻¹⁵ USD, which is what the stores keep.
pub const MAX_SCALE: u32 = 9;

/// Highest price accepted, in USD per million tokens.
pub const MAX_PRICE: u32 = 1_000_000;

const TOKENS_PER_PRICE: u32 = 6;
const SEARCHES_PER_PRICE: u32 = 3;

/// Reason for which a number is not a valid price.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Below zero.
    #[error("a price can't be below 0")]
    Negative,
    /// Above [`MAX_PRICE`].
    #[error("a price above {MAX_PRICE} USD is surely a slip")]
    TooLarge,
    /// More digits than [`MAX_SCALE`].
    #[error("a price has at most {MAX_SCALE} digits after the point")]
    TooFine,
}

/// A price that was checked: not negative, not absurd, fine enough to be exact everywhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Amount(Decimal);

impl Amount {
    /// Checks a price in USD.
    ///
    /// # Errors
    /// Returns an error if it is negative, above [`MAX_PRICE`], or has more than [`MAX_SCALE`]
    /// digits.
    pub fn new(usd: Decimal) -> Result<Self, AmountError> {
        let usd = usd.normalize();
        if usd.is_sign_negative() && !usd.is_zero() {
            Err(AmountError::Negative)
        } else if usd > Decimal::from(MAX_PRICE) {
            Err(AmountError::TooLarge)
        } else if usd.scale() > MAX_SCALE {
            Err(AmountError::TooFine)
        } else {
            Ok(Self(usd))
        }
    }

    /// The price in USD.
    #[must_use]
    pub const fn usd(self) -> Decimal {
        self.0
    }

    /// `count` times this price, which is for 10^`per` of them.
    fn times(self, count: u64, per: u32) -> Decimal {
        // Neither can overflow: a price has at most 15 digits in all, a count at most 11.
        let mut product = self.0 * Decimal::from(count);
        let scale = product.scale() + per;
        if product.set_scale(scale).is_err() {
            return Decimal::ZERO;
        }
        product
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One row of figures: USD per million tokens by class, and what is billed by the piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rates {
    tokens: [Option<Amount>; Class::COUNT],
    /// USD for a thousand web searches.
    pub searches_per_1k: Option<Amount>,
    /// USD for a request, whatever its size.
    pub per_request: Option<Amount>,
}

impl Rates {
    /// Sets the price of a class.
    pub fn set(&mut self, class: Class, price: Amount) {
        if let Some(rate) = self.tokens.get_mut(class as usize) {
            *rate = Some(price);
        }
    }

    /// The same rates with the price of a class replaced.
    #[must_use]
    pub fn with(mut self, class: Class, price: Amount) -> Self {
        self.set(class, price);
        self
    }

    /// The price a class has of its own.
    #[must_use]
    pub fn own(&self, class: Class) -> Option<Amount> {
        self.tokens.get(class as usize).copied().flatten()
    }

    /// The price a class costs: its own, else that of plain input or output.
    #[must_use]
    pub fn rate(&self, class: Class) -> Option<Amount> {
        let plain = if class.is_input() {
            Class::Input
        } else {
            Class::Output
        };
        self.own(class).or_else(|| self.own(plain))
    }

    /// These rates where they say something, else those of `base`.
    #[must_use]
    pub fn over(&self, base: &Self) -> Self {
        let mut rates = base.clone();
        for (class, own) in Class::ALL.into_iter().zip(self.tokens) {
            if let Some(price) = own {
                rates.set(class, price);
            }
        }
        rates.searches_per_1k = self.searches_per_1k.or(base.searches_per_1k);
        rates.per_request = self.per_request.or(base.per_request);
        rates
    }

    /// The exact cost, or none where a counted class has no price.
    fn cost(&self, usage: &Usage) -> Option<Decimal> {
        let mut cost = self.per_request.map_or(Decimal::ZERO, Amount::usd);
        for (class, tokens) in usage.iter() {
            cost += self.rate(class)?.times(tokens, TOKENS_PER_PRICE);
        }
        if let Some(price) = self.searches_per_1k {
            let searches = u64::from(usage.uses(Fee::WebSearch));
            cost += price.times(searches, SEARCHES_PER_PRICE);
        }
        Some(cost.normalize())
    }
}

/// The prices of a model from one day on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PricePeriod {
    /// The first day (UTC) these prices hold.
    pub from: Date,
    rates: Rates,
    /// By ascending threshold: the rates of a request with more input tokens than that.
    tiers: Vec<(u64, Rates)>,
    service_tiers: Vec<(ServiceTier, Rates)>,
}

impl PricePeriod {
    /// A period. A tier's rates that say nothing of a class leave it at the period's own price.
    #[must_use]
    pub fn new(
        from: Date,
        rates: Rates,
        tiers: impl IntoIterator<Item = (u64, Rates)>,
        service_tiers: impl IntoIterator<Item = (ServiceTier, Rates)>,
    ) -> Self {
        let mut tiers: Vec<_> = tiers
            .into_iter()
            .map(|(above, own)| (above, own.over(&rates)))
            .collect();
        tiers.sort_by_key(|(above, _)| *above);
        let service_tiers = service_tiers
            .into_iter()
            .map(|(tier, own)| (tier, own.over(&rates)))
            .collect();
        Self {
            from,
            rates,
            tiers,
            service_tiers,
        }
    }

    /// The rates that hold for a usage. A service tier with prices of its own decides before the
    /// length of the context does.
    #[must_use]
    pub fn rates(&self, usage: &Usage) -> &Rates {
        let service = self
            .service_tiers
            .iter()
            .find(|(tier, _)| *tier == usage.service_tier);
        if let Some((_, rates)) = service {
            return rates;
        }
        let input = usage.input_total();
        let tier = self.tiers.iter().rev().find(|(above, _)| input > *above);
        tier.map_or(&self.rates, |(_, rates)| rates)
    }

    /// The list price: no tier applied.
    #[must_use]
    pub const fn list(&self) -> &Rates {
        &self.rates
    }
}

/// Every price a model has had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Price {
    periods: Vec<PricePeriod>,
}

impl Price {
    /// A price of these periods.
    #[must_use]
    pub fn new(mut periods: Vec<PricePeriod>) -> Self {
        periods.sort_by_key(|period| period.from);
        Self { periods }
    }

    /// The period that holds on a day.
    #[must_use]
    pub fn on(&self, day: Date) -> Option<&PricePeriod> {
        self.periods.iter().rev().find(|period| period.from <= day)
    }

    /// The exact cost of a usage on a day.
    #[must_use]
    pub fn cost(&self, usage: &Usage, day: Date) -> Cost {
        let cost = self
            .on(day)
            .and_then(|period| period.rates(usage).cost(usage));
        cost.map_or(Cost::Unpriced, Cost::Usd)
    }
}

/// Cost of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cost {
    /// Exactly this much.
    Usd(Decimal),
    /// No price is known. It is not zero.
    Unpriced,
}

impl Cost {
    /// The amount, if there is a price.
    #[must_use]
    pub const fn usd(self) -> Option<Decimal> {
        match self {
            Self::Usd(usd) => Some(usd),
            Self::Unpriced => None,
        }
    }
}

/// Prices by `provider/model`.
#[derive(Clone, Debug, Default)]
pub struct PriceTable {
    prices: HashMap<String, Arc<Price>>,
}

impl PriceTable {
    /// A table of these prices; of two for one name the later wins.
    #[must_use]
    pub fn new(prices: impl IntoIterator<Item = (String, Price)>) -> Self {
        Self {
            prices: prices
                .into_iter()
                .map(|(name, price)| (name, Arc::new(price)))
                .collect(),
        }
    }

    /// This table with every price of `other` put in, in place of one of the same name.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.prices.extend(other.prices);
        self
    }

    /// Puts one price in, in place of one of the same name.
    pub fn insert(&mut self, name: String, price: Price) {
        self.prices.insert(name, Arc::new(price));
    }

    /// Returns the number of names with a price.
    #[must_use]
    pub fn len(&self) -> usize {
        self.prices.len()
    }

    /// Returns true if no name has a price.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.prices.is_empty()
    }

    /// The names, in no order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.prices.keys().map(String::as_str)
    }

    /// The price of exactly `provider/model`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Price>> {
        self.prices.get(name)
    }

    /// The price of a deployment: by the provider's id, then by its type; then the same for the
    /// model without its snapshot date (`gpt-4o-2024-08-06`, `claude-haiku-4-5-20251001`).
    #[must_use]
    pub fn find(&self, id: &str, kind: &str, model: &str) -> Option<&Arc<Price>> {
        let exact = |model: &str| {
            self.get(&format!("{id}/{model}"))
                .or_else(|| self.get(&format!("{kind}/{model}")))
        };
        exact(model).or_else(|| exact(strip_date(model)?))
    }

    /// The price of an attempt: that of the deployment's model, else that of the model which the
    /// provider says it served.
    #[must_use]
    pub fn find_served(
        &self,
        id: &str,
        kind: &str,
        model: &str,
        served: Option<&str>,
    ) -> Option<&Arc<Price>> {
        self.find(id, kind, model)
            .or_else(|| self.find(id, kind, served?))
    }
}

/// The name without a snapshot date or `-latest` at its end, if it has one.
fn strip_date(model: &str) -> Option<&str> {
    if let Some(name) = model.strip_suffix("-latest") {
        return Some(name);
    }
    let digits = |text: &str, len| text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
    let (name, last) = model.rsplit_once(['-', '@'])?;
    if digits(last, 8) {
        return Some(name);
    }
    let (name, month) = name.rsplit_once('-')?;
    let (name, year) = name.rsplit_once('-')?;
    (digits(last, 2) && digits(month, 2) && digits(year, 4)).then_some(name)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;
    use crate::usage::MAX_TOKENS;

    fn amount(text: &str) -> Amount {
        Amount::new(text.parse().unwrap()).unwrap()
    }

    fn rates(figures: &[(Class, &str)]) -> Rates {
        figures
            .iter()
            .fold(Rates::default(), |rates, (class, text)| {
                rates.with(*class, amount(text))
            })
    }

    fn flat(figures: &[(Class, &str)]) -> Price {
        Price::new(vec![PricePeriod::new(
            date(2026, 1, 1),
            rates(figures),
            [],
            [],
        )])
    }

    fn usd(cost: Cost) -> String {
        cost.usd()
            .map_or_else(|| "unpriced".into(), |usd| usd.to_string())
    }

    const DAY: Date = date(2026, 6, 1);

    #[test]
    fn cost_is_exact_to_the_last_digit() {
        let price = flat(&[
            (Class::Input, "0.15"),
            (Class::CacheRead, "0.075"),
            (Class::Output, "0.60"),
        ]);
        let usage = Usage::default()
            .with(Class::Input, 1)
            .with(Class::CacheRead, 3)
            .with(Class::Output, 7)
            .with(Class::Reasoning, 2);
        // 0.15 + 0.225 + 5.4, each millionth.
        assert_eq!(usd(price.cost(&usage, DAY)), "0.000005775");
    }

    #[test]
    fn a_class_without_a_price_costs_as_input_or_output() {
        let price = flat(&[(Class::Input, "2"), (Class::Output, "10")]);
        for class in Class::ALL {
            let cost = price.cost(&Usage::default().with(class, 1_000_000), DAY);
            assert_eq!(
                usd(cost),
                if class.is_input() { "2" } else { "10" },
                "{class:?}"
            );
        }
        let no_output = flat(&[(Class::Input, "2")]);
        assert_eq!(
            no_output.cost(&Usage::default().with(Class::Output, 1), DAY),
            Cost::Unpriced
        );
    }

    #[test]
    fn periods_begin_on_their_day() {
        let from = |day, price| PricePeriod::new(day, rates(&[(Class::Input, price)]), [], []);
        let price = Price::new(vec![
            from(date(2026, 3, 1), "2"),
            from(date(2026, 1, 1), "1"),
        ]);
        let usage = Usage::default().with(Class::Input, 1_000_000);
        for (day, cost) in [
            (date(2025, 12, 31), "unpriced"),
            (date(2026, 1, 1), "1"),
            (date(2026, 2, 28), "1"),
            (date(2026, 3, 1), "2"),
        ] {
            assert_eq!(usd(price.cost(&usage, day)), cost, "{day}");
        }
    }

    #[test]
    fn long_contexts_and_service_tiers_have_their_own_rates() {
        let price = Price::new(vec![PricePeriod::new(
            date(2026, 1, 1),
            rates(&[
                (Class::Input, "2"),
                (Class::CacheRead, "0.2"),
                (Class::Output, "12"),
            ]),
            [(
                200_000,
                rates(&[(Class::Input, "4"), (Class::Output, "18")]),
            )],
            [(
                ServiceTier::FLEX,
                rates(&[(Class::Input, "1"), (Class::Output, "6")]),
            )],
        )]);
        let at = |input, cached| {
            Usage::default()
                .with(Class::Input, input)
                .with(Class::CacheRead, cached)
        };
        assert_eq!(usd(price.cost(&at(100_000, 100_000), DAY)), "0.22");
        assert_eq!(usd(price.cost(&at(100_001, 100_000), DAY)), "0.420004");
        let mut flex = at(300_000, 0);
        flex.service_tier = ServiceTier::FLEX;
        assert_eq!(usd(price.cost(&flex, DAY)), "0.3");
    }

    #[test]
    fn searches_and_requests_are_billed_by_the_piece() {
        let mut rates = rates(&[(Class::Input, "1")]);
        rates.searches_per_1k = Some(amount("10"));
        rates.per_request = Some(amount("0.005"));
        let price = Price::new(vec![PricePeriod::new(date(2026, 1, 1), rates, [], [])]);
        let mut usage = Usage::default();
        usage.set_uses(Fee::WebSearch, 3);
        assert_eq!(usd(price.cost(&usage, DAY)), "0.035");
    }

    #[test]
    fn the_largest_usage_at_the_dearest_price_is_still_exact() {
        let price = flat(&[
            (Class::Input, "999999.999999999"),
            (Class::Output, "1000000"),
        ]);
        let usage = Class::ALL
            .into_iter()
            .fold(Usage::default(), |usage, class| {
                usage.with(class, MAX_TOKENS)
            });
        assert_eq!(usd(price.cost(&usage, DAY)), "169999999999.99989");
    }

    #[test]
    fn numbers_that_are_no_price_are_refused() {
        for (text, error) in [
            ("-1", AmountError::Negative),
            ("1000001", AmountError::TooLarge),
            ("0.0000000001", AmountError::TooFine),
        ] {
            assert_eq!(Amount::new(text.parse().unwrap()), Err(error), "{text}");
        }
        assert_eq!(amount("1.500000000000").usd().to_string(), "1.5");
    }

    #[test]
    fn lookup_goes_by_id_then_type_then_without_the_date() {
        let price = |text| flat(&[(Class::Input, text)]);
        let table = PriceTable::new([
            ("mine/m".to_owned(), price("1")),
            ("openai/m".to_owned(), price("2")),
            ("openai/gpt-4o".to_owned(), price("3")),
            ("anthropic/claude-haiku-4-5".to_owned(), price("4")),
        ]);
        let find = |id, kind, model, served| {
            let usage = Usage::default().with(Class::Input, 1_000_000);
            table
                .find_served(id, kind, model, served)
                .map_or_else(|| "none".into(), |price| usd(price.cost(&usage, DAY)))
        };
        for (id, kind, model, served, expected) in [
            ("mine", "openai", "m", None, "1"),
            ("other", "openai", "m", None, "2"),
            ("other", "openai", "gpt-4o-2024-08-06", None, "3"),
            ("other", "anthropic", "claude-haiku-4-5-20251001", None, "4"),
            ("other", "anthropic", "claude-haiku-4-5@20251001", None, "4"),
            (
                "other",
                "openai",
                "my-alias",
                Some("gpt-4o-2024-08-06"),
                "3",
            ),
            ("other", "openai", "my-alias", Some("unknown"), "none"),
            ("other", "openai", "gpt-4o-mini", None, "none"),
        ] {
            assert_eq!(
                find(id, kind, model, served),
                expected,
                "{id} {kind} {model}"
            );
        }
    }
}
