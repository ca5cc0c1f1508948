//! Amounts of money, and factors of prices.

use std::fmt;

use llm_router_domain::price::{Factor, MAX_FACTOR};
use llm_router_yaml::ValueError;
use rust_decimal::Decimal;

use super::TextSetting;

/// US dollars, exact as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Usd(pub(crate) Decimal);

impl TextSetting for Usd {
    const FORMAT: &'static str = "usd";
    const TYPES: &'static [&'static str] = &["number", "string"];
    const EXAMPLES: &'static [&'static str] = &["50", "12.50"];

    fn parse(text: &str) -> Result<Self, ValueError> {
        let amount = Decimal::from_str_exact(text.trim());
        let amount = amount.ok().filter(|amount| *amount > Decimal::ZERO);
        amount.map(Self).ok_or_else(|| {
            ValueError::new(
                "is not an amount above 0",
                "write US dollars with a decimal point, for example 50 or 12.50",
            )
        })
    }
}

impl fmt::Display for Usd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A number that prices are multiplied by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PriceFactor(pub(crate) Factor);

impl TextSetting for PriceFactor {
    const FORMAT: &'static str = "price-factor";
    const TYPES: &'static [&'static str] = &["number", "string"];
    const EXAMPLES: &'static [&'static str] = &["0.85", "1.1"];

    fn parse(text: &str) -> Result<Self, ValueError> {
        let number = Decimal::from_str_exact(text.trim()).ok();
        let factor = number.and_then(|number| Factor::new(number).ok());
        factor.map(Self).ok_or_else(|| {
            ValueError::new(
                format!("is not a number above 0 and up to {MAX_FACTOR}"),
                "write the part of the list price that you pay, for example 0.85",
            )
        })
    }
}

impl fmt::Display for PriceFactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.number().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::super::assert_texts;
    use super::*;

    #[test]
    fn amounts() {
        assert_texts::<Usd>(
            &[
                ("50", |usd| usd.to_string() == "50"),
                ("0.1", |usd| usd.to_string() == "0.1"),
                ("12345678.123456789012", |usd| {
                    usd.to_string() == "12345678.123456789012"
                }),
            ],
            &[
                ("0", "above 0"),
                ("-1", "above 0"),
                ("$50", "US dollars"),
                ("1,50", "US dollars"),
                ("", "US dollars"),
                (".inf", "US dollars"),
            ],
        );
    }
}
