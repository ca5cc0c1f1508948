//! The commands of the command line, as far as they are more than `serve`.

pub(crate) mod demo;
pub(crate) mod explain;
pub(crate) mod keys;
pub(crate) mod ledger;

use std::env;
use std::io::{self, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use llm_router_config::Environment;
use tracing_subscriber::EnvFilter;

use crate::snapshot::prices;
use crate::startup::Start;
use crate::sync::reload::LoadError;
use crate::telemetry::log_format::JsonLines;

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
             pingora_core::services::listening=off,tokio_postgres=info,refinery_core=warn"
        ))
        .unwrap_or_else(|_| EnvFilter::new("info"))
    };
    let subscriber = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_env_filter(filter());
    if json {
        subscriber.event_format(JsonLines).init();
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
