//! `least_latency` against `round_robin` in one run: three upstreams of unequal latency, of which
//! the quickest slows down tenfold midway.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;
use serde::Serialize;
use tokio::time::sleep;

use super::stage::{PROVIDERS, Stage, model};
use super::traffic::{ChatClients, Sample, TrafficTally};
use crate::stats::SampleSummary;
use crate::{clock, output, to_its_end};

/// Options of `race`.
#[derive(Args, Debug)]
pub(crate) struct RaceOptions {
    /// The router's binary
    #[arg(long)]
    router: PathBuf,
    /// Seconds before the slowing, and again after it
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Clients of each strategy at the same time
    #[arg(long, default_value_t = 8)]
    clients: usize,
    /// Upstream that slows down: 0 is that of 20 ms, 1 of 60 ms, 2 of 200 ms
    #[arg(long, default_value_t = 0)]
    slowing: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Milliseconds to the answer of each upstream.
const DELAYS: [u64; 3] = [20, 60, 200];
const STRATEGIES: [&str; 2] = ["least_latency", "round_robin"];
/// A strategy has adapted when the slowed upstream gets less than this part of the requests begun
/// within a second.
const ADAPTED: f64 = 0.25;
const WINDOW: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(50);

#[derive(Debug, Serialize)]
struct RaceRow {
    strategy: &'static str,
    /// Nanoseconds.
    before: SampleSummary,
    after: SampleSummary,
    shares_before: [f64; 3],
    shares_after: [f64; 3],
    /// From the slowing to the first second in which the slowed upstream gets few requests.
    adapted_seconds: Option<f64>,
}

/// Runs both strategies side by side and prints a table.
///
/// # Errors
/// Returns an error if a client saw an error.
pub(crate) fn run(options: &RaceOptions) -> anyhow::Result<()> {
    let rows = to_its_end(race(options))?;
    output::report(options.json, &rows, &text(&rows))
}

async fn race(options: &RaceOptions) -> anyhow::Result<Vec<RaceRow>> {
    ensure!(options.slowing < DELAYS.len(), "--slowing is 0, 1 or 2");
    let models: String = STRATEGIES.map(|name| model(name, name)).concat();
    let stage = Stage::start(&options.router, &models).await?;
    for (mock, delay) in DELAYS.iter().enumerate() {
        stage.set(mock, &format!("delay={delay}ms")).await?;
    }
    let mut running = Vec::new();
    for model in STRATEGIES {
        let ask = ChatClients {
            content: None,
            target: stage.target()?,
            model,
            stream: false,
            clients: options.clients,
        };
        running.push((model, ask.begin(usize::MAX)));
    }
    let half = Duration::from_secs(options.seconds);
    // What was learned on the way up is not what is measured.
    sleep(Duration::from_secs(2)).await;
    let began = clock::now();
    sleep(half).await;
    let slowed = clock::now();
    let delay = DELAYS.get(options.slowing).copied().unwrap_or(0) * 10;
    stage
        .set(options.slowing, &format!("delay={delay}ms"))
        .await?;
    sleep(half).await;
    let mut rows = Vec::new();
    for (strategy, traffic) in running {
        let tally = traffic.stop().await;
        ensure!(
            tally.errors.is_empty(),
            "{strategy}: {:?}",
            tally.errors.first()
        );
        rows.push(RaceRow::new(
            strategy,
            &tally,
            began,
            slowed,
            options.slowing,
        ));
    }
    Ok(rows)
}

impl RaceRow {
    fn new(
        strategy: &'static str,
        tally: &TrafficTally,
        began: Instant,
        slowed: Instant,
        slowing: usize,
    ) -> Self {
        let all = &tally.samples;
        let before = || all.iter().filter(|one| one.at >= began && one.at < slowed);
        let after = || all.iter().filter(|one| one.at >= slowed);
        let took = |one: &Sample| u64::try_from(one.took.as_nanos()).unwrap_or(u64::MAX);
        Self {
            strategy,
            before: SampleSummary::from_samples(before().map(took).collect()),
            after: SampleSummary::from_samples(after().map(took).collect()),
            shares_before: shares(before()),
            shares_after: shares(after()),
            adapted_seconds: adaptation_time(&after().collect::<Vec<_>>(), slowed, slowing),
        }
    }
}

fn shares<'a>(samples: impl Iterator<Item = &'a Sample>) -> [f64; 3] {
    let mut counts = [0_u32; 3];
    for sample in samples {
        for (count, id) in counts.iter_mut().zip(PROVIDERS) {
            *count += u32::from(sample.provider == id);
        }
    }
    let all: u32 = counts.iter().sum();
    counts.map(|count| f64::from(count) / f64::from(all.max(1)))
}

fn adaptation_time(samples: &[&Sample], slowed: Instant, slowing: usize) -> Option<f64> {
    let last = samples.iter().map(|one| one.at).max()?;
    let mut start = slowed;
    while start + WINDOW <= last {
        let inside = |one: &&&Sample| one.at >= start && one.at < start + WINDOW;
        let share = shares(samples.iter().filter(inside).copied());
        if share.get(slowing).is_some_and(|share| *share < ADAPTED) {
            return Some((start - slowed).as_secs_f64());
        }
        start += STEP;
    }
    None
}

fn text(rows: &[RaceRow]) -> String {
    let head = [
        "strategy",
        "phase",
        "requests",
        "p50 ms",
        "p99 ms",
        "shares",
        "adapted after",
    ];
    let percent = |shares: [f64; 3]| {
        shares
            .map(|share| format!("{:.0}", 100.0 * share))
            .join(" / ")
    };
    let cells = |row: &RaceRow| {
        let line = |phase: &str, summary: &SampleSummary, shares, adapted: String| {
            let millis = |nanos| format!("{:.0}", crate::stats::millis(nanos));
            vec![
                row.strategy.to_owned(),
                phase.to_owned(),
                summary.count.to_string(),
                millis(summary.p50),
                millis(summary.p99),
                percent(shares),
                adapted,
            ]
        };
        let adapted = row.adapted_seconds;
        let adapted = adapted.map_or_else(|| "never".to_owned(), |after| format!("{after:.2} s"));
        [
            line("before", &row.before, row.shares_before, String::new()),
            line("after", &row.after, row.shares_after, adapted),
        ]
    };
    output::table(&head, &rows.iter().flat_map(cells).collect::<Vec<_>>())
}
