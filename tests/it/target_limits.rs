//! Requests fitted to the limits of each candidate before they are sent.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, GatewayBuilder, eventually, gateway};

/// Providers of every format on one port: what is sent below `/down` is refused with 503.
#[derive(Clone, Default)]
struct CapturingUpstream(Arc<Mutex<Vec<(String, Vec<u8>)>>>);

impl CapturingUpstream {
    async fn start(&self) -> String {
        let router = Router::new().fallback(answer).with_state(self.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        format!("http://{address}")
    }

    /// The bodies that came since the last call.
    fn take(&self) -> Vec<Value> {
        let seen = std::mem::take(&mut *self.0.lock().unwrap());
        let body = |(_, body): (String, Vec<u8>)| serde_json::from_slice(&body).unwrap();
        seen.into_iter().map(body).collect()
    }

    /// The one body that came since the last call, as it was sent.
    fn take_text(&self) -> String {
        let mut seen = std::mem::take(&mut *self.0.lock().unwrap());
        assert_eq!(seen.len(), 1, "{seen:?}");
        String::from_utf8(seen.remove(0).1).unwrap()
    }
}

/// Answers in the format that was asked in; calls the first tool if there are any.
async fn answer(State(upstream): State<CapturingUpstream>, uri: Uri, sent: Bytes) -> Response {
    let path = uri.path().to_owned();
    let body: Value = serde_json::from_slice(&sent).unwrap();
    upstream
        .0
        .lock()
        .unwrap()
        .push((path.clone(), sent.to_vec()));
    if path.starts_with("/down") {
        let error = json!({ "error": { "message": "down", "type": "server_error" } });
        return (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response();
    }
    let stream = body["stream"] == true || path.ends_with(":streamGenerateContent");
    let events = if path.ends_with("/messages") {
        anthropic(stream)
    } else if path.contains("/models/") {
        gemini(&body["tools"][0]["functionDeclarations"][0]["name"])
    } else {
        chat(&body["tools"][0]["function"]["name"], stream)
    };
    if stream {
        let line = |event: &Value| match event["type"].as_str() {
            Some(kind) => format!("event: {kind}\ndata: {event}\n\n"),
            None => format!("data: {event}\n\n"),
        };
        let text: String = events.iter().map(line).collect();
        return ([("content-type", "text/event-stream")], text).into_response();
    }
    (
        [("content-type", "application/json")],
        events[0].to_string(),
    )
        .into_response()
}

fn chat(tool: &Value, stream: bool) -> Vec<Value> {
    let call = json!([{ "index": 0, "id": "c9", "type": "function",
        "function": { "name": tool, "arguments": "{}" } }]);
    let said = match tool {
        Value::Null => json!({ "role": "assistant", "content": "hi" }),
        _ => json!({ "role": "assistant", "tool_calls": call }),
    };
    let usage = json!({ "prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7 });
    let whole = |field: &str, said: &Value, finish: Value| {
        let choice = json!({ "index": 0, "finish_reason": finish, field: said });
        json!({ "id": "c", "created": 1, "model": "m", "choices": [choice], "usage": usage })
    };
    if stream {
        let end = whole("delta", &json!({}), json!("stop"));
        return vec![whole("delta", &said, Value::Null), end];
    }
    vec![whole("message", &said, json!("stop"))]
}

fn anthropic(stream: bool) -> Vec<Value> {
    let text = json!({ "type": "text", "text": "hi" });
    let usage = json!({ "input_tokens": 3, "output_tokens": 4 });
    let whole = |content: Value| {
        json!({ "id": "m", "type": "message", "role": "assistant", "model": "m",
            "content": content, "stop_reason": "end_turn", "usage": usage })
    };
    if stream {
        return vec![
            json!({ "type": "message_start", "message": whole(json!([])) }),
            json!({ "type": "content_block_start", "index": 0, "content_block": text }),
            json!({ "type": "content_block_stop", "index": 0 }),
            json!({ "type": "message_delta", "delta": { "stop_reason": "end_turn" }, "usage": usage }),
            json!({ "type": "message_stop" }),
        ];
    }
    vec![whole(json!([text]))]
}

fn gemini(tool: &Value) -> Vec<Value> {
    let part = match tool {
        Value::Null => json!({ "text": "hi" }),
        _ => json!({ "functionCall": { "name": tool, "args": {} } }),
    };
    vec![
        json!({ "responseId": "g", "candidates": [{ "index": 0, "finishReason": "STOP",
        "content": { "role": "model", "parts": [part] } }],
        "usageMetadata": { "promptTokenCount": 3, "candidatesTokenCount": 4, "totalTokenCount": 7 } }),
    ]
}

/// A provider of each type, and one of each that fails.
fn providers(url: &str) -> GatewayBuilder {
    let mut builder = gateway();
    for kind in ["openai", "anthropic", "gemini", "custom"] {
        let version = if kind == "gemini" { "v1beta" } else { "v1" };
        builder = builder
            .provider_at(kind, kind, &format!("{url}/{version}"))
            .provider_at(
                &format!("{kind}-down"),
                kind,
                &format!("{url}/down/{version}"),
            );
    }
    builder
}

fn strict(builder: GatewayBuilder, url: &str, kind: &str) -> GatewayBuilder {
    let provider = json!({ "id": format!("{kind}-strict"), "type": kind,
        "base_url": format!("{url}/v1"), "api_key": "${CREDENTIAL}", "compat": "strict" });
    builder.add("providers", provider)
}

fn either(builder: GatewayBuilder, name: &str, deployments: &[(&str, &str)]) -> GatewayBuilder {
    let deployment =
        |(provider, model): &(&str, &str)| json!({ "provider": provider, "model": model });
    let deployments: Vec<_> = deployments.iter().map(deployment).collect();
    let model = json!({ "name": name, "strategy": "priority", "deployments": deployments });
    builder.add("models", model)
}

async fn messages(gateway: &Gateway, model: &str, more: &Value) -> Answer {
    let mut body = json!({ "model": model, "max_tokens": 50,
        "messages": [{ "role": "user", "content": "x" }] });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    gateway
        .send(
            "POST",
            "/v1/messages",
            &[("anthropic-version", "2023-06-01")],
            body.to_string(),
        )
        .await
}

#[tokio::test]
async fn a_ceiling_is_lowered_to_that_of_each_candidate() {
    let upstream = CapturingUpstream::default();
    let url = upstream.start().await;
    let builder = strict(strict(providers(&url), &url, "openai"), &url, "anthropic");
    let builder = either(
        builder,
        "fast",
        &[("openai-down", "gpt-4.1"), ("openai", "gpt-4o-mini")],
    );
    let builder = either(
        builder,
        "mixed",
        &[
            ("openai-down", "gpt-4o-mini"),
            ("anthropic", "claude-3-haiku-20240307"),
        ],
    );
    let builder = either(
        builder,
        "careful",
        &[("openai-strict", "gpt-4o-mini"), ("openai", "gpt-4.1")],
    );
    let gateway = builder.run().await;
    for stream in [false, true] {
        let more = |asked: u64| json!({ "max_tokens": asked, "stream": stream });
        let sent = |field: &str| -> Vec<Value> {
            upstream
                .take()
                .iter()
                .map(|body| body[field].clone())
                .collect()
        };
        let dropped = |answer: &Answer| answer.header("x-llm-router-dropped").map(str::to_owned);

        let answer = messages(&gateway, "fast", &more(40_000)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(sent("max_completion_tokens"), [32_768, 16_384]);
        assert_eq!(dropped(&answer).as_deref(), Some("max_tokens"));
        // Only what the last candidate was sent is named.
        let answer = messages(&gateway, "openai/gpt-4o-mini", &more(16_384)).await;
        assert_eq!(
            (sent("max_completion_tokens"), dropped(&answer)),
            (vec![json!(16_384)], None)
        );

        let answer = messages(&gateway, "mixed", &more(16_000)).await;
        let bodies = upstream.take();
        assert_eq!(bodies[0]["max_completion_tokens"], 16_000);
        assert_eq!(bodies[1]["max_tokens"], 4_096);
        assert_eq!(dropped(&answer).as_deref(), Some("max_tokens"));

        let answer = messages(&gateway, "custom/homemade", &more(99_999)).await;
        assert_eq!(
            (sent("max_tokens"), dropped(&answer)),
            (vec![json!(99_999)], None)
        );

        let answer = messages(&gateway, "careful", &more(32_000)).await;
        assert_eq!(answer.header("x-llm-router-attempts"), Some("1"));
        assert_eq!(
            (sent("max_completion_tokens"), dropped(&answer)),
            (vec![json!(32_000)], None)
        );
        for model in [
            "openai-strict/gpt-4o-mini",
            "anthropic-strict/claude-3-haiku-20240307",
        ] {
            let answer = messages(&gateway, model, &more(32_000)).await;
            assert_eq!(answer.status, 400, "{answer:?}");
            let text = String::from_utf8(answer.body).unwrap();
            assert!(text.contains("max_tokens"), "{text}");
            assert_eq!(upstream.take().len(), 0);
        }
    }
}

#[tokio::test]
async fn within_one_format_only_the_ceiling_changes() {
    let upstream = CapturingUpstream::default();
    let url = upstream.start().await;
    let gateway = providers(&url).run().await;
    for (path, sent, expected, named) in [
        (
            "/v1/chat/completions",
            r#"{ "model":"openai/gpt-4o-mini", "max_tokens" : 32000, "messages":[{"role":"user","content":"x "}], "user":"alice@example.com","x":1.0}"#,
            r#"{ "model":"gpt-4o-mini", "max_tokens" : 16384, "messages":[{"role":"user","content":"x "}], "user":"alice@example.com","x":1.0}"#,
            Some("max_tokens"),
        ),
        (
            "/v1/messages",
            r#"{"model":"anthropic/claude-3-haiku-20240307","max_tokens":16000,"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y "}],"metadata":{"user_id":"alice@example.com"}}"#,
            r#"{"model":"claude-3-haiku-20240307","max_tokens":4096,"messages":[{"role":"user","content":"x"},{"role":"assistant","content":"y "}],"metadata":{"user_id":"alice@example.com"}}"#,
            Some("max_tokens"),
        ),
        (
            "/v1/chat/completions",
            r#"{"model":"custom/gpt-4o-mini","max_tokens":32000,"messages":[]}"#,
            r#"{"model":"gpt-4o-mini","max_tokens":32000,"messages":[]}"#,
            None,
        ),
    ] {
        let answer = gateway.send("POST", path, &[], sent.to_owned()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(upstream.take_text(), expected);
        assert_eq!(answer.header("x-llm-router-dropped"), named);
    }
}

#[tokio::test]
async fn the_ledger_keeps_the_user_that_a_provider_gets_as_a_hash() {
    let upstream = CapturingUpstream::default();
    let url = upstream.start().await;
    let gateway = providers(&url).run().await;
    let user = format!(
        "user_{}_account_{}_session_{}",
        "a".repeat(64),
        "b".repeat(36),
        "c".repeat(36)
    );
    let more = json!({ "metadata": { "user_id": user } });
    let mut hashes = Vec::new();
    for _ in 0..2 {
        let answer = messages(&gateway, "openai/gpt-4o", &more).await;
        assert_eq!(
            answer.header("x-llm-router-dropped"),
            Some("metadata.user_id")
        );
        let sent = upstream.take().remove(0);
        hashes.push(sent["user"].as_str().unwrap().to_owned());
        assert!(hashes[0].len() <= 64);
        let id = answer.header("x-request-id").unwrap();
        let path = format!("/api/v1/requests/{id}");
        eventually("it is in the ledger", || async {
            gateway.admin(&path, None).await.json()["user"] == user
        })
        .await;
    }
    assert_eq!(hashes[0], hashes[1]);
}

#[tokio::test]
async fn ids_and_names_of_tools_go_out_fitted_and_come_back_as_the_client_knows_them() {
    let upstream = CapturingUpstream::default();
    let url = upstream.start().await;
    let gateway = providers(&url).run().await;
    let id = format!("toolu_{}", "v".repeat(40));
    let name = "7zip.list files";
    for (model, stream) in [
        ("openai/gpt-4o", false),
        ("openai/gpt-4o", true),
        ("gemini/gemini-2.5-flash", false),
        ("gemini/gemini-2.5-flash", true),
    ] {
        let more = json!({ "stream": stream,
            "tools": [{ "name": name, "input_schema": { "type": "object" } }],
            "messages": [{ "role": "user", "content": "x" },
                { "role": "assistant", "content": [
                    { "type": "tool_use", "id": id, "name": name, "input": {} }] },
                { "role": "user", "content": [
                    { "type": "tool_result", "tool_use_id": id, "content": "y" }] }] });
        let answer = messages(&gateway, model, &more).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("x-llm-router-dropped"), None);
        let sent = upstream.take_text();
        assert!(!sent.contains(name), "{sent}");
        let text = String::from_utf8(answer.body).unwrap();
        assert!(text.contains(&format!("\"name\":\"{name}\"")), "{text}");
        if model.starts_with("openai") {
            let sent: Value = serde_json::from_str(&sent).unwrap();
            let call = sent["messages"][1]["tool_calls"][0]["id"].as_str().unwrap();
            assert_eq!(sent["messages"][2]["tool_call_id"], call);
            assert_eq!(call.len(), 40);
            let parameters = &sent["tools"][0]["function"]["parameters"];
            assert_eq!(parameters, &json!({ "type": "object", "properties": {} }));
        }
    }
}
