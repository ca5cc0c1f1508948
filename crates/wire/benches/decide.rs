//! What a request pays for rules, from its bytes to the decision: bodies of 1 and 100 KiB in both
//! formats, read and decided by 10,000 regular expressions or by their complexity.

#[path = "../../domain/benches/many/mod.rs"]
mod many;
#[path = "../../domain/benches/many/prose.rs"]
mod prose;

use std::{borrow::Cow, hint::black_box};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use llm_router_domain::{
    complexity::{Lexical, Scorer as _},
    rule::{Area, Day, Facts, Feature, RuleNames, RuleSpec, Rules, WeekMinute, compile},
};
use llm_router_wire::{prompt::Prompt, request::RequestHead};
use many::{models, regex_rules};
use serde_json::json;

struct Request<'a>(Prompt<'a>);

impl Facts for Request<'_> {
    fn model(&self) -> &'static str {
        "auto"
    }

    fn text(&self, area: Area) -> &str {
        self.0.text(area)
    }

    fn header(&self, _: &str) -> Option<Cow<'_, str>> {
        None
    }

    fn key(&self) -> &'static str {
        "ci"
    }

    fn owner(&self) -> Option<&str> {
        None
    }

    fn tokens(&self) -> u64 {
        self.0.tokens()
    }

    fn has(&self, feature: Feature) -> bool {
        self.0.has(feature)
    }

    fn complexity(&self) -> f64 {
        Lexical.score(&self.0.complexity())
    }

    fn now(&self) -> WeekMinute {
        WeekMinute::at(Day::Wed, 12, 0)
    }

    fn random(&self) -> u64 {
        7
    }
}

fn build(specs: &[RuleSpec], models: &[String]) -> Rules {
    let names = RuleNames {
        models: models.iter().map(String::as_str).collect(),
        ..RuleNames::default()
    };
    compile(specs, &names, None).rules
}

fn scored(name: &str) -> RuleSpec {
    let spec = json!({"name": name, "when": {"complexity": {"min": 0.99}},
                      "then": {"use_model": "model-1"}});
    serde_json::from_value(spec).unwrap_or_else(|_| unreachable!("a rule as above"))
}

fn deciding(criterion: &mut Criterion) {
    let models = models();
    let regex = build(&regex_rules(10_000), &models);
    let complexity = build(&[scored("hard")], &models);
    let mut group = criterion.benchmark_group("request");
    for kib in [1, 100] {
        let text = prose::text(kib << 10);
        let messages = json!([{"role": "user", "content": text}]);
        let chat = json!({"model": "auto", "messages": messages}).to_string();
        group.throughput(Throughput::Bytes(chat.len() as u64));
        let size = format!("{kib}KiB");
        group.bench_function(BenchmarkId::new("head alone", &size), |b| {
            b.iter(|| RequestHead::read(black_box(chat.as_bytes())));
        });
        for (kind, rules) in [("10,000 regex rules", &regex), ("complexity", &complexity)] {
            group.bench_function(BenchmarkId::new(kind, &size), |b| {
                b.iter(|| {
                    let prompt = Prompt::read(black_box(chat.as_bytes())).unwrap_or_default();
                    rules.decide(&Request(prompt)).rule.is_some()
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, deciding);
criterion_main!(benches);
