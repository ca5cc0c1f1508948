//! Mutated inputs for everything that reads what others send: requests, answers, streams, errors,
//! configuration, prices. Nothing may panic, and nothing may take long.
//!
//! Two seconds for each reader in the suite; `FUZZ_SECONDS` sets another time. Seeds are the fixtures
//! of the formats, and with `RECORDINGS` the recorded answers in that folder. A failure prints the
//! reader, the seed number of its random numbers and the input.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use llm_router_domain::format::{Endpoint, Format};
use llm_router_wire::bounds::RequestBounds;
use llm_router_wire::coding::Codings;
use llm_router_wire::request::RequestHead;
use llm_router_wire::stream::AnswerStream;
use llm_router_wire::translate::{
    RequestOptions, ResponseContext, translate_count_request, translate_error, translate_request,
    translate_response,
};
use llm_router_wire::usage::{BodyMeter, UsageLayout};
use llm_router_wire::{body, error, prompt};

/// Longest input, in bytes.
const LONGEST: usize = 64 * 1024;

/// Time that one input may take in a debug build on a busy machine.
const MOST_TIME: Duration = Duration::from_secs(5);

/// A reader and the fixtures that its inputs are made of.
struct Target {
    name: &'static str,
    folders: &'static [&'static str],
    read: fn(&[u8], &mut Rng),
}

const WIRE: &str = "crates/wire/tests/translate";

const TARGETS: [Target; 7] = [
    Target {
        name: "requests",
        folders: &["requests"],
        read: read_request,
    },
    Target {
        name: "translated requests",
        folders: &["requests"],
        read: read_translated_request,
    },
    Target {
        name: "answers",
        folders: &["answers", "errors"],
        read: read_answer,
    },
    Target {
        name: "streams",
        folders: &["streams"],
        read: read_stream,
    },
    Target {
        name: "coded answers",
        folders: &["answers"],
        read: read_coded,
    },
    Target {
        name: "configuration",
        folders: &["conf"],
        read: read_configuration,
    },
    Target {
        name: "prices and facts",
        folders: &["conf"],
        read: read_prices,
    },
];

fn read_request(input: &[u8], _: &mut Rng) {
    for endpoint in Endpoint::ALL {
        let _ = RequestBounds::read(input, endpoint);
    }
    let _ = prompt::input_at_most(input, 1_000, true);
    let _ = prompt::Prompt::read(input);
    let body = Bytes::copy_from_slice(input);
    if let Ok(head) = RequestHead::read(&body) {
        let change = head.ask_for_usage(&body);
        let sent = head.rewrite(&body, "another", change.as_ref()).concat();
        let sent = Bytes::from(sent);
        let again = RequestHead::read(&sent);
        assert!(again.is_ok_and(|again| again.model == "another"));
    }
}

fn read_translated_request(input: &[u8], rng: &mut Rng) {
    let options = RequestOptions {
        max_output: rng.bool().then_some(1_000),
        ..RequestOptions::default()
    };
    for from in Format::ALL {
        for to in Format::ALL {
            if let Ok(translated) = translate_request(from, to, input, "target", &options) {
                let json = serde_json::from_slice::<serde_json::Value>(&translated.body);
                assert!(json.is_ok(), "{from} to {to} isn't JSON");
            }
        }
        let _ = translate_count_request(from, input, "target", &options);
    }
}

fn read_answer(input: &[u8], rng: &mut Rng) {
    let context = ResponseContext::default();
    for from in Format::ALL {
        for to in Format::ALL {
            if let Ok(translated) = translate_response(from, to, input, &context) {
                let json = serde_json::from_slice::<serde_json::Value>(&translated);
                assert!(json.is_ok(), "{from} to {to} isn't JSON");
            }
            let (_, shown) = translate_error(from, to, 400, input, "req-1");
            let json = serde_json::from_slice::<serde_json::Value>(&shown);
            assert!(json.is_ok(), "an error of {from} to {to} isn't JSON");
        }
        for endpoint in Endpoint::ALL {
            let _ = body::judge_body(from, endpoint, input);
            let mut meter = BodyMeter::new(UsageLayout::for_endpoint(from, endpoint));
            for chunk in pieces(input, rng) {
                meter.feed(Bytes::copy_from_slice(chunk));
            }
            let _ = meter.finish();
        }
    }
    let _ = error::provider_message(input);
    let _ = error::provider_details(input);
    let _ = error::account_error(429, input);
    let _ = error::begins_with_error(input);
    let _ = error::body_status(input);
}

fn read_stream(input: &[u8], rng: &mut Rng) {
    for from in Format::ALL {
        for endpoint in Endpoint::ALL {
            let translated = AnswerStream::translate(from, endpoint, ResponseContext::default());
            let streams = [
                Some(AnswerStream::pass_through(from, endpoint)),
                Some(AnswerStream::without_usage(from, endpoint)),
                translated.ok(),
            ];
            for mut stream in streams.into_iter().flatten() {
                for chunk in pieces(input, rng) {
                    let _ = stream.push(Bytes::copy_from_slice(chunk));
                }
                let _ = stream.end();
                let _ = stream.final_observations();
            }
        }
    }
}

fn read_coded(input: &[u8], rng: &mut Rng) {
    for name in ["gzip", "deflate", "br", "zstd", "gzip, br"] {
        let Codings::Known(mut decoder) = Codings::read(std::iter::once(name)) else {
            panic!("{name} is not known");
        };
        let mut chunks = pieces(input, rng).into_iter();
        if chunks.all(|chunk| decoder.push(chunk, false).is_ok()) {
            let _ = decoder.push(&[], true);
        }
    }
}

fn read_configuration(input: &[u8], _: &mut Rng) {
    let text = String::from_utf8_lossy(input);
    let environment = llm_router_config::Environment::new([("KEY", "0123456789abcdef")]);
    match llm_router_config::load_text(&text, Path::new("a.yaml"), &environment) {
        Ok(loaded) => drop(loaded.warnings.render()),
        Err(report) => assert!(report.has_errors()),
    }
}

fn read_prices(input: &[u8], _: &mut Rng) {
    let text = String::from_utf8_lossy(input);
    let _ = llm_router_prices::read(&text);
    let _ = llm_router_prices::read_facts(&text);
}

/// Cuts an input at random places.
fn pieces<'i>(input: &'i [u8], rng: &mut Rng) -> Vec<&'i [u8]> {
    let longest = [1, 7, 100, 5_000][rng.usize(..4)].max(input.len() / 200);
    let mut rest = input;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rng.usize(1..=longest).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// Texts that parsers take apart.
const TOKENS: [&str; 28] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    ":",
    ",",
    "\\",
    "\\u0000",
    "\\ud800",
    "null",
    "true",
    "-1",
    "1e999",
    "99999999999999999999",
    "0.1",
    "\u{feff}",
    "\n\n",
    "\r\n\r\n",
    "data: ",
    "event: ",
    ": ",
    "[DONE]",
    "data: {}\n\n",
    "&a ",
    "*a",
    "${KEY}",
    "- ",
];

/// Changes an input in one to eight places.
fn mutate(seeds: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut input = seeds[rng.usize(..seeds.len())].clone();
    for _ in 0..rng.usize(1..=8) {
        let at = rng.usize(..=input.len());
        let end = rng.usize(at..=input.len().min(at + 200));
        match rng.usize(..9) {
            0 if at < input.len() => input[at] = rng.u8(..),
            1 => drop(input.drain(at..end)),
            2 => {
                let copy = input[at..end].to_vec();
                let times = [1, 2, 50][rng.usize(..3)];
                drop(input.splice(at..at, copy.repeat(times)));
            }
            3 => {
                let other = &seeds[rng.usize(..seeds.len())];
                let from = rng.usize(..=other.len());
                let to = rng.usize(from..=other.len().min(from + 2_000));
                drop(input.splice(at..end, other[from..to].iter().copied()));
            }
            4 => {
                let token = TOKENS[rng.usize(..TOKENS.len())];
                drop(input.splice(at..at, token.bytes()));
            }
            5 => {
                let token = TOKENS[rng.usize(..TOKENS.len())];
                drop(input.splice(at..at, token.repeat(rng.usize(1..400)).into_bytes()));
            }
            6 => input.truncate(at),
            7 => input.rotate_left(at),
            _ => {
                let digits = input.iter_mut().filter(|byte| byte.is_ascii_digit());
                if let Some(digit) = digits.last() {
                    *digit = b'9';
                }
            }
        }
    }
    input.truncate(LONGEST);
    input
}

fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![b"{}".to_vec()];
    for folder in target.folders {
        let folder = match *folder {
            "conf" => root.join("conf"),
            wire => root.join(WIRE).join(wire),
        };
        for file in files(&folder) {
            let mut text = fs::read(file).unwrap();
            text.truncate(LONGEST / 4);
            found.push(text);
        }
    }
    assert!(found.len() > 3, "{}: no seeds", target.name);
    found
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    // The order of a folder differs between machines.
    found.sort();
    found
}

#[test]
fn nothing_that_is_read_panics() {
    let seconds = std::env::var("FUZZ_SECONDS").ok();
    let seconds: f64 = seconds.map_or(2.0, |seconds| seconds.parse().unwrap());
    for target in &TARGETS {
        let seeds = seeds(target);
        let began = Instant::now();
        let (mut runs, mut slowest) = (0_u64, Duration::ZERO);
        while began.elapsed().as_secs_f64() < seconds {
            let mut rng = Rng::with_seed(runs);
            let input = mutate(&seeds, &mut rng);
            let asked = Instant::now();
            let read = || (target.read)(&input, &mut rng);
            if catch_unwind(AssertUnwindSafe(read)).is_err() {
                let text = String::from_utf8_lossy(&input);
                panic!("{}: run {runs} panicked on {text:?}", target.name);
            }
            let took = asked.elapsed();
            slowest = slowest.max(took);
            assert!(
                took < MOST_TIME,
                "{}: run {runs} took {took:?} for {} bytes",
                target.name,
                input.len()
            );
            runs += 1;
        }
        println!("{}: {runs} inputs, the slowest {slowest:?}", target.name);
    }
}

/// An answer that is made to be costly to read, of a size.
type Shape = (&'static str, Format, fn(usize) -> String);

/// Answers of many small parts, in every place that a format repeats.
fn costly_shapes() -> Vec<Shape> {
    use Format::{AnthropicMessages, Gemini, OpenAiChat, OpenAiResponses};
    vec![
        ("line ends", OpenAiChat, |size| "\n".repeat(20 * size)),
        ("comments", AnthropicMessages, |size| {
            ": x\n\n".repeat(4 * size)
        }),
        ("white space", OpenAiChat, |size| " \n".repeat(10 * size)),
        ("one long line", OpenAiChat, |size| {
            format!("data: {{\"x\":\"{}\"}}\n\n", "y".repeat(20 * size))
        }),
        ("one long line without an end", Gemini, |size| {
            format!("data: {}", "y".repeat(20 * size))
        }),
        ("one event of many fields", AnthropicMessages, |size| {
            "data: 1\n".repeat(4 * size)
        }),
        ("texts", OpenAiChat, |size| {
            let event = r#"data: {"choices":[{"index":0,"delta":{"content":"x"}}]}"#;
            format!("{event}\n\n").repeat(size)
        }),
        ("calls of one event", OpenAiChat, |size| {
            let call = |index: usize| {
                format!(
                    r#"{{"index":{index},"id":"c{index}","function":{{"name":"f","arguments":"{{}}"}}}}"#
                )
            };
            let calls: Vec<String> = (0..size).map(call).collect();
            format!(
                "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{}]}}}}]}}\n\ndata: [DONE]\n\n",
                calls.join(",")
            )
        }),
        ("calls of many events", OpenAiChat, |size| {
            let event = |index: usize| {
                format!(
                    "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"tool_calls\":[{{\"index\":{index},\
                     \"id\":\"c\",\"function\":{{\"name\":\"f\",\"arguments\":\"{{}}\"}}}}]}}}}]}}\n\n"
                )
            };
            (0..size).map(event).collect()
        }),
        ("choices of one event", OpenAiChat, |size| {
            let choice = |index: usize| format!(r#"{{"index":{index},"delta":{{"content":"x"}}}}"#);
            let choices: Vec<String> = (0..size).map(choice).collect();
            format!("data: {{\"choices\":[{}]}}\n\n", choices.join(","))
        }),
        ("blocks", AnthropicMessages, |size| {
            let event = |index: usize| {
                format!(
                    "event: content_block_start\ndata: {{\"type\":\"content_block_start\",\"index\":{index},\
                     \"content_block\":{{\"type\":\"tool_use\",\"id\":\"t\",\"name\":\"f\",\"input\":{{}}}}}}\n\n"
                )
            };
            (0..size).map(event).collect()
        }),
        ("items", OpenAiResponses, |size| {
            let event = |index: usize| {
                format!(
                    "data: {{\"type\":\"response.output_item.added\",\"output_index\":{index},\
                     \"item\":{{\"type\":\"function_call\",\"id\":\"i\",\"call_id\":\"c\",\"name\":\"f\",\
                     \"arguments\":\"\"}}}}\n\n"
                )
            };
            (0..size).map(event).collect()
        }),
        ("parts", Gemini, |size| {
            let part = r#"{"functionCall":{"name":"f","args":{}}}"#;
            let parts = vec![part; size].join(",");
            format!("data: {{\"candidates\":[{{\"content\":{{\"parts\":[{parts}]}}}}]}}\n\n")
        }),
    ]
}

/// Reads an answer in chunks of 1 KiB, in the provider's format and translated for every client.
fn read_shape(from: Format, text: &str) {
    for endpoint in [
        Endpoint::ChatCompletions,
        Endpoint::Responses,
        Endpoint::Messages,
    ] {
        let translated = AnswerStream::translate(from, endpoint, ResponseContext::default());
        let mut stream = translated.unwrap_or_else(|_| AnswerStream::pass_through(from, endpoint));
        for chunk in text.as_bytes().chunks(1_024) {
            let _ = stream.push(Bytes::copy_from_slice(chunk));
        }
        let _ = stream.end();
        let _ = stream.final_observations();
    }
    let plain = text.lines().find_map(|line| line.strip_prefix("data: "));
    let plain = plain.unwrap_or(text).replace("\"delta\"", "\"message\"");
    for to in Format::ALL {
        let _ = translate_response(from, to, plain.as_bytes(), &ResponseContext::default());
    }
    let mut meter = BodyMeter::new(UsageLayout::for_endpoint(from, Endpoint::ChatCompletions));
    for chunk in text.as_bytes().chunks(1_024) {
        meter.feed(Bytes::copy_from_slice(chunk));
    }
    let _ = meter.finish();
}

#[test]
fn readers_take_time_in_proportion_to_what_they_read() {
    const SIZE: usize = 1_500;
    const FACTOR: usize = 4;
    // Quadratic time would be sixteen times; caches and a busy machine account for the rest.
    const MOST: f64 = 9.0;
    let fastest = |from: Format, text: &str| {
        let runs = (0..3).map(|_| {
            let began = Instant::now();
            read_shape(from, text);
            began.elapsed().as_secs_f64()
        });
        runs.fold(f64::MAX, f64::min)
    };
    let mut slow = Vec::new();
    for (name, from, shape) in costly_shapes() {
        let once = fastest(from, &shape(SIZE));
        let more = fastest(from, &shape(FACTOR * SIZE));
        let ratio = more / once;
        println!(
            "{name} of {from}: {:.1} ms, {FACTOR} times as much {ratio:.1} times as long",
            once * 1e3
        );
        if ratio > MOST {
            slow.push(format!("{name} of {from}: {ratio:.1}"));
        }
    }
    assert!(slow.is_empty(), "{slow:?}");
}
