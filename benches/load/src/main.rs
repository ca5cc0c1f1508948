#![doc = include_str!("../README.md")]

mod bed;
mod bodies;
mod certificate;
mod child;
mod clock;
mod digest;
mod drive;
mod event;
mod failing;
mod floor;
mod hangup;
mod http1;
mod http2;
mod malformed;
mod output;
mod payload;
mod proc;
mod slow;
mod stats;
mod table;
mod target;
mod upstream;

use std::io;
use std::num::NonZeroUsize;
use std::process::ExitCode;

use anyhow::bail;
use clap::Parser;
use mimalloc::MiMalloc;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::ctrl_c;
use tokio::signal::unix::{SignalKind, signal};

/// The router's allocator, so that the floor differs in nothing but what it does.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Measures LLM Router against a plain Pingora pass-through
#[derive(Parser, Debug)]
#[command(version)]
enum Command {
    /// Serve the plain Pingora pass-through
    Floor(floor::Options),
    /// Serve the bare upstream
    Upstream(upstream::Options),
    /// Load a URL
    #[command(subcommand)]
    Drive(drive::Mode),
    /// Print the bench table: router against floor in one run
    Table(table::Options),
    /// Send bodies of all sizes and compare what the upstream received
    Bodies(bodies::Options),
    /// Hang up on streams and see how long the upstream's live on
    Hangup(hangup::Options),
    /// See what thousands of slow clients do to the requests of others
    Slow(slow::Options),
    /// Send malformed requests and see how they are refused
    Malformed(malformed::Options),
    /// Let one of three deployments fail in seven ways and see what clients notice
    Matrix(failing::matrix::Options),
    /// Set least_latency against round_robin while an upstream slows down
    Race(failing::race::Options),
    /// Reload again and again under load, now and then a broken file
    Reloads(failing::reloads::Options),
}

fn main() -> ExitCode {
    match run(&Command::parse()) {
        Ok(code) => code,
        Err(error) => {
            output::remark(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Floor(options) => floor::run(options),
        Command::Upstream(options) => upstream::run(options)?,
        Command::Drive(mode) => drive::run(mode)?,
        Command::Table(options) => table::run(options)?,
        Command::Bodies(options) => return bodies::run(options),
        Command::Hangup(options) => hangup::run(options)?,
        Command::Slow(options) => slow::run(options)?,
        Command::Malformed(options) => return malformed::run(options),
        Command::Matrix(options) => failing::matrix::run(options)?,
        Command::Race(options) => failing::race::run(options)?,
        Command::Reloads(options) => failing::reloads::run(options)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Runs `task` on this thread. A signal ends it early, but in order: what it started ends too.
///
/// # Errors
/// Those of `task`, or that a signal came.
fn to_its_end<T>(task: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    runtime(NonZeroUsize::MIN)?.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            done = task => done,
            _ = terminate.recv() => bail!("ended by SIGTERM"),
            _ = ctrl_c() => bail!("interrupted"),
        }
    })
}

/// A runtime of `threads` threads; of one, the calling thread itself.
fn runtime(threads: NonZeroUsize) -> io::Result<Runtime> {
    let mut builder = match threads.get() {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    if threads.get() > 1 {
        builder.worker_threads(threads.get());
    }
    builder.enable_all().build()
}
