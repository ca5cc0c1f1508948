//! The price table of a configuration: the built-in one with the operator's file over it. What a
//! prices file may say is `llm-router-prices`'.

use std::fs;
use std::path::Path;

use llm_router_config::{Mark, Problem, Report, Severity};
use llm_router_domain::price::Table;
use llm_router_prices::PriceError;

/// The table that requests are billed by.
///
/// # Errors
/// Every mistake of the operator's file, located.
pub(crate) fn table(own: Option<&Path>) -> Result<Table, Report> {
    let Some(path) = own else {
        return llm_router_prices::built_in().map_err(|errors| report("built-in prices", errors));
    };
    let file = path.to_string_lossy();
    let text = fs::read_to_string(path).map_err(|error| {
        let mistake = PriceError {
            line: 1,
            path: "prices".to_owned(),
            message: format!("the file can't be read: {error}"),
        };
        report(&file, vec![mistake])
    })?;
    llm_router_prices::with_built_in(&text).map_err(|errors| report(&file, errors))
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
