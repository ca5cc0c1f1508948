//! `demo`: the router on mock providers, with rules, owners, budgets, a deployment that fails now and
//! then, and a first hour's worth of requests. Nothing leaves the machine, and nothing stays on it.

use std::env;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use crate::cli::Outcome;
use crate::keys::generate::{random_key, random_secret};
use crate::snapshot::mock_host::MockHost;
use crate::startup::Start;

/// `demo`
pub(crate) fn demo(listen: SocketAddr, admin_listen: SocketAddr, json_log: bool) -> Outcome {
    let folder = env::temp_dir().join(format!("llm-router-demo-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let owners = OWNERS.map(|_| random_key());
    write_files(&folder, listen, admin_listen, &owners)?;
    let key = random_key();
    // A reader that has seen enough, as `head` has, doesn't end the demo.
    let _ = writeln!(
        io::stdout(),
        "{}",
        welcome(listen, admin_listen, key.expose_secret())
    );
    let history = thread::Builder::new().name("demo-history".into());
    history.spawn(move || send_history(listen, &owners))?;
    let served = crate::startup::serve(Start {
        file: Some(folder.join("llm-router.yaml")),
        upgrade: false,
        folder: folder.clone(),
        mock: llm_router_mock::MockConfig::default(),
        admin_key: Some(key),
        json_log,
    });
    // Best effort: the folder holds nothing but the demo's own files.
    let _ = fs::remove_dir_all(&folder);
    served?;
    Ok(ExitCode::SUCCESS)
}

/// Owners of the demo with what each may spend a month, in USD. The last one has spent it soon.
const OWNERS: [(&str, &str); 3] = [("search", "50"), ("support", "20"), ("research", "0.03")];

fn write_files(
    folder: &Path,
    listen: SocketAddr,
    admin_listen: SocketAddr,
    owners: &[SecretString],
) -> io::Result<()> {
    let realistic = llm_router_mock::MockConfig::realistic;
    let mock = MockHost::default().address(realistic())?;
    let shaky = MockHost::default().address_with(realistic(), "fail_every=4:status=503")?;
    let config = config(listen, admin_listen, mock, shaky);
    fs::write(folder.join("llm-router.yaml"), config)?;
    fs::write(folder.join("prices.yaml"), PRICES)?;
    // Keys and providers can be made in the dashboard, so the demo needs what they are stored with.
    let mut environment = String::new();
    for name in ["API_KEY_SALT", "SECRET_KEY"] {
        environment += &format!("{name}={}\n", random_secret().expose_secret());
    }
    for ((owner, _), key) in OWNERS.iter().zip(owners) {
        let name = owner.to_ascii_uppercase();
        environment += &format!("{name}_KEY={}\n", key.expose_secret());
    }
    fs::write(folder.join(".env"), environment)
}

/// Three providers that speak as differently as the real ones, all of them one mock, and a fourth
/// that fails now and then. The store and the counters are named, so that an environment which is
/// meant for a router in production doesn't lead the demo to its database.
fn config(
    listen: SocketAddr,
    admin_listen: SocketAddr,
    mock: SocketAddr,
    shaky: SocketAddr,
) -> String {
    let mut text = format!(
        r#"server: {{ listen: "{listen}" }}
admin: {{ listen: "{admin_listen}" }}
store: {{ url: "sqlite:llm-router.db" }}
counters: {{ url: "memory:" }}
providers:
  - {{ id: openai, type: openai, base_url: "http://{mock}/v1", models: [gpt-mock, gpt-mock-mini, embed-mock] }}
  - {{ id: anthropic, type: anthropic, base_url: "http://{mock}", models: [claude-mock] }}
  - {{ id: gemini, type: gemini, base_url: "http://{mock}/v1beta", models: [gemini-mock] }}
  - {{ id: shaky, type: custom, base_url: "http://{shaky}/v1", models: [gpt-mock-mini] }}
models:
  - name: fast
    strategy: round_robin
    deployments:
      - {{ provider: openai, model: gpt-mock-mini }}
      - {{ provider: shaky, model: gpt-mock-mini }}
  - {{ name: strong, deployments: [ {{ provider: anthropic, model: claude-mock }} ] }}
  - {{ name: wise, deployments: [ {{ provider: gemini, model: gemini-mock }} ] }}
prices: prices.yaml
routing:
  default_model: fast
  rules:
    - name: code-goes-to-strong
      when: {{ regex: '(?i)stack trace|segfault|exception' }}
      then: {{ use_model: strong }}
    - name: long-goes-to-wise
      when: {{ tokens: {{ min: 1000 }} }}
      then: {{ use_model: wise }}
    - name: old-app-is-gone
      when: {{ header: {{ name: x-app, equals: v1 }} }}
      then: {{ block: {{ status: 410, message: Please update the app. }} }}
keys:
"#
    );
    for (owner, _) in OWNERS {
        let variable = owner.to_ascii_uppercase();
        text +=
            &format!("  - {{ name: {owner}-app, key: \"${{{variable}_KEY}}\", owner: {owner} }}\n");
    }
    text += "owners:\n";
    for (owner, usd) in OWNERS {
        text += &format!("  - {{ name: {owner}, budget: {{ usd: {usd}, period: month }} }}\n");
    }
    text
}

/// Prices of the mock's models: made up, so that the demo's costs are more than nothing.
const PRICES: &str = "\
openai/gpt-mock-mini:\n  - { from: 2026-01-01, input: 0.15, cached_input: 0.075, output: 0.60 }\n\
shaky/gpt-mock-mini:\n  - { from: 2026-01-01, input: 0.15, cached_input: 0.075, output: 0.60 }\n\
openai/gpt-mock:\n  - { from: 2026-01-01, input: 2.50, cached_input: 1.25, output: 10 }\n\
openai/embed-mock:\n  - { from: 2026-01-01, input: 0.02 }\n\
anthropic/claude-mock:\n  - { from: 2026-01-01, input: 3, cached_input: 0.30, output: 15 }\n\
gemini/gemini-mock:\n  - { from: 2026-01-01, input: 1.25, cached_input: 0.31, output: 10 }\n";

/// Questions of the history, with the model that each is put to.
const QUESTIONS: [(&str, &str); 6] = [
    ("auto", "What is the capital of France?"),
    ("auto", "Why does this stack trace end in a segfault?"),
    (
        "fast",
        "Write a short note to a customer whose parcel is late.",
    ),
    ("strong", "Compare three ways to cache search results."),
    ("wise", "Summarise the history of the telephone."),
    ("missing", "Hello?"),
];

/// Requests of the history.
const HISTORY: usize = 60;

/// Sends the requests that the dashboard shows at first. They are real ones, by keys of the owners:
/// most are answered, some are tried twice, some are refused.
fn send_history(listen: SocketAddr, owners: &[SecretString]) {
    const WAIT: Duration = Duration::from_millis(100);
    const MOST_WAITS: usize = 300;
    if !(0..MOST_WAITS).any(|_| {
        let up = TcpStream::connect(listen).is_ok();
        if !up {
            thread::sleep(WAIT);
        }
        up
    }) {
        return;
    }
    thread::scope(|scope| {
        for (position, key) in owners.iter().enumerate() {
            scope.spawn(move || {
                for number in (position..HISTORY).step_by(owners.len()) {
                    let (model, question) = QUESTIONS[(number / owners.len()) % QUESTIONS.len()];
                    // What becomes of a request is in the dashboard; it ends with the demo.
                    let _ = send(listen, key.expose_secret(), model, question);
                }
            });
        }
    });
}

fn send(listen: SocketAddr, key: &str, model: &str, question: &str) -> io::Result<()> {
    let body = serde_json::json!({
        "model": model,
        "max_tokens": 200,
        "messages": [{ "role": "user", "content": question }],
    });
    let body = body.to_string();
    let mut stream = TcpStream::connect(listen)?;
    write!(
        stream,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {listen}\r\nauthorization: Bearer {key}\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )?;
    io::copy(&mut stream.take(1 << 20), &mut io::sink())?;
    Ok(())
}

fn welcome(listen: SocketAddr, admin_listen: SocketAddr, key: &str) -> String {
    format!(
        r#"LLM Router demo: mock providers, nothing leaves this machine. Ctrl-C ends it.

Key: {key}

Paste in another terminal, OpenAI format, plain:
curl http://{listen}/v1/chat/completions -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -d '{{"model": "fast", "messages": [{{"role": "user", "content": "Hello!"}}]}}'

Anthropic format, streamed:
curl -N http://{listen}/v1/messages -H 'x-api-key: {key}' -H 'anthropic-version: 2023-06-01' -H 'Content-Type: application/json' -d '{{"model": "strong", "max_tokens": 200, "stream": true, "messages": [{{"role": "user", "content": "Hello!"}}]}}'

Dashboard: http://{admin_listen}/ (sign in with that key)

Either format reaches every model: "fast" is OpenAI's here, "strong" Anthropic's, "wise" Gemini's. One
of the two deployments of "fast" fails every fourth request, which is then tried at the other. Three
owners send requests for about a minute; the budget of one of them is soon spent.

What that cost, at made-up prices: curl http://{admin_listen}/api/v1/cost/by-model -H 'Authorization: Bearer {key}'
Metrics: curl http://{admin_listen}/metrics -H 'Authorization: Bearer {key}'
The API's description: http://{admin_listen}/docs
"#
    )
}
