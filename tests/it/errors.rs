//! Errors come in the caller's format, with the contract's status and code.

use serde_json::Value;

use crate::harness::{CREDENTIAL, KEY, chat_body, free_address, gateway, messages_body, mock, raw};

const VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

#[tokio::test]
#[expect(
    clippy::too_many_lines,
    clippy::type_complexity,
    reason = "a table of cases"
)]
async fn the_routers_own_errors() {
    let mock = mock().await;
    let gateway = gateway()
        .provider("up", &mock)
        .provider_at("openai-only", "custom", &mock.base_url())
        .model("fast", "up", "mock-gpt")
        .add(
            "keys",
            serde_json::json!({
            "name": "narrow", "key": "sk-narrow-key-0123456789", "models": ["fast"] }),
        )
        .run()
        .await;
    let chat = |model: &str| chat_body(model, false);
    let narrow = ("authorization", "Bearer sk-narrow-key-0123456789");
    let unknown = ("authorization", "Bearer sk-unknown-key");
    let cases: &[(&str, &str, &[(&str, &str)], String, u16, &str)] = &[
        (
            "POST",
            "/v1/chat/completions",
            &[unknown],
            chat("fast"),
            401,
            "invalid_api_key",
        ),
        (
            "POST",
            "/v1/chat/completions",
            &[("x-api-key", "other")],
            chat("fast"),
            401,
            "invalid_api_key",
        ),
        (
            "POST",
            "/v1/chat/completions",
            &[narrow],
            chat("up/mock-gpt"),
            403,
            "permission_denied",
        ),
        (
            "POST",
            "/v1/chat/completions",
            &[narrow],
            chat("fast"),
            200,
            "",
        ),
        (
            "POST",
            "/v1/chat/completions",
            &[narrow],
            chat("nowhere/x"),
            403,
            "permission_denied",
        ),
        (
            "POST",
            "/v1/chat/completions",
            &[],
            "{\"model\": 1}".into(),
            400,
            "invalid_value",
        ),
        (
            "POST",
            "/v1/chat/completions",
            &[],
            "[]".into(),
            400,
            "invalid_json",
        ),
        (
            "POST",
            "/v1/chat/completions",
            &[("content-encoding", "gzip")],
            chat("fast"),
            415,
            "unsupported_content_encoding",
        ),
        (
            "GET",
            "/v1/chat/completions",
            &[],
            String::new(),
            405,
            "method_not_allowed",
        ),
        ("POST", "/v1/nothing", &[], String::new(), 404, "not_found"),
        (
            "GET",
            "/nothing",
            &[unknown],
            String::new(),
            401,
            "invalid_api_key",
        ),
        (
            "POST",
            "/v1/messages",
            &[VERSION],
            messages_body("openai-only/x:status=404", false),
            404,
            "",
        ),
    ];
    for (method, path, headers, body, status, code) in cases {
        let answer = gateway.send(method, path, headers, body.clone()).await;
        let shown = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(
            answer.status, *status,
            "{method} {path} {headers:?} {body}: {shown}"
        );
        assert!(
            answer
                .header("x-request-id")
                .is_some_and(|id| id.starts_with("req_"))
        );
        let allow = (*status == 405).then_some("POST");
        assert_eq!(answer.header("allow"), allow, "{shown}");
        if path.ends_with("messages") {
            let json = answer.json();
            assert_eq!(json["type"], "error", "{shown}");
            assert_eq!(json["request_id"], answer.header("x-request-id").unwrap());
        } else {
            assert_eq!(answer.code(), *code, "{shown}");
        }
    }
}

#[tokio::test]
async fn unknown_models_are_404() {
    let mock = mock().await;
    let gateway = gateway()
        .add(
            "providers",
            serde_json::json!({
            "id": "up", "type": "mock", "base_url": mock.base_url(), "models": ["mock-gpt"] }),
        )
        .run()
        .await;
    for model in ["nothing", "up/nothing", "nobody/mock-gpt", "auto"] {
        let answer = gateway.chat(model, &[]).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (404, "model_not_found"),
            "{model}"
        );
        let body = messages_body(model, false);
        let answer = gateway.send("POST", "/v1/messages", &[VERSION], body).await;
        assert_eq!(answer.json()["error"]["type"], "not_found_error", "{model}");
    }
}

#[tokio::test]
async fn health_needs_no_key_and_ids_are_kept() {
    let gateway = gateway().run().await;
    let client = reqwest::Client::new();
    for path in ["/healthz", "/readyz"] {
        let answer = client
            .get(format!("{}{path}", gateway.url))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200, "{path}");
    }
    let sane = gateway
        .send("GET", "/v1/models", &[("x-request-id", "my-id.1")], "")
        .await;
    assert_eq!(sane.header("x-request-id"), Some("my-id.1"));
    let wild = gateway
        .send("GET", "/v1/models", &[("x-request-id", "a b<script>")], "")
        .await;
    assert!(wild.header("x-request-id").unwrap().starts_with("req_"));
}

#[tokio::test]
async fn a_providers_refusal_is_passed_on() {
    let mock = mock().await;
    let gateway = gateway().provider("up", &mock).run().await;
    for status in ["400", "404", "413", "422"] {
        let answer = gateway.chat("mock-gpt", &[("x-mock-status", status)]).await;
        assert_eq!(answer.status.to_string(), status);
        assert!(
            answer.json()["error"]["message"]
                .as_str()
                .unwrap()
                .contains("mock")
        );
        assert_eq!(answer.header("x-llm-router-provider"), Some("up"));
    }
}

#[tokio::test]
async fn a_providers_failure_is_told_once_and_for_all() {
    let mock = mock().await;
    let gateway = gateway().provider("up", &mock).run().await;
    for (status, kind) in [
        ("429", "rate_limit_error"),
        ("500", "api_error"),
        ("529", "overloaded_error"),
    ] {
        let headers = [
            ("x-mock-status", status),
            ("x-mock-retry-after", "7"),
            VERSION,
        ];
        let chat = gateway.chat("mock-gpt", &headers).await;
        assert_eq!(chat.status.to_string(), status);
        assert_ne!(chat.code(), "upstream_error");
        assert_eq!(chat.header("x-should-retry"), Some("false"));
        assert_eq!(chat.header("retry-after"), Some("7"));
        assert!(
            chat.json()["error"]["message"]
                .as_str()
                .unwrap()
                .contains("mock failed")
        );
        let body = messages_body("mock-claude", false);
        let messages = gateway.send("POST", "/v1/messages", &headers, body).await;
        assert_eq!(messages.json()["error"]["type"], kind);
    }
}

#[tokio::test]
async fn dead_and_silent_upstreams() {
    let mock = mock().await;
    let gateway = gateway()
        .provider("up", &mock)
        .provider_at("dead", "custom", &format!("http://{}/v1", free_address()))
        .run()
        .await;
    let dead = gateway.chat("dead/x", &[]).await;
    assert_eq!((dead.status, dead.code().as_str()), (502, "upstream_error"));
    let reset = gateway.chat("up/mock-gpt", &[("x-mock-reset", "1")]).await;
    assert_eq!(
        (reset.status, reset.code().as_str()),
        (502, "upstream_error")
    );
    let silent = gateway.chat("up/mock-gpt", &[("x-mock-hang", "1")]).await;
    assert_eq!(
        (silent.status, silent.code().as_str()),
        (504, "upstream_timeout")
    );
    assert_eq!(silent.header("x-should-retry"), Some("false"));
}

#[tokio::test]
async fn a_credential_never_comes_back() {
    // A provider that says the credential aloud, in its header and in its error's body.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 4096];
            let _ = stream.read(&mut buffer).await;
            let body = format!("{{\"error\":{{\"message\":\"bad key {CREDENTIAL}\"}}}}");
            let head = format!(
                "HTTP/1.1 400 Bad Request\r\nx-key: {CREDENTIAL}\r\ncontent-length: {}\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all((head + &body).as_bytes()).await;
        }
    });
    let url = format!("http://{address}/v1");
    let gateway = gateway().provider_at("loud", "custom", &url).run().await;
    let answer = gateway.chat("loud/x", &[]).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.header("x-key"), None);
    let message = answer.json()["error"]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        message.starts_with("bad key ***") && !message.contains(CREDENTIAL),
        "{message}"
    );
}

#[tokio::test]
async fn what_is_no_http_is_answered_or_closed() {
    let gateway = gateway().run().await;
    let long = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "a".repeat(2 << 20));
    for bytes in [
        "rubbish\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET / HTTP/1.1\r\nbad header\r\n\r\n",
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: abc\r\n\r\n",
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n",
        "CONNECT example.com:443 HTTP/1.1\r\nhost: example.com\r\n\r\n",
        &long,
    ] {
        let answer = raw(gateway.address, bytes.as_bytes()).await;
        if !answer.is_empty() {
            assert!(answer.starts_with("HTTP/1.1 4"), "{answer}");
            let body = answer.split("\r\n\r\n").nth(1).unwrap();
            let json: Value = serde_json::from_str(body).unwrap();
            assert!(json["error"]["message"].is_string(), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_body_with_bad_chunks_is_refused() {
    let mock = mock().await;
    let gateway = gateway().provider("up", &mock).run().await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    for chunks in ["zz\r\n{}\r\n0\r\n\r\n", "5\r\n{}", "-1\r\n{}\r\n"] {
        let answer = raw(gateway.address, format!("{head}{chunks}").as_bytes()).await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{chunks:?}: {answer}"
        );
    }
}
