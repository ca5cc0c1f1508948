//! Checks of the deployment files: the metrics they name exist, and the tools that read them accept
//! them. A missing tool is reported; the checks in Rust always run.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{binary, free_address, gateway};

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn text(path: &str) -> String {
    fs::read_to_string(project(path)).unwrap()
}

/// The output of a tool; none, told aloud, if it isn't installed.
fn run(command: &mut Command, package: &str) -> Option<Output> {
    let output = command.output().ok();
    if output.is_none() {
        eprintln!("{command:?} (Debian package {package}) is absent: this was NOT checked");
    }
    output
}

fn must_succeed(output: &Output) {
    let told = [output.stdout.as_slice(), &output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&told)
    );
}

/// Words that begin with `prefix`, without what Prometheus appends to histograms.
fn names(text: &str, prefix: &str) -> BTreeSet<String> {
    let word = |c: char| !(c.is_ascii_lowercase() || c == '_');
    let words = text.split(word).filter(|word| word.starts_with(prefix));
    let bare = |word: &str| {
        let suffixes = ["_bucket", "_sum", "_count"];
        let bare = suffixes.iter().find_map(|suffix| word.strip_suffix(suffix));
        bare.unwrap_or(word).to_owned()
    };
    words.map(bare).collect()
}

/// Names in docs/metrics.md, where `_name` after another one stands for `llm_router_name`.
fn documented_metrics() -> BTreeSet<String> {
    let text = text("docs/metrics.md");
    let short = text.split('`').filter(|part| part.starts_with('_'));
    let short = short.map(|part| format!("llm_router{part}"));
    let short = names(&short.collect::<Vec<_>>().join(" "), "llm_router_");
    &names(&text, "llm_router_") | &short
}

fn dashboard() -> Value {
    serde_json::from_str(&text("deploy/grafana/dashboards/llm-router.json")).unwrap()
}

fn expressions(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let targets = panels
        .filter_map(|panel| panel["targets"].as_array())
        .flatten();
    let expressions = targets.map(|target| target["expr"].as_str().unwrap());
    expressions
        .map(|text| text.replace("$__rate_interval", "5m"))
        .collect()
}

#[test]
fn every_metric_that_is_watched_is_documented() {
    let documented = documented_metrics();
    assert!(documented.len() > 40, "{documented:?}");
    for file in [
        "deploy/prometheus/alerts.yaml",
        "deploy/grafana/dashboards/llm-router.json",
    ] {
        let used = names(&text(file), "llm_router_");
        assert!(used.len() > 10, "{used:?}");
        let unknown: Vec<_> = used.difference(&documented).collect();
        assert!(unknown.is_empty(), "{file} has {unknown:?}");
    }
}

#[test]
fn prometheus_reads_alerts_and_the_dashboards_questions() {
    let config = project("deploy/prometheus/prometheus.yaml");
    let Some(checked) = run(
        Command::new("promtool")
            .args(["check", "config"])
            .arg(config),
        "prometheus",
    ) else {
        return;
    };
    must_succeed(&checked);
    let questions = expressions(&dashboard());
    assert!(questions.len() > 30, "{questions:?}");
    let rules = questions.iter().enumerate();
    let rules = rules.map(|(at, expr)| json!({ "record": format!("panel:{at}"), "expr": expr }));
    let rules = json!({ "groups": [{ "name": "panels", "rules": rules.collect::<Vec<_>>() }] });
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("rules.yaml");
    // JSON is YAML.
    fs::write(&file, rules.to_string()).unwrap();
    let checked = Command::new("promtool")
        .args(["check", "rules"])
        .arg(file)
        .output();
    must_succeed(&checked.unwrap());
}

#[test]
fn the_dashboard_is_one() {
    let dashboard = dashboard();
    assert_eq!(dashboard["uid"], "llm-router");
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(
            panel["title"]
                .as_str()
                .is_some_and(|title| !title.is_empty()),
            "{panel}"
        );
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{panel}");
        let at = &panel["gridPos"];
        let right = at["x"].as_u64().unwrap() + at["w"].as_u64().unwrap();
        assert!(right <= 24, "{panel}");
    }
}

#[test]
fn the_images_configuration_is_good() {
    let checked = Command::new(binary())
        .args(["check", "--config"])
        .arg(project("deploy/llm-router.yaml"))
        .env_clear()
        .env("OPENAI_API_KEY", "sk-1")
        .current_dir(std::env::temp_dir())
        .output()
        .unwrap();
    must_succeed(&checked);
    let told = String::from_utf8_lossy(&checked.stdout);
    assert!(told.contains("0 errors"), "{told}");
    // And it is where the image looks for it.
    let image = text("Dockerfile");
    assert!(image.contains("COPY deploy/llm-router.yaml /etc/llm-router/llm-router.yaml"));
}

#[tokio::test]
async fn the_images_health_check_tells_a_router_that_is_ready() {
    let gateway = gateway().run().await;
    let image = text("Dockerfile");
    let check = image
        .split("CMD [")
        .nth(1)
        .unwrap()
        .split(']')
        .next()
        .unwrap();
    let healthy = |port: u16| {
        let check = check.replace("/8000", &format!("/{port}"));
        let command: Vec<String> = serde_json::from_str(&format!("[{check}]")).unwrap();
        let output = Command::new(&command[0]).args(&command[1..]).output();
        output.unwrap().status.success()
    };
    assert!(healthy(gateway.address.port()));
    assert!(!healthy(free_address().port()));
}

#[test]
fn compose_has_every_variable_and_reads_as_one() {
    let compose = text("deploy/compose.yaml");
    let example = text("deploy/example.env");
    let used = compose.split("${").skip(1);
    let used: BTreeSet<_> = used
        .map(|rest| rest.split([':', '}']).next().unwrap())
        .collect();
    let set = example.lines().filter(|line| !line.starts_with('#'));
    let set: BTreeSet<_> = set
        .filter_map(|line| line.split('=').next())
        .filter(|name| !name.is_empty())
        .collect();
    assert_eq!(used, set);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("env");
    let lines = set.iter().map(|name| format!("{name}=x\n"));
    fs::write(&file, lines.collect::<String>()).unwrap();
    let arguments = |command: &mut Command| {
        let compose = project("deploy/compose.yaml");
        command
            .arg("--env-file")
            .arg(&file)
            .arg("-f")
            .arg(compose)
            .arg("config")
            .output()
    };
    let plugin = Command::new("docker").args(["compose", "version"]).output();
    let has_plugin = plugin.is_ok_and(|told| told.status.success());
    let mut command = Command::new(if has_plugin {
        "docker"
    } else {
        "docker-compose"
    });
    if has_plugin {
        command.arg("compose");
    }
    match arguments(&mut command) {
        Ok(read) => must_succeed(&read),
        Err(_) => eprintln!("docker compose is absent: deploy/compose.yaml was NOT checked by it"),
    }
}

#[test]
fn the_balancers_configuration_is_good() {
    let config = project("deploy/haproxy.cfg");
    // -q: the routers' names mean nothing here, which is a warning.
    if let Some(checked) = run(
        Command::new("haproxy")
            .arg("-q")
            .arg("-c")
            .arg("-f")
            .arg(config),
        "haproxy",
    ) {
        must_succeed(&checked);
    }
}
