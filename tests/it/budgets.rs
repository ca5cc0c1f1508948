//! Keys with a budget: what is spent of it never exceeds it.

use serde_json::{Value, json};

use crate::harness::{chat_body, mock};
use crate::ledger::{cost, hundredths, owed, priced};

#[tokio::test]
async fn a_budget_is_never_overspent() {
    let mock = mock().await;
    // A request costs 20 * 1 + 100 * 5 = 520 millionths of a dollar; 50 of them 0.026 USD.
    let mut gateway = priced(&mock)
        .add(
            "keys",
            json!({ "name": "poor", "key": "sk-of-poor-0123456789",
                "budget": { "usd": 0.026, "period": "total" } }),
        )
        .run()
        .await;
    for round in 0..2 {
        let asked = (0..200).map(|_| {
            let body = chat_body("up/mock-gpt", false).replacen('{', "{\"max_tokens\":100,", 1);
            let request = reqwest::Client::new()
                .post(format!("{}/v1/chat/completions", gateway.url))
                .header("authorization", "Bearer sk-of-poor-0123456789")
                .header("x-mock-usage", "input=20,output=100");
            async move { request.body(body).send().await.unwrap() }
        });
        let mut answered = 0;
        for answer in futures::future::join_all(asked).await {
            if answer.status() == 200 {
                answered += 1;
                continue;
            }
            assert_eq!(answer.status(), 429);
            assert_eq!(answer.headers()["x-should-retry"], "false");
            let body: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
            assert_eq!(body["error"]["code"], "insufficient_quota", "{body}");
        }
        let total = cost(&gateway, "current").await["total"].clone();
        let spent = hundredths(&total["cost_usd"]);
        assert_eq!(spent, owed(&mock, "mock-gpt"));
        assert!(spent <= 2_600_000, "round {round}: {total}");
        assert!(answered >= 45 || round > 0, "{answered} were answered");
        // Whoever starts anew knows what was spent.
        gateway.kill_and_restart().await;
    }
}

#[tokio::test]
async fn a_budget_needs_prices_unless_told_otherwise() {
    let mock = mock().await;
    let key = |name: &str, allow: bool| {
        json!({ "name": name, "key": format!("sk-of-{name}-0123456789"),
            "budget": { "usd": 1, "period": "month", "allow_unpriced": allow } })
    };
    let gateway = priced(&mock)
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
