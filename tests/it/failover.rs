//! Failover: a request that fails at one deployment is tried at the next, until the answer has
//! begun; a deployment that fails repeatedly rests.

use std::net::SocketAddr;

use serde_json::json;

use crate::harness::{Gateway, GatewayBuilder, eventually, free_address, gateway, mock};

fn model(builder: GatewayBuilder, strategy: &str, providers: &[&str]) -> GatewayBuilder {
    let deployments = providers
        .iter()
        .map(|id| json!({ "provider": id, "model": "mock-gpt" }));
    let deployments: Vec<_> = deployments.collect();
    builder.add(
        "models",
        json!({ "name": "f", "strategy": strategy, "deployments": deployments }),
    )
}

fn impatient(builder: GatewayBuilder, id: &str, address: SocketAddr) -> GatewayBuilder {
    builder.add(
        "providers",
        json!({
            "id": id, "type": "mock", "base_url": format!("http://{address}/v1"),
            "api_key": "${CREDENTIAL}", "timeouts": {
                "connect": "1s", "first_byte": "200ms", "first_byte_plain": "200ms",
            },
        }),
    )
}

async fn ask(gateway: &Gateway, stream: bool) -> (u16, String, String) {
    let answer = if stream {
        gateway.chat_stream("f", &[]).await
    } else {
        gateway.chat("f", &[]).await
    };
    let header = |name| answer.header(name).unwrap_or_default().to_owned();
    let provider = header("x-llm-router-provider");
    let shown = String::from_utf8_lossy(&answer.body).into_owned();
    let complete = !stream || shown.ends_with("[DONE]\n\n");
    assert!(complete && !shown.contains("\"error\""), "{shown}");
    (answer.status, provider, header("x-llm-router-attempts"))
}

/// One of three deployments fails, and no client sees it: what each failure of it is called, and
/// how often it is tried by 24 requests before it is left alone.
#[tokio::test]
async fn one_of_three_fails_and_no_client_sees_it() {
    for (failure, outcome, most) in [
        ("refused", "connection_failed", 5),
        ("reset", "connection_failed", 5),
        ("hang", "timeout", 5),
        ("status=500", "status", 5),
        ("status=408", "status", 5),
        ("status=529:retry_after=none", "status", 5),
        ("status=529:retry_after=60s", "status", 1),
        ("status=503:retry_after=60s", "status", 1),
        ("status=429:retry_after=60s", "rate_limited", 1),
        ("error_event", "error_event", 5),
    ] {
        for stream in [false, true] {
            let (bad, one, two) = (mock().await, mock().await, mock().await);
            let address = if failure == "refused" {
                free_address()
            } else {
                bad.set_controls(failure).await;
                bad.address
            };
            let builder = impatient(gateway(), "bad", address);
            let builder = builder.provider("one", &one).provider("two", &two);
            let gateway = model(builder, "round_robin", &["bad", "one", "two"])
                .run()
                .await;
            for _ in 0..24 {
                let (status, provider, _) = ask(&gateway, stream).await;
                assert_eq!(status, 200, "{failure}, stream {stream}");
                assert_ne!(provider, "bad", "{failure}, stream {stream}");
            }
            let labels = ["provider=\"bad\"", &format!("outcome=\"{outcome}\"")];
            let tried = f64::from(most);
            gateway
                .shows("llm_router_attempts_total", &labels, tried)
                .await;
            gateway
                .shows("llm_router_fallbacks_total", &labels, tried)
                .await;
            let bad = ["provider=\"bad\"", "deployment=\"mock-gpt\""];
            gateway
                .shows("llm_router_deployment_resting", &bad, 1.0)
                .await;
            let state = if most == 5 { 2.0 } else { 0.0 };
            gateway.shows("llm_router_circuit_state", &bad, state).await;
        }
    }
}

#[tokio::test]
async fn a_conflict_goes_on_but_rests_nobody() {
    let (bad, good) = (mock().await, mock().await);
    let builder = gateway().provider("bad", &bad).provider("good", &good);
    let gateway = model(builder, "priority", &["bad", "good"]).run().await;
    bad.set_controls("status=409").await;
    for _ in 0..8 {
        assert_eq!(ask(&gateway, false).await, (200, "good".into(), "2".into()));
    }
}

#[tokio::test]
async fn a_cooldown_ends_by_itself() {
    let (bad, good) = (mock().await, mock().await);
    let builder = gateway().provider("bad", &bad).provider("good", &good);
    let gateway = model(builder, "priority", &["bad", "good"]).run().await;
    bad.set_controls("status=429:retry_after=1s").await;
    assert_eq!(ask(&gateway, false).await.2, "2");
    bad.set_controls("").await;
    assert_eq!(ask(&gateway, false).await, (200, "good".into(), "1".into()));
    eventually("it is asked again", || async {
        ask(&gateway, false).await.1 == "bad"
    })
    .await;
}

#[tokio::test]
async fn fallbacks_follow_the_models_own_deployments() {
    let (bad, good) = (mock().await, mock().await);
    bad.set_controls("status=500").await;
    let gateway = gateway()
        .provider("bad", &bad)
        .provider("good", &good)
        .model("strong", "good", "mock-gpt")
        .add(
            "models",
            json!({ "name": "f", "fallbacks": ["strong"],
                "deployments": [{ "provider": "bad", "model": "mock-gpt" }] }),
        )
        .run()
        .await;
    for attempts in ["2", "2", "2", "2", "2", "1"] {
        let expected = (200, "good".to_owned(), attempts.to_owned());
        assert_eq!(ask(&gateway, false).await, expected);
    }
}

#[tokio::test]
async fn when_all_rest_the_first_to_wake_is_asked() {
    let only = mock().await;
    let builder = gateway().provider("only", &only);
    let gateway = model(builder, "weighted", &["only"]).run().await;
    only.set_controls("status=429:retry_after=60s").await;
    for _ in 0..2 {
        let answer = gateway.chat("f", &[]).await;
        assert_eq!(answer.status, 429);
        assert_eq!(answer.header("retry-after"), Some("60"));
        assert_eq!(answer.header("x-should-retry"), Some("false"));
    }
    only.set_controls("").await;
    assert_eq!(ask(&gateway, false).await.0, 200);
}

#[tokio::test]
async fn trying_is_bounded() {
    let dead: Vec<_> = (0..4).map(|_| free_address()).collect();
    let mut builder = gateway().set("/routing", json!({ "attempts": { "max": 3 } }));
    for (index, address) in dead.iter().enumerate() {
        builder = impatient(builder, &format!("d{index}"), *address);
    }
    let gateway = model(builder, "priority", &["d0", "d1", "d2", "d3"]);
    let gateway = gateway.run().await;
    let answer = gateway.chat("f", &[]).await;
    assert_eq!(answer.status, 502);
    assert_eq!(answer.header("x-llm-router-attempts"), Some("3"));
}

#[tokio::test]
async fn nothing_is_retried_after_the_answer_began() {
    let (bad, good) = (mock().await, mock().await);
    let builder = gateway().provider("bad", &bad).provider("good", &good);
    let gateway = model(builder, "priority", &["bad", "good"]).run().await;
    bad.set_controls("cut_after=3").await;
    let answer = gateway.chat_stream("f", &[]).await;
    assert_eq!(answer.header("x-llm-router-provider"), Some("bad"));
    assert!(String::from_utf8_lossy(&answer.body).contains("upstream_error"));
    assert_eq!(good.meter.totals().requests, 0);
}

#[tokio::test]
async fn refusals_are_not_retried() {
    let (bad, good) = (mock().await, mock().await);
    let builder = gateway().provider("bad", &bad).provider("good", &good);
    let gateway = model(builder, "priority", &["bad", "good"]).run().await;
    for status in [400, 404, 413, 422] {
        bad.set_controls(&format!("status={status}")).await;
        let answer = gateway.chat("f", &[]).await;
        assert_eq!(answer.status, status);
    }
    assert_eq!(good.meter.totals().requests, 0);
}

#[tokio::test]
async fn a_reload_keeps_what_is_known_of_deployments() {
    let (bad, good) = (mock().await, mock().await);
    bad.set_controls("status=429:retry_after=60s").await;
    let builder = gateway().provider("bad", &bad).provider("good", &good);
    let gateway = model(builder, "priority", &["bad", "good"]).run().await;
    assert_eq!(ask(&gateway, false).await.2, "2");
    gateway.reload(&gateway.config).await;
    assert_eq!(ask(&gateway, false).await.2, "1");
    // Another credential may have another limit.
    let mut config = gateway.config.clone();
    config["providers"][0]["api_key"] = "sk-another-credential-0123456789".into();
    gateway.reload(&config).await;
    assert_eq!(ask(&gateway, false).await.2, "2");
}

#[tokio::test]
async fn conversations_stay_where_they_are() {
    let mocks = [mock().await, mock().await, mock().await];
    let mut builder = gateway();
    for (id, mock) in ["a", "b", "c"].iter().zip(&mocks) {
        builder = builder.provider(id, mock);
    }
    let gateway = model(builder, "sticky", &["a", "b", "c"]).run().await;
    let mut homes = std::collections::BTreeSet::new();
    for talk in 0..12 {
        let mut providers = std::collections::BTreeSet::new();
        for turn in 1..4 {
            let mut messages = vec![json!({ "role": "user", "content": format!("talk {talk}") })];
            for _ in 1..turn {
                messages.push(json!({ "role": "assistant", "content": "yes" }));
                messages.push(json!({ "role": "user", "content": "go on" }));
            }
            let body = json!({ "model": "f", "messages": messages }).to_string();
            let path = "/v1/chat/completions";
            let answer = gateway.send("POST", path, &[], body).await;
            providers.insert(answer.header("x-llm-router-provider").unwrap().to_owned());
        }
        assert_eq!(providers.len(), 1, "{providers:?}");
        homes.extend(providers);
    }
    assert!(homes.len() > 1, "{homes:?}");
}

#[tokio::test]
async fn the_cheapest_is_asked_first() {
    let (dear, cheap) = (mock().await, mock().await);
    let prices = "dear/mock-gpt: [ { from: 2026-01-01, input: 5, output: 20 } ]\n\
                  cheap/mock-gpt: [ { from: 2026-01-01, input: 1, output: 2 } ]\n";
    let builder = gateway().provider("dear", &dear).provider("cheap", &cheap);
    let builder = builder.file("prices.yaml", prices);
    let builder = builder.set("/prices", "prices.yaml".into());
    let gateway = model(builder, "cheapest", &["dear", "cheap"]).run().await;
    for _ in 0..4 {
        assert_eq!(ask(&gateway, false).await.1, "cheap");
    }
    cheap.set_controls("status=500").await;
    assert_eq!(ask(&gateway, false).await, (200, "dear".into(), "2".into()));
}

#[tokio::test]
async fn the_quickest_is_asked_most() {
    let (quick, slow) = (mock().await, mock().await);
    slow.set_controls("delay=60ms").await;
    let builder = gateway().provider("quick", &quick).provider("slow", &slow);
    let gateway = model(builder, "least_latency", &["quick", "slow"])
        .run()
        .await;
    for _ in 0..40 {
        assert_eq!(ask(&gateway, false).await.0, 200);
    }
    let slow = slow.meter.totals().requests;
    assert!((1..=8).contains(&slow), "{slow}");
    let estimate = gateway
        .metric(
            "llm_router_deployment_latency_seconds",
            &["provider=\"slow\""],
        )
        .await;
    assert!(estimate > 0.01, "{estimate}");
}
