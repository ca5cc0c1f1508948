//! One of three deployments fails in turn in seven ways: errors that clients see, requests sent to
//! it once it has been ejected, and the time until it is used again after recovery.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;
use tokio::time::sleep;

use super::stage::{PROVIDERS, Stage, model};
use super::traffic::ChatClients;
use crate::{clock, output, to_its_end};

/// Options of `matrix`.
#[derive(Args, Debug)]
pub(crate) struct MatrixOptions {
    /// The router's binary
    #[arg(long)]
    router: PathBuf,
    /// Requests after the ejection, for each failure
    #[arg(long, default_value_t = 10_000)]
    requests: usize,
    /// Clients at the same time
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Only failures whose name holds this
    #[arg(long, default_value = "")]
    only: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Name and the mock's controls; none: its process is ended.
const FAILURES: [(&str, &str); 7] = [
    ("connect refused", ""),
    ("reset", "reset"),
    ("500", "status=500"),
    ("429 with retry-after", "status=429:retry_after=3s"),
    ("529", "status=529:retry_after=none"),
    ("hang past first byte", "hang"),
    ("error event first", "error_event"),
];
const MODEL: &str = "trio";
const FAILING: &str = PROVIDERS[0];
/// The longest that is waited for a deployment to come back.
const PATIENCE: Duration = Duration::from_secs(120);
/// A deployment has its share back when it answers this part of the requests.
const SHARE: f64 = 0.28;

#[derive(Debug, Serialize)]
struct MatrixRow {
    failure: &'static str,
    stream: bool,
    /// Attempts at the failing one before it was ejected.
    before_ejection: f64,
    requests: usize,
    /// Answers that weren't whole and good, over all requests of the row.
    client_errors: usize,
    /// Attempts at it while it was ejected: probes.
    touched: f64,
    seconds: f64,
    /// From its healing to its first answer.
    first_answer_seconds: f64,
    /// From its healing until it has its share again.
    share_seconds: f64,
}

/// Runs all failures, plain and streamed, and prints a table. Fails if a client saw an error.
///
/// # Errors
/// Returns an error if a client saw an error, or a deployment wasn't ejected or didn't recover.
pub(crate) fn run(options: &MatrixOptions) -> anyhow::Result<()> {
    let rows = to_its_end(all(options))?;
    output::report(options.json, &rows, &text(&rows))?;
    let errors: usize = rows.iter().map(|row| row.client_errors).sum();
    ensure!(errors == 0, "clients saw {errors} errors");
    Ok(())
}

async fn all(options: &MatrixOptions) -> anyhow::Result<Vec<MatrixRow>> {
    let mut rows = Vec::new();
    for (failure, controls) in FAILURES {
        for stream in [false, true] {
            if failure.contains(&options.only) {
                let row = one(options, failure, controls, stream).await;
                rows.push(row.with_context(|| format!("{failure}, stream: {stream}"))?);
                output::remark(&format!("{failure}, stream: {stream}: done"));
            }
        }
    }
    Ok(rows)
}

async fn one(
    options: &MatrixOptions,
    failure: &'static str,
    controls: &str,
    stream: bool,
) -> anyhow::Result<MatrixRow> {
    let mut stage = Stage::start(&options.router, &model(MODEL, "round_robin")).await?;
    let ask = ChatClients {
        target: stage.target()?,
        model: MODEL,
        stream,
        clients: options.clients,
    };
    let mut errors = ask.times(300).await.errors;
    if controls.is_empty() {
        stage.stop(0);
    } else {
        stage.set(0, controls).await?;
    }
    errors.extend(eject(&stage, &ask).await?);
    let before = stage.metrics().await?;
    let begun = clock::now();
    let tally = ask.times(options.requests).await;
    let seconds = begun.elapsed().as_secs_f64();
    errors.extend(tally.errors);
    let after = stage.metrics().await?;
    if controls.is_empty() {
        stage.restart(0).await?;
    } else {
        stage.set(0, "").await?;
    }
    let back = recover(&stage, &ask).await?;
    errors.extend(back.errors);
    for error in errors.iter().take(2) {
        output::remark(&format!("{failure}, stream: {stream}: {error}"));
    }
    let failed = |at: &super::stage::ScrapedMetrics| {
        at.attempts(FAILING, None) - at.attempts(FAILING, Some("answered"))
    };
    Ok(MatrixRow {
        failure,
        stream,
        before_ejection: failed(&before),
        requests: options.requests,
        client_errors: errors.len(),
        touched: failed(&after) - failed(&before),
        seconds,
        first_answer_seconds: back.first_answer,
        share_seconds: back.share,
    })
}

/// Sends requests until the failing deployment rests.
async fn eject(stage: &Stage, ask: &ChatClients) -> anyhow::Result<Vec<String>> {
    let one = ChatClients {
        clients: 1,
        ..ask.clone()
    };
    let mut errors = Vec::new();
    for _ in 0..100 {
        errors.extend(one.times(1).await.errors);
        if stage.metrics().await?.rests(FAILING) {
            return Ok(errors);
        }
    }
    anyhow::bail!("the failing deployment was never ejected")
}

struct Back {
    first_answer: f64,
    share: f64,
    errors: Vec<String>,
}

/// Goes on asking until the healed deployment has its share again.
async fn recover(stage: &Stage, ask: &ChatClients) -> anyhow::Result<Back> {
    let healed = clock::now();
    // A trickle: what is measured is time, not load.
    let trickle = ChatClients {
        clients: 2,
        ..ask.clone()
    };
    let mut back = Back {
        first_answer: 0.0,
        share: 0.0,
        errors: Vec::new(),
    };
    while healed.elapsed() < PATIENCE {
        let tally = trickle.times(60).await;
        let answered = tally.samples.iter().filter(|one| one.provider == FAILING);
        let answered = answered.count() as f64 / tally.samples.len().max(1) as f64;
        back.errors.extend(tally.errors);
        let seconds = healed.elapsed().as_secs_f64();
        if answered > 0.0 && back.first_answer == 0.0 {
            back.first_answer = seconds;
        }
        if answered >= SHARE && !stage.metrics().await?.rests(FAILING) {
            back.share = seconds;
            return Ok(back);
        }
        sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!(
        "the healed deployment didn't come back in {} s",
        PATIENCE.as_secs()
    )
}

fn text(rows: &[MatrixRow]) -> String {
    let head = [
        "failure",
        "mode",
        "attempts until ejected",
        "requests",
        "client errors",
        "touched the ejected one",
        "share",
        "seconds",
        "healed: first answer",
        "healed: full share",
    ];
    let cells = |row: &MatrixRow| {
        vec![
            row.failure.to_owned(),
            if row.stream { "stream" } else { "plain" }.to_owned(),
            row.before_ejection.to_string(),
            row.requests.to_string(),
            row.client_errors.to_string(),
            row.touched.to_string(),
            format!("{:.3} %", 100.0 * row.touched / row.requests as f64),
            format!("{:.1}", row.seconds),
            format!("{:.1} s", row.first_answer_seconds),
            format!("{:.1} s", row.share_seconds),
        ]
    };
    output::table(&head, &rows.iter().map(cells).collect::<Vec<_>>())
}
