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
use llm_router_wire::stream::AnswerStream;
use llm_router_wire::usage::{BodyMeter, Observations, UsageLayout};

/// A provider's format and the endpoint that was asked.
type Kind = (Format, Endpoint);

fn kind(name: &str) -> Kind {
    match name {
        "chat" => (Format::OpenAiChat, Endpoint::ChatCompletions),
        "completions" => (Format::OpenAiChat, Endpoint::Completions),
        "embeddings" => (Format::OpenAiChat, Endpoint::Embeddings),
        "responses" => (Format::OpenAiResponses, Endpoint::Responses),
        "messages" => (Format::AnthropicMessages, Endpoint::Messages),
        "gemini" | "generateContent" | "streamGenerateContent" => {
            (Format::Gemini, Endpoint::ChatCompletions)
        }
        other => panic!("no kind {other}"),
    }
}

fn meter_body((format, endpoint): Kind, body: &[u8], size: usize) -> Observations {
    let mut meter = BodyMeter::new(UsageLayout::for_endpoint(format, endpoint));
    body.chunks(size)
        .for_each(|chunk| meter.feed(Bytes::copy_from_slice(chunk)));
    meter.finish()
}

fn meter_stream((format, endpoint): Kind, text: &[u8], size: usize) -> Observations {
    let (out, observed) = pass(AnswerStream::pass_through(format, endpoint), text, size);
    let nothing = observed.text_bytes == 0 && out.is_empty();
    assert!(
        nothing || out == text,
        "an unchanged stream passes as it came"
    );
    observed
}

fn filter_stream((format, endpoint): Kind, text: &[u8], size: usize) -> (Vec<u8>, Observations) {
    pass(AnswerStream::without_usage(format, endpoint), text, size)
}

fn pass(mut stream: AnswerStream, text: &[u8], size: usize) -> (Vec<u8>, Observations) {
    let mut out = Vec::new();
    for chunk in text.chunks(size) {
        out.extend_from_slice(&stream.push(Bytes::copy_from_slice(chunk)));
    }
    out.extend_from_slice(&stream.end());
    (out, stream.final_observations())
}

/// Chunk sizes that cut at every byte, at odd places and not at all.
const SIZES: [usize; 5] = [1, 7, 61, 1460, usize::MAX];
