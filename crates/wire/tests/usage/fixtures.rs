//! Our own fixtures: one file a shape of usage, with the classes and the cost worked out by hand.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::civil::{Date, date};
use llm_router_domain::price::{Amount, Cost, Price, PricePeriod, Rates};
use llm_router_domain::usage::{Class, Fee, ServiceTier, Usage, UsageSource};
use llm_router_wire::usage::Observations;
use serde_json::Value;

use super::{SIZES, filter_stream, kind, meter_body, meter_stream};

const DAY: Date = date(2026, 6, 1);

fn fixtures() -> BTreeMap<String, Value> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/usage");
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            let name = path.file_stem().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            (
                name.clone(),
                serde_json::from_str(&text).unwrap_or_else(|e| panic!("{name}: {e}")),
            )
        })
        .collect()
}

fn amount(value: &Value) -> Amount {
    Amount::new(value.as_str().unwrap().parse().unwrap()).unwrap()
}

fn rates(figures: &Value) -> Rates {
    let mut rates = Rates::default();
    for (name, value) in figures.as_object().unwrap() {
        match name.as_str() {
            "searches_per_1k" => rates.searches_per_1k = Some(amount(value)),
            "per_request" => rates.per_request = Some(amount(value)),
            "tiers" | "service_tiers" => {}
            class => rates.set(Class::from_name(class).unwrap(), amount(value)),
        }
    }
    rates
}

fn price(figures: &Value) -> Price {
    let empty = serde_json::Map::new();
    let named = |key: &str| figures[key].as_object().unwrap_or(&empty).clone();
    let tiers = named("tiers")
        .into_iter()
        .map(|(n, v)| (n.parse().unwrap(), rates(&v)));
    let services = named("service_tiers")
        .into_iter()
        .map(|(n, v)| (ServiceTier::from_name(&n), rates(&v)));
    let period = PricePeriod::new(date(2026, 1, 1), rates(figures), tiers, services);
    Price::new(vec![period])
}

/// The bytes of a stream fixture: its lines joined by its own line ends.
fn stream_bytes(fixture: &Value) -> Option<Vec<u8>> {
    let end = fixture["line_end"].as_str().unwrap_or("\n");
    let lines = fixture["stream"].as_array()?;
    let text: String = lines
        .iter()
        .map(|line| format!("{}{end}", line.as_str().unwrap()))
        .collect();
    Some(text.into_bytes())
}

fn body_bytes(fixture: &Value) -> Vec<u8> {
    match &fixture["body"] {
        Value::String(text) => text.clone().into_bytes(),
        other => serde_json::to_vec(other).unwrap(),
    }
}

fn check(name: &str, fixture: &Value, observed: &Observations) {
    let complete = fixture["complete"].as_bool().unwrap_or(true);
    let estimate = fixture["input_estimate"].as_u64().unwrap_or(0);
    let usage = observed.usage(complete, estimate);
    let expect = &fixture["expect"];
    check_usage(name, expect, &usage);
    let cost = match price(&fixture["price"]).cost(&usage, DAY) {
        Cost::Usd(usd) => usd.to_string(),
        Cost::Unpriced => "unpriced".to_owned(),
    };
    assert_eq!(cost, expect["cost"].as_str().unwrap(), "{name}: cost");
    assert_eq!(
        observed.model.as_deref(),
        expect["model"].as_str(),
        "{name}: model"
    );
    for (key, seen) in [("finished", observed.finished), ("failed", observed.failed)] {
        if let Some(expected) = expect[key].as_bool() {
            assert_eq!(seen, expected, "{name}: {key}");
        }
    }
}

fn check_usage(name: &str, expect: &Value, usage: &Usage) {
    let found: BTreeMap<&str, u64> = usage.iter().map(|(c, n)| (c.name(), n)).collect();
    let expected: BTreeMap<&str, u64> = expect["usage"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(class, n)| (class.as_str(), n.as_u64().unwrap()))
        .collect();
    assert_eq!(found, expected, "{name}: classes");
    let searches = expect["web_searches"].as_u64().unwrap_or(0);
    assert_eq!(
        u64::from(usage.uses(Fee::WebSearch)),
        searches,
        "{name}: searches"
    );
    let source = match usage.source {
        UsageSource::Reported => "reported",
        UsageSource::Estimated(method) => method.name(),
    };
    assert_eq!(
        source,
        expect["source"].as_str().unwrap_or("reported"),
        "{name}: source"
    );
}

#[test]
fn usage_and_cost_of_every_fixture() {
    let fixtures = fixtures();
    for (name, fixture) in &fixtures {
        let kind = kind(fixture["dialect"].as_str().unwrap());
        for size in SIZES {
            let observed = match stream_bytes(fixture) {
                Some(bytes) => meter_stream(kind, &bytes, size),
                None => meter_body(kind, &body_bytes(fixture), size),
            };
            check(&format!("{name} in {size}"), fixture, &observed);
        }
    }
    println!("fixtures checked: {}", fixtures.len());
    assert!(fixtures.len() >= 60, "fixtures: {}", fixtures.len());
}

#[test]
fn clients_see_what_they_asked_for() {
    let mut checked = 0;
    for (name, fixture) in &fixtures() {
        let Some(expected) = fixture["client_sees"].as_array() else {
            continue;
        };
        checked += 1;
        let end = fixture["line_end"].as_str().unwrap_or("\n");
        let expected: String = expected
            .iter()
            .map(|line| format!("{}{end}", line.as_str().unwrap()))
            .collect();
        let kind = kind(fixture["dialect"].as_str().unwrap());
        for size in SIZES {
            let (out, observed) = filter_stream(kind, &stream_bytes(fixture).unwrap(), size);
            assert_eq!(
                String::from_utf8(out).unwrap(),
                expected,
                "{name} in {size}"
            );
            check(name, fixture, &observed);
        }
    }
    assert!(checked >= 10, "fixtures with a client's view: {checked}");
}
