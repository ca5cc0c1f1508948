//! Anthropic messages, count_tokens and models.

use serde_json::{Value, json};

use crate::client::{StreamReply, get, mock, post};

const MESSAGES: &str = "/v1/messages";

fn ask(model: &str, more: &Value) -> Value {
    let mut body = json!({
        "model": model, "max_tokens": 4_096,
        "messages": [{"role": "user", "content": "Explain backpressure"}]
    });
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    body
}

fn tools() -> Value {
    json!([{"name": "get_weather", "input_schema": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]
    }}])
}

fn names(reply: &StreamReply) -> Vec<String> {
    let mut names: Vec<String> = reply.events().into_iter().map(|(name, _)| name).collect();
    names.dedup();
    names
}

/// The deltas of one kind, put together.
fn join_field(reply: &StreamReply, field: &str) -> String {
    let data = reply.data();
    data.iter()
        .filter_map(|event| event["delta"][field].as_str())
        .collect()
}

#[tokio::test]
async fn a_message_is_answered_whole() {
    let mock = mock().await;
    let reply = post(&mock, MESSAGES, &ask("m:tokens=9", &json!({})))
        .send()
        .await;
    assert!(reply.headers["request-id"].starts_with("req_"));
    let body = reply.json();
    assert_eq!(
        (&body["type"], &body["role"]),
        (&json!("message"), &json!("assistant"))
    );
    assert_eq!(
        (&body["stop_reason"], &body["stop_sequence"]),
        (&json!("end_turn"), &Value::Null)
    );
    assert_eq!(body["content"][0]["type"], "text");
    assert_eq!(body["usage"]["output_tokens"], 9);
}

#[tokio::test]
async fn a_stream_has_its_events_in_order() {
    let mock = mock().await;
    let whole = post(&mock, MESSAGES, &ask("m", &json!({})))
        .send()
        .await
        .json();
    let reply = post(&mock, MESSAGES, &ask("m", &json!({"stream": true})))
        .send()
        .await;
    assert_eq!(
        names(&reply),
        [
            "message_start",
            "content_block_start",
            "ping",
            "content_block_delta",
            "content_block_stop",
            "message_delta",
            "message_stop"
        ]
    );
    assert_eq!(whole["content"][0]["text"], join_field(&reply, "text"));
    let data = reply.data();
    assert!(
        reply
            .events()
            .iter()
            .zip(&data)
            .all(|((name, _), data)| data["type"] == *name)
    );
    let start = &data[0]["message"];
    assert_eq!(
        (&start["content"], &start["stop_reason"]),
        (&json!([]), &Value::Null)
    );
    assert_eq!(start["usage"]["output_tokens"], 1);
    let delta = &data[data.len() - 2];
    assert_eq!(delta["delta"]["stop_reason"], "end_turn");
    assert_eq!(
        delta["usage"]["output_tokens"],
        whole["usage"]["output_tokens"]
    );
    assert_eq!(
        delta["usage"]["input_tokens"],
        start["usage"]["input_tokens"]
    );
}

#[tokio::test]
async fn usage_excludes_what_the_cache_did() {
    let mock = mock().await;
    let model =
        "m:usage=input=1000,cached=300,cache_write_5m=100,cache_write_1h=50,output=40,reasoning=10";
    let usage = &post(&mock, MESSAGES, &ask(model, &json!({})))
        .send()
        .await
        .json()["usage"];
    assert_eq!(usage["input_tokens"], 550);
    assert_eq!(usage["cache_read_input_tokens"], 300);
    assert_eq!(usage["cache_creation_input_tokens"], 150);
    assert_eq!(
        usage["cache_creation"],
        json!({"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 50})
    );
    assert_eq!(usage["output_tokens"], 40);
    assert_eq!(usage["output_tokens_details"]["thinking_tokens"], 10);
    let silent = post(&mock, MESSAGES, &ask("m", &json!({"stream": true})));
    let silent = silent.header("x-mock-no-usage", "on").send().await;
    assert!(!silent.text().contains("usage"));
}

#[tokio::test]
async fn cache_marks_fill_the_cache_classes() {
    let mock = mock().await;
    let block = |text: &str, ttl: &str| json!({"type": "text", "text": text.repeat(400), "cache_control": {"type": "ephemeral", "ttl": ttl}});
    let more = json!({"system": [block("a", "1h"), block("b", "5m")]});
    let body = post(&mock, MESSAGES, &ask("m", &more)).send().await.json();
    let usage = &body["usage"];
    assert!(
        usage["cache_creation"]["ephemeral_1h_input_tokens"]
            .as_u64()
            .unwrap()
            > 0
    );
    assert!(
        usage["cache_creation"]["ephemeral_5m_input_tokens"]
            .as_u64()
            .unwrap()
            > 0
    );
    assert!(usage["cache_read_input_tokens"].as_u64().unwrap() > 0);
    assert!(usage["input_tokens"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn tools_are_called_after_a_sentence_and_their_results_answered() {
    let mock = mock().await;
    let asked = ask("m:tools=2", &json!({"tools": tools()}));
    let body = post(&mock, MESSAGES, &asked).send().await.json();
    assert_eq!(body["stop_reason"], "tool_use");
    let kinds: Vec<_> = body["content"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| &b["type"])
        .collect();
    assert_eq!(kinds, ["text", "tool_use", "tool_use"]);
    assert!(body["content"][1]["input"]["city"].is_string());

    let mut answered = asked;
    let messages = answered["messages"].as_array_mut().unwrap();
    messages.push(json!({"role": "assistant", "content": body["content"]}));
    let result = |i: usize| json!({"type": "tool_result", "tool_use_id": body["content"][i]["id"], "content": "rain"});
    messages.push(json!({"role": "user", "content": [result(1), result(2)]}));
    let body = post(&mock, MESSAGES, &answered).send().await.json();
    assert_eq!(body["stop_reason"], "end_turn");

    let forced = ask(
        "m",
        &json!({"tools": tools(), "tool_choice": {"type": "any"}}),
    );
    let body = post(&mock, MESSAGES, &forced).send().await.json();
    assert_eq!(body["content"][0]["type"], "tool_use");
}

#[tokio::test]
async fn tool_input_is_streamed_in_fragments() {
    let mock = mock().await;
    let asked = ask("m", &json!({"tools": tools(), "stream": true}));
    let reply = post(&mock, MESSAGES, &asked).send().await;
    let data = reply.data();
    let start = data
        .iter()
        .find(|event| event["content_block"]["type"] == "tool_use")
        .unwrap();
    assert_eq!(
        (&start["index"], &start["content_block"]["input"]),
        (&json!(1), &json!({}))
    );
    let input: Value = serde_json::from_str(&join_field(&reply, "partial_json")).unwrap();
    assert!(input["city"].is_string());

    let empty = json!({"tools": [{"name": "roll", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "any"}, "stream": true});
    let reply = post(&mock, MESSAGES, &ask("m", &empty)).send().await;
    assert_eq!(join_field(&reply, "partial_json"), "");
}

#[tokio::test]
async fn thinking_is_shown_and_signed() {
    let mock = mock().await;
    let thinking = json!({"thinking": {"type": "enabled", "budget_tokens": 2_000}});
    let body = post(&mock, MESSAGES, &ask("m", &thinking))
        .send()
        .await
        .json();
    let block = &body["content"][0];
    assert_eq!(block["type"], "thinking");
    assert!(block["signature"].as_str().unwrap().len() > 100);
    let words = block["thinking"]
        .as_str()
        .unwrap()
        .split_whitespace()
        .count();
    assert_eq!(
        body["usage"]["output_tokens_details"]["thinking_tokens"],
        words
    );

    let streamed = ask(
        "m",
        &json!({"thinking": {"type": "adaptive"}, "stream": true}),
    );
    let reply = post(&mock, MESSAGES, &streamed).send().await;
    assert!(!join_field(&reply, "thinking").is_empty());
    let data = reply.data();
    let signed = data
        .iter()
        .position(|event| event["delta"]["type"] == "signature_delta")
        .unwrap();
    assert_eq!(data[signed + 1]["type"], "content_block_stop");
    assert_eq!(data[signed + 2]["content_block"]["type"], "text");
}

#[tokio::test]
async fn answers_end_at_stop_sequences() {
    let mock = mock().await;
    let body = post(
        &mock,
        MESSAGES,
        &ask("m", &json!({"stop_sequences": [" "]})),
    )
    .send()
    .await
    .json();
    assert_eq!(
        (&body["stop_reason"], &body["stop_sequence"]),
        (&json!("stop_sequence"), &json!(" "))
    );
}

#[tokio::test]
async fn tokens_are_counted_and_not_billed() {
    let mock = mock().await;
    let body = json!({"model": "m", "messages": [{"role": "user", "content": "abcdefgh"}]});
    let counted = post(&mock, "/v1/messages/count_tokens", &body)
        .send()
        .await
        .json();
    assert_eq!(counted, json!({"input_tokens": 5}));
    assert_eq!(mock.meter().totals().ended.usage.input, 0);
}

#[tokio::test]
async fn faulty_requests_are_refused_in_shape() {
    let mock = mock().await;
    let unversioned = get(&mock, MESSAGES)
        .method("POST")
        .body(ask("m", &json!({})).to_string());
    for (request, status, kind) in [
        (unversioned, 400, "invalid_request_error"),
        (
            post(&mock, MESSAGES, &json!({"model": "m", "messages": []})),
            400,
            "invalid_request_error",
        ),
        (
            post(&mock, MESSAGES, &ask("m:status=529", &json!({}))),
            529,
            "overloaded_error",
        ),
        (
            post(&mock, MESSAGES, &ask("m:status=401", &json!({}))),
            401,
            "authentication_error",
        ),
        (
            get(&mock, "/v1/models/x").header("anthropic-version", "1"),
            404,
            "not_found_error",
        ),
    ] {
        let reply = request.send().await;
        assert_eq!(reply.status, status);
        let body = reply.json();
        assert_eq!(
            (&body["type"], &body["error"]["type"]),
            (&json!("error"), &json!(kind))
        );
        assert!(body["request_id"].is_string());
    }
}
