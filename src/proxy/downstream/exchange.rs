//! State that a request's phases and its client session share: the body still to be sent, the
//! deadlines, and the way back for the session. It must not know what a request means.

use std::collections::VecDeque;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora::ErrorType;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::http::server::Session as HttpSession;

/// The error under which an answer that says "try elsewhere" travels through Pingora.
pub(crate) const TRY_NEXT: ErrorType = ErrorType::new("UpstreamRefused");

/// The error of a response that had no body although an answer has one.
pub(crate) const EMPTY_ANSWER: ErrorType = ErrorType::new("UpstreamEmptyAnswer");

/// Reason for giving up on an upstream.
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

    pub(crate) fn from_error_type(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter();
        all.find(|one| one.error_type() == name)
    }
}

/// Decides where the response of the current attempt goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ResponseGate {
    /// It reaches the client as it comes.
    #[default]
    Pass,
    /// It waits until it has been judged, or until its end.
    Judge,
    /// None of it reaches the client: at its end the attempt has failed.
    Discard,
}

/// Shared by the request's context and the [`Downstream`](crate::proxy::downstream::session::Downstream)
/// session that stands in for the real one. Only one task ever uses it at a time: the lock is never
/// contended, and never held across an await.
#[derive(Default)]
pub(crate) struct Exchange(Mutex<State>);

#[derive(Default)]
struct State {
    /// Pieces of this attempt's body that are still to be sent, in order.
    outgoing: VecDeque<Bytes>,
    /// Time by which the upstream must have made progress, and the timeout if it has not.
    deadline: Option<(Instant, TimeoutKind)>,
    /// The total deadline of the attempt.
    total: Option<Instant>,
    /// Time at which the router ends, if it is about to.
    stop: Option<Instant>,
    disconnect: OnDisconnect,
    gate: ResponseGate,
    /// The status that the held response is to have instead of the upstream's.
    status: Option<u16>,
    keep_alive: Option<KeepAlive>,
    /// The client has been sent a head before it was known who answers.
    head_sent: bool,
    /// The last bytes of a response whose end came in a form that carries none.
    tail: Option<Bytes>,
    returned: Returned,
}

/// Comments for a client that waits for a stream's first content.
struct KeepAlive {
    /// Time of the next one.
    due: Instant,
    interval: Duration,
    /// The head that goes before the first one.
    head: Option<Box<ResponseHeader>>,
}

/// Policy for a response whose client disconnects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum OnDisconnect {
    /// It is ended.
    #[default]
    Cancel,
    /// It is read on for at most this long.
    Drain(Duration),
    /// The client has gone, and it is read on.
    Draining,
}

/// The real session, once its stand-in has been dropped.
#[derive(Default)]
enum Returned {
    #[default]
    Nothing,
    /// Pingora decides what becomes of its connection.
    ToPingora(HttpSession),
    /// Its connection is sound although its request failed.
    Reusable(HttpSession),
}

/// Facts that the application hands to the proxy with a request. They travel in the extensions of
/// the request's header, because Pingora makes the request's context without arguments.
#[derive(Clone)]
pub(crate) struct Arrival {
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) at: Instant,
}

impl Arrival {
    /// Puts it into a request's header.
    pub(crate) fn attach(self, header: &mut RequestHeader) {
        header.extensions_mut().insert(self);
    }

    /// Takes it out of a request's header, so that no copy of the header carries it upstream.
    pub(crate) fn take(header: &mut RequestHeader) -> Option<Self> {
        header.extensions_mut().remove()
    }
}

impl Exchange {
    /// Begins an attempt: `body` is to be sent, the first byte is due after `first_byte`, or only in
    /// time for the total.
    pub(crate) fn begin(
        &self,
        body: VecDeque<Bytes>,
        now: Instant,
        first_byte: Option<Duration>,
        total: Duration,
    ) {
        let mut state = self.lock();
        state.outgoing = body;
        state.total = now.checked_add(total);
        state.gate = ResponseGate::Pass;
        state.status = None;
        match first_byte {
            Some(wait) => state.await_until(now, wait, TimeoutKind::FirstByte),
            None => state.deadline = state.total.map(|at| (at, TimeoutKind::Total)),
        }
    }

    /// Says that the client is sent `head` at `due`, and comments from then on, unless a response
    /// has begun by then.
    pub(crate) fn keep_alive(&self, due: Instant, interval: Duration, head: Box<ResponseHeader>) {
        self.lock().keep_alive = Some(KeepAlive {
            due,
            interval,
            head: Some(head),
        });
    }

    /// Returns when the client is to be sent the next comment.
    pub(crate) fn keep_alive_due(&self) -> Option<Instant> {
        self.lock().keep_alive.as_ref().map(|waits| waits.due)
    }

    /// Takes the head that is to be sent before the first comment, and plans the next one.
    pub(crate) fn begin_comment(&self, now: Instant) -> Option<Box<ResponseHeader>> {
        let mut state = self.lock();
        let waits = state.keep_alive.as_mut()?;
        let next = now.checked_add(waits.interval);
        waits.due = next.unwrap_or(waits.due);
        let head = waits.head.take();
        state.head_sent |= head.is_some();
        head
    }

    /// Ends the comments: a response begins, or the client is gone.
    pub(crate) fn end_keep_alive(&self) {
        self.lock().keep_alive = None;
    }

    /// Returns whether the client has been sent a head before it was known who answers.
    pub(crate) fn head_sent(&self) -> bool {
        self.lock().head_sent
    }

    /// Returns what is left to send of this attempt's body, in order.
    pub(crate) fn outgoing(&self) -> Vec<Bytes> {
        self.lock().outgoing.iter().cloned().collect()
    }

    /// Says that the router ends after `left`: what isn't done by then is ended.
    pub(crate) fn stop_in(&self, now: Instant, left: Duration) {
        self.lock().stop = now.checked_add(left);
    }

    /// Returns whether the router is about to end.
    pub(crate) fn stopping(&self) -> bool {
        self.lock().stop.is_some()
    }

    /// Sets how long the attempt's response is read on if the client goes away; `None`: not at all.
    pub(crate) fn set_drain(&self, longest: Option<Duration>) {
        let mut state = self.lock();
        if state.disconnect != OnDisconnect::Draining {
            state.disconnect = longest.map_or(OnDisconnect::Cancel, OnDisconnect::Drain);
        }
    }

    /// Notes that the client has gone. True if the response is read on without it, until the
    /// deadline that this sets.
    pub(crate) fn client_left(&self, now: Instant) -> bool {
        let mut state = self.lock();
        match state.disconnect {
            OnDisconnect::Cancel => false,
            OnDisconnect::Draining => true,
            OnDisconnect::Drain(longest) => {
                state.disconnect = OnDisconnect::Draining;
                state.end_by(now.checked_add(longest));
                true
            }
        }
    }

    /// Returns whether the client has gone and the response is read on without it.
    pub(crate) fn draining(&self) -> bool {
        self.lock().disconnect == OnDisconnect::Draining
    }

    /// Notes that the upstream did something: the next is due within `idle`.
    pub(crate) fn progress(&self, now: Instant, idle: Duration) {
        self.lock().await_until(now, idle, TimeoutKind::Idle);
    }

    /// Returns the nearest deadline, and the timeout that it is.
    pub(crate) fn deadline(&self) -> Option<(Instant, TimeoutKind)> {
        let state = self.lock();
        let stop = state.stop.map(|at| (at, TimeoutKind::Stop));
        match (state.deadline, stop) {
            (Some(deadline), Some(stop)) if stop.0 < deadline.0 => Some(stop),
            (deadline, stop) => deadline.or(stop),
        }
    }

    /// Takes the next piece of the body that is to be sent.
    pub(crate) fn next_outgoing(&self) -> Option<Bytes> {
        self.lock().outgoing.pop_front()
    }

    /// Returns whether the body has been sent whole.
    pub(crate) fn outgoing_done(&self) -> bool {
        self.lock().outgoing.is_empty()
    }

    /// Says where the current attempt's response goes.
    pub(crate) fn set_gate(&self, gate: ResponseGate) {
        self.lock().gate = gate;
    }

    /// Returns where the current attempt's response goes.
    pub(crate) fn gate(&self) -> ResponseGate {
        self.lock().gate
    }

    /// Gives the response that is held another status.
    pub(crate) fn set_status(&self, status: u16) {
        self.lock().status = Some(status);
    }

    /// Takes the status that the response is to have instead of its own.
    pub(crate) fn take_status(&self) -> Option<u16> {
        self.lock().status.take()
    }

    /// Leaves bytes that are to be sent before the response ends.
    pub(crate) fn put_tail(&self, bytes: Bytes) {
        self.lock().tail = Some(bytes);
    }

    /// Takes the bytes that are to be sent before the response ends.
    pub(crate) fn take_tail(&self) -> Option<Bytes> {
        self.lock().tail.take()
    }

    /// Keeps a real session for its connection's next request.
    pub(crate) fn keep(&self, session: HttpSession) {
        self.lock().returned = Returned::Reusable(session);
    }

    /// Takes the session that was kept for its connection's next request.
    pub(crate) fn take_kept(&self) -> Option<HttpSession> {
        let mut state = self.lock();
        match mem::take(&mut state.returned) {
            Returned::Reusable(session) => Some(session),
            other => {
                state.returned = other;
                None
            }
        }
    }

    /// Puts back the real session, whose stand-in is dropped.
    pub(crate) fn give_back(&self, session: HttpSession) {
        self.lock().returned = Returned::ToPingora(session);
    }

    /// Takes the real session that was given back.
    pub(crate) fn take_back(&self) -> Option<HttpSession> {
        match mem::take(&mut self.lock().returned) {
            Returned::Nothing => None,
            Returned::ToPingora(session) | Returned::Reusable(session) => Some(session),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn await_until(&mut self, now: Instant, wait: Duration, kind: TimeoutKind) {
        let next = now.checked_add(wait).map(|at| (at, kind));
        self.deadline = match (next, self.total) {
            (Some(next), Some(total)) if total < next.0 => Some((total, TimeoutKind::Total)),
            (None, Some(total)) => Some((total, TimeoutKind::Total)),
            (next, _) => next,
        };
    }

    /// Moves both deadlines of the attempt forward to `end`, where they are later.
    fn end_by(&mut self, end: Option<Instant>) {
        let Some(end) = end else {
            return;
        };
        self.total = Some(self.total.map_or(end, |total| total.min(end)));
        if let Some((at, _)) = &mut self.deadline {
            *at = (*at).min(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn deadlines_move_with_progress_up_to_the_total() {
        let start = clock::now();
        let exchange = Exchange::default();
        assert_eq!(exchange.deadline(), None);
        exchange.begin(VecDeque::new(), start, Some(SECOND), 5 * SECOND);
        assert_eq!(
            exchange.deadline(),
            Some((start + SECOND, TimeoutKind::FirstByte))
        );
        exchange.progress(start + SECOND, 2 * SECOND);
        let idle = (start + 3 * SECOND, TimeoutKind::Idle);
        assert_eq!(exchange.deadline(), Some(idle));
        exchange.progress(start + 4 * SECOND, 2 * SECOND);
        let total = (start + 5 * SECOND, TimeoutKind::Total);
        assert_eq!(exchange.deadline(), Some(total));
        exchange.begin(VecDeque::new(), start, None, 5 * SECOND);
        assert_eq!(exchange.deadline(), Some(total));
    }

    #[test]
    fn a_response_is_read_on_for_a_while_where_that_is_wanted() {
        let start = clock::now();
        let exchange = Exchange::default();
        exchange.begin(VecDeque::new(), start, Some(SECOND), 60 * SECOND);
        assert!(!exchange.client_left(start) && !exchange.draining());
        exchange.set_drain(Some(3 * SECOND));
        assert!(exchange.client_left(start) && exchange.draining());
        exchange.progress(start + SECOND, 9 * SECOND);
        let total = (start + 3 * SECOND, TimeoutKind::Total);
        assert_eq!(exchange.deadline(), Some(total));
    }

    #[test]
    fn the_routers_end_is_a_deadline_for_every_attempt() {
        let start = clock::now();
        let exchange = Exchange::default();
        exchange.stop_in(start, 3 * SECOND);
        assert!(exchange.stopping());
        let stop = (start + 3 * SECOND, TimeoutKind::Stop);
        assert_eq!(exchange.deadline(), Some(stop));
        exchange.begin(VecDeque::new(), start, Some(SECOND), 60 * SECOND);
        assert_eq!(
            exchange.deadline(),
            Some((start + SECOND, TimeoutKind::FirstByte))
        );
        exchange.progress(start + SECOND, 9 * SECOND);
        assert_eq!(exchange.deadline(), Some(stop));
    }

    #[test]
    fn the_body_is_sent_again_from_the_start() {
        let now = clock::now();
        let exchange = Exchange::default();
        for _ in 0..2 {
            exchange.begin(
                [Bytes::from_static(b"ab"), "c".into()].into(),
                now,
                Some(SECOND),
                SECOND,
            );
            assert!(!exchange.outgoing_done());
            assert_eq!(exchange.next_outgoing().as_deref(), Some(&b"ab"[..]));
            assert_eq!(exchange.next_outgoing().as_deref(), Some(&b"c"[..]));
            assert!(exchange.outgoing_done() && exchange.next_outgoing().is_none());
        }
    }

    #[test]
    fn timeouts_are_found_by_their_error_type() {
        for kind in TimeoutKind::ALL {
            assert_eq!(TimeoutKind::from_error_type(kind.error_type()), Some(kind));
        }
        assert_eq!(TimeoutKind::from_error_type("ReadError"), None);
    }
}
