//! OpenAI chat completions, completions, embeddings and models.

use serde_json::{Value, json};

use crate::client::{ReplyEnd, get, mock, post};

const CHAT: &str = "/v1/chat/completions";

fn chat(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "Explain backpressure"}]})
}

fn with(mut body: Value, more: &Value) -> Value {
    let more = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(more);
    body
}

fn stream_body(model: &str, options: &Value) -> Value {
    with(
        chat(model),
        &json!({"stream": true, "stream_options": options}),
    )
}

fn weather_tool() -> Value {
    json!({"tools": [{"type": "function", "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city", "days"]
        }
    }}]})
}

/// Text and finish reason of a chat stream's first choice.
fn join_chunks(chunks: &[Value]) -> (String, Option<String>) {
    let choices = chunks.iter().map(|chunk| &chunk["choices"][0]);
    let text = choices
        .clone()
        .filter_map(|c| c["delta"]["content"].as_str())
        .collect();
    let reason = choices
        .filter_map(|c| c["finish_reason"].as_str())
        .next_back();
    (text, reason.map(String::from))
}

#[tokio::test]
async fn a_chat_is_answered_whole() {
    let mock = mock().await;
    let reply = post(&mock, CHAT, &chat("m:tokens=12")).send().await;
    assert_eq!((reply.status, reply.end), (200, ReplyEnd::Message));
    assert_eq!(reply.headers["content-type"], "application/json");
    assert!(reply.headers["x-request-id"].starts_with("req_"));
    let body = reply.json();
    assert_eq!(body["object"], "chat.completion");
    assert!(body["id"].as_str().unwrap().starts_with("chatcmpl-"));
    assert_eq!(body["model"], "m:tokens=12");
    let choice = &body["choices"][0];
    assert_eq!(choice["finish_reason"], "stop");
    let text = choice["message"]["content"].as_str().unwrap();
    assert_eq!(text.split_whitespace().count(), 12);
    let usage = &body["usage"];
    assert_eq!(usage["completion_tokens"], 12);
    let input = usage["prompt_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], input + 12);
}

#[tokio::test]
async fn a_stream_says_what_a_whole_answer_says() {
    let mock = mock().await;
    let whole = post(&mock, CHAT, &chat("m")).send().await.json();
    let reply = post(&mock, CHAT, &with(chat("m"), &json!({"stream": true})))
        .send()
        .await;
    assert_eq!(
        reply.headers["content-type"],
        "text/event-stream; charset=utf-8"
    );
    assert_eq!(reply.events().last().unwrap().1, "[DONE]");
    let chunks = reply.data();
    let (text, reason) = join_chunks(&chunks);
    assert_eq!(whole["choices"][0]["message"]["content"], text);
    assert_eq!(reason.as_deref(), Some("stop"));
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    for chunk in &chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert_eq!(
            (&chunk["id"], &chunk["created"]),
            (&chunks[0]["id"], &chunks[0]["created"])
        );
        assert!(chunk.get("usage").is_none());
        assert!(chunk["obfuscation"].is_string());
    }
    assert_eq!(
        reply.chunks.len(),
        reply.events().len(),
        "one chunk an event"
    );
}

#[tokio::test]
async fn usage_is_streamed_only_where_asked() {
    let mock = mock().await;
    let asked = json!({"include_usage": true, "include_obfuscation": false});
    let chunks = post(&mock, CHAT, &stream_body("m:tokens=3", &asked))
        .send()
        .await
        .data();
    let (last, others) = chunks.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    assert_eq!(last["usage"]["completion_tokens"], 3);
    assert!(
        others
            .iter()
            .all(|chunk| chunk["usage"].is_null() && chunk.get("usage").is_some())
    );
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk.get("obfuscation").is_none())
    );

    let none = post(&mock, CHAT, &stream_body("m", &asked)).header("x-mock-no-usage", "on");
    let none = none.send().await;
    assert!(!none.text().contains("usage"));
}

#[tokio::test]
async fn usage_can_be_set_by_class() {
    let mock = mock().await;
    let usage = "input=900,cached=300,cache_write_5m=50,output=70,reasoning=20";
    let wanted = json!({
        "prompt_tokens": 900, "completion_tokens": 70, "total_tokens": 970,
        "prompt_tokens_details": {"cached_tokens": 300, "audio_tokens": 0, "cache_write_tokens": 50},
        "completion_tokens_details": {"reasoning_tokens": 20, "audio_tokens": 0,
            "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}
    });
    let by_model = post(&mock, CHAT, &chat(&format!("m:usage={usage}")))
        .send()
        .await;
    assert_eq!(by_model.json()["usage"], wanted);
    let by_header = post(&mock, CHAT, &chat("m:usage=input=1"))
        .header(
            "x-mock-usage",
            r#"{"input":900,"cached":300,"cache_write_5m":50,"output":70,"reasoning":20}"#,
        )
        .send()
        .await;
    assert_eq!(by_header.json()["usage"], wanted);
    let random = || post(&mock, CHAT, &chat("m:usage=random:seed=5")).send();
    assert_eq!(
        random().await.json()["usage"],
        random().await.json()["usage"]
    );
}

#[tokio::test]
async fn tools_are_called_and_their_results_answered() {
    let mock = mock().await;
    let asked = with(chat("m"), &weather_tool());
    let body = post(&mock, CHAT, &asked).send().await.json();
    let choice = &body["choices"][0];
    assert_eq!(choice["finish_reason"], "tool_calls");
    assert!(choice["message"]["content"].is_null());
    let call = &choice["message"]["tool_calls"][0];
    let arguments: Value =
        serde_json::from_str(call["function"]["arguments"].as_str().unwrap()).unwrap();
    assert!(
        arguments["city"].is_string() && arguments["days"].is_i64(),
        "{arguments}"
    );

    let mut answered = asked.clone();
    let messages = answered["messages"].as_array_mut().unwrap();
    messages.push(choice["message"].clone());
    messages.push(json!({"role": "tool", "tool_call_id": call["id"], "content": "rain"}));
    let body = post(&mock, CHAT, &answered).send().await.json();
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
    assert!(body["choices"][0]["message"]["content"].is_string());

    let none = with(asked, &json!({"tool_choice": "none"}));
    let body = post(&mock, CHAT, &none).send().await.json();
    assert_eq!(body["choices"][0]["finish_reason"], "stop");
}

#[tokio::test]
async fn parallel_calls_are_streamed_in_fragments() {
    let mock = mock().await;
    let asked = with(
        with(chat("m:tools=2"), &weather_tool()),
        &json!({"stream": true}),
    );
    let chunks = post(&mock, CHAT, &asked).send().await.data();
    let calls: Vec<&Value> = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].as_array())
        .flatten()
        .collect();
    for index in 0..2 {
        let parts: Vec<_> = calls.iter().filter(|call| call["index"] == index).collect();
        assert_eq!(parts[0]["function"]["name"], "get_weather");
        assert_eq!(parts[0]["function"]["arguments"], "");
        assert!(parts[1..].iter().all(|part| part.get("id").is_none()));
        let arguments: String = parts
            .iter()
            .map(|part| part["function"]["arguments"].as_str().unwrap())
            .collect();
        let arguments: Value = serde_json::from_str(&arguments).unwrap();
        assert!(arguments["city"].is_string());
    }
    assert!(chunks[0]["choices"][0]["delta"]["content"].is_null());
    assert_eq!(
        join_chunks(&chunks),
        (String::new(), Some("tool_calls".to_owned()))
    );
}

#[tokio::test]
async fn structured_answers_fit() {
    let mock = mock().await;
    let format = json!({"response_format": {"type": "json_schema", "json_schema": {
        "name": "n", "strict": true,
        "schema": {"type": "object", "properties": {"rating": {"type": "integer", "maximum": 5, "minimum": 1}},
            "required": ["rating"]}
    }}});
    let body = post(&mock, CHAT, &with(chat("m"), &format))
        .send()
        .await
        .json();
    let text = body["choices"][0]["message"]["content"].as_str().unwrap();
    let made: Value = serde_json::from_str(text).unwrap();
    assert!((1..=5).contains(&made["rating"].as_i64().unwrap()));
}

#[tokio::test]
async fn several_choices_are_answered() {
    let mock = mock().await;
    let asked = with(chat("m:tokens=4"), &json!({"n": 3}));
    let body = post(&mock, CHAT, &asked).send().await.json();
    let choices = body["choices"].as_array().unwrap();
    let texts: Vec<_> = choices
        .iter()
        .map(|choice| &choice["message"]["content"])
        .collect();
    assert_eq!(texts.len(), 3);
    assert!(texts[0] != texts[1] || texts[1] != texts[2]);
    assert_eq!(body["usage"]["completion_tokens"], 12);
    let chunks = post(&mock, CHAT, &with(asked, &json!({"stream": true})))
        .send()
        .await
        .data();
    let finished = chunks
        .iter()
        .filter(|c| c["choices"][0]["finish_reason"] == "stop")
        .count();
    assert_eq!(finished, 3);
}

#[tokio::test]
async fn reasoning_is_counted_and_not_shown() {
    let mock = mock().await;
    let asked = with(chat("m:tokens=5"), &json!({"reasoning_effort": "high"}));
    let body = post(&mock, CHAT, &asked).send().await.json();
    let reasoning = body["usage"]["completion_tokens_details"]["reasoning_tokens"]
        .as_u64()
        .unwrap();
    assert!(reasoning > 0);
    assert_eq!(body["usage"]["completion_tokens"], reasoning + 5);
}

#[tokio::test]
async fn long_and_padded_and_echoing_answers() {
    let mock = mock().await;
    let content = |body: &Value| {
        body["choices"][0]["message"]["content"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let padded = post(&mock, CHAT, &chat("m:pad=300000")).send().await.json();
    assert_eq!(content(&padded).len(), 300_000);
    let body = chat("m:echo");
    let echo = post(&mock, CHAT, &body).send().await.json();
    let sent = body.to_string();
    let hash = {
        use sha2::Digest as _;
        sha2::Sha256::digest(sent.as_bytes())
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<String>()
    };
    assert_eq!(
        content(&echo),
        format!("sha256={hash} bytes={}", sent.len())
    );
    let short = with(chat("m"), &json!({"max_tokens": 2}));
    let body = post(&mock, CHAT, &short).send().await.json();
    assert_eq!(body["choices"][0]["finish_reason"], "length");
    assert_eq!(body["usage"]["completion_tokens"], 2);
}

#[tokio::test]
async fn completions_are_answered_whole_and_streamed() {
    let mock = mock().await;
    let asked = json!({"model": "m:tokens=6", "prompt": "Once"});
    let body = post(&mock, "/v1/completions", &asked).send().await.json();
    assert_eq!(body["object"], "text_completion");
    assert_eq!(body["usage"]["completion_tokens"], 6);
    let asked = with(
        asked,
        &json!({"stream": true, "stream_options": {"include_usage": true}}),
    );
    let reply = post(&mock, "/v1/completions", &asked).send().await;
    assert_eq!(reply.events().last().unwrap().1, "[DONE]");
    let chunks = reply.data();
    let text: String = chunks
        .iter()
        .filter_map(|chunk| chunk["choices"][0]["text"].as_str())
        .collect();
    assert_eq!(body["choices"][0]["text"], text);
    assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 6);
}

#[tokio::test]
async fn embeddings_come_in_both_encodings() {
    let mock = mock().await;
    let asked = json!({"model": "m", "input": ["a", "b"], "dimensions": 8});
    let body = post(&mock, "/v1/embeddings", &asked).send().await.json();
    assert_eq!(body["object"], "list");
    assert_eq!(body["data"].as_array().unwrap().len(), 2);
    assert_eq!(body["data"][1]["embedding"].as_array().unwrap().len(), 8);
    assert_eq!(
        body["usage"]["total_tokens"],
        body["usage"]["prompt_tokens"]
    );
    let asked = with(asked, &json!({"encoding_format": "base64"}));
    let body = post(&mock, "/v1/embeddings", &asked).send().await.json();
    assert_eq!(body["data"][0]["embedding"].as_str().unwrap().len(), 44);
    let record = &mock.meter().requests(1, |_| true)[0];
    assert_eq!((record.usage.input, record.usage.output), (2, 0));
}

#[tokio::test]
async fn models_are_listed_in_the_shape_asked_for() {
    let mock = mock().await;
    let listed = get(&mock, "/v1/models").send().await.json();
    assert_eq!(
        (&listed["object"], &listed["data"][0]["object"]),
        (&json!("list"), &json!("model"))
    );
    let anthropic = get(&mock, "/v1/models")
        .header("anthropic-version", "2023-06-01")
        .send()
        .await
        .json();
    assert_eq!(anthropic["has_more"], false);
    assert_eq!(anthropic["data"][0]["type"], "model");
    assert_eq!(
        get(&mock, "/v1/models/mock-gpt").send().await.json()["id"],
        "mock-gpt"
    );
    assert_eq!(get(&mock, "/v1/models/none").send().await.status, 404);
    assert_eq!(
        get(&mock, "/v1/models")
            .header("x-mock-status", "503")
            .send()
            .await
            .status,
        503
    );
}

#[tokio::test]
async fn faulty_requests_are_refused_in_shape() {
    let mock = mock().await;
    let body = |text: &str| post(&mock, CHAT, &json!(null)).body(text);
    for (request, status) in [
        (body(""), 400),
        (body("{"), 400),
        (body("[]"), 400),
        (body(r#"{"messages":[]}"#), 400),
        (body(r#"{"model":3}"#), 400),
        (body(r#"{"model":"m","stream":"yes","messages":[]}"#), 400),
        (body("\u{0}\u{1}"), 400),
        (body(&"[".repeat(100_000)), 400),
        (post(&mock, CHAT, &chat("m:stauts=1")), 400),
        (
            post(&mock, CHAT, &chat("m")).header("x-mock-nope", "1"),
            400,
        ),
        (get(&mock, CHAT), 405),
        (get(&mock, "/nowhere"), 404),
        (get(&mock, "/v1"), 404),
    ] {
        let reply = request.send().await;
        assert_eq!(reply.status, status, "{}", reply.text());
        let error = &reply.json()["error"];
        for field in ["message", "type", "param", "code"] {
            assert!(error.get(field).is_some(), "{error}");
        }
    }
}
