//! The admin service over HTTP, on its own port and on the clients'.

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, KEY, gateway, mock};

async fn ours() -> (crate::harness::Mock, Gateway) {
    let up = mock().await;
    let gateway = gateway()
        .provider("up", &up)
        .model("fast", "up", "mock-gpt")
        .run()
        .await;
    (up, gateway)
}

const JSON: (&str, &str) = ("content-type", "application/json");

/// Method, path, body, the status it is answered with, and what the answer holds.
const LINES: [(&str, &str, &str, u16, &str); 15] = [
    ("POST", "/api/v1/chat/completions", CHAT, 200, "choices"),
    ("GET", "/api/v1/chat/models", "", 200, "\"fast\""),
    (
        "POST",
        "/api/v1/router/toggle",
        TOGGLE,
        202,
        "\"pending\":{",
    ),
    ("GET", "/api/v1/router/status", "", 200, "Maintenance"),
    ("GET", "/api/v1/router/history", "", 200, "Maintenance"),
    (
        "DELETE",
        "/api/v1/router/toggle",
        "",
        200,
        "\"pending\":null",
    ),
    ("GET", "/api/v1/cost/current", "", 200, "\"today\""),
    ("GET", "/metrics", "", 200, "llm_router_requests_total"),
    ("GET", "/openapi.json", "", 200, "\"openapi\":\"3.1"),
    ("GET", "/docs/", "", 200, "swagger"),
    ("GET", "/docs/swagger-ui-bundle.js", "", 200, "SwaggerUI"),
    ("HEAD", "/api/v1/cost/current", "", 200, ""),
    ("PUT", "/api/v1/cost/current", "", 405, "method_not_allowed"),
    ("GET", "/api/v1/config/nothing", "", 404, "\"field\":null"),
    ("GET", "/api/v1/nothing", "", 404, "\"type\""),
];

const CHAT: &str = r#"{"model": "fast", "messages": [{"role": "user", "content": "Hi"}]}"#;
const TOGGLE: &str = r#"{"value": false, "reason": "Maintenance"}"#;

#[tokio::test]
async fn lines_that_users_have_work_on_the_clients_port() {
    let (_up, gateway) = ours().await;
    for (method, path, body, status, holds) in LINES {
        let answer = gateway.send(method, path, &[JSON], body).await;
        let text = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status, status, "{method} {path}: {text}");
        assert!(text.contains(holds), "{method} {path}: {text}");
        assert!(answer.header("x-request-id").is_some() || path == "/metrics" || status == 200);
    }
}

#[tokio::test]
async fn both_ports_answer_alike() {
    let (_up, gateway) = ours().await;
    let plain = reqwest::Client::new();
    for path in [
        "/api/v1/router/status",
        "/api/v1/requests?limit=0",
        "/api/v1/cost/x",
    ] {
        let mut found = Vec::new();
        for url in [&gateway.url, &gateway.admin_url] {
            for key in [Some(KEY), None] {
                let request = plain.get(format!("{url}{path}"));
                let request = key
                    .into_iter()
                    .fold(request, reqwest::RequestBuilder::bearer_auth);
                let response = request.send().await.unwrap();
                found.push((response.status(), response.text().await.unwrap()));
            }
        }
        assert_eq!(found[..2], found[2..], "{path}");
    }
}

#[tokio::test]
async fn large_answers_come_whole_on_the_clients_port() {
    let message = "x".repeat(1024 * 1024);
    let rule = |number: usize| {
        let then = json!({ "block": { "message": message } });
        json!({ "name": format!("rule-{number}"), "when": { "owner": "nobody" }, "then": then })
    };
    let rules: Vec<Value> = (0..17).map(rule).collect();
    let gateway = gateway()
        .set("/routing", json!({ "rules": rules }))
        .run()
        .await;
    let answer = gateway.send("GET", "/api/v1/router/rules", &[], "").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.body.len() > 17 * message.len(),
        "{}",
        answer.body.len()
    );
    assert_eq!(answer.json()["items"].as_array().unwrap().len(), 17);
}

#[tokio::test]
async fn admin_paths_can_be_kept_off_the_clients_port() {
    let gateway = gateway()
        .set("/server/admin_paths", json!(false))
        .run()
        .await;
    for path in [
        "/api/v1/cost/current",
        "/metrics",
        "/docs/",
        "/openapi.json",
    ] {
        let answer = gateway.send("GET", path, &[], "").await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (404, "not_found"),
            "{path}"
        );
        assert_eq!(gateway.admin(path, None).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn a_request_sent_twice_under_one_idempotency_key_is_done_once() {
    let (_up, gateway) = ours().await;
    let rule = |name: &str| json!({ "name": name, "then": { "use_model": "fast" } }).to_string();
    let post = async |key: &str, body: String| -> Answer {
        let headers = [JSON, ("idempotency-key", key)];
        gateway
            .send("POST", "/api/v1/router/rules", &headers, body)
            .await
    };
    let first = post("k-1", rule("one")).await;
    let again = post("k-1", rule("one")).await;
    assert_eq!((first.status, again.status), (201, 201));
    assert_eq!(first.body, again.body);
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    let other = post("k-1", rule("two")).await;
    assert_eq!(
        (other.status, other.code().as_str()),
        (409, "idempotency_key_reused")
    );
    let unkeyed = gateway
        .send("POST", "/api/v1/router/rules", &[JSON], rule("one"))
        .await;
    assert_eq!(
        (unkeyed.status, unkeyed.code().as_str()),
        (409, "already_exists")
    );
    let listed: Value = gateway.admin("/api/v1/router/rules", None).await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
}
