//! What one request's phases and its client session share: the body still to be sent, the
//! deadlines, and the way back for the session. Holds no request state of its own.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use pingora::protocols::http::server::Session as HttpSession;

/// Why an upstream was given up on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// No response within `timeouts.first_byte`.
    FirstByte,
    /// Nothing new within `timeouts.idle`.
    Idle,
    /// Not done within `timeouts.total`.
    Total,
}

impl Silence {
    /// The error type under which a timeout travels through Pingora.
    pub(crate) const fn error_type(self) -> &'static str {
        match self {
            Self::FirstByte => "UpstreamFirstByteTimeout",
            Self::Idle => "UpstreamIdleTimeout",
            Self::Total => "UpstreamTotalTimeout",
        }
    }

    pub(crate) fn from_error_type(name: &str) -> Option<Self> {
        [Self::FirstByte, Self::Idle, Self::Total]
            .into_iter()
            .find(|s| s.error_type() == name)
    }
}

#[derive(Debug, Default)]
struct State {
    /// What is left to send of this attempt's body, in order.
    outgoing: VecDeque<Bytes>,
    /// When the upstream must have done something, and what it is called if it has not.
    deadline: Option<(Instant, Silence)>,
    /// The total deadline of the attempt.
    total: Option<Instant>,
    /// Whether the response must wait for the first event's verdict.
    hold_response: bool,
}

/// Shared by the request's context and the [`Downstream`](super::downstream::Downstream) session
/// that stands in for the real one. Only one task ever uses it at a time, so the locks are never
/// contended; none is held across an await.
#[derive(Default)]
pub(crate) struct Exchange {
    state: Mutex<State>,
    /// Where the real session is put when its stand-in is dropped.
    returned: Mutex<Option<HttpSession>>,
}

impl Exchange {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins an attempt: `body` is to be sent, the first byte is due by `first_byte`.
    pub(crate) fn begin(&self, body: VecDeque<Bytes>, first_byte: Instant, total: Instant) {
        let mut state = self.state();
        state.outgoing = body;
        state.total = Some(total);
        state.deadline = Some(earlier((first_byte, Silence::FirstByte), total));
        state.hold_response = false;
    }

    /// Notes that the upstream did something: the next is due within `idle`.
    pub(crate) fn progress(&self, now: Instant, idle: Duration) {
        let mut state = self.state();
        let next = (now + idle, Silence::Idle);
        state.deadline = Some(state.total.map_or(next, |total| earlier(next, total)));
    }

    pub(crate) fn deadline(&self) -> Option<(Instant, Silence)> {
        self.state().deadline
    }

    pub(crate) fn next_outgoing(&self) -> Option<Bytes> {
        self.state().outgoing.pop_front()
    }

    pub(crate) fn outgoing_done(&self) -> bool {
        self.state().outgoing.is_empty()
    }

    /// Keeps response bytes from the client until [`Self::release_response`].
    pub(crate) fn hold_response(&self) {
        self.state().hold_response = true;
    }

    pub(crate) fn release_response(&self) {
        self.state().hold_response = false;
    }

    pub(crate) fn holds_response(&self) -> bool {
        self.state().hold_response
    }

    pub(super) fn give_back(&self, session: HttpSession) {
        *self.returned.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
    }

    pub(super) fn take_back(&self) -> Option<HttpSession> {
        self.returned
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

fn earlier(next: (Instant, Silence), total: Instant) -> (Instant, Silence) {
    if total < next.0 {
        (total, Silence::Total)
    } else {
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn deadlines_move_with_progress_up_to_the_total() {
        let exchange = Exchange::default();
        let start = clock::now();
        exchange.begin(VecDeque::new(), start + SECOND, start + 5 * SECOND);
        assert_eq!(
            exchange.deadline(),
            Some((start + SECOND, Silence::FirstByte))
        );
        exchange.progress(start + SECOND, 2 * SECOND);
        assert_eq!(
            exchange.deadline(),
            Some((start + 3 * SECOND, Silence::Idle))
        );
        exchange.progress(start + 4 * SECOND, 2 * SECOND);
        assert_eq!(
            exchange.deadline(),
            Some((start + 5 * SECOND, Silence::Total))
        );
    }

    #[test]
    fn the_body_is_sent_again_from_the_start() {
        let exchange = Exchange::default();
        let now = clock::now();
        for _ in 0..2 {
            exchange.begin([Bytes::from_static(b"ab"), "c".into()].into(), now, now);
            assert!(!exchange.outgoing_done());
            assert_eq!(exchange.next_outgoing().as_deref(), Some(&b"ab"[..]));
            assert_eq!(exchange.next_outgoing().as_deref(), Some(&b"c"[..]));
            assert!(exchange.outgoing_done() && exchange.next_outgoing().is_none());
        }
    }

    #[test]
    fn silences_are_found_by_their_error_type() {
        for silence in [Silence::FirstByte, Silence::Idle, Silence::Total] {
            assert_eq!(
                Silence::from_error_type(silence.error_type()),
                Some(silence)
            );
        }
        assert_eq!(Silence::from_error_type("ReadError"), None);
    }
}
