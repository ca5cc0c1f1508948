//! Changes on one replica reach the other at once, through Redis or PostgreSQL. The replicas poll
//! the store so rarely that nothing else explains it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Gateway, KEY, Mock, eventually, gateway, mock};
use crate::issued_keys::SALT;
use crate::postgres::Postgres;
use crate::redis::Redis;

/// As seldom as the configuration allows.
const SELDOM: &str = "1m";

/// Longest time of a test that must not see a poll of the store.
const SOON: Duration = Duration::from_secs(45);

/// The servers that two replicas share, and the mock behind them.
struct ReplicaPair {
    postgres: Postgres,
    redis: Option<Redis>,
    mock: Mock,
}

impl ReplicaPair {
    /// None where what it needs isn't installed.
    async fn new(with_redis: bool) -> Option<Self> {
        let postgres = Postgres::start()?;
        postgres.database("router");
        let redis = if with_redis {
            Some(Redis::start()?)
        } else {
            None
        };
        let mock = mock().await;
        Some(Self {
            postgres,
            redis,
            mock,
        })
    }

    async fn replica(&self, poll: &str) -> Gateway {
        let rule = json!({ "name": "all", "when": {}, "then": { "use_model": "strong" } });
        let store = json!({ "url": self.postgres.url("router"), "journal": "journal",
            "poll": poll });
        let counters = self.redis.as_ref().map_or("memory:".to_owned(), Redis::url);
        gateway()
            .environment("API_KEY_SALT", SALT)
            .provider("up", &self.mock)
            .model("fast", "up", "mock-fast")
            .model("strong", "up", "mock-strong")
            .set(
                "/routing",
                json!({ "rules": [rule], "toggle": { "cooldown": "0s" } }),
            )
            .set("/store", store)
            .set("/counters", json!({ "url": counters, "timeout": "1s" }))
            .run()
            .await
    }

    async fn wait_until_notified(&self, gateways: &[&Gateway], up: bool) {
        let by = if self.redis.is_some() {
            "by=\"redis\""
        } else {
            "by=\"postgres\""
        };
        for gateway in gateways {
            let value = f64::from(u8::from(up));
            gateway.shows("llm_router_broadcast_up", &[by], value).await;
        }
    }
}

/// A key that one replica made and the other knows: its text, and its path.
async fn known_key(a: &Gateway, b: &Gateway, name: &str) -> (String, String) {
    let (status, made) = a.keys("POST", "", &[], json!({ "name": name })).await;
    assert_eq!(status, 201, "{made}");
    let text = |field: &str| made[field].as_str().unwrap().to_owned();
    let key = text("key");
    eventually("the other knows the key", || b.accepts(&key)).await;
    (key, format!("/{}", text("id")))
}

async fn a_revoked_key_is_refused_by_the_other(a: &Gateway, b: &Gateway, name: &str) {
    let (key, path) = known_key(a, b, name).await;
    let began = Instant::now();
    assert_eq!(a.keys("DELETE", &path, &[], Value::Null).await.0, 204);
    eventually("the other refuses it", || b.refuses(&key)).await;
    eprintln!(
        "{name}: refused elsewhere {:?} after the call",
        began.elapsed()
    );
}

async fn a_key_revoked_from_the_shell_is_refused(a: &Gateway, b: &Gateway) {
    let (key, _) = known_key(a, b, "shell").await;
    let revoked = a.command(&["keys", "revoke", "shell"]);
    assert!(revoked.status.success(), "{revoked:?}");
    for gateway in [a, b] {
        eventually("it is refused", || gateway.refuses(&key)).await;
    }
}

async fn a_toggle_holds_on_the_other(a: &Gateway, b: &Gateway) {
    for value in [false, true] {
        let began = Instant::now();
        let forced = json!({ "value": value, "reason": "drill", "force": true });
        assert_eq!(a.toggle(KEY, forced).await.status, 200);
        // By its requests: asking for the status would make it look.
        eventually("the other follows", || async {
            b.follows_rules().await == value
        })
        .await;
        eprintln!("toggled elsewhere {:?} after the call", began.elapsed());
    }
    // A change that waits is told of when it is asked for, and cancelled in time.
    let later = json!({ "value": false, "reason": "drill", "delay_seconds": 3600 });
    assert_eq!(a.toggle(KEY, later).await.status, 202);
    let toggle = "/api/v1/router/toggle";
    let cancelled = b.administer(KEY, "DELETE", toggle, &[], &Value::Null).await;
    assert_eq!(cancelled.status, 200);
}

async fn changes_are_told(bed: &mut ReplicaPair) {
    let (a, b) = (bed.replica(SELDOM).await, bed.replica(SELDOM).await);
    bed.wait_until_notified(&[&a, &b], true).await;
    let began = Instant::now();
    a_revoked_key_is_refused_by_the_other(&a, &b, "one").await;
    a_key_revoked_from_the_shell_is_refused(&a, &b).await;
    a_toggle_holds_on_the_other(&b, &a).await;
    // It finds its way back by itself.
    match &mut bed.redis {
        Some(redis) => redis.stop(),
        None => bed.postgres.stop(),
    }
    bed.wait_until_notified(&[&a, &b], false).await;
    match &mut bed.redis {
        Some(redis) => redis.run(),
        None => bed.postgres.run(),
    }
    bed.wait_until_notified(&[&a, &b], true).await;
    for gateway in [&a, &b] {
        gateway.shows("llm_router_store_up", &[], 1.0).await;
    }
    a_revoked_key_is_refused_by_the_other(&b, &a, "two").await;
    assert!(began.elapsed() < SOON, "too slow to prove anything");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_by_redis() {
    if let Some(mut bed) = ReplicaPair::new(true).await {
        changes_are_told(&mut bed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_told_by_postgres() {
    if let Some(mut bed) = ReplicaPair::new(false).await {
        changes_are_told(&mut bed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_broadcast_replicas_look() {
    let Some(mut bed) = ReplicaPair::new(true).await else {
        return;
    };
    let (a, b) = (bed.replica("300ms").await, bed.replica("300ms").await);
    bed.wait_until_notified(&[&a, &b], true).await;
    bed.redis.as_mut().unwrap().stop();
    bed.wait_until_notified(&[&a, &b], false).await;
    a_revoked_key_is_refused_by_the_other(&a, &b, "one").await;
    a_key_revoked_from_the_shell_is_refused(&a, &b).await;
    a_toggle_holds_on_the_other(&b, &a).await;
}
