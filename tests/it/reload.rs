//! A changed configuration takes effect at once, a broken one not at all.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Gateway, KEY, eventually, gateway, mock};

fn write(gateway: &Gateway, models: &[&str]) {
    let mut config = gateway.config.clone();
    config["models"] = models
        .iter()
        .map(|name| json!({ "name": name, "deployments": [{ "provider": "up", "model": "mock-gpt" }] }))
        .collect();
    fs::write(gateway.config_file(), config.to_string()).unwrap();
}

async fn running(gateway: &Gateway) -> Value {
    let key = format!("Bearer {KEY}");
    let answer = gateway.admin("/api/v1/config", Some(&key)).await;
    answer.json()
}

async fn serves(gateway: &Gateway, name: &str) -> bool {
    gateway
        .send("GET", &format!("/v1/models/{name}"), &[], "")
        .await
        .status
        == 200
}

#[tokio::test]
async fn a_changed_file_takes_effect() {
    let mock = mock().await;
    let gateway = gateway().provider("up", &mock).run().await;
    assert!(!serves(&gateway, "new").await);
    write(&gateway, &["new"]);
    eventually("the new model is served", || serves(&gateway, "new")).await;
    gateway
        .shows("llm_router_config_last_reload_successful", &[], 1.0)
        .await;
    gateway.shows("llm_router_config_revision", &[], 2.0).await;
}

#[tokio::test]
async fn a_swapped_link_takes_effect() {
    // Kubernetes mounts a ConfigMap as FILE -> ..data/FILE and swaps the link ..data.
    let mock = mock().await;
    let gateway = gateway().provider("up", &mock).run().await;
    let folder = gateway.folder();
    let file = gateway.config_file();
    for version in ["one", "two"] {
        fs::create_dir(folder.join(version)).unwrap();
        write(&gateway, &[version]);
        fs::rename(&file, folder.join(version).join("llm-router.yaml")).unwrap();
        let link = folder.join("..new");
        std::os::unix::fs::symlink(version, &link).unwrap();
        fs::rename(&link, folder.join("..data")).unwrap();
        if !file.exists() {
            std::os::unix::fs::symlink("..data/llm-router.yaml", &file).unwrap();
        }
        eventually(version, || serves(&gateway, version)).await;
        // The next round writes through a file of its own again.
        if version == "one" {
            fs::remove_file(&file).unwrap();
        }
    }
}

#[tokio::test]
async fn a_broken_file_changes_nothing() {
    let mock = mock().await;
    let gateway = gateway()
        .provider("up", &mock)
        .model("old", "up", "mock-gpt")
        .run()
        .await;
    fs::write(gateway.config_file(), "server: [").unwrap();
    gateway.signal("HUP");
    gateway
        .shows("llm_router_config_last_reload_successful", &[], 0.0)
        .await;
    assert!(serves(&gateway, "old").await);
    let told = running(&gateway).await;
    assert_eq!(told["refused"]["errors"][0]["line"], 2, "{told}");
    gateway
        .logs("llm-router.yaml:2: (root): not valid YAML")
        .await;
    write(&gateway, &["old", "new"]);
    eventually("the mended file is in force", || serves(&gateway, "new")).await;
    gateway
        .shows("llm_router_config_last_reload_successful", &[], 1.0)
        .await;
    let told = running(&gateway).await;
    assert!(told["refused"].is_null(), "{told}");
}

#[tokio::test]
async fn a_file_that_lost_everything_is_refused() {
    let mock = mock().await;
    let gateway = gateway()
        .provider("up", &mock)
        .model("old", "up", "mock-gpt")
        .run()
        .await;
    let mut without_providers = gateway.config.clone();
    without_providers["providers"] = json!([]);
    without_providers["models"] = json!([]);
    for (text, path, message) in [
        (String::new(), "(root)", "the file has become empty"),
        (
            "# all gone\n".to_owned(),
            "(root)",
            "the file has become empty",
        ),
        (
            without_providers.to_string(),
            "providers",
            "no provider is left",
        ),
    ] {
        fs::write(gateway.config_file(), text).unwrap();
        eventually(message, || async {
            let error = running(&gateway).await["refused"]["errors"][0].clone();
            let says = error["message"].as_str().unwrap_or_default();
            error["field"] == path && says.contains(message)
        })
        .await;
        assert!(serves(&gateway, "old").await);
        write(&gateway, &["old"]);
        gateway
            .shows("llm_router_config_last_reload_successful", &[], 1.0)
            .await;
    }
}
