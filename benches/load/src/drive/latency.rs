//! Latency at a low fixed rate, where nothing has to queue.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::request::nanos;
use crate::clock;
use crate::event::EventPlan;
use crate::http1::{Channel, HttpFault};
use crate::stats::SampleSummary;
use crate::target::{self, LoadTarget};

/// Rate and duration of a run.
#[derive(Clone, Debug)]
pub(crate) struct RequestPace {
    /// Requests per second over all connections.
    pub(crate) rate: f64,
    pub(crate) connections: usize,
    pub(crate) duration: Duration,
}

/// Report of a run; times in nanoseconds.
#[derive(Debug, Default, Serialize)]
pub(crate) struct LatencyReport {
    /// Requests answered otherwise than with 200, or not at all.
    pub(crate) errors: u64,
    /// The first of these.
    pub(crate) error: Option<String>,
    /// To the first byte of the answer's body.
    pub(crate) first: SampleSummary,
    /// To its last.
    pub(crate) whole: SampleSummary,
}

impl LatencyReport {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let error = self
            .error
            .as_ref()
            .map_or(String::new(), |error| format!("\nfirst: {error}"));
        let (first, whole) = (self.first.line(), self.whole.line());
        format!(
            "first byte: {first}\nlast byte:  {whole}\n{} errors{error}",
            self.errors
        )
    }
}

/// Returns a stream just long enough to tell its first event from its end.
pub(crate) fn short_stream() -> EventPlan {
    EventPlan {
        events: 2,
        interval: Duration::from_millis(2),
        ..EventPlan::default()
    }
}

/// Sends `request` at an even pace. A request whose connection was still busy when it was due
/// counts from when it was due, so that a slow answer is not hidden by the ones it held up.
pub(crate) async fn run(
    target: &LoadTarget,
    request: Vec<u8>,
    pace: &RequestPace,
) -> LatencyReport {
    let request: Arc<[u8]> = request.into();
    let mut workers = JoinSet::new();
    for index in 0..pace.connections {
        let slots = RequestSlots::new(pace, index, clock::now());
        workers.spawn(worker(target.clone(), Arc::clone(&request), slots));
    }
    summarise(workers.join_all().await)
}

/// Schedule of one connection's requests.
struct RequestSlots {
    next: Instant,
    step: Duration,
    end: Instant,
}

impl RequestSlots {
    fn new(pace: &RequestPace, index: usize, now: Instant) -> Self {
        let step = Duration::from_secs_f64(pace.connections as f64 / pace.rate);
        let offset = Duration::from_secs_f64(index as f64 / pace.rate);
        Self {
            next: now + offset,
            step,
            end: now + pace.duration,
        }
    }

    fn take(&mut self) -> Option<Instant> {
        let due = self.next;
        self.next += self.step;
        (due < self.end).then_some(due)
    }
}

#[derive(Default)]
struct LatencySamples {
    first: Vec<u64>,
    whole: Vec<u64>,
    errors: u64,
    error: Option<String>,
}

async fn worker(target: LoadTarget, request: Arc<[u8]>, mut slots: RequestSlots) -> LatencySamples {
    let (mut done, mut channel) = (LatencySamples::default(), None);
    while let Some(due) = slots.take() {
        let busy = clock::now() > due;
        sleep_until(due.into()).await;
        if let Err(error) = exchange(
            &target,
            &request,
            &mut channel,
            busy.then_some(due),
            &mut done,
        )
        .await
        {
            done.errors += 1;
            done.error.get_or_insert(error.to_string());
        }
    }
    done
}

async fn exchange(
    target: &LoadTarget,
    request: &[u8],
    channel: &mut Option<Channel>,
    due: Option<Instant>,
    done: &mut LatencySamples,
) -> anyhow::Result<()> {
    let mut open = match channel.take() {
        Some(open) => open,
        None => Channel::connect(target.address).await?,
    };
    let began = due.unwrap_or_else(clock::now);
    let (status, close, first) = send_timed(&mut open, request).await?;
    let whole = clock::now();
    anyhow::ensure!(status == 200, "status {status}");
    done.first.push(nanos(first.unwrap_or(whole) - began));
    done.whole.push(nanos(whole - began));
    if !close {
        *channel = Some(open);
    }
    Ok(())
}

/// Status, whether the server closes, and when the body's first byte came.
async fn send_timed(
    channel: &mut Channel,
    request: &[u8],
) -> Result<(u16, bool, Option<Instant>), HttpFault> {
    channel.send(request).await?;
    let mut first = None;
    let mut sink = |_: &[u8]| {
        first.get_or_insert_with(clock::now);
    };
    let head = target::answer(channel, &mut sink).await?;
    Ok((head.status, head.close, first))
}

fn summarise(done: Vec<LatencySamples>) -> LatencyReport {
    let mut report = LatencyReport::default();
    let (mut first, mut whole) = (Vec::new(), Vec::new());
    for worker in done {
        report.errors += worker.errors;
        report.error = report.error.or(worker.error);
        first.extend(worker.first);
        whole.extend(worker.whole);
    }
    LatencyReport {
        first: SampleSummary::from_samples(first),
        whole: SampleSummary::from_samples(whole),
        ..report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_take_turns_at_an_even_pace() {
        let now = clock::now();
        let pace = RequestPace {
            rate: 100.0,
            connections: 4,
            duration: Duration::from_millis(100),
        };
        let mut due = Vec::new();
        for index in 0..4 {
            let mut slots = RequestSlots::new(&pace, index, now);
            due.extend(std::iter::from_fn(|| slots.take()).map(|at| (at - now).as_millis()));
        }
        due.sort_unstable();
        assert_eq!(due, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]);
    }
}
