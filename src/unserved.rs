//! Names the settings of a configuration that this version accepts and doesn't act on, so that
//! nobody relies on a limit or a rule that isn't there. Empty once every setting is served.

use llm_router_config::{Config, Strategy};

/// One sentence for each kind of setting that has no effect.
pub(crate) fn unserved(config: &Config) -> Vec<&'static str> {
    let providers = || config.providers.iter();
    let strategy = |model: &llm_router_config::Model| {
        model.deployments.len() > 1 && model.strategy != Strategy::Priority
    };
    [
        (
            config.models.iter().any(strategy),
            "models: deployments are tried in the order of the file in this version, whatever \
             the strategy; write `strategy: priority` to say so",
        ),
        (
            providers().any(|provider| provider.health_check.is_some()),
            "providers: health checks are not made in this version",
        ),
    ]
    .into_iter()
    .filter_map(|(found, sentence)| found.then_some(sentence))
    .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use llm_router_config::{Environment, load_text};

    use super::*;

    fn sentences(text: &str) -> Vec<&'static str> {
        let environment = Environment::new([("K", "sk-0123456789abcdef")]);
        let loaded = load_text(text, Path::new("c.yaml"), &environment).unwrap();
        unserved(&loaded.config)
    }

    #[test]
    fn what_has_no_effect_is_named() {
        let said = sentences(
            "providers: [ { id: a, type: mock, health_check: { path: /models, interval: 30s } } ]\n\
             models:\n  - name: m\n    deployments: [ { provider: a, model: x }, { provider: a, model: y } ]\n\
             ",
        );
        let about: Vec<_> = said
            .iter()
            .filter_map(|text| text.split(' ').nth(1))
            .collect();
        assert_eq!(about, ["deployments", "health"], "{said:?}");
    }

    #[test]
    fn plain_configurations_are_served_whole() {
        let said = sentences(
            "providers: [ { id: a, type: mock } ]\n\
             models: [ { name: m, deployments: [ { provider: a, model: x } ] } ]\n",
        );
        assert_eq!(said, [""; 0]);
    }
}
