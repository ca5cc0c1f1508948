//! Requests that try to cost more than a budget has: whatever a server may write for them, at most
//! the budget is spent, or the request is refused with the field that would bound it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::harness::{Gateway, GatewayBuilder, eventually, gateway};
use crate::ledger::{cost, hundredths};
use crate::shared_budgets::BudgetPlace;

/// 0.05 USD, in hundredths of a micro-dollar.
const BUDGET: u64 = 5_000_000;

/// USD per million tokens. `up` has no facts of its models; `known` has OpenAI's.
const PRICES: &str = "up/m:\n  - { from: 2026-01-01, input: 1, output: 10, searches_per_1k: 10,\n      \
     cache_write_1h: 2, service_tiers: { priority: { input: 2, output: 20 } } }\n\
     known/gpt-4o-mini:\n  - { from: 2026-01-01, input: 1, output: 10 }\n";

/// The longest answer of a model that a server knows no limit for, in tokens.
const LONGEST: u64 = 16_384;

/// A server that writes the most that a request allows in any reading of it, and adds up what that
/// costs in hundredths of a micro-dollar.
#[derive(Clone, Default)]
struct Greedy {
    billed: Arc<AtomicU64>,
}

impl Greedy {
    async fn run(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let paths = ["chat/completions", "completions", "responses", "messages"];
        let mut router = Router::new();
        for path in paths {
            router = router.route(&format!("/v1/{path}"), post(Self::answer));
        }
        let server = axum::serve(listener, router.with_state(self.clone()));
        tokio::spawn(server.into_future());
        address
    }

    async fn answer(State(greedy): State<Self>, body: String) -> Json<Value> {
        let body: Value = serde_json::from_str(&body).unwrap();
        let limits = ["max_tokens", "max_completion_tokens", "max_output_tokens"];
        let limit = limits
            .into_iter()
            .filter_map(|name| number(&body[name]))
            .max();
        let answers = number(&body["n"])
            .max(number(&body["best_of"]))
            .unwrap_or(1);
        let prompts = body["prompt"].as_array().map_or(1, Vec::len) as u64;
        let output = limit.unwrap_or(LONGEST) * answers.max(1) * prompts.max(1);
        let searches: u64 = body["tools"]
            .as_array()
            .into_iter()
            .flatten()
            .fold(0, |sum, tool| {
                let is_search = tool["type"]
                    .as_str()
                    .is_some_and(|kind| kind.starts_with("web_search"));
                let uses = number(&tool["max_uses"]).or(number(&body["max_tool_calls"]));
                sum + if is_search { uses.unwrap_or(10) } else { 0 }
            });
        let wanted = body["service_tier"].as_str().unwrap_or("default");
        let tier = match wanted {
            "priority" | "fast" | "auto" => "priority",
            _ => "default",
        };
        let factor = if tier == "priority" { 2 } else { 1 };
        let input = 10;
        let billed = factor * (100 * input + 1_000 * output) + searches * 1_000_000;
        greedy.billed.fetch_add(billed, Ordering::Relaxed);
        Json(match body.get("max_output_tokens") {
            Some(_) => json!({
                "object": "response", "id": "r", "status": "completed", "model": "m",
                "service_tier": tier,
                "output": [{ "type": "message", "content": [{ "type": "output_text", "text": "x" }] }],
                "usage": { "input_tokens": input, "output_tokens": output },
                "tool_usage": { "web_search": { "num_requests": searches } },
            }),
            None => json!({
                "object": "chat.completion", "id": "c", "model": "m", "service_tier": tier,
                "choices": [{ "index": 0, "finish_reason": "stop",
                    "message": { "role": "assistant", "content": "x" }, "text": "x" }],
                "usage": { "prompt_tokens": input, "completion_tokens": output },
            }),
        })
    }
}

/// A count in any spelling that a lenient server takes.
fn number(value: &Value) -> Option<u64> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok()?,
        other => other.as_f64()?,
    };
    (number > 0.0).then_some(number as u64)
}

/// Requests, each with the field that it is refused for, or none if it is bounded.
type Shape = (&'static str, Value, Option<&'static str>);

fn shapes() -> Vec<Shape> {
    [limits(), multipliers(), completions(), responses()].concat()
}

/// Limits of output in every spelling.
fn limits() -> Vec<Shape> {
    [
        (json!({ "max_tokens": 500 }), None),
        (json!({ "max_completion_tokens": 500 }), None),
        (json!({}), Some("max_tokens")),
        (json!({ "max_tokens": null }), Some("max_tokens")),
        (json!({ "max_tokens": 0 }), Some("max_tokens")),
        (json!({ "max_output_tokens": 5 }), Some("max_tokens")),
        (json!({ "max_tokens": 5000.0 }), None),
        (json!({ "max_tokens": "5000" }), None),
        (json!({ "max_tokens": " 5e3 " }), None),
        (json!({ "max_tokens": 100_000.0 }), None),
        (json!({ "max_tokens": "100000" }), None),
        (json!({ "max_tokens": -5 }), Some("max_tokens")),
        (json!({ "max_tokens": "lots" }), Some("max_tokens")),
        (json!({ "max_tokens": true }), Some("max_tokens")),
        (json!({ "max_tokens": [9] }), Some("max_tokens")),
        (
            json!({ "max_tokens": 5, "max_completion_tokens": 4000 }),
            None,
        ),
        (
            json!({ "max_tokens": 4000, "max_completion_tokens": 5 }),
            None,
        ),
    ]
    .map(|(body, field)| ("chat/completions", body, field))
    .to_vec()
}

/// Answers, tiers and predictions beside a limit of output.
fn multipliers() -> Vec<Shape> {
    [
        (json!({ "max_tokens": 200, "n": 20 }), None),
        (json!({ "max_tokens": 200, "n": 20.0 }), None),
        (json!({ "max_tokens": 200, "n": "20" }), None),
        (json!({ "max_tokens": 200, "n": [] }), Some("n")),
        (json!({ "max_tokens": 200, "n": 0 }), None),
        (
            json!({ "max_tokens": 900, "service_tier": "priority" }),
            None,
        ),
        (json!({ "max_tokens": 900, "service_tier": "fast" }), None),
        (json!({ "max_tokens": 900, "service_tier": "auto" }), None),
        (
            json!({ "max_tokens": 900, "service_tier": "default" }),
            None,
        ),
        (
            json!({ "max_tokens": 9, "prediction": { "content": "x".repeat(4_000) } }),
            None,
        ),
    ]
    .map(|(body, field)| ("chat/completions", body, field))
    .to_vec()
}

fn completions() -> Vec<Shape> {
    [
        (json!({ "max_tokens": 300, "prompt": "a" }), None),
        (
            json!({ "max_tokens": 300, "prompt": "a", "best_of": 9 }),
            None,
        ),
        (
            json!({ "max_tokens": 300, "prompt": "a", "best_of": 9, "n": 2 }),
            None,
        ),
        (json!({ "max_tokens": 30, "prompt": vec!["a"; 100] }), None),
        (
            json!({ "max_tokens": 30, "prompt": [[1, 2], [3, 4]] }),
            None,
        ),
        (
            json!({ "max_completion_tokens": 5, "prompt": "a" }),
            Some("max_tokens"),
        ),
    ]
    .map(|(body, field)| ("completions", body, field))
    .to_vec()
}

fn responses() -> Vec<Shape> {
    let search = json!([{ "type": "web_search" }]);
    let image = json!([{ "type": "image_generation" }]);
    [
        (json!({ "max_output_tokens": 700 }), None),
        (json!({}), Some("max_output_tokens")),
        (json!({ "max_tokens": 5 }), Some("max_output_tokens")),
        (
            json!({ "max_output_tokens": 9, "previous_response_id": "r" }),
            Some("previous_response_id"),
        ),
        (
            json!({ "max_output_tokens": 9, "tools": search }),
            Some("max_tool_calls"),
        ),
        (
            json!({ "max_output_tokens": 9, "tools": search, "max_tool_calls": 2 }),
            None,
        ),
        (
            json!({ "max_output_tokens": 9, "tools": image }),
            Some("tools[0]"),
        ),
    ]
    .map(|(mut body, field)| {
        body["input"] = "a".into();
        ("responses", body, field)
    })
    .to_vec()
}

/// A router with a key for each shape, each with the same budget.
fn builder(upstream: SocketAddr) -> GatewayBuilder {
    let url = format!("http://{upstream}/v1");
    let provider = |id: &str, kind: &str| json!({ "id": id, "type": kind, "base_url": url, "api_key": "${CREDENTIAL}" });
    let builder = gateway()
        .add("providers", provider("up", "custom"))
        .add("providers", provider("known", "openai"))
        .file("prices.yaml", PRICES)
        .set("/prices", "prices.yaml".into());
    (0..=shapes().len()).fold(builder, |builder, number| {
        builder.add(
            "keys",
            json!({ "name": format!("k{number}"), "key": key(number),
                "budget": { "usd": 0.05, "period": "total" } }),
        )
    })
}

fn key(number: usize) -> String {
    format!("sk-of-shape-{number:04}-0123456789")
}

/// Asks twenty times at once, and returns the statuses with the fields that were named.
async fn ask(gateway: &Gateway, key: &str, path: &str, body: &Value) -> Vec<(u16, Option<String>)> {
    let asked = (0..20).map(|_| async {
        let request = gateway
            .client
            .post(format!("{}/v1/{path}", gateway.url))
            .header("authorization", format!("Bearer {key}"))
            .body(body.to_string());
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        (status, body["error"]["param"].as_str().map(str::to_owned))
    });
    futures::future::join_all(asked).await
}

async fn spends_at_most_the_budget(gateway: &Gateway, greedy: &Greedy) {
    let mut total = 0;
    for (number, (path, shape, field)) in shapes().into_iter().enumerate() {
        let before = greedy.billed.load(Ordering::Relaxed);
        let mut body = shape.clone();
        body["model"] = "up/m".into();
        if path == "chat/completions" {
            body["messages"] = json!([{ "role": "user", "content": "Hi." }]);
        }
        let answers = ask(gateway, &key(number), path, &body).await;
        let billed = greedy.billed.load(Ordering::Relaxed) - before;
        assert!(billed <= BUDGET, "{path} {shape}: {billed} of {BUDGET}");
        total += billed;
        for (status, named) in answers {
            match field {
                Some(field) => {
                    assert_eq!((status, named.as_deref()), (400, Some(field)), "{shape}")
                }
                None => assert!(
                    matches!(status, 200 | 429),
                    "{path} {shape}: {status} {named:?}"
                ),
            }
        }
        if field.is_some() {
            assert_eq!(billed, 0, "{shape}");
        }
    }
    eventually("all is settled", || async {
        hundredths(&cost(gateway, "current").await["total"]["cost_usd"]) == total
    })
    .await;
}

#[tokio::test]
async fn no_shape_of_request_overspends_a_budget() {
    let greedy = Greedy::default();
    let gateway = builder(greedy.run().await).run().await;
    spends_at_most_the_budget(&gateway, &greedy).await;
}

#[tokio::test]
async fn no_shape_overspends_a_budget_in_redis() {
    let Some(place) = BudgetPlace::redis() else {
        return;
    };
    let greedy = Greedy::default();
    let gateway = place.equip(builder(greedy.run().await)).run().await;
    spends_at_most_the_budget(&gateway, &greedy).await;
}

#[tokio::test]
async fn no_shape_overspends_a_budget_in_postgres() {
    let Some(place) = BudgetPlace::postgres() else {
        return;
    };
    let greedy = Greedy::default();
    let gateway = place.equip(builder(greedy.run().await)).run().await;
    spends_at_most_the_budget(&gateway, &greedy).await;
}

#[tokio::test]
async fn a_request_without_a_limit_gets_the_models_own() {
    let greedy = Greedy::default();
    let gateway = builder(greedy.run().await).run().await;
    let body = json!({ "model": "known/gpt-4o-mini",
        "messages": [{ "role": "user", "content": "Hi." }] });
    let poor = key(shapes().len());
    let answers = ask(&gateway, &poor, "chat/completions", &body).await;
    // One answer may cost 0.164 USD, which doesn't fit into the budget.
    assert!(
        answers.iter().all(|(status, _)| *status == 429),
        "{answers:?}"
    );
    let rich = ask(&gateway, crate::harness::KEY, "chat/completions", &body).await;
    assert!(rich.iter().all(|(status, _)| *status == 200), "{rich:?}");
}

#[tokio::test]
async fn a_refusal_says_what_the_call_may_cost_and_what_is_left() {
    let greedy = Greedy::default();
    let gateway = builder(greedy.run().await).run().await;
    let body = json!({ "model": "up/m", "max_tokens": 100_000,
        "messages": [{ "role": "user", "content": "Hi." }] });
    let answer = gateway
        .client
        .post(format!("{}/v1/chat/completions", gateway.url))
        .header("authorization", format!("Bearer {}", key(0)))
        .body(body.to_string());
    let answer = answer.send().await.unwrap();
    assert_eq!(answer.status(), 429);
    let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    let message = body["error"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("This call may cost up to $1."),
        "{message}"
    );
    assert!(message.contains("$0.05 of $0.05 is left"), "{message}");
    assert!(
        message.contains("lower the limit on output tokens"),
        "{message}"
    );
    assert!(!message.contains("used up"), "{message}");
}
