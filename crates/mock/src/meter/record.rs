//! Records of the meter: requests and totals at the time of the query.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::usage::MockUsage;

/// State of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum RecordState {
    /// Being read, waited on or answered.
    Open,
    /// Answered to the end.
    Complete,
    /// Broken off by the mock, as a control asked.
    Cut,
    /// Broken off by the client.
    ClientGone,
    /// Answered with an error.
    Failed,
}

impl RecordState {
    pub(super) fn from_u8(state: u8) -> Self {
        [
            Self::Open,
            Self::Complete,
            Self::Cut,
            Self::ClientGone,
            Self::Failed,
        ]
        .into_iter()
        .find(|candidate| *candidate as u8 == state)
        .unwrap_or(Self::Open)
    }
}

/// A request that reached the mock.
#[derive(Clone, Debug, Serialize)]
pub struct MeterRecord {
    /// Number of the request since the mock started, from 1.
    pub seq: u64,
    /// Arrival of its head, in Unix milliseconds.
    pub received_ms: u64,
    /// HTTP method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Name of the format, empty for a path that has none.
    pub format: &'static str,
    /// The model's name as asked for, controls included; empty until the body was read.
    pub model: String,
    /// True if a stream was requested.
    pub stream: bool,
    /// The `x-request-id` header.
    pub request_id: Option<String>,
    /// Status answered; 0 before the answer.
    pub status: u16,
    /// State of the request.
    pub state: RecordState,
    /// Events sent; a whole answer is one.
    pub events: u64,
    /// Length of the request's body.
    pub body_bytes: u64,
    /// SHA-256 of the request's body in hexadecimal; empty until it was read.
    pub body_sha256: String,
    /// The credential that came with the request.
    pub credential: Option<Credential>,
    /// Usage served so far.
    pub usage: MockUsage,
    /// Request headers in order; credentials as `sha256:` and the hash of their value.
    pub headers: Vec<(String, String)>,
}

/// A credential that is not told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Credential {
    /// The header it came in.
    pub header: &'static str,
    /// SHA-256 in hexadecimal of the credential, without the word `Bearer`.
    pub sha256: String,
}

/// Totals since the start or the last reset.
#[derive(Clone, Debug, Default, Serialize)]
pub struct MeterTotals {
    /// Requests begun.
    pub requests: u64,
    /// Requests that are open now, whenever they began.
    pub open_requests: usize,
    /// Streams that are open now, whenever they began.
    pub open_streams: usize,
    /// Requests ended, and what they were served.
    #[serde(flatten)]
    pub ended: EndedTotals,
    /// The same by model, as asked for.
    pub models: BTreeMap<String, EndedTotals>,
}

/// Ended requests by how they ended, and what they were served together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct EndedTotals {
    /// Answered to the end.
    pub complete: u64,
    /// Broken off by the mock.
    pub cut: u64,
    /// Broken off by the client.
    pub client_gone: u64,
    /// Answered with an error.
    pub failed: u64,
    /// Events sent.
    pub events: u64,
    /// Tokens served.
    pub usage: MockUsage,
}

impl EndedTotals {
    pub(super) fn count(&mut self, state: RecordState, events: u64, usage: &MockUsage) {
        match state {
            RecordState::Open => {}
            RecordState::Complete => self.complete += 1,
            RecordState::Cut => self.cut += 1,
            RecordState::ClientGone => self.client_gone += 1,
            RecordState::Failed => self.failed += 1,
        }
        self.events += events;
        self.usage.add(usage);
    }
}
