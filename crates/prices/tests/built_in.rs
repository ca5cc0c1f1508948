//! The built-in table: what it must price and how, and that nothing in it is out of reach of the
//! meter. The figures here are written down beside the table, from what providers charge; the meter
//! itself is tested in `llm-router-wire`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that fails says where"
)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use jiff::civil::date;
use jiff::{SignedDuration, Timestamp};
use llm_router_domain::price::{Charge, PriceTable};
use llm_router_domain::usage::{Class, Fee, ServiceTier, ShortName, Usage};
use serde_json::Value;

/// A Tuesday, 10:00 in China.
const MOMENT: &str = "2026-12-01T02:00:00Z";

fn table() -> PriceTable {
    llm_router_prices::built_in().unwrap()
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn usage(input: u64, output: u64) -> Usage {
    Usage::default()
        .with(Class::Input, input)
        .with(Class::Output, output)
}

fn charge(name: &str, usage: &Usage) -> Charge {
    let (provider, model) = name.split_once('/').unwrap();
    let table = table();
    let price = table.find("some-id", provider, model);
    let price = price.unwrap_or_else(|| panic!("{name} has no price"));
    price.charge(usage, at(MOMENT))
}

/// What a usage costs, exactly.
fn cost(name: &str, usage: &Usage) -> String {
    let charge = charge(name, usage);
    assert_eq!(charge.inexact.to_text(), "", "{name}: {usage:?}");
    charge.cost.usd().unwrap().to_string()
}

fn in_tier(name: &str, mut usage: Usage) -> Usage {
    usage.service_tier = ServiceTier::from_name(name);
    usage
}

#[test]
fn service_tiers_cost_their_price() {
    let request = usage(1000, 500);
    for (name, tier, expected) in [
        ("openai/gpt-6-sol", "default", "0.007"),
        ("openai/gpt-6-sol", "fast", "0.014"),
        ("openai/gpt-6-sol", "priority", "0.014"),
        ("openai/gpt-6.1-sol", "ultrafast", "0.042"),
        ("openai/gpt-4o", "priority", "0.01275"),
        ("openai/gpt-4.1", "priority", "0.0105"),
        ("openai/gpt-5.4-mini", "priority", "0.006"),
        ("gemini/gemini-2.5-flash", "priority", "0.00279"),
        ("anthropic/claude-opus-5-5", "batch", "0.007"),
    ] {
        let request = in_tier(tier, request);
        assert_eq!(cost(name, &request), expected, "{name} {tier}");
    }
    let long = in_tier("flex", usage(300_000, 1000));
    assert_eq!(cost("openai/gpt-6-sol", &long), "0.6075");
    let unknown = charge("openai/gpt-6-sol", &in_tier("scale", request));
    assert_eq!(unknown.inexact.to_text(), "unknown_service_tier");
    assert_eq!(unknown.cost.usd().unwrap().to_string(), "0.014");
}

#[test]
fn cache_writes_cost_by_their_lifetime_and_tier() {
    let twelve_hours = usage(2000, 100).with(Class::CacheWrite12h, 8000);
    assert_eq!(cost("openai/gpt-6-sol", &twelve_hours), "0.045");
    let flex = in_tier("flex", usage(2000, 100).with(Class::CacheWrite30m, 8000));
    assert_eq!(cost("openai/gpt-6-sol", &flex), "0.0125");
    let both = usage(0, 0)
        .with(Class::CacheWrite5m, 1000)
        .with(Class::CacheWrite1h, 1000);
    assert_eq!(cost("anthropic/claude-haiku-4-5", &both), "0.00325");
}

#[test]
fn tools_cost_by_the_use() {
    let request = usage(1000, 500);
    for (name, fee, uses, expected) in [
        ("openai/gpt-5", Fee::WebSearch, 3, "0.03625"),
        ("openai/gpt-5", Fee::FileSearch, 2, "0.01125"),
        ("openai/gpt-5", Fee::CodeSession, 1, "0.03625"),
        ("anthropic/claude-haiku-4-5", Fee::WebSearch, 10, "0.1035"),
        ("gemini/gemini-2.5-flash", Fee::GroundedPrompt, 1, "0.03655"),
    ] {
        let request = request.with_uses(fee, uses);
        assert_eq!(cost(name, &request), expected, "{name}");
    }
    let queries = usage(1000, 200)
        .with(Class::Reasoning, 300)
        .with_uses(Fee::WebSearch, 2);
    assert_eq!(cost("gemini/gemini-3.1-pro-preview", &queries), "0.036");
    let grok = usage(100, 50)
        .with(Class::Reasoning, 200)
        .with_uses(Fee::ServerTool, 3);
    assert_eq!(cost("xai/grok-4.5", &grok), "0.0167");
    let image = usage(50, 0).with(Class::ImageOutput, 4160);
    assert_eq!(cost("openai/gpt-image-2", &image), "0.12505");
    // A model that has no price for searches.
    let search = charge(
        "bedrock/anthropic.claude-3-opus-20240229-v1:0",
        &request.with_uses(Fee::WebSearch, 4),
    );
    assert_eq!(search.inexact.to_text(), "unpriced_tool");
}

#[test]
fn regions_and_speeds_cost_their_price() {
    let mut request = usage(1000, 500);
    request.inference_geo = ShortName::new("us");
    assert_eq!(cost("anthropic/claude-opus-5-5", &request), "0.0154");
    request.inference_geo = ShortName::new("global");
    assert_eq!(cost("anthropic/claude-opus-5-5", &request), "0.014");
    request.speed = ShortName::new("fast");
    for (name, expected) in [
        ("anthropic/claude-opus-5-5", "0.028"),
        ("anthropic/claude-opus-4-6", "0.105"),
        ("anthropic/claude-opus-4-7", "0.105"),
        ("anthropic/claude-fable-5-2", "0.056"),
    ] {
        assert_eq!(cost(name, &request), expected, "{name}");
    }
}

#[test]
fn parts_and_served_models_cost_their_own_price() {
    let haiku = cost("anthropic/claude-haiku-4-5-20251001", &usage(412, 1230));
    let advisor = cost("anthropic/claude-opus-4-8", &usage(823, 1612));
    assert_eq!((&*haiku, &*advisor), ("0.006562", "0.044415"));
    let served = usage(1000, 500);
    assert_eq!(cost("anthropic/claude-opus-4-8", &served), "0.0175");
    let table = table();
    let found = table.find_served("mine", "openai", "gpt-4o", Some("gpt-4.1-2025-04-14"));
    let cost = found.price.unwrap().cost(&served, at(MOMENT));
    assert_eq!(cost.usd().unwrap().to_string(), "0.006");
    assert!(found.inexact.is_empty());
}

#[test]
fn cached_audio_thinking_and_search_contexts_cost_their_price() {
    let audio = usage(500, 200).with(Class::CachedAudioInput, 1000);
    assert_eq!(cost("gemini/gemini-2.5-flash", &audio), "0.00075");
    let mut thinking = usage(1000, 1000);
    assert_eq!(cost("alibaba/qwen-plus", &thinking), "0.0016");
    thinking.thinking = true;
    assert_eq!(cost("alibaba/qwen-plus", &thinking), "0.0044");
    let embedding = usage(1000, 0);
    assert_eq!(cost("openai/text-embedding-3-small", &embedding), "0.00002");
    let mut sonar = usage(1000, 500);
    for (size, expected) in [("low", "0.0165"), ("medium", "0.0205"), ("high", "0.0245")] {
        sonar.search_context = ShortName::new(size);
        assert_eq!(cost("perplexity/sonar-pro", &sonar), expected, "{size}");
    }
}

#[test]
fn deepseek_costs_half_outside_of_chinese_working_hours() {
    let table = table();
    let price = table.find("d", "deepseek", "deepseek-flash").unwrap();
    let cost = |at: Timestamp| price.cost(&usage(1_000_000, 0), at).usd().unwrap();
    for (moment, expected) in [
        ("2026-12-01T00:59:59Z", "0.15"),
        ("2026-12-01T01:00:00Z", "0.3"),
        ("2026-12-01T04:00:00Z", "0.15"),
        ("2026-12-01T06:00:00Z", "0.3"),
        ("2026-12-01T10:00:00Z", "0.15"),
        ("2026-12-05T02:00:00Z", "0.15"),
        ("2026-10-01T02:00:00Z", "0.15"),
        ("2026-08-16T02:00:00Z", "0.15"),
    ] {
        assert_eq!(cost(at(moment)).to_string(), expected, "{moment}");
    }
    let first = at("2026-11-30T00:00:00Z");
    let hours = (0..168).map(|hour| first + SignedDuration::from_hours(hour));
    let cheap = hours.filter(|moment| cost(*moment).to_string() == "0.15");
    assert_eq!(cheap.count(), 133, "cheap hours of a week");
}

#[test]
fn changes_begin_on_their_day() {
    let table = table();
    // Below every length from which on more is charged.
    let request = usage(100_000, 100_000);
    for (provider, model, before, day, after) in [
        ("openai", "gpt-5.6-luna", "0.7", "2026-07-30", "0.14"),
        ("openai", "gpt-5.6-terra", "1.75", "2026-07-30", "1.4"),
        ("openai", "gpt-5.6-sol", "3.5", "2026-08-21", "2.4"),
        ("gemini", "gemini-4-argon", "1.2", "2026-12-01", "2.4"),
        ("gemini", "gemini-3.8-flash", "0.45", "2027-01-01", "0.9"),
    ] {
        let price = table.find("id", provider, model).unwrap();
        let cost = |moment| price.cost(&request, moment).usd().unwrap().to_string();
        let first = at(&format!("{day}T00:00:00Z"));
        let last = first - SignedDuration::from_secs(1);
        assert_eq!(cost(last), before, "{model} before {day}");
        assert_eq!(cost(first), after, "{model} from {day}");
    }
}

#[test]
fn long_inputs_cost_more_where_the_provider_says_so() {
    for (name, input, expected) in [
        ("openai/gpt-5.6-sol", 272_000, "1.088"),
        ("openai/gpt-5.6-sol", 272_001, "2.176008"),
        ("openai/gpt-5.6-luna", 272_001, "0.1088004"),
        ("openai/gpt-5.6-terra", 272_001, "1.088004"),
        ("openai/gpt-5.5-pro", 272_001, "16.32006"),
        ("openai/gpt-5.4-pro", 272_001, "16.32006"),
        ("xai/grok-4.20", 199_999, "0.24999875"),
        ("xai/grok-4.20", 200_000, "0.5"),
        ("gemini/gemini-2.5-pro", 200_000, "0.25"),
        ("gemini/gemini-2.5-pro", 200_001, "0.5000025"),
    ] {
        assert_eq!(cost(name, &usage(input, 0)), expected, "{name} {input}");
    }
}

/// Models in use on 2026-12-01 with input, cached input and output, as two sources have them.
const IN_USE: &str = "
openai/gpt-6.2-sol 2 0.1 10
openai/gpt-6.2-astra 8 0.4 40
openai/gpt-6-astra 10 1 50
openai/gpt-6.1-sol 2 0.1 10
openai/gpt-6.1-terra 1 0.05 5
openai/gpt-6-sol 2 0.2 10
openai/gpt-6-luna 0.1 0.01 0.5
openai/gpt-5.6-sol 4 0.4 20
openai/gpt-5.6-terra 2 0.2 12
openai/gpt-5.6-luna 0.2 0.02 1.2
openai/gpt-5.5 5 0.5 30
openai/gpt-5.4 2.5 0.25 15
openai/gpt-5.4-mini 0.75 0.075 4.5
openai/gpt-5.3-codex 1.75 0.175 14
openai/gpt-5-mini 0.25 0.025 2
openai/gpt-4.1 2 0.5 8
openai/gpt-4.1-mini 0.4 0.1 1.6
openai/gpt-4o 2.5 1.25 10
openai/gpt-4o-mini 0.15 0.075 0.6
openai/gpt-image-2 5 1.25 30
openai/text-embedding-3-small 0.02 - -
openai/text-embedding-3-large 0.13 - -
anthropic/claude-fable-5-2 8 0.2 40
anthropic/claude-mythos-5-2 8 0.2 40
anthropic/claude-fable-5-1 10 0.25 50
anthropic/claude-opus-5-5 4 0.2 20
anthropic/claude-opus-5 5 0.5 25
anthropic/claude-opus-4-8 5 0.5 25
anthropic/claude-sonnet-5-5 2 0.1 10
anthropic/claude-sonnet-5 2 0.2 10
anthropic/claude-sonnet-4-6 3 0.3 15
anthropic/claude-haiku-5-5 0.1 0.01 0.5
anthropic/claude-haiku-4-5 1 0.1 5
gemini/gemini-4-neon 3 0.15 15
gemini/gemini-4-argon 4 0.2 20
gemini/gemini-4-hydrogen 1.5 0.075 7.5
gemini/gemini-3.8-flash 0.75 0.075 3.75
gemini/gemini-3.7-flash 0.75 0.075 3.75
gemini/gemini-3.6-flash 0.75 0.075 3.75
gemini/gemini-3.5-flash-lite 0.3 0.03 2.5
gemini/gemini-3.1-flash-lite 0.25 0.025 1.5
gemini/gemini-3.1-pro-preview 2 0.2 12
gemini/gemini-2.5-pro 1.25 0.125 10
gemini/gemini-2.5-flash 0.3 0.03 2.5
gemini/gemini-embedding-2 0.2 - -
xai/grok-4.7 2 0.5 6
xai/grok-4.6 2 0.5 6
xai/grok-4.5 2 0.3 6
deepseek/deepseek-flash 0.3 0.006 1.2
deepseek/deepseek-v4-pro 1.32 0.044 3.96
alibaba/qwen3.8-max 2 0.25 6
alibaba/qwen3.8-flash 0.15 0.016 0.47
alibaba/qwen3.7-plus 0.32 0.064 1.28
moonshot/kimi-k3.1-pro 2 0.2 10
moonshot/kimi-k3 3 0.3 15
zai/glm-5.3 1.4 0.26 4.4
zai/glm-5.3-flash 0.15 0.03 0.5
zai/glm-5.1 1.4 0.26 4.4
minimax/MiniMax-M3 0.3 0.06 1.2
xiaomi/mimo-v2.6-pro 0.435 0.0036 0.87
meta/muse-spark-1.3 1.25 0.15 4.25
mistral/mistral-large-4 0.7 0.07 2.1
mistral/mistral-medium-3.5 1.5 0.15 7.5
groq/openai/gpt-oss-120b 0.15 0.075 0.6
";

#[test]
fn models_in_use_have_the_price_that_sources_agree_on() {
    let table = table();
    let classes = [Class::Input, Class::CacheRead, Class::Output];
    let mut wrong = Vec::new();
    for line in IN_USE.lines().filter(|line| !line.is_empty()) {
        let mut fields = line.split(' ');
        let name = fields.next().unwrap();
        let (provider, model) = name.split_once('/').unwrap();
        let Some(price) = table.find("id", provider, model) else {
            wrong.push(format!("{name} has no price"));
            continue;
        };
        let rates = price.on(date(2026, 12, 1)).unwrap().list();
        for (class, expected) in classes.into_iter().zip(fields) {
            let own = rates.own(class).map(|rate| rate.usd().to_string());
            let own = own.unwrap_or_else(|| "-".to_owned());
            // An embedding has no output, whatever it is said to cost.
            if own != expected && !(expected == "-" && own == "0") {
                wrong.push(format!("{name} {}: {own}, not {expected}", class.name()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_lead_to_their_price_or_to_none() {
    let table = table();
    for (provider, model, entry) in [
        ("azure", "gpt-4o", "openai/gpt-4o"),
        (
            "vertex",
            "claude-haiku-4-5@20251001",
            "anthropic/claude-haiku-4-5",
        ),
        (
            "vertex",
            "publishers/google/models/gemini-2.5-pro",
            "gemini/gemini-2.5-pro",
        ),
        (
            "openrouter",
            "anthropic/claude-sonnet-4.6",
            "anthropic/claude-sonnet-4-6",
        ),
        (
            "openrouter",
            "google/gemini-2.5-pro",
            "gemini/gemini-2.5-pro",
        ),
        (
            "bedrock",
            "us.anthropic.claude-opus-4-8",
            "bedrock/anthropic.claude-opus-4-8",
        ),
        (
            "bedrock",
            "global.anthropic.claude-opus-4-8",
            "bedrock/global.anthropic.claude-opus-4-8",
        ),
        (
            "mistral",
            "mistral-medium-3.5",
            "mistral/mistral-medium-2604",
        ),
        ("deepseek", "deepseek-chat", ""),
        ("deepseek", "deepseek-reasoner", ""),
        ("azure", "my-deployment", ""),
    ] {
        let price = table.find("id", provider, model);
        let charge = price.map(|price| price.charge(&usage(1, 1), at(MOMENT)));
        let used = charge.and_then(|charge| charge.price);
        let found = used.map_or_else(String::new, |used| used.entry.to_string());
        assert_eq!(found, entry, "{provider}/{model}");
    }
}

#[test]
fn every_entry_says_who_has_its_figures_and_when_they_were_compared() {
    let table = table();
    assert!(table.len() >= 300, "{} models", table.len());
    for (name, price) in table.iter() {
        for period in price.periods() {
            assert!(!period.source.is_empty(), "{name} from {}", period.from);
            assert!(period.checked.is_some(), "{name} from {}", period.from);
        }
        assert!(price.on(date(2026, 12, 1)).is_some(), "{name}");
    }
}

/// Names of classes, fees and properties that the meter's fixtures show it to read.
fn metered() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wire/tests/fixtures/usage");
    let mut names = BTreeSet::new();
    for file in fs::read_dir(folder).unwrap() {
        let text = fs::read_to_string(file.unwrap().path()).unwrap();
        let fixture: Value = serde_json::from_str(&text).unwrap();
        let expect = &fixture["expect"];
        let parts = expect["parts"].as_array().into_iter().flatten();
        let counts = parts.map(|part| &part["usage"]);
        let counts = counts.chain([expect, &expect["usage"], &expect["uses"]]);
        let maps = counts.filter_map(Value::as_object);
        names.extend(maps.flat_map(|map| map.keys().cloned()));
    }
    names
}

#[test]
fn no_figure_is_out_of_reach_of_the_meter() {
    let metered = metered();
    let mut unread = BTreeSet::new();
    for (name, price) in table().iter() {
        for row in price.periods().iter().flat_map(|period| period.rows()) {
            let classes = Class::ALL.into_iter();
            let classes = classes.filter(|class| row.own(*class).is_some());
            let fees = Fee::ALL.into_iter().filter(|fee| row.fee(*fee).is_some());
            let figures = classes.map(Class::name).chain(fees.map(Fee::name));
            let missing = figures.filter(|figure| !metered.contains(*figure));
            unread.extend(missing.map(|figure| format!("{figure} of {name}")));
        }
    }
    for property in ["geo", "speed", "search_context", "thinking", "tier"] {
        assert!(metered.contains(property), "{property}");
    }
    assert!(unread.is_empty(), "{unread:?}");
}
