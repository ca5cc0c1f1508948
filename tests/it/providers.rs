//! Providers made by API, and the whole configuration: active on every replica, edited by two at
//! once, audited, rolled back; objects of the file are read-only.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{CREDENTIAL, Gateway, KEY, Mock, eventually, gateway, mock};
use crate::toggle::SharedStore;

const PROVIDERS: &str = "/api/v1/providers";

/// A provider that a mock is behind.
fn spec(id: &str, mock: &Mock) -> Value {
    json!({
        "id": id, "type": "mock", "base_url": mock.base_url(), "api_key": CREDENTIAL,
        "models": ["made-*"], "timeouts": { "connect": "2s" },
    })
}

async fn replica(shared: &SharedStore, mock: &Mock) -> Gateway {
    gateway()
        .provider("up", mock)
        .set("/providers/0/models", json!(["mock-*"]))
        .model("fast", "up", "mock-fast")
        .set(
            "/store",
            json!({ "url": shared.url(), "journal": "journal" }),
        )
        .environment("SECRET_KEY", "0123456789abcdef0123456789abcdef")
        .run()
        .await
}

impl Gateway {
    async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> ProviderCounts {
        let answer = self.administer(KEY, method, path, headers, body).await;
        let etag = answer.header("etag").map(str::to_owned);
        let text = String::from_utf8(answer.body).unwrap();
        assert!(!text.contains(CREDENTIAL), "{method} {path}: {text}");
        ProviderCounts {
            status: answer.status,
            etag,
            body: serde_json::from_str(&text).unwrap_or_default(),
        }
    }
}

struct ProviderCounts {
    status: u16,
    etag: Option<String>,
    body: Value,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_lives_on_two_replicas_with_sqlite() {
    a_provider_lives_on_two_replicas(&SharedStore::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_lives_on_two_replicas_with_postgres() {
    if let Some(shared) = SharedStore::postgres() {
        a_provider_lives_on_two_replicas(&shared).await;
    }
}

async fn a_provider_lives_on_two_replicas(shared: &SharedStore) {
    let mock = mock().await;
    let a = replica(shared, &mock).await;
    let b = replica(shared, &mock).await;
    assert_eq!(b.chat("made/made-x", &[]).await.status, 404);

    let made = a.ask("POST", PROVIDERS, &[], &spec("made", &mock)).await;
    assert_eq!(made.status, 201, "{}", made.body);
    let at = Instant::now();
    assert_eq!(
        (&made.body["source"], &made.body["api_key"]),
        (&json!("api"), &json!("***"))
    );
    assert_eq!(a.chat("made/made-x", &[]).await.status, 200);
    eventually("the other replica serves it", || async {
        b.chat("made/made-x", &[]).await.status == 200
    })
    .await;
    assert!(at.elapsed() < Duration::from_secs(3), "{:?}", at.elapsed());

    // Two editors saw the same version: the first wins.
    let path = format!("{PROVIDERS}/made");
    let (one, two) = (
        a.ask("GET", &path, &[], &Value::Null).await,
        b.ask("GET", &path, &[], &Value::Null).await,
    );
    let (etag, same) = (one.etag.unwrap(), two.etag.unwrap());
    assert_eq!(etag, same);
    let mut changed = one.body.clone();
    changed["models"] = json!(["other-*"]);
    let first = a.ask("PUT", &path, &[("if-match", &etag)], &changed).await;
    let second = b.ask("PUT", &path, &[("if-match", &etag)], &changed).await;
    assert_eq!(
        (first.status, second.status),
        (200, 412),
        "{} {}",
        first.body,
        second.body
    );
    assert_eq!(second.body["error"]["code"], "stale_etag");
    // The credential stayed, though it was sent back masked.
    assert_eq!(b.chat("made/other-x", &[]).await.status, 200);

    let gone = b.ask("DELETE", &path, &[], &Value::Null).await;
    assert_eq!(gone.status, 204);
    eventually("it is gone on the other replica", || async {
        a.chat("made/other-x", &[]).await.status == 404
    })
    .await;
}

#[tokio::test]
async fn providers_that_cannot_be_are_refused_with_the_field() {
    let mock = mock().await;
    let shared = SharedStore::sqlite();
    let gateway = replica(&shared, &mock).await;
    let up = format!("{PROVIDERS}/up");
    let with = |field: &str, value: Value| {
        let mut spec = spec("made", &mock);
        spec[field] = value;
        spec
    };
    for (method, path, body, status, code, field) in [
        (
            "POST",
            PROVIDERS,
            spec("up", &mock),
            409,
            "already_exists",
            json!("id"),
        ),
        ("PUT", &up, spec("up", &mock), 409, "read_only", Value::Null),
        ("DELETE", &up, Value::Null, 409, "read_only", Value::Null),
        (
            "POST",
            PROVIDERS,
            with("type", json!("openia")),
            400,
            "invalid_value",
            json!("type"),
        ),
        (
            "POST",
            PROVIDERS,
            with("id", json!("a b")),
            400,
            "invalid_value",
            json!("id"),
        ),
        (
            "POST",
            PROVIDERS,
            with("modles", json!([])),
            400,
            "invalid_value",
            json!("modles"),
        ),
        (
            "POST",
            PROVIDERS,
            with("timeouts", json!({ "connect": "soon" })),
            400,
            "invalid_value",
            json!("timeouts.connect"),
        ),
        (
            "POST",
            PROVIDERS,
            json!({ "type": "mock" }),
            400,
            "invalid_value",
            json!("id"),
        ),
        (
            "PUT",
            "/api/v1/providers/none",
            spec("none", &mock),
            404,
            "not_found",
            Value::Null,
        ),
    ] {
        let answer = gateway.ask(method, path, &[], &body).await;
        let error = &answer.body["error"];
        assert_eq!(answer.status, status, "{method} {body}: {error}");
        assert_eq!(
            (&error["code"], &error["field"]),
            (&json!(code), &field),
            "{body}: {error}"
        );
    }
}

#[tokio::test]
async fn providers_are_asked_for_their_health_and_their_models() {
    let mock = mock().await;
    let shared = SharedStore::sqlite();
    let gateway = replica(&shared, &mock).await;
    let ask =
        async |method: &str, path: &str, body: Value| gateway.ask(method, path, &[], &body).await;
    let well = ask("POST", "/api/v1/providers/up/health", Value::Null).await;
    assert_eq!(
        (well.status, &well.body["healthy"]),
        (200, &json!(true)),
        "{}",
        well.body
    );
    assert!(well.body["latency_ms"].as_f64().unwrap() > 0.0);
    let dead = json!({ "id": "dead", "type": "custom", "base_url": "http://127.0.0.1:1/v1" });
    assert_eq!(ask("POST", PROVIDERS, dead).await.status, 201);
    let ill = ask("POST", "/api/v1/providers/dead/health", Value::Null).await;
    assert_eq!(
        (ill.status, &ill.body["healthy"]),
        (200, &json!(false)),
        "{}",
        ill.body
    );
    assert!(ill.body["error"].is_string());
    let history = ask("GET", "/api/v1/providers/dead/health", Value::Null).await;
    assert_eq!(history.body["items"], json!([ill.body]));
    let silent = ask(
        "GET",
        "/api/v1/providers/dead/models?refresh=true",
        Value::Null,
    )
    .await;
    assert_eq!(silent.status, 409, "{}", silent.body);
    assert_eq!(silent.body["error"]["code"], "upstream_error");

    let found = ask(
        "GET",
        "/api/v1/providers/up/models?refresh=true",
        Value::Null,
    )
    .await;
    let sources: Vec<_> = found.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|model| &model["source"])
        .collect();
    assert!(
        sources.contains(&&json!("provider")) && sources.contains(&&json!("file")),
        "{}",
        found.body
    );

    // A model with a price, at a provider made by API.
    assert_eq!(
        ask("POST", PROVIDERS, spec("made", &mock)).await.status,
        201
    );
    let model = json!({ "id": "priced", "price": { "input": 1, "output": 2 } });
    let added = ask("POST", "/api/v1/providers/made/models", model).await;
    assert_eq!(added.status, 201, "{}", added.body);
    assert_eq!(gateway.chat("made/priced", &[]).await.status, 200);
    let cost = ask("GET", "/api/v1/cost/current", Value::Null).await;
    assert_eq!(cost.body["total"]["unpriced_requests"], 0, "{}", cost.body);
    assert!(cost.body["total"]["cost_usd"].as_f64().unwrap() > 0.0);
    let models = ask("GET", "/api/v1/providers/made/models", Value::Null).await;
    assert!(
        models.body.to_string().contains("priced"),
        "{}",
        models.body
    );
}

#[tokio::test]
async fn what_was_made_by_api_can_be_rolled_back() {
    let mock = mock().await;
    let shared = SharedStore::sqlite();
    let gateway = replica(&shared, &mock).await;
    let ask =
        async |method: &str, path: &str, body: Value| gateway.ask(method, path, &[], &body).await;
    let open = json!({ "id": "open", "type": "mock", "base_url": mock.base_url() });
    assert_eq!(ask("POST", PROVIDERS, open).await.status, 201);
    let listed = ask("GET", "/api/v1/config/revisions?limit=1", Value::Null).await;
    let then = listed.body["items"][0]["number"].as_u64().unwrap();
    assert_eq!(
        listed.body["items"][0]["diff"][0]["path"], "",
        "{}",
        listed.body
    );
    let changed = json!({ "type": "mock", "base_url": mock.base_url(), "models": ["none"] });
    assert_eq!(
        ask("PUT", "/api/v1/providers/open", changed).await.status,
        200
    );
    assert_eq!(gateway.chat("open/x", &[]).await.status, 404);
    let newest = ask("GET", "/api/v1/config/revisions", Value::Null).await;
    assert_eq!(
        newest.body["items"][0]["diff"][0]["path"], "models",
        "{}",
        newest.body
    );
    let rule = json!({ "name": "later", "then": { "use_model": "fast" } });
    assert_eq!(ask("POST", "/api/v1/router/rules", rule).await.status, 201);

    let done = ask(
        "POST",
        &format!("/api/v1/config/revisions/{then}/rollback"),
        Value::Null,
    )
    .await;
    assert_eq!(done.status, 200, "{}", done.body);
    assert_eq!(
        done.body["changed"].as_array().unwrap().len(),
        2,
        "{}",
        done.body
    );
    assert_eq!(gateway.chat("open/x", &[]).await.status, 200);
    let rules = ask("GET", "/api/v1/router/rules", Value::Null).await;
    assert_eq!(rules.body["items"], json!([]));
    let missing = ask(
        "POST",
        "/api/v1/config/revisions/99999/rollback",
        Value::Null,
    )
    .await;
    assert_eq!(missing.status, 404);
    let audit = ask("GET", "/api/v1/audit?kind=rule", Value::Null).await;
    let actions: Vec<_> = audit.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["action"].as_str().unwrap())
        .collect();
    assert_eq!(actions, ["delete", "create"]);
    assert_eq!(audit.body["items"][0]["actor"], "client");
}

#[tokio::test]
async fn the_file_is_shown_without_secrets_and_loaded_again() {
    let mock = mock().await;
    let shared = SharedStore::sqlite();
    let gateway = replica(&shared, &mock).await;
    let ask = async |method: &str, path: &str| gateway.ask(method, path, &[], &Value::Null).await;
    let shown = ask("GET", "/api/v1/config").await;
    assert_eq!(
        shown.body["config"]["providers"][0]["api_key"], "***",
        "{}",
        shown.body
    );
    assert!(!shown.body.to_string().contains(KEY));
    let mut config = gateway.config.clone();
    config["providers"][0]["timeouts"]["idle"] = json!("1s");
    fs::write(gateway.config_file(), config.to_string()).unwrap();
    let loaded = ask("POST", "/api/v1/config/reload").await;
    assert_eq!(loaded.status, 200, "{}", loaded.body);
    eventually("the change is a revision", || async {
        let listed = ask("GET", "/api/v1/config/revisions").await;
        let path = listed.body["items"][0]["diff"][0]["path"].clone();
        path == "providers[up].timeouts.idle"
    })
    .await;
    config["providers"][0]["type"] = json!("openia");
    config["models"][0]["deployments"][0]["provider"] = json!("nobody");
    fs::write(gateway.config_file(), config.to_string()).unwrap();
    let refused = ask("POST", "/api/v1/config/reload").await;
    assert_eq!(refused.status, 422);
    assert!(
        refused.body["error"]["errors"].as_array().unwrap().len() >= 2,
        "{}",
        refused.body
    );
    assert_eq!(gateway.chat("fast", &[]).await.status, 200);
}
