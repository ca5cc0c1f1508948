//! Clients that disconnect from a provider whose policy is to drain: the provider's count is billed
//! and stands in the ledger.

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::harness::{Gateway, GatewayBuilder, Mock, chat_body, eventually, messages_body, mock};
use crate::ledger::{
    assert_counts, cost, expected_cost, hundredths, metered_usage, priced_gateway,
};

fn draining(mock: &Mock, longest: &str) -> GatewayBuilder {
    priced_gateway(mock)
        .set("/providers/0/on_disconnect", "drain".into())
        .set("/providers/0/timeouts/drain", longest.into())
}

/// The only request, once it is settled.
async fn settled_request(gateway: &Gateway) -> Value {
    eventually("it is settled", || async {
        cost(gateway, "current").await["total"]["requests"] == 1
    })
    .await;
    let listed = gateway.admin("/api/v1/requests", None).await.json();
    listed["items"][0].clone()
}

#[tokio::test]
async fn a_stream_is_read_on_to_its_usage() {
    for (path, model, body) in [
        (
            "/v1/chat/completions",
            "mock-gpt",
            chat_body("up/mock-gpt", true),
        ),
        (
            "/v1/messages",
            "mock-claude",
            messages_body("mock-claude", true),
        ),
    ] {
        let mock = mock().await;
        let gateway = draining(&mock, "2s").run().await;
        let headers = [
            ("x-mock-token-delay", "5ms"),
            ("x-mock-usage", "random"),
            ("x-mock-tokens", "60"),
            ("anthropic-version", "2023-06-01"),
        ];
        let response = gateway.start("POST", path, &headers, body).await.unwrap();
        let mut stream = response.bytes_stream();
        for _ in 0..3 {
            stream.next().await.unwrap().unwrap();
        }
        drop(stream);
        let request = settled_request(&gateway).await;
        assert_eq!(request["attempts"][0]["disconnect"], "drain", "{request}");
        assert_eq!(request["attempts"][0]["error"], "client_gone", "{request}");
        assert_eq!(request["estimated"], false, "{request}");
        assert_counts(&request["usage"], &metered_usage(&mock, model));
        assert_eq!(
            hundredths(&request["cost_usd"]),
            expected_cost(&mock, model)
        );
        let gone = "llm_router_client_disconnects_total";
        eventually("it is counted as left", || async {
            gateway.metric(gone, &[]).await == 1.0
        })
        .await;
    }
}

#[tokio::test]
async fn an_answer_that_has_not_begun_is_waited_for() {
    let mock = mock().await;
    let gateway = draining(&mock, "2s").run().await;
    let headers = [("x-mock-delay", "600ms")];
    let body = chat_body("up/mock-gpt", false);
    let request = gateway.start("POST", "/v1/chat/completions", &headers, body);
    let left = tokio::time::timeout(Duration::from_millis(200), request).await;
    assert!(left.is_err(), "the answer came too early");
    let request = settled_request(&gateway).await;
    assert_eq!(request["estimated"], false, "{request}");
    assert_counts(&request["usage"], &metered_usage(&mock, "mock-gpt"));
}

#[tokio::test]
async fn reading_on_has_an_end() {
    let mock = mock().await;
    let gateway = draining(&mock, "300ms").run().await;
    let headers = [("x-mock-token-delay", "20ms"), ("x-mock-tokens", "2000")];
    let body = chat_body("up/mock-gpt", true);
    let response = gateway
        .start("POST", "/v1/chat/completions", &headers, body)
        .await;
    let mut stream = response.unwrap().bytes_stream();
    stream.next().await.unwrap().unwrap();
    drop(stream);
    let request = settled_request(&gateway).await;
    assert_eq!(request["attempts"][0]["disconnect"], "drain", "{request}");
    assert_eq!(
        (&request["complete"], &request["estimated"]),
        (&json!(false), &json!(true))
    );
    let output = request["usage"]["output_tokens"].as_u64().unwrap();
    assert!((3..300).contains(&output), "{request}");
    eventually("the upstream stream has ended", || async {
        mock.meter.open_streams() == 0
    })
    .await;
}

#[tokio::test]
async fn nobody_waits_for_another_attempt() {
    let (bad, good) = (mock().await, mock().await);
    let deployments = json!([
        { "provider": "up", "model": "mock-gpt" }, { "provider": "next", "model": "mock-gpt" }
    ]);
    let gateway = draining(&bad, "2s")
        .provider("next", &good)
        .add(
            "models",
            json!({ "name": "f", "strategy": "priority", "deployments": deployments }),
        )
        .run()
        .await;
    let url = format!("http://{}/mock/controls", bad.address);
    let set = reqwest::Client::new()
        .put(url)
        .body("status=503:delay=500ms");
    assert!(set.send().await.unwrap().status().is_success());
    let body = chat_body("f", false);
    let request = gateway.start("POST", "/v1/chat/completions", &[], body);
    let left = tokio::time::timeout(Duration::from_millis(200), request).await;
    assert!(left.is_err(), "the answer came too early");
    let request = settled_request(&gateway).await;
    assert_eq!(
        request["attempts"].as_array().unwrap().len(),
        1,
        "{request}"
    );
    assert_eq!(good.meter.totals().requests, 0);
}
