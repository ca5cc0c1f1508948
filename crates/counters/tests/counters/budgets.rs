//! Budgets that replicas share: nothing is reserved twice, lost or counted twice.

use std::time::Duration;

use llm_router_counters::Counters;
use llm_router_domain::budget::shared::{
    LineTotals, Reservation, ReservationChange, ReservationLine, ReserveOutcome, RunSpending,
    SpendUpdate, SpendUpdateLine,
};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::support::redis::Redis;
use crate::{counters, eventually};

const LINE: &str = "key:a:total:";

fn usd(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn claim(run: u32, spent: &str, amount: &str, ceiling: &str) -> Reservation {
    Reservation {
        run,
        id: Uuid::new_v4(),
        replaces: None,
        amount: usd(amount),
        lasts: Duration::from_secs(60),
        lines: vec![ReservationLine {
            name: LINE.to_owned(),
            ceiling: usd(ceiling),
            spent: usd(spent),
        }],
    }
}

fn news(change: ReservationChange, spent: &[(u32, &str)], whole: bool) -> SpendUpdate {
    let spent = spent.iter().map(|(run, spent)| (*run, usd(spent)));
    SpendUpdate {
        change,
        lines: vec![SpendUpdateLine {
            name: LINE.to_owned(),
            spent: spent.collect::<Vec<RunSpending>>(),
            complete: whole,
        }],
    }
}

async fn tell(counters: &Counters, news: &SpendUpdate) -> (String, String) {
    let standings = counters.apply_spend_update(news).await.unwrap();
    to_strings(&standings[0].figures)
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
    let Some(redis) = Redis::start() else { return };
    let (one, two) = (counters(&redis).await, counters(&redis).await);
    let large = "9007199254741.000000000000001";
    let first = claim(1, "0", "0.000000000000002", large);
    assert_eq!(one.reserve(&first).await.unwrap(), ReserveOutcome::Unknown);
    // Both seed, one of them with less than is known by then.
    let stored = [(7, "9007199254740.999999999999998")];
    tell(&one, &news(ReservationChange::None, &stored, true)).await;
    tell(&two, &news(ReservationChange::None, &[(7, "12")], true)).await;
    let ReserveOutcome::Held(figures) = one.reserve(&first).await.unwrap() else {
        panic!("it fits");
    };
    assert_eq!(
        to_strings(&figures[0]),
        pair(stored[0].1, "0.000000000000002")
    );
    let second = claim(2, "0", "0.000000000000002", large);
    assert!(matches!(
        two.reserve(&second).await.unwrap(),
        ReserveOutcome::Exceeded { position: 0, .. }
    ));
    // The last digit that is left.
    let third = claim(2, "0", "0.000000000000001", large);
    assert!(matches!(
        two.reserve(&third).await.unwrap(),
        ReserveOutcome::Held(_)
    ));
    // It cost less, and is settled twice and late.
    let settled = news(
        ReservationChange::Release(first.id),
        &[(1, "0.000000000000001")],
        false,
    );
    for _ in 0..2 {
        assert_eq!(
            tell(&one, &settled).await,
            pair("9007199254740.999999999999999", "0.000000000000001")
        );
    }
    let late = news(ReservationChange::Release(first.id), &[(1, "0")], false);
    tell(&one, &late).await;
    assert!(matches!(
        two.reserve(&second).await.unwrap(),
        ReserveOutcome::Exceeded { .. }
    ));
    let instead = Reservation {
        replaces: Some(third.id),
        ..second
    };
    assert!(matches!(
        two.reserve(&instead).await.unwrap(),
        ReserveOutcome::Held(_)
    ));
}

#[tokio::test]
async fn what_nobody_settles_is_let_go_and_a_call_under_way_is_held_whatever_is_left() {
    let Some(redis) = Redis::start() else { return };
    let one = counters(&redis).await;
    tell(&one, &news(ReservationChange::None, &[], true)).await;
    let lost = Reservation {
        lasts: Duration::from_millis(200),
        ..claim(1, "0", "1", "1")
    };
    assert!(matches!(
        one.reserve(&lost).await.unwrap(),
        ReserveOutcome::Held(_)
    ));
    let holds = format!("{{llm-router}}:holds:{LINE}");
    assert_eq!(redis.ask(&["ZCARD", &holds]), "1");
    let next = claim(1, "0", "1", "1");
    assert!(matches!(
        one.reserve(&next).await.unwrap(),
        ReserveOutcome::Exceeded { .. }
    ));
    eventually("it expires", async || {
        matches!(one.reserve(&next).await.unwrap(), ReserveOutcome::Held(_))
    })
    .await;
    let hold = ReservationChange::Hold {
        id: Uuid::new_v4(),
        amount: usd("3"),
        lasts: Duration::from_secs(60),
    };
    for _ in 0..2 {
        assert_eq!(
            tell(&one, &news(hold, &[(1, "0.5")], false)).await,
            pair("0.5", "4")
        );
    }
}

#[tokio::test]
async fn a_server_that_forgot_says_so_and_learns_it_again() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let one = counters(&redis).await;
    tell(&one, &news(ReservationChange::None, &[(9, "2")], true)).await;
    assert!(!one.link().status().synced, "its epoch is new");
    eventually("all had the time to report", async || {
        one.link().status().synced
    })
    .await;
    let two = counters(&redis).await;
    assert!(
        two.link().status().synced,
        "who comes later has nothing to wait for"
    );
    redis.stop();
    redis.run();
    let ask = claim(1, "1", "1", "4");
    eventually("it is back and knows nothing", async || {
        one.reserve(&ask).await == Ok(ReserveOutcome::Unknown)
    })
    .await;
    assert!(!one.link().status().synced);
    // A run's report from before the ledger was read is kept.
    let standing = one
        .apply_spend_update(&news(ReservationChange::None, &[(1, "1")], false))
        .await
        .unwrap()[0];
    assert!(!standing.known);
    assert_eq!(
        tell(&one, &news(ReservationChange::None, &[(9, "2")], true)).await,
        pair("3", "0")
    );
    assert!(matches!(
        one.reserve(&ask).await.unwrap(),
        ReserveOutcome::Held(_)
    ));
}

#[tokio::test]
async fn data_that_is_lost_behind_a_connection_is_noticed_by_the_next_call() {
    let Some(redis) = Redis::start() else { return };
    let (one, two) = (counters(&redis).await, counters(&redis).await);
    for behind in [false, true] {
        eventually("all had the time to report", async || {
            one.link().status().synced && two.link().status().synced
        })
        .await;
        tell(&one, &news(ReservationChange::None, &[], true)).await;
        tell(&two, &news(ReservationChange::None, &[], true)).await;
        redis.ask(&["SAVE"]);
        let held = claim(1, "0", "1", "1");
        assert!(matches!(
            one.reserve(&held).await.unwrap(),
            ReserveOutcome::Held(_)
        ));
        let generation = one.link().generation();
        if behind {
            redis.ask(&["DEBUG", "RELOAD", "NOSAVE"]);
        } else {
            redis.ask(&["FLUSHALL"]);
        }
        // Unless a heartbeat was first.
        let unnoticed = one.link().generation() == generation;
        let outcome = one.reserve(&claim(1, "0", "1", "1")).await;
        if unnoticed {
            assert_eq!(outcome, Ok(ReserveOutcome::Forgotten), "behind: {behind}");
        }
        assert!(!one.link().status().synced && one.link().generation() > generation);
        // The other one notices, too, with its next call.
        let _ = two.reserve(&claim(2, "0", "1", "1")).await;
        assert!(!two.link().status().synced, "behind: {behind}");
    }
}
