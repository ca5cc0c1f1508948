//! Concurrent streams: every byte is compared with what the upstream was to send, every event's
//! delay taken from the upstream's stamp.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::request::nanos;
use crate::clock;
use crate::event::{EventChecker, EventPlan};
use crate::http1::Channel;
use crate::payload;
use crate::stats::SampleSummary;
use crate::target::LoadTarget;

/// Report of a run; times in nanoseconds.
#[derive(Debug, Default, Serialize)]
pub(crate) struct StreamReport {
    pub(crate) streams: u64,
    /// Streams that arrived whole and equal to what was sent.
    pub(crate) whole: u64,
    /// Events that arrived, all equal to what was sent.
    pub(crate) events: u64,
    /// From the upstream's stamp to the arrival.
    pub(crate) delay: SampleSummary,
    /// From a request to its first event.
    pub(crate) first: SampleSummary,
    /// Events later than a stall.
    pub(crate) stalls: u64,
    /// The first few things that went wrong.
    pub(crate) faults: Vec<String>,
}

impl StreamReport {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let Self {
            streams,
            whole,
            events,
            stalls,
            faults,
            ..
        } = self;
        format!(
            "{whole} of {streams} streams whole and equal to what was sent, {events} events\n\
             delay of an event:   {}\ntime to first event: {}\n{stalls} stalls\n{}",
            self.delay.line(),
            self.first.line(),
            faults.join("\n")
        )
    }
}

/// Runs `streams` streams of `plan` at once, begun one after the other over one interval.
pub(crate) async fn run(
    target: &LoadTarget,
    model: &str,
    plan: &EventPlan,
    streams: usize,
    stall: Duration,
) -> StreamReport {
    let tally = Arc::new(StreamTally::new(streams));
    let mut tasks = open(target, model, plan, streams, &tally);
    let mut whole = 0;
    while let Some(ended) = tasks.join_next().await {
        whole += u64::from(ended.unwrap_or(false));
    }
    tally.report(whole, stall)
}

/// Starts the streams. Each task's outcome is whether its stream arrived whole.
pub(super) fn open(
    target: &LoadTarget,
    model: &str,
    plan: &EventPlan,
    streams: usize,
    tally: &Arc<StreamTally>,
) -> JoinSet<bool> {
    let request: Arc<[u8]> = target.post(&payload::chat(model, 1024, Some(plan))).into();
    let spread = plan.interval.max(Duration::from_millis(1));
    let mut tasks = JoinSet::new();
    for index in 0..streams {
        let wait = spread.mul_f64(index as f64 / streams as f64);
        let (target, plan, request) = (target.clone(), plan.clone(), Arc::clone(&request));
        let tally = Arc::clone(tally);
        tasks.spawn(async move {
            sleep(wait).await;
            let outcome = follow(&target, &request, &plan, index, &tally).await;
            outcome
                .map_err(|error| tally.fault(format!("stream {index}: {error:#}")))
                .is_ok()
        });
    }
    tasks
}

/// Measurements of all streams of a run.
#[derive(Debug)]
pub(super) struct StreamTally {
    /// Events that arrived.
    pub(super) events: AtomicU64,
    /// Time of each stream's last event in Unix nanoseconds; 0 before its first.
    last: Vec<AtomicU64>,
    samples: Mutex<StreamSamples>,
}

#[derive(Debug, Default)]
struct StreamSamples {
    delays: Vec<u64>,
    first: Vec<u64>,
    faults: Vec<String>,
}

/// Faults kept for the report.
const FAULTS: usize = 5;

impl StreamTally {
    pub(super) fn new(streams: usize) -> Self {
        let last = std::iter::repeat_with(AtomicU64::default)
            .take(streams)
            .collect();
        Self {
            events: AtomicU64::new(0),
            last,
            samples: Mutex::default(),
        }
    }

    /// An event stamped `stamp` arrived at `now` on a stream that was asked for at `asked`.
    fn event(&self, index: usize, asked: u64, stamp: u64, now: u64) {
        self.events.fetch_add(1, Ordering::Relaxed);
        let before = self
            .last
            .get(index)
            .map_or(0, |last| last.swap(now, Ordering::Relaxed));
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.delays.push(now.saturating_sub(stamp));
        if before == 0 {
            samples.first.push(now.saturating_sub(asked));
        }
    }

    fn fault(&self, fault: String) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.faults.len() < FAULTS {
            samples.faults.push(fault);
        }
    }

    /// The first fault, if there was any.
    pub(super) fn first_fault(&self) -> Option<String> {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.faults.first().cloned()
    }

    /// Streams whose last event came at or after `since`.
    pub(super) fn flowing_since(&self, since: u64) -> usize {
        let recent = |last: &&AtomicU64| last.load(Ordering::Relaxed) >= since.max(1);
        self.last.iter().filter(recent).count()
    }

    /// Sums up and takes the samples out.
    pub(super) fn report(&self, whole: u64, stall: Duration) -> StreamReport {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let StreamSamples {
            delays,
            first,
            faults,
        } = std::mem::take(&mut *samples);
        let stalls = delays.iter().filter(|&&delay| delay > nanos(stall)).count() as u64;
        StreamReport {
            streams: self.last.len() as u64,
            whole,
            events: self.events.load(Ordering::Relaxed),
            delay: SampleSummary::from_samples(delays),
            first: SampleSummary::from_samples(first),
            stalls,
            faults,
        }
    }
}

async fn follow(
    target: &LoadTarget,
    request: &[u8],
    plan: &EventPlan,
    index: usize,
    tally: &StreamTally,
) -> anyhow::Result<()> {
    let mut channel = Channel::connect(target.address).await.context("connect")?;
    let asked = clock::unix_nanos();
    channel.send(request).await?;
    let head = channel
        .answer()
        .await?
        .context("closed without an answer")?;
    ensure!(head.status == 200, "status {}", head.status);
    let mut checker = EventChecker::new(plan.clone());
    let mut sink = |bytes: &[u8]| {
        let now = clock::unix_nanos();
        checker.feed(bytes, &mut |stamp| tally.event(index, asked, stamp, now));
    };
    timeout(longest(plan), channel.body(head.framing, &mut sink))
        .await
        .context("no end")??;
    ensure!(
        checker.is_whole(),
        "{}",
        checker.fault.as_deref().unwrap_or("ended early")
    );
    Ok(())
}

/// A stream is given up when it takes half a minute longer than planned.
fn longest(plan: &EventPlan) -> Duration {
    let events = u32::try_from(plan.events).unwrap_or(u32::MAX);
    plan.interval
        .saturating_mul(events)
        .saturating_add(Duration::from_secs(30))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tally_tells_delays_firsts_and_stalls() {
        let tally = StreamTally::new(2);
        tally.event(0, 100, 1_000, 1_010);
        tally.event(0, 100, 2_000, 2_020);
        tally.event(1, 100, 3_000, 3_000 + 2_000_000_000);
        for number in 0..9 {
            tally.fault(format!("fault {number}"));
        }
        assert_eq!((tally.flowing_since(0), tally.flowing_since(2_021)), (2, 1));
        let report = tally.report(1, Duration::from_secs(1));
        assert_eq!((report.streams, report.whole, report.events), (2, 1, 3));
        assert_eq!(
            (report.delay.min, report.first.min, report.stalls),
            (10, 910, 1)
        );
        assert_eq!(report.faults.len(), FAULTS);
    }

    #[test]
    fn a_tally_without_events_has_no_flow() {
        assert_eq!(StreamTally::new(3).flowing_since(0), 0);
    }
}
