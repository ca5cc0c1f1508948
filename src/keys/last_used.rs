//! Last uses of keys: noted in memory with each use, written to the store now and then. It must
//! not cost a request more than a look at the time it has.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use llm_router_store::objects::KeyUse;
use llm_router_store::{Store, StoreError};

/// Last use of one key by this process.
#[derive(Debug)]
pub(crate) struct LastUse {
    /// The key's id.
    key: Box<str>,
    /// Since 1970; 0 while it wasn't.
    second: AtomicI64,
    /// Set if it is among those to be written.
    listed: AtomicBool,
}

/// The keys that were used since the store was told.
#[derive(Debug, Default)]
pub(crate) struct UseLog {
    unwritten: Mutex<Vec<Arc<LastUse>>>,
}

/// Interval at which last uses are written to the store.
const WRITTEN: Duration = Duration::from_secs(10);

/// Most uses that are written at once.
const BATCH: usize = 1_000;

impl LastUse {
    pub(crate) fn new(key: &str) -> Self {
        Self {
            key: key.into(),
            second: AtomicI64::new(0),
            listed: AtomicBool::new(false),
        }
    }

    /// Returns the last use, as far as this process knows.
    pub(crate) fn at(&self) -> Option<Timestamp> {
        let second = self.second.load(Ordering::Relaxed);
        (second > 0)
            .then(|| Timestamp::from_second(second).ok())
            .flatten()
    }
}

impl UseLog {
    /// Notes that a key is used.
    pub(crate) fn note(&self, last: &Arc<LastUse>, now: SystemTime) {
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        let second = since.map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(0));
        // Read first: a key in much use stays in the caches of all cores.
        if last.second.load(Ordering::Relaxed) == second {
            return;
        }
        last.second.store(second, Ordering::Relaxed);
        if !last.listed.load(Ordering::Relaxed) && !last.listed.swap(true, Ordering::AcqRel) {
            self.unwritten().push(Arc::clone(last));
        }
    }

    /// Tells the store of all uses since it was last told.
    ///
    /// # Errors
    /// When it doesn't take them; then they are kept for the next time.
    pub(crate) async fn write_out(&self, store: &dyn Store) -> Result<(), StoreError> {
        let mut open = std::mem::take(&mut *self.unwritten());
        while !open.is_empty() {
            let batch = open.split_off(open.len().saturating_sub(BATCH));
            let uses = batch.iter().filter_map(|last| {
                // Before it is read: a use from now on is listed anew.
                last.listed.store(false, Ordering::Release);
                let (key, at) = (last.key.to_string(), last.at()?);
                Some(KeyUse { key, at })
            });
            if let Err(error) = store.note_uses(uses.collect()).await {
                open.extend(batch);
                self.put_back(open);
                return Err(error);
            }
        }
        Ok(())
    }

    fn put_back(&self, unwritten: Vec<Arc<LastUse>>) {
        let unlisted = |last: &Arc<LastUse>| !last.listed.swap(true, Ordering::AcqRel);
        let mut listed = self.unwritten();
        for last in unwritten {
            if unlisted(&last) {
                listed.push(last);
            }
        }
    }

    fn unwritten(&self) -> MutexGuard<'_, Vec<Arc<LastUse>>> {
        self.unwritten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the store told, until the task is dropped.
pub(crate) async fn keep_written(log: Arc<UseLog>, store: Arc<dyn Store>) {
    loop {
        tokio::time::sleep(WRITTEN).await;
        if let Err(error) = log.write_out(store.as_ref()).await {
            tracing::debug!(%error, "when keys were last used is told to the store later");
        }
    }
}

#[cfg(test)]
mod tests {
    use llm_router_store::{StoreUrl, open};

    use super::*;

    fn at(second: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(second)
    }

    #[tokio::test]
    async fn the_store_is_told_the_latest_use_of_each_key_once() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("uses.db").display());
        let store = open(&StoreUrl::parse(&url).unwrap()).await.unwrap();
        let log = UseLog::default();
        let keys: Vec<_> = (0..2_500)
            .map(|number| Arc::new(LastUse::new(&format!("k{number}"))))
            .collect();
        for second in [7, 7, 9] {
            keys.iter().for_each(|key| log.note(key, at(second)));
        }
        assert_eq!(log.unwritten().len(), keys.len());
        log.write_out(store.as_ref()).await.unwrap();
        assert!(log.unwritten().is_empty());
        let known = async || {
            let asked = vec!["k0".to_owned(), "k2499".to_owned(), "other".to_owned()];
            let mut uses = store.uses(asked).await.unwrap();
            uses.sort_by(|one, two| one.key.cmp(&two.key));
            let second = |one: KeyUse| (one.key, one.at.as_second());
            uses.into_iter().map(second).collect::<Vec<_>>()
        };
        let expected = |first| vec![("k0".to_owned(), first), ("k2499".to_owned(), 9)];
        assert_eq!(known().await, expected(9));
        log.note(&keys[0], at(20));
        log.put_back(vec![Arc::clone(&keys[0])]);
        assert_eq!(log.unwritten().len(), 1);
        log.write_out(store.as_ref()).await.unwrap();
        assert_eq!(known().await, expected(20));
    }
}
