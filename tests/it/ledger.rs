//! Usage and cost of requests, compared with the mock's own meter.

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::harness::{
    Gateway, GatewayBuilder, Mock, binary, chat_body, eventually, free_address, gateway,
    messages_body, mock,
};

/// USD per million tokens.
pub(crate) const PRICES: &str = "up/mock-gpt:\n  - { from: 2026-01-01, input: 1, cached_input: 0.1, output: 5 }\n\
     up/mock-claude:\n  - { from: 2026-01-01, input: 1, cached_input: 0.1, cache_write_5m: 1.25, cache_write_1h: 2, output: 5 }\n";

pub(crate) fn priced_gateway(mock: &Mock) -> GatewayBuilder {
    gateway()
        .provider("up", mock)
        .file("prices.yaml", PRICES)
        .set("/prices", "prices.yaml".into())
}

/// A cost object's counts as the mock's meter has them, by the model's name.
pub(crate) fn metered_usage(mock: &Mock, model: &str) -> Value {
    let totals = mock.meter.totals();
    let ended = &totals.models[model];
    json!({
        "input_tokens": ended.usage.input,
        "cached_input_tokens": ended.usage.cached,
        "cache_write_tokens": ended.usage.cache_write(),
        "output_tokens": ended.usage.output,
        "reasoning_tokens": ended.usage.reasoning,
    })
}

/// Returns the cost of the mock's tokens of a model at the prices above, in hundredths of a
/// micro-dollar.
pub(crate) fn expected_cost(mock: &Mock, model: &str) -> u64 {
    // One that no request has reached isn't there.
    let usage = mock
        .meter
        .totals()
        .models
        .get(model)
        .map(|ended| ended.usage)
        .unwrap_or_default();
    // OpenAI's formats don't tell the lifetime of a cache write; without a price it is input.
    let writes = if model == "mock-claude" {
        125 * usage.cache_write_5m + 200 * usage.cache_write_1h
    } else {
        100 * usage.cache_write()
    };
    100 * usage.uncached_input() + 10 * usage.cached + writes + 500 * usage.output
}

/// An exact amount in hundredths of a micro-dollar.
pub(crate) fn hundredths(cost: &Value) -> u64 {
    // The text that was sent: a float might have lost digits.
    let text = cost.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    assert!(fraction.len() <= 8, "{text}");
    format!("{whole}{fraction:0<8}").parse().unwrap()
}

pub(crate) fn assert_counts(item: &Value, expected: &Value) {
    for (name, count) in expected.as_object().unwrap() {
        assert_eq!(&item[name], count, "{name} of {item}");
    }
}

pub(crate) async fn cost(gateway: &Gateway, path: &str) -> Value {
    let answer = gateway.admin(&format!("/api/v1/cost/{path}"), None).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

#[tokio::test]
async fn every_path_is_billed_to_the_last_digit() {
    let mock = mock().await;
    let gateway = priced_gateway(&mock).run().await;
    let version = ("anthropic-version", "2023-06-01");
    let headers = [("x-mock-usage", "random"), version];
    let requests = [
        ("/v1/chat/completions", chat_body("up/mock-gpt", false)),
        ("/v1/chat/completions", chat_body("up/mock-gpt", true)),
        (
            "/v1/completions",
            r#"{"model":"mock-gpt","prompt":"a"}"#.to_owned(),
        ),
        (
            "/v1/completions",
            r#"{"model":"mock-gpt","prompt":"a","stream":true}"#.to_owned(),
        ),
        (
            "/v1/responses",
            r#"{"model":"mock-gpt","input":"a"}"#.to_owned(),
        ),
        (
            "/v1/responses",
            r#"{"model":"mock-gpt","input":"a","stream":true}"#.to_owned(),
        ),
        ("/v1/messages", messages_body("mock-claude", false)),
        ("/v1/messages", messages_body("mock-claude", true)),
    ];
    for _ in 0..5 {
        for (path, body) in &requests {
            let answer = gateway.send("POST", path, &headers, body.clone()).await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
        }
    }
    let items = cost(&gateway, "by-model").await["items"].clone();
    for (model, count) in [("mock-gpt", 30), ("mock-claude", 10)] {
        let items = items.as_array().unwrap();
        let item = items.iter().find(|item| item["model"] == model).unwrap();
        assert_eq!(item["provider"], "up");
        assert_eq!(item["requests"], count, "{item}");
        assert_eq!(item["unpriced_requests"], 0, "{item}");
        assert_eq!(item["estimated_requests"], 0, "{item}");
        assert_counts(item, &metered_usage(&mock, model));
        assert_eq!(
            hundredths(&item["cost_usd"]),
            expected_cost(&mock, model),
            "{item}"
        );
    }
    let listed = gateway.admin("/api/v1/requests", None).await.json();
    for request in listed["items"].as_array().unwrap() {
        assert_eq!(request["complete"], true, "{request}");
    }
    let total = expected_cost(&mock, "mock-gpt") + expected_cost(&mock, "mock-claude");
    let current = cost(&gateway, "current").await;
    for period in ["today", "month", "total"] {
        assert_eq!(hundredths(&current[period]["cost_usd"]), total, "{current}");
    }
    let summary = cost(&gateway, "summary").await;
    assert_eq!(hundredths(&summary["total"]["cost_usd"]), total);
    assert_eq!(summary["by_provider"][0]["provider"], "up");
    assert_eq!(summary["by_user"][0]["requests"], 40);
    let daily = cost(&gateway, "daily").await;
    assert_eq!(hundredths(&daily["items"][0]["cost_usd"]), total);
}

#[tokio::test]
async fn embeddings_are_billed_and_counting_is_free() {
    let mock = mock().await;
    let gateway = priced_gateway(&mock).run().await;
    let body = r#"{"model":"mock-gpt","input":"The sea"}"#;
    let answer = gateway.send("POST", "/v1/embeddings", &[], body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = r#"{"model":"mock-claude","messages":[{"role":"user","content":"Hi"}]}"#;
    let version = [("anthropic-version", "2023-06-01")];
    let answer = gateway
        .send("POST", "/v1/messages/count_tokens", &version, body)
        .await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let items = cost(&gateway, "by-model").await["items"].clone();
    let of = |model: &str| {
        let found = items
            .as_array()
            .unwrap()
            .iter()
            .find(|item| item["model"] == model);
        found.unwrap().clone()
    };
    assert_counts(&of("mock-gpt"), &metered_usage(&mock, "mock-gpt"));
    let counted = of("mock-claude");
    assert_eq!(
        (&counted["requests"], &counted["input_tokens"]),
        (&json!(1), &json!(0))
    );
    assert_eq!(counted["cost_usd"], json!(0));
}

#[tokio::test]
async fn models_without_a_price_are_counted_not_free() {
    let mock = mock().await;
    let gateway = priced_gateway(&mock).run().await;
    assert_eq!(gateway.chat("up/mock-free", &[]).await.status, 200);
    let current = cost(&gateway, "current").await;
    assert_eq!(current["total"]["unpriced_requests"], 1, "{current}");
    let listed = gateway.admin("/api/v1/requests", None).await.json();
    assert_eq!(listed["items"][0]["cost_usd"], Value::Null, "{listed}");
}

#[tokio::test]
async fn a_stream_without_usage_is_estimated() {
    let mock = mock().await;
    let gateway = priced_gateway(&mock).run().await;
    let headers = [("x-mock-no-usage", "1")];
    for stream in [false, true] {
        let body = chat_body("up/mock-gpt", stream);
        let answer = gateway
            .send("POST", "/v1/chat/completions", &headers, body)
            .await;
        assert_eq!(answer.status, 200);
    }
    let total = cost(&gateway, "current").await["total"].clone();
    assert_eq!(total["estimated_requests"], 2, "{total}");
    assert!(total["output_tokens"].as_u64().unwrap() > 0, "{total}");
}

#[tokio::test]
async fn failed_attempts_cost_nothing_and_are_one_request() {
    let (bad, good) = (mock().await, mock().await);
    let deployments = json!([
        { "provider": "bad", "model": "mock-gpt" }, { "provider": "up", "model": "mock-gpt" }
    ]);
    let gateway = priced_gateway(&good)
        .provider("bad", &bad)
        .provider_at("dead", "custom", &format!("http://{}/v1", free_address()))
        .add(
            "models",
            json!({ "name": "f", "strategy": "priority", "deployments": deployments }),
        )
        .run()
        .await;
    let url = format!("http://{}/mock/controls", bad.address);
    let set = reqwest::Client::new()
        .put(url)
        .body("status=503")
        .send()
        .await;
    assert!(set.unwrap().status().is_success());
    let id = [("x-request-id", "two-attempts")];
    assert_eq!(gateway.chat("f", &id).await.status, 200);
    assert_eq!(gateway.chat("dead/x", &[]).await.status, 502);
    let total = cost(&gateway, "current").await["total"].clone();
    assert_eq!(total["requests"], 2, "{total}");
    assert_eq!(
        hundredths(&total["cost_usd"]),
        expected_cost(&good, "mock-gpt"),
        "{total}"
    );
    let path = "/api/v1/requests/two-attempts";
    let request = gateway.admin(path, None).await.json();
    assert_eq!(
        (&request["model_asked"], &request["provider"]),
        (&json!("f"), &json!("up"))
    );
    assert_eq!(
        (&request["status"], &request["complete"]),
        (&json!(200), &json!(true))
    );
    let attempts = request["attempts"].as_array().unwrap();
    let told: Vec<_> = attempts
        .iter()
        .map(|attempt| (&attempt["provider"], &attempt["status"], &attempt["error"]))
        .collect();
    let expected = [
        (&json!("bad"), &json!(503), &json!("status")),
        (&json!("up"), &json!(200), &Value::Null),
    ];
    assert_eq!(told, expected, "{request}");
    let failed = gateway
        .admin("/api/v1/requests?provider=dead", None)
        .await
        .json();
    let failed = &failed["items"][0];
    assert_eq!(
        (&failed["status"], &failed["complete"]),
        (&json!(502), &json!(false))
    );
}

#[tokio::test]
async fn a_client_that_leaves_is_billed_what_it_got() {
    let mock = mock().await;
    let gateway = priced_gateway(&mock).run().await;
    let headers = [
        ("x-mock-token-delay", "20ms"),
        ("x-mock-tokens", "2000"),
        ("anthropic-version", "2023-06-01"),
    ];
    for (path, body) in [
        ("/v1/chat/completions", chat_body("up/mock-gpt", true)),
        (
            "/v1/messages",
            messages_body("mock-claude", true).replace("100", "4000"),
        ),
    ] {
        let response = gateway.start("POST", path, &headers, body).await.unwrap();
        let mut stream = response.bytes_stream();
        for _ in 0..10 {
            stream.next().await.unwrap().unwrap();
        }
    }
    eventually("both are settled", || async {
        cost(&gateway, "current").await["total"]["requests"] == 2
    })
    .await;
    let listed = gateway.admin("/api/v1/requests", None).await.json();
    for request in listed["items"].as_array().unwrap() {
        assert_eq!(request["complete"], false, "{request}");
        assert_eq!(request["estimated"], true, "{request}");
        let attempt = &request["attempts"][0];
        assert_eq!(attempt["error"], "client_gone", "{request}");
        assert_eq!(attempt["disconnect"], "cancel", "{request}");
        let output = request["usage"]["output_tokens"].as_u64().unwrap();
        assert!((3..500).contains(&output), "{request}");
        assert!(hundredths(&request["cost_usd"]) > 0, "{request}");
    }
}

#[tokio::test]
async fn a_stream_that_breaks_is_interrupted() {
    let mock = mock().await;
    let gateway = priced_gateway(&mock).run().await;
    let answer = gateway
        .chat_stream("up/mock-gpt", &[("x-mock-reset-after", "5")])
        .await;
    assert_eq!(answer.status, 200);
    let listed = gateway.admin("/api/v1/requests", None).await.json();
    let request = &listed["items"][0];
    assert_eq!(
        (&request["complete"], &request["estimated"]),
        (&json!(false), &json!(true))
    );
    assert!(
        request["usage"]["output_tokens"].as_u64().unwrap() > 0,
        "{request}"
    );
}

#[tokio::test]
async fn usage_is_asked_for_and_taken_out_again() {
    let mock = mock().await;
    let gateway = priced_gateway(&mock).run().await;
    let plain = gateway
        .chat_stream("up/mock-gpt", &[("x-mock-seed", "7")])
        .await;
    let text = String::from_utf8(plain.body).unwrap();
    assert!(!text.contains("usage"), "{text}");
    assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
    let asked = chat_body("up/mock-gpt", true).replacen(
        '{',
        r#"{"stream_options":{"include_usage":true},"#,
        1,
    );
    let with = gateway
        .send("POST", "/v1/chat/completions", &[], asked)
        .await;
    assert!(
        String::from_utf8(with.body)
            .unwrap()
            .contains("\"usage\":{")
    );
    let total = cost(&gateway, "current").await["total"].clone();
    assert_eq!(total["estimated_requests"], 0, "{total}");
    assert_counts(&total, &metered_usage(&mock, "mock-gpt"));
}

#[tokio::test]
async fn users_see_their_own_usage_only() {
    let mock = mock().await;
    let key = |name: &str, owner: &str, role: &str| {
        json!({ "name": name, "owner": owner, "role": role,
            "key": format!("sk-of-{name}-0123456789") })
    };
    let gateway = priced_gateway(&mock)
        .add("keys", key("ann", "team-a", "user"))
        .add("keys", key("bob", "team-b", "user"))
        .add("keys", key("eve", "team-e", "viewer"))
        .run()
        .await;
    let bearer = |name: &str| format!("Bearer sk-of-{name}-0123456789");
    let chat = |name: &str, user: &str| {
        let body =
            chat_body("up/mock-gpt", false).replacen('{', &format!("{{\"user\":\"{user}\","), 1);
        let request = reqwest::Client::new()
            .post(format!("{}/v1/chat/completions", gateway.url))
            .header("authorization", bearer(name))
            .header("x-request-id", format!("of-{name}"));
        request.body(body).send()
    };
    for (name, user) in [("ann", "alice"), ("ann", "carol"), ("bob", "alice")] {
        assert_eq!(chat(name, user).await.unwrap().status(), 200);
    }
    for (name, seen) in [("ann", 2), ("bob", 1), ("eve", 3)] {
        let as_who = Some(bearer(name));
        let current = gateway
            .admin("/api/v1/cost/current", as_who.as_deref())
            .await
            .json();
        assert_eq!(current["total"]["requests"], seen, "{name}: {current}");
        let listed = gateway
            .admin("/api/v1/requests", as_who.as_deref())
            .await
            .json();
        assert_eq!(listed["items"].as_array().unwrap().len(), seen, "{name}");
        let path = "/api/v1/requests/of-bob";
        let status = gateway.admin(path, as_who.as_deref()).await.status;
        assert_eq!(status, if name == "ann" { 404 } else { 200 }, "{name}");
    }
    let by_user = |items: Value| -> Vec<(String, u64)> {
        let items = items["items"].as_array().unwrap().clone();
        let pair = |item: &Value| {
            let user = item["user"].as_str().unwrap().to_owned();
            (user, item["requests"].as_u64().unwrap())
        };
        let mut pairs: Vec<_> = items.iter().map(pair).collect();
        pairs.sort();
        pairs
    };
    let owners = by_user(cost(&gateway, "by-user?group=owner").await);
    assert_eq!(owners, [("team-a".to_owned(), 2), ("team-b".to_owned(), 1)]);
    assert_eq!(chat("eve", "").await.unwrap().status(), 200);
    let expected =
        [("alice", 2), ("carol", 1), ("team-e", 1)].map(|(user, n)| (user.to_owned(), n));
    for path in ["by-user", "by-user?group=end_user"] {
        assert_eq!(by_user(cost(&gateway, path).await), expected, "{path}");
    }
    let first = cost(&gateway, "by-user?limit=2").await;
    assert_eq!(by_user(first.clone()), expected[..2]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let page = [("limit", "2"), ("cursor", cursor)];
    let page = reqwest::Url::parse_with_params("http://localhost/", page).unwrap();
    let rest = cost(&gateway, &format!("by-user?{}", page.query().unwrap())).await;
    assert_eq!(rest["next_cursor"], Value::Null);
    assert_eq!(by_user(rest), expected[2..]);
    let summary = cost(&gateway, "summary").await;
    assert_eq!(by_user(json!({ "items": summary["by_user"] })), expected);
}

#[tokio::test]
async fn lists_have_pages_and_mistakes_name_their_field() {
    let mock = mock().await;
    let gateway = priced_gateway(&mock).run().await;
    for _ in 0..3 {
        gateway.chat("up/mock-gpt", &[]).await;
    }
    let first = gateway.admin("/api/v1/requests?limit=2", None).await.json();
    assert_eq!(first["items"].as_array().unwrap().len(), 2);
    let cursor = first["next_cursor"].as_str().unwrap();
    let path = format!("/api/v1/requests?limit=2&cursor={cursor}");
    let second = gateway.admin(&path, None).await.json();
    assert_eq!(second["items"].as_array().unwrap().len(), 1);
    assert_eq!(second["next_cursor"], Value::Null);
    for (path, field) in [
        ("/api/v1/cost/daily?from=yesterday", "from"),
        ("/api/v1/cost/summary?from=2026-02-01&to=2026-01-01", "to"),
        ("/api/v1/cost/by-user?group=colour", "group"),
        ("/api/v1/cost/by-user?limit=10001", "limit"),
        ("/api/v1/cost/by-user?cursor=x", "cursor"),
        ("/api/v1/requests?limit=0", "limit"),
        ("/api/v1/requests?cursor=x", "cursor"),
        ("/api/v1/requests?status=ok", "status"),
    ] {
        let answer = gateway.admin(path, None).await;
        assert_eq!(answer.status, 400, "{path}");
        assert_eq!(answer.json()["error"]["field"], field, "{path}");
    }
    let unknown = gateway
        .admin("/api/v1/cost/current", Some("Bearer sk-nobody"))
        .await;
    assert_eq!(
        (unknown.status, unknown.code().as_str()),
        (401, "invalid_api_key")
    );
    assert_eq!(
        gateway.admin("/api/v1/requests/none", None).await.status,
        404
    );
    let days = cost(&gateway, "daily?from=2020-01-01&to=2020-12-31").await;
    assert_eq!(days["items"], json!([]));
}

#[tokio::test]
async fn a_clean_end_leaves_nothing_behind_and_verifies() {
    let mock = mock().await;
    let mut gateway = priced_gateway(&mock).run().await;
    for stream in [false, true] {
        let body = chat_body("up/mock-gpt", stream);
        gateway
            .send("POST", "/v1/chat/completions", &[], body)
            .await;
    }
    gateway.signal("TERM");
    assert_eq!(gateway.wait_for_exit().await, Some(0));
    let verified = gateway.command(&["ledger", "verify"]);
    let printed = String::from_utf8(verified.stdout).unwrap();
    assert_eq!(verified.status.code(), Some(0), "{printed}");
    let words = printed.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in ["pending 0", "open 0", "altered 0", "agrees: 2 entries"] {
        assert!(words.contains(line), "{line} is missing in\n{printed}");
    }
    let migrated = gateway.command(&["migrate"]);
    assert_eq!(migrated.status.code(), Some(0));
}

#[tokio::test]
async fn a_killed_router_bills_what_was_under_way_once() {
    let mock = mock().await;
    let mut gateway = priced_gateway(&mock).run().await;
    assert_eq!(gateway.chat("up/mock-gpt", &[]).await.status, 200);
    let headers = [("x-mock-token-delay", "50ms"), ("x-mock-tokens", "2000")];
    let mut streams = Vec::new();
    for _ in 0..10 {
        let body = chat_body("up/mock-gpt", true);
        let response = gateway
            .start("POST", "/v1/chat/completions", &headers, body)
            .await;
        let mut stream = response.unwrap().bytes_stream();
        stream.next().await.unwrap().unwrap();
        streams.push(stream);
    }
    gateway.kill_and_restart().await;
    drop(streams);
    eventually("the mock has seen them end", || async {
        mock.meter.open_streams() == 0
    })
    .await;
    let total = cost(&gateway, "current").await["total"].clone();
    assert_eq!(total["requests"], 11, "{total}");
    assert_eq!(total["estimated_requests"], 10, "{total}");
    assert_eq!(mock.meter.totals().requests, 11);
    gateway.kill_and_restart().await;
    let again = cost(&gateway, "current").await["total"].clone();
    assert_eq!(again, total, "a second start changed the books");
}

#[test]
fn a_ledger_that_cannot_be_opened_is_told_of() {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("c.yaml");
    for (store, prices, expected, code) in [
        ("sqlite:/proc/none/x.db", "", "can't be opened", 1),
        (
            "sqlite:x.db",
            "up/x: [ { from: 2026-01-01, input: -1 } ]",
            "prices.yaml:1: up/x",
            2,
        ),
    ] {
        std::fs::write(folder.path().join("prices.yaml"), prices).unwrap();
        let text = format!(
            "server: {{ listen: \"{}\" }}\nadmin: {{ listen: \"{}\" }}\nstore: {{ url: \"{store}\" }}\n{}",
            free_address(),
            free_address(),
            if prices.is_empty() {
                ""
            } else {
                "prices: prices.yaml\n"
            },
        );
        std::fs::write(&file, text).unwrap();
        let run = |command: &str| {
            let mut process = std::process::Command::new(binary());
            process.args([command, "--config"]).arg(&file);
            process.current_dir(folder.path()).output().unwrap()
        };
        let output = run("serve");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{told}");
        assert!(told.contains(expected), "{told}");
        if !prices.is_empty() {
            let checked = run("check");
            let told = String::from_utf8_lossy(&checked.stdout).into_owned();
            assert_eq!(checked.status.code(), Some(2), "{told}");
            assert!(told.contains(expected), "{told}");
        }
    }
}

#[tokio::test]
async fn silent_clients_leave_an_entry_too() {
    let mock = mock().await;
    let gateway = priced_gateway(&mock).run().await;
    let body = chat_body("up/mock-gpt", false);
    let request = gateway.start(
        "POST",
        "/v1/chat/completions",
        &[("x-mock-delay", "30s")],
        body,
    );
    assert!(
        tokio::time::timeout(Duration::from_millis(300), request)
            .await
            .is_err()
    );
    eventually("it is settled", || async {
        cost(&gateway, "current").await["total"]["requests"] == 1
    })
    .await;
    let listed = gateway.admin("/api/v1/requests", None).await.json();
    let request = &listed["items"][0];
    assert_eq!(
        (&request["complete"], &request["estimated"]),
        (&json!(false), &json!(true))
    );
    assert!(
        request["usage"]["input_tokens"].as_u64().unwrap() > 0,
        "{request}"
    );
}
