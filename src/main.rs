//! LLM Router: a smart gateway in front of many LLM providers. The command line; each command is
//! carried out by a module of its own.

mod admin_api;
mod budgets;
mod cli;
mod clock;
mod error;
mod health;
mod keys;
mod ledger;
mod limits;
mod process;
mod proxy;
mod routing;
mod snapshot;
mod startup;
mod sync;
mod telemetry;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use cli::keys::KeysCommand;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A smart gateway in front of many LLM providers.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the proxy and the admin service.
    Serve {
        /// The configuration; conf/llm-router.yaml if it exists, else built-in defaults with one
        /// provider for each of OPENAI_API_KEY, ANTHROPIC_API_KEY and GEMINI_API_KEY that is set.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Take the listening sockets over from the running router, at its SIGQUIT: no connection is
        /// refused and no stream is cut.
        #[arg(long)]
        upgrade: bool,
    },
    /// Try the router with no keys, no configuration and no network.
    Demo {
        /// Address that clients connect to.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
        listen: SocketAddr,
        /// Address of the admin service.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8001")]
        admin_listen: SocketAddr,
    },
    /// Print every error and every warning of a configuration.
    Check {
        /// The configuration; found as by serve.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Print, as JSON, how a request would be routed, without sending it.
    Explain(cli::explain::Arguments),
    /// Run the mock provider on its own.
    Mock {
        /// Address to listen on.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9000")]
        listen: SocketAddr,
    },
    /// Create or upgrade the tables of the configured store, as serve does too. Where no admin key is
    /// configured and the store never had a key, one is made and printed, once.
    Migrate {
        /// The configuration; found as by serve.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Look after the ledger.
    Ledger {
        #[command(subcommand)]
        command: LedgerCommand,
    },
    /// Make, list and end the keys of the store.
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Print the JSON Schema of the configuration, for editors.
    Schema,
}

#[derive(Subcommand)]
enum LedgerCommand {
    /// Compare journal, entries and sums; exit 1 if they differ.
    Verify {
        /// The configuration; found as by serve.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    process::restrict_new_files();
    let json_log = cli::start_logging();
    let outcome = match Arguments::parse().command {
        Command::Serve { config, upgrade } => cli::serve(config, upgrade, json_log),
        Command::Demo {
            listen,
            admin_listen,
        } => cli::demo::demo(listen, admin_listen, json_log),
        Command::Check { config } => cli::check(config),
        Command::Explain(arguments) => cli::explain::command(&arguments),
        Command::Mock { listen } => cli::mock(listen),
        Command::Migrate { config } => cli::ledger::migrate(config),
        Command::Ledger {
            command: LedgerCommand::Verify { config },
        } => cli::ledger::verify(config),
        Command::Keys { command } => cli::keys::keys(command),
        Command::Schema => cli::schema(),
    };
    outcome.unwrap_or_else(|failure| failure.report())
}
