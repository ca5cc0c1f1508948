//! Our own fixtures: one file a shape of usage, with the classes and the cost worked out by hand.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use jiff::civil::date;
use llm_router_domain::inexact::Reason;
use llm_router_domain::price::{Amount, Cost, PeriodSpec, Price, RateChange, Rates, Threshold};
use llm_router_domain::usage::{Class, Fee, ServiceTier, Usage, UsageSource};
use llm_router_wire::usage::Observations;
use serde_json::Value;

use super::{SIZES, filter_stream, kind, meter_body, meter_stream};

/// A moment at which the prices of the fixtures hold.
fn moment() -> Timestamp {
    "2026-06-01T12:00:00Z".parse().unwrap()
}

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
            "searches_per_1k" => rates.set_fee(Fee::WebSearch, amount(value)),
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
    let mut spec = PeriodSpec::new(date(2026, 1, 1), rates(figures));
    for (above, step) in named("tiers") {
        let threshold = Threshold::above(above.parse().unwrap());
        spec.steps.push((threshold, rates(&step)));
    }
    for (tier, own) in named("service_tiers") {
        let change = RateChange {
            rates: rates(&own),
            ..RateChange::default()
        };
        spec.service_tiers
            .push((ServiceTier::from_name(&tier), change));
    }
    Price::new([spec])
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
    check_beside(name, expect, observed, &usage);
    let cost = match price(&fixture["price"]).cost(&usage, moment()) {
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

fn check_beside(name: &str, expect: &Value, observed: &Observations, usage: &Usage) {
    let text = |key: &str| expect[key].as_str().unwrap_or_default().to_owned();
    let cost = usage.reported_cost.map(|cost| cost.to_string());
    for (key, seen, usual) in [
        ("tier", usage.service_tier.name(), "standard"),
        ("geo", usage.inference_geo.as_str(), ""),
        ("speed", usage.speed.as_str(), ""),
        ("search_context", usage.search_context.as_str(), ""),
        ("reported_cost", cost.as_deref().unwrap_or_default(), ""),
    ] {
        // Fixtures that aren't about tiers may have any.
        if key != "tier" || expect[key].is_string() {
            let expected = expect[key].as_str().unwrap_or(usual);
            assert_eq!(seen, expected, "{name}: {key}");
        }
    }
    if let Some(thinking) = expect["thinking"].as_bool() {
        assert_eq!(usage.thinking, thinking, "{name}: thinking");
    }
    let served = expect["served"].is_string().then(|| text("served"));
    let served = served.or_else(|| expect["model"].as_str().map(str::to_owned));
    assert_eq!(observed.served_model(), served.as_deref(), "{name}: served");
    let classes = |usage: &Usage| -> Value {
        usage
            .iter()
            .map(|(class, n)| (class.name().to_owned(), Value::from(n)))
            .collect()
    };
    let parts: Vec<Value> = observed
        .parts()
        .iter()
        .map(|part| serde_json::json!({"model": part.model, "usage": classes(&part.usage)}))
        .collect();
    let expected = expect["parts"].as_array().cloned().unwrap_or_default();
    assert_eq!(parts, expected, "{name}: parts");
    let reasons: Vec<Value> = usage.inexact.iter().map(|r| r.name().into()).collect();
    let estimated = usage.is_estimated() && expect["inexact"].is_null();
    let expected = if estimated {
        vec!["usage_missing".into()]
    } else {
        expect["inexact"].as_array().cloned().unwrap_or_default()
    };
    assert_eq!(reasons, expected, "{name}: reasons");
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
    let uses: BTreeMap<&str, u64> = usage
        .fees()
        .map(|(fee, n)| (fee.name(), n.into()))
        .collect();
    let expected: BTreeMap<&str, u64> = expect["uses"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(fee, n)| (fee.as_str(), n.as_u64().unwrap()))
        .collect();
    assert_eq!(uses, expected, "{name}: uses");
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
            let mut observed = match stream_bytes(fixture) {
                Some(bytes) => meter_stream(kind, &bytes, size),
                None => meter_body(kind, &body_bytes(fixture), size),
            };
            if let Some(tier) = fixture["header_tier"].as_str() {
                observed.saw_header_tier(tier);
            }
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

/// An event with an image is longer than what a meter holds: the long event is read as it goes by,
/// and the list of the last one replaces what single events said.
#[test]
fn tools_of_events_that_are_too_long_to_hold_are_counted() {
    let image = serde_json::json!({"type": "image_generation_call", "id": "ig_1",
        "result": "A".repeat(3 << 20)});
    let search = serde_json::json!({"type": "web_search_call", "id": "ws_1",
        "action": {"type": "search", "query": "q"}});
    let code = serde_json::json!({"type": "code_interpreter_call", "container_id": "cntr_1",
        "code": "print(\"{}\")"});
    let output = [&image, &search, &code];
    let usage = serde_json::json!({"input_tokens": 1000, "output_tokens": 500});
    let tool_usage = serde_json::json!({"image_gen": {"input_tokens": 50, "output_tokens": 4160,
        "input_tokens_details": {"image_tokens": 10, "text_tokens": 40}}});
    let tools = serde_json::json!([{"type": "image_generation", "model": "gpt-image-9"}]);
    let response = serde_json::json!({"model": "m-1", "service_tier": "flex", "output": output,
        "tool_usage": tool_usage, "tools": tools, "usage": usage});
    let mut text = String::new();
    for item in output {
        let event = serde_json::json!({"type": "response.output_item.done", "item": item});
        text.push_str(&format!("data: {event}\n\n"));
    }
    let cut = meter_stream(kind("responses"), text.as_bytes(), 1460);
    let event = serde_json::json!({"type": "response.completed", "response": response});
    text.push_str(&format!("data: {event}\n\n"));
    for (observed, parts) in [
        (cut, 0),
        (meter_stream(kind("responses"), text.as_bytes(), 1460), 1),
        (
            meter_body(kind("responses"), response.to_string().as_bytes(), 1460),
            1,
        ),
        (
            meter_body(
                kind("responses"),
                response.to_string().as_bytes(),
                usize::MAX,
            ),
            1,
        ),
    ] {
        let usage = observed.usage(true, 1);
        let uses = [Fee::WebSearch, Fee::CodeSession].map(|fee| usage.uses(fee));
        assert_eq!(uses, [1, 1]);
        let found = observed.parts();
        assert_eq!(found.len(), parts);
        let Some(part) = found.first() else {
            // The image was made, but nothing says what it took.
            assert!(usage.inexact.contains(Reason::UnpricedTool));
            continue;
        };
        assert_eq!(&*part.model, "gpt-image-9");
        let classes = [Class::Input, Class::ImageInput, Class::ImageOutput];
        assert_eq!(classes.map(|class| part.usage.get(class)), [40, 10, 4160]);
        assert_eq!(
            (usage.service_tier.name(), usage.inexact.is_empty()),
            ("flex", true)
        );
    }
}
