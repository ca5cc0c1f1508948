//! The book of budgets in PostgreSQL: nothing is held twice, lost or counted twice, whoever asks at
//! the same time and whatever comes late.

use std::time::Duration;

use llm_router_domain::budget::shared::{
    LineTotals, Reservation, ReservationChange, ReservationLine, ReserveOutcome, RunSpending,
    SpendUpdate, SpendUpdateLine,
};
use llm_router_store::{
    BudgetConnection, BudgetTables, PostgresStore, ReplicaConnection, StoreError,
};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::support::postgres::Postgres;

const KEY: &str = "key:a:total:";
const OWNER: &str = "owner:team:month:2026-11-01";

struct TestReplica {
    connection: BudgetConnection,
    asker: ReplicaConnection,
}

impl TestReplica {
    async fn join(url: &str) -> Self {
        let asker = ReplicaConnection {
            replica: Uuid::new_v4(),
            connection: 1,
        };
        Self::over(url, asker).await
    }

    async fn over(url: &str, asker: ReplicaConnection) -> Self {
        let connection = BudgetTables::new(url).unwrap().connect().await.unwrap();
        let present = connection.announce(asker, Duration::from_secs(5)).await;
        assert!(present.unwrap().replicas >= 1);
        Self { connection, asker }
    }

    async fn claim(&self, claim: &Reservation) -> ReserveOutcome {
        self.connection.reserve(self.asker, claim).await.unwrap()
    }

    async fn tell(&self, news: &SpendUpdate) -> Vec<(String, String)> {
        let standings = self
            .connection
            .apply_spend_update(self.asker, news)
            .await
            .unwrap();
        standings
            .iter()
            .map(|one| to_strings(&one.figures))
            .collect()
    }
}

async fn book(server: &Postgres) -> String {
    let url = server.database("router");
    PostgresStore::new(&url).unwrap().migrate().await.unwrap();
    url
}

fn usd(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn claim(run: u32, spent: &str, amount: &str, lines: &[(&str, &str)]) -> Reservation {
    let line = |(name, ceiling): &(&str, &str)| ReservationLine {
        name: (*name).to_owned(),
        ceiling: usd(ceiling),
        spent: usd(spent),
    };
    Reservation {
        run,
        id: Uuid::now_v7(),
        replaces: None,
        amount: usd(amount),
        lasts: Duration::from_mins(1),
        lines: lines.iter().map(line).collect(),
    }
}

fn news(
    change: ReservationChange,
    lines: &[&str],
    spent: &[(u32, &str)],
    whole: bool,
) -> SpendUpdate {
    let line = |name: &&str| SpendUpdateLine {
        name: (*name).to_owned(),
        spent: spent
            .iter()
            .map(|(run, spent)| (*run, usd(spent)))
            .collect::<Vec<RunSpending>>(),
        complete: whole,
    };
    SpendUpdate {
        change,
        lines: lines.iter().map(line).collect(),
    }
}

fn to_strings(figures: &LineTotals) -> (String, String) {
    let text = |usd: Decimal| usd.normalize().to_string();
    (text(figures.spent), text(figures.reserved))
}

fn pair(spent: &str, reserved: &str) -> (String, String) {
    (spent.to_owned(), reserved.to_owned())
}

#[tokio::test]
async fn replicas_reserve_and_settle_to_the_last_digit() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let url = book(&server).await;
    let (one, two) = (TestReplica::join(&url).await, TestReplica::join(&url).await);
    let large = [(KEY, "9007199254741.000000000000001")];
    let first = claim(1, "0", "0.000000000000002", &large);
    assert_eq!(one.claim(&first).await, ReserveOutcome::Unknown);
    // Both seed, one of them with less than is known by then.
    let stored = [(7, "9007199254740.999999999999998")];
    one.tell(&news(ReservationChange::None, &[KEY], &stored, true))
        .await;
    two.tell(&news(ReservationChange::None, &[KEY], &[(7, "12")], true))
        .await;
    let ReserveOutcome::Held(figures) = one.claim(&first).await else {
        panic!("it fits");
    };
    assert_eq!(
        to_strings(&figures[0]),
        pair(stored[0].1, "0.000000000000002")
    );
    let second = claim(2, "0", "0.000000000000002", &large);
    assert!(matches!(
        two.claim(&second).await,
        ReserveOutcome::Exceeded { position: 0, .. }
    ));
    // The last digit that is left.
    let third = claim(2, "0", "0.000000000000001", &large);
    assert!(matches!(two.claim(&third).await, ReserveOutcome::Held(_)));
    // It cost less, and is settled twice and late.
    let settled = |spent| {
        news(
            ReservationChange::Release(first.id),
            &[KEY],
            &[(1, spent)],
            false,
        )
    };
    for spent in ["0.000000000000001", "0.000000000000001", "0"] {
        assert_eq!(
            one.tell(&settled(spent)).await,
            [pair("9007199254740.999999999999999", "0.000000000000001")]
        );
    }
    assert!(matches!(
        two.claim(&second).await,
        ReserveOutcome::Exceeded { .. }
    ));
    let instead = Reservation {
        replaces: Some(third.id),
        ..second
    };
    assert!(matches!(two.claim(&instead).await, ReserveOutcome::Held(_)));
}

#[tokio::test]
async fn all_lines_are_held_or_none() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let url = book(&server).await;
    let one = TestReplica::join(&url).await;
    one.tell(&news(ReservationChange::None, &[KEY, OWNER], &[], true))
        .await;
    let lines = [(KEY, "5"), (OWNER, "1")];
    let ReserveOutcome::Exceeded { position, figures } =
        one.claim(&claim(1, "0", "2", &lines)).await
    else {
        panic!("the owner has too little");
    };
    assert_eq!(position, 1);
    let shown: Vec<_> = figures.iter().map(to_strings).collect();
    assert_eq!(shown, [pair("0", "0"), pair("0", "0")]);
    let held = one.claim(&claim(1, "0", "1", &lines)).await;
    assert!(matches!(held, ReserveOutcome::Held(_)), "{held:?}");
}

#[tokio::test]
async fn what_nobody_settles_is_let_go_and_a_call_under_way_is_held_whatever_is_left() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let one = TestReplica::join(&book(&server).await).await;
    one.tell(&news(ReservationChange::None, &[KEY], &[], true))
        .await;
    let lost = Reservation {
        lasts: Duration::from_millis(300),
        ..claim(1, "0", "1", &[(KEY, "1")])
    };
    assert!(matches!(one.claim(&lost).await, ReserveOutcome::Held(_)));
    let next = claim(1, "0", "1", &[(KEY, "1")]);
    assert!(matches!(
        one.claim(&next).await,
        ReserveOutcome::Exceeded { .. }
    ));
    let let_go = async {
        while !matches!(one.claim(&next).await, ReserveOutcome::Held(_)) {
            tokio::task::yield_now().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(20), let_go).await;
    assert!(waited.is_ok(), "it is never let go");
    let hold = ReservationChange::Hold {
        id: Uuid::now_v7(),
        amount: usd("3"),
        lasts: Duration::from_mins(1),
    };
    for _ in 0..2 {
        assert_eq!(
            one.tell(&news(hold, &[KEY], &[(1, "0.5")], false)).await,
            [pair("0.5", "4")]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_at_the_same_time_never_gets_more_than_there_is() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let url = book(&server).await;
    let mut asking = Vec::new();
    for run in 0..4 {
        let replica = TestReplica::join(&url).await;
        // Each names the lines in another order.
        let lines = if run % 2 == 0 {
            [(KEY, "10"), (OWNER, "7")]
        } else {
            [(OWNER, "7"), (KEY, "10")]
        };
        asking.push(tokio::spawn(async move {
            let names = lines.map(|(name, _)| name);
            replica
                .tell(&news(ReservationChange::None, &names, &[], true))
                .await;
            let (mut spent, mut held) = (Decimal::ZERO, 0);
            for _ in 0..50 {
                let claim = claim(run, &spent.to_string(), "0.1", &lines);
                let claimed = replica.claim(&claim).await;
                if matches!(claimed, ReserveOutcome::Held(_)) {
                    held += 1;
                    spent += usd("0.1");
                    let told = spent.to_string();
                    let told = [(run, told.as_str())];
                    replica
                        .tell(&news(
                            ReservationChange::Release(claim.id),
                            &names,
                            &told,
                            false,
                        ))
                        .await;
                }
            }
            (replica, held)
        }));
    }
    let mut held = 0;
    let mut last = None;
    for asked in asking {
        let (replica, count) = asked.await.unwrap();
        held += count;
        last = Some(replica);
    }
    assert_eq!(held, 70);
    let standing = last.unwrap();
    let standing = standing
        .tell(&news(ReservationChange::None, &[KEY, OWNER], &[], false))
        .await;
    assert_eq!(standing, [pair("7", "0"), pair("7", "0")]);
}

#[tokio::test]
async fn what_comes_over_a_connection_given_up_is_void() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let url = book(&server).await;
    let old = TestReplica::join(&url).await;
    old.tell(&news(ReservationChange::None, &[KEY], &[], true))
        .await;
    let asker = ReplicaConnection {
        connection: 2,
        ..old.asker
    };
    let new = TestReplica::over(&url, asker).await;
    let late = claim(1, "0", "1", &[(KEY, "1")]);
    let refused = old.connection.reserve(old.asker, &late).await;
    assert!(
        matches!(refused, Err(StoreError::Refused(_))),
        "{refused:?}"
    );
    let told = news(ReservationChange::None, &[KEY], &[(1, "1")], false);
    assert!(
        old.connection
            .apply_spend_update(old.asker, &told)
            .await
            .is_err()
    );
    assert!(matches!(new.claim(&late).await, ReserveOutcome::Held(_)));
}

#[tokio::test]
async fn a_server_that_crashed_says_that_it_forgot() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let url = book(&server).await;
    let one = TestReplica::join(&url).await;
    let epoch = one.connection.announce(one.asker, Duration::from_secs(5));
    let epoch = epoch.await.unwrap().epoch;
    one.tell(&news(ReservationChange::None, &[KEY], &[(9, "2")], true))
        .await;
    server.stop();
    server.run();
    let two = TestReplica::join(&url).await;
    let present = two.connection.announce(two.asker, Duration::from_secs(5));
    let present = present.await.unwrap();
    assert_ne!(present.epoch, epoch);
    assert_eq!(present.replicas, 1);
    let asked = claim(1, "0", "1", &[(KEY, "4")]);
    assert_eq!(two.claim(&asked).await, ReserveOutcome::Unknown);
    // What a run tells before the ledger is asked is kept.
    let told = news(ReservationChange::None, &[KEY], &[(1, "1")], false);
    let told = two
        .connection
        .apply_spend_update(two.asker, &told)
        .await
        .unwrap();
    assert!(!told[0].known);
    let seeded = news(ReservationChange::None, &[KEY], &[(9, "2")], true);
    assert_eq!(two.tell(&seeded).await, [pair("3", "0")]);
    two.connection
        .announce(two.asker, Duration::ZERO)
        .await
        .unwrap();
}
