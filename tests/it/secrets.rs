//! No secret is ever shown. Every answer, metric and log line of every test is searched for the
//! secrets of its router; here all kinds of secrets are used in one test.

use serde_json::{Value, json};

use crate::harness::{
    CREDENTIAL, Gateway, KEY, chat_body, eventually, free_address, gateway, mock,
};
use crate::http2::{certificate, curl};
use crate::traces::Inbox;

/// The secrets that a router was started with: what its environment and its configuration hold.
pub(crate) fn secrets_of(environment: &[(String, String)], config: &Value) -> Vec<String> {
    let mut secrets = Vec::new();
    for (name, value) in environment {
        if name.ends_with("_URL") {
            secrets.extend(password(value));
        } else if ["KEY", "SALT", "CREDENTIAL", "SECRET"]
            .iter()
            .any(|part| name.contains(part))
        {
            secrets.push(value.clone());
        }
    }
    let written = |value: &Value| {
        let text = value.as_str().unwrap_or_default();
        (!text.is_empty() && !text.contains("${")).then(|| text.to_owned())
    };
    for (list, field) in [("keys", "key"), ("providers", "api_key")] {
        let items = config[list].as_array().into_iter().flatten();
        secrets.extend(items.filter_map(|item| written(&item[field])));
    }
    for pointer in ["/store/url", "/counters/url"] {
        let url = config.pointer(pointer).and_then(Value::as_str);
        secrets.extend(url.and_then(password));
    }
    // Shorter ones are parts of ordinary words.
    secrets.retain(|secret| secret.len() >= 12);
    secrets
}

/// The password in an address.
fn password(url: &str) -> Option<String> {
    let (_, rest) = url.split_once("://")?;
    let (login, _) = rest.split_once('@')?;
    login
        .split_once(':')
        .map(|(_, password)| password.to_owned())
}

/// Fails if a secret is in the text.
pub(crate) fn assert_kept(secrets: &[String], place: &str, text: &[u8]) {
    for (number, secret) in secrets.iter().enumerate() {
        let shown = memchr::memmem::find(text, secret.as_bytes());
        // Which one it is stays unsaid, so that the test's own output doesn't show it.
        assert!(
            shown.is_none(),
            "secret number {number} is shown in {place}"
        );
    }
}

#[test]
fn a_planted_secret_is_found() {
    let environment = [
        ("SECRET_KEY", "secret-0123456789abcdef"),
        (
            "DATABASE_URL",
            "postgres://user:password-in-url@127.0.0.1/db",
        ),
        ("LOG_LEVEL", "information-and-more"),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let config = json!({
        "keys": [{ "key": "${CI_KEY}" }, { "key": "sk-written-out-0123" }],
        "counters": { "url": "redis://:password-of-redis@127.0.0.1:1" },
    });
    let secrets = secrets_of(&environment, &config);
    let all = [
        "secret-0123456789abcdef",
        "password-in-url",
        "sk-written-out-0123",
        "password-of-redis",
    ];
    assert_eq!(secrets, all);
    assert_kept(&secrets, "a text", b"nothing to see, information-and-more");
    for secret in all {
        let planted = format!("{{\"message\":\"it was {secret}\"}}");
        let check = || assert_kept(&secrets, "a text", planted.as_bytes());
        assert!(
            std::panic::catch_unwind(check).is_err(),
            "{secret} was not found"
        );
    }
}

const ROOT: &str = "sk-root-admin-0123456789";
const SALT: &str = "salt-of-keys-0123456789abcdef";
const SEALING: &str = "sealing-secret-0123456789abcdef0123";
const REDIS: &str = "password-of-redis-0123";
const STORED: &str = "sk-stored-credential-0123456789";
const COLLECTOR: &str = "token-of-the-collector-0123";
const HEADER: &str = "value-of-a-header-0123456789";
const STORED_HEADER: &str = "value-of-a-stored-header-0123456789";
/// Private texts that clients send.
const SENT: [(&str, &str); 6] = [
    ("cookie", "session=secret-of-a-session-0123456789"),
    ("proxy-authorization", "Basic secret-of-a-proxy-0123456789"),
    ("x-goog-api-key", KEY),
    ("x-llm-router-key", KEY),
    ("x-amz-security-token", "secret-token-of-amazon-0123456789"),
    ("x-auth-token", "secret-token-of-somebody-0123456789"),
];
/// All that can be logged, but for the watch over the folder that the log itself is in.
const EVERYTHING: &str = "trace,notify=warn";
const IN_QUERY: &str = "secret-in-a-query-0123456789";

fn sent_values() -> impl Iterator<Item = String> {
    let secret = |(_, value): (&str, &str)| value.rsplit([' ', '=']).next().map(str::to_owned);
    SENT.into_iter().filter_map(secret)
}

async fn router(collector: &str, up: &str) -> Gateway {
    let headers = json!({ "x-token": "${COLLECTOR_KEY}" });
    gateway()
        .environment("ADMIN_API_KEY", ROOT)
        .environment("API_KEY_SALT", SALT)
        .environment("SECRET_KEY", SEALING)
        .environment("COLLECTOR_KEY", COLLECTOR)
        .environment("HEADER_SECRET", HEADER)
        .environment(
            "REDIS_URL",
            &format!("redis://:{REDIS}@{}/0", free_address()),
        )
        .environment("LOG_LEVEL", EVERYTHING)
        .provider_at("up", "mock", up)
        .provider_at("dead", "mock", &format!("http://{}/v1", free_address()))
        .set(
            "/providers/0/headers",
            json!({ "x-extra": "${HEADER_SECRET}" }),
        )
        .model("fast", "up", "mock-gpt")
        .set(
            "/telemetry",
            json!({ "traces": { "endpoint": collector, "headers": headers } }),
        )
        .run()
        .await
}

/// Uses every part of a router, and returns the new secrets that it showed once.
async fn use_everything(gateway: &Gateway) -> Vec<String> {
    let provider = json!({ "id": "made", "type": "mock", "base_url": gateway.config["providers"][0]["base_url"],
        "api_key": STORED, "headers": { "x-made": STORED_HEADER } });
    let made = gateway
        .administer(ROOT, "POST", "/api/v1/providers", &[], &provider)
        .await;
    assert_eq!(made.status, 201, "{made:?}");
    let key = json!({ "name": "app", "owner": "team" });
    let made = gateway
        .administer(ROOT, "POST", "/api/v1/keys", &[], &key)
        .await;
    assert_eq!(made.status, 201, "{made:?}");
    let id = made.json()["id"].as_str().unwrap().to_owned();
    let first = made.json()["key"].as_str().unwrap().to_owned();
    let rotate = format!("/api/v1/keys/{id}/rotate");
    let rotated = gateway
        .administer(ROOT, "POST", &rotate, &[], &json!({}))
        .await;
    assert_eq!(rotated.status, 200, "{rotated:?}");
    let second = rotated.json()["key"].as_str().unwrap().to_owned();
    for key in [KEY, &first, &second, "sk-unknown-0123456789"] {
        let bearer = [("authorization", &*format!("Bearer {key}"))];
        for model in ["fast", "made/mock-gpt", "dead/mock-gpt", "nowhere"] {
            for stream in [false, true] {
                let body = chat_body(model, stream);
                let request = reqwest::Client::new()
                    .post(format!("{}/v1/chat/completions", gateway.url))
                    .headers(crate::harness::header_map(&bearer));
                request
                    .body(body)
                    .send()
                    .await
                    .unwrap()
                    .bytes()
                    .await
                    .unwrap();
            }
        }
    }
    let failing = [("x-mock-status", "401")];
    gateway.chat("fast", &failing).await;
    send_secrets(gateway).await;
    vec![first, second]
}

/// Sends a client's secrets wherever they may stand, in good requests and in bad ones.
async fn send_secrets(gateway: &Gateway) {
    let bearer = format!("Bearer {KEY}");
    for path in ["/v1/chat/completions", "/api/v1/router/explain", "/nowhere"] {
        let path = format!("{path}?key={IN_QUERY}");
        let body = chat_body("fast", false);
        gateway.send("POST", &path, &SENT, body).await;
    }
    let [cookie, ..] = SENT.map(|(_, value)| value);
    let malformed = format!(
        "GET /v1/models?key={IN_QUERY} HTTP/1.1\r\nhost: a\r\n\
        authorization: {bearer}\r\ncookie: {cookie}\r\nno colon\r\n\r\n"
    );
    let refused = crate::harness::raw(gateway.address, malformed.as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
}

#[tokio::test]
async fn no_answer_metric_trace_or_log_line_shows_a_secret() {
    let (mock, collector) = (mock().await, Inbox::default());
    let endpoint = collector
        .serve("/v1/traces", 200, "application/x-protobuf", "")
        .await;
    let gateway = router(&endpoint, &mock.base_url()).await;
    let mut secrets = vec![STORED.to_owned(), CREDENTIAL.to_owned()];
    secrets.extend(use_everything(&gateway).await);
    let mut shown = Vec::new();
    for path in [
        "/api/v1/config",
        "/api/v1/config/revisions",
        "/api/v1/audit",
        "/api/v1/providers",
        "/api/v1/providers/made",
        "/api/v1/keys",
        "/api/v1/requests",
        "/api/v1/router/metrics",
        "/api/v1/router/status",
        "/api/v1/router/history",
        "/api/v1/router/rules",
        "/api/v1/providers/up/health",
        "/api/v1/providers/made/models?refresh=true",
        "/api/v1/me",
        "/api/v1/cost/summary",
        "/openapi.json",
        "/metrics",
    ] {
        let answer = gateway
            .administer(ROOT, "GET", path, &[], &Value::Null)
            .await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        shown.push((path.to_owned(), answer.body));
    }
    for command in [&["check"][..], &["keys", "list"], &["ledger", "verify"]] {
        let output = gateway.command(command);
        shown.push((command.join(" "), [output.stdout, output.stderr].concat()));
    }
    eventually("traces are exported", || async {
        !collector.all().is_empty()
    })
    .await;
    for (_, body) in collector.all() {
        shown.push(("a trace".to_owned(), body.to_vec()));
    }
    shown.push(("the log".to_owned(), gateway.log().into_bytes()));
    secrets.extend([ROOT, SALT, SEALING, REDIS, COLLECTOR, KEY].map(str::to_owned));
    secrets.extend([HEADER, STORED_HEADER, IN_QUERY].map(str::to_owned));
    secrets.extend(sent_values());
    for (place, text) in &shown {
        assert_kept(&secrets, place, text);
    }
    // Nor are they in what is kept on disk, but for the file that they were written into.
    let database = std::fs::read(gateway.folder().join("data/llm-router.db")).unwrap();
    assert_kept(&secrets, "the database", &database);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_http2_on_both_sides_shows_no_secret() {
    let folder = tempfile::TempDir::new().unwrap();
    let (cert, key) = certificate(folder.path());
    let tls = json!({ "cert": cert, "key": key });
    let mock = mock().await;
    let inner = gateway().provider("up", &mock);
    let inner = inner.set("/server/tls", tls.clone()).run().await;
    let base = format!("https://localhost:{}/v1", inner.address.port());
    let outer = gateway()
        .environment("LOG_LEVEL", EVERYTHING)
        .environment("HEADER_SECRET", HEADER)
        .set("/server/tls", tls)
        .add(
            "providers",
            json!({ "id": "far", "type": "custom", "base_url": base, "api_key": "${CLIENT_KEY}",
                "ca_file": cert, "http2": "always", "headers": { "x-extra": "${HEADER_SECRET}" } }),
        )
        .run()
        .await;
    let url = format!("{}/v1/chat/completions?key={IN_QUERY}", outer.url);
    let body = chat_body("far/up/mock-gpt", false);
    let headers = SENT.map(|(name, value)| format!("{name}: {value}"));
    let mut arguments = vec![
        "--http2",
        "--cacert",
        cert.to_str().unwrap(),
        &url,
        "-d",
        &body,
    ];
    for header in &headers {
        arguments.extend(["-H", header]);
    }
    let (outcome, answer) = curl(&arguments);
    assert_eq!(outcome, "200 2", "{answer}");
    let mut secrets: Vec<String> = sent_values().collect();
    secrets.extend([HEADER, IN_QUERY, KEY].map(str::to_owned));
    outer.logs("/v1/chat/completions").await;
    assert_kept(&secrets, "the log", outer.log().as_bytes());
}
