//! The price table of a configuration: the built-in one with the operator's file over it. What a
//! prices file may say is `llm-router-prices`'.

use std::fs;
use std::path::Path;

use llm_router_config::{Config, Mark, Problem, Report, Severity};
use llm_router_domain::price::PriceTable;
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

/// Returns a sentence for each deployment whose cost is unknown because its model has no price.
/// Providers whose calls aren't billed need none.
pub(crate) fn find_unpriced(config: &Config, table: &PriceTable) -> Vec<String> {
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
