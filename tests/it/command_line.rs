//! The commands besides `serve`.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{binary, eventually, free_address};

fn run(arguments: &[&str]) -> Output {
    let folder = TempDir::new().unwrap();
    Command::new(binary())
        .args(arguments)
        .current_dir(folder.path())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

const TEN_MISTAKES: &str = r#"server:
  listen: nowhere
  max_boddy: 1MiB
providers:
  - id: one
    type: openay
  - id: two
    type: custom
  - id: three
    type: custom
    base_url: ftp://example.com
    timeouts: { connect: soon }
models:
  - name: fast
    strategy: fastest
    deployments: [ { provider: nobody, model: x } ]
    fallbacks: [ missing ]
routing:
  default_model: gone
keys:
  - { name: a, key: "${NOT_SET}" }
"#;

#[test]
fn check_reports_every_mistake_with_its_line() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("bad.yaml");
    fs::write(&file, TEN_MISTAKES).unwrap();
    let output = run(&["check", "--config", file.to_str().unwrap()]);
    let printed = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{printed}");
    for (line, path) in [
        (2, "server.listen"),
        (3, "server.max_boddy"),
        (6, "providers[0].type"),
        (7, "providers[1].base_url"),
        (11, "providers[2].base_url"),
        (12, "providers[2].timeouts.connect"),
        (15, "models[0].strategy"),
        (16, "models[0].deployments[0].provider"),
        (17, "models[0].fallbacks[0]"),
        (19, "routing.default_model"),
        (21, "keys[0].key"),
    ] {
        let start = format!("{}:{line}: {path}: ", file.display());
        assert!(
            printed.lines().any(|printed| printed.starts_with(&start)),
            "{start}\n{printed}"
        );
    }
}

#[test]
fn check_exits_with_0_on_a_sound_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("good.yaml");
    fs::write(&file, "providers: [ { id: m, type: mock } ]\n").unwrap();
    let output = run(&["check", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
}

#[test]
fn serve_refuses_what_check_refuses() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("bad.yaml");
    fs::write(&file, TEN_MISTAKES).unwrap();
    let output = run(&["serve", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("server.max_boddy"));
    assert_eq!(
        run(&["serve", "--config", "/nowhere.yaml"]).status.code(),
        Some(2)
    );
    assert_eq!(run(&["nonsense"]).status.code(), Some(2));
}

#[test]
fn a_taken_port_is_told_of() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("c.yaml");
    let admin = free_address();
    let config = format!("server: {{ listen: \"{taken}\" }}\nadmin: {{ listen: \"{admin}\" }}\n");
    fs::write(&file, config).unwrap();
    let output = run(&["serve", "--config", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains(&format!("can't listen on {taken}")), "{said}");
    drop(listener);
}

#[test]
fn schema_is_json_and_knows_the_sections() {
    let output = run(&["schema"]);
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    for section in ["server", "admin", "providers", "models", "keys"] {
        assert!(schema["properties"].get(section).is_some(), "{section}");
    }
}

#[tokio::test]
async fn the_demo_prints_lines_that_work() {
    let (listen, admin) = (free_address(), free_address());
    let mut demo = Command::new(binary())
        .args([
            "demo",
            "--listen",
            &listen.to_string(),
            "--admin-listen",
            &admin.to_string(),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(demo.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    let commands: Vec<_> = lines
        .filter(|line| line.contains("curl "))
        .take(4)
        .map(with_retries)
        .collect();
    // Either SDK's format reaches the models of every provider.
    let named = |command: &String, name: &str| {
        let command = command
            .replace("\"fast\"", name)
            .replace("\"strong\"", name);
        Command::new("sh").args(["-c", &command]).output().unwrap()
    };
    for name in ["\"fast\"", "\"strong\"", "\"wise\""] {
        let (chat, messages) = (named(&commands[0], name), named(&commands[1], name));
        assert!(
            text(&chat.stdout).contains("\"finish_reason\":\"stop\""),
            "{name}: {chat:?}"
        );
        assert!(
            text(&messages.stdout).contains("event: message_stop"),
            "{name}: {messages:?}"
        );
    }
    let ran: Vec<_> = commands
        .iter()
        .map(|command| Command::new("sh").args(["-c", command]).output().unwrap())
        .map(|output| text(&output.stdout))
        .collect();
    let stopped = Command::new("kill")
        .arg(demo.id().to_string())
        .status()
        .unwrap();
    let ended = demo.wait().unwrap();
    assert!(stopped.success() && ended.success(), "{stopped} {ended}");
    assert!(ran[0].contains("\"chat.completion\""), "{}", ran[0]);
    assert!(ran[1].contains("event: message_stop"), "{}", ran[1]);
    let priced = ran[2].contains("\"unpriced_requests\":0") && !ran[2].contains("\"cost_usd\":0,");
    assert!(priced, "{}", ran[2]);
    assert!(ran[3].contains("llm_router_build_info"), "{}", ran[3]);
}

#[test]
fn commands_that_only_read_make_no_store() {
    let folder = TempDir::new().unwrap();
    for arguments in [
        ["keys", "list"].as_slice(),
        &["keys", "revoke", "ci"],
        &["ledger", "verify"],
    ] {
        let mut command = Command::new(binary());
        let output = command
            .env_clear()
            .args(arguments)
            .current_dir(&folder)
            .output();
        let output = output.unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let said = text(&output.stderr);
        assert!(
            said.contains("there is no store at sqlite:") && said.contains("data/llm-router.db"),
            "{said}"
        );
        assert!(fs::read_dir(&folder).unwrap().next().is_none());
    }
}

#[test]
fn what_is_written_is_for_its_owner_only() {
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(binary());
    let output = command
        .env_clear()
        .env("API_KEY_SALT", "0123456789abcdef")
        .args(["keys", "create", "--name", "ci"])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_modes(folder.path());
}

/// Checks that folders are 0700 and files 0600, all the way down.
fn assert_modes(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt as _;
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let (path, data) = (entry.path(), entry.metadata().unwrap());
        let wanted = if data.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(data.permissions().mode() & 0o777, wanted, "{path:?}");
        if data.is_dir() {
            assert_modes(&path);
        }
    }
}

#[tokio::test]
async fn the_demo_has_owners_rules_and_history() {
    let (listen, admin) = (free_address(), free_address());
    let folder = TempDir::new().unwrap();
    let mut demo = Command::new(binary())
        .env_clear()
        // Those of a router in production must not be touched.
        .env("DATABASE_URL", "postgres://nobody@127.0.0.1:1/none")
        .env("REDIS_URL", "redis://127.0.0.1:1")
        .env("TMPDIR", folder.path())
        .args(["demo", "--listen", &listen.to_string()])
        .args(["--admin-listen", &admin.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    let key = lines.find_map(|line| line.strip_prefix("Key: ").map(str::to_owned));
    let key = key.unwrap();
    let client = reqwest::Client::new();
    let read = async |path: &str| -> Value {
        let request = client.get(format!("http://{admin}{path}"));
        match request.bearer_auth(&key).send().await {
            Ok(answer) => serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap(),
            Err(_) => Value::Null,
        }
    };
    eventually("three owners have a history", || async {
        let items = read("/api/v1/cost/by-user").await;
        let items = items["items"].as_array().map_or(0, Vec::len);
        items == 3
    })
    .await;
    eventually("a request was tried at two deployments", || async {
        let found = read("/api/v1/requests?limit=100").await;
        let items = found["items"].as_array().unwrap();
        items.iter().any(|one| {
            one["attempts"]
                .as_array()
                .is_some_and(|tried| tried.len() == 2)
        })
    })
    .await;
    assert_modes(folder.path());
    // With a salt and a secret key of its own, keys and providers can be made.
    let made = client.post(format!("http://{admin}/api/v1/keys"));
    let made = made.bearer_auth(&key).body(r#"{"name": "mine"}"#);
    assert_eq!(made.send().await.unwrap().status(), 201);
    let made = client.post(format!("http://{admin}/api/v1/providers"));
    let made = made
        .bearer_auth(&key)
        .body(r#"{"id": "mine", "type": "openai", "api_key": "sk-0123456789abcdef"}"#);
    assert_eq!(made.send().await.unwrap().status(), 201);
    let stopped = Command::new("kill").arg(demo.id().to_string()).status();
    assert!(stopped.unwrap().success() && demo.wait().unwrap().success());
}

/// The command as printed, waiting for a router that is still starting.
fn with_retries(line: String) -> String {
    let start = line.find("curl ").unwrap();
    line[start..].replacen(
        "curl ",
        "curl -s --retry 20 --retry-connrefused --retry-delay 1 ",
        1,
    )
}
