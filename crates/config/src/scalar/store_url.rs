//! Where state is kept: the store's and the counters' URLs. They may hold passwords.

use std::path::{Path, PathBuf};

use secrecy::SecretString;
use url::Url;

use super::TextSetting;
use crate::findings::Wrong;

/// Where keys, rules, ledger and the rest are kept.
#[derive(Clone, Debug)]
pub enum StoreUrl {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL connection string that begins with `postgresql://`.
    Postgres(SecretString),
}

/// Where limits, budgets in flight and the toggle are counted.
#[derive(Clone, Debug)]
pub enum CounterUrl {
    /// In this process.
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

    fn parse(text: &str) -> Result<Self, Wrong> {
        if let Some(path) = sqlite_path(text) {
            let usable = !path.is_empty() && !path.contains(['?', '\0']) && path != ":memory:";
            return if usable {
                Ok(Self::Sqlite(path.into()))
            } else {
                Err(no_file())
            };
        }
        postgres(text).ok_or_else(no_store)
    }

    fn resolve(text: &str, folder: &Path) -> String {
        match sqlite_path(text) {
            Some("") | None => text.to_owned(),
            Some(path) => format!("sqlite:{}", folder.join(path).to_string_lossy()),
        }
    }
}

impl TextSetting for CounterUrl {
    const FORMAT: &'static str = "counter-url";
    const SECRET: bool = true;
    const EXAMPLES: &'static [&'static str] = &["memory:", "redis://host:6379/0"];

    fn parse(text: &str) -> Result<Self, Wrong> {
        if text == "memory:" {
            return Ok(Self::Memory);
        }
        let scheme = text.starts_with("redis://") || text.starts_with("rediss://");
        let host = Url::parse(text).is_ok_and(|url| url.host().is_some());
        if scheme && host {
            return Ok(Self::Redis(text.into()));
        }
        Err(Wrong::new(
            "is not a URL of counters",
            "write memory:, redis://HOST:PORT/0 or rediss://HOST:PORT/0",
        ))
    }
}

/// `sqlite:PATH`; also `sqlite://PATH` as other tools have it, where an absolute path makes the
/// third slash.
fn sqlite_path(text: &str) -> Option<&str> {
    let path = text.strip_prefix("sqlite:")?;
    Some(path.strip_prefix("//").unwrap_or(path))
}

/// Drops the driver of a Python URL (`postgresql+asyncpg://`) and renames its `ssl` parameter.
fn postgres(text: &str) -> Option<StoreUrl> {
    let (scheme, rest) = text.split_once("://")?;
    let (database, driver) = scheme.split_once('+').unwrap_or((scheme, ""));
    let known = matches!(database, "postgres" | "postgresql");
    let plain_driver = driver.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !known || !plain_driver || rest.is_empty() || rest.contains(char::is_whitespace) {
        return None;
    }
    let rest = if driver.is_empty() {
        rest.to_owned()
    } else {
        libpq_parameters(rest)
    };
    Some(StoreUrl::Postgres(format!("postgresql://{rest}").into()))
}

fn libpq_parameters(rest: &str) -> String {
    let Some((before, query)) = rest.split_once('?') else {
        return rest.to_owned();
    };
    let parameters: Vec<String> = query.split('&').map(libpq_parameter).collect();
    format!("{before}?{}", parameters.join("&"))
}

fn libpq_parameter(parameter: &str) -> String {
    match parameter.strip_prefix("ssl=") {
        Some("true" | "True" | "1") => "sslmode=require".to_owned(),
        Some("false" | "False" | "0") => "sslmode=disable".to_owned(),
        Some(mode) => format!("sslmode={mode}"),
        None => parameter.to_owned(),
    }
}

fn no_store() -> Wrong {
    Wrong::new(
        "is not a URL of a store",
        "write sqlite:PATH or postgres://USER:PASSWORD@HOST:5432/DATABASE",
    )
}

fn no_file() -> Wrong {
    Wrong::new(
        "names no SQLite file",
        "write sqlite:PATH, such as sqlite:data/llm-router.db",
    )
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::super::assert_texts;
    use super::*;

    #[test]
    fn sqlite_files() {
        for (text, path) in [
            ("sqlite:data/a.db", "data/a.db"),
            ("sqlite:/var/a.db", "/var/a.db"),
            ("sqlite://a.db", "a.db"),
            ("sqlite:///var/a.db", "/var/a.db"),
        ] {
            let StoreUrl::Sqlite(got) = StoreUrl::parse(text).unwrap() else {
                panic!("{text}");
            };
            assert_eq!(got, Path::new(path), "{text}");
        }
        let resolved = StoreUrl::resolve("sqlite:data/a.db", Path::new("/conf"));
        assert_eq!(resolved, "sqlite:/conf/data/a.db");
        let absolute = StoreUrl::resolve("sqlite:///var/a.db", Path::new("/conf"));
        assert_eq!(absolute, "sqlite:/var/a.db");
    }

    #[test]
    fn postgres_urls_are_normalised() {
        for (text, url) in [
            ("postgres://u:p@h:5432/d", "postgresql://u:p@h:5432/d"),
            ("postgresql://h/d?ssl=x", "postgresql://h/d?ssl=x"),
            ("postgresql+asyncpg://u:p@h/d", "postgresql://u:p@h/d"),
            (
                "postgresql+asyncpg://h/d?ssl=require&a=b",
                "postgresql://h/d?sslmode=require&a=b",
            ),
            (
                "postgresql+asyncpg://h/d?ssl=true",
                "postgresql://h/d?sslmode=require",
            ),
            ("postgresql:///d?host=/run", "postgresql:///d?host=/run"),
        ] {
            let StoreUrl::Postgres(got) = StoreUrl::parse(text).unwrap() else {
                panic!("{text}");
            };
            assert_eq!(got.expose_secret(), url, "{text}");
        }
    }

    #[test]
    fn other_urls_are_refused() {
        assert_texts::<StoreUrl>(
            &[],
            &[
                ("", "URL of a store"),
                ("mysql://h/d", "sqlite:PATH or postgres://"),
                ("postgres://", "URL of a store"),
                ("postgres+a b://h", "URL of a store"),
                ("data/a.db", "URL of a store"),
                ("sqlite:", "names no SQLite file"),
                ("sqlite::memory:", "names no SQLite file"),
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
