//! Measures the journal, the stores' intake and the cost API's queries over many entries:
//! `cargo run --release -p llm-router-store --example figures -- [ENTRIES]` (a million by default).

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement prints what it measured with the clock, and ends where it can't"
)]
#![expect(dead_code, reason = "the tests use the rest of their support")]

#[path = "../tests/store/support/mod.rs"]
mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::civil::date;
use llm_router_domain::ledger::LedgerEntry;
use llm_router_store::journal::{Journal, JournalSettings, Mover, MoverSettings};
use llm_router_store::ledger::{CostQuery, RequestQuery, SumGroup};
use llm_router_store::{Store, StoreUrl, open};
use support::postgres::Postgres;
use support::{Random, entry, outcome, random_open_entry};

const DAYS: u64 = 365;
const BATCH: usize = 1_000;

fn main() {
    let count = std::env::args()
        .nth(1)
        .and_then(|text| text.parse().ok())
        .unwrap_or(1_000_000);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let folder = tempfile::tempdir_in(".").unwrap();
        journal(&folder.path().join("journal"));
        let sqlite = format!("sqlite:{}", folder.path().join("ledger.db").display());
        moving(&sqlite, &folder.path().join("moved")).await;
        store("sqlite", &format!("{sqlite}.large"), count).await;
        // Both at once may be more than the disk has: 10 million entries are some 6 GB.
        let _ = std::fs::remove_file(folder.path().join("ledger.db.large"));
        if let Some(server) = Postgres::start() {
            store("postgresql", &server.database("large"), count).await;
        }
    });
}

/// Records a second by one and by four threads.
fn journal(folder: &std::path::Path) {
    let mut random = Random(1);
    let pairs: Vec<_> = (0..1_000)
        .map(|_| {
            let opened = random_open_entry(&mut random, DAYS);
            let entry = LedgerEntry {
                attempt: opened.attempt.clone(),
                outcome: outcome(&mut random),
            };
            (opened, entry)
        })
        .collect();
    let (journal, _) = Journal::open(JournalSettings::new(folder)).unwrap();
    for threads in [1_u32, 4] {
        let rounds = 200 / threads;
        let began = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    for _ in 0..rounds {
                        for (opened, entry) in &pairs {
                            journal.record_opened(opened).unwrap();
                            journal.record_settled(entry.clone());
                        }
                    }
                });
            }
        });
        let records = 2_000 * rounds * threads;
        let each = began.elapsed() / records * threads;
        println!("journal: {threads} thread(s), {records} records, {each:?} of a thread each");
    }
}

/// Entries a second from the journal into SQLite.
async fn moving(url: &str, folder: &std::path::Path) {
    let store = open(&StoreUrl::parse(url).unwrap()).await.unwrap();
    let (journal, _) = Journal::open(JournalSettings::new(folder)).unwrap();
    let mut random = Random(2);
    let count = 50_000;
    for _ in 0..count {
        journal.record_settled(entry(&mut random, DAYS));
    }
    let runtime = tokio::runtime::Handle::current();
    let began = Instant::now();
    let mover = Mover::start(journal, store, MoverSettings::default(), runtime).unwrap();
    mover.flush().await.unwrap();
    let took = began.elapsed();
    println!("mover: {count} entries from the journal into sqlite in {took:?}");
    mover.stop().await.unwrap();
}

async fn store(name: &str, url: &str, count: usize) {
    let store = open(&StoreUrl::parse(url).unwrap()).await.unwrap();
    let mut random = Random(3);
    let mut took = Duration::ZERO;
    let mut done = 0;
    while done < count {
        // In the order of time, as a router makes them: each batch within its own day.
        let day = i64::try_from(done as u64 * DAYS / count as u64).unwrap();
        let batch: Vec<LedgerEntry> = (0..BATCH.min(count - done))
            .map(|_| shift_days(entry(&mut random, 1), day, &mut random))
            .collect();
        let began = Instant::now();
        store.insert(&batch).await.unwrap();
        took += began.elapsed();
        done += batch.len();
    }
    let rate = (done as u128 * 1_000_000_000) / took.as_nanos().max(1);
    println!("{name}: {done} entries in {took:?}, {rate} a second");
    queries(name, &store).await;
}

fn shift_days(mut entry: LedgerEntry, days: i64, random: &mut Random) -> LedgerEntry {
    entry.attempt.at += jiff::SignedDuration::from_hours(24 * days);
    entry.attempt.id = support::id(entry.attempt.at, random.next());
    entry
}

async fn queries(name: &str, store: &Arc<dyn Store>) {
    let all = |group| CostQuery {
        group,
        ..CostQuery::default()
    };
    let from = |group, from| CostQuery {
        from: Some(from),
        group,
        ..CostQuery::default()
    };
    let today = date(2026, 12, 31);
    let costs = [
        ("cost/current: today", from(SumGroup::Nothing, today)),
        (
            "cost/current: month",
            from(SumGroup::Nothing, today.first_of_month()),
        ),
        ("cost/current: total", all(SumGroup::Nothing)),
        (
            "cost/daily: 30 days",
            from(SumGroup::Day, date(2026, 12, 2)),
        ),
        ("cost/daily: all days", all(SumGroup::Day)),
        ("cost/by-model: all time", all(SumGroup::Model)),
        (
            "cost/by-model: ragged",
            CostQuery {
                to: Some(date(2026, 11, 13)),
                ..from(SumGroup::Model, date(2026, 2, 14))
            },
        ),
        ("cost/by-user: owners", all(SumGroup::Owner)),
        ("cost/by-user: end users", all(SumGroup::EndUser)),
    ];
    for (what, query) in costs {
        measure_time(name, what, || async {
            store.costs(&query).await.unwrap().len()
        })
        .await;
    }
    browse(name, store).await;
}

/// Filters that few entries fit, or none.
fn rare() -> Vec<(&'static str, RequestQuery)> {
    let text = |text: &str| Some(text.to_owned());
    let all = || RequestQuery {
        limit: 100,
        ..RequestQuery::default()
    };
    vec![
        (
            "requests: key's",
            RequestQuery {
                key: text("key-4"),
                ..all()
            },
        ),
        (
            "requests: no such key",
            RequestQuery {
                key: text("none"),
                ..all()
            },
        ),
        (
            "requests: no such model",
            RequestQuery {
                model: text("none"),
                ..all()
            },
        ),
        (
            "requests: no such provider",
            RequestQuery {
                provider: text("none"),
                ..all()
            },
        ),
        (
            "requests: no such rule",
            RequestQuery {
                rule: text("none"),
                ..all()
            },
        ),
        (
            "requests: no such status",
            RequestQuery {
                status: Some(418),
                ..all()
            },
        ),
        (
            "requests: dear, some",
            RequestQuery {
                min_cost: "0.9".parse().ok(),
                ..all()
            },
        ),
        (
            "requests: dear, none",
            RequestQuery {
                min_cost: "2".parse().ok(),
                ..all()
            },
        ),
        (
            "requests: slow, none",
            RequestQuery {
                min_latency: Some(Duration::from_secs(500)),
                ..all()
            },
        ),
    ]
}

/// The requests browser's queries: the newest, and what is rare or not there at all.
async fn browse(name: &str, store: &Arc<dyn Store>) {
    let requests = |owner: Option<&str>| RequestQuery {
        owner: owner.map(str::to_owned),
        limit: 100,
        ..RequestQuery::default()
    };
    for (what, query) in [
        ("requests: newest", requests(None)),
        ("requests: owner's", requests(Some("team-3"))),
    ]
    .into_iter()
    .chain(rare())
    {
        measure_time(name, what, || async {
            store.requests(&query).await.unwrap().items.len()
        })
        .await;
    }
    let page = store.requests(&requests(None)).await.unwrap();
    let id = page.items[50][0].attempt.request_id.to_string();
    measure_time(name, "requests: one", || async {
        store.request(&id).await.unwrap().len()
    })
    .await;
}

async fn measure_time<F: Future<Output = usize>>(name: &str, what: &str, run: impl Fn() -> F) {
    let mut times = Vec::new();
    let mut rows = 0;
    for _ in 0..20 {
        let began = Instant::now();
        rows = run().await;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    println!(
        "{name}: {what}: {rows} rows, median {:?}, worst {:?}",
        times[10], times[19]
    );
}
