//! Costs of answers whose true cost is known, by the built-in prices: each is billed exactly that, or
//! says why its cost isn't exact. None is wrong in silence.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Gateway, gateway};

/// An answer of a provider, and what it costs.
struct Case {
    name: &'static str,
    /// Path and model of the request.
    path: &'static str,
    model: &'static str,
    header: &'static str,
    answer: Answer,
    /// USD.
    cost: &'static str,
    /// Reasons for which that isn't exact.
    inexact: &'static [&'static str],
}

enum Answer {
    Body(Value),
    /// Events of a stream; the last is `[DONE]` for chat.
    Stream(Vec<Value>),
}

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";

fn case(
    name: &'static str,
    path: &'static str,
    model: &'static str,
    answer: Value,
    cost: &'static str,
) -> Case {
    Case {
        name,
        path,
        model,
        header: "",
        answer: Answer::Body(answer),
        cost,
        inexact: &[],
    }
}

impl Case {
    fn header(self, header: &'static str) -> Self {
        Self { header, ..self }
    }

    fn inexact(self, inexact: &'static [&'static str]) -> Self {
        Self { inexact, ..self }
    }

    /// The same answer of the Responses API as a stream.
    fn by_stream(self, name: &'static str) -> Self {
        let Answer::Body(response) = self.answer else {
            panic!("{name} is streamed already");
        };
        let mut opening = response.clone();
        opening["usage"] = Value::Null;
        let answer = Answer::Stream(vec![
            json!({"type": "response.created", "response": opening}),
            json!({"type": "response.output_text.delta", "delta": "Four."}),
            json!({"type": "response.completed", "response": response}),
        ]);
        Self {
            name,
            answer,
            ..self
        }
    }
}

fn chat(model: &str, beside: Value, usage: Value) -> Value {
    let mut answer = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": model,
        "choices": [{"index": 0, "finish_reason": "stop",
            "message": {"role": "assistant", "content": "Four."}}],
        "usage": usage,
    });
    merge(&mut answer, beside);
    answer
}

fn response(model: &str, tools: &[Value], beside: Value, usage: Value) -> Value {
    let message = json!({"type": "message", "id": "msg_1", "status": "completed",
        "role": "assistant", "content": [{"type": "output_text", "text": "Four.", "annotations": []}]});
    let output: Vec<Value> = tools.iter().cloned().chain([message]).collect();
    let mut answer = json!({
        "id": "resp_1", "object": "response", "created_at": 1, "status": "completed",
        "model": model, "output": output, "usage": usage,
    });
    merge(&mut answer, beside);
    answer
}

fn message(model: &str, usage: Value) -> Value {
    json!({"id": "msg_1", "type": "message", "role": "assistant", "model": model,
        "content": [{"type": "text", "text": "Four."}], "stop_reason": "end_turn",
        "stop_sequence": null, "usage": usage})
}

fn gemini(model: &str, grounding: Value, usage: Value) -> Value {
    json!({"candidates": [{"content": {"parts": [{"text": "Four."}], "role": "model"},
        "finishReason": "STOP", "index": 0, "groundingMetadata": grounding}],
        "usageMetadata": usage, "modelVersion": model})
}

fn merge(answer: &mut Value, beside: Value) {
    let Value::Object(beside) = beside else {
        return;
    };
    answer.as_object_mut().unwrap().extend(beside);
}

/// 1000 input and 500 output tokens.
fn thousand() -> Value {
    json!({"prompt_tokens": 1000, "completion_tokens": 500, "total_tokens": 1500})
}

fn responses_usage(input: u64, output: u64, details: Value) -> Value {
    json!({"input_tokens": input, "output_tokens": output, "total_tokens": input + output,
        "input_tokens_details": details, "output_tokens_details": {"reasoning_tokens": 0}})
}

fn claude_usage(beside: Value) -> Value {
    let mut usage = json!({"input_tokens": 1000, "output_tokens": 500,
        "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
        "service_tier": "standard"});
    merge(&mut usage, beside);
    usage
}

fn iteration(kind: &str, model: Option<&str>, input: u64, output: u64) -> Value {
    let mut one = json!({"type": kind, "input_tokens": input, "output_tokens": output,
        "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0});
    if let Some(model) = model {
        one["model"] = model.into();
    }
    one
}

fn plain() -> Value {
    responses_usage(1000, 500, json!({"cached_tokens": 0}))
}

fn gpt5(tools: &[Value], beside: Value) -> Value {
    response("gpt-5", tools, beside, plain())
}

fn tier_cases() -> Vec<Case> {
    let sol = |tier: &str, usage| chat("gpt-6-sol", json!({"service_tier": tier}), usage);
    let long =
        json!({"prompt_tokens": 300_000, "completion_tokens": 1000, "total_tokens": 301_000});
    let ultrafast = response(
        "gpt-6.1-sol",
        &[],
        json!({"service_tier": "ultrafast"}),
        plain(),
    );
    vec![
        case(
            "tstandard",
            CHAT,
            "openai/gpt-6-sol",
            sol("default", thousand()),
            "0.007",
        ),
        case(
            "tfast",
            CHAT,
            "openai/gpt-6-sol",
            sol("fast", thousand()),
            "0.014",
        ),
        case(
            "tflexlong",
            CHAT,
            "openai/gpt-6-sol",
            sol("flex", long),
            "0.6075",
        ),
        case(
            "tunknown",
            CHAT,
            "openai/gpt-6-sol",
            sol("hyperspeed", thousand()),
            "0.014",
        )
        .inexact(&["unknown_service_tier"]),
        case(
            "tultra",
            RESPONSES,
            "openai/gpt-6.1-sol",
            ultrafast,
            "0.042",
        ),
        case(
            "azwrong",
            CHAT,
            "az/gpt-4o",
            chat("gpt-4.1-2025-04-14", Value::Null, thousand()),
            "0.006",
        ),
    ]
}

fn search_cases() -> Vec<Case> {
    let search = |n: u32| {
        json!({"type": "web_search_call", "id": format!("ws_{n}"),
        "status": "completed", "action": {"type": "search", "query": "q"}})
    };
    let searches: Vec<Value> = (0..3).map(search).collect();
    let searched = json!({"tool_usage": {"web_search": {"num_requests": 3}}});
    let file = |n: u32| json!({"type": "file_search_call", "id": format!("fs_{n}"), "status": "completed"});
    let code = |n: u32| {
        json!({"type": "code_interpreter_call", "id": format!("ci_{n}"),
        "container_id": "cntr_1", "status": "completed", "code": "1"})
    };
    vec![
        case(
            "ws",
            RESPONSES,
            "openai/gpt-5",
            gpt5(&searches, searched.clone()),
            "0.03625",
        ),
        case(
            "ws",
            RESPONSES,
            "openai/gpt-5",
            gpt5(&searches, searched),
            "0.03625",
        )
        .by_stream("ws-streamed"),
        case(
            "fs",
            RESPONSES,
            "openai/gpt-5",
            gpt5(&[file(1), file(2)], Value::Null),
            "0.01125",
        ),
        case(
            "ci",
            RESPONSES,
            "openai/gpt-5",
            gpt5(&[code(1), code(2)], Value::Null),
            "0.03625",
        ),
    ]
}

fn image_cases() -> Vec<Case> {
    let image = json!({"type": "image_generation_call", "id": "ig_1", "status": "completed",
        "result": "A".repeat(100_000)});
    let painted = json!({"tools": [{"type": "image_generation", "model": "gpt-image-2"}],
        "tool_usage": {"image_gen": {"input_tokens": 50, "output_tokens": 4160,
            "total_tokens": 4210,
            "input_tokens_details": {"image_tokens": 0, "text_tokens": 50},
            "output_tokens_details": {"image_tokens": 4160, "text_tokens": 0}}}});
    vec![
        case(
            "ig",
            RESPONSES,
            "openai/gpt-5",
            gpt5(std::slice::from_ref(&image), painted.clone()),
            "0.1313",
        ),
        case(
            "ig",
            RESPONSES,
            "openai/gpt-5",
            gpt5(std::slice::from_ref(&image), painted),
            "0.1313",
        )
        .by_stream("ig-streamed"),
        case(
            "ig-unsaid",
            RESPONSES,
            "openai/gpt-5",
            gpt5(&[image], Value::Null),
            "0.00625",
        )
        .inexact(&["unpriced_tool"]),
    ]
}

fn write_cases() -> Vec<Case> {
    let written = |details| responses_usage(10_000, 100, details);
    vec![
        case(
            "cw12",
            RESPONSES,
            "openai/gpt-6-sol",
            response(
                "gpt-6-sol",
                &[],
                Value::Null,
                written(json!({"cached_tokens": 0,
                "cache_write_tokens": 8000,
                "cache_write_tokens_details": {"ttl_12h_tokens": 8000, "ttl_30m_tokens": 0}})),
            ),
            "0.045",
        ),
        case(
            "flexcw",
            RESPONSES,
            "openai/gpt-6-sol",
            response(
                "gpt-6-sol",
                &[],
                json!({"service_tier": "flex"}),
                written(json!({"cached_tokens": 0, "cache_write_tokens": 8000})),
            ),
            "0.0125",
        ),
    ]
}

fn claude_cases() -> Vec<Case> {
    let opus = "claude-opus-5-5";
    let advised = json!({"input_tokens": 412, "output_tokens": 1230,
        "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0,
        "iterations": [iteration("message", None, 412, 1230),
            iteration("advisor_message", Some("claude-opus-4-8"), 823, 1612)]});
    let fallback = claude_usage(json!({"iterations":
        [iteration("fallback_message", Some("claude-opus-4-8"), 1000, 500)]}));
    vec![
        case(
            "geo",
            MESSAGES,
            "anthropic/claude-opus-5-5",
            message(opus, claude_usage(json!({"inference_geo": "us"}))),
            "0.0154",
        ),
        case(
            "fast",
            MESSAGES,
            "anthropic/claude-opus-5-5",
            message(opus, claude_usage(json!({"speed": "fast"}))),
            "0.028",
        ),
        case(
            "geo-unknown",
            MESSAGES,
            "anthropic/claude-opus-5-5",
            message(opus, claude_usage(json!({"inference_geo": "mars"}))),
            "0.0154",
        )
        .inexact(&["unknown_factor"]),
        case(
            "adv",
            MESSAGES,
            "anthropic/claude-haiku-4-5-20251001",
            message("claude-haiku-4-5-20251001", advised),
            "0.050977",
        ),
        case(
            "fb",
            MESSAGES,
            "anthropic/claude-fable-5-1",
            message("claude-opus-4-8", fallback),
            "0.0175",
        ),
    ]
}

fn gemini_cases() -> Vec<Case> {
    let flash =
        json!({"promptTokenCount": 1000, "candidatesTokenCount": 500, "totalTokenCount": 1500});
    let audio = json!({"promptTokenCount": 1500, "cachedContentTokenCount": 1000,
        "candidatesTokenCount": 200, "totalTokenCount": 1700,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 500},
            {"modality": "AUDIO", "tokenCount": 1000}],
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 1000}]});
    let thoughts = json!({"promptTokenCount": 1000, "candidatesTokenCount": 200,
        "thoughtsTokenCount": 300, "totalTokenCount": 1500});
    let queries = json!({"webSearchQueries": ["a", "b"]});
    let (g25, g31) = ("gemini/gemini-2.5-flash", "gemini/gemini-3.1-pro-preview");
    vec![
        case(
            "ghdr",
            CHAT,
            g25,
            gemini("gemini-2.5-flash", Value::Null, flash),
            "0.00279",
        )
        .header("x-gemini-service-tier: priority\r\n"),
        case(
            "g3",
            CHAT,
            g25,
            gemini("gemini-2.5-flash", Value::Null, audio),
            "0.00075",
        ),
        case(
            "g4",
            CHAT,
            g31,
            gemini("gemini-3.1-pro-preview", queries, thoughts),
            "0.036",
        ),
    ]
}

fn other_cases() -> Vec<Case> {
    let grok = json!({"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 350,
        "completion_tokens_details": {"reasoning_tokens": 200},
        "num_server_side_tools_used": 3, "cost_in_usd_ticks": 167_000_000_u64});
    let mut routed = thousand();
    routed["cost"] = json!(0.0105);
    vec![
        case(
            "x2",
            CHAT,
            "xai/grok-4.5",
            chat("grok-4.5", Value::Null, grok),
            "0.0167",
        ),
        case(
            "o1",
            CHAT,
            "openrouter/anthropic/claude-sonnet-4.6",
            chat("anthropic/claude-4.6-sonnet-20260217", Value::Null, routed),
            "0.0105",
        ),
        case(
            "half",
            CHAT,
            "openai/gpt-6-sol",
            chat("gpt-6-sol", Value::Null, json!({"completion_tokens": 500})),
            "",
        )
        .inexact(&["usage_missing"]),
        case(
            "ws3",
            MESSAGES,
            "own/claude-own",
            message(
                "claude-own",
                claude_usage(json!({"server_tool_use":
                {"web_search_requests": 4, "web_fetch_requests": 0}})),
            ),
            "0.0035",
        )
        .inexact(&["unpriced_tool"]),
        case(
            "embtotal",
            "/v1/embeddings",
            "own/embed",
            json!({"object": "list", "model": "embed", "usage": {"total_tokens": 1000},
                "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}]}),
            "0.001",
        ),
    ]
}

fn cases() -> Vec<Case> {
    let mut cases = tier_cases();
    cases.extend(search_cases());
    cases.extend(image_cases());
    cases.extend(write_cases());
    cases.extend(claude_cases());
    cases.extend(gemini_cases());
    cases.extend(other_cases());
    cases
}

/// Answers each request with the case that its text names.
async fn serve(mut client: TcpStream) {
    let mut request = Vec::new();
    let text = loop {
        let mut buffer = [0; 4096];
        let read = client.read(&mut buffer).await.unwrap();
        if read == 0 {
            return;
        }
        request.extend_from_slice(&buffer[..read]);
        let text = String::from_utf8_lossy(&request).into_owned();
        if text.contains("case:") {
            break text;
        }
    };
    let name = text.split("case:").nth(1).unwrap();
    let name = &name[..name
        .find(|c: char| !c.is_alphanumeric() && c != '-')
        .unwrap()];
    if name == "tofirst" && text.starts_with("POST /silent") {
        // Takes the request and never answers.
        let _ = client.read(&mut [0; 64]).await;
        return;
    }
    let cases = cases();
    let name = if name == "tofirst" { "tstandard" } else { name };
    let case = cases.iter().find(|case| case.name == name).unwrap();
    let (kind, body) = match &case.answer {
        Answer::Body(body) => ("application/json", body.to_string()),
        Answer::Stream(events) => {
            let event = |event: &Value| {
                format!(
                    "event: {}\ndata: {event}\n\n",
                    event["type"].as_str().unwrap()
                )
            };
            ("text/event-stream", events.iter().map(event).collect())
        }
    };
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{}content-length: {}\r\nconnection: close\r\n\r\n",
        case.header,
        body.len()
    );
    client.write_all(head.as_bytes()).await.unwrap();
    client.write_all(body.as_bytes()).await.unwrap();
}

async fn provider() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(serve(client));
        }
    });
    address
}

const OWN_PRICES: &str = "
own/claude-own: [{ from: 2026-01-01, input: 1, output: 5 }]
own/embed: [{ from: 2026-01-01, input: 1, output: 1 }]
";

async fn router() -> Gateway {
    let address = provider().await;
    let base = format!("http://{address}");
    let silent = format!("{base}/silent/v1");
    let v1 = format!("{base}/v1");
    let deployments = json!([
        {"provider": "silent", "model": "gpt-6-sol"},
        {"provider": "openai", "model": "gpt-6-sol"},
    ]);
    let mut builder = gateway()
        .file("prices.yaml", OWN_PRICES)
        .set("/prices", "prices.yaml".into())
        .provider_at("openai", "openai", &v1)
        .provider_at("az", "openai", &v1)
        .provider_at("silent", "openai", &silent)
        .provider_at("anthropic", "anthropic", &base)
        .provider_at("gemini", "gemini", &base)
        .provider_at("xai", "custom", &v1)
        .provider_at("openrouter", "custom", &v1)
        .provider_at("own", "mock", &base)
        .add(
            "models",
            json!({"name": "twice", "strategy": "priority", "deployments": deployments}),
        );
    builder = builder.set("/providers/2/timeouts/first_byte", "300ms".into());
    builder
        .set("/providers/6/price_from", "reported".into())
        .run()
        .await
}

fn body(case: &Case) -> Value {
    let text = format!("case:{}.", case.name);
    let messages = json!([{"role": "user", "content": text}]);
    let mut body = match case.path {
        RESPONSES => json!({"input": text}),
        MESSAGES => json!({"messages": messages, "max_tokens": 5000}),
        "/v1/embeddings" => json!({"input": text}),
        _ => json!({"messages": messages}),
    };
    body["model"] = case.model.into();
    if matches!(case.answer, Answer::Stream(_)) {
        body["stream"] = true.into();
    }
    body
}

async fn entry(gateway: &Gateway, id: &str) -> Value {
    gateway
        .admin(&format!("/api/v1/requests/{id}"), None)
        .await
        .json()
}

#[tokio::test]
async fn every_answer_costs_what_it_costs_or_says_why_not() {
    let gateway = router().await;
    let (mut exact, mut marked) = (0, 0);
    for case in cases() {
        let id = format!("money-{}", case.name);
        let headers = [("x-request-id", &*id)];
        let answer = gateway
            .send("POST", case.path, &headers, body(&case).to_string())
            .await;
        assert_eq!(
            answer.status,
            200,
            "{}: {:?}",
            case.name,
            String::from_utf8_lossy(&answer.body)
        );
        let entry = entry(&gateway, &id).await;
        assert_eq!(
            entry["inexact"],
            json!(case.inexact),
            "{}: {entry}",
            case.name
        );
        let cost = entry["cost_usd"].to_string();
        if !case.cost.is_empty() {
            assert_eq!(cost, case.cost, "{}: {entry}", case.name);
        }
        // Anyone can add the line up by hand.
        let attempt = &entry["attempts"][0];
        assert_eq!(attempt["cost_usd"], entry["cost_usd"], "{}", case.name);
        if attempt["price"]["table"] != "reported" {
            let costs = attempt["costs"].as_object().unwrap().values();
            let sum: f64 = costs.map(|cost| cost.as_f64().unwrap()).sum();
            let cost = entry["cost_usd"].as_f64().unwrap();
            assert!((sum - cost).abs() < 1e-12, "{}: {attempt}", case.name);
        }
        assert!(
            attempt["price"]["entry"].is_string(),
            "{}: {attempt}",
            case.name
        );
        if case.inexact.is_empty() {
            exact += 1
        } else {
            marked += 1
        }
    }
    let total = gateway.admin("/api/v1/cost/current", None).await.json();
    let total = &total["total"];
    assert_eq!(total["inexact_requests"], marked, "{total}");
    assert_eq!(total["requests"], exact + marked, "{total}");
    println!("money: {exact} exact, {marked} marked, none wrong in silence");
    let labels = ["reason=\"unpriced_tool\"", "provider=\"own\""];
    gateway
        .shows("llm_router_inexact_attempts_total", &labels, 1.0)
        .await;
    let labels = ["source=\"reported\"", "provider=\"xai\""];
    gateway
        .shows("llm_router_compared_cost_usd_total", &labels, 0.0167)
        .await;
}

#[tokio::test]
async fn the_model_that_served_and_the_parts_of_others_are_kept() {
    let gateway = router().await;
    for (name, served, parts) in [
        ("azwrong", json!("gpt-4.1-2025-04-14"), Value::Null),
        ("fb", json!("claude-opus-4-8"), Value::Null),
        (
            "adv",
            Value::Null,
            json!([{"model": "claude-opus-4-8",
            "usage": {"classes": {"input": 823, "output": 1612}, "service_tier": "standard",
                "thinking": false, "estimated": false}}]),
        ),
    ] {
        let cases = cases();
        let case = cases.iter().find(|case| case.name == name).unwrap();
        let headers = [("x-request-id", name)];
        gateway
            .send("POST", case.path, &headers, body(case).to_string())
            .await;
        let entry = entry(&gateway, name).await;
        assert_eq!(entry["served_model"], served, "{entry}");
        assert_eq!(entry["attempts"][0]["parts"], parts, "{entry}");
    }
}

#[tokio::test]
async fn an_attempt_that_timed_out_may_have_been_billed() {
    let gateway = router().await;
    let body = json!({"model": "twice", "stream": true,
        "messages": [{"role": "user", "content": "case:tofirst. and some more words to count"}]});
    let headers = [("x-request-id", "tofirst")];
    let answer = gateway.send("POST", CHAT, &headers, body.to_string()).await;
    assert_eq!(answer.status, 200);
    let entry = entry(&gateway, "tofirst").await;
    let first = &entry["attempts"][0];
    assert_eq!(
        (&first["provider"], &first["error"]),
        (&json!("silent"), &json!("timeout"))
    );
    assert_eq!(
        first["inexact"],
        json!(["timeout_may_have_billed"]),
        "{entry}"
    );
    assert_eq!(first["usage"]["estimated"], true, "{entry}");
    assert!(first["cost_usd"].as_f64().unwrap() > 0.0, "{entry}");
    let total = gateway.admin("/api/v1/cost/current", None).await.json();
    assert_eq!(total["total"]["requests"], 1, "{total}");
}

/// Runs a command that must end well; its output.
fn output(gateway: &Gateway, arguments: &[&str]) -> String {
    let output = gateway.command(arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}{errors}");
    text
}

#[tokio::test]
async fn stored_entries_are_billed_anew_with_a_reason() {
    let gateway = router().await;
    for (number, name) in ["ws3", "embtotal", "tfast", "x2"].into_iter().enumerate() {
        let cases = cases();
        let case = cases.iter().find(|case| case.name == name).unwrap();
        let id = format!("reprice-{number}");
        let headers = [("x-request-id", &*id)];
        let answer = gateway
            .send("POST", case.path, &headers, body(case).to_string())
            .await;
        assert_eq!(answer.status, 200);
    }
    let total =
        || async { gateway.admin("/api/v1/cost/current", None).await.json()["total"].clone() };
    // 0.0035 without its searches, 0.001, 0.014 and 0.0167.
    let before = total().await;
    assert_eq!(before["cost_usd"].to_string(), "0.0352");
    assert_eq!(before["inexact_requests"], 1);
    let prices = "
own/claude-own: [{ from: 2026-01-01, input: 1, output: 5, fees_per_1k: { web_search: 10 } }]
own/embed: [{ from: 2026-01-01, input: 0.5, output: 1 }]
";
    std::fs::write(gateway.folder().join("prices.yaml"), prices).unwrap();
    let range = ["--from", "2020-01-01", "--to", "2099-12-31"];
    let reprice = |more: &[&str]| {
        let words = [
            &["ledger", "reprice", "--reason", "searches had no price"],
            &range[..],
            more,
        ];
        output(&gateway, &words.concat())
    };
    let dry = reprice(&["--dry-run"]);
    assert!(dry.contains("4 read, 2 would change"), "{dry}");
    assert_eq!(total().await, before);
    let other = reprice(&["--provider", "nobody"]);
    assert!(other.contains("0 read, 0 changed"), "{other}");
    let done = reprice(&["--provider", "own"]);
    assert!(done.contains("2 read, 2 changed"), "{done}");
    assert!(done.contains("0.0045 before, 0.044 after"), "{done}");
    let after = total().await;
    assert_eq!(after["cost_usd"].to_string(), "0.0747");
    assert_eq!(after["inexact_requests"], 0);
    let entry = entry(&gateway, "reprice-0").await;
    assert_eq!(
        (entry["cost_usd"].to_string(), &entry["inexact"]),
        ("0.0435".into(), &json!([]))
    );
    // Once more changes nothing; journal, entries and sums agree.
    let again = reprice(&[]);
    assert!(again.contains("4 read, 0 changed"), "{again}");
    let verified = output(&gateway, &["ledger", "verify"]);
    assert!(verified.contains("the ledger agrees"), "{verified}");
    let audit = gateway.admin("/api/v1/audit", None).await.json();
    let records = audit["items"].as_array().unwrap();
    let record = records
        .iter()
        .find(|one| one["action"] == "reprice" && one["after"]["entries"] == 2);
    let record = record.unwrap_or_else(|| panic!("{audit}"));
    assert_eq!(record["after"]["reason"], "searches had no price");
    assert_eq!(
        (&record["before"]["cost_usd"], &record["after"]["cost_usd"]),
        (&json!("0.0045"), &json!("0.044"))
    );
    let refused = gateway.command(&[&["ledger", "reprice", "--reason", " "], &range[..]].concat());
    assert!(!refused.status.success());
}
