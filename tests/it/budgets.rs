//! Keys with a budget: their spending never exceeds it.

use serde_json::{Value, json};

use crate::harness::{Gateway, Mock, chat_body, eventually, header_map, mock};
use crate::ledger::{cost, expected_cost, hundredths, priced_gateway};

/// 0.026 USD: what 50 requests with 20 tokens of input and 100 of output cost.
const BUDGET: u64 = 2_600_000;

async fn poor(mock: &Mock) -> Gateway {
    priced_gateway(mock)
        .add(
            "keys",
            json!({ "name": "poor", "key": "sk-of-poor-0123456789",
                "budget": { "usd": 0.026, "period": "total" } }),
        )
        .run()
        .await
}

/// Asks 200 times at once; how many were answered. Who is not is told why, unless the router died.
async fn two_hundred(gateway: &Gateway, text: &str, headers: &[(&str, &str)]) -> usize {
    let body = json!({ "model": "up/mock-gpt", "max_tokens": 100,
        "messages": [{ "role": "user", "content": text }] });
    let asked = (0..200).map(|_| {
        let request = reqwest::Client::new()
            .post(format!("{}/v1/chat/completions", gateway.url))
            .headers(header_map(headers))
            .header("authorization", "Bearer sk-of-poor-0123456789");
        request.body(body.to_string()).send()
    });
    let mut answered = 0;
    for answer in futures::future::join_all(asked).await.into_iter().flatten() {
        if answer.status() == 200 {
            answered += 1;
            continue;
        }
        assert_eq!(answer.status(), 429);
        assert_eq!(answer.headers()["x-should-retry"], "false");
        let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
        assert_eq!(body["error"]["code"], "insufficient_quota", "{body}");
    }
    answered
}

/// Returns the spending in the ledger, once no call is in flight and nothing is reserved.
async fn settled_spending(gateway: &Gateway) -> u64 {
    eventually("nothing is reserved", || async {
        gateway.metric("llm_router_requests_in_flight", &[]).await == 0.0
            && gateway.metric("llm_router_budget_reservations", &[]).await == 0.0
    })
    .await;
    hundredths(&cost(gateway, "current").await["total"]["cost_usd"])
}

#[tokio::test]
async fn a_budget_is_never_overspent() {
    let forced = [("x-mock-usage", "input=20,output=100")];
    let long = "Tell me about the sea and what lives in it. ".repeat(40);
    let dense = "海は広い。\u{1f30a}".repeat(30);
    let short = "Tell me about the sea.";
    for (text, headers, least) in [
        (short, &forced[..], 40),
        (short, &[], 1),
        (&long, &[], 1),
        (&dense, &[], 1),
    ] {
        let mock = mock().await;
        let mut gateway = poor(&mock).await;
        let answered = two_hundred(&gateway, text, headers).await;
        assert!(answered >= least, "{answered} were answered");
        let first = settled_spending(&gateway).await;
        assert_eq!(first, expected_cost(&mock, "mock-gpt"));
        assert!(first <= BUDGET, "{text}: {first}");
        // Whoever starts anew knows what was spent.
        gateway.kill_and_restart().await;
        two_hundred(&gateway, text, headers).await;
        let second = settled_spending(&gateway).await;
        assert_eq!(second, expected_cost(&mock, "mock-gpt"));
        assert!((first..=BUDGET).contains(&second), "{text}: {second}");
    }
}

#[tokio::test]
async fn a_budget_outlives_a_crash_in_its_midst() {
    let mock = mock().await;
    let mut gateway = poor(&mock).await;
    let usage = ("x-mock-usage", "input=20,output=100");
    // Long enough that they are seen under way on a busy machine, short enough for a first byte.
    let headers = [usage, ("x-mock-delay", "1500ms")];
    let text = "Tell me about the sea.";
    let under_way = eventually("some are under way", || async {
        gateway.metric("llm_router_budget_reservations", &[]).await >= 30.0
    });
    tokio::select! {
        answered = two_hundred(&gateway, text, &headers) => panic!("{answered} came too early"),
        () = under_way => {}
    }
    gateway.kill_and_restart().await;
    for _ in 0..2 {
        two_hundred(&gateway, text, &[usage]).await;
    }
    let spent = settled_spending(&gateway).await;
    assert!(spent <= BUDGET, "{spent}");
    assert!(expected_cost(&mock, "mock-gpt") <= spent, "{spent}");
}

#[tokio::test]
async fn a_budget_needs_prices_unless_told_otherwise() {
    let mock = mock().await;
    let key = |name: &str, allow: bool| {
        json!({ "name": name, "key": format!("sk-of-{name}-0123456789"),
            "budget": { "usd": 1, "period": "month", "allow_unpriced": allow } })
    };
    let gateway = priced_gateway(&mock)
        .add("keys", key("strict", false))
        .add("keys", key("loose", true))
        .run()
        .await;
    for (name, status) in [("strict", 429), ("loose", 200)] {
        let request = reqwest::Client::new()
            .post(format!("{}/v1/chat/completions", gateway.url))
            .header("authorization", format!("Bearer sk-of-{name}-0123456789"));
        let answer = request.body(chat_body("up/mock-free", false)).send().await;
        assert_eq!(answer.unwrap().status(), status, "{name}");
    }
}

#[tokio::test]
async fn keys_of_one_owner_share_its_budget() {
    let mock = mock().await;
    let key = |name: &str, owner: &str| json!({ "name": name, "owner": owner, "key": format!("sk-of-{name}-0123456789") });
    // Each request costs 0.00052 USD and holds little more.
    let gateway = priced_gateway(&mock)
        .add("keys", key("ann", "team"))
        .add("keys", key("bob", "team"))
        .add("keys", key("eve", "other"))
        .set(
            "/owners",
            json!([{ "name": "team", "budget": { "usd": 0.002, "period": "day" } }]),
        )
        .run()
        .await;
    let mut answered = Vec::new();
    for name in ["ann", "bob", "ann", "bob", "ann", "eve"] {
        let body = chat_body("up/mock-gpt", false).replacen('{', "{\"max_tokens\":100,", 1);
        let request = reqwest::Client::new()
            .post(format!("{}/v1/chat/completions", gateway.url))
            .header("authorization", format!("Bearer sk-of-{name}-0123456789"))
            .header("x-mock-usage", "input=20,output=100");
        let answer = request.body(body).send().await.unwrap();
        answered.push(answer.status().as_u16());
        if answer.status() == 429 {
            let told = answer.text().await.unwrap();
            assert!(told.contains("owner team"), "{told}");
        }
    }
    assert_eq!(answered, [200, 200, 200, 429, 429, 200]);
}
