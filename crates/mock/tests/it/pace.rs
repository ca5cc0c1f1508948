//! Waits, pieces and stamps.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use llm_router_mock::{MockConfig, MockProvider};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::{StreamReply, mock, post};

const CHAT: &str = "/v1/chat/completions";

fn ask(model: &str, stream: bool) -> Value {
    let messages = json!([{"role": "user", "content": "Explain backpressure"}]);
    json!({"model": model, "stream": stream, "messages": messages})
}

fn text(reply: &StreamReply) -> String {
    let data = reply.data();
    data.iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str())
        .collect()
}

async fn measure_times(model: &str, stream: bool) -> (Duration, Duration) {
    let mock = mock().await;
    let start = Instant::now();
    let mut answer = post(&mock, CHAT, &ask(model, stream)).open().await;
    answer.until("\r\n\r\n").await;
    let head = start.elapsed();
    answer.rest().await;
    (head, start.elapsed())
}

#[tokio::test]
async fn waits_are_kept() {
    let ms = Duration::from_millis;
    let (head, _) = measure_times("m:delay=60ms", false).await;
    assert!(head >= ms(60), "{head:?}");
    let (head, whole) = measure_times("m:first_token=400ms", true).await;
    assert!(head < ms(300) && whole >= ms(400), "{head:?} {whole:?}");
    let (_, whole) = measure_times("m:tokens=6:token_delay=20ms", true).await;
    assert!(whole >= ms(100), "{whole:?}");
    let (head, _) = measure_times("m:first_token=20ms:tokens=6:token_delay=20ms", false).await;
    assert!(head >= ms(120), "{head:?}");
}

#[tokio::test]
async fn a_timetable_does_not_drift() {
    // A timer is up to a millisecond late. Were each wait counted from the one before, this would
    // take twice as long. What the events themselves take on a busy machine is told apart by a
    // stream without waits.
    let mut least = Duration::MAX;
    for _ in 0..5 {
        let (_, busy) = measure_times("m:tokens=401:token_delay=0", true).await;
        let (_, whole) = measure_times("m:tokens=401:token_delay=1ms", true).await;
        assert!(whole >= Duration::from_millis(400), "{whole:?}");
        least = least.min(whole.saturating_sub(busy));
    }
    assert!(least < Duration::from_millis(700), "{least:?}");
}

#[tokio::test]
async fn the_configs_pace_holds_where_no_control_says_otherwise() {
    let config = MockConfig {
        first_token: Duration::from_millis(500),
        token_delay: Duration::from_millis(10),
        tokens: 6,
        ..MockConfig::default()
    };
    let mock = MockProvider::start(config).await.unwrap();
    let start = Instant::now();
    let reply = post(&mock, CHAT, &ask("m", true)).send().await;
    assert!(start.elapsed() >= Duration::from_millis(550));
    assert_eq!(text(&reply).split_whitespace().count(), 6);
    let start = Instant::now();
    post(&mock, CHAT, &ask("m:first_token=0:token_delay=0", true))
        .send()
        .await;
    assert!(start.elapsed() < Duration::from_millis(450));
}

#[tokio::test]
async fn jitter_varies_length_and_pace() {
    let config = MockConfig {
        jitter_percent: 50,
        tokens: 40,
        ..MockConfig::default()
    };
    let mock = MockProvider::start(config).await.unwrap();
    let mut lengths = Vec::new();
    for seed in 0..8 {
        let reply = post(&mock, CHAT, &ask(&format!("m:seed={seed}"), true))
            .send()
            .await;
        lengths.push(text(&reply).split_whitespace().count());
    }
    assert!(
        lengths.iter().all(|length| (20..=60).contains(length)),
        "{lengths:?}"
    );
    assert!(lengths.iter().any(|length| *length != lengths[0]));
}

#[tokio::test]
async fn each_event_leaves_when_it_is_written() {
    let mock = mock().await;
    let mut answer = post(
        &mock,
        CHAT,
        &ask("m:stamp:tokens=5:token_delay=100ms", true),
    )
    .open()
    .await;
    let mut seen = 0;
    while seen < 5 {
        let text = String::from_utf8_lossy(answer.received_bytes()).into_owned();
        let stamps: Vec<u128> = text
            .split(r#""content":"@"#)
            .skip(1)
            .filter_map(|rest| rest.split(' ').next()?.parse().ok())
            .collect();
        if stamps.len() > seen {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_nanos();
            let late = now - stamps[stamps.len() - 1];
            assert!(late < 100_000_000, "{late} ns late, when the next is due");
            seen = stamps.len();
        } else {
            answer.until_more().await;
        }
    }
}

#[tokio::test]
async fn stamps_are_in_the_text_of_every_format() {
    let mock = mock().await;
    let messages = json!([{"role": "user", "content": "hi"}]);
    for (path, body) in [
        (
            CHAT,
            json!({"model": "m:tokens=2", "stream": true, "messages": messages}),
        ),
        (
            "/v1/messages",
            json!({"model": "m:tokens=2", "stream": true, "messages": messages, "max_tokens": 9}),
        ),
        (
            "/v1/responses",
            json!({"model": "m:tokens=2", "stream": true, "input": "hi"}),
        ),
        (
            "/v1/completions",
            json!({"model": "m:tokens=2", "stream": true, "prompt": "hi"}),
        ),
    ] {
        let reply = post(&mock, path, &body)
            .header("x-mock-stamp", "")
            .send()
            .await;
        assert!(
            reply.text().matches("\"@1").count() >= 2,
            "{path}: {}",
            reply.text()
        );
    }
}

#[tokio::test]
async fn bodies_are_split_across_the_bounds_of_events() {
    let mock = mock().await;
    for (stream, path) in [(true, CHAT), (false, CHAT), (true, "/v1/messages")] {
        let ask = |model: &str| {
            let mut body = ask(model, stream);
            body["max_tokens"] = json!(99);
            body
        };
        let plain = post(&mock, path, &ask("m:chunked")).send().await;
        for size in [1, 2, 7, 100] {
            let split = post(&mock, path, &ask(&format!("m:chunked:split={size}")))
                .send()
                .await;
            let (last, others) = split.chunks.split_last().unwrap();
            assert!(others.iter().all(|chunk| *chunk == size) && *last <= size);
            if stream {
                assert_eq!(split.events().len(), plain.events().len());
            } else {
                assert!(split.json().is_object());
            }
        }
        let random = post(&mock, path, &ask("m:chunked:split=random"))
            .send()
            .await;
        assert!(random.chunks.iter().all(|chunk| *chunk <= 64));
        assert!(random.chunks.iter().any(|chunk| *chunk != random.chunks[0]));
    }
}

#[tokio::test]
async fn pieces_are_flushed_apart() {
    let mock = mock().await;
    let start = Instant::now();
    let reply = post(
        &mock,
        CHAT,
        &ask("m:tokens=1:split=64:split_delay=5ms", false),
    )
    .send()
    .await;
    let pieces = u32::try_from(reply.body.len() / 64).unwrap();
    assert!(start.elapsed() >= Duration::from_millis(5) * pieces);
    assert_eq!(
        reply.headers["content-length"],
        reply.body.len().to_string()
    );
}
