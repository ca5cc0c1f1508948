//! Every recording of a real provider that carries usage, against an oracle that parses the JSON
//! whole and knows only the vendors' documented rules.

use std::io::Read;
use std::path::PathBuf;

use llm_router_domain::inexact::Reason;
use llm_router_domain::usage::{Class, Usage, UsageSource};
use rust_decimal::Decimal;
use serde_json::Value;

use super::{SIZES, filter_stream, kind, meter_body, meter_stream};

/// Where the recordings lie, seen from a work tree beside `shared/` or from one level below.
fn folder() -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    ["..", "../..", "../../.."]
        .iter()
        .map(|up| root.join(up).join("shared/recordings"))
        .find(|path| path.is_dir())
}

/// The endpoint of a recording; none for paths and formats that have no meter.
fn endpoint(api: &str) -> Option<&str> {
    const ENDPOINTS: [&str; 7] = [
        "chat",
        "completions",
        "embeddings",
        "responses",
        "messages",
        "generateContent",
        "streamGenerateContent",
    ];
    let (place, name) = api.rsplit_once('.').unwrap_or_default();
    let name = if place.is_empty() { api } else { name };
    let known = [
        "",
        "v1",
        "deployments",
        "models",
        "other",
        "mantle",
        "anthropic",
    ];
    (known.contains(&place) && ENDPOINTS.contains(&name)).then_some(name)
}

fn recordings() -> Vec<Value> {
    let Some(folder) = folder() else {
        println!("RECORDINGS ABSENT: shared/recordings isn't here, real providers are NOT checked");
        return Vec::new();
    };
    let mut all = Vec::new();
    let files = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten();
    for entry in files(folder.join("more")).chain(files(folder)) {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ext| ext == "gz") {
            let mut text = String::new();
            let file = std::fs::File::open(&path).unwrap();
            flate2::read::GzDecoder::new(file)
                .read_to_string(&mut text)
                .unwrap();
            all.extend(serde_json::from_str::<Vec<Value>>(&text).unwrap());
        }
    }
    all
}

/// The JSON documents of a response: one for a body, one an event for a stream.
fn documents(stream: bool, body: &str) -> Vec<Value> {
    if !stream {
        return serde_json::from_str(body.trim()).into_iter().collect();
    }
    body.lines()
        .filter_map(|line| line.strip_prefix("data:"))
        .filter_map(|data| serde_json::from_str(data.trim()).ok())
        .collect()
}

fn usage_of(doc: &Value) -> Option<&Value> {
    let places = [
        "/usage",
        "/response/usage",
        "/message/usage",
        "/usageMetadata",
        "/x_groq/usage",
    ];
    places
        .iter()
        .filter_map(|place| doc.pointer(place))
        .find(|usage| usage.is_object())
}

fn sum(usage: &Value, names: &[&str]) -> u64 {
    names
        .iter()
        .map(|name| usage.pointer(name).and_then(Value::as_u64).unwrap_or(0))
        .sum()
}

/// The cost that a provider states in a usage object.
fn stated_cost(usage: &Value) -> Option<Decimal> {
    let number = |place: &str| {
        let number = usage.pointer(place).filter(|value| value.is_number())?;
        let text = number.to_string();
        let exact = text.parse().or_else(|_| Decimal::from_scientific(&text));
        Some(exact.unwrap().round_dp(15).normalize())
    };
    let ticks = |ticks: Decimal| (ticks / Decimal::from(10_000_000_000_u64)).normalize();
    let upstream = number("/cost_details/upstream_inference_cost");
    let upstream = upstream
        .filter(|_| usage["is_byok"] == true)
        .unwrap_or_default();
    number("/cost")
        .map(|cost| cost + upstream)
        .or_else(|| number("/cost/total_cost"))
        .or_else(|| {
            number("/cost_in_usd_ticks")
                .filter(|n| !n.is_zero())
                .map(ticks)
        })
}

/// Input, cached, cache written, output, reasoning.
type Figures = [u64; 5];

fn openai(usage: &Value) -> Figures {
    let cached = [
        "/prompt_tokens_details/cached_tokens",
        "/input_tokens_details/cached_tokens",
        "/cached_tokens",
    ]
    .map(|name| sum(usage, &[name]))
    .into_iter()
    .max()
    .unwrap();
    let named = sum(usage, &["/prompt_tokens", "/input_tokens"]);
    let total_only = named == 0 && usage["completion_tokens"].is_null();
    let input = if total_only {
        sum(usage, &["/total_tokens"])
    } else {
        named
    };
    let cached = cached.min(input);
    let output = sum(usage, &["/completion_tokens", "/output_tokens"]);
    let reasoning = sum(
        usage,
        &[
            "/completion_tokens_details/reasoning_tokens",
            "/output_tokens_details/reasoning_tokens",
        ],
    );
    let total = sum(usage, &["/total_tokens"]);
    let xai = total > input + output;
    let write = sum(
        usage,
        &[
            "/prompt_tokens_details/cache_write_tokens",
            "/input_tokens_details/cache_write_tokens",
        ],
    );
    [
        input,
        cached,
        write,
        output + if xai { reasoning } else { 0 },
        reasoning,
    ]
}

fn anthropic(documents: &[Value]) -> Figures {
    let mut merged = serde_json::Map::new();
    for usage in documents.iter().filter_map(usage_of) {
        merged.extend(usage.as_object().unwrap().clone());
    }
    let usage = Value::Object(merged);
    let cached = sum(&usage, &["/cache_read_input_tokens"]);
    let write = sum(&usage, &["/cache_creation_input_tokens"]);
    let input = sum(&usage, &["/input_tokens"]) + cached + write;
    let thinking = sum(&usage, &["/output_tokens_details/thinking_tokens"]);
    [
        input,
        cached,
        write,
        sum(&usage, &["/output_tokens"]),
        thinking,
    ]
}

fn gemini(usage: &Value) -> Figures {
    let thoughts = sum(usage, &["/thoughtsTokenCount"]);
    [
        sum(usage, &["/promptTokenCount", "/toolUsePromptTokenCount"]),
        sum(usage, &["/cachedContentTokenCount"]),
        0,
        sum(usage, &["/candidatesTokenCount"]) + thoughts,
        thoughts,
    ]
}

fn expected(api: &str, documents: &[Value]) -> Option<Figures> {
    let last = documents.iter().filter_map(usage_of).next_back()?;
    Some(match api {
        "messages" => anthropic(documents),
        "generateContent" | "streamGenerateContent" => gemini(last),
        _ => openai(last),
    })
}

fn figures(usage: &Usage) -> Figures {
    [
        usage.input_total(),
        usage.cache_read_total(),
        usage.cache_write_total(),
        usage.output_total(),
        usage.get(Class::Reasoning),
    ]
}

struct Recording {
    id: String,
    api: String,
    stream: bool,
    body: String,
}

fn metered() -> Vec<Recording> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    recordings()
        .iter()
        .filter(|item| item["response"]["status"] == 200)
        // Binary streams have no meter of events, other paths no endpoint.
        .filter(|item| item["response"]["encoding"].is_null())
        .filter_map(|item| Some((item, endpoint(item["api"].as_str()?)?)))
        .map(|(item, api)| Recording {
            id: text(&item["id"]),
            api: api.to_owned(),
            stream: item["stream"].as_bool().unwrap(),
            body: text(&item["response"]["body"]),
        })
        .collect()
}

#[test]
fn usage_of_every_recording() {
    let (mut with_usage, mut without) = (0, 0);
    for item in metered() {
        let documents = documents(item.stream, &item.body);
        let expected = expected(&item.api, &documents);
        for size in SIZES {
            let meter = if item.stream {
                meter_stream
            } else {
                meter_body
            };
            let observed = meter(kind(&item.api), item.body.as_bytes(), size);
            assert_eq!(
                observed.reported_usage().as_ref().map(figures),
                expected,
                "{} in {size}",
                item.id
            );
            let settled = observed.usage(true, 1);
            let cost = documents
                .iter()
                .filter_map(usage_of)
                .next_back()
                .and_then(stated_cost);
            assert_eq!(settled.reported_cost, cost, "{}", item.id);
            // No count that a real provider sends is unknown to the meter; one caches more than
            // the prompt has.
            let unknown = settled.inexact.contains(Reason::UnknownUsage);
            let contradicts = documents.iter().filter_map(usage_of).any(|usage| {
                sum(usage, &["/prompt_tokens_details/cached_tokens"])
                    > sum(usage, &["/prompt_tokens"])
            });
            assert_eq!(unknown, contradicts, "{}", item.id);
            assert_eq!(
                settled.source == UsageSource::Reported,
                expected.is_some(),
                "{}",
                item.id
            );
            let named = documents.iter().find_map(|doc| {
                let places = [
                    "/model",
                    "/message/model",
                    "/response/model",
                    "/modelVersion",
                ];
                places
                    .iter()
                    .find_map(|p| doc.pointer(p)?.as_str().filter(|name| !name.is_empty()))
            });
            assert_eq!(observed.model.as_deref(), named, "{}", item.id);
        }
        *(if expected.is_some() {
            &mut with_usage
        } else {
            &mut without
        }) += 1;
    }
    println!("recordings with usage: {with_usage}, without: {without}");
    assert!(
        folder().is_none() || with_usage >= 150,
        "recordings with usage: {with_usage}"
    );
}

/// Whether the stream says that it is complete; Kimi and Snowflake end without a word.
fn says_its_end(item: &Recording) -> bool {
    let finish = |doc: &Value| {
        let reason = |place| {
            doc.pointer(place)
                .and_then(Value::as_str)
                .is_some_and(|r| !r.is_empty())
        };
        let kinds = ["message_stop", "response.completed", "response.incomplete"];
        doc["type"]
            .as_str()
            .is_some_and(|kind| kinds.contains(&kind))
            || reason("/choices/0/finish_reason")
            || reason("/candidates/0/finishReason")
    };
    item.body.contains("data: [DONE]") || documents(true, &item.body).iter().any(finish)
}

#[test]
fn every_recorded_stream_is_seen_to_end_or_to_fail() {
    for item in metered().iter().filter(|item| item.stream) {
        let observed = meter_stream(kind(&item.api), item.body.as_bytes(), usize::MAX);
        let error = documents(true, &item.body).iter().any(|doc| {
            doc.get("error").is_some_and(Value::is_object)
                || matches!(doc["type"].as_str(), Some("error" | "response.failed"))
        });
        assert_eq!(observed.failed, error, "{}", item.id);
        assert_eq!(observed.finished, says_its_end(item), "{}", item.id);
        assert!(
            observed.content_started() || error || observed.text_bytes == 0,
            "{}",
            item.id
        );
    }
}

/// What the filter must leave: the stream without the extra chunk and without null usage.
fn filtered(body: &str) -> String {
    let mut out = String::new();
    for event in body.split_inclusive("\n\n") {
        let data = event.trim_start_matches("data:").trim();
        let doc: Value = serde_json::from_str(data).unwrap_or_default();
        if doc["choices"].as_array().is_some_and(Vec::is_empty) && doc["usage"].is_object() {
            continue;
        }
        if doc
            .as_object()
            .is_some_and(|doc| doc.get("usage").is_some_and(Value::is_null))
        {
            let one = [",\"usage\":null", ", \"usage\": null"]
                .iter()
                .find(|text| event.matches(**text).count() == 1)
                .unwrap();
            out.push_str(&event.replace(one, ""));
        } else {
            out.push_str(event);
        }
    }
    out
}

#[test]
fn the_filter_takes_out_only_what_was_asked_for() {
    let mut changed = 0;
    for item in metered() {
        if !item.stream || !matches!(item.api.as_str(), "chat" | "completions") {
            continue;
        }
        let expected = filtered(&item.body);
        changed += usize::from(expected != item.body);
        for size in SIZES {
            let kind = kind(&item.api);
            let (out, observed) = filter_stream(kind, item.body.as_bytes(), size);
            assert_eq!(
                String::from_utf8(out).unwrap(),
                expected,
                "{} in {size}",
                item.id
            );
            let plain = meter_stream(kind, item.body.as_bytes(), size);
            assert_eq!(
                observed.reported_usage(),
                plain.reported_usage(),
                "{}",
                item.id
            );
        }
    }
    println!("recorded streams that the filter changes: {changed}");
    assert!(
        folder().is_none() || changed >= 15,
        "streams changed: {changed}"
    );
}
