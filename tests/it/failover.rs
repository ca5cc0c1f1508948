//! What fails at one deployment is tried at the next, until the answer has begun.

use serde_json::json;

use crate::harness::{Builder, chat_body, free_address, gateway, mock};

fn two(builder: Builder, first: &str, second: &str) -> Builder {
    builder.add(
        "models",
        json!({ "name": "f", "strategy": "priority", "deployments": [
        { "provider": first, "model": "mock-gpt" }, { "provider": second, "model": "mock-gpt" } ]}),
    )
}

#[tokio::test]
async fn every_kind_of_failure_goes_to_the_next() {
    let (bad, good) = (mock().await, mock().await);
    let builder = gateway().provider("bad", &bad).provider("good", &good);
    let gateway = two(builder, "bad", "good").run().await;
    for failure in [
        "status=500",
        "status=429",
        "status=408",
        "status=409",
        "status=529",
        "reset=1",
        "error_event=1",
        "hang=1",
    ] {
        // Only the first of the two mocks is told to fail.
        set_controls(bad.address, failure).await;
        for stream in [false, true] {
            if failure.starts_with("error_event") && !stream {
                continue;
            }
            let body = chat_body("f", stream);
            let answer = gateway
                .send("POST", "/v1/chat/completions", &[], body)
                .await;
            let shown = String::from_utf8_lossy(&answer.body).into_owned();
            assert_eq!(answer.status, 200, "{failure}, stream {stream}: {shown}");
            assert_eq!(
                answer.header("x-llm-router-provider"),
                Some("good"),
                "{failure}"
            );
            assert_eq!(
                answer.header("x-llm-router-attempts"),
                Some("2"),
                "{failure}"
            );
            assert!(!shown.contains("error"), "{failure}: {shown}");
        }
    }
}

/// Sets what a mock does with requests that don't say themselves.
async fn set_controls(address: std::net::SocketAddr, controls: &str) {
    let url = format!("http://{address}/mock/controls");
    let answer = reqwest::Client::new()
        .put(url)
        .body(controls.to_owned())
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{:?}", answer.text().await);
}

#[tokio::test]
async fn connections_that_are_refused_go_to_the_next() {
    let good = mock().await;
    let builder = gateway()
        .provider_at("dead", "custom", &format!("http://{}/v1", free_address()))
        .provider("good", &good);
    let gateway = two(builder, "dead", "good").run().await;
    let answer = gateway.chat("f", &[]).await;
    assert_eq!(
        (answer.status, answer.header("x-llm-router-attempts")),
        (200, Some("2"))
    );
    assert!(
        gateway
            .metric("llm_router_attempts_total", &["connection_failed"])
            .await
            >= 1.0
    );
}

#[tokio::test]
async fn nothing_is_retried_after_the_answer_began() {
    let (bad, good) = (mock().await, mock().await);
    let builder = gateway().provider("bad", &bad).provider("good", &good);
    let gateway = two(builder, "bad", "good").run().await;
    set_controls(bad.address, "cut_after=3").await;
    let answer = gateway.chat_stream("f", &[]).await;
    assert_eq!(answer.header("x-llm-router-provider"), Some("bad"));
    assert!(String::from_utf8_lossy(&answer.body).contains("upstream_error"));
    assert_eq!(good.meter.totals().requests, 0);
}

#[tokio::test]
async fn refusals_are_not_retried() {
    let (bad, good) = (mock().await, mock().await);
    let builder = gateway().provider("bad", &bad).provider("good", &good);
    let gateway = two(builder, "bad", "good").run().await;
    set_controls(bad.address, "status=422").await;
    assert_eq!(gateway.chat("f", &[]).await.status, 422);
    assert_eq!(good.meter.totals().requests, 0);
}
