//! Keys never reach providers, credentials never reach clients; model lists are enforced.

use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::harness::{CREDENTIAL, KEY, chat_body, gateway, messages_body, mock};

fn hash(text: &str) -> String {
    Sha256::digest(text)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[tokio::test]
async fn providers_see_their_credential_and_no_key() {
    let mock = mock().await;
    let gateway = gateway()
        .provider("up", &mock)
        .provider_at("claude", "anthropic", &mock.base_url())
        .run()
        .await;
    let both = [
        ("x-api-key", KEY),
        ("api-key", KEY),
        ("cookie", "session=secret"),
    ];
    gateway
        .send(
            "POST",
            "/v1/chat/completions",
            &both,
            chat_body("up/mock-gpt", false),
        )
        .await;
    let body = messages_body("claude/mock-claude", false);
    let answer = gateway.send("POST", "/v1/messages", &both, body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let received = mock.meter.requests(10, |_| true);
    assert_eq!(received.len(), 2);
    for record in received {
        let credential = record.credential.unwrap();
        assert_eq!(credential.sha256, hash(CREDENTIAL));
        let headers = format!("{:?}", record.headers);
        assert!(
            !headers.contains(&hash(KEY)) && !headers.contains("session"),
            "{headers}"
        );
        assert!(
            !headers.contains(&hash(&format!("Bearer {KEY}"))),
            "{headers}"
        );
    }
}

#[tokio::test]
async fn model_lists_are_filtered_and_shaped_for_the_caller() {
    let mock = mock().await;
    let gateway = gateway()
        .add(
            "providers",
            json!({ "id": "up", "type": "mock", "base_url": mock.base_url(),
            "models": ["mock-gpt", "org/model"] }),
        )
        .model("fast", "up", "mock-gpt")
        .add(
            "keys",
            json!({ "name": "n", "key": "sk-narrow-key-0123456789", "models": ["fast"] }),
        )
        .run()
        .await;
    let ids = |list: serde_json::Value| -> Vec<String> {
        let ids = list["data"].as_array().unwrap().iter();
        ids.map(|model| model["id"].as_str().unwrap().to_owned())
            .collect()
    };
    let all = ["fast", "up/mock-gpt", "up/org/model"];
    for path in ["/v1/models", "/api/v1/models", "/api/v1/chat/models"] {
        assert_eq!(
            ids(gateway.send("GET", path, &[], "").await.json()),
            all,
            "{path}"
        );
    }
    let narrow = [("authorization", "Bearer sk-narrow-key-0123456789")];
    assert_eq!(
        ids(gateway.send("GET", "/v1/models", &narrow, "").await.json()),
        ["fast"]
    );
    let version = [("anthropic-version", "2023-06-01")];
    let list = gateway.send("GET", "/v1/models", &version, "").await.json();
    assert_eq!(
        (ids(list.clone()), &list["has_more"]),
        (all.map(String::from).into(), &json!(false))
    );
    let one = gateway
        .send("GET", "/v1/models/up%2Forg%2Fmodel", &[], "")
        .await;
    assert_eq!(
        (one.status, &one.json()["id"]),
        (200, &json!("up/org/model"))
    );
    let hidden = gateway
        .send("GET", "/v1/models/up/mock-gpt", &narrow, "")
        .await;
    assert_eq!(hidden.status, 404);
}

#[tokio::test]
async fn metrics_need_a_key_unless_they_are_public() {
    let gateway = gateway()
        .set("/admin/metrics_public", false.into())
        .add(
            "keys",
            json!({ "name": "u", "key": "sk-user-key-0123456789", "role": "user" }),
        )
        .add(
            "keys",
            json!({ "name": "v", "key": "sk-viewer-key-0123456789", "role": "viewer" }),
        )
        .run()
        .await;
    let url = format!("{}/metrics", gateway.admin_url);
    let get = |key: &'static str| {
        reqwest::Client::new()
            .get(&url)
            .header("x-api-key", key)
            .send()
    };
    for (key, status) in [
        ("", 401),
        ("sk-wrong", 401),
        ("sk-user-key-0123456789", 403),
        ("sk-viewer-key-0123456789", 200),
    ] {
        assert_eq!(get(key).await.unwrap().status(), status, "{key}");
    }
}
