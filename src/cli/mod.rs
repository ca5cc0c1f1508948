//! The commands of the command line, as far as they are more than `serve`.

pub(crate) mod explain;
pub(crate) mod keys;
pub(crate) mod ledger;

use std::env;
use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use llm_router_config::Environment;
use secrecy::ExposeSecret as _;
use tracing_subscriber::EnvFilter;

use crate::snapshot::mock_host::MockHost;
use crate::snapshot::prices;
use crate::startup::{Start, random_key};
use crate::sync::reload::LoadError;

/// Failure of a command. Exit code 2 is wrong usage or configuration, 1 everything else.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("{0}")]
    System(#[from] io::Error),
    #[error("{0}")]
    Usage(String),
}

impl Failure {
    /// Tells of the failure and gives the exit code for it.
    pub(crate) fn report(&self) -> ExitCode {
        // There is nowhere to tell of a standard error that is closed.
        let _ = writeln!(io::stderr(), "{self}");
        match self {
            Self::Load(LoadError::Config(_)) | Self::Usage(_) => ExitCode::from(2),
            _ => ExitCode::FAILURE,
        }
    }
}

pub(crate) type Outcome = Result<ExitCode, Failure>;

/// Starts logging to standard error: text on a terminal, JSON otherwise. Returns whether it is
/// JSON.
pub(crate) fn start_logging() -> bool {
    let json = !io::stderr().is_terminal();
    let filter = || {
        let wanted = ["LOG_LEVEL", "RUST_LOG"]
            .into_iter()
            .find_map(|name| env::var(name).ok());
        // Pingora tells of its services and of each broken connection; ours is the say on both. The
        // driver of PostgreSQL tells what is stored, hashes of keys and sealed credentials included.
        let wanted = wanted.unwrap_or_else(|| "info".to_owned());
        EnvFilter::try_new(format!(
            "{wanted},pingora=warn,pingora_core=warn,pingora_proxy=off,\
             pingora_core::services::listening=off,tokio_postgres=info"
        ))
        .unwrap_or_else(|_| EnvFilter::new("info"))
    };
    let subscriber = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_env_filter(filter());
    if json {
        subscriber.json().flatten_event(true).init();
    } else {
        subscriber.init();
    }
    json
}

/// `serve`
pub(crate) fn serve(config: Option<PathBuf>, upgrade: bool, json_log: bool) -> Outcome {
    crate::startup::serve(Start {
        file: config,
        upgrade,
        folder: env::current_dir()?,
        mock: llm_router_mock::MockConfig::default(),
        admin_key: None,
        json_log,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// `check`
pub(crate) fn check(config: Option<PathBuf>) -> Outcome {
    let environment = Environment::read(&env::current_dir()?);
    let mut unpriced = Vec::new();
    let (report, good) = match llm_router_config::load(config.as_deref(), &environment) {
        Ok(loaded) => match prices::table(loaded.config.prices.as_deref()) {
            Ok(table) => {
                unpriced = prices::find_unpriced(&loaded.config, &table);
                (loaded.warnings, true)
            }
            Err(mistakes) => (loaded.warnings.merge(mistakes), false),
        },
        Err(report) => (report, false),
    };
    let mut out = io::stdout().lock();
    write!(out, "{}", report.render())?;
    for sentence in &unpriced {
        writeln!(out, "warning: {sentence}")?;
    }
    let (errors, warnings) = (
        report.errors().count(),
        report.warnings().count() + unpriced.len(),
    );
    writeln!(out, "{errors} errors, {warnings} warnings")?;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(2)
    })
}

/// `schema`
pub(crate) fn schema() -> Outcome {
    writeln!(io::stdout(), "{:#}", llm_router_config::schema())?;
    Ok(ExitCode::SUCCESS)
}

/// `mock`
pub(crate) fn mock(listen: SocketAddr) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await?;
        writeln!(
            io::stderr(),
            "mock provider on http://{}/v1",
            listener.local_addr()?
        )?;
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
        };
        llm_router_mock::serve(listener, llm_router_mock::MockConfig::default(), stop).await?;
        Ok(ExitCode::SUCCESS)
    })
}

/// `demo`
pub(crate) fn demo(listen: SocketAddr, admin_listen: SocketAddr, json_log: bool) -> Outcome {
    let folder = env::temp_dir().join(format!("llm-router-demo-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let file = folder.join("llm-router.yaml");
    let mock = MockHost::default().address(llm_router_mock::MockConfig::realistic())?;
    fs::write(&file, demo_config(listen, admin_listen, mock))?;
    fs::write(folder.join("prices.yaml"), DEMO_PRICES)?;
    let key = random_key();
    // A reader that has seen enough, as `head` has, doesn't end the demo.
    let _ = writeln!(
        io::stdout(),
        "{}",
        welcome(listen, admin_listen, key.expose_secret())
    );
    let served = crate::startup::serve(Start {
        file: Some(file),
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

/// Three providers that speak as differently as the real ones, all of them the one mock.
fn demo_config(listen: SocketAddr, admin_listen: SocketAddr, mock: SocketAddr) -> String {
    format!(
        "server: {{ listen: \"{listen}\" }}\n\
         admin: {{ listen: \"{admin_listen}\" }}\n\
         providers:\n\
         \x20 - {{ id: openai, type: openai, base_url: \"http://{mock}/v1\", \
         models: [gpt-mock, gpt-mock-mini, embed-mock] }}\n\
         \x20 - {{ id: anthropic, type: anthropic, base_url: \"http://{mock}\", \
         models: [claude-mock] }}\n\
         \x20 - {{ id: gemini, type: gemini, base_url: \"http://{mock}/v1beta\", \
         models: [gemini-mock] }}\n\
         models:\n\
         \x20 - {{ name: fast, deployments: [ {{ provider: openai, model: gpt-mock-mini }} ] }}\n\
         \x20 - {{ name: strong, deployments: [ {{ provider: anthropic, model: claude-mock }} ] }}\n\
         \x20 - {{ name: wise, deployments: [ {{ provider: gemini, model: gemini-mock }} ] }}\n\
         routing: {{ default_model: fast }}\n\
         prices: prices.yaml\n"
    )
}

/// Prices of the mock's models: made up, so that the demo's costs are more than nothing.
const DEMO_PRICES: &str = "\
openai/gpt-mock-mini:\n  - { from: 2026-01-01, input: 0.15, cached_input: 0.075, output: 0.60 }\n\
openai/gpt-mock:\n  - { from: 2026-01-01, input: 2.50, cached_input: 1.25, output: 10 }\n\
openai/embed-mock:\n  - { from: 2026-01-01, input: 0.02 }\n\
anthropic/claude-mock:\n  - { from: 2026-01-01, input: 3, cached_input: 0.30, output: 15 }\n\
gemini/gemini-mock:\n  - { from: 2026-01-01, input: 1.25, cached_input: 0.31, output: 10 }\n";

fn welcome(listen: SocketAddr, admin_listen: SocketAddr, key: &str) -> String {
    format!(
        r#"LLM Router demo: mock providers, nothing leaves this machine. Ctrl-C ends it.

Key: {key}

Paste in another terminal, OpenAI format, plain:
curl http://{listen}/v1/chat/completions -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' -d '{{"model": "fast", "messages": [{{"role": "user", "content": "Hello!"}}]}}'

Anthropic format, streamed:
curl -N http://{listen}/v1/messages -H 'x-api-key: {key}' -H 'anthropic-version: 2023-06-01' -H 'Content-Type: application/json' -d '{{"model": "strong", "max_tokens": 200, "stream": true, "messages": [{{"role": "user", "content": "Hello!"}}]}}'

Dashboard: http://{admin_listen}/ (sign in with that key)

Either format reaches every model: "fast" is OpenAI's here, "strong" Anthropic's, "wise" Gemini's.

What that cost, at made-up prices: curl http://{admin_listen}/api/v1/cost/by-model -H 'Authorization: Bearer {key}'
Metrics: curl http://{admin_listen}/metrics -H 'Authorization: Bearer {key}'
The API's description: http://{admin_listen}/docs
"#
    )
}
