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
    gateway
        .shows(
            "llm_router_config_reloads_total",
            &["result=\"applied\""],
            2.0,
        )
        .await;
}

#[tokio::test]
async fn the_same_configuration_has_the_same_revision_everywhere() {
    let mock = mock().await;
    let shown = async |gateway: &Gateway| {
        let config = gateway.admin("/api/v1/config", None).await.json();
        config["revision"].as_u64().unwrap()
    };
    // Replicas differ in their addresses and folders.
    let mut one = gateway().provider("up", &mock).run().await;
    let other = gateway().provider("up", &mock).run().await;
    let first = shown(&one).await;
    assert_eq!(first, shown(&other).await);
    one.shows("llm_router_config_revision", &[], first as f64)
        .await;
    let answer = one.chat("up/mock-gpt", &[]).await;
    let id = answer.header("x-request-id").unwrap();
    let request = one.admin(&format!("/api/v1/requests/{id}"), None).await;
    assert_eq!(request.json()["revision"], first);
    one.logs(&format!("\"revision\":{first}")).await;
    one.kill_and_restart().await;
    assert_eq!(shown(&one).await, first);

    let mut changed = one.config.clone();
    changed["server"]["max_body"] = json!("2MiB");
    one.reload(&changed).await;
    eventually("another one is shown", || async {
        shown(&one).await != first
    })
    .await;
    let second = shown(&one).await;
    let revisions = async || one.admin("/api/v1/config/revisions", None).await.json();
    eventually("the change is listed with its revision", || async {
        revisions().await["items"][0]["revision"] == second
    })
    .await;
    one.reload(&one.config).await;
    eventually("the first one is back", || async {
        shown(&one).await == first
    })
    .await;
}

#[tokio::test]
async fn a_refused_file_tells_its_errors_and_nothing_else() {
    let mock = mock().await;
    let gateway = gateway().provider("up", &mock).run().await;
    let mut config = gateway.config.clone();
    // A warning by itself: the key is in the file.
    config["keys"][0]["key"] = json!("sk-in-plain-text-0123456789");
    config["models"] =
        json!([{ "name": "m", "deployments": [{ "provider": "nobody", "model": "x" }] }]);
    let before = gateway.log().len();
    fs::write(gateway.config_file(), config.to_string()).unwrap();
    gateway.signal("HUP");
    gateway.logs("failed to reload the configuration").await;
    let log = gateway.log();
    let new = &log[before..];
    let mut lines = new
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let first = lines
        .find(|line| line["target"] != "llm_router::access")
        .unwrap();
    assert_eq!(first["level"], "ERROR", "{new}");
    assert!(first["error"].as_str().unwrap().contains("nobody"), "{new}");
    assert!(!new.contains("in plain text"), "{new}");
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
