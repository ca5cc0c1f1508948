//! Closed loop: as many requests as the target takes, each connection one at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::task::JoinSet;

use crate::clock;
use crate::http1::{Channel, HttpFault};
use crate::stats::SampleSummary;
use crate::target::{self, LoadTarget};

/// Condition to stop.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Until {
    /// After so many requests.
    Count(u64),
    /// After this time; requests in flight are finished.
    After(Duration),
}

/// Report of a run.
#[derive(Debug, Default, Serialize)]
pub(crate) struct RequestReport {
    /// Requests answered with 200.
    pub(crate) requests: u64,
    /// Requests answered otherwise or not at all.
    pub(crate) errors: u64,
    /// The first of these.
    pub(crate) error: Option<String>,
    pub(crate) seconds: f64,
    pub(crate) per_second: f64,
    /// Time of the requests answered with 200, in nanoseconds.
    pub(crate) latency: SampleSummary,
}

impl RequestReport {
    /// For people.
    pub(crate) fn text(&self) -> String {
        let error = self
            .error
            .as_ref()
            .map_or(String::new(), |error| format!("\nfirst: {error}"));
        format!(
            "{} requests in {:.2} s: {:.0} per second\n{}\n{} errors{error}",
            self.requests,
            self.seconds,
            self.per_second,
            self.latency.line(),
            self.errors
        )
    }
}

/// Sends `request` again and again over `connections`.
pub(crate) async fn run(
    target: &LoadTarget,
    request: Vec<u8>,
    connections: usize,
    until: Until,
) -> RequestReport {
    let began = clock::now();
    let budget = Arc::new(RequestCount::new(until, began));
    let request: Arc<[u8]> = request.into();
    let mut workers = JoinSet::new();
    for _ in 0..connections {
        workers.spawn(worker(
            target.clone(),
            Arc::clone(&request),
            Arc::clone(&budget),
        ));
    }
    let done = workers.join_all().await;
    summarise(done, began.elapsed())
}

struct RequestCount {
    left: AtomicU64,
    end: Option<Instant>,
}

impl RequestCount {
    fn new(until: Until, now: Instant) -> Self {
        let (left, end) = match until {
            Until::Count(count) => (count, None),
            Until::After(time) => (u64::MAX, Some(now + time)),
        };
        Self {
            left: AtomicU64::new(left),
            end,
        }
    }

    /// Returns true if one more request may be sent at `now`.
    fn take(&self, now: Instant) -> bool {
        let in_time = self.end.is_none_or(|end| now < end);
        let spend = |left: u64| left.checked_sub(1);
        in_time
            && self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend)
                .is_ok()
    }
}

#[derive(Default)]
struct RequestSamples {
    latencies: Vec<u64>,
    errors: u64,
    error: Option<String>,
}

async fn worker(
    target: LoadTarget,
    request: Arc<[u8]>,
    budget: Arc<RequestCount>,
) -> RequestSamples {
    let (mut done, mut channel) = (RequestSamples::default(), None);
    let mut began = clock::now();
    while budget.take(began) {
        let outcome = exchange(&target, &request, &mut channel).await;
        let now = clock::now();
        match outcome {
            Ok(200) => done.latencies.push(nanos(now - began)),
            Ok(status) => done.note(format!("status {status}")),
            Err(fault) => done.note(fault.to_string()),
        }
        began = now;
    }
    done
}

impl RequestSamples {
    fn note(&mut self, error: String) {
        self.errors += 1;
        self.error.get_or_insert(error);
    }
}

/// One request over `channel`, which is opened if need be and dropped when it can't go on.
async fn exchange(
    target: &LoadTarget,
    request: &[u8],
    channel: &mut Option<Channel>,
) -> Result<u16, HttpFault> {
    let mut open = match channel.take() {
        Some(open) => open,
        None => Channel::connect(target.address).await?,
    };
    open.send(request).await?;
    let head = target::answer(&mut open, &mut |_: &[u8]| {}).await?;
    if !head.close {
        *channel = Some(open);
    }
    Ok(head.status)
}

fn summarise(done: Vec<RequestSamples>, elapsed: Duration) -> RequestReport {
    let errors = done.iter().map(|worker| worker.errors).sum();
    let error = done.iter().find_map(|worker| worker.error.clone());
    let latencies: Vec<u64> = done
        .into_iter()
        .flat_map(|worker| worker.latencies)
        .collect();
    let requests = latencies.len() as u64;
    let seconds = elapsed.as_secs_f64();
    let per_second = requests as f64 / seconds;
    RequestReport {
        requests,
        errors,
        error,
        seconds,
        per_second,
        latency: SampleSummary::from_samples(latencies),
    }
}

/// A duration in nanoseconds.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_ends_by_count_or_time() {
        let now = clock::now();
        let count = RequestCount::new(Until::Count(2), now);
        assert_eq!(
            [count.take(now), count.take(now), count.take(now)],
            [true, true, false]
        );
        let time = RequestCount::new(Until::After(Duration::from_secs(1)), now);
        assert!(time.take(now) && !time.take(now + Duration::from_secs(1)));
    }

    #[test]
    fn workers_add_up() {
        let mut failed = RequestSamples {
            latencies: vec![30],
            ..RequestSamples::default()
        };
        failed.note("status 500".into());
        failed.note("status 502".into());
        let done = vec![
            RequestSamples {
                latencies: vec![10, 20],
                ..RequestSamples::default()
            },
            failed,
        ];
        let report = summarise(done, Duration::from_secs(2));
        assert_eq!(
            (report.requests, report.errors, report.latency.p50),
            (3, 2, 20)
        );
        assert_eq!(report.error.as_deref(), Some("status 500"));
        assert!((report.per_second - 1.5).abs() < 1e-9);
    }
}
