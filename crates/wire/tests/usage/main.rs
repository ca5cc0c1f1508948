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
use llm_router_domain::format::{Endpoint, Format};
use llm_router_wire::usage::{BodyMeter, Observed, StreamMeter, UsageFilter, UsageLayout};

fn layout(name: &str) -> &'static UsageLayout {
    let (format, endpoint) = match name {
        "chat" => (Format::OpenAiChat, Endpoint::ChatCompletions),
        "completions" => (Format::OpenAiChat, Endpoint::Completions),
        "embeddings" => (Format::OpenAiChat, Endpoint::Embeddings),
        "responses" => (Format::OpenAiResponses, Endpoint::Responses),
        "messages" => (Format::AnthropicMessages, Endpoint::Messages),
        "gemini" | "generateContent" | "streamGenerateContent" => {
            (Format::Gemini, Endpoint::ChatCompletions)
        }
        other => panic!("no layout {other}"),
    };
    UsageLayout::for_endpoint(format, endpoint)
}

fn meter_body(layout: &'static UsageLayout, body: &[u8], size: usize) -> Observed {
    let mut meter = BodyMeter::new(layout);
    body.chunks(size)
        .for_each(|chunk| meter.feed(Bytes::copy_from_slice(chunk)));
    meter.finish()
}

fn meter_stream(layout: &'static UsageLayout, stream: &[u8], size: usize) -> Observed {
    let mut meter = StreamMeter::new(layout);
    stream
        .chunks(size)
        .for_each(|chunk| meter.feed(Bytes::copy_from_slice(chunk)));
    meter.finish()
}

fn filter_stream(layout: &'static UsageLayout, stream: &[u8], size: usize) -> (Vec<u8>, Observed) {
    let mut filter = UsageFilter::new(layout);
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
