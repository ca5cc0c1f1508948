//! What one request's phases and its client session share: the body still to be sent, the
//! deadlines, and the way back for the session. Holds no request state of its own.

use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora::protocols::http::server::Session as HttpSession;

/// Why an upstream was given up on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TimeoutKind {
    /// No response within `timeouts.first_byte`.
    FirstByte,
    /// Nothing new within `timeouts.idle`.
    Idle,
    /// Not done within `timeouts.total`.
    Total,
    /// Not done when the router had to end: no fault of the upstream's.
    Stop,
}

impl TimeoutKind {
    /// The error type under which a timeout travels through Pingora.
    pub(crate) const fn error_type(self) -> &'static str {
        match self {
            Self::FirstByte => "UpstreamFirstByteTimeout",
            Self::Idle => "UpstreamIdleTimeout",
            Self::Total => "UpstreamTotalTimeout",
            Self::Stop => "RouterStops",
        }
    }

    const ALL: [Self; 4] = [Self::FirstByte, Self::Idle, Self::Total, Self::Stop];

    fn from_u8(number: u8) -> Self {
        let found = [Self::FirstByte, Self::Idle]
            .into_iter()
            .find(|one| *one as u8 == number);
        found.unwrap_or(Self::Total)
    }

    pub(crate) fn from_error_type(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|one| one.error_type() == name)
    }
}

/// What becomes of the response under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseGate {
    /// It reaches the client as it comes.
    Pass = 0,
    /// It waits until it has been judged, or until its end.
    Judge = 1,
    /// None of it reaches the client: at its end the attempt has failed.
    Discard = 2,
}

impl ResponseGate {
    fn from_u8(number: u8) -> Self {
        let found = [Self::Judge, Self::Discard]
            .into_iter()
            .find(|one| *one as u8 == number);
        found.unwrap_or(Self::Pass)
    }
}

/// Shared by the request's context and the [`Downstream`](crate::proxy::downstream::session::Downstream) session
/// that stands in for the real one. Only one task ever uses it at a time: the atomics need no
/// order, the locks are never contended, and none is held across an await.
pub(crate) struct Exchange {
    /// Times below are milliseconds after this.
    origin: Instant,
    /// What is left to send of this attempt's body, in order.
    outgoing: Mutex<VecDeque<Bytes>>,
    outgoing_done: AtomicBool,
    /// When the upstream must have done something, and what it is called if it has not.
    deadline: AtomicU64,
    silence: AtomicU8,
    /// The total deadline of the attempt.
    total: AtomicU64,
    /// When the router ends, if it is about to.
    stop: AtomicU64,
    /// How long the response is read on once the client has gone; 0: not at all.
    drain: AtomicU64,
    /// Whether the client has gone and the response is read on without it.
    draining: AtomicBool,
    /// What becomes of the response under way; a [`ResponseGate`].
    hold: AtomicU8,
    /// The status that the held response is to have instead of the upstream's; 0 if none.
    status: AtomicU16,
    /// The last bytes of a response whose end came in a form that carries none.
    tail: Mutex<Option<Bytes>>,
    /// Where the real session is put when its stand-in is dropped.
    returned: Mutex<Option<HttpSession>>,
    /// Whether the returned session's connection is sound although its request failed.
    reusable: AtomicBool,
}

impl Exchange {
    /// An exchange that begins at `now`, with nothing to send and no deadline.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            origin: now,
            outgoing: Mutex::default(),
            outgoing_done: AtomicBool::new(true),
            deadline: AtomicU64::new(NEVER),
            silence: AtomicU8::new(TimeoutKind::Total as u8),
            total: AtomicU64::new(NEVER),
            stop: AtomicU64::new(NEVER),
            drain: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            hold: AtomicU8::new(ResponseGate::Pass as u8),
            status: AtomicU16::new(0),
            tail: Mutex::default(),
            returned: Mutex::default(),
            reusable: AtomicBool::new(false),
        }
    }

    /// Begins an attempt: `body` is to be sent, the first byte is due after `first_byte`.
    pub(crate) fn begin(
        &self,
        body: VecDeque<Bytes>,
        now: Instant,
        first_byte: Duration,
        total: Duration,
    ) {
        self.outgoing_done.store(body.is_empty(), Relaxed);
        *self.outgoing() = body;
        self.total.store(
            self.millis(now).saturating_add(whole_millis(total)),
            Relaxed,
        );
        self.set_hold(ResponseGate::Pass);
        self.set_status(0);
        self.await_until(now, first_byte, TimeoutKind::FirstByte);
    }

    /// Says that the router ends after `left`: what isn't done by then is ended.
    pub(crate) fn stop_in(&self, now: Instant, left: Duration) {
        let end = self.millis(now).saturating_add(whole_millis(left));
        self.stop.store(end, Relaxed);
    }

    /// Whether the router is about to end.
    pub(crate) fn stopping(&self) -> bool {
        self.stop.load(Relaxed) != NEVER
    }

    /// Says how long the attempt's response is read on if the client goes away.
    pub(crate) fn set_drain(&self, longest: Option<Duration>) {
        self.drain.store(longest.map_or(0, whole_millis), Relaxed);
    }

    /// Notes that the client has gone. True if the response is read on without it, until the
    /// deadline that this sets.
    pub(crate) fn client_left(&self, now: Instant) -> bool {
        let longest = self.drain.load(Relaxed);
        if longest == 0 {
            return false;
        }
        self.draining.store(true, Relaxed);
        let end = self.millis(now).saturating_add(longest);
        self.total.fetch_min(end, Relaxed);
        self.deadline.fetch_min(end, Relaxed);
        true
    }

    /// Whether the client has gone and the response is read on without it.
    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Relaxed)
    }

    /// Notes that the upstream did something: the next is due within `idle`.
    pub(crate) fn progress(&self, now: Instant, idle: Duration) {
        self.await_until(now, idle, TimeoutKind::Idle);
    }

    fn await_until(&self, now: Instant, wait: Duration, silence: TimeoutKind) {
        let (next, total) = (
            self.millis(now) + whole_millis(wait),
            self.total.load(Relaxed),
        );
        let silence = if total < next {
            TimeoutKind::Total
        } else {
            silence
        };
        self.deadline.store(next.min(total), Relaxed);
        self.silence.store(silence as u8, Relaxed);
    }

    /// The deadline, on a scale of the exchange's own.
    pub(crate) fn deadline(&self) -> u64 {
        self.deadline.load(Relaxed).min(self.stop.load(Relaxed))
    }

    /// How long the upstream may still be silent, and what it is called when it was for longer.
    pub(crate) fn left(&self, now: Instant) -> Option<(Duration, TimeoutKind)> {
        let deadline = self.deadline();
        if deadline == NEVER {
            return None;
        }
        let silence = if deadline < self.deadline.load(Relaxed) {
            TimeoutKind::Stop
        } else {
            TimeoutKind::from_u8(self.silence.load(Relaxed))
        };
        let left = Duration::from_millis(deadline.saturating_sub(self.millis(now)));
        Some((left, silence))
    }

    fn millis(&self, now: Instant) -> u64 {
        whole_millis(now.saturating_duration_since(self.origin))
    }

    fn outgoing(&self) -> MutexGuard<'_, VecDeque<Bytes>> {
        self.outgoing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn next_outgoing(&self) -> Option<Bytes> {
        if self.outgoing_done() {
            return None;
        }
        let mut outgoing = self.outgoing();
        let next = outgoing.pop_front();
        self.outgoing_done.store(outgoing.is_empty(), Relaxed);
        next
    }

    pub(crate) fn outgoing_done(&self) -> bool {
        self.outgoing_done.load(Relaxed)
    }

    /// Says what is to become of the response under way.
    pub(crate) fn set_hold(&self, hold: ResponseGate) {
        self.hold.store(hold as u8, Relaxed);
    }

    pub(crate) fn hold(&self) -> ResponseGate {
        ResponseGate::from_u8(self.hold.load(Relaxed))
    }

    /// Gives the response that is held another status.
    pub(crate) fn set_status(&self, status: u16) {
        self.status.store(status, Relaxed);
    }

    /// The status that the response is to have instead of its own.
    pub(crate) fn take_status(&self) -> Option<u16> {
        Some(self.status.swap(0, Relaxed)).filter(|status| *status > 0)
    }

    /// Leaves bytes that are to be sent before the response ends.
    pub(crate) fn put_tail(&self, bytes: Bytes) {
        *self.tail.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes);
    }

    pub(crate) fn take_tail(&self) -> Option<Bytes> {
        self.tail
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Keeps a real session for its connection's next request.
    pub(crate) fn keep(&self, session: HttpSession) {
        self.reusable.store(true, Relaxed);
        self.give_back(session);
    }

    /// The session that was kept, if one was.
    pub(crate) fn take_kept(&self) -> Option<HttpSession> {
        if self.reusable.load(Relaxed) {
            self.take_back()
        } else {
            None
        }
    }

    pub(crate) fn give_back(&self, session: HttpSession) {
        *self.returned.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }

    pub(crate) fn take_back(&self) -> Option<HttpSession> {
        self.returned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// A deadline that is never reached.
const NEVER: u64 = u64::MAX;

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(NEVER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn deadlines_move_with_progress_up_to_the_total() {
        let start = clock::now();
        let exchange = Exchange::new(start);
        assert_eq!(exchange.left(start), None);
        exchange.begin(VecDeque::new(), start, SECOND, 5 * SECOND);
        assert_eq!(exchange.left(start), Some((SECOND, TimeoutKind::FirstByte)));
        exchange.progress(start + SECOND, 2 * SECOND);
        assert_eq!(
            exchange.left(start + SECOND),
            Some((2 * SECOND, TimeoutKind::Idle))
        );
        exchange.progress(start + 4 * SECOND, 2 * SECOND);
        assert_eq!(
            exchange.left(start + 4 * SECOND),
            Some((SECOND, TimeoutKind::Total))
        );
        assert_eq!(
            exchange.left(start + 9 * SECOND),
            Some((Duration::ZERO, TimeoutKind::Total))
        );
    }

    #[test]
    fn a_response_is_read_on_for_a_while_where_that_is_wanted() {
        let start = clock::now();
        let exchange = Exchange::new(start);
        exchange.begin(VecDeque::new(), start, SECOND, 60 * SECOND);
        assert!(!exchange.client_left(start) && !exchange.draining());
        exchange.set_drain(Some(3 * SECOND));
        assert!(exchange.client_left(start) && exchange.draining());
        exchange.progress(start + SECOND, 9 * SECOND);
        assert_eq!(
            exchange.left(start + SECOND),
            Some((2 * SECOND, TimeoutKind::Total))
        );
    }

    #[test]
    fn the_routers_end_is_a_deadline_for_every_attempt() {
        let start = clock::now();
        let exchange = Exchange::new(start);
        exchange.stop_in(start, 3 * SECOND);
        assert!(exchange.stopping());
        assert_eq!(exchange.left(start), Some((3 * SECOND, TimeoutKind::Stop)));
        exchange.begin(VecDeque::new(), start, SECOND, 60 * SECOND);
        assert_eq!(exchange.left(start), Some((SECOND, TimeoutKind::FirstByte)));
        exchange.progress(start + SECOND, 9 * SECOND);
        assert_eq!(
            exchange.left(start + SECOND),
            Some((2 * SECOND, TimeoutKind::Stop))
        );
    }

    #[test]
    fn the_body_is_sent_again_from_the_start() {
        let now = clock::now();
        let exchange = Exchange::new(now);
        for _ in 0..2 {
            exchange.begin(
                [Bytes::from_static(b"ab"), "c".into()].into(),
                now,
                SECOND,
                SECOND,
            );
            assert!(!exchange.outgoing_done());
            assert_eq!(exchange.next_outgoing().as_deref(), Some(&b"ab"[..]));
            assert_eq!(exchange.next_outgoing().as_deref(), Some(&b"c"[..]));
            assert!(exchange.outgoing_done() && exchange.next_outgoing().is_none());
        }
    }

    #[test]
    fn silences_are_found_by_their_error_type() {
        for silence in TimeoutKind::ALL {
            assert_eq!(
                TimeoutKind::from_error_type(silence.error_type()),
                Some(silence)
            );
        }
        assert_eq!(TimeoutKind::from_error_type("ReadError"), None);
    }
}
