//! Settings that only take effect when the process begins: a reload tells of those that changed
//! instead of ignoring them in silence.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Debug;
use std::hash::{Hash as _, Hasher as _};

use llm_router_config::Config;

/// The settings that the process began with, as hashes: some hold secrets.
#[derive(Clone, Debug)]
pub(crate) struct Fixed([(&'static str, u64); 12]);

impl Fixed {
    /// Those of a configuration.
    pub(crate) fn of(config: &Config) -> Self {
        let server = &config.server;
        Self([
            ("server.listen", hash(&server.listen)),
            ("server.tls", hash(&server.tls)),
            ("server.threads", hash(&server.threads)),
            ("server.header_timeout", hash(&server.header_timeout)),
            (
                "server.max_connections_per_address",
                hash(&server.max_connections_per_address),
            ),
            ("server.drain_timeout", hash(&server.drain_timeout)),
            (
                "server.upgrade_drain_timeout",
                hash(&server.upgrade_drain_timeout),
            ),
            ("server.upgrade_socket", hash(&server.upgrade_socket)),
            ("admin.listen", hash(&config.admin.listen)),
            ("store", hash(&config.store)),
            ("counters", hash(&config.counters)),
            ("telemetry", hash(&config.telemetry)),
        ])
    }

    /// The settings that another configuration has otherwise.
    pub(crate) fn changed(&self, config: &Config) -> Vec<&'static str> {
        let now = Self::of(config);
        let pairs = self.0.iter().zip(now.0);
        pairs
            .filter(|(before, now)| before.1 != now.1)
            .map(|(_, (name, _))| name)
            .collect()
    }
}

fn hash(value: &impl Debug) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{value:?}").hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use llm_router_config::{Environment, load_text};

    use super::*;

    fn config(text: &str) -> Config {
        let none: [(&str, &str); 0] = [];
        let text = format!("providers: [ {{ id: a, type: mock }} ]\n{text}");
        load_text(&text, Path::new("c.yaml"), &Environment::new(none))
            .unwrap()
            .config
    }

    #[test]
    fn changes_that_need_a_restart_are_named() {
        let fixed = Fixed::of(&config("server: { listen: \"127.0.0.1:1\" }\n"));
        let same = config("server: { listen: \"127.0.0.1:1\", max_body: 1MiB }\n");
        assert_eq!(fixed.changed(&same), [""; 0]);
        let other = config("server: { listen: \"127.0.0.1:2\", threads: 3 }\n");
        assert_eq!(fixed.changed(&other), ["server.listen", "server.threads"]);
    }
}
