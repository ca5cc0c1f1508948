//! Explanations predict routing: the same request is explained, then sent.

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, Mock, gateway, mock};

const VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");

async fn explain(gateway: &Gateway, headers: &[(&str, &str)], query: &str, body: &str) -> Answer {
    let url = format!("{}/api/v1/router/explain{query}", gateway.admin_url);
    let request = gateway
        .client
        .post(url)
        .headers(crate::harness::header_map(headers));
    let response = request.body(body.to_owned()).send().await.unwrap();
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.bytes().await.unwrap().to_vec(),
    }
}

/// Returns the outcome that an explanation predicts, in the words of [`outcome_of`].
fn foretold(explanation: &Value) -> String {
    let rule = explanation["rule"]["name"].as_str().unwrap_or("-");
    if let Some(refused) = explanation["refused"].as_object() {
        assert_eq!(explanation["candidates"], json!([]));
        return format!("{} {} by {rule}", refused["status"], refused["code"]);
    }
    let first = &explanation["candidates"][0];
    format!("{} {} by {rule}", first["provider"], first["model"])
}

fn outcome_of(answer: &Answer) -> String {
    let header = |name| answer.header(name).unwrap_or("-");
    let rule = header("x-llm-router-rule");
    if answer.status == 200 {
        let (provider, model) = (
            header("x-llm-router-provider"),
            header("x-llm-router-model"),
        );
        return format!("{provider:?} {model:?} by {rule}");
    }
    let error = answer.json();
    let code = &error["error"]["code"];
    format!("{} {code} by {rule}", answer.status)
}

async fn routed_gateway() -> (Gateway, [Mock; 2]) {
    let (one, two) = (mock().await, mock().await);
    let gateway = gateway()
        .provider("one", &one)
        .provider("two", &two)
        .provider_at("claude", "anthropic", &format!("http://{}", two.address))
        .model("fast", "one", "mock-gpt")
        .model("strong", "two", "mock-claude")
        .model("foreign", "claude", "mock-claude")
        .add("keys", json!({ "name": "narrow", "key": "sk-narrow-key-0123456789", "models": ["fast"], "role": "viewer" }))
        .add("keys", json!({ "name": "user", "key": "sk-user-key-0123456789" }))
        .set("/routing", json!({ "default_model": "fast", "rules": [
            { "name": "blocked", "when": { "header": { "name": "x-app", "regex": "^old" } },
              "then": { "block": { "status": 410, "message": "Gone." } } },
            { "name": "narrow", "when": { "key": "narrow", "regex": "sea" }, "then": { "use_model": "strong" } },
            { "name": "hard", "when": { "complexity": { "min": 0.6 } }, "then": { "use_model": "strong" } },
            { "name": "eu", "when": { "header": { "name": "x-region", "equals": "eu" }, "not": { "model": "strong" } },
              "then": { "use_provider": "two" } },
            { "name": "users", "when": { "header": { "name": "x-user", "regex": "." } },
              "then": { "split": [{ "model": "fast", "weight": 1 }, { "model": "strong", "weight": 1 }], "sticky_by": "header x-user" } },
            { "name": "cool", "when": { "model": "fast" }, "then": { "set": { "temperature": 0 } } },
        ] }))
        .run()
        .await;
    (gateway, [one, two])
}

#[tokio::test]
async fn what_is_explained_is_done() {
    let (gateway, _mocks) = routed_gateway().await;
    let hard = "Prove that there are infinitely many primes, derive a bound and analyze it.";
    let narrow = ("authorization", "Bearer sk-narrow-key-0123456789");
    let mut seen = std::collections::BTreeSet::new();
    for headers in [
        vec![],
        vec![("x-app", "older")],
        vec![("x-region", "eu")],
        vec![("x-user", "a")],
        vec![("x-user", "b")],
        vec![("x-user", "c")],
        vec![narrow],
    ] {
        for model in [
            "auto",
            "fast",
            "strong",
            "foreign",
            "one/mock-gpt",
            "mock-gpt",
            "two/none",
            "claude/x",
        ] {
            for text in ["hello", "the sea", hard] {
                let messages = json!([{ "role": "user", "content": text }]);
                let body =
                    json!({ "model": model, "max_tokens": 9, "messages": messages }).to_string();
                for (path, format) in [
                    ("/v1/chat/completions", "openai-chat"),
                    ("/v1/messages", "anthropic-messages"),
                ] {
                    let mut headers = headers.clone();
                    headers.push(VERSION);
                    let query = format!("?format={format}");
                    let explanation = explain(&gateway, &headers, &query, &body).await;
                    assert_eq!(explanation.status, 200, "{explanation:?}");
                    let explanation = explanation.json();
                    let answer = gateway.send("POST", path, &headers, body.clone()).await;
                    let (mut told, mut got) = (foretold(&explanation), outcome_of(&answer));
                    if path == "/v1/messages" && answer.status != 200 {
                        // Anthropic's errors have no code.
                        got = got.replace("null ", "");
                        told = told.split_once('"').map_or(told.clone(), |(status, rest)| {
                            format!("{status}{}", rest.split_once("\" ").unwrap().1)
                        });
                    }
                    assert_eq!(told, got, "{headers:?} {path} {body}: {explanation}");
                    assert_eq!(explanation["model_asked"], model);
                    seen.insert(told);
                }
            }
        }
    }
    assert!(seen.len() >= 12, "{seen:?}");
}

#[tokio::test]
async fn explanations_show_rules_scores_and_prices() {
    let (gateway, _mocks) = routed_gateway().await;
    let body = json!({ "model": "auto", "messages": [{ "role": "user", "content": "the sea" }] });
    let body = body.to_string();
    let told = explain(&gateway, &[], "", &body).await.json();
    assert_eq!(told["enabled"], true);
    let rules = told["rules"].as_array().unwrap();
    let names: Vec<&str> = rules
        .iter()
        .map(|rule| rule["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["blocked", "narrow", "hard", "eu", "users", "cool"]);
    assert_eq!(rules[0]["why"], "header x-app is absent");
    assert_eq!(rules[1]["why"], "key isn't `narrow`");
    let score = told["complexity"]["score"].as_f64().unwrap();
    let why = format!("complexity {score:.3} isn't within 0.6 to 1");
    assert_eq!(rules[2]["why"], why);
    assert!(told["complexity"]["features"].as_array().unwrap().len() >= 15);
    assert_eq!(
        told["candidates"],
        json!([{ "provider": "one", "model": "mock-gpt", "price": null }])
    );
    assert_eq!(told["left_out"], json!([]));
    let foreign = json!({ "model": "foreign", "input": "sea" }).to_string();
    let told = explain(&gateway, &[], "?format=openai-chat", &foreign)
        .await
        .json();
    assert_eq!(told["left_out"][0]["provider"], "claude");
    assert!(
        told["left_out"][0]["why"]
            .as_str()
            .unwrap()
            .contains("endpoint"),
        "{told}"
    );
}

#[tokio::test]
async fn explaining_needs_a_viewer_and_a_body() {
    let (gateway, _mocks) = routed_gateway().await;
    let user = [("authorization", "Bearer sk-user-key-0123456789")];
    let good = r#"{"model":"auto","messages":[]}"#;
    for (headers, query, body, status, code) in [
        (&user[..], "", good, 403, "permission_denied"),
        (&[], "?format=gemini", good, 400, "invalid_value"),
        (&[], "", "{", 400, "invalid_json"),
        (&[], "", "{}", 400, "invalid_value"),
        (
            &[("authorization", "Bearer no")],
            "",
            good,
            401,
            "invalid_api_key",
        ),
    ] {
        let answer = explain(&gateway, headers, query, body).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{query} {body}"
        );
    }
}

#[tokio::test]
async fn the_command_line_explains_too() {
    let (gateway, _mocks) = routed_gateway().await;
    let file = gateway.folder().join("request.json");
    let body = r#"{"model":"auto","messages":[{"role":"user","content":"the sea"}]}"#;
    std::fs::write(&file, body).unwrap();
    let file = file.to_str().unwrap();
    for (more, provider, rule) in [
        (&[][..], "one", Value::Null),
        (
            &["--header", "X-Region: eu"],
            "two",
            json!({ "name": "eu" }),
        ),
        (
            &["--header", "x-user: a", "--header", "x-region: eu"],
            "two",
            json!({ "name": "eu" }),
        ),
    ] {
        let arguments = [&["explain", "--request", file], more].concat();
        let output = gateway.command(&arguments);
        assert!(output.status.success(), "{output:?}");
        let told: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (&told["candidates"][0]["provider"], &told["rule"]),
            (&json!(provider), &rule)
        );
    }
    let output = gateway.command(&["explain", "--request", file, "--key", "narrow"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(told["refused"]["code"], "permission_denied", "{told}");
    for arguments in [
        ["explain", "--request", file, "--key", "nobody"],
        ["explain", "--request", file, "--format", "gemini"],
        ["explain", "--request", file, "--header", "none"],
    ] {
        assert_eq!(
            gateway.command(&arguments).status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
    assert_eq!(
        gateway
            .command(&["explain", "--request", "none.json"])
            .status
            .code(),
        Some(1)
    );
}

/// `brief` is cheaper for short answers, `terse` for long ones.
const PRICES: &str = "brief/mock-gpt: [ { from: 2026-01-01, input: 1, output: 20 } ]\n\
     terse/mock-gpt: [ { from: 2026-01-01, input: 5, output: 2 } ]\n";

#[tokio::test]
async fn every_strategy_that_does_not_draw_is_explained_as_it_is_served() {
    let (brief, terse) = (mock().await, mock().await);
    let deployments = json!([
        { "provider": "brief", "model": "mock-gpt" },
        { "provider": "terse", "model": "mock-gpt" },
    ]);
    let mut builder = gateway()
        .provider("brief", &brief)
        .provider("terse", &terse)
        .file("prices.yaml", PRICES)
        .set("/prices", "prices.yaml".into());
    let strategies = ["cheapest", "priority", "sticky", "round_robin"];
    for strategy in strategies {
        let model = json!({ "name": strategy, "strategy": strategy, "deployments": deployments });
        builder = builder.add("models", model);
    }
    let rules = json!([
        { "name": "short", "when": { "regex": "in a word" }, "then": { "set": { "max_tokens": 1 } } },
    ]);
    let gateway = builder
        .set("/routing", json!({ "rules": rules }))
        .run()
        .await;
    let mut cheapest = std::collections::BTreeSet::new();
    for strategy in strategies {
        for text in [
            "Tell me of the sea.",
            "Of the sea, in a word.",
            "And the sky?",
        ] {
            for limit in [None, Some(1), Some(4000)] {
                let messages = json!([{ "role": "user", "content": text }]);
                let mut body = json!({ "model": strategy, "messages": messages });
                if let Some(limit) = limit {
                    body["max_tokens"] = limit.into();
                }
                let body = body.to_string();
                let explanation = explain(&gateway, &[], "", &body).await.json();
                let path = "/v1/chat/completions";
                let answer = gateway.send("POST", path, &[], body.clone()).await;
                let told = foretold(&explanation);
                assert_eq!(told, outcome_of(&answer), "{body}: {explanation}");
                if strategy == "cheapest" {
                    cheapest.insert(told);
                }
            }
        }
    }
    assert!(
        cheapest.len() > 1,
        "lengths make no difference: {cheapest:?}"
    );
}

#[tokio::test]
async fn the_command_knows_what_the_store_has() {
    let up = mock().await;
    let gateway = gateway()
        .provider("up", &up)
        .model("fast", "up", "mock-gpt")
        .model("strong", "up", "mock-claude")
        .environment("API_KEY_SALT", "0123456789abcdef")
        .run()
        .await;
    let key = crate::harness::KEY;
    let made = async |path: &str, body: Value| {
        let made = gateway.administer(key, "POST", path, &[], &body).await;
        assert_eq!(made.status, 201, "{made:?}");
    };
    let rule = json!({ "name": "stored", "when": { "key": "stored-key" },
        "then": { "use_model": "strong" } });
    made("/api/v1/keys", json!({ "name": "stored-key" })).await;
    made("/api/v1/router/rules", rule).await;
    std::fs::write(
        gateway.folder().join("body.json"),
        crate::harness::chat_body("fast", false),
    )
    .unwrap();
    let explained = || {
        let output = gateway.command(&["explain", "--request", "body.json", "--key", "stored-key"]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|_| panic!("{told}"))
    };
    assert_eq!(foretold(&explained()), "\"up\" \"mock-claude\" by stored");
    // The toggle is the store's too.
    let off = json!({ "value": false, "reason": "test", "force": true });
    let toggled = gateway.administer(key, "POST", "/api/v1/router/toggle", &[], &off);
    assert_eq!(toggled.await.status, 200);
    assert_eq!(foretold(&explained()), "\"up\" \"mock-gpt\" by -");
}
