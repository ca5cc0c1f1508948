//! How fast a body is read: one long message without and with escapes, many short ones, images.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use llm_router_domain::rule::Area;
use llm_router_wire::prompt::{Prompt, estimate_tokens};
use serde_json::json;

const PROSE: &str =
    "The parcel weighs 1.25 kg, left Graz on Monday and went on to Porto by train. ";
const LINES: &str = "fn main() {\n\tprintln!(\"the parcel went on to Porto, by train\");\n}\n";

fn fill(text: &str, bytes: usize) -> String {
    text.repeat(bytes.div_ceil(text.len()))
}

fn bodies(bytes: usize) -> Vec<(&'static str, String)> {
    let user = |content: serde_json::Value| {
        json!({"model": "auto", "messages": [{"role": "user", "content": content}]}).to_string()
    };
    let turns: Vec<_> = (0..bytes / 400)
        .map(|at| {
            let role = if at % 2 == 0 { "user" } else { "assistant" };
            json!({"role": role, "content": [{"type": "text", "text": fill(PROSE, 320)}]})
        })
        .collect();
    let image = fill("iVBORw0KGgoAAAANSUhEUgAAB4", bytes);
    vec![
        ("prose", user(json!(fill(PROSE, bytes)))),
        ("code", user(json!(fill(LINES, bytes)))),
        (
            "chinese",
            user(json!(fill("请把下面这句话翻译成英文,", bytes))),
        ),
        (
            "turns",
            json!({"model": "auto", "messages": turns}).to_string(),
        ),
        (
            "image",
            user(json!([
                {"type": "text", "text": "what is this?"},
                {"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{image}")}},
            ])),
        ),
    ]
}

fn reading(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("prompt");
    for (size, bytes) in [("1KiB", 1 << 10), ("100KiB", 100 << 10), ("4MiB", 4 << 20)] {
        for (kind, body) in bodies(bytes) {
            group.throughput(Throughput::Bytes(body.len() as u64));
            group.bench_function(BenchmarkId::new(format!("read {kind}"), size), |b| {
                b.iter(|| {
                    let prompt = Prompt::read(black_box(body.as_bytes()));
                    prompt.map(|prompt| black_box(prompt.text(Area::LastUser).len()))
                });
            });
        }
        let text = fill(PROSE, bytes);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(BenchmarkId::new("tokens", size), |b| {
            b.iter(|| estimate_tokens(black_box(&text)));
        });
    }
    group.finish();
}

criterion_group!(benches, reading);
criterion_main!(benches);
