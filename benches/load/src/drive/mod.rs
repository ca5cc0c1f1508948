//! The load generator's commands; the modes themselves are in the modules below, where `table`
//! uses them too.

pub(crate) mod hold;
pub(crate) mod latency;
pub(crate) mod request;
pub(crate) mod stream;

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::event::EventPlan;
use crate::payload::{self, MODEL};
use crate::target::LoadTarget;
use crate::{output, proc, to_its_end};

/// Modes of `drive`.
#[derive(Subcommand, Debug)]
pub(crate) enum DriveMode {
    /// Closed loop: every connection sends its next request once the last is answered
    Request(ClosedLoopOptions),
    /// A low fixed rate: how long a request takes when nothing queues
    Latency(LatencyOptions),
    /// Concurrent streams: checks every byte and measures how late each event arrives
    Stream(StreamRunOptions),
    /// Opens streams and keeps them open
    Hold(HoldOptions),
}

/// Runs one mode and prints its report.
///
/// # Errors
/// Returns an error if the target can't be reached.
pub(crate) fn run(mode: &DriveMode) -> anyhow::Result<()> {
    proc::raise_open_files()?;
    to_its_end(async {
        match mode {
            DriveMode::Request(options) => options.run().await,
            DriveMode::Latency(options) => options.run().await,
            DriveMode::Stream(options) => options.run().await,
            DriveMode::Hold(options) => options.run().await,
        }
    })
}

/// Target of the load.
#[derive(Args, Debug)]
pub(crate) struct TargetOptions {
    /// URL, path included
    #[arg(long, default_value = "http://127.0.0.1:8000/v1/chat/completions")]
    url: String,
    /// Key sent as `Authorization: Bearer`
    #[arg(long)]
    key: Option<String>,
    /// Model asked for
    #[arg(long, default_value = MODEL)]
    model: String,
    /// Further header, `name: value`; may be repeated
    #[arg(long)]
    header: Vec<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl TargetOptions {
    fn target(&self) -> anyhow::Result<LoadTarget> {
        LoadTarget::new(&self.url, self.key.as_deref(), &self.header)
    }
}

/// Options of `drive request`.
#[derive(Args, Debug)]
pub(crate) struct ClosedLoopOptions {
    #[command(flatten)]
    to: TargetOptions,
    /// Connections
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// Bytes of a request's body
    #[arg(long, default_value_t = 1024)]
    body: usize,
    /// Seconds
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// This many requests instead of a time
    #[arg(long)]
    requests: Option<u64>,
}

impl ClosedLoopOptions {
    async fn run(&self) -> anyhow::Result<()> {
        let target = self.to.target()?;
        let request = target.post(&payload::chat(&self.to.model, self.body, None));
        let seconds = request::Until::After(Duration::from_secs_f64(self.seconds));
        let until = self.requests.map_or(seconds, request::Until::Count);
        let report = request::run(&target, request, self.connections, until).await;
        output::report(self.to.json, &report, &report.text())
    }
}

/// Options of `drive latency`.
#[derive(Args, Debug)]
pub(crate) struct LatencyOptions {
    #[command(flatten)]
    to: TargetOptions,
    /// Requests per second, over all connections
    #[arg(long, default_value_t = 200.0)]
    rate: f64,
    /// Connections
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Bytes of a request's body
    #[arg(long, default_value_t = 1024)]
    body: usize,
    /// Seconds
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Ask for short streams, to see the time to the first event
    #[arg(long)]
    stream: bool,
}

impl LatencyOptions {
    async fn run(&self) -> anyhow::Result<()> {
        let target = self.to.target()?;
        let plan = self.stream.then(latency::short_stream);
        let request = target.post(&payload::chat(&self.to.model, self.body, plan.as_ref()));
        let pace = latency::RequestPace {
            rate: self.rate,
            connections: self.connections,
            duration: Duration::from_secs_f64(self.seconds),
        };
        let report = latency::run(&target, request, &pace).await;
        output::report(self.to.json, &report, &report.text())
    }
}

/// Options of the streams.
#[derive(Args, Debug)]
pub(crate) struct StreamsOptions {
    #[command(flatten)]
    to: TargetOptions,
    /// Concurrent streams
    #[arg(long, default_value_t = 100)]
    streams: usize,
    /// Microseconds from one event to the next
    #[arg(long, default_value_t = 50_000)]
    interval_us: u64,
    /// Bytes of an event
    #[arg(long, default_value_t = 220)]
    event: usize,
    /// An event this late counts as a stall, in milliseconds
    #[arg(long, default_value_t = 1000)]
    stall_ms: u64,
}

impl StreamsOptions {
    fn plan(&self, events: u64) -> EventPlan {
        EventPlan {
            events,
            interval: Duration::from_micros(self.interval_us),
            size: self.event,
        }
    }
}

/// Options of `drive stream`.
#[derive(Args, Debug)]
pub(crate) struct StreamRunOptions {
    #[command(flatten)]
    streams: StreamsOptions,
    /// Events of each stream
    #[arg(long, default_value_t = 200)]
    events: u64,
}

impl StreamRunOptions {
    async fn run(&self) -> anyhow::Result<()> {
        let to = &self.streams.to;
        let plan = self.streams.plan(self.events);
        let stall = Duration::from_millis(self.streams.stall_ms);
        let report =
            stream::run(&to.target()?, &to.model, &plan, self.streams.streams, stall).await;
        output::report(to.json, &report, &report.text())
    }
}

/// Options of `drive hold`.
#[derive(Args, Debug)]
pub(crate) struct HoldOptions {
    #[command(flatten)]
    streams: StreamsOptions,
    /// Seconds
    #[arg(long, default_value_t = 30.0)]
    seconds: f64,
}

impl HoldOptions {
    async fn run(&self) -> anyhow::Result<()> {
        let to = &self.streams.to;
        let plan = self.streams.plan(hold::ENDLESS);
        let held =
            hold::HeldStreams::open(&to.target()?, &to.model, &plan, self.streams.streams).await?;
        output::remark(&format!("{} streams are open", self.streams.streams));
        tokio::time::sleep(Duration::from_secs_f64(self.seconds)).await;
        let report = held.report(Duration::from_millis(self.streams.stall_ms));
        output::report(to.json, &report, &report.text())
    }
}
