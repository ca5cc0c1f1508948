//! The journal: acknowledged records are never lost, and no entry reaches the store twice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use llm_router_domain::ledger::{AttemptEnd, LedgerEntry, OpenEntry};
use llm_router_store::journal::{
    Journal, JournalError, JournalSettings, Mover, MoverSettings, OnFull, inspect,
};
use llm_router_store::ledger::{
    CostQuery, CostRow, Page, RepriceQuery, Repricing, RequestAttempts, RequestQuery, SpentQuery,
    StoreInspection, TotalsDifference,
};
use llm_router_store::verify::verify;
use llm_router_store::{LedgerStore, SqliteStore, StoreError, StoreUrl, open};
use proptest::prelude::*;
use rust_decimal::Decimal;
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::support::postgres::Postgres;
use crate::support::{Random, entry, outcome, random_open_entry};

fn settings(folder: &Path, segment_bytes: u64) -> JournalSettings {
    JournalSettings {
        segment_bytes,
        sync_every: Duration::from_millis(5),
        ..JournalSettings::new(folder)
    }
}

fn quick() -> MoverSettings {
    MoverSettings {
        interval: Duration::from_millis(5),
        batch: 50,
        pause: Duration::from_millis(5),
        max_pause: Duration::from_millis(50),
    }
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|ext| ext == "journal"))
        .collect();
    paths.sort();
    paths
}

fn settled_ids(folder: &Path) -> BTreeSet<Uuid> {
    inspect(folder).unwrap().settled.into_keys().collect()
}

#[test]
fn what_was_written_is_read_and_what_was_left_open_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut random = Random(1);
    let (finished, left) = (
        random_open_entry(&mut random, 5),
        random_open_entry(&mut random, 5),
    );
    let entry = LedgerEntry {
        attempt: finished.attempt.clone(),
        outcome: outcome(&mut random),
    };
    let (journal, found) = Journal::open(settings(folder.path(), 1 << 20)).unwrap();
    assert_eq!(found, Default::default());
    journal.record_opened(&finished).unwrap();
    journal.record_opened(&left).unwrap();
    journal.record_settled(entry.clone());
    let report = inspect(folder.path()).unwrap();
    assert_eq!(
        (report.open, report.settled.len(), report.damaged),
        (1, 1, 0)
    );
    assert_eq!(report.settled[&entry.attempt.id], entry);
    drop(journal);
    let (_journal, found) = Journal::open(settings(folder.path(), 1 << 20)).unwrap();
    assert_eq!(
        (found.lost, found.settled),
        (vec![left.clone().into_interrupted()], 1)
    );
    let report = inspect(folder.path()).unwrap();
    assert_eq!((report.open, report.settled.len()), (0, 2));
    assert_eq!(
        report.settled[&left.attempt.id].outcome.ending,
        AttemptEnd::Interrupted
    );
}

#[test]
fn a_folder_belongs_to_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let (journal, _) = Journal::open(settings(folder.path(), 1 << 20)).unwrap();
    let second = Journal::open(settings(folder.path(), 1 << 20));
    assert!(matches!(second, Err(JournalError::Locked(_))));
    drop(journal);
    Journal::open(settings(folder.path(), 1 << 20)).unwrap();
}

/// A journal of `count` settled entries and where each record ends in its only segment.
fn write_entries(folder: &Path, count: usize) -> (Vec<LedgerEntry>, Vec<u64>, PathBuf) {
    let mut random = Random(2);
    let (journal, _) = Journal::open(settings(folder, 1 << 20)).unwrap();
    let path = segments(folder).pop().unwrap();
    let mut entries = Vec::new();
    let mut ends = Vec::new();
    for _ in 0..count {
        let entry = entry(&mut random, 5);
        journal.record_settled(entry.clone());
        entries.push(entry);
        ends.push(std::fs::metadata(&path).unwrap().len());
    }
    (entries, ends, path)
}

#[test]
fn cut_at_every_byte_only_the_cut_record_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (entries, ends, path) = write_entries(folder.path(), 6);
    let whole = std::fs::read(&path).unwrap();
    for cut in 0..=whole.len() {
        let copy = tempfile::tempdir().unwrap();
        std::fs::write(copy.path().join(path.file_name().unwrap()), &whole[..cut]).unwrap();
        let (_journal, found) = Journal::open(settings(copy.path(), 1 << 20)).unwrap();
        let kept = ends.iter().filter(|end| **end <= cut as u64).count();
        let torn = cut as u64 - ends[..kept].last().copied().unwrap_or(0);
        assert_eq!(
            (found.settled, found.torn_bytes, found.damaged),
            (kept, torn, 0),
            "cut at {cut}"
        );
        let expected: BTreeSet<Uuid> = entries[..kept].iter().map(|e| e.attempt.id).collect();
        assert_eq!(settled_ids(copy.path()), expected, "cut at {cut}");
    }
}

#[test]
fn a_damaged_byte_costs_its_own_record_only() {
    let folder = tempfile::tempdir().unwrap();
    let (entries, ends, path) = write_entries(folder.path(), 5);
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let copy = tempfile::tempdir().unwrap();
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        std::fs::write(copy.path().join(path.file_name().unwrap()), bytes).unwrap();
        let hit = ends.iter().filter(|end| **end <= at as u64).count();
        let mut expected: BTreeSet<Uuid> = entries.iter().map(|e| e.attempt.id).collect();
        expected.remove(&entries[hit].attempt.id);
        assert_eq!(settled_ids(copy.path()), expected, "byte {at}");
    }
}

#[test]
fn a_large_damaged_region_is_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    let (entries, ends, path) = write_entries(folder.path(), 4);
    let whole = std::fs::read(&path).unwrap();
    let (before, after) = whole.split_at(usize::try_from(ends[1]).unwrap());
    let rubbish: Vec<u8> = b"LRj1".iter().copied().cycle().take(1 << 20).collect();
    std::fs::write(&path, [before, &rubbish, after].concat()).unwrap();
    assert_eq!(
        settled_ids(folder.path()),
        entries.iter().map(|e| e.attempt.id).collect()
    );
    assert_eq!(inspect(folder.path()).unwrap().damaged, 1);
}

/// A record as a version after this one may write it.
fn newer_record() -> Vec<u8> {
    let payload = [&[200, 1][..], &[7; 40]].concat();
    let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
    let sum = crc32c::crc32c_append(crc32c::crc32c(&length), &payload).to_le_bytes();
    [b"LRj1", &length[..], &sum, &payload].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_a_newer_version_keep_their_segment() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("j");
    std::fs::create_dir_all(&place).unwrap();
    let (entries, _, path) = write_entries(&place, 3);
    let bytes = [std::fs::read(&path).unwrap(), newer_record()].concat();
    std::fs::write(&path, &bytes).unwrap();
    let store = sqlite(folder.path()).await;
    for _ in 0..2 {
        let (journal, found) = Journal::open(settings(&place, 1 << 20)).unwrap();
        assert_eq!((found.newer, found.damaged, found.torn_bytes), (1, 0, 0));
        let mover = mover(&journal, &store);
        mover.flush().await.unwrap();
        mover.stop().await.unwrap();
        assert_eq!(
            std::fs::read(&path).unwrap(),
            bytes,
            "the segment is as it was"
        );
        assert_eq!(stored_entries(&*store).await.len(), entries.len());
        assert_eq!(journal.unreadable_records(), 0);
    }
    let report = inspect(&place).unwrap();
    assert_eq!((report.newer, report.damaged), (1, 0));
}

async fn sqlite(folder: &Path) -> Arc<dyn LedgerStore> {
    Arc::new(SqliteStore::open(folder.join("ledger.db")).await.unwrap())
}

fn mover(journal: &Journal, store: &Arc<dyn LedgerStore>) -> Mover {
    Mover::start(
        journal.clone(),
        Arc::clone(store),
        quick(),
        Handle::current(),
    )
    .unwrap()
}

async fn stored_entries(store: &dyn LedgerStore) -> BTreeMap<Uuid, LedgerEntry> {
    let query = RequestQuery {
        limit: 100_000,
        ..RequestQuery::default()
    };
    let page = store.requests(&query).await.unwrap();
    page.items
        .into_iter()
        .flatten()
        .map(|entry| (entry.attempt.id, entry))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_move_and_done_segments_go() {
    let folder = tempfile::tempdir().unwrap();
    let store = sqlite(folder.path()).await;
    let journal_folder = folder.path().join("journal");
    let (journal, _) = Journal::open(settings(&journal_folder, 4_000)).unwrap();
    let mover = mover(&journal, &store);
    let mut random = Random(3);
    let slow = random_open_entry(&mut random, 5);
    let mut all = BTreeMap::new();
    for number in 0..400 {
        if number == 200 {
            journal.record_opened(&slow).unwrap();
        }
        let opened = random_open_entry(&mut random, 5);
        let entry = LedgerEntry {
            attempt: opened.attempt.clone(),
            outcome: outcome(&mut random),
        };
        journal.record_opened(&opened).unwrap();
        journal.record_settled(entry.clone());
        all.insert(entry.attempt.id, entry);
    }
    mover.flush().await.unwrap();
    assert_eq!(stored_entries(&*store).await, all);
    let waiting = segments(&journal_folder).len();
    assert!(
        (10..80).contains(&waiting),
        "the open attempt's segment and later ones: {waiting}"
    );
    let report = inspect(&journal_folder).unwrap();
    let verification = verify(&report, &*store).await.unwrap();
    assert!(
        verification.agrees() && verification.pending.is_empty(),
        "{verification:?}"
    );
    assert_eq!(
        (verification.stored, verification.open),
        (report.settled.len(), 1)
    );
    let entry = LedgerEntry {
        attempt: slow.attempt,
        outcome: outcome(&mut random),
    };
    journal.record_settled(entry.clone());
    mover.flush().await.unwrap();
    assert_eq!(segments(&journal_folder).len(), 1);
    mover.stop().await.unwrap();
}

/// Store that fails a given number of times before it works.
struct Flaky {
    inner: Arc<dyn LedgerStore>,
    failures: AtomicUsize,
    calls: AtomicUsize,
}

#[async_trait]
impl LedgerStore for Flaky {
    async fn insert_shared(&self, entries: Arc<[LedgerEntry]>) -> Result<usize, StoreError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if self.failures.load(Ordering::Relaxed) > 0 {
            self.failures.fetch_sub(1, Ordering::Relaxed);
            if call.is_multiple_of(2) {
                // Stored, but the answer was lost: the batch comes again.
                self.inner.insert(&entries).await?;
            }
            return Err(StoreError::Unavailable("planned failure".to_owned()));
        }
        self.inner.insert_shared(entries).await
    }
    async fn costs(&self, query: &CostQuery) -> Result<Vec<CostRow>, StoreError> {
        self.inner.costs(query).await
    }
    async fn spent_by_run(&self, query: &SpentQuery) -> Result<Vec<(u32, Decimal)>, StoreError> {
        self.inner.spent_by_run(query).await
    }
    async fn requests(&self, query: &RequestQuery) -> Result<Page<RequestAttempts>, StoreError> {
        self.inner.requests(query).await
    }
    async fn request(&self, request_id: &str) -> Result<Vec<LedgerEntry>, StoreError> {
        self.inner.request(request_id).await
    }
    async fn entries(&self, ids: &[Uuid]) -> Result<Vec<LedgerEntry>, StoreError> {
        self.inner.entries(ids).await
    }
    async fn prune(&self, before: Timestamp, limit: u32) -> Result<usize, StoreError> {
        self.inner.prune(before, limit).await
    }
    async fn entries_to_reprice(
        &self,
        query: &RepriceQuery,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        self.inner.entries_to_reprice(query).await
    }
    async fn reprice(&self, repricing: Repricing) -> Result<usize, StoreError> {
        self.inner.reprice(repricing).await
    }
    async fn check_sums(&self) -> Result<Vec<TotalsDifference>, StoreError> {
        self.inner.check_sums().await
    }
    async fn ping(&self) -> Result<(), StoreError> {
        self.inner.ping().await
    }
    async fn inspect(&self) -> Result<StoreInspection, StoreError> {
        self.inner.inspect().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_gets_every_entry_once() {
    let folder = tempfile::tempdir().unwrap();
    let flaky = Arc::new(Flaky {
        inner: sqlite(folder.path()).await,
        failures: AtomicUsize::new(7),
        calls: AtomicUsize::new(0),
    });
    let store: Arc<dyn LedgerStore> = flaky.clone();
    let (journal, _) = Journal::open(settings(&folder.path().join("j"), 3_000)).unwrap();
    let mover = mover(&journal, &store);
    let entries = crate::support::entries(4, 300, 9);
    entries
        .iter()
        .for_each(|entry| journal.record_settled(entry.clone()));
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while mover.flush().await.is_err() {
        assert!(tokio::time::Instant::now() < deadline);
    }
    let expected = entries
        .into_iter()
        .map(|entry| (entry.attempt.id, entry))
        .collect();
    assert_eq!(stored_entries(&*store).await, expected);
    assert_eq!(store.check_sums().await.unwrap(), []);
    // Seven that failed, and 300 entries in batches of at most twice 50.
    assert!(flaky.calls.load(Ordering::Relaxed) >= 10);
    mover.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_stopped_and_paused_loses_nothing() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let store: Arc<dyn LedgerStore> = open(&StoreUrl::parse(&server.database("outage")).unwrap())
        .await
        .unwrap();
    let (journal, _) = Journal::open(settings(folder.path(), 50_000)).unwrap();
    let mover = mover(&journal, &store);
    let entries = crate::support::entries(5, 3_000, 9);
    entries[..1_000]
        .iter()
        .for_each(|entry| journal.record_settled(entry.clone()));
    mover.flush().await.unwrap();
    server.stop();
    entries[1_000..2_000]
        .iter()
        .for_each(|entry| journal.record_settled(entry.clone()));
    assert!(mover.flush().await.is_err());
    server.run();
    server.pause();
    entries[2_000..]
        .iter()
        .for_each(|entry| journal.record_settled(entry.clone()));
    server.resume();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(30);
    while mover.flush().await.is_err() {
        assert!(tokio::time::Instant::now() < deadline);
    }
    assert_eq!(stored_entries(&*store).await.len(), entries.len());
    assert_eq!(store.check_sums().await.unwrap(), []);
    mover.stop().await.unwrap();
}

/// A file system of 256 KiB, unmounted with this value.
struct Tiny(tempfile::TempDir);

impl Tiny {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(folder.path())
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        println!("NO TMPFS: mounting isn't allowed here; a full disk is NOT checked");
        None
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_requests_are_refused_or_go_on_and_nothing_is_corrupt() {
    for on_full in [OnFull::Refuse, OnFull::Continue] {
        let Some(tiny) = Tiny::mount() else { return };
        let folder = tempfile::tempdir().unwrap();
        let store = sqlite(folder.path()).await;
        let settings = JournalSettings {
            on_full,
            ..settings(tiny.0.path(), 1 << 20)
        };
        let (journal, _) = Journal::open(settings).unwrap();
        let mut random = Random(6);
        let (mut accepted, mut refused) = (Vec::new(), 0);
        for _ in 0..2_000 {
            let opened = random_open_entry(&mut random, 3);
            match journal.record_opened(&opened) {
                Ok(()) => accepted.push(opened),
                Err(_) => refused += 1,
            }
        }
        assert!(journal.failures() > 0);
        assert_eq!(refused > 0, on_full == OnFull::Refuse, "{refused} refused");
        let report = inspect(tiny.0.path()).unwrap();
        assert_eq!(report.damaged, 0);
        let entries: Vec<LedgerEntry> = accepted
            .into_iter()
            .map(|opened| LedgerEntry {
                attempt: opened.attempt,
                outcome: outcome(&mut random),
            })
            .collect();
        entries
            .iter()
            .for_each(|entry| journal.record_settled(entry.clone()));
        let mover = mover(&journal, &store);
        mover.flush().await.unwrap();
        let expected: BTreeMap<_, _> = entries.into_iter().map(|e| (e.attempt.id, e)).collect();
        assert_eq!(stored_entries(&*store).await, expected);
        assert_eq!(journal.dropped_records(), 0);
        mover.stop().await.unwrap();
    }
}

/// Runs a process until it dies: attempts opened, some of them settled.
fn run(journal: &Journal, random: &mut Random, steps: usize, truth: &mut Truth) {
    let mut under_way: Vec<OpenEntry> = Vec::new();
    for _ in 0..steps {
        if random.below(2) == 0 || under_way.is_empty() {
            let opened = random_open_entry(random, 4);
            journal.record_opened(&opened).unwrap();
            truth.opened.insert(opened.attempt.id);
            under_way.push(opened);
        } else {
            let index = usize::try_from(random.below(under_way.len() as u64)).unwrap();
            let opened = under_way.swap_remove(index);
            let entry = LedgerEntry {
                attempt: opened.attempt,
                outcome: outcome(random),
            };
            journal.record_settled(entry.clone());
            truth.settled.insert(entry.attempt.id, entry);
        }
    }
}

#[derive(Default)]
struct Truth {
    opened: BTreeSet<Uuid>,
    settled: BTreeMap<Uuid, LedgerEntry>,
}

/// Opens the folder once the thread of the "process" before has released it.
async fn reopen(folder: &Path) -> Journal {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        match Journal::open(settings(folder, 2_500)) {
            Ok((journal, _)) => return journal,
            Err(JournalError::Locked(_)) => {
                assert!(tokio::time::Instant::now() < deadline);
                tokio::task::yield_now().await;
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn crash_and_recover(seed: u64, rounds: usize) {
    let folder = tempfile::tempdir().unwrap();
    let journal_folder = folder.path().join("journal");
    let store = sqlite(folder.path()).await;
    let mut random = Random(seed.max(1));
    let mut truth = Truth::default();
    for _ in 0..rounds {
        let journal = reopen(&journal_folder).await;
        let moving = (random.below(3) > 0).then(|| mover(&journal, &store));
        let steps = usize::try_from(random.below(80)).unwrap();
        run(&journal, &mut random, steps, &mut truth);
        if random.below(2) == 0
            && let Some(mover) = &moving
        {
            mover.flush().await.unwrap();
        }
        // The process dies: no flush, no settling; now and then within a write.
        drop(moving);
        drop(journal);
        if random.below(2) == 0
            && let Some(path) = segments(&journal_folder).pop()
        {
            let mut bytes = std::fs::read(&path).unwrap();
            let record = bytes.clone();
            let part = usize::try_from(random.below(150))
                .unwrap()
                .min(record.len());
            bytes.extend_from_slice(&record[..part]);
            // Half of a record that was never acknowledged; a whole one would be a repetition.
            std::fs::write(&path, bytes).unwrap();
        }
    }
    let journal = reopen(&journal_folder).await;
    let mover = mover(&journal, &store);
    mover.flush().await.unwrap();
    let found = stored_entries(&*store).await;
    let ids: BTreeSet<Uuid> = found.keys().copied().collect();
    assert_eq!(ids, truth.opened, "every attempt has its entry");
    for (id, entry) in &truth.settled {
        assert_eq!(&found[id], entry);
    }
    let sums = store.costs(&CostQuery::default()).await.unwrap()[0].sums;
    assert_eq!(
        sums.requests,
        truth.opened.len() as u64,
        "none is counted twice"
    );
    assert_eq!(store.check_sums().await.unwrap(), []);
    mover.stop().await.unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whenever_it_dies_every_attempt_has_one_entry(seed in any::<u64>(), rounds in 1_usize..5) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(crash_and_recover(seed, rounds));
    }
}
