//! LLM Router: a smart gateway in front of many LLM providers. The command line; each command is
//! carried out by a module of its own.

mod access_log;
mod authenticate;
mod balance;
mod books;
mod broadcast;
mod budgets;
mod clock;
mod commands;
mod compile;
mod ending;
mod explain;
mod fault;
mod follow;
mod handover;
mod health;
mod hosting;
mod issued;
mod issuing;
mod key_commands;
mod key_ring;
mod keys;
mod ledger;
mod ledger_metrics;
mod limits;
mod listing;
mod made;
mod metrics;
mod mock_host;
mod objects;
mod paths;
mod prices;
mod proxy;
mod readiness;
mod reload;
mod restart;
mod route;
mod rules;
mod running;
mod serve;
mod settings;
mod snapshot;
mod sockets;
mod steering;
mod succession;
mod supervisor;
mod switch;
mod traces;
mod uses;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use key_commands::KeysCommand;

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
        /// Where clients connect.
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8000")]
        listen: SocketAddr,
        /// Where the admin service listens.
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
    Explain(explain::Arguments),
    /// Run the mock provider on its own.
    Mock {
        /// Where it listens.
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
    let json_log = commands::start_logging();
    let outcome = match Arguments::parse().command {
        Command::Serve { config, upgrade } => commands::serve(config, upgrade, json_log),
        Command::Demo {
            listen,
            admin_listen,
        } => commands::demo(listen, admin_listen, json_log),
        Command::Check { config } => commands::check(config),
        Command::Explain(arguments) => explain::command(&arguments),
        Command::Mock { listen } => commands::mock(listen),
        Command::Migrate { config } => books::migrate(config),
        Command::Ledger {
            command: LedgerCommand::Verify { config },
        } => books::verify(config),
        Command::Keys { command } => key_commands::keys(command),
        Command::Schema => commands::schema(),
    };
    outcome.unwrap_or_else(|failure| failure.report())
}
