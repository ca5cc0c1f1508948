//! The cost of translation: requests of three sizes between every two formats, and each chunk of a
//! stream, metered too.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use llm_router_domain::format::{Endpoint, Format};
use llm_router_wire::stream::AnswerStream;
use llm_router_wire::translate::{RequestOptions, ResponseContext, translate_request};
use serde_json::{Value, json};

const CHAT: Format = Format::OpenAiChat;
const RESPONSES: Format = Format::OpenAiResponses;
const MESSAGES: Format = Format::AnthropicMessages;
const GEMINI: Format = Format::Gemini;

/// A conversation with a tool, of about so many bytes.
fn request(size: usize) -> Vec<u8> {
    let prose = "The quick brown fox jumps over the lazy dog, says \"so what?\"\nand goes home.\n";
    let mut messages = vec![json!({"role": "system", "content": "You are a helpful assistant."})];
    let mut filled = 300;
    let mut turn = 0;
    while filled < size {
        let text = prose.repeat((size - filled).clamp(80, 8_000) / prose.len());
        filled += text.len() + 160;
        messages.push(json!({"role": "user", "content": text}));
        messages.push(
            json!({"role": "assistant", "content": null, "tool_calls": [{
            "id": format!("call_{turn}"), "type": "function",
            "function": {"name": "get_weather", "arguments": "{\"city\":\"Rome\"}"}}]}),
        );
        messages.push(
            json!({"role": "tool", "tool_call_id": format!("call_{turn}"),
            "content": "sunny"}),
        );
        turn += 1;
    }
    body(messages)
}

/// A request whose bulk is one image.
fn image(size: usize) -> Vec<u8> {
    let url = format!("data:image/png;base64,{}", "iVBORw0K".repeat(size / 8));
    body(vec![json!({"role": "user", "content": [
        {"type": "image_url", "image_url": {"url": url}}]})])
}

fn body(messages: Vec<Value>) -> Vec<u8> {
    let request = json!({"model": "m", "messages": messages, "max_tokens": 100, "tools": [{
        "type": "function", "function": {"name": "get_weather", "parameters": {
            "type": "object", "properties": {"city": {"type": "string"}}}}}]});
    request.to_string().into_bytes()
}

fn requests(c: &mut Criterion) {
    let options = RequestOptions::default();
    let sizes = [
        ("1KB", request(1 << 10)),
        ("100KB", request(100 << 10)),
        ("4MB", request(4 << 20)),
        ("4MB_image", image(4 << 20)),
    ];
    for (name, chat) in &sizes {
        let mut group = c.benchmark_group(format!("request_{name}"));
        for (from, to) in [
            (CHAT, MESSAGES),
            (CHAT, GEMINI),
            (CHAT, RESPONSES),
            (MESSAGES, CHAT),
            (RESPONSES, MESSAGES),
        ] {
            let body = if from == CHAT {
                chat.clone()
            } else {
                // A body in the other format is what translating gives.
                let sent = translate_request(CHAT, from, chat, "m", &options);
                sent.map(|sent| sent.body.to_vec()).unwrap_or_default()
            };
            group.throughput(Throughput::Bytes(body.len() as u64));
            group.bench_function(format!("{from}_to_{to}"), |b| {
                b.iter(|| translate_request(from, to, black_box(&body), "m", &options));
            });
        }
        group.finish();
    }
}

/// The events of a stream: those that begin it, and one that is repeated.
fn stream_of(format: Format) -> (String, String) {
    match format {
        MESSAGES => (
            "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_1\",\"model\":\"m\",\"usage\":{\"input_tokens\":1,\"output_tokens\":1}}}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n".to_owned(),
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\" word and\"}}\n\n".to_owned(),
        ),
        GEMINI => (
            String::new(),
            "data: {\"candidates\":[{\"content\":{\"parts\":[{\"text\":\" word and\"}],\"role\":\"model\"},\"index\":0}],\"usageMetadata\":{\"promptTokenCount\":46,\"candidatesTokenCount\":13,\"totalTokenCount\":97},\"modelVersion\":\"gemini-3.5-flash\",\"responseId\":\"a4FfaoS0DsW8sOIPxon_iAc\"}\n\n".to_owned(),
        ),
        _ => (
            String::new(),
            "data: {\"id\":\"chatcmpl-123\",\"object\":\"chat.completion.chunk\",\"created\":1694268190,\"model\":\"gpt-4o-mini\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_44709d6fcb\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" word and\"},\"logprobs\":null,\"finish_reason\":null}],\"usage\":null,\"obfuscation\":\"Yx2k9\"}\n\n".to_owned(),
        ),
    }
}

fn chunks(c: &mut Criterion) {
    let mut group = c.benchmark_group("chunk");
    for (from, to) in [
        (CHAT, MESSAGES),
        (CHAT, RESPONSES),
        (MESSAGES, CHAT),
        (MESSAGES, RESPONSES),
        (GEMINI, CHAT),
        (GEMINI, MESSAGES),
    ] {
        let (begin, chunk) = stream_of(from);
        let Some(endpoint) = Endpoint::ALL.into_iter().find(|e| e.format() == to) else {
            continue;
        };
        let context = ResponseContext::default();
        let Ok(mut stream) = AnswerStream::translate(from, endpoint, context) else {
            continue;
        };
        stream.push(Bytes::from(begin));
        let chunk = Bytes::from(chunk);
        group.bench_function(format!("{from}_to_{to}"), |b| {
            b.iter(|| stream.push(black_box(chunk.clone())));
        });
    }
    group.finish();
}

criterion_group!(benches, requests, chunks);
criterion_main!(benches);
