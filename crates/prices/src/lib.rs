#![doc = include_str!("../README.md")]

mod facts;
mod read;
mod tree;

use jiff::civil::Date;
use llm_router_domain::price::PriceTable;
use xxhash_rust::xxh3::xxh3_64;

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
    let mut table = read(BUILT_IN)?;
    table.set_revision(&revision(&table, None));
    Ok(table)
}

/// Reads the built-in table and replaces its prices by the operator's for the same name.
///
/// # Errors
/// Returns every mistake of the operator's file, each with its line.
pub fn with_built_in(own: &str) -> Result<PriceTable, Vec<PriceError>> {
    let built_in = read(BUILT_IN)?;
    let name = revision(&built_in, Some(own));
    let mut table = built_in.merge(read(own)?);
    table.set_revision(&name);
    Ok(table)
}

/// Returns the newest day on which a figure of a table was compared with its source.
#[must_use]
pub fn checked(table: &PriceTable) -> Option<Date> {
    let periods = table.iter().flat_map(|(_, price)| price.periods());
    periods.filter_map(|period| period.checked).max()
}

/// The name of the tables in use: the day of the built-in one, and a hash of the operator's file.
fn revision(built_in: &PriceTable, own: Option<&str>) -> String {
    let day = checked(built_in).map_or_else(String::new, |day| format!(" {day}"));
    let own = own.map_or_else(String::new, |text| {
        let hash = xxh3_64(text.as_bytes()).to_string();
        format!(" + {}", hash.get(..8).unwrap_or(&hash))
    });
    format!("built-in{day}{own}")
}

#[cfg(test)]
mod tests {
    use llm_router_domain::usage::{Class, Usage};

    use super::*;

    #[test]
    fn own_prices_replace_built_in_ones() {
        let own = "openai/gpt-4o-mini: [{from: 2026-01-01, input: 7, output: 8}]\nmine/m: [{from: 2026-01-01, input: 1, output: 1}]";
        let table = with_built_in(own).unwrap();
        let usage = Usage::default().with(Class::CacheRead, 1_000_000);
        let price = table.find("openai", "openai", "gpt-4o-mini").unwrap();
        let charge = price.charge(&usage, "2026-06-01T12:00:00Z".parse().unwrap());
        // The built-in cached price went with its entry: cached input costs as much as input.
        assert_eq!(charge.cost.usd().unwrap().to_string(), "7");
        assert_eq!(charge.inexact.to_text(), "missing_rate:cached_input");
        let used = charge.price.unwrap();
        assert!(used.table.starts_with("built-in 2026-"), "{}", used.table);
        assert!(used.table.contains(" + "), "{}", used.table);
        assert!(table.get("mine/m").is_some() && table.get("openai/gpt-4o").is_some());
    }
}
