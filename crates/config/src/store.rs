//! `store` and `counters`: where state is kept.

use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::environment::Environment;
use crate::findings::{At, Findings};
use crate::report::Severity;
use crate::scalar::{CounterUrl, StoreUrl, Text, TextSetting, TimeSpan};
use crate::server::must_pass;

/// Where state that outlives the process is kept.
#[derive(Clone, Debug)]
pub struct Store {
    /// The database.
    pub url: StoreUrl,
    /// Whether the ledger is kept.
    pub ledger: bool,
    /// The folder of the ledger's journal, on local disk.
    pub journal: PathBuf,
    /// What becomes of requests that the journal can't take.
    pub on_journal_failure: OnJournalFailure,
    /// How long entries of the ledger are kept; for ever without it.
    pub retention: Option<Duration>,
    /// How often a replica looks for what another changed.
    pub poll: Duration,
}

/// What becomes of requests while the ledger's journal can't be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnJournalFailure {
    /// They are answered 503: nothing is sent that would not be billed.
    #[default]
    Refuse,
    /// They go on, and what they cost waits in memory for the store, up to 20,000 of them.
    Continue,
}

/// Where state that replicas share is kept.
#[derive(Clone, Debug)]
pub struct Counters {
    /// The counter service.
    pub url: CounterUrl,
    /// How long a call of it may take.
    pub timeout: Duration,
}

/// Where state that outlives the process is kept: keys, rules, ledger, audit.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Store")]
pub(crate) struct RawStore {
    /// sqlite:PATH or postgres://USER:PASSWORD@HOST:5432/DATABASE, with sslmode and sslrootcert as
    /// libpq has them. Without it: DATABASE_URL, else the SQLite file data/llm-router.db in the
    /// working directory.
    url: Option<Text<StoreUrl>>,
    /// Whether every attempt is entered in the ledger, with what it used and cost. Without it
    /// there are no costs, no requests to browse and no budgets.
    ledger: bool,
    /// The folder of the journal that keeps the ledger while the store is away. Without it:
    /// journal/ beside the SQLite file, else data/journal in the working directory.
    journal: Option<Text<PathBuf>>,
    /// What becomes of requests while the journal can't be written, as on a full disk.
    on_journal_failure: OnJournalFailure,
    /// How long entries of the ledger are kept. Sums by day are kept for ever. Without it: entries
    /// too.
    retention: Option<Text<TimeSpan>>,
    /// How often a replica looks for what another changed: rules, keys and providers made by API,
    /// the toggle. From 50ms to 1m.
    poll: Text<TimeSpan>,
}

impl Default for RawStore {
    fn default() -> Self {
        Self {
            url: None,
            ledger: true,
            journal: None,
            on_journal_failure: OnJournalFailure::default(),
            retention: None,
            poll: Text(TimeSpan(Duration::from_millis(250))),
        }
    }
}

/// Where state that replicas share from moment to moment is kept: limits, budgets in flight, the
/// toggle.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Counters")]
pub(crate) struct RawCounters {
    /// memory: (in this process; replicas then share budgets only, where they share a PostgreSQL)
    /// or redis://HOST:PORT/0. Without it: REDIS_URL, else memory:.
    url: Option<Text<CounterUrl>>,
    /// How long a request waits for it. A service that takes longer counts as away.
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
    pub(crate) fn check(self, environment: &Environment, findings: &mut Findings) -> Store {
        let folder = environment.folder();
        let url = self.url.map(|url| url.0);
        let url = url
            .or_else(|| from_environment("DATABASE_URL", environment, findings))
            .unwrap_or_else(|| StoreUrl::Sqlite(folder.join("data/llm-router.db")));
        let journal = self.journal.map(|journal| journal.0);
        let journal = journal.unwrap_or_else(|| default_journal(&url, folder));
        let at = At::default().field("store").field("retention");
        let retention = self.retention.map(|Text(span)| {
            must_pass(span, &at, findings);
            span.0
        });
        Store {
            url,
            ledger: self.ledger,
            journal,
            on_journal_failure: self.on_journal_failure,
            retention,
            poll: check_poll(self.poll.0, findings),
        }
    }
}

fn check_poll(poll: TimeSpan, findings: &mut Findings) -> Duration {
    if !(Duration::from_millis(50)..=Duration::from_secs(60)).contains(&poll.0) {
        let at = At::default().field("store").field("poll");
        let what = format!("`{poll}` is not from 50ms to 1m");
        findings.error(&at, what, "write 250ms, or leave it out");
    }
    poll.0
}

impl RawCounters {
    pub(crate) fn check(
        self,
        at: &At,
        environment: &Environment,
        findings: &mut Findings,
    ) -> Counters {
        must_pass(self.timeout.0, &at.field("timeout"), findings);
        let url = self.url.map(|url| url.0);
        let url = url
            .or_else(|| from_environment("REDIS_URL", environment, findings))
            .unwrap_or(CounterUrl::Memory);
        Counters {
            url,
            timeout: self.timeout.0.0,
        }
    }
}

fn default_journal(url: &StoreUrl, folder: &Path) -> PathBuf {
    match url {
        StoreUrl::Sqlite(file) => file.with_file_name("journal"),
        StoreUrl::Postgres(_) => folder.join("data/journal"),
    }
}

/// A variable's value; one that is no good is reported.
fn from_environment<T: TextSetting>(
    name: &str,
    environment: &Environment,
    findings: &mut Findings,
) -> Option<T> {
    let text = environment.non_empty(name)?;
    let text = T::resolve(text, environment.folder());
    match T::parse(&text) {
        Ok(value) => Some(value),
        Err(wrong) => {
            findings.add(environment.problem(Severity::Error, name, wrong));
            None
        }
    }
}
