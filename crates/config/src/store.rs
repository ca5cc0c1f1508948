//! `store` and `counters`: storage of state.

use std::path::{Path, PathBuf};
use std::time::Duration;

use llm_router_domain::store_url::StoreUrl;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::diagnostics::Diagnostics;
use crate::environment::Environment;
use crate::path::ConfigPath;
use crate::report::Severity;
use crate::scalar::{CounterUrl, Text, TextSetting, TimeSpan};
use crate::server::require_nonzero;

/// Storage of state that outlives the process.
#[derive(Clone, Debug)]
pub struct Store {
    /// The database.
    pub url: StoreUrl,
    /// The schema of the tables in PostgreSQL; `None`: where they are, else one of their own.
    pub schema: Option<String>,
    /// False if no ledger is kept.
    pub ledger: bool,
    /// The folder of the ledger's journal, on a local disk.
    pub journal: PathBuf,
    /// The behaviour while the journal can't be written.
    pub on_journal_failure: OnJournalFailure,
    /// The age at which ledger entries are deleted; `None`: never.
    pub retention: Option<Duration>,
    /// The interval at which a replica polls for changes by others.
    pub poll: Duration,
}

/// The behaviour while the ledger's journal can't be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnJournalFailure {
    /// Requests are answered with 503, so that none is sent without a ledger entry.
    #[default]
    Refuse,
    /// Requests are served, and up to 20,000 entries wait in memory for the store.
    Continue,
}

/// Storage of short-lived state that replicas share.
#[derive(Clone, Debug)]
pub struct Counters {
    /// The counter service.
    pub url: CounterUrl,
    /// The time after which a call of the service fails.
    pub timeout: Duration,
}

/// Storage of state that outlives the process: keys, rules, ledger, audit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Store")]
pub(crate) struct RawStore {
    /// sqlite:PATH or postgres://USER:PASSWORD@HOST:5432/DATABASE, with libpq's sslmode and
    /// sslrootcert. Default: DATABASE_URL, else the SQLite file data/llm-router.db in the working
    /// directory.
    url: Option<Text<StoreUrl>>,
    /// The schema of the tables in PostgreSQL: lower-case letters, digits and _. It is created if it is
    /// missing. Default: where the tables are; a new installation gets the schema llm_router.
    schema: Option<String>,
    /// Record every attempt in the ledger, with its usage and cost. False turns off costs, budgets
    /// and the list of requests.
    ledger: bool,
    /// The folder of the journal that holds ledger entries until the store has them. Default:
    /// journal/ beside the SQLite file, else data/journal in the working directory.
    journal: Option<Text<PathBuf>>,
    /// The behaviour while the journal can't be written, for example because the disk is full.
    on_journal_failure: OnJournalFailure,
    /// The age at which ledger entries are deleted. Sums by day are kept for ever. Default: entries
    /// are kept too.
    retention: Option<Text<TimeSpan>>,
    /// The interval at which a replica polls for changes by others: rules, keys and providers made
    /// with the admin API, and the toggle. From 50ms to 1m.
    poll: Text<TimeSpan>,
}

impl Default for RawStore {
    fn default() -> Self {
        Self {
            url: None,
            schema: None,
            ledger: true,
            journal: None,
            on_journal_failure: OnJournalFailure::default(),
            retention: None,
            poll: Text(TimeSpan(Duration::from_millis(250))),
        }
    }
}

/// Storage of short-lived state that replicas share: limits, budgets of requests in flight, the
/// routing toggle.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Counters")]
pub(crate) struct RawCounters {
    /// memory: or redis://HOST:PORT/0. With memory: each replica counts limits by itself; budgets
    /// are still shared if the store is PostgreSQL. Default: REDIS_URL, else memory:.
    url: Option<Text<CounterUrl>>,
    /// The time a request waits for the counter service. A slower service counts as unavailable.
    timeout: Text<TimeSpan>,
}

impl Default for RawCounters {
    fn default() -> Self {
        Self {
            url: None,
            timeout: Text(TimeSpan(Duration::from_millis(50))),
        }
    }
}

impl RawStore {
    pub(crate) fn check(
        self,
        at: &ConfigPath,
        environment: &Environment,
        diagnostics: &mut Diagnostics,
    ) -> Store {
        let folder = environment.folder();
        let url = self.url.map(|url| url.0);
        let url = url
            .or_else(|| read_variable("DATABASE_URL", environment, diagnostics))
            .unwrap_or_else(|| StoreUrl::Sqlite(folder.join("data/llm-router.db")));
        let journal = self.journal.map(|journal| journal.0);
        let journal = journal.unwrap_or_else(|| default_journal(&url, folder));
        Store {
            url,
            schema: self
                .schema
                .inspect(|schema| check_schema(schema, &at.field("schema"), diagnostics)),
            ledger: self.ledger,
            journal,
            on_journal_failure: self.on_journal_failure,
            retention: self
                .retention
                .map(|span| require_nonzero(span.0, &at.field("retention"), diagnostics)),
            poll: check_poll(self.poll.0, &at.field("poll"), diagnostics),
        }
    }
}

impl RawCounters {
    pub(crate) fn check(
        self,
        at: &ConfigPath,
        environment: &Environment,
        diagnostics: &mut Diagnostics,
    ) -> Counters {
        let url = self.url.map(|url| url.0);
        let url = url
            .or_else(|| read_variable("REDIS_URL", environment, diagnostics))
            .unwrap_or(CounterUrl::Memory);
        Counters {
            url,
            timeout: require_nonzero(self.timeout.0, &at.field("timeout"), diagnostics),
        }
    }
}

/// The longest name of a schema: `NAMEDATALEN` of PostgreSQL is 64 with its end.
const LONGEST_SCHEMA: usize = 63;

fn check_schema(schema: &str, at: &ConfigPath, diagnostics: &mut Diagnostics) {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    let begins = schema.starts_with(|first: char| !first.is_ascii_digit());
    if !begins || schema.len() > LONGEST_SCHEMA || !schema.bytes().all(plain) {
        let problem = format!("`{schema}` is not the name of a schema");
        let remedy = "use lower-case letters, digits and _, for example llm_router";
        diagnostics.error(at, problem, remedy);
    }
}

fn check_poll(poll: TimeSpan, at: &ConfigPath, diagnostics: &mut Diagnostics) -> Duration {
    if !(Duration::from_millis(50)..=Duration::from_secs(60)).contains(&poll.0) {
        let problem = format!("`{poll}` is out of range");
        diagnostics.error(at, problem, "write a time from 50ms to 1m");
    }
    poll.0
}

fn default_journal(url: &StoreUrl, folder: &Path) -> PathBuf {
    match url {
        StoreUrl::Sqlite(file) => file.with_file_name("journal"),
        StoreUrl::Postgres(_) => folder.join("data/journal"),
    }
}

/// Reads a variable of the environment, and reports an invalid one.
fn read_variable<T: TextSetting>(
    name: &str,
    environment: &Environment,
    diagnostics: &mut Diagnostics,
) -> Option<T> {
    let text = environment.non_empty(name)?;
    let text = T::resolve(text, environment.folder());
    match T::parse(&text) {
        Ok(value) => Some(value),
        Err(error) => {
            diagnostics.add(environment.problem(Severity::Error, name, error));
            None
        }
    }
}
