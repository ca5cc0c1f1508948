//! Metrics of the router: `/metrics`, and the figures of `GET /api/v1/router/metrics`.

use std::io::Write as _;
use std::process::{Command, Stdio};

use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::harness::{Gateway, chat_body, eventually, gateway, mock};

/// The samples of `/metrics` without their values, so that only series are compared.
async fn series(gateway: &Gateway) -> Vec<String> {
    let text = text(gateway).await;
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    let name = |line: &str| line.rsplit_once(' ').unwrap().0.to_owned();
    samples.map(name).collect()
}

async fn text(gateway: &Gateway) -> String {
    let answer = gateway.admin("/metrics", None).await;
    String::from_utf8(answer.body).unwrap()
}

#[tokio::test]
async fn names_that_clients_make_up_make_no_series() {
    let up = mock().await;
    let gateway = gateway()
        .provider("up", &up)
        .provider("second", &up)
        .model("fast", "up", "mock-gpt")
        .run()
        .await;
    let ask = async |number: usize| {
        let model = match number % 3 {
            0 => format!("bogus-{number}"),
            1 => format!("second/bogus-{number}"),
            _ => format!("nobody/bogus-{number}"),
        };
        let stream = number.is_multiple_of(2);
        let body = chat_body(&model, stream);
        let path = format!("/v1/chat/completions?bogus-{number}");
        gateway.send("POST", &path, &[], body).await.status
    };
    let rounds = [0..30, 30..1_500];
    let mut found = Vec::new();
    for round in rounds {
        let requests = round.end;
        let asked = futures::stream::iter(round).map(ask).buffer_unordered(16);
        asked.collect::<Vec<_>>().await;
        gateway
            .shows("llm_router_requests_total", &["chat"], requests as f64)
            .await;
        found.push(series(&gateway).await);
    }
    let bogus = found[1].iter().find(|series| series.contains("bogus"));
    assert_eq!(bogus, None);
    let new: Vec<_> = found[1]
        .iter()
        .filter(|one| !found[0].contains(one))
        .collect();
    assert!(new.is_empty(), "{new:?}");
    let tokens = "llm_router_tokens_total{class=\"output\",model=\"other\",provider=\"up\"}";
    assert!(found[1].iter().any(|series| series == tokens), "{found:?}");
    let figures = gateway.admin("/api/v1/router/metrics", None).await.json();
    assert_eq!(names(&figures["by_model"]), ["other"]);
    assert_eq!(figures["by_deployment"][0]["model"], "*");
}

fn names(list: &Value) -> Vec<&str> {
    let items = list.as_array().unwrap().iter();
    items.map(|item| item["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn figures_are_told_in_all_and_by_name() {
    let (bad, good) = (mock().await, mock().await);
    bad.set_controls("status=500").await;
    let deployments = json!([
        { "provider": "bad", "model": "mock-gpt" },
        { "provider": "good", "model": "mock-gpt" },
    ]);
    let gateway = gateway()
        .provider("bad", &bad)
        .provider("good", &good)
        .add(
            "models",
            json!({ "name": "fast", "strategy": "priority", "deployments": deployments }),
        )
        .model("broken", "bad", "mock-gpt")
        .set(
            "/routing",
            json!({ "rules": [{ "name": "all-fast", "when": { "model": "auto" },
                "then": { "use_model": "fast" } }] }),
        )
        .run()
        .await;
    for model in ["auto", "fast", "broken", "nothing"] {
        gateway.chat(model, &[]).await;
    }
    let figures = async || gateway.admin("/api/v1/router/metrics", None).await.json();
    eventually("every request is counted", || async {
        figures().await["total"]["requests"] == 4
    })
    .await;
    let found = figures().await;
    let of = |list: &str, name: &str| {
        let items = found[list].as_array().unwrap().iter();
        let mut items = items.filter(|item| item["name"] == name || item["provider"] == name);
        items
            .next()
            .unwrap_or_else(|| panic!("{name} in {found}"))
            .clone()
    };
    for (figures, requests, errors, used) in [
        (found["total"].clone(), 4, 2, true),
        (of("by_rule", "all-fast"), 1, 0, true),
        (of("by_model", "fast"), 2, 0, true),
        (of("by_model", "broken"), 1, 1, false),
        (of("by_model", "other"), 1, 1, false),
        (of("by_provider", "good"), 2, 0, true),
        (of("by_provider", "bad"), 2, 2, false),
        (of("by_deployment", "good"), 2, 0, true),
    ] {
        assert_eq!(figures["requests"], requests, "{figures}");
        assert_eq!(figures["errors"], errors, "{figures}");
        assert_eq!(
            figures["output_tokens"].as_u64() > Some(0),
            used,
            "{figures}"
        );
        let [p50, p99] = ["p50", "p99"].map(|name| figures["latency_ms"][name].as_f64());
        assert!(p50 > Some(0.0) && p50 <= p99, "{figures}");
    }
    assert!(found["since"].as_str().unwrap().ends_with('Z'), "{found}");
    gateway
        .shows("llm_router_config_reloads_total", &["applied"], 1.0)
        .await;
    gateway.shows("llm_router_store_up", &[], 1.0).await;
    gateway.shows("llm_router_journal_entries", &[], 0.0).await;
}

#[tokio::test]
async fn what_prometheus_reads_has_the_form_it_wants() {
    let up = mock().await;
    let gateway = gateway()
        .provider("up", &up)
        .model("fast", "up", "mock-gpt")
        .run()
        .await;
    gateway.chat_stream("fast", &[]).await;
    let speed = "llm_router_output_tokens_per_second_count";
    gateway.shows(speed, &["model=\"fast\""], 1.0).await;
    let text = text(&gateway).await;
    let Ok(mut promtool) = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
    else {
        eprintln!(
            "promtool (Debian package prometheus) is absent: the metrics' form was NOT checked"
        );
        return;
    };
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
    let told = promtool.wait_with_output().unwrap();
    let told = [told.stdout, told.stderr].concat();
    assert_eq!(String::from_utf8_lossy(&told), "");
}
