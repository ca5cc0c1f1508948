//! Rate limits in one process: refusals, their messages, and the release of places.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{chat_body, eventually, gateway, messages_body, mock};

const PATH: &str = "/v1/chat/completions";

fn key(name: &str, limits: serde_json::Value) -> serde_json::Value {
    json!({ "name": name, "key": secret(name), "owner": "team-a", "limits": limits })
}

fn secret(name: &str) -> String {
    format!("sk-{name}-0123456789abcdef")
}

#[tokio::test]
async fn who_is_over_a_limit_is_told_in_its_own_format() {
    let mock = mock().await;
    let gateway = gateway()
        .provider("up", &mock)
        .model("fast", "up", "mock-gpt")
        .add("keys", key("rpm", json!({ "rpm": 60, "burst": 2 })))
        .add("keys", key("free", json!({})))
        .set(
            "/limits",
            json!({ "owners": [{ "owner": "team-*", "limits": { "rpm": 600, "burst": 5 } }] }),
        )
        .run()
        .await;
    let bearer = format!("Bearer {}", secret("rpm"));
    let headers = [("authorization", bearer.as_str())];
    let first = gateway.chat("fast", &headers).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("x-ratelimit-limit-requests"), Some("60"));
    assert_eq!(first.header("x-ratelimit-remaining-requests"), Some("1"));
    assert!(first.header("x-ratelimit-reset-requests").is_some());
    assert_eq!(gateway.chat("fast", &headers).await.status, 200);
    // Before the body is looked at.
    let refused = gateway.send("POST", PATH, &headers, "no JSON").await;
    assert_eq!(
        (refused.status, refused.code()),
        (429, "rate_limit_exceeded".into())
    );
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
    let body = messages_body("fast", false);
    let refused = gateway.send("POST", "/v1/messages", &headers, body).await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    assert_eq!(
        refused.header("anthropic-ratelimit-requests-limit"),
        Some("60")
    );
    // Who waits as told is let through.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(gateway.chat("fast", &headers).await.status, 200);
    // The owner has five at once, of which the key took three.
    let bearer = format!("Bearer {}", secret("free"));
    let headers = [("authorization", bearer.as_str())];
    let mut statuses = Vec::new();
    for _ in 0..8 {
        statuses.push(gateway.chat("fast", &headers).await.status);
    }
    assert!(
        statuses.contains(&429) && statuses.contains(&200),
        "{statuses:?}"
    );
    let metric = "llm_router_limit_refusals_total";
    let by_key = ["of=\"key\"", "limit=\"requests\""];
    gateway.shows(metric, &by_key, 2.0).await;
    eventually("the owner's is counted", || async {
        gateway.metric(metric, &["of=\"owner\""]).await >= 1.0
    })
    .await;
}

#[tokio::test]
async fn calls_under_way_are_limited_and_end_with_their_clients() {
    let mock = mock().await;
    let gateway = gateway()
        .provider("up", &mock)
        .model("fast", "up", "mock-gpt")
        .add("keys", key("two", json!({ "concurrency": 2 })))
        .run()
        .await;
    let bearer = format!("Bearer {}", secret("two"));
    let headers = [
        ("authorization", bearer.as_str()),
        ("x-mock-first-token", "60s"),
    ];
    let slow = || gateway.start("POST", PATH, &headers, chat_body("fast", true));
    let both = async { tokio::join!(slow(), slow()) };
    let _ = tokio::time::timeout(Duration::from_millis(500), both).await;
    // Their clients have gone away: the places are free again.
    let deadline = Instant::now() + Duration::from_secs(10);
    let plain = [("authorization", bearer.as_str())];
    while gateway.chat("fast", &plain).await.status != 200 {
        assert!(Instant::now() < deadline, "a place was leaked");
    }
}

#[tokio::test]
async fn a_quiet_key_may_use_all_of_its_minute_at_once() {
    let mock = mock().await;
    let gateway = gateway()
        .provider("up", &mock)
        .model("fast", "up", "mock-gpt")
        .add("keys", key("rpm", json!({ "rpm": 40 })))
        .run()
        .await;
    let bearer = format!("Bearer {}", secret("rpm"));
    let headers = [("authorization", bearer.as_str())];
    for left in (0..40).rev() {
        let answer = gateway.chat("fast", &headers).await;
        assert_eq!(answer.status, 200);
        let remaining = answer.header("x-ratelimit-remaining-requests");
        assert_eq!(remaining, Some(left.to_string().as_str()));
    }
    let refused = gateway.chat("fast", &headers).await;
    assert_eq!(refused.status, 429);
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((30..=61).contains(&wait), "{wait}");
}

#[tokio::test]
async fn tokens_are_charged_as_they_were_used() {
    let mock = mock().await;
    let gateway = gateway()
        .provider("up", &mock)
        .model("fast", "up", "mock-gpt")
        .add("keys", key("tpm", json!({ "tpm": 1000 })))
        .run()
        .await;
    let bearer = format!("Bearer {}", secret("tpm"));
    let usage = |usage: &'static str| {
        [
            ("authorization", bearer.clone()),
            ("x-mock-usage", usage.to_owned()),
        ]
    };
    let chat = async |usage: [(&'static str, String); 2]| {
        let headers = usage
            .each_ref()
            .map(|(name, value)| (*name, value.as_str()));
        gateway.chat("fast", &headers).await
    };
    let first = chat(usage("input=300,output=100")).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("x-ratelimit-limit-tokens"), Some("1000"));
    // What was reserved and not used is given back: 400 are used.
    eventually("the first is settled", || async {
        let next = chat(usage("input=1,output=1")).await;
        let left: u64 = next
            .header("x-ratelimit-remaining-tokens")
            .unwrap()
            .parse()
            .unwrap();
        (400..=600).contains(&left)
    })
    .await;
    // The debt is what was used, not what was reserved.
    assert_eq!(chat(usage("input=900,output=100")).await.status, 200);
    eventually("the debt refuses", || async {
        chat(usage("input=1,output=1")).await.status == 429
    })
    .await;
    // A request that is larger than the limit is told so, without a time to wait.
    let body = json!({
        "model": "fast",
        "messages": [{ "role": "user", "content": "word ".repeat(1_000) }],
    });
    let headers = [("authorization", bearer.as_str())];
    let refused = gateway.send("POST", PATH, &headers, body.to_string()).await;
    assert_eq!(
        (refused.status, refused.code()),
        (429, "rate_limit_exceeded".into())
    );
    assert_eq!(refused.header("retry-after"), None);
    assert_eq!(refused.header("x-should-retry"), Some("false"));
    let message = refused.json()["error"]["message"].to_string();
    assert!(message.contains("can never pass"), "{message}");
}
