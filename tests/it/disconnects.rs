//! A client that disconnects ends the upstream call, and nothing leaks.

use futures::StreamExt as _;

use crate::harness::{chat_body, eventually, gateway, mock};

#[tokio::test]
async fn clients_that_leave_end_their_streams() {
    let mock = mock().await;
    let gateway = gateway().provider("up", &mock).run().await;
    let mut streams = Vec::new();
    for _ in 0..50 {
        let headers = [("x-mock-token-delay", "50ms"), ("x-mock-tokens", "2000")];
        let body = chat_body("mock-gpt", true);
        let response = gateway
            .start("POST", "/v1/chat/completions", &headers, body)
            .await
            .unwrap();
        let mut stream = response.bytes_stream();
        stream.next().await.unwrap().unwrap();
        streams.push(stream);
    }
    assert_eq!(mock.meter.open_streams(), 50);
    drop(streams);
    eventually("every upstream stream has ended", || async {
        mock.meter.open_streams() == 0
    })
    .await;
    eventually("every request has ended", || async {
        gateway.metric("llm_router_requests_in_flight", &[]).await == 0.0
            && gateway
                .metric("llm_router_client_disconnects_total", &[])
                .await
                == 50.0
    })
    .await;
}

#[tokio::test]
async fn clients_that_leave_before_the_answer_end_the_call_too() {
    let mock = mock().await;
    let gateway = gateway().provider("up", &mock).run().await;
    let body = chat_body("mock-gpt", false);
    let request = gateway.start(
        "POST",
        "/v1/chat/completions",
        &[("x-mock-delay", "30s")],
        body,
    );
    let request = tokio::time::timeout(std::time::Duration::from_millis(300), request);
    assert!(request.await.is_err(), "the answer came too early");
    eventually("the request has ended", || async {
        gateway.metric("llm_router_requests_in_flight", &[]).await == 0.0
    })
    .await;
}
