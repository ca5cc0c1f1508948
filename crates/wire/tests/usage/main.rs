//! Usage and cost out of what providers send: our own fixtures, and recordings where they lie.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that fails says where, one that can't look says so"
)]

mod fixtures;
mod recordings;

use bytes::Bytes;
use llm_router_wire::usage::{BodyMeter, Dialect, Observed, StreamMeter, UsageFilter};

fn dialect(name: &str) -> Dialect {
    match name {
        "chat" => Dialect::Chat,
        "completions" => Dialect::Completions,
        "embeddings" => Dialect::Embeddings,
        "responses" => Dialect::Responses,
        "messages" => Dialect::Messages,
        "gemini" | "generateContent" | "streamGenerateContent" => Dialect::Gemini,
        other => panic!("no dialect {other}"),
    }
}

fn meter_body(dialect: Dialect, body: &[u8], size: usize) -> Observed {
    let mut meter = BodyMeter::new(dialect);
    body.chunks(size)
        .for_each(|chunk| meter.feed(Bytes::copy_from_slice(chunk)));
    meter.finish()
}

fn meter_stream(dialect: Dialect, stream: &[u8], size: usize) -> Observed {
    let mut meter = StreamMeter::new(dialect);
    stream
        .chunks(size)
        .for_each(|chunk| meter.feed(Bytes::copy_from_slice(chunk)));
    meter.finish()
}

fn filter_stream(dialect: Dialect, stream: &[u8], size: usize) -> (Vec<u8>, Observed) {
    let mut filter = UsageFilter::new(dialect);
    let mut out = Vec::new();
    for chunk in stream.chunks(size) {
        out.extend_from_slice(&filter.pass(Bytes::copy_from_slice(chunk)));
    }
    let (rest, observed) = filter.finish();
    out.extend_from_slice(&rest);
    (out, observed)
}

/// Chunk sizes that cut at every byte, at odd places and not at all.
const SIZES: [usize; 5] = [1, 7, 61, 1460, usize::MAX];
