//! The counters against a Redis server of the tests' own.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that can't go on panics, and prints what it can't check"
)]

mod budgets;
mod support {
    pub(crate) mod redis;
}

use std::time::Duration;

use llm_router_counters::{Counters, KnownAmounts, LimitRequest, LinkOptions, TakeOutcome};
use llm_router_domain::limit::{Ceiling, LEVEL_OF_ONE, Limits, Rate, SecondAmount};
use support::redis::Redis;
use tokio::runtime::Handle;
use tokio::time::Instant;
use uuid::Uuid;

async fn counters(redis: &Redis) -> Counters {
    let options = LinkOptions {
        timeout: Duration::from_secs(1),
    };
    let counters = Counters::start(&redis.url().into(), options, &Handle::current()).unwrap();
    assert!(counters.link().ready(Duration::from_secs(10)).await);
    counters
}

fn ask(subject: &str, limits: Limits) -> LimitRequest {
    LimitRequest {
        subject: subject.to_owned(),
        limits,
        requests: 1,
        tokens: 0,
        known: KnownAmounts::default(),
        wants_seconds: false,
    }
}

fn rpm(per_minute: u64, burst: u64) -> Limits {
    Limits {
        requests: Some(Rate::new(per_minute, Some(burst))),
        ..Limits::NONE
    }
}

async fn take(counters: &Counters, asks: &[LimitRequest]) -> TakeOutcome {
    counters.take(Uuid::new_v4(), asks).await.unwrap()
}

fn refusal_of(verdict: &TakeOutcome) -> Option<(usize, Ceiling)> {
    match verdict {
        TakeOutcome::Passed { .. } | TakeOutcome::Forgotten => None,
        TakeOutcome::Full { position, full, .. } => Some((*position, full.ceiling)),
    }
}

async fn eventually(what: &str, holds: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !holds().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn replicas_share_a_limit_and_all_of_a_requests_limits_hold_or_none_is_charged() {
    let Some(redis) = Redis::start() else { return };
    let (one, two) = (counters(&redis).await, counters(&redis).await);
    let (key, owner) = (ask("key:a", rpm(60, 5)), ask("owner:o", rpm(60, 3)));
    let both = [key.clone(), owner];
    for counters in [&one, &two, &one] {
        assert_eq!(refusal_of(&take(counters, &both).await), None);
    }
    let TakeOutcome::Full {
        position,
        full,
        usage,
    } = take(&two, &both).await
    else {
        panic!("a fourth one passed");
    };
    assert_eq!((position, full.ceiling), (1, Ceiling::Requests));
    assert!(full.wait <= Some(Duration::from_secs(1)), "{full:?}");
    let near = |level: u64, count: u64| level.abs_diff(count * LEVEL_OF_ONE) < LEVEL_OF_ONE;
    assert!(
        near(usage[0].requests, 3),
        "the refusal was charged: {usage:?}"
    );
    // The key has two left by itself.
    let alone = [key];
    for expected in [None, None, Some((0, Ceiling::Requests))] {
        assert_eq!(refusal_of(&take(&two, &alone).await), expected);
    }
}

#[tokio::test]
async fn tokens_are_reserved_and_settled_across_replicas() {
    let Some(redis) = Redis::start() else { return };
    let (one, two) = (counters(&redis).await, counters(&redis).await);
    let limits = Limits {
        tokens: Some(Rate::new(100, None)),
        ..Limits::NONE
    };
    let asks = [LimitRequest {
        tokens: 80,
        ..ask("key:t", limits)
    }];
    let lease = Uuid::new_v4();
    let second = match one.take(lease, &asks).await {
        Ok(TakeOutcome::Passed { second, .. }) => Some(second),
        _ => None,
    };
    assert_eq!(
        refusal_of(&take(&two, &asks).await),
        Some((0, Ceiling::Tokens))
    );
    let second = second.unwrap();
    one.end(lease, &asks, 5, second);
    eventually("the refund arrives", async || {
        refusal_of(&take(&two, &asks).await).is_none()
    })
    .await;
}

#[tokio::test]
async fn calls_under_way_are_counted_together_and_end() {
    let Some(redis) = Redis::start() else { return };
    let (one, two) = (counters(&redis).await, counters(&redis).await);
    let limits = Limits {
        concurrency: Some(2),
        ..Limits::NONE
    };
    let asks = [ask("key:c", limits)];
    let lease = Uuid::new_v4();
    assert_eq!(refusal_of(&one.take(lease, &asks).await.unwrap()), None);
    assert_eq!(refusal_of(&take(&two, &asks).await), None);
    assert_eq!(
        refusal_of(&take(&two, &asks).await),
        Some((0, Ceiling::Concurrency))
    );
    one.end(lease, &asks, 0, 0);
    eventually("the place is free", async || {
        refusal_of(&take(&two, &asks).await).is_none()
    })
    .await;
}

#[tokio::test]
async fn dead_and_silent_servers_are_not_waited_for_and_come_back_without_a_burst() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let (one, two) = (counters(&redis).await, counters(&redis).await);
    eventually("both are known", async || one.link().status().replicas == 2).await;
    let asks = [ask("key:d", rpm(60, 5))];
    let before = one.link().generation();
    for kill in [false, true] {
        if kill {
            redis.stop();
        } else {
            redis.pause();
        }
        eventually("the breaker opens", async || {
            let _ = one.take(Uuid::new_v4(), &asks).await;
            !one.link().status().up
        })
        .await;
        let began = Instant::now();
        assert!(one.take(Uuid::new_v4(), &asks).await.is_err());
        assert!(began.elapsed() < Duration::from_millis(500));
        assert_eq!(one.link().status().replicas, 2, "the last known number");
        if kill {
            redis.run();
        } else {
            redis.resume();
        }
        eventually("it is back", async || one.link().status().up).await;
    }
    // Restarted empty: what replicas remember holds.
    assert!(one.link().generation() > before);
    let full = [LimitRequest {
        known: KnownAmounts {
            requests: vec![SecondAmount {
                age: 0,
                amount: 5 * LEVEL_OF_ONE,
            }],
            tokens: Vec::new(),
        },
        ..asks[0].clone()
    }];
    assert_eq!(
        refusal_of(&take(&one, &full).await),
        Some((0, Ceiling::Requests))
    );
    drop(two);
}

#[tokio::test]
async fn replicas_that_leave_are_not_counted() {
    let Some(redis) = Redis::start() else { return };
    let (one, two) = (counters(&redis).await, counters(&redis).await);
    eventually("two", async || one.link().status().replicas == 2).await;
    two.link().leave().await;
    eventually("one", async || one.link().status().replicas == 1).await;
}
