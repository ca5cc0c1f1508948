//! The wire formats: they read a request into an `AnswerRequest` and write a `MockAnswer` whole or
//! as events. They must not know sockets, pacing or failures.

use std::collections::VecDeque;

use bytes::{BufMut as _, Bytes, BytesMut};
use fastrand::Rng;
use llm_router_domain::format::Endpoint;
use serde::Serialize;
use serde_json::Value;

use crate::ask::{AnswerChoice, AnswerPart, AnswerRequest, AnswerStop, MockAnswer};

pub(crate) mod chat;
pub(crate) mod completions;
pub(crate) mod embeddings;
pub(crate) mod error;
pub(crate) mod gemini;
pub(crate) mod messages;
pub(crate) mod models;
pub(crate) mod reading;
pub(crate) mod responses;

/// One endpoint of a provider: how its requests are read and its answers written.
pub(crate) trait Surface: Sync {
    /// Reads a request, or returns the refusal of an invalid one.
    fn read(&self, body: &Value) -> Result<AnswerRequest, MockRefusal>;

    /// The answer in one JSON body.
    fn whole(&self, body: &Value, job: &mut AnswerJob) -> Vec<u8>;

    /// Writes the answer as events; `None` where the endpoint has no streams.
    fn encoder(&self, _body: &Value, _job: &mut AnswerJob) -> Option<Box<dyn Encoder>> {
        None
    }

    /// Returns true if a provider charges for the tokens.
    fn bills(&self) -> bool {
        true
    }
}

/// The surface of an endpoint.
pub(crate) fn surface(endpoint: Endpoint) -> &'static dyn Surface {
    match endpoint {
        Endpoint::ChatCompletions => &chat::Chat,
        Endpoint::Completions => &completions::Completions,
        Endpoint::Embeddings => &embeddings::Embeddings,
        Endpoint::Responses => &responses::Responses,
        Endpoint::Messages => &messages::Messages,
        Endpoint::CountTokens => &messages::CountTokens,
    }
}

/// An answer on its way out, with what every format writes around it.
#[derive(Debug)]
pub(crate) struct AnswerJob {
    /// The model's name as the request had it.
    pub(crate) model: String,
    /// Unix time in seconds.
    pub(crate) created: u64,
    pub(crate) answer: MockAnswer,
    /// Draws ids, which differ from request to request.
    pub(crate) ids: Rng,
}

impl AnswerJob {
    /// The one choice of formats that have but one.
    pub(crate) fn first(&self) -> (&[AnswerPart], &AnswerStop) {
        match self.answer.choices.first() {
            Some(AnswerChoice { parts, stop }) => (parts, stop),
            None => (&[], &AnswerStop::End),
        }
    }
}

/// Refusal of a request by a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MockRefusal {
    pub(crate) status: u16,
    pub(crate) message: String,
    pub(crate) param: Option<String>,
}

impl MockRefusal {
    /// A 400 that names the field at fault.
    pub(crate) fn field(param: &str, message: impl Into<String>) -> Self {
        Self {
            status: 400,
            message: message.into(),
            param: Some(param.to_owned()),
        }
    }

    pub(crate) fn new(status: u16, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            param: None,
        }
    }
}

/// Position of a piece in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PiecePosition {
    pub(crate) choice: usize,
    pub(crate) part: usize,
}

/// Turns the steps through an answer into a format's events. Steps that a format has no event for
/// write nothing.
pub(crate) trait Encoder: Send {
    fn begin(&mut self, _events: &mut EventBuffer) {}
    fn open_choice(&mut self, _index: usize, _choice: &AnswerChoice, _events: &mut EventBuffer) {}
    fn open_part(&mut self, at: PiecePosition, part: &AnswerPart, events: &mut EventBuffer);
    fn piece(&mut self, at: PiecePosition, part: &AnswerPart, text: &str, events: &mut EventBuffer);
    fn close_part(&mut self, _at: PiecePosition, _part: &AnswerPart, _events: &mut EventBuffer) {}
    fn close_choice(&mut self, _choice: usize, _stop: &AnswerStop, _events: &mut EventBuffer) {}
    fn finish(&mut self, answer: &MockAnswer, events: &mut EventBuffer);
    /// An error in the midst of the stream.
    fn failure(&mut self, message: &str, events: &mut EventBuffer);
}

/// Events written and not yet sent, each a whole SSE event.
#[derive(Debug, Default)]
pub(crate) struct EventBuffer {
    queue: VecDeque<Bytes>,
    buffer: BytesMut,
}

impl EventBuffer {
    /// Writes an event of JSON `data`.
    pub(crate) fn push(&mut self, name: Option<&str>, data: &impl Serialize) {
        self.push_padded(name, data, 0);
    }

    /// Writes an event whose JSON object has `spaces` before its last brace.
    pub(crate) fn push_padded(&mut self, name: Option<&str>, data: &impl Serialize, spaces: usize) {
        self.buffer.reserve(256);
        if let Some(name) = name {
            self.buffer.put_slice(b"event: ");
            self.buffer.put_slice(name.as_bytes());
            self.buffer.put_slice(b"\n");
        }
        self.buffer.put_slice(b"data: ");
        let written = serde_json::to_writer((&mut self.buffer).writer(), data);
        debug_assert!(
            written.is_ok(),
            "events have string keys and a buffer that grows"
        );
        if spaces > 0 {
            self.buffer.truncate(self.buffer.len() - 1);
            self.buffer.put_bytes(b' ', spaces);
            self.buffer.put_u8(b'}');
        }
        self.end();
    }

    /// Writes an event of plain text.
    pub(crate) fn push_text(&mut self, data: &str) {
        self.buffer.put_slice(b"data: ");
        self.buffer.put_slice(data.as_bytes());
        self.end();
    }

    /// Queues a body that is no stream of events.
    pub(crate) fn push_whole(&mut self, body: Bytes) {
        self.queue.push_back(body);
    }

    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        self.queue.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    fn end(&mut self) {
        self.buffer.put_slice(b"\n\n");
        self.queue.push_back(self.buffer.split().freeze());
    }
}

/// `value` in JSON.
pub(crate) fn json(value: &impl Serialize) -> Vec<u8> {
    let written = serde_json::to_vec(value);
    debug_assert!(written.is_ok(), "answers have string keys only");
    written.unwrap_or_default()
}
