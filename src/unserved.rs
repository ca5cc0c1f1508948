//! Names the settings of a configuration that this version accepts and doesn't act on, so that
//! nobody relies on a limit or a rule that isn't there. Empty once every setting is served.

use llm_router_config::{Config, CounterUrl};

/// One sentence for each kind of setting that has no effect.
pub(crate) fn unserved(config: &Config) -> Vec<&'static str> {
    let keys = || config.keys.iter();
    let limited = |limits: &llm_router_config::Limits| {
        limits.rpm.is_some() || limits.tpm.is_some() || limits.concurrency.is_some()
    };
    [
        (
            keys().any(|key| limited(&key.limits)),
            "keys: limits are not enforced in this version",
        ),
        (
            !matches!(config.counters.url, CounterUrl::Memory),
            "counters: nothing is shared between replicas in this version",
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
             keys: [ { name: k, key: \"${K}\", limits: { rpm: 5 } } ]\n",
        );
        let about: Vec<_> = said
            .iter()
            .filter_map(|text| text.split(' ').nth(1))
            .collect();
        assert_eq!(about, ["limits"], "{said:?}");
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
