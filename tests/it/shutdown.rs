//! SIGTERM lets open streams finish, up to a time, and ends with 0.

use std::time::{Duration, Instant};

use futures::StreamExt as _;

use crate::harness::{chat_body, eventually, gateway, mock};

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
    assert_eq!(gateway.ended().await, Some(0));
    assert!(
        gateway.log().contains("/v1/chat/completions"),
        "the access line is missing"
    );
}

#[tokio::test]
async fn the_drain_time_is_bounded() {
    let mock = mock().await;
    let builder = gateway()
        .provider("up", &mock)
        .set("/server/drain_timeout", "1s".into());
    let mut gateway = builder.run().await;
    let headers = [("x-mock-token-delay", "100ms"), ("x-mock-tokens", "2000")];
    let body = chat_body("mock-gpt", true);
    let response = gateway
        .start("POST", "/v1/chat/completions", &headers, body)
        .await
        .unwrap();
    let mut stream = response.bytes_stream();
    stream.next().await.unwrap().unwrap();
    let begun = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await, Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(5),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test]
async fn an_idle_router_ends_at_once() {
    let mut gateway = gateway().run().await;
    gateway.send("GET", "/v1/models", &[], "").await;
    let begun = Instant::now();
    gateway.signal("TERM");
    assert_eq!(gateway.ended().await, Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(3),
        "{:?}",
        begun.elapsed()
    );
}
