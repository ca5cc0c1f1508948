//! One of three deployments fails in turn in every way: errors that clients see, requests sent to
//! it once it has been ejected, and the time until it is used again after recovery.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;
use tokio::time::sleep;

use super::stage::{PROVIDERS, Stage, model};
use super::traffic::{ChatClients, TrafficTally};
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
    /// Don't wait for the deployment to come back
    #[arg(long)]
    no_recovery: bool,
    /// Only failures whose name holds this
    #[arg(long, default_value = "")]
    only: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Kind of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Another deployment answers instead.
    Hidden,
    /// The client has seen content: its stream ends with an error.
    Told,
    /// None: the answer is as good as any.
    Answer,
}

/// A way to fail.
struct FailureCase {
    name: &'static str,
    /// The mock's controls; none: its process is ended.
    controls: &'static str,
    /// Plain requests, streamed ones, or both.
    streams: &'static [bool],
    kind: Kind,
}

const BOTH: &[bool] = &[false, true];

const FAILURES: [FailureCase; 15] = [
    hidden_case("connect refused", "", BOTH),
    hidden_case("reset", "reset", BOTH),
    hidden_case("500", "status=500", BOTH),
    hidden_case("429 with retry-after", "status=429:retry_after=3s", BOTH),
    hidden_case("529", "status=529:retry_after=none", BOTH),
    hidden_case("hang past first byte", "hang", BOTH),
    hidden_case("error event first", "error_event", &[true]),
    hidden_case("error with 200", "error_event", &[false]),
    hidden_case("opened, then an error", "error_after=1", &[true]),
    hidden_case("opened, then the end", "end_after=1", &[true]),
    hidden_case("empty 200", "empty", BOTH),
    hidden_case("HTML with 200", "html", BOTH),
    FailureCase {
        name: "gzip unasked",
        controls: "gzip",
        streams: BOTH,
        kind: Kind::Answer,
    },
    told_case("cut after content", "cut_after=3"),
    told_case("ended after content", "end_after=3"),
];

const fn hidden_case(
    name: &'static str,
    controls: &'static str,
    streams: &'static [bool],
) -> FailureCase {
    FailureCase {
        name,
        controls,
        streams,
        kind: Kind::Hidden,
    }
}

const fn told_case(name: &'static str, controls: &'static str) -> FailureCase {
    FailureCase {
        name,
        controls,
        streams: &[true],
        kind: Kind::Told,
    }
}

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
    /// Answers that weren't whole and good, over all requests of the row, but for streams that
    /// broke after content and said so.
    client_errors: usize,
    /// Streams that broke after content and ended with an error.
    broken_streams: usize,
    /// Answers whose content isn't the one that was asked for, or came twice.
    repeated: usize,
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
    let repeated: usize = rows.iter().map(|row| row.repeated).sum();
    ensure!(repeated == 0, "{repeated} answers had other content");
    Ok(())
}

async fn all(options: &MatrixOptions) -> anyhow::Result<Vec<MatrixRow>> {
    let mut rows = Vec::new();
    for case in FAILURES
        .iter()
        .filter(|case| case.name.contains(&options.only))
    {
        for stream in case.streams.iter().copied() {
            let row = one(options, case, stream).await;
            let name = case.name;
            rows.push(row.with_context(|| format!("{name}, stream: {stream}"))?);
            output::remark(&format!("{name}, stream: {stream}: done"));
        }
    }
    Ok(rows)
}

async fn one(
    options: &MatrixOptions,
    case: &FailureCase,
    stream: bool,
) -> anyhow::Result<MatrixRow> {
    let failure = case.name;
    let mut stage = Stage::start(&options.router, &model(MODEL, "round_robin")).await?;
    let mut ask = ChatClients {
        target: stage.target()?,
        model: MODEL,
        stream,
        clients: options.clients,
        content: None,
    };
    ask.content = Some(ask.learn_content().await?);
    let mut all = ask.times(300).await;
    if case.controls.is_empty() {
        stage.stop(0);
    } else {
        stage.set(0, case.controls).await?;
    }
    // Streams that break after content open the circuit by their share, so not at once.
    if case.kind == Kind::Hidden {
        all.add(eject(&stage, &ask).await?);
    }
    let before = stage.metrics().await?;
    let begun = clock::now();
    all.add(ask.times(options.requests).await);
    let seconds = begun.elapsed().as_secs_f64();
    let after = stage.metrics().await?;
    if case.controls.is_empty() {
        stage.restart(0).await?;
    } else {
        stage.set(0, "").await?;
    }
    let mut back = Back::default();
    if case.kind == Kind::Hidden && !options.no_recovery {
        back = recover(&stage, &ask).await?;
        all.add(std::mem::take(&mut back.tally));
    }
    for error in all.errors.iter().take(2) {
        output::remark(&format!("{failure}, stream: {stream}: {error}"));
    }
    let failed = |at: &super::stage::ScrapedMetrics| {
        at.attempts(FAILING, None) - at.attempts(FAILING, Some("answered"))
    };
    let untold = if case.kind == Kind::Told {
        0
    } else {
        all.broken
    };
    Ok(MatrixRow {
        failure,
        stream,
        before_ejection: failed(&before),
        requests: options.requests,
        client_errors: all.errors.len() + untold,
        broken_streams: all.broken,
        repeated: all.repeated,
        touched: failed(&after) - failed(&before),
        seconds,
        first_answer_seconds: back.first_answer,
        share_seconds: back.share,
    })
}

/// Sends requests until the failing deployment rests.
async fn eject(stage: &Stage, ask: &ChatClients) -> anyhow::Result<TrafficTally> {
    let one = ChatClients {
        clients: 1,
        ..ask.clone()
    };
    let mut all = TrafficTally::default();
    for _ in 0..100 {
        all.add(one.times(1).await);
        if stage.metrics().await?.rests(FAILING) {
            return Ok(all);
        }
    }
    anyhow::bail!("the failing deployment was never ejected")
}

#[derive(Default)]
struct Back {
    first_answer: f64,
    share: f64,
    tally: TrafficTally,
}

/// Goes on asking until the healed deployment has its share again.
async fn recover(stage: &Stage, ask: &ChatClients) -> anyhow::Result<Back> {
    let healed = clock::now();
    // A trickle: what is measured is time, not load.
    let trickle = ChatClients {
        clients: 2,
        ..ask.clone()
    };
    let mut back = Back::default();
    while healed.elapsed() < PATIENCE {
        let tally = trickle.times(60).await;
        let answered = tally.samples.iter().filter(|one| one.provider == FAILING);
        let answered = answered.count() as f64 / tally.samples.len().max(1) as f64;
        back.tally.add(tally);
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
        "broken and told",
        "repeated content",
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
            row.broken_streams.to_string(),
            row.repeated.to_string(),
            row.touched.to_string(),
            format!("{:.3} %", 100.0 * row.touched / row.requests as f64),
            format!("{:.1}", row.seconds),
            format!("{:.1} s", row.first_answer_seconds),
            format!("{:.1} s", row.share_seconds),
        ]
    };
    output::table(&head, &rows.iter().map(cells).collect::<Vec<_>>())
}
