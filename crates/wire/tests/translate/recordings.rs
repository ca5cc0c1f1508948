//! Real providers' exchanges, read where they lie; without them there is nothing to test here.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use llm_router_domain::format::Format;
use llm_router_wire::translate::{translate_error, translate_request, translate_response};
use serde_json::Value;

use crate::fixtures::{CLIENTS, PROVIDERS, context, model, options};
use crate::streams::{StreamEnd, marks, stream};

struct Recording {
    id: String,
    format: Format,
    stream: bool,
    status: u16,
    request: Value,
    body: String,
}

/// The recordings of calls that are translated, or none and a word about it.
#[expect(
    clippy::print_stdout,
    reason = "a test that tests nothing has to say so"
)]
fn recordings() -> Vec<Recording> {
    let Some(folder) = folder() else {
        println!("SKIPPED: no recordings; set RECORDINGS to their folder to test with them");
        return Vec::new();
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "gz") {
            let mut text = String::new();
            let file = std::fs::File::open(&path).unwrap();
            flate2::read::GzDecoder::new(file)
                .read_to_string(&mut text)
                .unwrap();
            let items: Vec<Value> = serde_json::from_str(&text).unwrap();
            found.extend(items.iter().filter_map(read));
        }
    }
    assert!(
        !found.is_empty(),
        "{} holds no recordings",
        folder.display()
    );
    found
}

fn folder() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/recordings");
    let given = std::env::var_os("RECORDINGS").map(PathBuf::from);
    [given, Some(beside)]
        .into_iter()
        .flatten()
        .find(|folder| folder.is_dir())
}

fn read(item: &Value) -> Option<Recording> {
    let format = match item["api"].as_str()? {
        "chat" => Format::OpenAiChat,
        "responses" => Format::OpenAiResponses,
        "messages" => Format::AnthropicMessages,
        "generateContent" | "streamGenerateContent" => Format::Gemini,
        _ => return None,
    };
    Some(Recording {
        id: item["id"].as_str()?.to_owned(),
        format,
        stream: item["stream"].as_bool()?,
        status: u16::try_from(item["response"]["status"].as_u64()?).ok()?,
        request: item["request"]["body"].clone(),
        body: item["response"]["body"].as_str()?.to_owned(),
    })
}

#[test]
fn plain_answers_of_real_providers_translate() {
    for recording in recordings() {
        if recording.stream || recording.status != 200 {
            continue;
        }
        for to in CLIENTS.into_iter().filter(|to| *to != recording.format) {
            let body = recording.body.as_bytes();
            let out = translate_response(recording.format, to, body, &context());
            let out = out.unwrap_or_else(|error| panic!("{} {to}: {error}", recording.id));
            let out: Value = serde_json::from_slice(&out).unwrap();
            assert!(holds_something(to, &out), "{} {to}: {out}", recording.id);
        }
    }
}

fn holds_something(format: Format, answer: &Value) -> bool {
    match format {
        Format::AnthropicMessages => answer["content"].as_array().is_some(),
        Format::OpenAiResponses => answer["output"].as_array().is_some(),
        _ => answer["choices"][0]["finish_reason"].is_string(),
    }
}

#[test]
fn streams_of_real_providers_translate() {
    for recording in recordings() {
        if !recording.stream || recording.status != 200 {
            continue;
        }
        let bytes = recording.body.as_bytes();
        for to in CLIENTS.into_iter().filter(|to| *to != recording.format) {
            let run = |size: usize| {
                stream(
                    recording.format,
                    to,
                    bytes.chunks(size),
                    StreamEnd::Complete,
                    context(),
                )
            };
            let whole = run(bytes.len());
            assert_eq!(
                marks(to, &whole),
                (1, 1, 0),
                "{} {to}: {whole}",
                recording.id
            );
            for size in [1, 13, 1024] {
                assert!(
                    run(size) == whole,
                    "{} {to} in chunks of {size}",
                    recording.id
                );
            }
        }
    }
}

#[test]
fn errors_of_real_providers_keep_their_status_and_message() {
    for recording in recordings() {
        if recording.status < 400 {
            continue;
        }
        for to in CLIENTS.into_iter().filter(|to| *to != recording.format) {
            let body = recording.body.as_bytes();
            let (status, out) = translate_error(recording.format, to, recording.status, body, "r");
            let out: Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(status, recording.status, "{}", recording.id);
            let message = out["error"]["message"].as_str().unwrap();
            let theirs: Value = serde_json::from_slice(body).unwrap_or_default();
            if let Some(theirs) = theirs["error"]["message"].as_str() {
                assert!(
                    message.ends_with(theirs),
                    "{} {to}: {message}",
                    recording.id
                );
            }
        }
    }
}

/// Clients' real requests either translate or are refused by the name of a field.
#[test]
fn requests_of_real_clients_translate_or_name_what_does_not() {
    let mut counts = [0; 2];
    for recording in recordings() {
        if !recording.request.is_object() || recording.format == Format::Gemini {
            continue;
        }
        for to in PROVIDERS.into_iter().filter(|to| *to != recording.format) {
            let body = recording.request.to_string();
            let sent =
                translate_request(recording.format, to, body.as_bytes(), model(to), &options());
            match sent {
                Ok(_) => counts[0] += 1,
                Err(error) => {
                    counts[1] += 1;
                    println!("{} {to}: {error}", recording.id);
                    assert!(
                        error.status == 400 && error.param.is_some(),
                        "{}",
                        recording.id
                    );
                }
            }
        }
    }
    println!("{} translated, {} refused", counts[0], counts[1]);
}
