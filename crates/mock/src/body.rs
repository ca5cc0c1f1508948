//! Body of an answer: sends events at their time, in the requested pieces, and breaks off where a
//! control says so. The content of events belongs to the script.

use std::{
    io::Write as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use flate2::{Compression, write::GzEncoder};
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    control::{ChunkSplit, ForcedFailure},
    format::EventBuffer,
    meter::{RecordState, Ticket},
    script::{Script, ScriptStep},
    socket::{PlannedEnd, SocketEnd},
};

/// Message of an error event.
pub(crate) const ERROR_EVENT: &str = "The mock failed within the stream, as it was asked to";

/// Time for the frames of an HTTP/2 stream to be sent before it is reset.
const HTTP2_FLUSH: Duration = Duration::from_millis(20);

/// An answer broken off on purpose, over HTTP/2 or before its first byte.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the mock broke off, as it was asked to")]
pub(crate) struct BrokenOff;

/// Timing of the events of a stream.
#[derive(Clone, Debug)]
pub(crate) struct BodyPace {
    /// Time of the first event.
    pub(crate) first: Instant,
    pub(crate) between: Duration,
    /// Variation of the time between two events, in percent.
    pub(crate) jitter_percent: u8,
}

/// Delivery of a body.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) failure: Option<ForcedFailure>,
    pub(crate) split: Option<ChunkSplit>,
    pub(crate) split_delay: Duration,
    /// Leaves out the length of a whole body.
    pub(crate) chunked: bool,
    /// Codes a stream with gzip, each event flushed.
    pub(crate) gzip: bool,
    /// State of the request when the body has ended.
    pub(crate) end: RecordState,
    /// The planned end of the connection; none over HTTP/2, where only the stream ends.
    pub(crate) fate: Option<Arc<PlannedEnd>>,
}

/// The body of an answer.
pub(crate) struct AnswerBody {
    script: Option<Script>,
    events: EventBuffer,
    pace: BodyPace,
    manner: Delivery,
    ticket: Ticket,
    rng: Rng,
    /// One timer for whatever is waited for; made when first needed.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    /// The wait before the step at hand is over.
    waited: bool,
    /// Time at which the last token event was due; none before the first.
    last_due: Option<Instant>,
    sent_events: u64,
    sent_bytes: u64,
    /// Bytes of the taken events that a split body has not sent.
    unsplit: BytesMut,
    /// Result that follows once `unsplit` is sent.
    held: Option<Pull>,
    /// Lets hyper flush before the next piece.
    yielding: bool,
    length: Option<u64>,
    ended: bool,
    /// Nothing more is sent.
    stalled: bool,
    /// The HTTP/2 stream is about to be reset.
    resetting: bool,
    /// Codes the events.
    encoder: Option<GzEncoder<Vec<u8>>>,
}

/// Next part of a body.
enum Pull {
    Event(Bytes),
    WaitUntil(Instant),
    Break(Break),
    End,
}

/// Way in which a body breaks off.
#[derive(Clone, Copy)]
enum Break {
    Off(SocketEnd),
    Stall,
}

impl AnswerBody {
    /// A body sent as one piece, if the manner does not say otherwise.
    pub(crate) fn whole(body: Vec<u8>, manner: Delivery, ticket: Ticket) -> Self {
        let length = body.len() as u64;
        let pace = BodyPace {
            first: Instant::now(),
            between: Duration::ZERO,
            jitter_percent: 0,
        };
        let mut this = Self::new(None, pace, manner, ticket);
        this.length = (!this.manner.chunked).then_some(length);
        if body.is_empty() {
            this.finish();
        } else {
            this.events.push_whole(body.into());
        }
        this
    }

    /// A body of the script's events.
    pub(crate) fn stream(script: Script, pace: BodyPace, manner: Delivery, ticket: Ticket) -> Self {
        Self::new(Some(script), pace, manner, ticket)
    }

    fn new(script: Option<Script>, pace: BodyPace, manner: Delivery, ticket: Ticket) -> Self {
        let rng = Rng::with_seed(ticket.seq());
        let coded = manner.gzip && script.is_some();
        Self {
            encoder: coded.then(|| GzEncoder::new(Vec::new(), Compression::fast())),
            script,
            events: EventBuffer::default(),
            pace,
            manner,
            ticket,
            rng,
            timer: None,
            waiting: false,
            waited: false,
            last_due: None,
            sent_events: 0,
            sent_bytes: 0,
            unsplit: BytesMut::new(),
            held: None,
            yielding: false,
            length: None,
            ended: false,
            stalled: false,
            resetting: false,
        }
    }

    /// The next bytes to send as they are: an event, or a piece of the size asked for.
    fn pull(&mut self) -> Pull {
        if matches!(self.manner.failure, Some(ForcedFailure::CutBytes(most)) if self.sent_bytes >= most)
        {
            return Pull::Break(Break::Off(SocketEnd::Close));
        }
        let Some(split) = self.manner.split else {
            return self.pull_event();
        };
        let size = match split {
            ChunkSplit::Every(size) => size,
            ChunkSplit::Random => self.rng.usize(1..=64),
        };
        while self.unsplit.len() < size && self.held.is_none() {
            match self.pull_event() {
                Pull::Event(event) => self.unsplit.extend_from_slice(&event),
                other => self.held = Some(other),
            }
        }
        if self.unsplit.is_empty() {
            return self.held.take().unwrap_or(Pull::End);
        }
        let piece = self.unsplit.split_to(size.min(self.unsplit.len()));
        self.yielding = true;
        Pull::Event(piece.freeze())
    }

    fn pull_event(&mut self) -> Pull {
        loop {
            if matches!(self.manner.failure, Some(ForcedFailure::EndAfter(most)) if self.sent_events >= most)
            {
                self.manner.end = RecordState::Cut;
                return Pull::End;
            }
            if let Some(broken) = self.due_break() {
                return Pull::Break(broken);
            }
            if let Some(event) = self.events.pop() {
                self.sent_events += 1;
                self.ticket
                    .note_sent(self.script.as_ref().map_or(u64::MAX, Script::pieces_sent));
                return Pull::Event(event);
            }
            let Some(script) = self.script.as_ref() else {
                return Pull::End;
            };
            let step = script.next_step();
            if step == ScriptStep::Done {
                return Pull::End;
            }
            if let Some(due) = self.wait_before(step) {
                return Pull::WaitUntil(due);
            }
            self.waited = false;
            if let Some(script) = self.script.as_mut() {
                script.advance(&mut self.events);
            }
        }
    }

    /// Returns the time at which the step is due, if that is in the future. Token events follow a
    /// timetable, so that a late timer does not delay later ones.
    fn wait_before(&mut self, step: ScriptStep) -> Option<Instant> {
        if std::mem::replace(&mut self.waited, true) {
            return None;
        }
        let due = match (step, self.last_due) {
            (ScriptStep::Begin, _) => self.pace.first,
            (ScriptStep::Piece(..), None) => {
                self.last_due = Some(self.pace.first);
                return None;
            }
            (ScriptStep::Piece(..), Some(last)) if !self.pace.between.is_zero() => {
                let between = self.with_jitter(self.pace.between);
                let now = Instant::now();
                // A timetable that fell behind because the client did not read starts again.
                let due = if last + between * 2 < now {
                    now
                } else {
                    last + between
                };
                self.last_due = Some(due);
                due
            }
            _ => return None,
        };
        (due > Instant::now()).then_some(due)
    }

    fn with_jitter(&mut self, usual: Duration) -> Duration {
        let stray = u32::from(self.pace.jitter_percent.min(100));
        if stray == 0 {
            return usual;
        }
        usual * self.rng.u32(100 - stray..=100 + stray) / 100
    }

    /// The break that is due before the next event, if one is. An error event that is due is
    /// written here.
    fn due_break(&mut self) -> Option<Break> {
        let (due, broken) = match self.manner.failure? {
            ForcedFailure::ResetAfter(n) => (self.sent_events >= n, Break::Off(SocketEnd::Reset)),
            ForcedFailure::CutAfter(n) => (self.sent_events >= n, Break::Off(SocketEnd::Close)),
            ForcedFailure::HangAfter(n) => (self.sent_events >= n, Break::Stall),
            ForcedFailure::ErrorAfter(n) => {
                if self.sent_events >= n {
                    self.write_error();
                }
                return None;
            }
            ForcedFailure::CutBytes(_)
            | ForcedFailure::EndAfter(_)
            | ForcedFailure::Empty
            | ForcedFailure::Html
            | ForcedFailure::Status(_)
            | ForcedFailure::Reset
            | ForcedFailure::Hang => {
                return None;
            }
        };
        due.then_some(broken)
    }

    fn write_error(&mut self) {
        self.manner.failure = None;
        if let Some(script) = self.script.as_mut() {
            self.events = EventBuffer::default();
            script.fail(ERROR_EVENT, &mut self.events);
            self.manner.end = RecordState::Failed;
            self.waited = false;
        }
    }

    /// Shortens a piece to where the body is to be cut.
    fn up_to_cut(&self, mut piece: Bytes) -> Bytes {
        if let Some(ForcedFailure::CutBytes(most)) = self.manner.failure {
            let left = usize::try_from(most - self.sent_bytes).unwrap_or(usize::MAX);
            piece.truncate(left);
        }
        piece
    }

    fn send(&mut self, piece: Bytes) -> Frame<Bytes> {
        let piece = self.code(self.up_to_cut(piece));
        self.sent_bytes += piece.len() as u64;
        if self.is_last() {
            self.finish();
        }
        Frame::data(piece)
    }

    /// Codes a piece of the stream. Writing to memory doesn't fail.
    fn code(&mut self, piece: Bytes) -> Bytes {
        let Some(encoder) = &mut self.encoder else {
            return piece;
        };
        let _ = encoder.write_all(&piece);
        let _ = encoder.flush();
        std::mem::take(encoder.get_mut()).into()
    }

    /// Ends the coding: returns the bytes that its end consists of.
    fn last_code(&mut self) -> Option<Bytes> {
        let rest = self.encoder.take()?.finish().unwrap_or_default();
        Some(rest.into())
    }

    /// Returns true if nothing follows: then hyper can end the body in one write. A body that has
    /// its full length is never polled again.
    fn is_last(&self) -> bool {
        if self.length == Some(self.sent_bytes) {
            return true;
        }
        if self.encoder.is_some() {
            return false;
        }
        let done = self
            .script
            .as_ref()
            .is_none_or(|script| script.next_step() == ScriptStep::Done);
        done && self.manner.failure.is_none() && self.events.is_empty() && self.unsplit.is_empty()
    }

    fn finish(&mut self) {
        self.ended = true;
        self.ticket.end(self.manner.end);
    }

    /// Breaks off, or waits for what was sent before to be out. hyper tells that of an HTTP/1.1
    /// connection by flushing it. An HTTP/2 stream takes its unsent frames with it when it is
    /// reset, and does not tell when they are sent: it is given a moment.
    fn break_off(
        &mut self,
        broken: Break,
        cx: &Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        self.stalled = true;
        let Break::Off(end) = broken else {
            return Poll::Pending;
        };
        self.ticket.end(RecordState::Cut);
        if let Some(fate) = &self.manner.fate {
            fate.decide(end);
            // The connection must be polled once more to find out what was decided.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.resetting = true;
        self.wait_until(Instant::now() + HTTP2_FLUSH);
        // Polls the new timer, so that it wakes the stream.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn wait_until(&mut self, due: Instant) {
        self.waiting = true;
        match &mut self.timer {
            Some(timer) => timer.as_mut().reset(due),
            None => self.timer = Some(Box::pin(sleep_until(due))),
        }
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let (true, Some(timer)) = (self.waiting, &mut self.timer) {
            ready!(timer.as_mut().poll(cx));
            self.waiting = false;
        }
        Poll::Ready(())
    }

    /// Keeps the pieces of a split body apart: each is flushed before the next is made.
    fn poll_yield(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !std::mem::take(&mut self.yielding) {
            return Poll::Ready(());
        }
        if self.manner.split_delay.is_zero() {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        self.wait_until(Instant::now() + self.manner.split_delay);
        self.poll_timer(cx)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        let this = self.get_mut();
        loop {
            if this.ended {
                return Poll::Ready(None);
            }
            if this.resetting {
                ready!(this.poll_timer(cx));
                return Poll::Ready(Some(Err(BrokenOff)));
            }
            if this.stalled {
                return Poll::Pending;
            }
            ready!(this.poll_timer(cx));
            ready!(this.poll_yield(cx));
            match this.pull() {
                Pull::Event(piece) => return Poll::Ready(Some(Ok(this.send(piece)))),
                Pull::WaitUntil(due) => this.wait_until(due),
                Pull::Break(broken) => return this.break_off(broken, cx),
                Pull::End => match this.last_code() {
                    Some(rest) => return Poll::Ready(Some(Ok(Frame::data(rest)))),
                    None => this.finish(),
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        let left = self
            .length
            .map(|length| length.saturating_sub(self.sent_bytes));
        left.map(SizeHint::with_exact).unwrap_or_default()
    }
}
