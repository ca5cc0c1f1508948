//! Two routers and one Redis: limits hold for both together, and neither waits for a Redis that is
//! dead or unresponsive.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Gateway, Mock, eventually, gateway, mock};
use crate::redis::Redis;

const CI: (&str, &str) = ("authorization", "Bearer sk-ci-0123456789abcdef");

async fn replica(redis: &Redis, mock: &Mock, limits: serde_json::Value) -> Gateway {
    gateway()
        .provider("up", mock)
        .model("fast", "up", "mock-gpt")
        .add(
            "keys",
            json!({ "name": "ci", "key": "sk-ci-0123456789abcdef", "limits": limits }),
        )
        // A busy machine must not look like a slow Redis.
        .set("/counters", json!({ "url": redis.url(), "timeout": "1s" }))
        .run()
        .await
}

/// Requests let through by both, as fast as `clients` on each can ask, for a while.
async fn saturate(replicas: &[&Gateway], clients: usize, span: Duration) -> (u32, u32) {
    let (passed, other) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let until = Instant::now() + span;
    let client = |gateway: &Gateway| {
        let request = gateway
            .client
            .post(format!("{}/v1/chat/completions", gateway.url))
            .header(CI.0, CI.1)
            .body(crate::harness::chat_body("fast", false));
        let (passed, other) = (Arc::clone(&passed), Arc::clone(&other));
        async move {
            while Instant::now() < until {
                let answer = request.try_clone().unwrap().send().await.unwrap();
                match answer.status().as_u16() {
                    200 => passed.fetch_add(1, Ordering::Relaxed),
                    429 => 0,
                    _ => other.fetch_add(1, Ordering::Relaxed),
                };
            }
        }
    };
    let all = replicas
        .iter()
        .flat_map(|gateway| (0..clients).map(|_| tokio::spawn(client(gateway))));
    for client in all.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    (
        passed.load(Ordering::Relaxed),
        other.load(Ordering::Relaxed),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_share_a_limit() {
    let Some(redis) = Redis::start() else { return };
    let mock = mock().await;
    let limits = json!({ "rpm": 600, "burst": 10 });
    let one = replica(&redis, &mock, limits.clone()).await;
    let two = replica(&redis, &mock, limits).await;
    eventually("both are counted", || async {
        one.metric("llm_router_replicas", &[]).await == 2.0
    })
    .await;
    let began = Instant::now();
    let (passed, other) = saturate(&[&one, &two], 2, Duration::from_secs(5)).await;
    let most = 10.0 + began.elapsed().as_secs_f64() * 10.0;
    assert_eq!(other, 0);
    assert!(f64::from(passed) <= most, "{passed} of {most}");
    assert!(passed >= 20, "{passed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_away_each_replica_goes_by_its_share() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let mock = mock().await;
    let limits = json!({ "rpm": 600, "burst": 10 });
    let one = replica(&redis, &mock, limits.clone()).await;
    let two = replica(&redis, &mock, limits).await;
    eventually("both are counted", || async {
        one.metric("llm_router_replicas", &[]).await == 2.0
            && two.metric("llm_router_replicas", &[]).await == 2.0
    })
    .await;
    for pause in [true, false] {
        if pause {
            redis.pause();
        } else {
            redis.stop();
        }
        let down = |gateway: &Gateway| {
            let request = gateway
                .client
                .post(format!("{}/v1/chat/completions", gateway.url));
            let body = crate::harness::chat_body("fast", false);
            let request = request.header(CI.0, CI.1).body(body);
            async move {
                let answer = request.send().await.unwrap();
                answer
                    .headers()
                    .get("x-llm-router-degraded")
                    .is_some_and(|value| value == "counters")
            }
        };
        eventually("one notices", || down(&one)).await;
        eventually("two notices", || down(&two)).await;
        let began = Instant::now();
        let (passed, other) = saturate(&[&one, &two], 2, Duration::from_secs(4)).await;
        let most = 10.0 + 4.0 + began.elapsed().as_secs_f64() * 10.0;
        assert_eq!(other, 0, "a request failed because Redis was away");
        assert!(
            f64::from(passed) <= most && passed >= 20,
            "{passed} of {most}"
        );
        if pause {
            redis.resume();
        } else {
            redis.run();
        }
        for gateway in [&one, &two] {
            eventually("it is back", || async {
                gateway.metric("llm_router_counters_up", &[]).await == 1.0
            })
            .await;
        }
        // The buckets are as full as they were: nothing bursts.
        let (passed, _) = saturate(&[&one, &two], 2, Duration::from_secs(1)).await;
        assert!(passed <= 10 + 14, "{passed} right after it came back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quiet_minute_is_used_once_by_both_also_when_redis_goes_away_or_comes_back_empty() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let mock = mock().await;
    let limits = json!({ "rpm": 400 });
    let one = replica(&redis, &mock, limits.clone()).await;
    let two = replica(&redis, &mock, limits).await;
    eventually("both are counted", || async {
        one.metric("llm_router_replicas", &[]).await == 2.0
            && two.metric("llm_router_replicas", &[]).await == 2.0
    })
    .await;
    // Some of it with Redis, some by each replica's share, the rest with a Redis that knows nothing.
    let (began, all) = (Instant::now(), AtomicU32::new(0));
    let ask = async |gateway: &Gateway| {
        let status = gateway.chat("fast", &[CI]).await.status;
        all.fetch_add(u32::from(status == 200), Ordering::Relaxed);
    };
    for _ in 0..50 {
        ask(&one).await;
        ask(&two).await;
    }
    assert_eq!(all.load(Ordering::Relaxed), 100, "a quarter of it at once");
    redis.stop();
    for gateway in [&one, &two] {
        eventually("Redis is missed", || async {
            ask(gateway).await;
            gateway.metric("llm_router_counters_up", &[]).await == 0.0
        })
        .await;
    }
    for _ in 0..10 {
        ask(&one).await;
        ask(&two).await;
    }
    redis.run();
    for gateway in [&one, &two] {
        eventually("it is back", || async {
            gateway.metric("llm_router_counters_up", &[]).await == 1.0
        })
        .await;
    }
    let (passed, other) = saturate(&[&one, &two], 2, Duration::from_secs(4)).await;
    let all = all.load(Ordering::Relaxed) + passed;
    assert_eq!(other, 0);
    if began.elapsed() < Duration::from_secs(55) {
        assert!((350..=440).contains(&all), "{all} in a minute");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_loses_its_data_behind_a_connection_learns_what_every_replica_knows() {
    let Some(redis) = Redis::start() else { return };
    let mock = mock().await;
    let limits = json!({ "rpm": 200 });
    let one = replica(&redis, &mock, limits.clone()).await;
    let two = replica(&redis, &mock, limits).await;
    eventually("both are counted", || async {
        one.metric("llm_router_replicas", &[]).await == 2.0
            && two.metric("llm_router_replicas", &[]).await == 2.0
    })
    .await;
    // A new server is trusted once every replica had the time to report.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    let began = Instant::now();
    let (first, _) = saturate(&[&one], 2, Duration::from_secs(3)).await;
    assert_eq!(first, 200, "all at once");
    // The other replica has not heard of that.
    redis.ask(&["FLUSHALL"]);
    let mut passed = 0;
    for _ in 0..150 {
        passed += u32::from(two.chat("fast", &[CI]).await.status == 200);
    }
    let (after, _) = saturate(&[&one, &two], 2, Duration::from_secs(4)).await;
    if began.elapsed() < Duration::from_secs(55) {
        // A window may pass a tenth more.
        assert!(passed <= 110, "{passed} of its share of 100");
        assert!(passed + after <= 110, "{after} after all was reported");
    }
}
