//! Requests that no deployment was called for: the API finds them, they count as what they are, and a
//! flood of them stays bounded. Whose address a request has.

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, KEY, chat_body, eventually, gateway, header_map, mock};
use crate::ledger::priced_gateway;

const POOR: &str = "sk-of-poor-0123456789";
const SLOW: &str = "sk-of-slow-0123456789";
const NARROW: &str = "sk-of-narrow-0123456789";
const UNKNOWN: &str = "sk-unknown-0123456789abcdef";

/// Sends a request as the holder of a key.
async fn ask(gateway: &Gateway, key: &str, headers: &[(&str, &str)], body: String) -> Answer {
    let request = reqwest::Client::new()
        .post(format!("{}/v1/chat/completions", gateway.url))
        .headers(header_map(headers))
        .header("authorization", format!("Bearer {key}"));
    let response = request.body(body).send().await.unwrap();
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.bytes().await.unwrap().to_vec(),
    }
}

async fn list(gateway: &Gateway, query: &str) -> Vec<Value> {
    let answer = gateway
        .admin(&format!("/api/v1/requests{query}"), None)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["items"].as_array().unwrap().clone()
}

/// A router on which each refusal can be had.
async fn strict(up: &crate::harness::Mock) -> Gateway {
    let key = |name: &str, key: &str, more: Value| {
        let mut key = json!({ "name": name, "key": key, "owner": "team" });
        let fields = more.as_object().unwrap().clone();
        key.as_object_mut().unwrap().extend(fields);
        key
    };
    priced_gateway(up)
        .set("/server/max_body", json!("1KiB"))
        .set(
            "/routing",
            json!({ "rules": [{ "name": "gone", "when": { "header": { "name": "x-app", "equals": "v1" } },
                "then": { "block": { "status": 410, "message": "Please update." } } }] }),
        )
        .model("fast", "up", "mock-gpt")
        .add("keys", key("poor", POOR, json!({ "budget": { "usd": 0.0001, "period": "total" } })))
        .add("keys", key("slow", SLOW, json!({ "limits": { "rpm": 1, "burst": 1 } })))
        .add("keys", key("narrow", NARROW, json!({ "models": ["other"] })))
        .run()
        .await
}

#[tokio::test]
async fn every_refusal_is_found_by_its_id_and_counted_as_what_it_is() {
    let up = mock().await;
    let gateway = strict(&up).await;
    let chat = || chat_body("fast", false);
    let bounded = || chat().replace("\"stream\"", "\"max_tokens\":50,\"stream\"");
    assert_eq!(ask(&gateway, SLOW, &[], chat()).await.status, 200);
    let large = json!({ "model": "fast", "messages": [], "x": "y".repeat(2_000) });
    let cases = [
        ("key", 401, ask(&gateway, UNKNOWN, &[], chat()).await),
        ("permission", 403, ask(&gateway, NARROW, &[], chat()).await),
        ("limit", 429, ask(&gateway, SLOW, &[], chat()).await),
        ("budget", 429, ask(&gateway, POOR, &[], bounded()).await),
        (
            "rule",
            410,
            ask(&gateway, KEY, &[("x-app", "v1")], chat()).await,
        ),
        (
            "request",
            413,
            ask(&gateway, KEY, &[], large.to_string()).await,
        ),
        (
            "request",
            400,
            ask(&gateway, KEY, &[], "no JSON".to_owned()).await,
        ),
        (
            "request",
            404,
            ask(&gateway, KEY, &[], chat_body("auto", false)).await,
        ),
    ];
    for (by, status, answer) in &cases {
        assert_eq!(answer.status, *status, "{answer:?}");
        let id = answer.header("x-request-id").unwrap();
        eventually(id, || async {
            let found = gateway.admin(&format!("/api/v1/requests/{id}"), None).await;
            found.status == 200
        })
        .await;
        let found = gateway
            .admin(&format!("/api/v1/requests/{id}"), None)
            .await
            .json();
        assert_eq!(found["refused_by"], *by, "{found}");
        assert_eq!(found["status"], *status, "{found}");
        assert_eq!(found["client"], "127.0.0.0/24", "{found}");
        assert_eq!(found["provider"], Value::Null, "{found}");
        assert_eq!(found["attempts"], json!([]), "{found}");
        let filtered = list(&gateway, &format!("?refused_by={by}&status={status}")).await;
        assert!(filtered.iter().any(|one| one["id"] == id), "{filtered:?}");
        gateway.logs(id).await;
    }
    check_list(&gateway, cases.len() + 1).await;
    check_counts(&gateway).await;
    assert!(!gateway.log().contains(UNKNOWN));
}

/// Checks the list, whole and in pages: refused requests are beside those of the ledger.
async fn check_list(gateway: &Gateway, count: usize) {
    let all = list(gateway, "").await;
    assert_eq!(all.len(), count);
    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/v1/requests?limit=2{cursor}");
        let page = gateway.admin(&path, None).await.json();
        paged.extend(page["items"].as_array().unwrap().clone());
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, all);
}

/// Checks that nothing of it counts as an error of the deployment.
async fn check_counts(gateway: &Gateway) {
    let figures = gateway.admin("/api/v1/router/metrics", None).await.json();
    for (figure, number) in [
        ("requests", 9),
        ("refused", 5),
        ("client_errors", 3),
        ("failures", 0),
    ] {
        assert_eq!(figures["total"][figure], number, "{figure}: {figures}");
        assert_eq!(figures["recent"][figure], number, "{figure}: {figures}");
    }
    for list in ["by_provider", "by_deployment"] {
        assert_eq!(figures[list].as_array().unwrap().len(), 1, "{figures}");
        assert_eq!(figures[list][0]["requests"], 1, "{figures}");
        assert_eq!(figures[list][0]["errors"], 0, "{figures}");
    }
    for (outcome, number) in [
        ("answered", 1.0),
        ("refused", 5.0),
        ("client_error", 3.0),
        ("failed", 0.0),
    ] {
        let label = format!("outcome=\"{outcome}\"");
        gateway
            .shows("llm_router_request_outcomes_total", &[&label], number)
            .await;
    }
    gateway
        .shows(
            "llm_router_refused_requests_total",
            &["refused_by=\"budget\""],
            1.0,
        )
        .await;
    gateway
        .shows("llm_router_requests_total", &["provider=\"up\""], 1.0)
        .await;
}

#[tokio::test]
async fn a_providers_word_on_a_request_is_no_failure() {
    let up = mock().await;
    let gateway = gateway().provider("up", &up).run().await;
    for (status, figure) in [
        (400, "client_errors"),
        (422, "client_errors"),
        (500, "failures"),
    ] {
        up.set_controls(&format!("status={status}")).await;
        let before = gateway.admin("/api/v1/router/metrics", None).await.json();
        gateway.chat("up/mock-gpt", &[]).await;
        let now = async || gateway.admin("/api/v1/router/metrics", None).await.json();
        let count = |figures: &Value, list: &str| match list {
            "total" => figures["total"][figure].as_u64().unwrap(),
            _ => figures[list][0][figure].as_u64().unwrap_or_default(),
        };
        for list in ["total", "by_deployment"] {
            eventually(figure, || async {
                count(&now().await, list) == count(&before, list) + 1
            })
            .await;
        }
    }
}

#[tokio::test]
async fn a_flood_without_keys_is_bounded_and_displaces_nothing() {
    let up = mock().await;
    let gateway = strict(&up).await;
    let poor = ask(&gateway, POOR, &[], chat_body("fast", false)).await;
    let id = poor.header("x-request-id").unwrap();
    let client = reqwest::Client::new();
    for _ in 0..1_500 {
        let request = client.post(format!("{}/v1/chat/completions", gateway.url));
        assert_eq!(request.send().await.unwrap().status(), 401);
    }
    let found = gateway.admin(&format!("/api/v1/requests/{id}"), None).await;
    assert_eq!(found.status, 200);
    assert_eq!(
        list(&gateway, "?refused_by=key&limit=1000").await.len(),
        250
    );
    gateway.logs("left out access lines").await;
    let lines = gateway.log().matches("invalid_api_key").count();
    assert!(lines < 1_000, "{lines} lines");
}

#[tokio::test]
async fn users_see_their_own_refusals_only() {
    let up = mock().await;
    let gateway = strict(&up).await;
    ask(&gateway, UNKNOWN, &[], chat_body("fast", false)).await;
    ask(&gateway, NARROW, &[], chat_body("fast", false)).await;
    eventually("both are listed", || async {
        list(&gateway, "").await.len() == 2
    })
    .await;
    let answer = gateway
        .admin("/api/v1/requests", Some(&format!("Bearer {NARROW}")))
        .await
        .json();
    let items = answer["items"].as_array().unwrap();
    assert_eq!(items.len(), 1, "{answer}");
    assert_eq!(items[0]["key"], "narrow");
    let wrong = gateway
        .admin("/api/v1/requests?refused_by=keys", None)
        .await;
    assert_eq!(
        (wrong.status, wrong.json()["error"]["field"].clone()),
        (400, json!("refused_by"))
    );
}

#[tokio::test]
async fn the_clients_address_is_believed_of_trusted_proxies_only() {
    let up = mock().await;
    let forwarded = [("x-forwarded-for", "6.6.6.6, 203.0.113.9, 127.0.0.2")];
    for (proxies, detail, shown) in [
        (json!([]), "full", json!("127.0.0.1")),
        (json!(["127.0.0.0/8"]), "full", json!("203.0.113.9")),
        (json!(["127.0.0.0/8"]), "prefix", json!("203.0.113.0/24")),
        (json!(["127.0.0.1"]), "full", json!("127.0.0.2")),
        (json!(["127.0.0.0/8"]), "off", Value::Null),
    ] {
        let gateway = gateway()
            .provider("up", &up)
            .set("/server/trusted_proxies", proxies.clone())
            .set("/telemetry", json!({ "client_address": detail }))
            .run()
            .await;
        let answer = gateway.chat("auto", &forwarded).await;
        let id = answer.header("x-request-id").unwrap();
        gateway.logs(id).await;
        let line = gateway.log();
        let line = line.lines().find(|line| line.contains(id)).unwrap();
        let line: Value = serde_json::from_str(line).unwrap();
        let logged = line.get("client.address").cloned().unwrap_or_default();
        assert_eq!(logged, shown, "{proxies} {detail}");
        let found = gateway
            .admin(&format!("/api/v1/requests/{id}"), None)
            .await
            .json();
        assert_eq!(found["client"], shown, "{proxies} {detail}");
    }
}

#[tokio::test]
async fn unknown_keys_are_slowed_down_by_the_clients_address() {
    let up = mock().await;
    let gateway = gateway()
        .provider("up", &up)
        .set("/server/trusted_proxies", json!(["127.0.0.1"]))
        .run()
        .await;
    let from = |address: &'static str| ask_from(&gateway, address);
    let mut statuses = Vec::new();
    for _ in 0..40 {
        statuses.push(from("203.0.113.1").await);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    assert_eq!(from("203.0.113.2").await, 401);
}

async fn ask_from(gateway: &Gateway, address: &str) -> u16 {
    let headers = [("x-forwarded-for", address)];
    ask(gateway, UNKNOWN, &headers, chat_body("fast", false))
        .await
        .status
}
