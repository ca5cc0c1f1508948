//! The log: one form for all lines, and what each access line says.

use serde_json::{Value, json};

use crate::harness::{gateway, mock};
use crate::ledger::priced_gateway;

#[tokio::test]
async fn every_line_has_the_same_form() {
    let up = mock().await;
    let mut gateway = gateway().provider("up", &up).run().await;
    gateway.chat("up/mock-gpt", &[]).await;
    gateway.chat("auto", &[]).await;
    gateway.signal("TERM");
    gateway.wait_for_exit().await;
    let log = gateway.log();
    assert!(log.lines().count() > 4, "{log}");
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let time = line["timestamp"].as_str().unwrap();
        assert_eq!(time.len(), "2026-12-01T17:44:57.928648Z".len(), "{line}");
        for field in ["level", "target", "message"] {
            assert!(line[field].is_string(), "{field}: {line}");
        }
        let fields = line.as_object().unwrap();
        let foreign = fields.keys().find(|name| name.starts_with("log."));
        assert_eq!(foreign, None, "{line}");
    }
}

#[tokio::test]
async fn access_lines_tell_usage_cost_user_and_the_providers_error() {
    let up = mock().await;
    let gateway = priced_gateway(&up).run().await;
    let body = json!({ "model": "up/mock-gpt", "user": "alice",
        "messages": [{ "role": "user", "content": "Hello!" }] });
    let forced = [("x-mock-usage", "input=20,output=100")];
    let answer = gateway
        .send("POST", "/v1/chat/completions", &forced, body.to_string())
        .await;
    assert_eq!(answer.status, 200);
    let line = access_line(&gateway, answer.header("x-request-id").unwrap()).await;
    assert_eq!(line["level"], "INFO");
    assert_eq!(line["outcome"], "answered");
    assert_eq!(
        (&line["input_tokens"], &line["output_tokens"]),
        (&json!(20), &json!(100))
    );
    assert!(line["cost_usd"].as_f64() > Some(0.0), "{line}");
    assert_eq!(line["user.name"], "alice");

    let answer = gateway
        .chat("up/mock-gpt", &[("x-mock-status", "500")])
        .await;
    assert_eq!(answer.status, 500);
    let line = access_line(&gateway, answer.header("x-request-id").unwrap()).await;
    assert_eq!(
        (&line["level"], &line["outcome"]),
        (&json!("ERROR"), &json!("failed"))
    );
    let said = line["error.message"].as_str().unwrap();
    assert!(said.contains("The mock failed with status 500"), "{said}");
}

#[tokio::test]
async fn a_quiet_log_has_no_line_of_what_went_well() {
    let up = mock().await;
    let gateway = gateway()
        .provider("up", &up)
        .environment("LOG_LEVEL", "warn")
        .run()
        .await;
    let well = gateway.chat("up/mock-gpt", &[]).await;
    let wrong = gateway.chat("auto", &[]).await;
    gateway.logs(wrong.header("x-request-id").unwrap()).await;
    assert!(!gateway.log().contains(well.header("x-request-id").unwrap()));
}

async fn access_line(gateway: &crate::harness::Gateway, id: &str) -> Value {
    gateway.logs(id).await;
    let log = gateway.log();
    let line = log.lines().find(|line| line.contains(id)).unwrap();
    serde_json::from_str(line).unwrap()
}
