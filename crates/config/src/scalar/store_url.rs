//! The addresses of the store and of the counter service. They may hold passwords.

use std::path::Path;

use llm_router_domain::store_url::StoreUrl;
use llm_router_yaml::ValueError;
use secrecy::SecretString;
use url::Url;

use super::TextSetting;

/// The counter service, which counts limits and budgets of requests in flight.
#[derive(Clone, Debug)]
pub enum CounterUrl {
    /// This process.
    Memory,
    /// A Redis URL that begins with `redis://` or `rediss://`.
    Redis(SecretString),
}

impl TextSetting for StoreUrl {
    const FORMAT: &'static str = "store-url";
    const SECRET: bool = true;
    const EXAMPLES: &'static [&'static str] = &[
        "sqlite:data/llm-router.db",
        "postgres://user:password@host:5432/database",
    ];

    fn parse(text: &str) -> Result<Self, ValueError> {
        Self::parse(text).map_err(|error| ValueError::new(error.problem(), error.remedy()))
    }

    fn resolve(text: &str, folder: &Path) -> String {
        match Self::sqlite_path(text) {
            Some("") | None => text.to_owned(),
            Some(path) => format!("sqlite:{}", folder.join(path).to_string_lossy()),
        }
    }
}

impl TextSetting for CounterUrl {
    const FORMAT: &'static str = "counter-url";
    const SECRET: bool = true;
    const EXAMPLES: &'static [&'static str] = &["memory:", "redis://host:6379/0"];

    fn parse(text: &str) -> Result<Self, ValueError> {
        if text == "memory:" {
            return Ok(Self::Memory);
        }
        let scheme = text.starts_with("redis://") || text.starts_with("rediss://");
        let host = Url::parse(text).is_ok_and(|url| url.host().is_some());
        if scheme && host {
            return Ok(Self::Redis(text.into()));
        }
        Err(ValueError::new(
            "is not a counters URL",
            "write memory:, redis://HOST:PORT/0 or rediss://HOST:PORT/0",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::super::assert_texts;
    use super::*;

    #[test]
    fn relative_sqlite_files_are_resolved() {
        for (text, expected) in [
            ("sqlite:data/a.db", "sqlite:/conf/data/a.db"),
            ("sqlite:///var/a.db", "sqlite:/var/a.db"),
            ("sqlite:", "sqlite:"),
            ("postgres://h/d", "postgres://h/d"),
        ] {
            let resolved = <StoreUrl as TextSetting>::resolve(text, Path::new("/conf"));
            assert_eq!(resolved, expected);
        }
    }

    #[test]
    fn other_urls_are_refused() {
        assert_texts::<StoreUrl>(
            &[("sqlite:a.db", |url| matches!(url, StoreUrl::Sqlite(_)))],
            &[
                ("mysql://h/d", "sqlite:PATH or postgres://"),
                ("sqlite:", "SQLite file path"),
            ],
        );
        assert_texts::<CounterUrl>(
            &[
                ("memory:", |url| matches!(url, CounterUrl::Memory)),
                ("redis://:p@h:6379/0", |url| {
                    matches!(url, CounterUrl::Redis(_))
                }),
                ("rediss://h", |url| !format!("{url:?}").contains("//h")),
            ],
            &[
                ("", "memory:"),
                ("memory", "memory:"),
                ("redis:h", "redis://"),
                ("redis://", "redis://"),
            ],
        );
    }
}
