//! Runs or checks every fenced block of README.md and docs: YAML with `check`, JSON with a parser,
//! shell lines as they are pasted, against a demo where they call a router. What can't be run is in
//! `NOT_RUN`, with the reason; a block in neither place fails a test.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{binary, eventually, free_address};

/// A fenced block.
struct Block {
    /// File and line, for messages.
    place: String,
    language: String,
    text: String,
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Every block of README.md and of the pages in docs.
fn blocks() -> Vec<Block> {
    let mut files = vec![project("README.md")];
    let pages = fs::read_dir(project("docs")).unwrap();
    let pages = pages.map(|entry| entry.unwrap().path());
    files.extend(pages.filter(|path| path.extension().is_some_and(|kind| kind == "md")));
    files.sort();
    files.iter().flat_map(|file| blocks_of(file)).collect()
}

fn blocks_of(file: &Path) -> Vec<Block> {
    let text = fs::read_to_string(file).unwrap();
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in text.lines().enumerate() {
        match (&mut open, line.trim_start().strip_prefix("```")) {
            (None, Some(language)) => {
                open = Some(Block {
                    place: format!("{}:{}", file.display(), number + 1),
                    language: language.to_owned(),
                    text: String::new(),
                });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => block.text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "{}: a block has no end", file.display());
    found
}

fn block_with(text: &str) -> Block {
    let mut found = blocks();
    found.retain(|block| block.text.contains(text));
    assert_eq!(found.len(), 1, "blocks with {text:?}");
    found.remove(0)
}

/// Shell blocks that no test runs: a text that each contains, and the reason.
const NOT_RUN: [(&str, &str); 5] = [
    (
        "./scripts/dev.sh",
        "builds the router anew, then runs the demo, which has a test of its own",
    ),
    ("./scripts/test.sh", "runs every test, this one included"),
    ("docker run", "needs Docker and an image"),
    (
        "systemctl kill",
        "needs systemd; the handover has its tests in upgrade.rs",
    ),
    (
        "serve --upgrade",
        "the handover has its tests in upgrade.rs",
    ),
];

/// Shell blocks that a test below runs, by a text that each contains.
const RUN: [&str; 8] = [
    USE_IT,
    "-d '{\"model\": \"fast\"",
    INSTALL,
    "keys create",
    "explain --request",
    "A=http://",
    "$A/toggle -d",
    "$A/rules -d",
];
const USE_IT: &str = "serve --config conf/examples/openai-and-anthropic.yaml";
const INSTALL: &str = "systemctl enable";

#[test]
fn every_block_is_run_or_checked() {
    for block in blocks() {
        let place = &block.place;
        let not_run = NOT_RUN.iter().any(|(part, _)| block.text.contains(part));
        let run = RUN.iter().any(|part| block.text.contains(part));
        match block.language.as_str() {
            "sh" => assert!(run != not_run, "{place}: is it run, or why not?"),
            "yaml" => check_yaml(&block),
            "json" => {
                let parsed = serde_json::from_str::<Value>(&block.text);
                assert!(parsed.is_ok(), "{place}: {parsed:?}");
            }
            "python" => check_python(&block),
            other => panic!("{place}: nothing checks the language {other:?}"),
        }
    }
}

/// Checks a part of a configuration. The sections that it needs and doesn't have are added.
fn check_yaml(block: &Block) {
    let mut text = block.text.clone();
    for (section, added) in [
        (
            "providers:",
            "providers: [ { id: openai, type: mock }, { id: anthropic, type: mock }, \
             { id: eu-vllm, type: mock } ]\n",
        ),
        (
            "models:",
            "models: [ { name: fast, deployments: [ { provider: openai, model: a } ] }, \
             { name: strong, deployments: [ { provider: openai, model: b } ] }, \
             { name: fast-next, deployments: [ { provider: openai, model: c } ] } ]\n",
        ),
    ] {
        if !text.lines().any(|line| line.starts_with(section)) {
            text += added;
        }
    }
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("llm-router.yaml");
    fs::write(&file, text).unwrap();
    let variables = [
        "OPENAI_API_KEY",
        "ANTHROPIC_API_KEY",
        "GEMINI_API_KEY",
        "CI_KEY",
    ];
    let output = router(folder.path())
        .args(["check", "--config"])
        .arg(&file)
        .envs(variables.map(|name| (name, "0123456789abcdef0123456789abcdef")))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}: {}",
        block.place,
        output_text(&output)
    );
}

/// Checks the syntax: what the lines do is tested with the SDKs themselves, in tests/sdk.
fn check_python(block: &Block) {
    let parse = "import ast, sys; ast.parse(sys.argv[1])";
    let output = Command::new("python3")
        .args(["-c", parse, &block.text])
        .output();
    match output {
        Ok(output) => assert!(
            output.status.success(),
            "{}: {}",
            block.place,
            output_text(&output)
        ),
        Err(_) => eprintln!("python3 is absent: {} was NOT checked", block.place),
    }
}

fn output_text(output: &Output) -> String {
    let both = [output.stdout.as_slice(), b"\n", &output.stderr].concat();
    String::from_utf8_lossy(&both).into_owned()
}

/// The router's command with nothing of this process' environment but the path.
fn router(folder: &Path) -> Command {
    let mut command = Command::new(binary());
    isolate(&mut command, folder);
    command
}

fn isolate(command: &mut Command, folder: &Path) {
    let path = std::env::var("PATH").unwrap_or_default();
    let own = Path::new(binary()).parent().unwrap().display().to_string();
    command
        .env_clear()
        .env("PATH", format!("{own}:{path}"))
        .current_dir(folder)
        .stdin(Stdio::null());
}

/// Runs shell lines as pasted, except that a failure of any of them fails the whole.
fn shell(folder: &Path, lines: &str) -> Output {
    // A pasted curl shows an error and goes on; here the error counts.
    let strict = "set -eu\ncurl() { command curl -sS --fail-with-body \"$@\" && echo; }\n";
    let mut command = Command::new("sh");
    isolate(&mut command, folder);
    command
        .args(["-c", &format!("{strict}{lines}")])
        .output()
        .unwrap()
}

fn must_succeed(block: &Block, output: &Output) {
    assert!(
        output.status.success(),
        "{}:\n{}",
        block.place,
        output_text(output)
    );
}

/// A folder with what the project's folder has of `conf`, and a stand-in for `cargo`.
fn checkout() -> TempDir {
    let folder = TempDir::new().unwrap();
    for part in ["conf", "conf/examples", "systemd", "bin", "target/release"] {
        fs::create_dir_all(folder.path().join(part)).unwrap();
    }
    for part in ["conf", "conf/examples", "systemd"] {
        for entry in fs::read_dir(project(part)).unwrap() {
            let from = entry.unwrap().path();
            if from.is_file() {
                let to = folder.path().join(part).join(from.file_name().unwrap());
                fs::copy(&from, to).unwrap();
            }
        }
    }
    symlink(binary(), folder.path().join("target/release/llm-router")).unwrap();
    folder
}

/// Sets the addresses that a configuration leaves to their defaults, which may be taken here.
fn listen_at(file: &Path, listen: SocketAddr, admin: SocketAddr) {
    let text = fs::read_to_string(file).unwrap();
    assert!(!text.contains("\nserver:"), "{}", file.display());
    let addresses =
        format!("\nserver: {{ listen: \"{listen}\" }}\nadmin: {{ listen: \"{admin}\" }}\n");
    fs::write(file, text + &addresses).unwrap();
}

async fn answers(address: SocketAddr) {
    eventually("the router answers", || async {
        reqwest::get(format!("http://{address}/healthz"))
            .await
            .is_ok()
    })
    .await;
}

async fn lists_models(address: SocketAddr, key: &str) -> u16 {
    let request = reqwest::Client::new().get(format!("http://{address}/v1/models"));
    let answer = request.bearer_auth(key).send().await.unwrap();
    answer.status().as_u16()
}

fn stop(mut child: Child) -> i32 {
    let pid = child.id().to_string();
    assert!(Command::new("kill").arg(pid).status().unwrap().success());
    child.wait().unwrap().code().unwrap()
}

#[tokio::test]
async fn the_first_lines_of_the_readme_start_a_router() {
    let block = block_with(USE_IT);
    let folder = checkout();
    let (listen, admin) = (free_address(), free_address());
    let file = folder
        .path()
        .join("conf/examples/openai-and-anthropic.yaml");
    listen_at(&file, listen, admin);
    let lines = block.text.replace(
        "./target/release/llm-router",
        "exec ./target/release/llm-router",
    );
    let mut command = Command::new("sh");
    isolate(&mut command, folder.path());
    let mut child = command
        .args(["-c", &format!("set -eu\ncargo() {{ :; }}\n{lines}")])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut said)
        .unwrap();
    answers(listen).await;
    let mut keys = Vec::new();
    for word in said.split([' ', ',', '\n']).filter(|word| word.len() == 64) {
        keys.push(lists_models(listen, word).await);
    }
    assert_eq!(keys, [200, 200], "{said}");
    assert_eq!(stop(child), 0);
}

#[tokio::test]
async fn the_systemd_lines_install_a_router_that_starts() {
    let block = block_with(INSTALL);
    let folder = checkout();
    let root = folder.path().join("root");
    for part in ["usr/local/bin", "etc/systemd/system", "var/lib/llm-router"] {
        fs::create_dir_all(root.join(part)).unwrap();
    }
    let stand_ins = "cargo() { :; }\nsystemctl() { :; }\n";
    let prefix = root.display().to_string();
    let lines = block.text.replace(" /usr/", &format!(" {prefix}/usr/"));
    let lines = lines.replace(" /etc/", &format!(" {prefix}/etc/"));
    must_succeed(
        &block,
        &shell(folder.path(), &format!("{stand_ins}{lines}")),
    );

    let unit = fs::read_to_string(root.join("etc/systemd/system/llm-router.service")).unwrap();
    let setting = |name: &str| {
        let line = unit.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap().replace(" /etc/", &format!(" {prefix}/etc/"))
    };
    let start = setting("ExecStart=");
    let (program, arguments) = start.split_once(' ').unwrap();
    let secrets = root.join("etc/llm-router/environment");
    let mode = fs::metadata(&secrets).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (listen, admin) = (free_address(), free_address());
    listen_at(&root.join("etc/llm-router/llm-router.yaml"), listen, admin);
    let environment = fs::read_to_string(&secrets).unwrap();
    let environment: Vec<_> = environment
        .lines()
        .filter_map(|line| line.split_once('='))
        .collect();
    let mut command = Command::new(format!("{prefix}{program}"));
    isolate(&mut command, &root.join("var/lib/llm-router"));
    let child = command
        .args(arguments.split(' '))
        .envs(environment.iter().copied())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    answers(listen).await;
    for name in ["LLM_ROUTER_KEY", "ADMIN_API_KEY"] {
        let (_, key) = environment
            .iter()
            .find(|(known, _)| *known == name)
            .unwrap();
        assert_eq!(lists_models(listen, key).await, 200, "{name}");
    }
    assert_eq!(stop(child), 0);
}

#[test]
fn the_lines_about_keys_make_list_and_revoke_one() {
    let block = block_with("keys create");
    let folder = TempDir::new().unwrap();
    let config = "providers: [ { id: m, type: mock } ]\n";
    fs::create_dir(folder.path().join("conf")).unwrap();
    fs::write(folder.path().join("conf/llm-router.yaml"), config).unwrap();
    let output = shell(folder.path(), &block.text);
    must_succeed(&block, &output);
    let out = output_text(&output);
    assert!(
        out.contains("\tci\t") && out.contains("ci is revoked"),
        "{out}"
    );
}

#[tokio::test]
async fn lines_that_call_a_router_work_as_pasted() {
    let (listen, admin) = (free_address(), free_address());
    let folder = checkout();
    let mut demo = router(folder.path())
        .args(["demo", "--listen", &listen.to_string()])
        .args(["--admin-listen", &admin.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(demo.stdout.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    let key = lines
        .find_map(|line| line.strip_prefix("Key: ").map(str::to_owned))
        .unwrap();
    answers(listen).await;
    let here = |text: &str| {
        let text = text.replace("127.0.0.1:8000", &listen.to_string());
        text.replace("127.0.0.1:8001", &admin.to_string())
    };

    for (part, expected) in [
        ("-d '{\"model\": \"fast\"", "\"chat.completion\""),
        ("explain --request", "\"code-goes-to-strong\""),
    ] {
        let block = block_with(part);
        let lines = format!(
            "KEY={key}\nexport LLM_ROUTER_KEY=$KEY\n{}",
            here(&block.text)
        );
        let output = shell(folder.path(), &lines);
        must_succeed(&block, &output);
        assert!(
            output_text(&output).contains(expected),
            "{}",
            output_text(&output)
        );
    }

    let settings = here(&block_with("A=http://").text);
    for part in ["$A/toggle -d", "$A/rules -d"] {
        let block = block_with(part);
        let lines = format!("ADMIN_API_KEY={key}\n{settings}{}", block.text);
        must_succeed(&block, &shell(folder.path(), &lines));
    }
    assert_eq!(stop(demo), 0);
}
