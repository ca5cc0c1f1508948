//! Many reloads under load, every tenth of them of a broken file: no request fails, and the router
//! reports each result correctly.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{bail, ensure};
use clap::Args;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use tokio::time::sleep;

use super::stage::{Stage, model};
use super::traffic::ChatClients;
use crate::{clock, output, to_its_end};

/// Options of `reloads`.
#[derive(Args, Debug)]
pub(crate) struct ReloadsOptions {
    /// The router's binary
    #[arg(long)]
    router: PathBuf,
    /// Reloads
    #[arg(long, default_value_t = 1_000)]
    reloads: u32,
    /// Clients at the same time, half of them streaming
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Timeout of one reload.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Serialize)]
struct ReloadsReport {
    reloads: u32,
    broken: u32,
    /// Reloads after which the router said the wrong thing.
    wrong: u32,
    requests: usize,
    failed: usize,
    seconds: f64,
}

/// Reloads again and again and prints what became of the requests meanwhile.
///
/// # Errors
/// Returns an error if a request failed or the router answered incorrectly.
pub(crate) fn run(options: &ReloadsOptions) -> anyhow::Result<()> {
    let report = to_its_end(reload(options))?;
    let text = format!(
        "{} reloads in {:.0} s, {} of them of a broken file: {} said wrong; {} requests meanwhile, \
         {} failed",
        report.reloads, report.seconds, report.broken, report.wrong, report.requests, report.failed
    );
    output::report(options.json, &report, &text)?;
    ensure!(report.wrong == 0 && report.failed == 0, "see above");
    Ok(())
}

async fn reload(options: &ReloadsOptions) -> anyhow::Result<ReloadsReport> {
    let stage = Stage::start(&options.router, &model("trio", "weighted")).await?;
    let good = fs::read_to_string(stage.config())?;
    let mut running = Vec::new();
    for stream in [false, true] {
        let ask = ChatClients {
            content: None,
            target: stage.target()?,
            model: "trio",
            stream,
            clients: options.clients.div_ceil(2),
        };
        running.push(ask.begin(usize::MAX));
    }
    let mut report = ReloadsReport {
        reloads: options.reloads,
        broken: 0,
        wrong: 0,
        requests: 0,
        failed: 0,
        seconds: 0.0,
    };
    let began = clock::now();
    for number in 0..options.reloads {
        let broken = number % 10 == 9;
        report.broken += u32::from(broken);
        let text = if broken {
            good.replace("strategy: weighted", "strategy: wieghted")
        } else {
            good.replace(
                "first_byte: 500ms",
                &format!("first_byte: {}ms", 2_000 + number),
            )
        };
        report.wrong += u32::from(!one(&stage, &text, broken).await?);
    }
    report.seconds = began.elapsed().as_secs_f64();
    for traffic in running {
        let tally = traffic.stop().await;
        report.requests += tally.samples.len() + tally.errors.len();
        report.failed += tally.errors.len();
        for error in tally.errors.iter().take(2) {
            output::remark(error);
        }
    }
    Ok(report)
}

/// One reload; whether the router says of it what is right.
async fn one(stage: &Stage, text: &str, broken: bool) -> anyhow::Result<bool> {
    let (name, applied) = ("llm_router_config_reloads_total", ["result=\"applied\""]);
    let before = stage.metrics().await?.get(name, &applied);
    // Renamed, so that no half of it is ever read.
    let fresh = stage.config().with_extension("new");
    fs::write(&fresh, text)?;
    fs::rename(&fresh, stage.config())?;
    kill(Pid::from_raw(i32::try_from(stage.pid())?), Signal::SIGHUP)?;
    let end = clock::now() + PATIENCE;
    while clock::now() < end {
        let metrics = stage.metrics().await?;
        let successful = metrics.get("llm_router_config_last_reload_successful", &[]) == 1.0;
        let reloads = metrics.get(name, &applied);
        // The watcher of the file may have reloaded the one before twice: only what is said counts.
        if broken && !successful {
            return Ok(true);
        }
        if !broken && reloads > before {
            return Ok(successful);
        }
        sleep(Duration::from_millis(5)).await;
    }
    bail!("a reload had no effect in {} s", PATIENCE.as_secs())
}
