//! The measurements behind the rows: each puts one kind of load on one proxy.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::sleep;

use super::row::TableRow;
use crate::bed::Proxy;
use crate::clock;
use crate::drive::hold::{ENDLESS, HeldStreams};
use crate::drive::latency::{self, RequestPace};
use crate::drive::request::{self, Until};
use crate::drive::stream;
use crate::event::EventPlan;
use crate::payload::{self, MODEL};

/// Effort of one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MeasureEffort {
    /// Of each measurement.
    pub(crate) time: Duration,
    /// Held open for the memory they take.
    pub(crate) held: usize,
}

/// A measurement, which yields one or more rows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measure {
    Memory,
    Latency,
    FirstEvent,
    EventDelay,
    Small,
    Large,
    Events,
}

impl Measure {
    /// In the order they are run: memory first, while the process is fresh.
    pub(crate) const ALL: [Self; 7] = [
        Self::Memory,
        Self::Latency,
        Self::FirstEvent,
        Self::EventDelay,
        Self::Small,
        Self::Large,
        Self::Events,
    ];

    /// Returns the number of passes in a round, forwards and backwards in turn. CPU time is spent
    /// anew with each pass; memory can only be read while the process is fresh.
    pub(crate) fn passes(self) -> usize {
        match self {
            Self::Small | Self::Large | Self::Events => 2,
            Self::Memory | Self::Latency | Self::FirstEvent | Self::EventDelay => 1,
        }
    }

    /// Measures `proxy`.
    ///
    /// # Errors
    /// Returns an error if a request fails or the proxy exits.
    pub(crate) async fn run(
        self,
        proxy: &Proxy,
        effort: MeasureEffort,
    ) -> anyhow::Result<Vec<(TableRow, f64)>> {
        match self {
            Self::Memory => memory(proxy, effort).await,
            Self::Latency => quiet(proxy, effort).await,
            Self::FirstEvent => first_event(proxy, effort).await,
            Self::EventDelay => event_delay(proxy, effort).await,
            Self::Small => small(proxy, effort).await,
            Self::Large => large(proxy, effort).await,
            Self::Events => events(proxy, effort).await,
        }
    }
}

const KIB: usize = 1024;
/// Streams at once where the CPU of an event is measured, and the time between its events.
const STREAMS: usize = 200;
const INTERVAL: Duration = Duration::from_millis(20);
/// Streams at once where the delay of an event is measured, and the time between its events.
const DELAYED: usize = 100;
const DELAYED_INTERVAL: Duration = Duration::from_millis(50);
/// Time for a proxy to settle before its memory is read.
const SETTLE: Duration = Duration::from_secs(1);
const STALL: Duration = Duration::from_secs(1);

async fn memory(proxy: &Proxy, effort: MeasureEffort) -> anyhow::Result<Vec<(TableRow, f64)>> {
    requests(proxy, KIB, 16, Until::Count(1000)).await?;
    sleep(SETTLE).await;
    let rest = proxy.memory()?.pss;
    let plan = EventPlan {
        events: ENDLESS,
        interval: SETTLE,
        ..EventPlan::default()
    };
    let held = HeldStreams::open(&proxy.target, MODEL, &plan, effort.held).await?;
    sleep(SETTLE + effort.time).await;
    let full = proxy.memory()?.pss;
    let report = held.report(STALL);
    held.check()?;
    let stalled = report.silent as f64 + report.seen.stalls as f64;
    let each = (full as f64 - rest as f64) / effort.held as f64 / KIB as f64;
    let rest = rest as f64 / (KIB * KIB) as f64;
    Ok(vec![
        (TableRow::MemoryRest, rest),
        (TableRow::MemoryStream, each),
        (TableRow::Stalled, stalled),
    ])
}

async fn quiet(proxy: &Proxy, effort: MeasureEffort) -> anyhow::Result<Vec<(TableRow, f64)>> {
    let request = proxy.target.post(&payload::chat(MODEL, KIB, None));
    let report = run_paced(proxy, request, effort).await?;
    Ok(vec![
        (TableRow::LatencyP50, micros(report.whole.p50)),
        (TableRow::LatencyP99, micros(report.whole.p99)),
    ])
}

async fn first_event(proxy: &Proxy, effort: MeasureEffort) -> anyhow::Result<Vec<(TableRow, f64)>> {
    let plan = latency::short_stream();
    let request = proxy.target.post(&payload::chat(MODEL, KIB, Some(&plan)));
    let report = run_paced(proxy, request, effort).await?;
    Ok(vec![(TableRow::FirstEvent, micros(report.first.p50))])
}

async fn run_paced(
    proxy: &Proxy,
    request: Vec<u8>,
    effort: MeasureEffort,
) -> anyhow::Result<latency::LatencyReport> {
    let pace = RequestPace {
        rate: 200.0,
        connections: 4,
        duration: effort.time,
    };
    let report = latency::run(&proxy.target, request, &pace).await;
    fault_free(proxy, report.errors, report.error.as_deref())?;
    Ok(report)
}

async fn event_delay(proxy: &Proxy, effort: MeasureEffort) -> anyhow::Result<Vec<(TableRow, f64)>> {
    let events = (effort.time.as_millis() / DELAYED_INTERVAL.as_millis()) as u64;
    let plan = EventPlan {
        events,
        interval: DELAYED_INTERVAL,
        ..EventPlan::default()
    };
    let report = stream::run(&proxy.target, MODEL, &plan, DELAYED, STALL).await;
    let failed = report.streams - report.whole;
    fault_free(proxy, failed, report.faults.first().map(String::as_str))?;
    Ok(vec![(
        TableRow::EventDelay,
        micros(report.delay.p99) / 1000.0,
    )])
}

async fn small(proxy: &Proxy, effort: MeasureEffort) -> anyhow::Result<Vec<(TableRow, f64)>> {
    let spent = saturate(proxy, KIB, 16, effort).await?;
    Ok(vec![
        (TableRow::CpuSmall, spent.each),
        (TableRow::Rate, spent.rate),
        (TableRow::Busy, spent.busy),
    ])
}

async fn large(proxy: &Proxy, effort: MeasureEffort) -> anyhow::Result<Vec<(TableRow, f64)>> {
    let spent = saturate(proxy, 256 * KIB, 8, effort).await?;
    Ok(vec![(TableRow::CpuLarge, spent.each)])
}

struct CpuUse {
    /// Microseconds of CPU per request.
    each: f64,
    /// Requests per second.
    rate: f64,
    /// Part of its CPU that the proxy used, in percent.
    busy: f64,
}

/// Warms up, then reads the CPU clock on both sides of a closed loop with nothing under way.
async fn saturate(
    proxy: &Proxy,
    size: usize,
    connections: usize,
    effort: MeasureEffort,
) -> anyhow::Result<CpuUse> {
    requests(proxy, size, connections, Until::After(effort.time / 8)).await?;
    let before = proxy.cpu_nanos()?;
    let report = requests(proxy, size, connections, Until::After(effort.time)).await?;
    let spent = micros(proxy.cpu_nanos()? - before);
    Ok(CpuUse {
        each: spent / report.requests as f64,
        rate: report.per_second,
        busy: spent / report.seconds / 1e6 * 100.0,
    })
}

async fn requests(
    proxy: &Proxy,
    size: usize,
    connections: usize,
    until: Until,
) -> anyhow::Result<request::RequestReport> {
    let request = proxy.target.post(&payload::chat(MODEL, size, None));
    let report = request::run(&proxy.target, request, connections, until).await;
    fault_free(proxy, report.errors, report.error.as_deref())?;
    Ok(report)
}

/// Reads the CPU clock while streams are in full flow, so that neither their opening nor their
/// end is counted.
async fn events(proxy: &Proxy, effort: MeasureEffort) -> anyhow::Result<Vec<(TableRow, f64)>> {
    let plan = EventPlan {
        events: ENDLESS,
        interval: INTERVAL,
        ..EventPlan::default()
    };
    let held = HeldStreams::open(&proxy.target, MODEL, &plan, STREAMS).await?;
    sleep(effort.time / 8).await;
    let (cpu, events, began) = (proxy.cpu_nanos()?, held.events(), clock::now());
    while began.elapsed() < effort.time {
        sleep(INTERVAL).await;
    }
    let spent = micros(proxy.cpu_nanos()? - cpu);
    let seen = held.events() - events;
    held.check()?;
    Ok(vec![(TableRow::CpuEvent, spent / seen as f64)])
}

fn fault_free(proxy: &Proxy, errors: u64, first: Option<&str>) -> anyhow::Result<()> {
    let first = first.unwrap_or("none");
    ensure!(
        errors == 0,
        "{}: {errors} requests failed, first: {first}",
        proxy.name
    );
    Ok(())
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}
