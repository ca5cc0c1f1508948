//! Clients that hang up mid-stream: the time until their upstream streams end.

use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use serde::Serialize;
use tokio::time::sleep;

use crate::bed::{Cpus, ProxyUnderTest, TestBed};
use crate::drive::hold::{ENDLESS, HeldStreams};
use crate::event::EventPlan;
use crate::payload::MODEL;
use crate::{clock, output, to_its_end};

/// Options of `hangup`.
#[derive(Args, Debug)]
pub(crate) struct HangupOptions {
    #[command(flatten)]
    subject: ProxyUnderTest,
    /// Streams
    #[arg(long, default_value_t = 500)]
    streams: usize,
    /// Milliseconds from one event to the next
    #[arg(long, default_value_t = 50)]
    interval_ms: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Opens streams, hangs up on all of them, and prints how many the upstream still has.
///
/// # Errors
/// Returns an error if upstream or proxy don't start, or the streams don't flow.
pub(crate) fn run(options: &HangupOptions) -> anyhow::Result<()> {
    let report = to_its_end(hang_up(options))?;
    output::report(options.json, &report, &report.text())
}

#[derive(Debug, Serialize)]
struct HangupReport {
    streams: u64,
    /// Streams that the upstream had open one second after all clients had hung up.
    open_after_one_second: u64,
    /// Time until the upstream had no open streams; absent if some stayed for ten seconds.
    all_closed_after_ms: Option<u64>,
}

impl HangupReport {
    fn text(&self) -> String {
        let closed = self
            .all_closed_after_ms
            .map_or("not in 10 s".to_owned(), |ms| format!("after {ms} ms"));
        format!(
            "{} streams hung up on mid-stream: {} open at the upstream one second later; \
             all closed {closed}",
            self.streams, self.open_after_one_second
        )
    }
}

async fn hang_up(options: &HangupOptions) -> anyhow::Result<HangupReport> {
    let bed = TestBed::start(
        Cpus {
            proxy: None,
            load: None,
        },
        None,
        false,
    )
    .await?;
    let proxy = bed.proxy("router", &options.subject.kind()).await?;
    let interval = Duration::from_millis(options.interval_ms);
    let plan = EventPlan {
        events: ENDLESS,
        interval,
        ..EventPlan::default()
    };
    let held = HeldStreams::open(&proxy.target, MODEL, &plan, options.streams).await?;
    sleep(Duration::from_secs(1)).await;
    held.check()?;
    let streams = bed.open_streams().await?;
    ensure!(
        streams == options.streams as u64,
        "{streams} streams are open at the upstream"
    );
    drop(held);
    watch(&bed, streams).await
}

async fn watch(bed: &TestBed, streams: u64) -> anyhow::Result<HangupReport> {
    let began = clock::now();
    let mut report = HangupReport {
        streams,
        open_after_one_second: 0,
        all_closed_after_ms: None,
    };
    while began.elapsed() < Duration::from_secs(10) {
        let (open, late) = (
            bed.open_streams().await?,
            began.elapsed() > Duration::from_secs(1),
        );
        if open == 0 {
            report.all_closed_after_ms = u64::try_from(began.elapsed().as_millis()).ok();
            return Ok(report);
        }
        if late && report.open_after_one_second == 0 {
            report.open_after_one_second = open;
        }
        sleep(Duration::from_millis(10)).await;
    }
    Ok(report)
}
