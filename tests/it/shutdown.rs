//! SIGTERM lets open streams finish, up to a time, and ends with 0.

use std::time::{Duration, Instant};

use futures::StreamExt as _;

use crate::harness::{chat_body, eventually, gateway, mock};
use crate::ledger::priced_gateway;

#[tokio::test]
async fn open_streams_finish() {
    let mock = mock().await;
    let mut gateway = gateway().provider("up", &mock).run().await;
    let headers = [("x-mock-token-delay", "30ms"), ("x-mock-tokens", "40")];
    let body = chat_body("mock-gpt", true);
    let response = gateway
        .start("POST", "/v1/chat/completions", &headers, body)
        .await
        .unwrap();
    let mut stream = response.bytes_stream();
    let mut text = stream.next().await.unwrap().unwrap().to_vec();
    gateway.signal("TERM");
    eventually("no new connection is accepted", || async {
        tokio::net::TcpStream::connect(gateway.address)
            .await
            .is_err()
    })
    .await;
    while let Some(chunk) = stream.next().await {
        text.extend_from_slice(&chunk.unwrap());
    }
    assert!(String::from_utf8_lossy(&text).ends_with("data: [DONE]\n\n"));
    assert_eq!(gateway.wait_for_exit().await, Some(0));
    assert!(
        gateway.log().contains("/v1/chat/completions"),
        "the access line is missing"
    );
}

#[tokio::test]
async fn what_is_not_done_in_the_drain_time_is_ended_and_told_of() {
    let mock = mock().await;
    let builder = priced_gateway(&mock)
        .set("/server/drain_timeout", "2s".into())
        .set("/providers/0/timeouts/first_byte", "60s".into())
        .set("/providers/0/timeouts/first_byte_plain", "60s".into());
    let mut gateway = builder.run().await;
    let headers = [("x-mock-token-delay", "100ms"), ("x-mock-tokens", "2000")];
    let body = chat_body("up/mock-gpt", true);
    let response = gateway
        .start("POST", "/v1/chat/completions", &headers, body)
        .await
        .unwrap();
    let mut stream = response.bytes_stream();
    let mut text = stream.next().await.unwrap().unwrap().to_vec();
    let waiting = [("x-mock-delay", "60s")];
    let plain = gateway.send(
        "POST",
        "/v1/chat/completions",
        &waiting,
        chat_body("up/mock-gpt", false),
    );
    let begun = Instant::now();
    let terminated = async {
        eventually("both are under way", || async {
            gateway.metric("llm_router_requests_in_flight", &[]).await == 2.0
        })
        .await;
        gateway.signal("TERM");
    };
    let (answer, ()) = futures::join!(plain, terminated);
    assert_eq!(
        (answer.status, answer.code()),
        (503, "router_stopping".to_owned())
    );
    assert_eq!(answer.header("x-should-retry"), None);
    assert_eq!(answer.header("connection"), Some("close"));
    while let Some(chunk) = stream.next().await {
        text.extend_from_slice(&chunk.unwrap());
    }
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("router_stopping"), "{text}");
    assert!(
        !text.contains("\"stop\"") && !text.contains("[DONE]"),
        "{text}"
    );
    assert_eq!(gateway.wait_for_exit().await, Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(12),
        "{:?}",
        begun.elapsed()
    );
    let log = gateway.log();
    assert_eq!(
        log.matches("\"error.code\":\"router_stopping\"").count(),
        2,
        "{log}"
    );
    // Both are in the books, as far as they came.
    let verified = gateway.command(&["ledger", "verify"]);
    let told = String::from_utf8(verified.stdout).unwrap();
    assert_eq!(verified.status.code(), Some(0), "{told}");
}

#[tokio::test]
async fn an_idle_router_ends_at_once() {
    let mut gateway = gateway().run().await;
    gateway.send("GET", "/v1/models", &[], "").await;
    let begun = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.wait_for_exit().await, Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
}
