//! The store in a SQLite file: one connection writes, on a thread of its own, a few read. It must
//! not block an async worker.

mod objects;
mod read;
mod reprice;
mod toggle;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use llm_router_domain::ledger::LedgerEntry;
use rusqlite::{Connection, OpenFlags};
use rust_decimal::Decimal;
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::error::StoreError;
use crate::ledger::{
    CostQuery, CostRow, LedgerStore, Page, RepriceQuery, Repricing, RequestAttempts, RequestQuery,
    SpentQuery, StoreInspection, TotalsDifference,
};
use crate::open_file::OpenFile;

mod migrations {
    refinery::embed_migrations!("migrations/sqlite");
}

/// Time that a statement waits for another process holding the file.
const BUSY: Duration = Duration::from_secs(5);

/// Number of attempts to upgrade the tables, and the pause between them.
const MIGRATION_TRIES: u32 = 20;
const MIGRATION_PAUSE: Duration = Duration::from_millis(50);

/// Connections kept for reading.
const READERS: usize = 4;

type ConnectionJob = Box<dyn FnOnce(&mut Connection) + Send>;

/// The store in a SQLite file.
///
/// Write-ahead logging lets readers go on while the writer commits. Commits are synced
/// (`synchronous=FULL`): once a batch is in, its journal segment may be deleted.
pub struct SqliteStore {
    writer: mpsc::Sender<ConnectionJob>,
    readers: Arc<Readers>,
    file: OpenFile,
}

impl SqliteStore {
    /// Opens or creates the file and brings its tables up to date.
    ///
    /// # Errors
    /// Returns an error if the file can't be opened or upgraded.
    pub async fn open(path: PathBuf) -> Result<Self, StoreError> {
        let (writer, jobs) = mpsc::channel::<ConnectionJob>();
        let readers = Arc::new(Readers {
            path: path.clone(),
            idle: Mutex::default(),
        });
        let place = path.clone();
        let connection = blocking(move || migrated_connection(&place)).await?;
        let file = OpenFile::at(&path);
        std::thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || write_jobs(connection, &jobs))
            .map_err(|error| StoreError::Unavailable(error.to_string()))?;
        Ok(Self {
            writer,
            readers,
            file,
        })
    }

    async fn write<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Connection) -> Result<T, rusqlite::Error> + Send + 'static,
    ) -> Result<T, StoreError> {
        // What is written to a deleted file is gone with this process; the journal keeps it.
        if let Some(path) = self.file.missing_path() {
            let path = path.display();
            let error = format!("the file {path} was deleted or replaced; restart the router");
            return Err(StoreError::Unavailable(error));
        }
        let (answer, answered) = oneshot::channel();
        let job: ConnectionJob = Box::new(move |connection| {
            let _ = answer.send(job(connection));
        });
        let gone = || StoreError::Unavailable("the writer has stopped".to_owned());
        self.writer.send(job).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?.map_err(store_error)
    }

    async fn read<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let readers = Arc::clone(&self.readers);
        blocking(move || {
            let connection = readers.take()?;
            let result = job(&connection);
            readers.put_back(connection);
            result
        })
        .await
    }
}

#[async_trait]
impl LedgerStore for SqliteStore {
    async fn insert_shared(&self, entries: Arc<[LedgerEntry]>) -> Result<usize, StoreError> {
        self.write(move |connection| write::insert(connection, &entries))
            .await
    }

    async fn costs(&self, query: &CostQuery) -> Result<Vec<CostRow>, StoreError> {
        let query = query.clone();
        self.read(move |connection| read::costs(connection, &query))
            .await
    }

    async fn spent_by_run(&self, query: &SpentQuery) -> Result<Vec<(u32, Decimal)>, StoreError> {
        let query = query.clone();
        self.read(move |connection| read::spent_by_run(connection, &query))
            .await
    }

    async fn requests(&self, query: &RequestQuery) -> Result<Page<RequestAttempts>, StoreError> {
        let query = query.clone();
        self.read(move |connection| read::requests(connection, &query))
            .await
    }

    async fn request(&self, request_id: &str) -> Result<Vec<LedgerEntry>, StoreError> {
        let request_id = request_id.to_owned();
        self.read(move |connection| read::request(connection, &request_id))
            .await
    }

    async fn entries(&self, ids: &[Uuid]) -> Result<Vec<LedgerEntry>, StoreError> {
        let ids = ids.to_vec();
        self.read(move |connection| read::entries(connection, &ids))
            .await
    }

    async fn prune(&self, before: Timestamp, limit: u32) -> Result<usize, StoreError> {
        self.write(move |connection| write::prune(connection, before, limit))
            .await
    }

    async fn entries_to_reprice(
        &self,
        query: &RepriceQuery,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        let query = query.clone();
        self.read(move |connection| reprice::entries(connection, &query))
            .await
    }

    async fn reprice(&self, repricing: Repricing) -> Result<usize, StoreError> {
        self.write(move |connection| reprice::apply(connection, &repricing))
            .await
    }

    async fn check_sums(&self) -> Result<Vec<TotalsDifference>, StoreError> {
        self.read(read::check_sums).await
    }

    async fn ping(&self) -> Result<(), StoreError> {
        self.read(|connection| {
            connection
                .query_row("SELECT 1", [], |_| Ok(()))
                .map_err(store_error)
        })
        .await
    }

    async fn inspect(&self) -> Result<StoreInspection, StoreError> {
        let lost_file = self.file.missing_path();
        let newest = self.read(|connection| {
            let sql = "SELECT at FROM entries ORDER BY id DESC LIMIT 1";
            let newest = connection.query_row(sql, [], |row| row.get::<_, i64>(0));
            match newest {
                Err(rusqlite::Error::QueryReturnedNoRows) => Ok(None),
                other => other.map(Some).map_err(store_error),
            }
        });
        // What a file that isn't there any more says is of no use.
        let newest = if lost_file.is_some() {
            None
        } else {
            newest.await?
        };
        Ok(StoreInspection {
            clock: None,
            newest_entry: newest.and_then(|at| Timestamp::from_microsecond(at).ok()),
            lost_file,
        })
    }
}

struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    fn take(&self) -> Result<Connection, StoreError> {
        let idle = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        match idle {
            Some(connection) => Ok(connection),
            None => reading_connection(&self.path).map_err(store_error),
        }
    }

    fn put_back(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < READERS {
            idle.push(connection);
        }
    }
}

fn write_jobs(mut connection: Connection, jobs: &mpsc::Receiver<ConnectionJob>) {
    for job in jobs {
        job(&mut connection);
    }
}

/// Processes that start together on a new file get in each other's way: SQLite has no lock that
/// several transactions could be made under. Each migration is one, so who lost a race finds it
/// made when it looks again.
fn migrated_connection(path: &Path) -> Result<Connection, StoreError> {
    let mut tries = 0..MIGRATION_TRIES;
    loop {
        let made = writing_connection(path).and_then(|mut connection| {
            migrations::migrations::runner()
                .run(&mut connection)
                .map(|_| connection)
                .map_err(|error| StoreError::Migration(error.to_string()))
        });
        if made.is_ok() || tries.next().is_none() {
            return made;
        }
        std::thread::sleep(MIGRATION_PAUSE);
    }
}

fn writing_connection(path: &Path) -> Result<Connection, StoreError> {
    if let Some(folder) = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
    {
        let failed = |error: std::io::Error| {
            StoreError::Unavailable(format!("{}: {error}", folder.display()))
        };
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let connection = Connection::open(path).map_err(store_error)?;
    let set = |(name, value): (&str, &str)| connection.pragma_update(None, name, value);
    connection.busy_timeout(BUSY).map_err(store_error)?;
    [
        ("journal_mode", "WAL"),
        ("synchronous", "FULL"),
        ("cache_size", "-16000"),
        // Sums and the ends of indexes are written again with every batch: copied back less often,
        // they are copied back fewer times.
        ("wal_autocheckpoint", "4000"),
    ]
    .into_iter()
    .try_for_each(set)
    .map_err(store_error)?;
    Ok(connection)
}

fn reading_connection(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "cache_size", "-16000")?;
    Ok(connection)
}

async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let ended = tokio::task::spawn_blocking(job).await;
    ended.unwrap_or_else(|error| Err(StoreError::Unavailable(error.to_string())))
}

fn store_error(error: rusqlite::Error) -> StoreError {
    use rusqlite::ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseLocked, DiskFull, SystemIoFailure,
    };
    match error.sqlite_error_code() {
        Some(DatabaseBusy | DatabaseLocked | DiskFull | SystemIoFailure | CannotOpen) => {
            StoreError::Unavailable(error.to_string())
        }
        _ => StoreError::Refused(error.to_string()),
    }
}
