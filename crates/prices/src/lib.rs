#![doc = include_str!("../README.md")]

mod facts;
mod read;
mod tree;

use llm_router_domain::price::PriceTable;

pub use facts::{
    BUILT_IN_FACTS, Capability, FactsTable, ModelFacts, ModelKind, built_in_facts, read_facts,
};
pub use read::read;
pub use tree::PriceError;

/// The text of the built-in table, `conf/prices.yaml`.
pub const BUILT_IN: &str = include_str!("../../../conf/prices.yaml");

/// Reads the built-in table.
///
/// # Errors
/// Returns the mistakes in the shipped file. It has none; a test of this crate reads it.
pub fn built_in() -> Result<PriceTable, Vec<PriceError>> {
    read(BUILT_IN)
}

/// Reads the built-in table and replaces its prices by the operator's for the same name.
///
/// # Errors
/// Returns every mistake of the operator's file, each with its line.
pub fn with_built_in(own: &str) -> Result<PriceTable, Vec<PriceError>> {
    Ok(built_in()?.merge(read(own)?))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use llm_router_domain::usage::{Class, Usage};

    use super::*;

    #[test]
    fn the_built_in_table_reads_and_is_large_enough() {
        let table = built_in().unwrap();
        assert!(table.len() >= 120, "{} models", table.len());
        let makers = [
            "openai",
            "anthropic",
            "gemini",
            "deepseek",
            "mistral",
            "groq",
            "xai",
            "alibaba",
        ];
        for maker in makers {
            let models = table
                .names()
                .filter(|name| name.split('/').next() == Some(maker))
                .count();
            assert!(models >= 3, "{maker}: {models} models");
        }
    }

    #[test]
    fn every_built_in_model_has_a_price_for_each_class_today() {
        let table = built_in().unwrap();
        let usage = Class::ALL
            .into_iter()
            .fold(Usage::default(), |u, class| u.with(class, 1));
        for name in table.names() {
            let cost = table
                .get(name)
                .unwrap()
                .cost(&usage, date(2026, 11, 24))
                .usd();
            assert!(cost.is_some_and(|usd| usd > 0.into()), "{name}: {cost:?}");
        }
    }

    #[test]
    fn built_in_figures_are_those_of_the_contract_example() {
        let table = built_in().unwrap();
        let million = |class| Usage::default().with(class, 1_000_000);
        for (name, class, usd) in [
            ("openai/gpt-4o-mini", Class::Input, "0.15"),
            ("openai/gpt-4o-mini", Class::CacheRead, "0.075"),
            ("openai/gpt-4o-mini", Class::Output, "0.6"),
            ("anthropic/claude-haiku-4-5", Class::CacheWrite5m, "1.25"),
            ("anthropic/claude-haiku-4-5", Class::CacheWrite1h, "2"),
            ("anthropic/claude-haiku-4-5", Class::Output, "5"),
        ] {
            let price = table.get(name).unwrap();
            let cost = price.cost(&million(class), date(2026, 6, 1)).usd().unwrap();
            assert_eq!(cost.to_string(), usd, "{name} {class:?}");
        }
    }

    #[test]
    fn own_prices_replace_built_in_ones() {
        let own = "openai/gpt-4o-mini: [{from: 2026-01-01, input: 7, output: 8}]\nmine/m: [{from: 2026-01-01, input: 1, output: 1}]";
        let table = with_built_in(own).unwrap();
        let usage = Usage::default().with(Class::CacheRead, 1_000_000);
        let cost = |id| {
            let price = table.find(id, "openai", "gpt-4o-mini").unwrap();
            price
                .cost(&usage, date(2026, 6, 1))
                .usd()
                .unwrap()
                .to_string()
        };
        // The built-in cached price went with its entry: cached input costs as much as input.
        assert_eq!(cost("openai"), "7");
        assert!(table.get("mine/m").is_some() && table.get("openai/gpt-4o").is_some());
    }
}
