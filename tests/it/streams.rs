//! Streams reach the client event by event, byte for byte.

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::Value;

use crate::harness::{Gateway, chat_body, gateway, messages_body, mock};

/// Returns the answer to the same request from the mock itself.
pub(crate) async fn direct(
    base_url: &str,
    path: &str,
    body: &str,
    headers: &[(&str, &str)],
) -> Vec<u8> {
    let headers = crate::harness::header_map(headers);
    let url = format!("{}{path}", base_url.strip_suffix("/v1").unwrap());
    let request = reqwest::Client::new()
        .post(url)
        .headers(headers)
        .body(body.to_owned());
    request
        .send()
        .await
        .unwrap()
        .bytes()
        .await
        .unwrap()
        .to_vec()
}

/// Bytes with what differs between two answers of a real server (ids, times) made equal.
pub(crate) fn comparable(bytes: &[u8]) -> String {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let mut out = Vec::new();
    for line in text.split('\n') {
        let Some(data) = line
            .strip_prefix("data: ")
            .filter(|data| data.starts_with('{'))
        else {
            out.push(line.to_owned());
            continue;
        };
        let mut event: Value = serde_json::from_str(data).unwrap();
        blank(&mut event);
        out.push(event.to_string());
    }
    out.join("\n")
}

fn blank(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                if [
                    "id",
                    "item_id",
                    "created",
                    "created_at",
                    "completed_at",
                    "obfuscation",
                ]
                .contains(&name.as_str())
                {
                    *value = Value::Null;
                } else {
                    blank(value);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(blank),
        _ => {}
    }
}

#[tokio::test]
async fn streams_are_what_the_provider_sent() {
    let mock = mock().await;
    let gateway = gateway().provider("up", &mock).run().await;
    let responses = r#"{"model":"mock-gpt","input":"The sea","stream":true}"#;
    let completions = r#"{"model":"mock-gpt","prompt":"The sea","stream":true}"#;
    let version = ("anthropic-version", "2023-06-01");
    for split in ["1000000", "7", "random"] {
        let headers = [("x-mock-split", split), version];
        for (path, body) in [
            ("/v1/chat/completions", chat_body("mock-gpt", true)),
            ("/v1/messages", messages_body("mock-claude", true)),
            ("/v1/responses", responses.to_owned()),
            ("/v1/completions", completions.to_owned()),
        ] {
            let ours = gateway.send("POST", path, &headers, body.clone()).await;
            let theirs = direct(&mock.base_url(), path, &body, &headers).await;
            assert_eq!(ours.status, 200, "{path}");
            assert_eq!(
                comparable(&ours.body),
                comparable(&theirs),
                "{path}, split {split}"
            );
        }
    }
}

/// Reads a stream and gives the delay of each event behind its own time stamp.
async fn delays(gateway: &Gateway) -> Vec<Duration> {
    let headers = [
        ("x-mock-stamp", "1"),
        ("x-mock-token-delay", "20ms"),
        ("x-mock-tokens", "25"),
    ];
    let body = chat_body("mock-gpt", true);
    let response = gateway
        .start("POST", "/v1/chat/completions", &headers, body)
        .await
        .unwrap();
    let mut stream = response.bytes_stream();
    let mut delays = Vec::new();
    while let Some(chunk) = stream.next().await {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        let chunk = chunk.unwrap();
        let text = std::str::from_utf8(&chunk).unwrap();
        for stamp in stamps(text) {
            delays.push(now.saturating_sub(stamp));
        }
    }
    delays
}

/// The send times, in Unix nanoseconds, that stand in a text: the only 19-digit numbers there.
fn stamps(text: &str) -> impl Iterator<Item = Duration> {
    let numbers = text.split(|byte: char| !byte.is_ascii_digit());
    let stamps = numbers.filter(|number| number.len() == 19);
    stamps.map(|number| Duration::from_nanos(number.parse().unwrap()))
}

#[tokio::test]
async fn events_are_not_held_back() {
    let mock = mock().await;
    let gateway = gateway().provider("up", &mock).run().await;
    let mut delays = delays(&gateway).await;
    assert!(delays.len() > 20, "{} events", delays.len());
    delays.sort();
    // Held back until the next one, an event would be 20 ms late; by Nagle's algorithm, 40 ms.
    // The median keeps a busy machine out of it.
    let median = delays[delays.len() / 2];
    assert!(median < Duration::from_millis(10), "median {median:?}");
}

#[tokio::test]
async fn a_stream_that_breaks_ends_with_an_error_event() {
    let mock = mock().await;
    let gateway = gateway().provider("up", &mock).run().await;
    for control in ["cut-after", "reset-after", "hang-after"] {
        let headers = [
            (&*format!("x-mock-{control}"), "4"),
            ("anthropic-version", "2023-06-01"),
        ];
        let chat = gateway.chat_stream("mock-gpt", &headers).await;
        let text = String::from_utf8(chat.body).unwrap();
        let last = text.trim_end().rsplit("data: ").next().unwrap();
        let last: Value = serde_json::from_str(last).unwrap();
        assert!(last["error"]["message"].is_string(), "{control}: {text}");
        assert!(
            !text.contains("[DONE]") && !text.contains("\"stop\""),
            "{control}: {text}"
        );

        let body = messages_body("mock-claude", true);
        let messages = gateway.send("POST", "/v1/messages", &headers, body).await;
        let text = String::from_utf8(messages.body).unwrap();
        let last = text.trim_end().rsplit("\n\n").next().unwrap();
        assert!(
            last.starts_with("event: error\ndata: {"),
            "{control}: {text}"
        );
        assert!(!text.contains("message_stop"), "{control}: {text}");
    }
}

#[tokio::test]
async fn an_error_event_of_the_provider_is_passed_on() {
    let mock = mock().await;
    let gateway = gateway().provider("up", &mock).run().await;
    for headers in [[("x-mock-error-after", "2")], [("x-mock-error-after", "3")]] {
        let answer = gateway.chat_stream("mock-gpt", &headers).await;
        let text = String::from_utf8(answer.body).unwrap();
        assert_eq!(answer.status, 200);
        assert!(
            text.contains("\"error\"") && !text.contains("upstream_error"),
            "{text}"
        );
    }
}
