//! Conversations over several turns: what stands for earlier turns is carried, taken out by name or
//! refused in words that SDKs act on. How each field converts is tested beside the formats.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Answer, Gateway, GatewayBuilder, gateway};

/// A provider that answers every request alike and keeps what it was asked.
struct Scripted {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Scripted {
    async fn run(status: u16, media_type: &'static str, body: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::default();
        let log = Arc::clone(&asked);
        let answer = format!(
            "HTTP/1.1 {status} X\r\ncontent-type: {media_type}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answer.clone(), Arc::clone(&log)));
            }
        });
        Self { address, asked }
    }

    /// A provider of this type and id, for the gateway.
    fn add(&self, gateway: GatewayBuilder, id: &str, kind: &str) -> GatewayBuilder {
        gateway.provider_at(id, kind, &format!("http://{}/v1", self.address))
    }

    fn last(&self) -> Value {
        let asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.last().cloned().unwrap_or_default()
    }
}

async fn serve(mut stream: TcpStream, answer: String, log: Arc<Mutex<Vec<Value>>>) {
    let (mut held, mut buffer) = (Vec::new(), [0; 16_384]);
    loop {
        let Ok(1..) = stream.read(&mut buffer).await.map(|read| {
            held.extend_from_slice(&buffer[..read]);
            read
        }) else {
            return;
        };
        let text = String::from_utf8_lossy(&held).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .map_or(0, |(_, length)| length.parse().unwrap());
        if body.len() < length {
            continue;
        }
        if let Ok(body) = serde_json::from_str(body) {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.push(body);
        }
        held.clear();
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

const MESSAGE: &str = r#"{"id":"msg_1","type":"message","role":"assistant","model":"claude-sonnet-4-5","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn","stop_sequence":null,"usage":{"input_tokens":3,"output_tokens":1}}"#;
const MESSAGE_EVENTS: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-sonnet-4-5\",\"content\":[],\"usage\":{\"input_tokens\":3,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"hi\"}}\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"},\"usage\":{\"output_tokens\":1}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

async fn ask(gateway: &Gateway, path: &str, body: Value) -> Answer {
    let headers = [("anthropic-version", "2023-06-01")];
    gateway.send("POST", path, &headers, body.to_string()).await
}

fn message(model: &str, more: Value) -> Value {
    let mut body = json!({"model": model, "max_tokens": 9_000,
        "messages": [{"role": "user", "content": "and in Rome?"}]});
    let fields = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    body
}

#[tokio::test]
async fn a_thread_goes_to_anthropic_alone() {
    let anthropic = Scripted::run(200, "application/json", MESSAGE.to_owned()).await;
    let other = Scripted::run(200, "application/json", "{}".to_owned()).await;
    let mut builder = anthropic.add(gateway(), "ant", "anthropic");
    for (id, kind) in [("oai", "openai"), ("cus", "custom"), ("gem", "gemini")] {
        builder = other.add(builder, id, kind);
    }
    let gateway = builder.run().await;
    let thread = json!({"thread": {"type": "continue", "previous_message_id": "msg_x"}});
    for model in ["oai/gpt-4o", "cus/x", "gem/gemini-2.5-flash"] {
        let answer = ask(&gateway, "/v1/messages", message(model, thread.clone())).await;
        assert_eq!(answer.status, 400, "{model}: {answer:?}");
        let details =
            json!({"error_code": "thread_unsupported_request", "unsupported": ["thread"]});
        assert_eq!(answer.json()["error"]["details"], details, "{model}");
    }
    assert_eq!(other.last(), Value::Null);
    let body = message("ant/claude-sonnet-4-5", thread.clone());
    assert_eq!(ask(&gateway, "/v1/messages", body).await.status, 200);
    assert_eq!(anthropic.last()["thread"], thread["thread"]);
}

#[tokio::test]
async fn details_of_a_failure_reach_the_sdk() {
    for status in [400, 404, 409, 429, 500, 529] {
        let error = json!({"type": "error", "error": {"type": "conflict_error", "message": "busy",
            "details": {"error_code": "thread_continue_in_flight"}}});
        let anthropic = Scripted::run(status, "application/json", error.to_string()).await;
        let gateway = anthropic.add(gateway(), "ant", "anthropic").run().await;
        let body = message("ant/claude-sonnet-4-5", json!({}));
        let answer = ask(&gateway, "/v1/messages", body).await;
        let error = &answer.json()["error"];
        assert_eq!(answer.status, status, "{error}");
        assert_eq!(
            error["details"]["error_code"], "thread_continue_in_flight",
            "{status}"
        );
    }
}

#[tokio::test]
async fn thinking_is_not_asked_for_where_its_thoughts_are_lost() {
    let anthropic = Scripted::run(200, "application/json", MESSAGE.to_owned()).await;
    let gateway = anthropic.add(gateway(), "ant", "anthropic").run().await;
    let result = json!({"type": "tool_result", "tool_use_id": "c1", "content": "ok"});
    let call = json!({"type": "tool_use", "id": "c1", "name": "f", "input": {}});
    let thought = json!({"type": "thinking", "thinking": "b", "signature": ""});
    for (blocks, dropped) in [
        (
            json!([thought, call]),
            "messages.content.thinking, thinking",
        ),
        (json!([call]), "thinking"),
    ] {
        let more = json!({"thinking": {"type": "enabled", "budget_tokens": 2_000}, "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": blocks},
            {"role": "user", "content": [result]}]});
        let answer = ask(
            &gateway,
            "/v1/messages",
            message("ant/claude-sonnet-4-5", more),
        )
        .await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.header("x-llm-router-dropped"), Some(dropped));
        let sent = anthropic.last();
        assert_eq!(sent.get("thinking"), None);
        assert_eq!(sent["messages"][1]["content"], json!([call]));
    }
}

#[tokio::test]
async fn a_public_name_answers_as_asked_where_agents_need_it() {
    let chat = r#"{"id":"c","object":"chat.completion","created":1,"model":"gpt-4o-2024","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":3,"completion_tokens":1,"total_tokens":4}}"#;
    let plain = Scripted::run(200, "application/json", MESSAGE.to_owned()).await;
    let events = Scripted::run(200, "text/event-stream", MESSAGE_EVENTS.to_owned()).await;
    let openai = Scripted::run(200, "application/json", chat.to_owned()).await;
    let builder = plain.add(gateway(), "plain", "anthropic");
    let builder = events.add(builder, "events", "anthropic");
    let mut builder = openai.add(builder, "oai", "openai");
    for (name, provider, model, answers_as) in [
        ("strong", "plain", "claude-sonnet-4-5", None),
        ("strong-stream", "events", "claude-sonnet-4-5", None),
        ("strong-oai", "oai", "gpt-4o", None),
        ("plain-served", "plain", "claude-sonnet-4-5", Some("served")),
        ("oai-asked", "oai", "gpt-4o", Some("asked")),
    ] {
        let mut public =
            json!({"name": name, "deployments": [{"provider": provider, "model": model}]});
        if let Some(word) = answers_as {
            public["answers_as"] = word.into();
        }
        builder = builder.add("models", public);
    }
    let gateway = builder.run().await;
    for (path, model, stream, named, served) in [
        (
            "/v1/messages",
            "strong",
            false,
            "strong",
            "claude-sonnet-4-5",
        ),
        (
            "/v1/messages",
            "strong-stream",
            true,
            "strong-stream",
            "claude-sonnet-4-5",
        ),
        ("/v1/messages", "strong-oai", false, "strong-oai", "gpt-4o"),
        (
            "/v1/messages",
            "plain-served",
            false,
            "claude-sonnet-4-5",
            "claude-sonnet-4-5",
        ),
        (
            "/v1/messages",
            "plain/claude-sonnet-4-5",
            false,
            "claude-sonnet-4-5",
            "claude-sonnet-4-5",
        ),
        (
            "/v1/chat/completions",
            "strong-oai",
            false,
            "gpt-4o-2024",
            "gpt-4o",
        ),
        (
            "/v1/chat/completions",
            "oai-asked",
            false,
            "oai-asked",
            "gpt-4o",
        ),
        (
            "/v1/chat/completions",
            "strong",
            false,
            "claude-sonnet-4-5",
            "claude-sonnet-4-5",
        ),
    ] {
        let answer = ask(&gateway, path, message(model, json!({"stream": stream}))).await;
        assert_eq!(answer.status, 200, "{path} {model}: {answer:?}");
        let text = String::from_utf8(answer.body.clone()).unwrap();
        let expected = format!("\"model\":\"{named}\"");
        assert!(
            text.contains(&expected) && text.contains("hi"),
            "{path} {model}: {text}"
        );
        assert_eq!(answer.header("x-llm-router-model"), Some(served), "{model}");
        if model == "strong-stream" {
            let renamed = MESSAGE_EVENTS.replace("\"claude-sonnet-4-5\"", "\"strong-stream\"");
            assert_eq!(text, renamed);
        }
    }
}
