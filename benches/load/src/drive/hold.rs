//! Streams that are kept open, to measure their cost while they flow.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{bail, ensure};
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::request::nanos;
use super::stream::{self, StreamTally};
use crate::clock;
use crate::event::EventPlan;
use crate::target::LoadTarget;

/// As many events as no run will see the end of.
pub(crate) const ENDLESS: u64 = 9_999_999_999;

/// All streams have to flow within this time.
const PATIENCE: Duration = Duration::from_secs(30);

/// Open streams; dropping it closes them.
pub(crate) struct HeldStreams {
    tasks: JoinSet<bool>,
    tally: Arc<StreamTally>,
    interval: Duration,
}

/// Report on held streams.
#[derive(Debug, Serialize)]
pub(crate) struct HoldReport {
    pub(crate) streams: usize,
    /// Streams without an event for longer than an interval and a stall.
    pub(crate) silent: usize,
    #[serde(flatten)]
    pub(crate) seen: stream::StreamReport,
}

impl HoldReport {
    /// For people.
    pub(crate) fn text(&self) -> String {
        format!(
            "{} of {} streams still flow, {} events, {} stalls\ndelay of an event: {}\n{}",
            self.streams - self.silent,
            self.streams,
            self.seen.events,
            self.seen.stalls,
            self.seen.delay.line(),
            self.seen.faults.join("\n")
        )
    }
}

impl HeldStreams {
    /// Opens `streams` streams and waits until each has brought its first event.
    ///
    /// # Errors
    /// Returns an error if one fails, or not all of them flow within half a minute.
    pub(crate) async fn open(
        target: &LoadTarget,
        model: &str,
        plan: &EventPlan,
        streams: usize,
    ) -> anyhow::Result<Self> {
        let tally = Arc::new(StreamTally::new(streams));
        let tasks = stream::open(target, model, plan, streams, &tally);
        let held = Self {
            tasks,
            tally,
            interval: plan.interval,
        };
        let end = clock::now() + PATIENCE;
        while held.tally.flowing_since(0) < streams {
            held.check()?;
            ensure!(
                clock::now() < end,
                "{} of {streams} streams flow",
                held.tally.flowing_since(0)
            );
            sleep(Duration::from_millis(5)).await;
        }
        Ok(held)
    }

    /// Events so far.
    pub(crate) fn events(&self) -> u64 {
        self.tally.events.load(Ordering::Relaxed)
    }

    /// # Errors
    /// The first thing that went wrong, if anything did.
    pub(crate) fn check(&self) -> anyhow::Result<()> {
        if let Some(fault) = self.tally.first_fault() {
            bail!(fault);
        }
        Ok(())
    }

    /// Sums up what the streams brought since they were opened, or since the last report.
    pub(crate) fn report(&self, stall: Duration) -> HoldReport {
        let since = clock::unix_nanos().saturating_sub(nanos(self.interval + stall));
        let streams = self.tasks.len();
        let silent = streams - self.tally.flowing_since(since).min(streams);
        HoldReport {
            streams,
            silent,
            seen: self.tally.report(0, stall),
        }
    }
}
