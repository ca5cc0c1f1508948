//! One suite for every store: data is returned as stored, sums are exact, and nothing is counted
//! twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::support::postgres::Postgres;
use crate::support::{Random, StorePlace, entries, entry, id};
use jiff::Timestamp;
use jiff::ToSpan;
use jiff::civil::{Date, date};
use llm_router_domain::budget::Account;
use llm_router_domain::inexact::Reasons;
use llm_router_domain::ledger::{LedgerEntry, LedgerSums, counting_run, stamp_run};
use llm_router_domain::price::Cost;
use llm_router_store::ledger::{
    CostQuery, CostRow, NO_RUN, RepriceQuery, Repricing, RequestQuery, SpentQuery, SumGroup,
    spent_since,
};
use llm_router_store::{LedgerStore, StoreUrl, open};
use rust_decimal::Decimal;

type SharedLedger = Arc<dyn LedgerStore>;

async fn empty(place: &StorePlace, name: &str) -> SharedLedger {
    open(&StoreUrl::parse(&place.url(name)).unwrap())
        .await
        .unwrap()
}

async fn conforms(place: StorePlace) {
    gives_back_every_field(&place).await;
    counts_nothing_twice(&place).await;
    sums_are_exact(&place).await;
    pages_of_sums_follow_each_other(&place).await;
    tells_what_each_run_spent(&place).await;
    writers_do_not_disturb_each_other(&place).await;
    lists_requests_by_page_and_filter(&place).await;
    attempts_belong_to_their_request(&place).await;
    retention_keeps_sums(&place).await;
    finds_what_was_tampered_with(&place).await;
    replaces_bills_with_their_sums(&place).await;
    opens_again_what_it_had(&place).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_conforms() {
    conforms(StorePlace::Sqlite(tempfile::tempdir().unwrap())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_conforms() {
    if let Some(server) = Postgres::start() {
        conforms(StorePlace::Postgres(server)).await;
    }
}

async fn gives_back_every_field(place: &StorePlace) {
    let store = empty(place, "fields").await;
    let entries = entries(1, 300, 30);
    assert_eq!(store.insert(&entries).await.unwrap(), 300);
    let ids: Vec<_> = entries.iter().map(|entry| entry.attempt.id).collect();
    let by_id = |entries: Vec<LedgerEntry>| -> BTreeMap<_, _> {
        entries
            .into_iter()
            .map(|entry| (entry.attempt.id, entry))
            .collect()
    };
    assert_eq!(
        by_id(store.entries(&ids).await.unwrap()),
        by_id(entries.clone())
    );
    store.ping().await.unwrap();
    let inspection = store.inspect().await.unwrap();
    let is_an_entry = |at| entries.iter().any(|entry| entry.attempt.at == at);
    assert!(inspection.newest_entry.is_some_and(is_an_entry));
    assert_eq!(inspection.lost_file, None);
}

async fn counts_nothing_twice(place: &StorePlace) {
    let store = empty(place, "twice").await;
    let entries = entries(2, 50, 3);
    assert_eq!(store.insert(&entries[..30]).await.unwrap(), 30);
    assert_eq!(store.insert(&entries[20..]).await.unwrap(), 20);
    let doubled: Vec<LedgerEntry> = entries.iter().chain(&entries).cloned().collect();
    assert_eq!(store.insert(&doubled).await.unwrap(), 0);
    let one = entry(&mut Random(77), 3);
    assert_eq!(store.insert(&[one.clone(), one.clone()]).await.unwrap(), 1);
    assert_eq!(store.insert(&[]).await.unwrap(), 0);
    let expected = oracle(entries.iter().chain([&one]), &CostQuery::default());
    assert_eq!(store.costs(&CostQuery::default()).await.unwrap(), expected);
    assert_eq!(store.check_sums().await.unwrap(), []);
}

/// Computes the expected answer of a query in memory.
fn oracle<'e>(
    entries: impl IntoIterator<Item = &'e LedgerEntry>,
    query: &CostQuery,
) -> Vec<CostRow> {
    let mut rows: BTreeMap<Vec<String>, CostRow> = BTreeMap::new();
    if query.group == SumGroup::Nothing {
        rows.insert(Vec::new(), CostRow::default());
    }
    for entry in entries.into_iter().filter(|entry| within(entry, query)) {
        let row = key(entry, query.group);
        let name: Vec<String> = [
            row.day.map(|day| day.to_string()),
            row.provider.clone(),
            row.model.clone(),
            row.user.clone(),
        ]
        .into_iter()
        .flatten()
        .collect();
        rows.entry(name).or_insert(row).sums += entry.sums();
    }
    let mut rows: Vec<CostRow> = rows.into_values().collect();
    rows.iter_mut()
        .for_each(|row| row.sums.cost = row.sums.cost.normalize());
    rows
}

async fn tells_what_each_run_spent(place: &StorePlace) {
    let store = empty(place, "runs").await;
    let mut entries = entries(5, 600, 60);
    for (number, entry) in (0_u32..).zip(&mut entries) {
        let attempt = &mut entry.attempt;
        attempt.id = stamp_run(attempt.id, number % 3, number % 4 > 0);
    }
    for batch in entries.chunks(250) {
        store.insert(batch).await.unwrap();
        store.insert(batch).await.unwrap();
    }
    for account in [
        Account::Key("key-3".into()),
        Account::Owner("team-1".into()),
    ] {
        for from in [None, Some(date(2026, 1, 20))] {
            let of_account = |entry: &&LedgerEntry| match &account {
                Account::Key(key) => entry.attempt.key == *key,
                Account::Owner(owner) => entry.attempt.owner == *owner,
            };
            let mut expected: BTreeMap<u32, Decimal> = BTreeMap::from([(NO_RUN, Decimal::ZERO)]);
            for entry in entries.iter().filter(of_account) {
                if from.is_some_and(|from| entry.attempt.day() < from) {
                    continue;
                }
                let run = counting_run(entry.attempt.id).unwrap_or(NO_RUN);
                *expected.entry(run).or_default() += entry.outcome.cost.usd().unwrap_or_default();
            }
            let query = SpentQuery {
                account: account.clone(),
                from,
            };
            let mut found: BTreeMap<u32, Decimal> = BTreeMap::new();
            for (run, spent) in store.spent_by_run(&query).await.unwrap() {
                assert_eq!(found.insert(run, spent), None, "a run is there twice");
            }
            expected.retain(|run, usd| *run == NO_RUN || !usd.is_zero());
            found.retain(|run, usd| *run == NO_RUN || !usd.is_zero());
            assert_eq!(found, expected, "{query:?}");
        }
    }
}

fn within(entry: &LedgerEntry, query: &CostQuery) -> bool {
    let day = entry.attempt.day();
    query.from.is_none_or(|from| day >= from)
        && query.to.is_none_or(|to| day <= to)
        && query
            .key
            .as_deref()
            .is_none_or(|key| *entry.attempt.key == *key)
        && query
            .owner
            .as_deref()
            .is_none_or(|owner| *entry.attempt.owner == *owner)
}

fn key(entry: &LedgerEntry, group: SumGroup) -> CostRow {
    let attempt = &entry.attempt;
    let mut row = CostRow::default();
    match group {
        SumGroup::Nothing => {}
        SumGroup::Day => row.day = Some(attempt.day()),
        SumGroup::Model => {
            row.provider = Some(attempt.provider.to_string());
            row.model = Some(attempt.deployment.to_string());
        }
        SumGroup::Provider => row.provider = Some(attempt.provider.to_string()),
        SumGroup::Owner => row.user = Some(attempt.owner.to_string()),
        SumGroup::Key => row.user = Some(attempt.key.to_string()),
        SumGroup::EndUser => row.user = Some(entry.user().to_owned()),
    }
    row
}

const GROUPS: [SumGroup; 7] = [
    SumGroup::Nothing,
    SumGroup::Day,
    SumGroup::Model,
    SumGroup::Provider,
    SumGroup::Owner,
    SumGroup::Key,
    SumGroup::EndUser,
];

async fn sums_are_exact(place: &StorePlace) {
    let store = empty(place, "sums").await;
    let entries = entries(3, 4_000, 120);
    for batch in entries.chunks(700) {
        store.insert(batch).await.unwrap();
    }
    let mut random = Random(4);
    let day = |random: &mut Random| -> Option<Date> {
        let day = date(2025, 12, 25) + i64::try_from(random.below(140)).unwrap().days();
        (random.below(4) > 0).then_some(day)
    };
    for round in 0..60 {
        let query = CostQuery {
            from: day(&mut random),
            to: day(&mut random),
            key: (random.below(4) == 0).then(|| format!("key-{}", random.below(15))),
            owner: (random.below(4) == 0).then(|| format!("team-{}", random.below(5))),
            group: GROUPS[round % GROUPS.len()],
            ..CostQuery::default()
        };
        let mut found = store.costs(&query).await.unwrap();
        let mut expected = oracle(&entries, &query);
        // An empty range has no sum, not a sum of nothing.
        if query.from.zip(query.to).is_some_and(|(from, to)| from > to) {
            expected.clear();
        }
        let order = |row: &CostRow| {
            (
                row.day,
                row.provider.clone(),
                row.model.clone(),
                row.user.clone(),
            )
        };
        found.sort_by_key(order);
        expected.sort_by_key(order);
        assert_eq!(found, expected, "{query:?}");
    }
    let (team, from) = (Some("team-1".to_owned()), Some(date(2026, 2, 10)));
    let query = CostQuery {
        owner: team.clone(),
        from,
        ..CostQuery::default()
    };
    let expected = oracle(&entries, &query)[0].sums.cost;
    assert_eq!(
        spent_since(&*store, None, team, from)
            .await
            .unwrap()
            .normalize(),
        expected
    );
}

async fn pages_of_sums_follow_each_other(place: &StorePlace) {
    let store = empty(place, "cost_pages").await;
    store.insert(&entries(6, 2_000, 40)).await.unwrap();
    for group in [
        SumGroup::Model,
        SumGroup::Provider,
        SumGroup::Owner,
        SumGroup::Key,
        SumGroup::EndUser,
    ] {
        let whole = CostQuery {
            group,
            // Read out of months and days.
            from: Some(date(2026, 1, 5)),
            ..CostQuery::default()
        };
        let expected = store.costs(&whole).await.unwrap();
        assert!(expected.len() > 2, "{group:?}");
        let mut page = CostQuery {
            limit: Some(2),
            ..whole
        };
        let mut rows: Vec<CostRow> = Vec::new();
        loop {
            let found = store.costs(&page).await.unwrap();
            let Some(last) = found.last() else {
                break;
            };
            assert!(found.len() <= 2, "{group:?}");
            let values = [&last.provider, &last.model, &last.user];
            page.after = values.into_iter().flatten().cloned().collect();
            rows.extend(found);
        }
        assert_eq!(rows, expected, "{group:?}");
    }
}

async fn writers_do_not_disturb_each_other(place: &StorePlace) {
    let store = empty(place, "writers").await;
    let entries = Arc::new(entries(5, 2_000, 10));
    let writers: Vec<_> = (0..8_usize)
        .map(|writer| {
            let (store, entries) = (Arc::clone(&store), Arc::clone(&entries));
            tokio::spawn(async move {
                // Batches that overlap with those of the neighbours.
                for batch in entries[writer * 200..(writer * 200 + 600).min(2_000)].chunks(97) {
                    while let Err(error) = store.insert(batch).await {
                        assert!(error.is_temporary(), "{error}");
                    }
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let found = store.costs(&CostQuery::default()).await.unwrap();
    assert_eq!(found, oracle(entries.iter(), &CostQuery::default()));
    assert_eq!(store.check_sums().await.unwrap(), []);
}

async fn all_pages(store: &SharedLedger, mut query: RequestQuery) -> Vec<LedgerEntry> {
    let mut all = Vec::new();
    loop {
        let page = store.requests(&query).await.unwrap();
        assert!(page.items.len() <= query.limit as usize);
        all.extend(
            page.items
                .into_iter()
                .map(|mut attempts| attempts.pop().unwrap()),
        );
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => return all,
        }
    }
}

async fn lists_requests_by_page_and_filter(place: &StorePlace) {
    let store = empty(place, "pages").await;
    let mut entries = entries(6, 120, 20);
    store.insert(&entries).await.unwrap();
    entries.sort_by_key(|entry| std::cmp::Reverse(entry.attempt.id));
    let query = |limit| RequestQuery {
        limit,
        ..RequestQuery::default()
    };
    for limit in [1, 7, 60, 120, 500] {
        assert_eq!(
            all_pages(&store, query(limit)).await,
            entries,
            "pages of {limit}"
        );
    }
    for query in filters(&entries) {
        let expected: Vec<LedgerEntry> = entries
            .iter()
            .filter(|entry| keeps(&query, entry))
            .cloned()
            .collect();
        assert!(!expected.is_empty(), "{query:?}");
        assert_eq!(
            all_pages(&store, query.clone()).await,
            expected,
            "{query:?}"
        );
    }
}

fn filters(entries: &[LedgerEntry]) -> [RequestQuery; 10] {
    let query = || RequestQuery {
        limit: 9,
        ..RequestQuery::default()
    };
    let (from, to) = (Some(entries[90].attempt.at), Some(entries[30].attempt.at));
    let attempt = &entries[50].attempt;
    let text = |text: &str| Some(text.to_owned());
    [
        RequestQuery {
            from,
            to,
            ..query()
        },
        RequestQuery {
            key: text(&attempt.key),
            ..query()
        },
        RequestQuery {
            owner: text(&attempt.owner),
            ..query()
        },
        RequestQuery {
            end_user: text(entries[50].user()),
            ..query()
        },
        RequestQuery {
            provider: text(&attempt.provider),
            ..query()
        },
        RequestQuery {
            model: text(&attempt.deployment),
            ..query()
        },
        RequestQuery {
            status: Some(entries[50].outcome.status),
            from,
            ..query()
        },
        RequestQuery {
            rule: entries
                .iter()
                .find_map(|e| e.attempt.rule.as_deref())
                .map(str::to_owned),
            ..query()
        },
        RequestQuery {
            min_cost: "0.5".parse().ok(),
            ..query()
        },
        RequestQuery {
            min_latency: Some(Duration::from_secs(30)),
            ..query()
        },
    ]
}

fn keeps(query: &RequestQuery, entry: &LedgerEntry) -> bool {
    let attempt = &entry.attempt;
    let is = |wanted: &Option<String>, found: &str| wanted.as_deref().is_none_or(|w| w == found);
    let millis = attempt.at.as_millisecond();
    query
        .from
        .is_none_or(|from| millis >= from.as_millisecond())
        && query.to.is_none_or(|to| millis < to.as_millisecond())
        && is(&query.key, &attempt.key)
        && is(&query.owner, &attempt.owner)
        && is(&query.end_user, entry.user())
        && is(&query.provider, &attempt.provider)
        && is(&query.model, &attempt.deployment)
        && query
            .status
            .is_none_or(|status| status == entry.outcome.status)
        && (query.rule.is_none() || query.rule.as_deref() == attempt.rule.as_deref())
        && query
            .min_cost
            .is_none_or(|least| entry.outcome.cost.usd() >= Some(least))
        && query
            .min_latency
            .is_none_or(|least| latency(entry) >= least)
}

fn latency(entry: &LedgerEntry) -> Duration {
    let timings = &entry.outcome.timings;
    let micros = |time: Option<u32>| Duration::from_micros(time.unwrap_or_default().into());
    micros(timings.queue) + micros(timings.total)
}

/// The attempts of one request, one after the other.
fn request(seed: u64, request_id: &str, attempts: u16) -> Vec<LedgerEntry> {
    let mut random = Random(seed);
    let first = entry(&mut random, 10);
    (1..=attempts)
        .map(|number| {
            let mut entry = entry(&mut random, 10);
            entry.attempt.at = first.attempt.at + i64::from(number).seconds();
            entry.attempt.id = id(entry.attempt.at, random.next());
            entry.attempt.request_id = request_id.into();
            entry.attempt.number = number;
            entry.outcome.last = number == attempts;
            entry
        })
        .collect()
}

async fn attempts_belong_to_their_request(place: &StorePlace) {
    let store = empty(place, "attempts").await;
    let requests = [
        request(10, "a", 3),
        request(11, "b", 1),
        request(12, "a", 2),
    ];
    store.insert(&requests.concat()).await.unwrap();
    let page = store
        .requests(&RequestQuery {
            limit: 9,
            ..RequestQuery::default()
        })
        .await
        .unwrap();
    let mut expected = requests.to_vec();
    expected.sort_by_key(|attempts| std::cmp::Reverse(attempts.last().unwrap().attempt.id));
    assert_eq!(page.items, expected);
    let mut all: Vec<LedgerEntry> = [&requests[0][..], &requests[2][..]].concat();
    all.sort_by_key(|entry| entry.attempt.id);
    assert_eq!(store.request("a").await.unwrap(), all);
    assert_eq!(store.request("unknown").await.unwrap(), []);
    let sums = store.costs(&CostQuery::default()).await.unwrap()[0].sums;
    assert_eq!(sums.requests, 3);
    for attempts in &requests {
        let costs = attempts.iter().filter_map(|entry| entry.outcome.cost.usd());
        let total: Decimal = costs.sum();
        for (least, found) in [(total, true), (total + Decimal::new(1, 15), false)] {
            let query = RequestQuery {
                min_cost: Some(least),
                limit: 9,
                ..RequestQuery::default()
            };
            let page = store.requests(&query).await.unwrap();
            assert_eq!(page.items.contains(attempts), found, "{least}");
        }
    }
}

async fn retention_keeps_sums(place: &StorePlace) {
    let store = empty(place, "retention").await;
    let entries = entries(7, 500, 40);
    store.insert(&entries).await.unwrap();
    let before = store.costs(&CostQuery::default()).await.unwrap();
    let cutoff = "2026-01-20T00:00:00Z".parse().unwrap();
    let old = entries
        .iter()
        .filter(|entry| entry.attempt.at < cutoff)
        .count();
    let mut deleted = 0;
    loop {
        let now = store.prune(cutoff, 100).await.unwrap();
        assert!(now <= 100);
        deleted += now;
        if now == 0 {
            break;
        }
    }
    assert_eq!(deleted, old);
    assert_eq!(store.costs(&CostQuery::default()).await.unwrap(), before);
    let kept = store
        .requests(&RequestQuery {
            limit: 1_000,
            ..RequestQuery::default()
        })
        .await
        .unwrap();
    assert_eq!(kept.items.len(), entries.len() - old);
    let days: Vec<_> = store
        .check_sums()
        .await
        .unwrap()
        .into_iter()
        .map(|d| d.place)
        .collect();
    assert!(
        days.iter().all(|place| place.contains("2026-01-01")),
        "{days:?}"
    );
}

async fn finds_what_was_tampered_with(place: &StorePlace) {
    let store = empty(place, "tampered").await;
    store.insert(&entries(8, 200, 5)).await.unwrap();
    assert_eq!(store.check_sums().await.unwrap(), []);
    place.tamper("tampered", "UPDATE cost_daily SET output_tokens = output_tokens + 1 WHERE day = '2026-01-03' AND key = 'key-0'");
    let found = store.check_sums().await.unwrap();
    assert!(
        !found.is_empty()
            && found
                .iter()
                .all(|d| d.place.starts_with("cost_daily 2026-01-03 key-0")),
        "{found:?}"
    );
    let (expected, seen) = (found[0].expected.unwrap(), found[0].found.unwrap());
    assert_eq!(
        LedgerSums {
            output_tokens: seen.output_tokens,
            ..expected
        },
        seen
    );
    place.tamper("tampered", "DELETE FROM entries WHERE key = 'key-1'");
    let places: Vec<_> = store
        .check_sums()
        .await
        .unwrap()
        .into_iter()
        .map(|d| d.place)
        .collect();
    for table in ["cost_daily", "cost_monthly", "user_daily", "user_monthly"] {
        assert!(
            places.iter().any(|place| place.starts_with(table)),
            "{table}: {places:?}"
        );
    }
}

async fn replaces_bills_with_their_sums(place: &StorePlace) {
    let store = empty(place, "repriced").await;
    let all = entries(21, 200, 40);
    store.insert(&all).await.unwrap();
    let mut query = RepriceQuery {
        from: Timestamp::UNIX_EPOCH,
        to: Timestamp::MAX,
        limit: 70,
        ..RepriceQuery::default()
    };
    let mut read = Vec::new();
    loop {
        let page = store.entries_to_reprice(&query).await.unwrap();
        let Some(last) = page.last() else { break };
        query.after = Some(last.attempt.id);
        read.extend(page);
    }
    assert_eq!(read.len(), all.len());
    let at = "2026-12-01T00:00:00Z".parse().unwrap();
    let mut expected = read.clone();
    for entry in expected.iter_mut().step_by(3) {
        let usd = entry.outcome.cost.usd().unwrap_or_default();
        // Some fall, some rise, some get their first price.
        let change = Decimal::new(-123_456_789, 15);
        entry.outcome.cost = Cost::Usd((usd + change).abs().normalize());
        entry.outcome.billing.inexact = Reasons::NONE;
        entry.outcome.billing.repriced = Some(at);
    }
    let changed = expected.iter().cloned().zip(read.clone());
    let pairs: Vec<_> = changed
        .filter(|(after, before)| after != before)
        .map(|(after, before)| (before, after))
        .collect();
    let repricing = Repricing {
        at,
        reason: "prices were out of date".to_owned(),
        entries: pairs.clone(),
    };
    let count = store.reprice(repricing.clone()).await.unwrap();
    assert_eq!(count, pairs.len());
    assert!(count > 60, "{count}");
    assert_eq!(store.check_sums().await.unwrap(), []);
    let ids: Vec<_> = expected.iter().map(|entry| entry.attempt.id).collect();
    let mut stored = store.entries(&ids).await.unwrap();
    stored.sort_by_key(|entry| entry.attempt.id);
    assert_eq!(stored, expected);
    // Entries that have another cost by now stay as they are.
    assert_eq!(store.reprice(repricing).await.unwrap(), 0);
    assert_eq!(store.check_sums().await.unwrap(), []);
}

async fn opens_again_what_it_had(place: &StorePlace) {
    let url = StoreUrl::parse(&place.url("again")).unwrap();
    let first = open(&url).await.unwrap();
    first.insert(&entries(9, 10, 2)).await.unwrap();
    let before = first.costs(&CostQuery::default()).await.unwrap();
    drop(first);
    let (one, two) = tokio::join!(open(&url), open(&url));
    for store in [one.unwrap(), two.unwrap()] {
        assert_eq!(store.costs(&CostQuery::default()).await.unwrap(), before);
    }
}
