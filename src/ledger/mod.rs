//! The ledger as the service holds it: journal, store, and the mover between the two, opened and
//! closed together. What an entry says is made elsewhere.

pub(crate) mod metrics;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use llm_router_config as config;
use llm_router_domain::ledger::{LedgerEntry, OpenEntry};
use llm_router_store::journal::{
    Journal, JournalError, JournalSettings, Mover, MoverSettings, OnFull, RecoveredJournal, others,
};
use llm_router_store::{LedgerStore, Store, StoreError, StoreUrl};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

use crate::clock;
use crate::ledger::metrics::LedgerMetrics;

/// The open ledger.
pub(crate) struct Ledger {
    /// Places of the journals of this process and of those beside it.
    folder: PathBuf,
    /// None while the ledger is off: then entries are counted and forgotten.
    journal: Option<Journal>,
    store: Arc<dyn LedgerStore>,
    /// Gone once the ledger is closed.
    mover: ArcSwapOption<Mover>,
    metrics: LedgerMetrics,
    pruning: Option<JoinHandle<()>>,
}

/// Reason that the ledger can't be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LedgerError {
    #[error("the store {url} can't be opened: {error}")]
    Store {
        url: StoreUrl,
        #[source]
        error: StoreError,
    },
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// The runtime that the store's calls run on. It must outlive the ledger.
///
/// # Errors
/// When the system refuses its threads.
pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(1)
        .thread_name("ledger")
        .enable_all()
        .build()
}

/// Opens the store of a configuration and brings its tables up to date.
///
/// # Errors
/// When it can't be reached or upgraded.
pub(crate) async fn open_store(url: &StoreUrl) -> Result<Arc<dyn Store>, LedgerError> {
    llm_router_store::open(url)
        .await
        .map_err(|error| LedgerError::Store {
            url: url.clone(),
            error,
        })
}

impl Ledger {
    /// Opens the journal, settles what a process that died left open, and starts moving. `beside`
    /// a process that still runs, it has a journal of its own.
    ///
    /// # Errors
    /// When the journal can't be opened or belongs to a running process.
    pub(crate) fn open(
        settings: &config::Store,
        store: Arc<dyn LedgerStore>,
        metrics: LedgerMetrics,
        runtime: &Runtime,
        beside: bool,
    ) -> Result<Self, LedgerError> {
        let folder = settings.journal.clone();
        if !settings.ledger {
            return Ok(Self {
                folder,
                journal: None,
                store,
                mover: ArcSwapOption::empty(),
                metrics,
                pruning: None,
            });
        }
        let journal = open_journal(settings, beside)?;
        let pruning = settings.retention.map(|retention| {
            let prune = prune(Arc::clone(&store), retention);
            runtime.spawn(prune)
        });
        let mover = Mover::start(
            journal.clone(),
            Arc::clone(&store),
            MoverSettings::default(),
            runtime.handle().clone(),
        )?;
        Ok(Self {
            folder,
            journal: Some(journal),
            store,
            mover: ArcSwapOption::from_pointee(mover),
            metrics,
            pruning,
        })
    }

    /// Notes an attempt before it goes upstream.
    ///
    /// # Errors
    /// When it can't be noted; then nothing must go upstream.
    pub(crate) fn open_entry(&self, opened: &OpenEntry) -> Result<(), JournalError> {
        let journal = self.journal.as_ref();
        journal.map_or(Ok(()), |journal| journal.record_opened(opened))
    }

    /// Notes what came of an attempt at the deployment of that id.
    pub(crate) fn settle(&self, entry: LedgerEntry, deployment: &str) {
        self.metrics.count_attempt(&entry, deployment);
        if let Some(journal) = &self.journal {
            journal.record_settled(entry);
        }
    }

    /// Returns whether the ledger is enabled.
    pub(crate) const fn is_kept(&self) -> bool {
        self.journal.is_some()
    }

    /// The metrics of money, as of now.
    pub(crate) fn metrics(&self) -> &LedgerMetrics {
        if let Some(journal) = &self.journal {
            self.metrics.observe(journal);
        }
        &self.metrics
    }

    /// The store, once it has everything that was settled before the call.
    ///
    /// # Errors
    /// When the store doesn't take it.
    pub(crate) async fn up_to_date(&self) -> Result<Arc<dyn LedgerStore>, StoreError> {
        if let Some(mover) = self.mover.load_full() {
            mover.flush().await?;
        }
        Ok(Arc::clone(&self.store))
    }

    /// Returns whether no other process has a journal in the folder, as far as journals are kept.
    pub(crate) fn is_alone(&self) -> bool {
        let locked = |place: &PathBuf| Journal::is_locked(place);
        let own = self.journal.as_ref().map(Journal::folder);
        own.is_some_and(|own| !others(&self.folder, own).iter().any(locked))
    }

    /// Takes over what other processes left in their journals, of those that have ended; how many
    /// of them are still to come.
    ///
    /// # Errors
    /// When a journal can't be read or the store doesn't take its entries; it can be tried again.
    pub(crate) async fn recover(&self) -> Result<usize, StoreError> {
        let Some(journal) = &self.journal else {
            return Ok(0);
        };
        let mut running = 0;
        for place in others(&self.folder, journal.folder()) {
            match Journal::open(JournalSettings::new(&place)) {
                Ok((left, recovered)) => {
                    log_recovery(&recovered);
                    self.move_out(left, recovered.newer == 0).await?;
                }
                Err(JournalError::Locked(_)) => running += 1,
                Err(error) => return Err(StoreError::Unavailable(error.to_string())),
            }
        }
        Ok(running)
    }

    /// Moves a journal's entries to the store, and deletes it if `all` of it could be read.
    async fn move_out(&self, journal: Journal, all: bool) -> Result<(), StoreError> {
        let unreadable = |error: JournalError| StoreError::Unavailable(error.to_string());
        let store = Arc::clone(&self.store);
        let (settings, runtime) = (MoverSettings::default(), Handle::current());
        let mover = Mover::start(journal.clone(), store, settings, runtime).map_err(unreadable)?;
        mover.stop().await?;
        if all {
            journal.discard().map_err(unreadable)?;
        }
        Ok(())
    }

    /// Moves what is left and stops. What the store doesn't take stays in the journal for the
    /// next start.
    pub(crate) async fn close(&self) {
        if let Some(pruning) = &self.pruning {
            pruning.abort();
        }
        if let Some(mover) = self.mover.swap(None) {
            // A reader that still holds the mover stops it when it is done.
            let stopped = match Arc::try_unwrap(mover) {
                Ok(mover) => mover.stop().await,
                Err(mover) => mover.flush().await,
            };
            if let Err(error) = stopped {
                tracing::warn!(%error, "failed to flush the journal; its entries are recovered at the next start");
            }
        }
        if let Some(Err(error)) = self.journal.as_ref().map(Journal::sync) {
            tracing::error!(%error, "failed to sync the journal");
        }
    }
}

fn open_journal(settings: &config::Store, beside: bool) -> Result<Journal, JournalError> {
    let settings = JournalSettings {
        on_full: match settings.on_journal_failure {
            config::OnJournalFailure::Refuse => OnFull::Refuse,
            config::OnJournalFailure::Continue => OnFull::Continue,
        },
        ..JournalSettings::new(&settings.journal)
    };
    let (journal, recovered) = if beside {
        Journal::open_beside(&settings)?
    } else {
        Journal::open_alone(settings)?
    };
    log_recovery(&recovered);
    Ok(journal)
}

fn log_recovery(recovered: &RecoveredJournal) {
    if !recovered.lost.is_empty() {
        tracing::warn!(
            interrupted = recovered.lost.len(),
            settled = recovered.settled,
            torn_bytes = recovered.torn_bytes,
            "the process before ended with attempts under way; they are billed as interrupted"
        );
    }
    if recovered.damaged > 0 {
        tracing::error!(
            damaged = recovered.damaged,
            "lost entries: records of the journal are damaged"
        );
    }
    if recovered.newer > 0 {
        tracing::error!(
            newer = recovered.newer,
            "the journal has records of a newer version of the router; its files are kept until that \
             version runs again"
        );
    }
}

/// Interval at which entries past their retention are looked for.
const PRUNE_EVERY: Duration = Duration::from_secs(3_600);

/// Entries deleted in one transaction: few enough that writers hardly wait.
const PRUNE_BATCH: u32 = 5_000;

/// Deletes entries older than `retention`, now and then. Sums stay.
async fn prune(store: Arc<dyn LedgerStore>, retention: Duration) {
    loop {
        let before = jiff::Timestamp::try_from(clock::wall())
            .ok()
            .and_then(|now| now.checked_sub(retention).ok());
        let mut deleted = 0;
        while let Some(before) = before {
            match store.prune(before, PRUNE_BATCH).await {
                Ok(0) => break,
                Ok(count) => deleted += count,
                Err(error) => {
                    tracing::warn!(%error, "failed to delete old entries");
                    break;
                }
            }
        }
        if deleted > 0 {
            tracing::info!(
                deleted,
                "entries past store.retention are deleted; sums stay"
            );
        }
        tokio::time::sleep(PRUNE_EVERY.min(retention)).await;
    }
}
