//! The address of the store: the one type that the configuration reads and the store opens. It must
//! not open anything.

use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;

/// The address of a store. It may hold a password, which is never shown.
#[derive(Clone, Debug)]
pub enum StoreUrl {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL connection string that begins with `postgresql://`.
    Postgres(SecretString),
}

/// The reason why a text is not the address of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}; {}", self.problem(), self.remedy())]
pub enum StoreUrlError {
    /// It begins with `sqlite:` and names no file.
    NoFile,
    /// It has neither form.
    UnknownForm,
}

impl StoreUrlError {
    /// The problem, as the end of a sentence that begins with the address.
    #[must_use]
    pub const fn problem(self) -> &'static str {
        match self {
            Self::NoFile => "has no usable SQLite file path",
            Self::UnknownForm => "is not a store URL",
        }
    }

    /// The remedy.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::NoFile => "write sqlite:PATH, for example sqlite:data/llm-router.db",
            Self::UnknownForm => "write sqlite:PATH or postgres://USER:PASSWORD@HOST:5432/DATABASE",
        }
    }
}

impl StoreUrl {
    /// Parses `sqlite:PATH`, `postgres://…` and `postgresql://…`, the latter also with a Python
    /// driver (`postgresql+asyncpg://…`), whose `ssl` parameter is renamed to libpq's.
    ///
    /// # Errors
    /// Returns an error if the text has another form or names no file.
    pub fn parse(text: &str) -> Result<Self, StoreUrlError> {
        let Some(path) = Self::sqlite_path(text) else {
            return parse_postgres(text).ok_or(StoreUrlError::UnknownForm);
        };
        if path.is_empty() || path == ":memory:" || path.contains(['?', '\0']) {
            return Err(StoreUrlError::NoFile);
        }
        Ok(Self::Sqlite(path.into()))
    }

    /// The path in `sqlite:PATH`, also in `sqlite://PATH` as other tools write it, where an absolute
    /// path makes the third slash.
    #[must_use]
    pub fn sqlite_path(text: &str) -> Option<&str> {
        let path = text.strip_prefix("sqlite:")?;
        Some(path.strip_prefix("//").unwrap_or(path))
    }
}

impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(_) => f.write_str("postgresql://…"),
        }
    }
}

fn parse_postgres(text: &str) -> Option<StoreUrl> {
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
        with_libpq_parameters(rest)
    };
    Some(StoreUrl::Postgres(format!("postgresql://{rest}").into()))
}

fn with_libpq_parameters(rest: &str) -> String {
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn sqlite_files_are_read() {
        for (text, path) in [
            ("sqlite:data/a.db", "data/a.db"),
            ("sqlite:/var/a.db", "/var/a.db"),
            ("sqlite://a.db", "a.db"),
            ("sqlite:///var/a.db", "/var/a.db"),
        ] {
            let url = StoreUrl::parse(text).unwrap();
            assert!(
                matches!(&url, StoreUrl::Sqlite(got) if got == Path::new(path)),
                "{url}"
            );
        }
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
    fn other_texts_are_refused() {
        for (text, error) in [
            ("", StoreUrlError::UnknownForm),
            ("mysql://h/d", StoreUrlError::UnknownForm),
            ("postgres://", StoreUrlError::UnknownForm),
            ("postgres+a b://h", StoreUrlError::UnknownForm),
            ("data/a.db", StoreUrlError::UnknownForm),
            ("sqlite:", StoreUrlError::NoFile),
            ("sqlite::memory:", StoreUrlError::NoFile),
        ] {
            assert_eq!(StoreUrl::parse(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let url = StoreUrl::parse("postgres://u:hunter2@h/d").unwrap();
        assert!(!format!("{url} {url:?}").contains("hunter2"));
    }
}
