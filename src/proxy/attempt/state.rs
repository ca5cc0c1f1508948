//! The states of an attempt, and what each event makes of them. It sends nothing, counts nothing
//! and reads no clock: whoever asks carries out what is answered.
//!
//! ```text
//! Idle ── begin ──> Connecting ── connected ──> Sent ── head ──┬─> Refused ── judged ─┐
//!                    │  ^  ^                     │             ├─> Declined           │
//!      next address ─┘  │  └── stale connection ─┤             └─> Answering          │
//!                       │                        │                  │      │          │
//!                       │                        │        content ──┘      └── whole  │
//!                       │                        v            v               v       │
//!                       └──── begin ─────────  Failed <──── Content        Complete   │
//!                                                ^────────────────────────────────────┘
//! ```

use bytes::BytesMut;
use llm_router_domain::retry::{AttemptResult, NextStep, RetryDecision};

use crate::proxy::attempt::outcome::{Cause, Refusal};

/// The most of an error's body that is read for what it says, in bytes.
pub(crate) const ERROR_BODY_LIMIT: usize = 64 * 1024;

/// Progress of an attempt.
#[derive(Debug, Default)]
pub(crate) enum State {
    /// No attempt has begun.
    #[default]
    Idle,
    /// A connection is being made.
    Connecting(Connection),
    /// The connection stands; no head of an answer has come.
    Sent(Connection),
    /// The answer is an error that another candidate may not make. Its body is read for what it
    /// says, and none of it reaches the client.
    Refused(Refusal, BytesMut),
    /// The provider's refusal is passed on. The circuit knows.
    Declined,
    /// An answer is passed on, or held until it may be; its content has not come.
    Answering,
    /// Content has come. The circuit knows.
    Content,
    /// The answer ended without content. The circuit knows.
    Complete,
    /// It has failed, and the circuit knows.
    Failed {
        /// Set if the request goes to the next candidate.
        next: bool,
    },
}

/// A way to the deployment, while no answer has come over it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Connection {
    /// Addresses of the upstream's host.
    addresses: usize,
    /// Those that could not be connected to.
    unreachable: usize,
    /// Set once a pooled connection that turned out closed has been replaced.
    replaced: bool,
}

/// Reaction to an error.
#[derive(Debug)]
pub(crate) enum Reaction {
    /// The same candidate is connected to again, within the same attempt.
    Reconnect,
    /// The refusal is judged by what was read of it.
    Judge(Refusal, BytesMut),
    /// The attempt ends so.
    End(AttemptResult),
    /// It had ended before; `true`: the request goes to the next candidate.
    Over(bool),
    /// Nobody's fault: the request ends.
    Stop,
}

impl State {
    /// Begins an attempt at an upstream with so many addresses, or goes on with the one that lost
    /// its connection; true if it is a new one.
    pub(crate) fn begin(&mut self, addresses: usize) -> bool {
        let (connection, new) = match *self {
            Self::Connecting(connection) => (connection, false),
            _ => (Connection::default(), true),
        };
        *self = Self::Connecting(Connection {
            addresses,
            ..connection
        });
        new
    }

    /// Forgets the attempt before, for another deployment was chosen.
    pub(crate) fn reset(&mut self) {
        *self = Self::Idle;
    }

    /// Returns whether the connection of an attempt that goes on is to be made anew.
    pub(crate) const fn reconnects(&self) -> bool {
        matches!(self, Self::Connecting(_))
    }

    /// Notes that an address could not be connected to; true if the host has another one.
    pub(crate) const fn connect_failed(&mut self) -> bool {
        let Self::Connecting(connection) = self else {
            return false;
        };
        connection.unreachable += 1;
        connection.unreachable < connection.addresses
    }

    /// Goes on with the same candidate, which is sent the request in another form.
    pub(crate) fn resend(&mut self) {
        *self = Self::Connecting(Connection::default());
    }

    /// Notes that the connection stands.
    pub(crate) fn set_sent(&mut self) {
        if let Self::Connecting(connection) = *self {
            *self = Self::Sent(connection);
        }
    }

    /// Notes a head, or the begin of a body, that is an error another candidate may not make.
    pub(crate) fn refuse(&mut self, refusal: Refusal, body: BytesMut) {
        *self = Self::Refused(refusal, body);
    }

    /// Notes a head that is the provider's refusal of the request, which the client is shown.
    pub(crate) fn decline(&mut self) {
        *self = Self::Declined;
    }

    /// Notes a head that may begin an answer.
    pub(crate) fn answer(&mut self) {
        *self = Self::Answering;
    }

    /// Reads more of a refusal's body; true once it is whole or long enough, `None` if no refusal
    /// is being read.
    pub(crate) fn read_refusal(&mut self, chunk: &[u8], end: bool) -> Option<bool> {
        let Self::Refused(_, body) = self else {
            return None;
        };
        let room = ERROR_BODY_LIMIT.saturating_sub(body.len()).min(chunk.len());
        body.extend_from_slice(&chunk[..room]);
        Some(end || body.len() >= ERROR_BODY_LIMIT)
    }

    /// Takes the refusal whose body was being read, to be judged.
    pub(crate) fn take_refusal(&mut self) -> Option<(Refusal, BytesMut)> {
        if !matches!(self, Self::Refused(..)) {
            return None;
        }
        match std::mem::take(self) {
            Self::Refused(refusal, body) => Some((refusal, body)),
            _ => None,
        }
    }

    /// Notes that content has come; true the first time, when the circuit is to be told.
    pub(crate) fn note_content(&mut self) -> bool {
        let first = matches!(self, Self::Answering);
        if first {
            *self = Self::Content;
        }
        first
    }

    /// Notes that the answer is whole; true if it had no content and the circuit is to be told.
    pub(crate) fn note_end(&mut self) -> bool {
        let empty = matches!(self, Self::Answering);
        if empty {
            *self = Self::Complete;
        }
        empty
    }

    /// Says what follows from an error. `written`: the client has been sent some of the answer.
    pub(crate) fn fail(&mut self, cause: Cause, written: bool) -> Reaction {
        if let Some((refusal, body)) = self.take_refusal() {
            return Reaction::Judge(refusal, body);
        }
        match (cause, &*self) {
            (Cause::Stopped, _) => Reaction::Stop,
            (Cause::Refused, Self::Connecting(_)) => Reaction::Reconnect,
            (Cause::Refused, _) => Reaction::Over(self.goes_on()),
            (Cause::Timeout(_) | Cause::Broken { .. }, _) if written => {
                Reaction::End(AttemptResult::BrokenLate)
            }
            (Cause::Timeout(early), _) => Reaction::End(early),
            (
                Cause::Broken { unused: true },
                Self::Connecting(connection) | Self::Sent(connection),
            ) if !connection.replaced => {
                *self = Self::Connecting(Connection {
                    replaced: true,
                    ..*connection
                });
                Reaction::Reconnect
            }
            (Cause::Broken { .. }, _) => Reaction::End(AttemptResult::CutEarly),
        }
    }

    /// Ends the attempt with the verdict on it. `may_go_on`: there is another candidate, and time.
    /// True if the request goes there.
    pub(crate) fn end(&mut self, verdict: RetryDecision, may_go_on: bool) -> bool {
        let next = verdict.next == NextStep::NextCandidate && may_go_on;
        *self = Self::Failed { next };
        next
    }

    /// Returns whether the attempt has failed.
    pub(crate) const fn has_failed(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }

    /// Returns whether the attempt has failed and the request goes to the next candidate.
    pub(crate) const fn goes_on(&self) -> bool {
        matches!(self, Self::Failed { next: true })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Cause = Cause::Timeout(AttemptResult::SilentEarly);
    const BROKEN: Cause = Cause::Broken { unused: false };
    const UNUSED: Cause = Cause::Broken { unused: true };

    fn connecting(addresses: usize) -> State {
        let mut state = State::Idle;
        assert!(state.begin(addresses));
        state
    }

    fn sent_state() -> State {
        let mut state = connecting(1);
        state.set_sent();
        state
    }

    fn answering() -> State {
        let mut state = sent_state();
        state.answer();
        state
    }

    fn refused_state() -> State {
        let mut state = sent_state();
        state.refuse(Refusal::default(), BytesMut::new());
        state
    }

    fn content() -> State {
        let mut state = answering();
        assert!(state.note_content());
        state
    }

    #[test]
    fn an_attempt_goes_on_with_the_hosts_next_address() {
        let mut state = connecting(3);
        for another in [true, true, false] {
            assert_eq!(state.connect_failed(), another);
            assert!(state.reconnects());
            assert!(!another || !state.begin(3), "the attempt is the same");
        }
        assert!(state.end(AttemptResult::NoConnection.decision(), true));
        assert!(state.goes_on() && !state.reconnects());
        assert!(state.begin(1), "the next candidate is another attempt");
        assert!(!state.connect_failed());
    }

    #[test]
    fn addresses_that_failed_are_not_forgotten_when_dns_answers_anew() {
        let mut state = connecting(2);
        assert!(state.connect_failed());
        assert!(!state.begin(1));
        assert!(!state.connect_failed());
    }

    #[test]
    fn a_stale_connection_is_replaced_once() {
        let mut state = sent_state();
        assert!(matches!(state.fail(UNUSED, false), Reaction::Reconnect));
        assert!(!state.begin(1), "the attempt is the same");
        state.set_sent();
        let reaction = state.fail(UNUSED, false);
        assert!(matches!(reaction, Reaction::End(AttemptResult::CutEarly)));
    }

    #[test]
    fn a_request_in_another_form_belongs_to_the_same_attempt() {
        let mut state = sent_state();
        state.decline();
        state.resend();
        assert!(matches!(
            state.fail(Cause::Refused, false),
            Reaction::Reconnect
        ));
        assert!(state.reconnects() && !state.begin(1));
        state.set_sent();
        assert!(matches!(
            state.fail(Cause::Refused, false),
            Reaction::Over(false)
        ));
    }

    #[test]
    fn a_connection_that_was_used_is_not_replaced() {
        for (mut state, cause, written) in [
            (sent_state(), BROKEN, false),
            (answering(), UNUSED, false),
            (content(), UNUSED, true),
            (State::Declined, UNUSED, true),
        ] {
            let expected = if written {
                AttemptResult::BrokenLate
            } else {
                AttemptResult::CutEarly
            };
            match state.fail(cause, written) {
                Reaction::End(ending) => assert_eq!(ending, expected),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn silence_is_judged_by_what_the_client_has_seen() {
        for (mut state, written, expected) in [
            (connecting(1), false, AttemptResult::SilentEarly),
            (sent_state(), false, AttemptResult::SilentEarly),
            (answering(), false, AttemptResult::SilentEarly),
            (content(), true, AttemptResult::BrokenLate),
        ] {
            match state.fail(TIMEOUT, written) {
                Reaction::End(ending) => assert_eq!(ending, expected),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_refusal_is_read_before_it_is_judged() {
        for cause in [Cause::Refused, TIMEOUT, BROKEN, Cause::Stopped] {
            let mut state = refused_state();
            assert_eq!(state.read_refusal(b"no", false), Some(false));
            assert_eq!(state.read_refusal(b"!", true), Some(true));
            match state.fail(cause, false) {
                Reaction::Judge(_, body) => assert_eq!(body, &b"no!"[..]),
                other => panic!("{other:?}"),
            }
            assert!(state.take_refusal().is_none(), "it is judged once");
        }
        assert_eq!(answering().read_refusal(b"x", true), None);
    }

    #[test]
    fn a_long_refusal_is_read_in_part() {
        let mut state = refused_state();
        let chunk = vec![b'x'; ERROR_BODY_LIMIT + 1];
        assert_eq!(state.read_refusal(&chunk, false), Some(true));
        let (_, body) = state.take_refusal().unwrap();
        assert_eq!(body.len(), ERROR_BODY_LIMIT);
    }

    #[test]
    fn a_judged_refusal_decides_where_the_request_goes() {
        for (may_go_on, next) in [(true, true), (false, false)] {
            let mut state = refused_state();
            state.take_refusal();
            assert_eq!(
                state.end(AttemptResult::CutEarly.decision(), may_go_on),
                next
            );
            // Pingora hands the error over once more, now that it is judged.
            match state.fail(Cause::Refused, false) {
                Reaction::Over(goes_on) => assert_eq!(goes_on, next),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_circuit_is_told_of_an_answer_once() {
        let mut state = answering();
        assert!(state.note_content() && !state.note_content());
        assert!(!state.note_end(), "its content said so already");

        let mut state = answering();
        assert!(state.note_end() && !state.note_end() && !state.note_content());
    }

    #[test]
    fn what_is_no_answer_never_tells_of_content() {
        let mut failed = sent_state();
        failed.end(
            AttemptResult::ErrorFirst(llm_router_domain::retry::StreamErrorKind::Request)
                .decision(),
            true,
        );
        for mut state in [
            State::Idle,
            sent_state(),
            refused_state(),
            State::Declined,
            failed,
        ] {
            assert!(!state.note_content() && !state.note_end(), "{state:?}");
        }
    }

    #[test]
    fn a_failure_that_is_the_clients_goes_nowhere_else() {
        let mut state = answering();
        assert!(!state.end(AttemptResult::BrokenLate.decision(), true));
        assert!(state.has_failed() && !state.goes_on());
        let mut state = sent_state();
        assert!(!state.end(AttemptResult::OutOfTime.decision(), true));
    }

    #[test]
    fn the_routers_end_is_nobodys_fault() {
        for mut state in [connecting(1), sent_state(), answering(), content()] {
            assert!(matches!(state.fail(Cause::Stopped, false), Reaction::Stop));
            assert!(!state.has_failed());
        }
    }

    #[test]
    fn another_deployment_begins_from_nothing() {
        let mut state = sent_state();
        assert!(matches!(state.fail(UNUSED, false), Reaction::Reconnect));
        state.reset();
        assert!(!state.reconnects());
        assert!(state.begin(1));
    }
}
