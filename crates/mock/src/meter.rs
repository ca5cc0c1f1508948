//! Meter of requests and served tokens: a bounded log of requests, and totals by model. It must not
//! decide anything.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU8, AtomicU16, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use http::{HeaderMap, Method};
use llm_router_domain::header::{CREDENTIALS, is_credential};
use sha2::{Digest as _, Sha256};

pub use self::record::{Credential, EndedTotals, MeterRecord, MeterTotals, RecordState};
use crate::{clock, prose, usage::MockUsage};

mod record;

/// Models counted separately; further ones are counted together.
const MOST_MODELS: usize = 4_096;

/// The name under which further models are counted.
const OTHER_MODELS: &str = "(other)";

/// Reads what the mock counts; clones read the same counts.
#[derive(Clone, Debug)]
pub struct BillingMeter(Arc<MeterCounts>);

#[derive(Debug)]
struct MeterCounts {
    capacity: usize,
    seq: AtomicU64,
    open_requests: AtomicUsize,
    open_streams: AtomicUsize,
    /// Held for one push or one copy at a time.
    log: Mutex<VecDeque<Arc<Slot>>>,
    totals: Mutex<MeterSums>,
}

#[derive(Debug, Default)]
struct MeterSums {
    /// Raised by a reset: what began before it is not counted after.
    epoch: u64,
    requests: u64,
    ended: EndedTotals,
    models: BTreeMap<String, EndedTotals>,
}

impl BillingMeter {
    pub(crate) fn new(capacity: usize) -> Self {
        Self(Arc::new(MeterCounts {
            capacity,
            seq: AtomicU64::new(0),
            open_requests: AtomicUsize::new(0),
            open_streams: AtomicUsize::new(0),
            log: Mutex::default(),
            totals: Mutex::default(),
        }))
    }

    /// Everything counted so far.
    #[must_use]
    pub fn totals(&self) -> MeterTotals {
        let sums = lock(&self.0.totals);
        MeterTotals {
            requests: sums.requests,
            open_requests: self.0.open_requests.load(Relaxed),
            open_streams: self.0.open_streams.load(Relaxed),
            ended: sums.ended.clone(),
            models: sums.models.clone(),
        }
    }

    /// The latest requests, newest first, that `wanted` keeps; at most `limit`.
    #[must_use]
    pub fn requests(
        &self,
        limit: usize,
        wanted: impl Fn(&MeterRecord) -> bool,
    ) -> Vec<MeterRecord> {
        let slots: Vec<Arc<Slot>> = lock(&self.0.log).iter().rev().cloned().collect();
        slots
            .iter()
            .map(|slot| slot.record())
            .filter(wanted)
            .take(limit)
            .collect()
    }

    /// Streams that are open now.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.0.open_streams.load(Relaxed)
    }

    /// Empties the log and sets the totals to nothing. Requests that are open stay open and are
    /// not counted when they end.
    pub fn reset(&self) {
        lock(&self.0.log).clear();
        let mut sums = lock(&self.0.totals);
        *sums = MeterSums {
            epoch: sums.epoch + 1,
            ..MeterSums::default()
        };
    }

    /// Enters a request whose head has arrived.
    pub(crate) fn open(&self, method: &Method, path: &str, headers: HeaderMap) -> Ticket {
        let counts = &self.0;
        let slot = Arc::new(Slot {
            seq: counts.seq.fetch_add(1, Relaxed) + 1,
            received_ms: clock::unix_ms(),
            method: method.clone(),
            path: path.to_owned(),
            headers,
            format: OnceLock::new(),
            body: OnceLock::new(),
            asked: OnceLock::new(),
            plan: OnceLock::new(),
            live: LiveRecord::default(),
        });
        counts.open_requests.fetch_add(1, Relaxed);
        counts.remember(Arc::clone(&slot));
        let epoch = {
            let mut sums = lock(&counts.totals);
            sums.requests += 1;
            sums.epoch
        };
        Ticket {
            meter: self.clone(),
            slot,
            epoch,
            streaming: false,
            ended: false,
        }
    }
}

impl MeterCounts {
    fn remember(&self, slot: Arc<Slot>) {
        if self.capacity == 0 {
            return;
        }
        let mut log = lock(&self.log);
        let oldest = if log.len() >= self.capacity {
            log.pop_front()
        } else {
            None
        };
        log.push_back(slot);
        drop(log);
        drop(oldest);
    }

    fn count(&self, epoch: u64, slot: &Slot, state: RecordState) {
        let (events, usage) = (slot.live.events.load(Relaxed), slot.usage());
        let mut sums = lock(&self.totals);
        if sums.epoch != epoch {
            return;
        }
        sums.ended.count(state, events, &usage);
        let model = slot
            .asked
            .get()
            .map(|asked| asked.model.as_str())
            .unwrap_or_default();
        if let Some(ended) = sums.models.get_mut(model) {
            ended.count(state, events, &usage);
            return;
        }
        let known = sums.models.len() < MOST_MODELS;
        let model = if known { model } else { OTHER_MODELS }.to_owned();
        sums.models
            .entry(model)
            .or_default()
            .count(state, events, &usage);
    }
}

/// A lock whose holder panicked holds counts all the same.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A record that is still being written: what does not change, what is learned once, what moves.
#[derive(Debug)]
struct Slot {
    seq: u64,
    received_ms: u64,
    method: Method,
    path: String,
    headers: HeaderMap,
    format: OnceLock<&'static str>,
    body: OnceLock<BodySeen>,
    asked: OnceLock<AskedFor>,
    plan: OnceLock<ServingPlan>,
    live: LiveRecord,
}

/// A request body that was read to its end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodySeen {
    pub(crate) bytes: u64,
    pub(crate) sha256: [u8; 32],
}

#[derive(Debug)]
struct AskedFor {
    model: String,
    stream: bool,
}

/// Usage served when an answer is sent whole, and the number of pieces it is sent in.
#[derive(Debug)]
struct ServingPlan {
    usage: MockUsage,
    pieces: u64,
}

#[derive(Debug, Default)]
struct LiveRecord {
    status: AtomicU16,
    state: AtomicU8,
    events: AtomicU64,
    pieces: AtomicU64,
}

impl Slot {
    fn usage(&self) -> MockUsage {
        let sent = self.live.pieces.load(Relaxed);
        self.plan
            .get()
            .map(|plan| plan.usage.served_share(sent, plan.pieces))
            .unwrap_or_default()
    }

    fn record(&self) -> MeterRecord {
        let asked = self.asked.get();
        let body = self.body.get();
        MeterRecord {
            seq: self.seq,
            received_ms: self.received_ms,
            method: self.method.to_string(),
            path: self.path.clone(),
            format: self.format.get().copied().unwrap_or_default(),
            model: asked.map(|asked| asked.model.clone()).unwrap_or_default(),
            stream: asked.is_some_and(|asked| asked.stream),
            request_id: self.header("x-request-id").map(String::from),
            status: self.live.status.load(Relaxed),
            state: RecordState::from_u8(self.live.state.load(Relaxed)),
            events: self.live.events.load(Relaxed),
            body_bytes: body.map(|body| body.bytes).unwrap_or_default(),
            body_sha256: body
                .map(|body| prose::hex(&body.sha256))
                .unwrap_or_default(),
            credential: self.credential(),
            usage: self.usage(),
            headers: self
                .headers
                .iter()
                .map(|(name, value)| masked_header(name.as_str(), value))
                .collect(),
        }
    }

    fn credential(&self) -> Option<Credential> {
        CREDENTIALS.into_iter().find_map(|header| {
            let value = self.header(header)?;
            let bare = value.strip_prefix("Bearer ").unwrap_or(value);
            Some(Credential {
                header,
                sha256: fingerprint(bare.as_bytes()),
            })
        })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

fn masked_header(name: &str, value: &http::HeaderValue) -> (String, String) {
    let value = if is_credential(name) {
        format!("sha256:{}", fingerprint(value.as_bytes()))
    } else {
        String::from_utf8_lossy(value.as_bytes()).into_owned()
    };
    (name.to_owned(), value)
}

fn fingerprint(value: &[u8]) -> String {
    prose::hex(&Sha256::digest(value))
}

/// The meter's hold on one request. Dropped before the request has ended, it counts the client
/// as gone: hyper drops a request's future and its body when the connection is lost.
#[derive(Debug)]
pub(crate) struct Ticket {
    meter: BillingMeter,
    slot: Arc<Slot>,
    epoch: u64,
    streaming: bool,
    ended: bool,
}

impl Ticket {
    pub(crate) fn seq(&self) -> u64 {
        self.slot.seq
    }

    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.slot.headers
    }

    pub(crate) fn format(&self, name: &'static str) {
        let _ = self.slot.format.set(name);
    }

    pub(crate) fn body(&self, seen: BodySeen) {
        let _ = self.slot.body.set(seen);
    }

    pub(crate) fn note_request(&self, model: &str, stream: bool) {
        let _ = self.slot.asked.set(AskedFor {
            model: model.to_owned(),
            stream,
        });
    }

    pub(crate) fn status(&self, status: u16) {
        self.slot.live.status.store(status, Relaxed);
    }

    /// Notes what will be served, and that a stream of it begins.
    pub(crate) fn plan(&mut self, usage: MockUsage, pieces: u64, stream: bool) {
        let _ = self.slot.plan.set(ServingPlan { usage, pieces });
        if stream && !self.streaming {
            self.streaming = true;
            self.meter.0.open_streams.fetch_add(1, Relaxed);
        }
    }

    /// Notes an event sent, and how many pieces were sent up to it.
    pub(crate) fn note_sent(&self, pieces: u64) {
        self.slot.live.events.fetch_add(1, Relaxed);
        self.slot.live.pieces.store(pieces, Relaxed);
    }

    /// Ends the request; what ends a second time keeps its first end.
    pub(crate) fn end(&mut self, state: RecordState) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let counts = &self.meter.0;
        self.slot.live.state.store(state as u8, Relaxed);
        counts.count(self.epoch, &self.slot, state);
        counts.open_requests.fetch_sub(1, Relaxed);
        if self.streaming {
            counts.open_streams.fetch_sub(1, Relaxed);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.end(RecordState::ClientGone);
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn open(meter: &BillingMeter, model: &str) -> Ticket {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static("Bearer secret"));
        headers.append("x-seen", HeaderValue::from_static("a"));
        headers.append("x-seen", HeaderValue::from_static("b"));
        let ticket = meter.open(&Method::POST, "/v1/x", headers);
        ticket.note_request(model, true);
        ticket
    }

    fn usage() -> MockUsage {
        MockUsage {
            input: 10,
            output: 4,
            ..MockUsage::default()
        }
    }

    #[test]
    fn a_request_is_counted_by_its_end() {
        let meter = BillingMeter::new(10);
        let mut whole = open(&meter, "a");
        whole.plan(usage(), 4, true);
        assert_eq!(meter.open_streams(), 1);
        (1..=4).for_each(|pieces| whole.note_sent(pieces));
        whole.end(RecordState::Complete);
        let mut half = open(&meter, "b");
        half.plan(usage(), 4, true);
        half.note_sent(2);
        drop(half);
        let totals = meter.totals();
        assert_eq!(
            (totals.requests, totals.open_requests, totals.open_streams),
            (2, 0, 0)
        );
        assert_eq!((totals.ended.complete, totals.ended.client_gone), (1, 1));
        assert_eq!(
            totals.ended.usage,
            MockUsage {
                input: 20,
                output: 6,
                ..MockUsage::default()
            }
        );
        assert_eq!(totals.models["b"].usage.output, 2);
    }

    #[test]
    fn the_log_is_bounded_and_newest_first() {
        let meter = BillingMeter::new(2);
        ["a", "b", "c"]
            .iter()
            .for_each(|model| drop(open(&meter, model)));
        let models: Vec<_> = meter
            .requests(9, |_| true)
            .into_iter()
            .map(|r| r.model)
            .collect();
        assert_eq!(models, ["c", "b"]);
        assert_eq!(meter.requests(1, |record| record.model == "b")[0].seq, 2);
    }

    #[test]
    fn credentials_are_never_told() {
        let meter = BillingMeter::new(2);
        drop(open(&meter, "a"));
        let record = &meter.requests(1, |_| true)[0];
        let told = serde_json::to_string(record).unwrap();
        assert!(!told.contains("secret"), "{told}");
        assert_eq!(
            record.credential.as_ref().unwrap().sha256,
            fingerprint(b"secret")
        );
        assert_eq!(
            record
                .headers
                .iter()
                .filter(|(name, _)| name == "x-seen")
                .count(),
            2
        );
    }

    #[test]
    fn a_reset_forgets_what_began_before() {
        let meter = BillingMeter::new(10);
        let early = open(&meter, "a");
        meter.reset();
        assert_eq!(meter.totals().open_requests, 1);
        drop(early);
        let totals = meter.totals();
        assert_eq!((totals.requests, totals.open_requests), (0, 0));
        assert_eq!(totals.ended, EndedTotals::default());
    }

    #[test]
    fn models_beyond_the_bound_are_counted_together() {
        let meter = BillingMeter::new(0);
        (0..MOST_MODELS + 3).for_each(|n| drop(open(&meter, &n.to_string())));
        assert_eq!(meter.totals().models[OTHER_MODELS].client_gone, 3);
    }
}
