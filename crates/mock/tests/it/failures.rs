//! Every way to fail on request, in streams and whole answers.

use llm_router_mock::{MockConfig, MockProvider, RecordState};
use serde_json::{Value, json};

use crate::client::{ReplyEnd, eventually, mock, post};

/// The paths that have streams, with a request for one.
fn streams(model: &str) -> [(&'static str, Value); 4] {
    let messages = json!([{"role": "user", "content": "Explain backpressure"}]);
    let ask = |more: Value| {
        let mut body = json!({"model": model, "stream": true});
        body.as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        body
    };
    [
        ("/v1/chat/completions", ask(json!({"messages": messages}))),
        (
            "/v1/messages",
            ask(json!({"messages": messages, "max_tokens": 1_000})),
        ),
        (
            "/v1/responses",
            ask(json!({"input": "Explain backpressure"})),
        ),
        (
            "/v1/completions",
            ask(json!({"prompt": "Explain backpressure"})),
        ),
    ]
}

fn whole(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "hi"}]})
}

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn statuses_come_with_their_error_and_retry_after() {
    let mock = mock().await;
    for status in [
        400, 401, 403, 404, 408, 409, 413, 422, 429, 500, 502, 503, 504, 529,
    ] {
        for (path, body) in streams(&format!("m:status={status}")) {
            let reply = post(&mock, path, &body).send().await;
            assert_eq!(
                (reply.status, reply.end),
                (status, ReplyEnd::Message),
                "{path}"
            );
            assert!(reply.json()["error"]["message"].is_string());
            let retry = [429, 503, 529].contains(&status);
            assert_eq!(reply.headers.contains_key("retry-after"), retry, "{status}");
        }
    }
    let reply = post(&mock, CHAT, &whole("m:status=429:retry_after=2500ms"))
        .send()
        .await;
    assert_eq!(
        (
            &*reply.headers["retry-after"],
            &*reply.headers["retry-after-ms"]
        ),
        ("3", "2500")
    );
    let reply = post(&mock, CHAT, &whole("m:status=429:retry_after=none"))
        .send()
        .await;
    assert!(!reply.headers.contains_key("retry-after"));
    let reply = post(&mock, CHAT, &whole("m:retry_after=7")).send().await;
    assert_eq!((reply.status, &*reply.headers["retry-after"]), (200, "7"));
    let reply = post(&mock, CHAT, &whole("m:status=201")).send().await;
    assert_eq!(
        (reply.status, &reply.json()["object"]),
        (201, &json!("chat.completion"))
    );
    let reply = post(&mock, CHAT, &whole("m:status=204")).send().await;
    assert_eq!((reply.status, reply.body.len()), (204, 0));
}

#[tokio::test]
async fn headers_win_over_the_model_name_and_both_over_the_mocks_own() {
    let mock = mock().await;
    let status = |model: &'static str, header: Option<&'static str>| {
        let request = post(&mock, CHAT, &whole(model));
        match header {
            Some(value) => request.header("x-mock-status", value),
            None => request,
        }
    };
    assert_eq!(status("m:status=500", Some("404")).send().await.status, 404);
    mock.mock().set_controls("status=503").unwrap();
    assert_eq!(status("m", None).send().await.status, 503);
    assert_eq!(status("m:status=500", None).send().await.status, 500);
    mock.mock().set_controls("").unwrap();
    assert_eq!(status("m", None).send().await.status, 200);
    assert!(mock.mock().set_controls("nonsense").is_err());
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    let mock = mock().await;
    for (path, body) in streams("m:reset") {
        let reply = post(&mock, path, &body).send().await;
        assert_eq!(
            (reply.status, reply.end, reply.body.len()),
            (0, ReplyEnd::Reset, 0),
            "{path}"
        );
    }
    let reply = post(&mock, CHAT, &whole("m"))
        .header("x-mock-reset", "1")
        .send()
        .await;
    assert_eq!((reply.status, reply.end), (0, ReplyEnd::Reset));
    eventually(|| mock.meter().totals().ended.cut == 5).await;
}

#[tokio::test]
async fn resets_and_cuts_come_after_exactly_so_many_events() {
    let mock = mock().await;
    for n in [0, 1, 2, 3, 7] {
        for (control, end) in [
            ("reset_after", ReplyEnd::Reset),
            ("cut_after", ReplyEnd::Closed),
        ] {
            for (path, body) in streams(&format!("m:{control}={n}")) {
                let reply = post(&mock, path, &body).send().await;
                assert_eq!(
                    (reply.status, reply.end),
                    (200, end),
                    "{path} {control}={n}"
                );
                assert_eq!(reply.events().len(), n, "{path} {control}={n}");
            }
        }
    }
    let last = mock.meter().requests(1, |_| true).remove(0);
    assert_eq!((last.state, last.events), (RecordState::Cut, 7));
}

#[tokio::test]
async fn a_cut_after_the_last_event_leaves_the_message_open() {
    let mock = mock().await;
    let body = |control: &str| {
        json!({"model": format!("m:tokens=1{control}"), "stream": true,
            "messages": [{"role": "user", "content": "hi"}]})
    };
    let events = post(&mock, CHAT, &body("")).send().await.events().len();
    let reply = post(&mock, CHAT, &body(&format!(":cut_after={events}")))
        .send()
        .await;
    assert_eq!(
        (reply.events().len(), reply.end),
        (events, ReplyEnd::Closed)
    );
    let reply = post(&mock, CHAT, &body(&format!(":cut_after={}", events + 1)))
        .send()
        .await;
    assert_eq!(reply.end, ReplyEnd::Message);
}

#[tokio::test]
async fn bodies_are_cut_at_the_byte() {
    let mock = mock().await;
    for bytes in [0, 1, 100, 5_000] {
        let model = format!("m:pad=20000:cut_bytes={bytes}");
        let reply = post(&mock, CHAT, &whole(&model)).send().await;
        assert_eq!(
            (reply.status, reply.end, reply.body.len()),
            (200, ReplyEnd::Closed, bytes)
        );
        let (path, body) = &streams(&model)[0];
        let reply = post(&mock, path, body).send().await;
        assert_eq!(
            (reply.status, reply.end, reply.body.len()),
            (200, ReplyEnd::Closed, bytes)
        );
    }
    let reply = post(&mock, CHAT, &whole("m:cut_bytes=10000000"))
        .send()
        .await;
    assert_eq!(reply.end, ReplyEnd::Message);
    eventually(|| mock.meter().totals().ended.complete == 1).await;
}

#[tokio::test]
async fn a_cut_waits_for_a_slow_reader() {
    let mock = mock().await;
    let bytes = 8_000_000;
    let model = format!("m:pad=9000000:cut_bytes={bytes}");
    let mut answer = post(&mock, CHAT, &whole(&model)).open().await;
    answer.until("content-length").await;
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    let reply = answer.rest().await;
    assert_eq!((reply.end, reply.body.len()), (ReplyEnd::Closed, bytes));
}

#[tokio::test]
async fn a_hang_says_nothing_and_notices_the_client_leave() {
    let mock = mock().await;
    let mut answer = post(&mock, CHAT, &whole("m:hang")).open().await;
    eventually(|| mock.meter().totals().open_requests == 1).await;
    assert!(answer.is_silent().await && answer.received_bytes().is_empty());
    drop(answer);
    eventually(|| mock.meter().totals().ended.client_gone == 1).await;
}

#[tokio::test]
async fn a_stream_hangs_after_exactly_so_many_events() {
    let mock = mock().await;
    for n in [0, 1, 4] {
        for (path, body) in streams(&format!("m:hang_after={n}")) {
            mock.meter().reset();
            let mut answer = post(&mock, path, &body).open().await;
            answer.until("\r\n\r\n").await;
            eventually(|| mock.meter().requests(1, |r| r.events == n).len() == 1).await;
            while !answer.is_silent().await {}
            assert_eq!(mock.meter().open_streams(), 1);
            drop(answer);
            eventually(|| mock.meter().open_streams() == 0).await;
            let record = mock.meter().requests(1, |_| true).remove(0);
            assert_eq!(
                (record.state, record.events),
                (RecordState::ClientGone, n),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn errors_strike_within_a_stream_that_began_well() {
    let mock = mock().await;
    for n in [0_usize, 3] {
        let control = if n == 0 {
            "error_event".to_owned()
        } else {
            format!("error_after={n}")
        };
        for (path, body) in streams(&format!("m:{control}")) {
            let reply = post(&mock, path, &body).send().await;
            assert_eq!(
                (reply.status, reply.end),
                (200, ReplyEnd::Message),
                "{path}"
            );
            let events = reply.events();
            assert_eq!(events.len(), n + 1, "{path}");
            let (name, data) = &events[n];
            let data: Value = serde_json::from_str(data).unwrap();
            match path {
                "/v1/messages" => {
                    assert_eq!(name, "error");
                    assert_eq!(data["error"]["type"], "overloaded_error");
                }
                "/v1/responses" => assert_eq!(data["type"], "error"),
                _ => assert_eq!(data["error"]["type"], "server_error"),
            }
            let record = mock.meter().requests(1, |_| true).remove(0);
            assert_eq!(
                (record.state, record.events),
                (RecordState::Failed, n as u64 + 1)
            );
        }
    }
    let reply = post(&mock, CHAT, &whole("m:error_event")).send().await;
    assert_eq!(reply.status, 200);
    assert!(reply.json()["error"]["message"].is_string());
}

#[tokio::test]
async fn the_first_requests_fail_and_the_next_succeed() {
    let mock = mock().await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(
            post(&mock, CHAT, &whole("m:fail_first=2:status=503"))
                .send()
                .await
                .status,
        );
    }
    assert_eq!(statuses, [503, 503, 200, 200]);
    let fresh = |key: &'static str| {
        post(&mock, CHAT, &whole("m:fail_first=1"))
            .header("x-mock-key", key)
            .send()
    };
    assert_eq!(
        (fresh("a").await.status, fresh("a").await.status),
        (500, 200)
    );
    assert_eq!(fresh("b").await.status, 500);
    let cut = || post(&mock, CHAT, &whole("m:fail_first=1:reset")).send();
    assert_eq!(
        (cut().await.end, cut().await.status),
        (ReplyEnd::Reset, 200)
    );
}

#[tokio::test]
async fn every_nth_request_fails() {
    let mock = mock().await;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        let body = whole("m:fail_every=3:status=503");
        statuses.push(post(&mock, CHAT, &body).send().await.status);
    }
    assert_eq!(statuses, [200, 200, 503, 200, 200, 503]);
}

#[tokio::test]
async fn a_required_key_is_required() {
    let config = MockConfig {
        require_key: Some("sk-right".into()),
        ..MockConfig::default()
    };
    let mock = MockProvider::start(config).await.unwrap();
    for (path, body) in streams("m") {
        let reply = post(&mock, path, &body)
            .header("authorization", "Bearer sk-wrong")
            .send()
            .await;
        assert_eq!(reply.status, 401);
        assert!(!reply.text().contains("sk-"));
        for (name, value) in [
            ("authorization", "Bearer sk-right"),
            ("x-api-key", "sk-right"),
            ("api-key", "sk-right"),
        ] {
            let reply = post(&mock, path, &body).header(name, value).send().await;
            assert_eq!(reply.status, 200, "{name}");
        }
    }
}

#[tokio::test]
async fn bodies_beyond_the_limit_are_refused() {
    let mock = MockProvider::start(MockConfig {
        max_body: 1_000,
        ..MockConfig::default()
    })
    .await
    .unwrap();
    let mut body = whole("m").to_string();
    body += &" ".repeat(1_000 - body.len());
    assert_eq!(
        post(&mock, CHAT, &json!(null))
            .body(body.clone())
            .send()
            .await
            .status,
        200
    );
    assert_eq!(
        post(&mock, CHAT, &json!(null))
            .body(body + " ")
            .send()
            .await
            .status,
        413
    );
}
