//! Measures the time to read, check and compile a configuration of 1,000 models and 10,000 rules, as
//! at start and at every reload.

#[path = "../../domain/benches/many/mod.rs"]
mod many;

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;

use criterion::{Criterion, criterion_group, criterion_main};
use llm_router_config::{Environment, load_text};
use many::{models, regex_rules};

fn text(rules: usize) -> String {
    let mut text = "providers: [{ id: p, type: mock }]\nmodels:\n".to_owned();
    for name in models() {
        let line =
            format!("  - {{ name: {name}, deployments: [{{ provider: p, model: {name} }}] }}");
        text.push_str(&line);
        text.push('\n');
    }
    text.push_str("routing:\n  rules:\n");
    for rule in regex_rules(rules) {
        let json = serde_json::to_string(&rule).unwrap_or_default();
        // What stands for a variable in the file is doubled.
        let _ = writeln!(text, "    - {}", json.replace('$', "$$"));
    }
    text
}

fn loading(criterion: &mut Criterion) {
    let none: [(&str, &str); 0] = [];
    let environment = Environment::new(none);
    let mut group = criterion.benchmark_group("load");
    group.sample_size(10);
    for rules in [100, 10_000] {
        let text = text(rules);
        group.bench_function(format!("{rules} rules, 1,000 models"), |b| {
            b.iter(|| {
                let loaded = load_text(black_box(&text), Path::new("a.yaml"), &environment);
                loaded.map(|loaded| loaded.config.routing.compiled.len())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, loading);
criterion_main!(benches);
