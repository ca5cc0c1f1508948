//! Checks the meter's records of requests.

use llm_router_mock::{MockUsage, RecordState};
use serde_json::{Value, json};

use crate::client::{eventually, get, mock, post};

const CHAT: &str = "/v1/chat/completions";

fn ask(model: &str, stream: bool) -> Value {
    let messages = json!([{"role": "user", "content": "Explain backpressure"}]);
    json!({"model": model, "stream": stream, "messages": messages})
}

#[tokio::test]
async fn requests_are_told_without_their_secrets() {
    let mock = mock().await;
    let body = ask("m:usage=input=9,cached=2,output=3", true);
    post(&mock, CHAT, &body)
        .header("authorization", "Bearer sk-secret")
        .header("x-request-id", "r-1")
        .header("x-twice", "a")
        .header("x-twice", "b")
        .send()
        .await;
    let reply = get(&mock, "/mock/requests?limit=1&request_id=r-1")
        .send()
        .await;
    assert!(!reply.text().contains("sk-secret"));
    let body = reply.json();
    let record = &body["items"][0];
    for (field, wanted) in [
        ("seq", json!(1)),
        ("method", json!("POST")),
        ("path", json!(CHAT)),
        ("format", json!("openai-chat")),
        ("model", json!("m:usage=input=9,cached=2,output=3")),
        ("stream", json!(true)),
        ("request_id", json!("r-1")),
        ("status", json!(200)),
        ("state", json!("complete")),
        (
            "usage",
            json!({"input": 9, "cached": 2, "cache_write_5m": 0, "cache_write_1h": 0,
            "output": 3, "reasoning": 0}),
        ),
    ] {
        assert_eq!(record[field], wanted, "{field}");
    }
    assert_eq!(record["credential"]["header"], "authorization");
    let headers = record["headers"].as_array().unwrap();
    assert!(
        headers.contains(&json!(["x-twice", "a"])) && headers.contains(&json!(["x-twice", "b"]))
    );
    let none = get(&mock, "/mock/requests?model=other").send().await.json();
    assert_eq!(none["items"], json!([]));
    assert_eq!(
        get(&mock, "/mock/requests?limit=x").send().await.status,
        400
    );
}

#[tokio::test]
async fn totals_add_up_and_can_be_reset() {
    let mock = mock().await;
    for _ in 0..3 {
        post(&mock, CHAT, &ask("a:usage=input=5,output=2", false))
            .send()
            .await;
    }
    post(&mock, CHAT, &ask("b:status=500", false)).send().await;
    let told = get(&mock, "/mock/meter").send().await.json();
    assert_eq!(
        (&told["requests"], &told["complete"], &told["failed"]),
        (&json!(4), &json!(3), &json!(1))
    );
    assert_eq!(told["usage"]["input"], 15);
    assert_eq!(
        told["models"]["a:usage=input=5,output=2"]["usage"]["output"],
        6
    );
    assert_eq!(told["models"]["b:status=500"]["failed"], 1);
    let reset = get(&mock, "/mock/meter")
        .method("DELETE")
        .send()
        .await
        .json();
    assert_eq!(
        (&reset["requests"], &reset["models"]),
        (&json!(0), &json!({}))
    );
    assert_eq!(
        get(&mock, "/mock/requests").send().await.json()["items"],
        json!([])
    );
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed_and_billed_for_what_it_got() {
    let mock = mock().await;
    let model = "m:tokens=100:token_delay=20ms:usage=input=50,output=1000";
    let mut answer = post(&mock, CHAT, &ask(model, true)).open().await;
    answer.until("\"content\":\" ").await;
    assert_eq!(mock.meter().open_streams(), 1);
    drop(answer);
    let left = tokio::time::Instant::now();
    eventually(|| mock.meter().open_streams() == 0).await;
    assert!(left.elapsed() < std::time::Duration::from_secs(1));
    let record = mock.meter().requests(1, |_| true).remove(0);
    assert_eq!(record.state, RecordState::ClientGone);
    assert_eq!(record.usage.input, 50);
    assert!(
        (10..500).contains(&record.usage.output),
        "{:?}",
        record.usage
    );
    assert_eq!(mock.meter().totals().ended.usage, record.usage);
}

#[tokio::test]
async fn a_cut_stream_is_billed_for_what_was_sent() {
    let mock = mock().await;
    // One event opens the choice; nine of ten token events follow.
    post(
        &mock,
        CHAT,
        &ask("m:tokens=10:cut_after=10:usage=input=7,output=200", true),
    )
    .send()
    .await;
    let record = mock.meter().requests(1, |_| true).remove(0);
    let wanted = MockUsage {
        input: 7,
        output: 180,
        ..MockUsage::default()
    };
    assert_eq!((record.state, record.usage), (RecordState::Cut, wanted));
}

#[tokio::test]
async fn standing_controls_are_set_over_http() {
    let mock = mock().await;
    let put = |body: &'static str| get(&mock, "/mock/controls").method("PUT").body(body).send();
    assert_eq!(put("status=503").await.status, 200);
    assert_eq!(get(&mock, "/v1/models").send().await.status, 503);
    assert_eq!(put("stauts=503").await.status, 400);
    assert_eq!(put("").await.status, 200);
    assert_eq!(get(&mock, "/v1/models").send().await.status, 200);
    assert_eq!(get(&mock, "/healthz").send().await.text(), "ok");
    assert_eq!(get(&mock, "/mock/none").send().await.status, 404);
}

#[tokio::test]
async fn many_streams_are_open_at_once() {
    let mock = mock().await;
    let mut answers = Vec::new();
    for _ in 0..500 {
        answers.push(post(&mock, CHAT, &ask("m:hang_after=3", true)).open().await);
    }
    eventually(|| mock.meter().open_streams() == 500).await;
    eventually(|| {
        mock.meter()
            .requests(500, |record| record.events == 3)
            .len()
            == 500
    })
    .await;
    drop(answers);
    eventually(|| mock.meter().open_streams() == 0).await;
    assert_eq!(mock.meter().totals().ended.client_gone, 500);
}

#[tokio::test]
async fn a_stopped_mock_lets_open_streams_finish() {
    let config = llm_router_mock::MockConfig {
        drain: std::time::Duration::from_secs(5),
        ..llm_router_mock::MockConfig::default()
    };
    let mock = llm_router_mock::MockProvider::start(config).await.unwrap();
    let mut answer = post(&mock, CHAT, &ask("m:tokens=6:token_delay=20ms", true))
        .open()
        .await;
    answer.until("assistant").await;
    let (stopped, reply) = tokio::join!(mock.stop(), answer.rest());
    stopped.unwrap();
    assert!(reply.text().ends_with("data: [DONE]\n\n"));
}
