//! The requests browser: the record of each request, the explanation of its route, and its filters.

use serde_json::{Value, json};

use crate::harness::{Gateway, Mock, chat_body, eventually, gateway, mock};

const PRICES: &str = "good/mock-gpt:\n  - { from: 2026-01-01, input: 1, output: 5 }\n\
     bad/mock-gpt:\n  - { from: 2026-01-01, input: 1, output: 5 }\n";

async fn ours() -> (Mock, Mock, Gateway) {
    let (bad, good) = (mock().await, mock().await);
    bad.set_controls("status=500").await;
    let gateway = gateway()
        .provider("bad", &bad)
        .provider("good", &good)
        .add(
            "models",
            json!({ "name": "fast", "strategy": "priority", "deployments": [
                { "provider": "bad", "model": "mock-gpt" },
                { "provider": "good", "model": "mock-gpt" },
                { "provider": "good", "model": "mock-spare" },
            ] }),
        )
        .set(
            "/routing",
            json!({ "rules": [{ "name": "sea", "when": { "regex": "the sea" },
                "then": { "use_model": "fast" } }] }),
        )
        .file("prices.yaml", PRICES)
        .set("/prices", "prices.yaml".into())
        .run()
        .await;
    (bad, good, gateway)
}

async fn find(gateway: &Gateway, filter: &str) -> Vec<String> {
    let path = format!("/api/v1/requests?{filter}");
    let answer = gateway.admin(&path, None).await;
    assert_eq!(answer.status, 200, "{filter}: {:?}", answer.json());
    let found = answer.json();
    let items = found["items"].as_array().unwrap().iter();
    items
        .map(|item| item["id"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn requests_are_found_by_what_they_were() {
    let (_bad, _good, gateway) = ours().await;
    let dear = [
        ("x-request-id", "dear"),
        ("x-mock-usage", "input=10,output=1000000"),
    ];
    let slow = [
        ("x-request-id", "slow"),
        ("x-mock-delay", "400ms"),
        ("x-mock-usage", "input=1,output=1"),
    ];
    assert_eq!(gateway.chat("auto", &dear).await.status, 200);
    assert_eq!(gateway.chat("good/mock-gpt", &slow).await.status, 200);
    assert_eq!(
        gateway
            .chat("bad/mock-gpt", &[("x-request-id", "failed")])
            .await
            .status,
        500
    );
    eventually("all are there", || async {
        find(&gateway, "").await.len() == 3
    })
    .await;
    for (filter, expected) in [
        ("", &["failed", "slow", "dear"][..]),
        ("rule=sea", &["dear"]),
        ("rule=other", &[]),
        ("status=500", &["failed"]),
        ("status=200", &["slow", "dear"]),
        ("provider=bad", &["failed"]),
        ("model=mock-gpt&provider=good", &["slow", "dear"]),
        ("key=client", &["failed", "slow", "dear"]),
        ("key=nobody", &[]),
        ("min_cost_usd=5", &["dear"]),
        ("min_cost_usd=5.00001", &["dear"]),
        ("min_cost_usd=5.000011", &[]),
        ("min_cost_usd=1e-6", &["slow", "dear"]),
        ("min_latency_ms=400", &["slow"]),
        ("min_latency_ms=3600000", &[]),
        ("from=2020-01-01&to=2099-12-31", &["failed", "slow", "dear"]),
        ("to=2020-01-01", &[]),
        ("from=2099-01-01T00:00:00Z", &[]),
        ("to=2099-01-01T00:00:00%2B02:00&status=500", &["failed"]),
    ] {
        assert_eq!(find(&gateway, filter).await, expected, "{filter}");
    }
    for field in [
        "from",
        "to",
        "status",
        "min_cost_usd",
        "min_latency_ms",
        "cursor",
    ] {
        for value in ["x", "-1", ""] {
            let path = format!("/api/v1/requests?{field}={value}");
            let answer = gateway.admin(&path, None).await;
            let told = answer.json();
            assert_eq!(
                (answer.status, &told["error"]["field"]),
                (400, &json!(field)),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn a_request_tells_why_it_went_where_it_went() {
    let (_bad, _good, gateway) = ours().await;
    let told = async |id: &str| -> Value {
        let path = format!("/api/v1/requests/{id}");
        eventually("it is told of", || async {
            gateway.admin(&path, None).await.status == 200
        })
        .await;
        let text = gateway.admin(&path, None).await;
        assert!(!String::from_utf8_lossy(&text.body).contains("Tell me about"));
        text.json()
    };
    assert_eq!(
        gateway
            .chat("auto", &[("x-request-id", "ruled")])
            .await
            .status,
        200
    );
    let request = told("ruled").await;
    let candidate = |provider: &str, model: &str, tried: bool| json!({ "provider": provider, "model": model, "tried": tried });
    assert_eq!(
        request["explanation"],
        json!({
            "why": "`the sea` is found in last_user",
            "candidates": [
                candidate("bad", "mock-gpt", true),
                candidate("good", "mock-gpt", true),
                candidate("good", "mock-spare", false),
            ],
            "left_out": [],
        }),
    );
    assert_eq!(request["rule"], "sea");
    assert_eq!(request["attempts"].as_array().unwrap().len(), 2);
    let latency = request["latency_ms"].as_f64();
    assert!(latency >= request["router_ms"].as_f64(), "{request}");

    // By now the circuit of the bad one may rest: whoever wasn't asked for that is told.
    for number in 0..30 {
        let id = format!("n-{number}");
        gateway.chat("fast", &[("x-request-id", &id)]).await;
        let left_out = told(&id).await["explanation"]["left_out"].clone();
        if let Some(one) = left_out.as_array().unwrap().first() {
            assert_eq!(
                (&one["provider"], &one["model"]),
                (&json!("bad"), &json!("mock-gpt"))
            );
            assert!(one["why"].as_str().unwrap().contains("circuit"), "{one}");
            break;
        }
        assert!(number < 29, "the circuit never opened");
    }

    let direct = [("x-request-id", "direct")];
    assert_eq!(gateway.chat("good/mock-gpt", &direct).await.status, 200);
    let why = &told("direct").await["explanation"]["why"];
    assert_eq!(why, "not tried: the request names its provider");
    let body = chat_body("fast", true).replace("the sea", "the land");
    let headers = [("x-request-id", "streamed")];
    gateway
        .send("POST", "/v1/chat/completions", &headers, body)
        .await;
    assert_eq!(
        told("streamed").await["explanation"]["why"],
        "no rule matched"
    );
}
