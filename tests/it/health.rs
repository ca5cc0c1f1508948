//! Health checks remove failing providers from the selection and return them. They cost nothing.

use serde_json::json;

use crate::harness::{GatewayBuilder, Mock, eventually, gateway, mock};

fn with_health_check(builder: GatewayBuilder, id: &str, mock: &Mock, path: &str) -> GatewayBuilder {
    builder.add(
        "providers",
        json!({
            "id": id, "type": "mock", "base_url": mock.base_url(), "api_key": "${CREDENTIAL}",
            "health_check": { "path": path, "interval": "1s", "unhealthy_after": 1 },
        }),
    )
}

#[tokio::test]
async fn a_failed_check_ejects_and_a_good_one_readmits() {
    let (bad, good) = (mock().await, mock().await);
    let builder = with_health_check(gateway(), "bad", &bad, "/models").provider("good", &good);
    let deployments = json!([
        { "provider": "bad", "model": "mock-gpt" }, { "provider": "good", "model": "mock-gpt" },
    ]);
    let model = json!({ "name": "f", "strategy": "priority", "deployments": deployments });
    let gateway = builder.add("models", model).run().await;
    let provider = || async {
        let answer = gateway.chat("f", &[]).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-llm-router-attempts"), Some("1"));
        answer.header("x-llm-router-provider").unwrap().to_owned()
    };
    let metric = |name| gateway.metric(name, &["provider=\"bad\""]);
    // A provider is found down a moment before its deployments are told.
    let resting = || metric("llm_router_deployment_resting");
    assert_eq!(provider().await, "bad");
    bad.set_controls("status=500").await;
    // The one that is named, and the one that stands for all others.
    eventually("it is ejected", || async { resting().await == 2.0 }).await;
    let healthy = ["provider=\"bad\""];
    gateway
        .shows("llm_router_provider_healthy", &healthy, 0.0)
        .await;
    // No request has to fail for it.
    assert_eq!(provider().await, "good");
    bad.set_controls("").await;
    eventually("it is readmitted", || async { resting().await == 0.0 }).await;
    gateway
        .shows("llm_router_provider_healthy", &healthy, 1.0)
        .await;
    assert_eq!(provider().await, "bad");
    let checks = bad.meter.requests(100, |one| one.path.ends_with("/models"));
    assert!(checks.len() >= 2, "{}", checks.len());
    let entries = gateway.admin("/api/v1/requests", None).await;
    assert_eq!(entries.json()["items"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_deployment_that_is_down_is_asked_when_nothing_else_is_left() {
    let only = mock().await;
    let builder = with_health_check(gateway(), "only", &only, "/no-such-path");
    let gateway = builder.model("f", "only", "mock-gpt").run().await;
    eventually("it is found down", || async {
        gateway.metric("llm_router_deployment_resting", &[]).await > 0.0
    })
    .await;
    assert_eq!(gateway.chat("f", &[]).await.status, 200);
}
