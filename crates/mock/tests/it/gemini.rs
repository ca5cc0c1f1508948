//! Gemini: whole answers, streams, counts, errors and models.

use llm_router_mock::{MockConfig, MockProvider};
use serde_json::{Value, json};

use crate::client::{StreamReply, get, mock, post};

const MODEL: &str = "/v1beta/models/gemini-3-pro";

fn ask(more: &Value) -> Value {
    let mut body =
        json!({"contents": [{"role": "user", "parts": [{"text": "Explain backpressure"}]}]});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    body
}

fn tools() -> Value {
    json!([{"functionDeclarations": [{"name": "get_weather", "parametersJsonSchema": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}]}])
}

fn texts(reply: &StreamReply) -> String {
    let part = |event: &Value| {
        let part = &event["candidates"][0]["content"]["parts"][0];
        part["text"].as_str().map(str::to_owned)
    };
    reply.data().iter().filter_map(part).collect()
}

#[tokio::test]
async fn streams_say_what_whole_answers_say() {
    let mock = mock().await;
    let path = format!("{MODEL}%3Atokens%3D9:generateContent");
    let whole = post(&mock, &path, &ask(&json!({}))).send().await.json();
    assert_eq!(whole["candidates"][0]["finishReason"], "STOP");
    assert_eq!(whole["usageMetadata"]["candidatesTokenCount"], 9);
    let path = format!("{MODEL}%3Atokens%3D9:streamGenerateContent?alt=sse");
    let streamed = post(&mock, &path, &ask(&json!({}))).send().await;
    assert!(streamed.headers["content-type"].starts_with("text/event-stream"));
    assert_eq!(
        whole["candidates"][0]["content"]["parts"][0]["text"],
        texts(&streamed)
    );
    let last = streamed.data().pop().unwrap();
    assert_eq!(last["candidates"][0]["finishReason"], "STOP");
    assert_eq!(last["usageMetadata"], whole["usageMetadata"]);
    assert!(!streamed.text().contains("[DONE]"));
    let list = post(
        &mock,
        &format!("{MODEL}:streamGenerateContent"),
        &ask(&json!({})),
    );
    assert_eq!(list.send().await.json().as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn calls_are_whole_and_the_first_is_signed() {
    let mock = mock().await;
    let path = format!("{MODEL}:streamGenerateContent?alt=sse");
    let body = ask(&json!({"tools": tools()}));
    let reply = post(&mock, &path, &body)
        .header("x-mock-tools", "2")
        .send()
        .await;
    let parts: Vec<Value> = reply
        .data()
        .iter()
        .map(|event| event["candidates"][0]["content"]["parts"][0].clone())
        .filter(|part| part["functionCall"].is_object())
        .collect();
    assert_eq!(parts.len(), 2);
    assert!(parts[0]["functionCall"]["args"]["city"].is_string());
    assert!(parts[0]["thoughtSignature"].is_string() && parts[1]["thoughtSignature"].is_null());

    let result =
        json!({"functionResponse": {"name": "get_weather", "response": {"output": "sun"}}});
    let mut contents = body["contents"].as_array().unwrap().clone();
    contents.push(json!({"role": "model", "parts": parts}));
    contents.push(json!({"role": "user", "parts": [result.clone(), result]}));
    let next = ask(&json!({"tools": tools(), "contents": contents}));
    let answer = post(&mock, &format!("{MODEL}:generateContent"), &next);
    let answer = answer.send().await.json();
    assert!(answer["candidates"][0]["content"]["parts"][0]["text"].is_string());
}

#[tokio::test]
async fn thoughts_come_on_top_and_counts_are_free() {
    let mock = mock().await;
    let config = json!({"generationConfig": {"thinkingConfig": {
        "includeThoughts": true, "thinkingLevel": "low"}}});
    let path = format!("{MODEL}:generateContent");
    let answer = post(&mock, &path, &ask(&config)).send().await.json();
    let parts = &answer["candidates"][0]["content"]["parts"];
    assert_eq!(parts[0]["thought"], true);
    let usage = &answer["usageMetadata"];
    let count = |name: &str| usage[name].as_u64().unwrap();
    assert_eq!(
        count("totalTokenCount"),
        count("promptTokenCount") + count("candidatesTokenCount") + count("thoughtsTokenCount")
    );
    let request = json!({"generateContentRequest": ask(&json!({"model": "models/gemini-3-pro"}))});
    let counted = post(&mock, &format!("{MODEL}:countTokens"), &request);
    let counted = counted.send().await.json();
    assert_eq!(counted["totalTokens"], usage["promptTokenCount"]);
    assert_eq!(
        mock.meter().totals().ended.usage.input,
        count("promptTokenCount")
    );
}

#[tokio::test]
async fn errors_are_googles() {
    let config = MockConfig {
        require_key: Some("right".into()),
        ..MockConfig::default()
    };
    let mock = MockProvider::start(config).await.unwrap();
    let path = format!("{MODEL}:generateContent");
    for (name, key, status, word) in [
        ("x-goog-api-key", "wrong", 400, "INVALID_ARGUMENT"),
        ("authorization", "Bearer right", 400, "INVALID_ARGUMENT"),
        ("x-goog-api-key", "right", 429, "RESOURCE_EXHAUSTED"),
    ] {
        let request = post(&mock, &path, &ask(&json!({}))).header(name, key);
        let reply = request.header("x-mock-status", "429").send().await;
        assert_eq!(reply.status, status, "{name}: {key}");
        let error = &reply.json()["error"];
        assert_eq!(
            (&error["code"], &error["status"]),
            (&json!(status), &json!(word))
        );
        let cause = (status == 400).then_some("API_KEY_INVALID");
        assert_eq!(error["details"][0]["reason"].as_str(), cause);
    }
    let stream = post(
        &mock,
        &format!("{MODEL}:streamGenerateContent?alt=sse"),
        &ask(&json!({})),
    );
    let stream = stream.header("x-goog-api-key", "right");
    let cut = stream.header("x-mock-error-after", "2").send().await;
    assert_eq!(cut.data().pop().unwrap()["error"]["status"], "UNAVAILABLE");
    let listed = get(&mock, "/v1beta/models").header("x-goog-api-key", "right");
    assert!(
        listed.send().await.json()["models"][0]["name"]
            .as_str()
            .unwrap()
            .starts_with("models/")
    );
}
