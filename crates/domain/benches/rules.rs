//! Measures decisions with many rules: 10,000 regular expressions over 1,000 models, against
//! prompts of 1 and 100 KiB that match none of them, the first or the last; and the cost of
//! building them.

#![expect(clippy::print_stderr, reason = "memory isn't criterion's to report")]

mod many;
#[path = "many/prose.rs"]
mod prose;

use std::{borrow::Cow, collections::BTreeSet, hint::black_box};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use llm_router_domain::{
    pattern::PatternList,
    rule::{
        Area, Condition, Day, Facts, Feature, HeaderTest, RuleNames, RuleSpec, Rules, WeekMinute,
        compile,
    },
};
use many::{models, regex_rules, rule};

struct Request {
    text: String,
}

impl Facts for Request {
    fn model(&self) -> &'static str {
        "auto"
    }

    fn text(&self, _: Area) -> &str {
        &self.text
    }

    fn header(&self, _: &str) -> Option<Cow<'_, str>> {
        Some(Cow::Borrowed("eu"))
    }

    fn key(&self) -> &'static str {
        "ci"
    }

    fn owner(&self) -> Option<&str> {
        Some("team-a")
    }

    fn tokens(&self) -> u64 {
        1_000
    }

    fn has(&self, _: Feature) -> bool {
        false
    }

    fn complexity(&self) -> f64 {
        0.5
    }

    fn now(&self) -> WeekMinute {
        WeekMinute::at(Day::Wed, 12, 0)
    }

    fn random(&self) -> u64 {
        7
    }
}

/// Rules on names and headers.
fn plain_rules(count: usize) -> Vec<RuleSpec> {
    let none = Condition::default;
    let one = |at: usize| {
        let when = match at % 4 {
            0 => Condition {
                model: Some(format!("model-{at}*")),
                ..none()
            },
            1 => Condition {
                key: Some(format!("key-{at}")),
                ..none()
            },
            2 => Condition {
                owner: Some(format!("team-{at}")),
                ..none()
            },
            _ => {
                let (name, equals) = ("x-region".to_owned(), Some(format!("region-{at}")));
                Condition {
                    header: Some(HeaderTest {
                        name,
                        equals,
                        regex: None,
                    }),
                    ..none()
                }
            }
        };
        rule(format!("plain-{at}"), when, at)
    };
    (0..count).map(one).collect()
}

fn build(specs: &[RuleSpec], models: &[String], previous: Option<&Rules>) -> Rules {
    let names = RuleNames {
        models: models.iter().map(String::as_str).collect(),
        providers: [("openai", PatternList::new(["*"]))].into(),
        keys: BTreeSet::new(),
        owners: BTreeSet::new(),
    };
    compile(specs, &names, previous).rules
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or_default() * 4096
}

fn deciding(criterion: &mut Criterion) {
    let models = models();
    let specs = regex_rules(10_000);
    let before = resident();
    let rules = build(&specs, &models, None);
    let grown = resident().saturating_sub(before) >> 20;
    let patterns = rules.pattern_memory() >> 20;
    eprintln!("10,000 regex rules: {patterns} MiB of patterns, {grown} MiB resident while built");
    let plain = build(&plain_rules(10_000), &models, None);

    let mut group = criterion.benchmark_group("decide");
    for kib in [1, 100] {
        let text = prose::text(kib << 10);
        group.throughput(Throughput::Bytes(text.len() as u64));
        let request = Request { text };
        assert!(rules.decide(&request).rule.is_none());
        group.bench_function(
            BenchmarkId::new("regex, none matches", format!("{kib}KiB")),
            |b| {
                b.iter(|| black_box(rules.decide(black_box(&request))));
            },
        );
        group.bench_function(
            BenchmarkId::new("no regex, none matches", format!("{kib}KiB")),
            |b| {
                b.iter(|| black_box(plain.decide(black_box(&request))));
            },
        );
    }
    group.finish();
    eprintln!(
        "after deciding: {} MiB resident more",
        resident().saturating_sub(before) >> 20
    );
}

fn compiling(criterion: &mut Criterion) {
    let models = models();
    let mut group = criterion.benchmark_group("compile");
    group.sample_size(10);
    for count in [100, 10_000] {
        let specs = regex_rules(count);
        group.bench_function(BenchmarkId::new("anew", count), |b| {
            b.iter(|| build(black_box(&specs), &models, None));
        });
        let previous = build(&specs, &models, None);
        group.bench_function(BenchmarkId::new("again", count), |b| {
            b.iter(|| build(black_box(&specs), &models, Some(&previous)));
        });
    }
    group.finish();
}

criterion_group!(benches, deciding, compiling);
criterion_main!(benches);
