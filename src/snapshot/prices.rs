//! The price table of a configuration: the built-in one with the operator's file over it. What a
//! prices file may say is `llm-router-prices`'.

use std::fs;
use std::path::Path;

use jiff::Timestamp;
use jiff::civil::Date;
use llm_router_config::{Config, Mark, Problem, Report, Severity};
use llm_router_domain::ledger;
use llm_router_domain::price::{PricePeriod, PriceTable};
use llm_router_domain::usage::{Class, Fee};
use llm_router_prices::PriceError;

/// The table that requests are billed by.
///
/// # Errors
/// Every mistake of the operator's file, located.
pub(crate) fn table(own: Option<&Path>) -> Result<PriceTable, Report> {
    let Some(path) = own else {
        return llm_router_prices::built_in().map_err(|errors| report("built-in prices", errors));
    };
    let file = path.to_string_lossy();
    let text = fs::read_to_string(path).map_err(|error| {
        let mistake = PriceError {
            line: 1,
            path: "prices".to_owned(),
            message: format!("failed to read the file: {error}"),
        };
        report(&file, vec![mistake])
    })?;
    llm_router_prices::with_built_in(&text).map_err(|errors| report(&file, errors))
}

/// Days after which the built-in table is called old.
const OLD_AFTER_DAYS: i32 = 60;

/// Returns what an operator should know of the prices: models without one, entries of their own
/// that leave out what the built-in ones have, and the age of the table.
pub(crate) fn warnings(config: &Config, table: &PriceTable, now: Timestamp) -> Vec<String> {
    let today = ledger::day(now);
    let mut sentences = find_unpriced(config, table);
    if let Ok(built_in) = llm_router_prices::built_in() {
        let own = config.prices.as_deref().map(fs::read_to_string);
        let own = own.and_then(Result::ok);
        let own = own.and_then(|text| llm_router_prices::read(&text).ok());
        sentences.extend(own.iter().flat_map(|own| find_gaps(own, &built_in, today)));
        sentences.extend(llm_router_prices::last_check(&built_in).and_then(|day| age(day, today)));
    }
    sentences
}

/// Returns a sentence if the built-in table is old.
fn age(checked: Date, today: Date) -> Option<String> {
    let days = (today - checked).get_days();
    (days > OLD_AFTER_DAYS).then(|| {
        format!(
            "prices: the built-in table was compared with its sources on {checked}, {days} days ago: \
             update the router, or take newer prices into your own file with `llm-router prices \
             update`"
        )
    })
}

/// Returns a sentence for each of the operator's entries that leaves out classes, fees or tiers
/// which the built-in entry has.
fn find_gaps(own: &PriceTable, built_in: &PriceTable, today: Date) -> Vec<String> {
    let mut sentences: Vec<String> = own
        .iter()
        .filter_map(|(name, price)| {
            let missing = missing_in(price.on(today)?, built_in.get(name)?.on(today)?);
            (!missing.is_empty()).then(|| {
                format!(
                    "prices: {name} has no price for {}, which the built-in entry has: such usage \
                     is counted as inexact",
                    missing.join(", ")
                )
            })
        })
        .collect();
    sentences.sort();
    sentences
}

fn missing_in(own: &PricePeriod, other: &PricePeriod) -> Vec<String> {
    let (rates, full) = (own.list(), other.list());
    let classes = Class::ALL
        .into_iter()
        .filter(|class| rates.exact_rate(*class).is_none() && full.own(*class).is_some());
    let fees = Fee::ALL
        .into_iter()
        .filter(|fee| rates.fee(*fee).is_none() && full.fee(*fee).is_some());
    let tiers: Vec<_> = own.service_tiers().collect();
    let tiers = other.service_tiers().filter(|tier| !tiers.contains(tier));
    classes
        .map(|class| class.name().to_owned())
        .chain(fees.map(|fee| fee.name().to_owned()))
        .chain(tiers.map(|tier| format!("the tier {}", tier.name())))
        .collect()
}

/// Returns a sentence for each deployment whose cost is unknown because its model has no price.
/// Providers whose calls aren't billed need none.
fn find_unpriced(config: &Config, table: &PriceTable) -> Vec<String> {
    let deployments = config.models.iter().flat_map(|model| {
        let of_model = move |deployment| (model, deployment);
        model.deployments.iter().map(of_model)
    });
    let without = deployments.filter_map(|(model, deployment)| {
        let provider = config.providers.get(deployment.provider)?;
        let kind = provider.kind;
        let priced = !kind.is_billed()
            || table
                .find(&provider.id, kind.price_type(), &deployment.model)
                .is_some();
        (!priced).then(|| {
            format!(
                "models: `{}/{}` of the model {} has no price, so its cost is not known: add it to \
                 the prices file",
                provider.id, deployment.model, model.name
            )
        })
    });
    without.collect()
}

fn report(file: &str, errors: Vec<PriceError>) -> Report {
    let problem = |error: PriceError| Problem {
        severity: Severity::Error,
        file: file.into(),
        mark: Some(Mark {
            line: error.line,
            column: 1,
        }),
        path: error.path,
        message: error.message,
        remedy: String::new(),
    };
    Report::new(errors.into_iter().map(problem).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_operators_prices_stand_beside_the_built_in_ones() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("prices.yaml");
        fs::write(
            &file,
            "own/model:\n  - { from: 2026-01-01, input: 1, output: 2 }\n",
        )
        .unwrap();
        let table = table(Some(&file)).unwrap();
        assert!(table.get("own/model").is_some());
        assert!(table.get("openai/gpt-4o-mini").is_some());
    }

    #[test]
    fn deployments_without_a_price_are_named() {
        let text = "providers: [ { id: a, type: openai, api_key: k }, { id: m, type: mock } ]\n\
             models:\n  - name: f\n    deployments:\n      - { provider: a, model: gpt-4o-mini }\n\
             \x20     - { provider: a, model: homemade }\n      - { provider: m, model: x }\n";
        let environment = llm_router_config::Environment::new([("K", "")]);
        let loaded = llm_router_config::load_text(text, Path::new("c.yaml"), &environment);
        let config = loaded.unwrap().config;
        let said = find_unpriced(&config, &table(None).unwrap());
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(said[0].contains("`a/homemade` of the model f"), "{said:?}");
    }

    #[test]
    fn gaps_of_own_entries_and_the_age_of_the_table_are_told() {
        let own = llm_router_prices::read(
            "openai/gpt-6-sol: [{ from: 2026-01-01, input: 2, output: 9 }]\nmine/m: [{ from: \
             2026-01-01, input: 1 }]\n",
        );
        let day = jiff::civil::date(2026, 12, 1);
        let said = find_gaps(&own.unwrap(), &table(None).unwrap(), day);
        assert_eq!(
            said,
            [
                "prices: openai/gpt-6-sol has no price for cached_input, cache_write_30m, \
                 cache_write_12h, web_search, file_search, code_session, the tier flex, the tier \
                 priority, the tier batch, which the built-in entry has: such usage is counted as \
                 inexact"
            ]
        );
        assert_eq!(age(day, jiff::civil::date(2027, 1, 30)), None);
        let said = age(day, jiff::civil::date(2027, 1, 31)).unwrap();
        assert!(said.contains("on 2026-12-01, 61 days ago"), "{said}");
    }

    #[test]
    fn mistakes_are_located() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("prices.yaml");
        fs::write(
            &file,
            "own/model:\n  - { from: 2026-01-01, input: -1, output: 2 }\n",
        )
        .unwrap();
        let report = table(Some(&file)).unwrap_err().render();
        assert!(report.contains("prices.yaml:2: own/model"), "{report}");
        let missing = table(Some(&folder.path().join("none.yaml"))).unwrap_err();
        assert!(missing.has_errors());
    }
}
