//! Bodies of every size reach the provider as they were sent.

use std::convert::Infallible;

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::harness::{Gateway, Mock, free_address, gateway, mock};

const SIZES: [usize; 7] = [
    30,
    65_535,
    65_536,
    65_537,
    1 << 20,
    (32 << 20) - 1,
    32 << 20,
];

/// A JSON body of exactly `size` bytes that asks for the model `name`.
fn body_of(name: &str, size: usize) -> Vec<u8> {
    let head = format!("{{\"model\":\"{name}\",\"p\":\"");
    let mut body = head.into_bytes();
    // A pattern that would show bytes lost, repeated or moved.
    let mut seed = 1_u32;
    while body.len() < size - 2 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        body.push(b'a' + (seed >> 24) as u8 % 26);
    }
    body.extend_from_slice(b"\"}");
    body
}

fn hash(body: &[u8]) -> String {
    Sha256::digest(body)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The same bytes without a length, so that they are sent chunked.
fn chunked_body(body: Vec<u8>) -> reqwest::Body {
    let pieces: Vec<_> = body.chunks(100_000).map(Bytes::copy_from_slice).collect();
    let pieces = pieces.into_iter().map(Ok::<_, Infallible>);
    reqwest::Body::wrap_stream(futures::stream::iter(pieces))
}

async fn check(gateway: &Gateway, mock: &Mock, asked: &str, sent_as: &str, attempts: &str) {
    for size in SIZES {
        for is_chunked in [false, true] {
            let body = body_of(asked, size);
            let expected = hash(&replace_model(&body, asked, sent_as));
            let what = format!("{size} bytes, chunked: {is_chunked}");
            let body = if is_chunked {
                chunked_body(body)
            } else {
                body.into()
            };
            let answer = gateway.send("POST", "/v1/embeddings", &[], body).await;
            assert_eq!(
                answer.header("x-llm-router-attempts"),
                Some(attempts),
                "{what}"
            );
            let received = mock.meter.requests(1, |_| true).pop().unwrap();
            assert_eq!(received.body_sha256, expected, "{what}");
        }
    }
}

fn replace_model(body: &[u8], from: &str, to: &str) -> Vec<u8> {
    let start = b"{\"model\":\"".len();
    [&body[..start], to.as_bytes(), &body[start + from.len()..]].concat()
}

#[tokio::test]
async fn bodies_of_every_size_arrive_as_sent() {
    let mock = mock().await;
    let gateway = gateway().provider("up", &mock).run().await;
    check(&gateway, &mock, "mock-gpt", "mock-gpt", "1").await;
}

#[tokio::test]
async fn only_the_models_name_changes() {
    let mock = mock().await;
    let gateway = gateway()
        .provider("up", &mock)
        .model("f", "up", "mock-gpt")
        .run()
        .await;
    check(&gateway, &mock, "f", "mock-gpt", "1").await;
}

/// The first two of three deployments fail.
async fn two_fail(mock: &Mock, first: &str, second: &str) -> Gateway {
    gateway()
        .provider_at("dead", "custom", &format!("http://{}/v1", free_address()))
        .provider("up", mock)
        .add(
            "models",
            serde_json::json!({ "name": "f", "strategy": "priority", "deployments": [
                { "provider": if first.is_empty() { "dead" } else { "up" }, "model": format!("mock-gpt:{first}") },
                { "provider": "up", "model": format!("mock-gpt:{second}") },
                { "provider": "up", "model": "mock-gpt" },
            ]}),
        )
        .run()
        .await
}

#[tokio::test]
async fn bodies_are_sent_again_whole() {
    let mock = mock().await;
    // A conflict is no fault of a deployment's, so that none is left alone.
    let gateway = two_fail(&mock, "status=409", "status=409:pad=1").await;
    check(&gateway, &mock, "f", "mock-gpt", "3").await;
}

#[tokio::test]
async fn a_megabyte_is_sent_again_whole_after_any_failure() {
    let mock = mock().await;
    for (first, second) in [("", "reset"), ("reset", "status=503"), ("status=500", "")] {
        let second = if second.is_empty() {
            "status=529"
        } else {
            second
        };
        let gateway = two_fail(&mock, first, second).await;
        let body = body_of("f", 1 << 20);
        let expected = hash(&replace_model(&body, "f", "mock-gpt"));
        let answer = gateway.send("POST", "/v1/embeddings", &[], body).await;
        assert_eq!(answer.header("x-llm-router-attempts"), Some("3"));
        let received = mock.meter.requests(1, |_| true).pop().unwrap();
        assert_eq!(received.body_sha256, expected, "{first}, {second}");
    }
}

#[tokio::test]
async fn the_ceiling_is_inclusive() {
    let mock = mock().await;
    let builder = gateway().provider("up", &mock);
    let gateway = builder.set("/server/max_body", "64KiB".into()).run().await;
    for (size, status) in [(65_536, 200), (65_537, 413), (1 << 20, 413)] {
        for is_chunked in [false, true] {
            let body = body_of("mock-gpt", size);
            let body = if is_chunked {
                chunked_body(body)
            } else {
                body.into()
            };
            let answer = gateway.start("POST", "/v1/embeddings", &[], body).await;
            // A client that is still sending may see the connection end before it reads why.
            let Ok(answer) = answer else {
                assert_eq!(status, 413, "{size} bytes");
                continue;
            };
            let is_error = answer.status().as_u16() == 413;
            assert_eq!(
                is_error,
                status == 413,
                "{size} bytes, chunked: {is_chunked}"
            );
        }
    }
}

#[tokio::test]
async fn empty_and_tiny_bodies_are_no_json() {
    let mock = mock().await;
    let gateway = gateway().provider("up", &mock).run().await;
    for body in ["", "x", "{"] {
        let answer = gateway
            .send("POST", "/v1/chat/completions", &[], body)
            .await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "invalid_json"),
            "{body:?}"
        );
    }
    let answer = gateway
        .send("POST", "/v1/chat/completions", &[], "{}")
        .await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (400, "invalid_value")
    );
}
