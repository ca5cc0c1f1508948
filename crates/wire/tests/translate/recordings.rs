//! Real providers' exchanges, read where they lie; without them there is nothing to test here.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use llm_router_domain::format::Format;
use llm_router_wire::translate::{translate_error, translate_request, translate_response};
use serde_json::Value;

use crate::facts::Facts;
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
    let more = std::fs::read_dir(folder.join("more")).into_iter().flatten();
    for entry in std::fs::read_dir(&folder).unwrap().chain(more) {
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

/// The folder of the recordings, seen from a work tree beside `shared/` or from one level below.
fn folder() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let beside = [
        "../../../shared/recordings",
        "../../../../shared/recordings",
    ];
    let given = std::env::var_os("RECORDINGS").map(PathBuf::from);
    given
        .into_iter()
        .chain(beside.map(|path| root.join(path)))
        .find(|folder| folder.is_dir())
}

fn read(item: &Value) -> Option<Recording> {
    let format = match item["api"].as_str()? {
        "chat" | "deployments.chat" | "models.chat" | "v1.chat" | "mantle.chat" => {
            Format::OpenAiChat
        }
        "responses" | "v1.responses" | "mantle.responses" | "other.responses" => {
            Format::OpenAiResponses
        }
        "messages" | "anthropic.messages" | "rawPredict" | "streamRawPredict" => {
            Format::AnthropicMessages
        }
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

/// Fields that recorded requests are refused for: servers that the provider would call, work and
/// conversations that it would keep, and sound given as a document.
const REFUSED: [&str; 4] = [
    "background",
    "conversation",
    "input.content.file_data",
    "mcp_servers",
];

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
                    let field = error.param.unwrap_or_default();
                    assert_eq!(error.status, 400, "{}", recording.id);
                    assert!(REFUSED.contains(&&*field), "{}: {field}", recording.id);
                }
            }
        }
    }
    println!("{} translated, {} refused", counts[0], counts[1]);
}

/// A fact that may differ between a recorded answer and its translation.
struct Difference {
    fact: &'static str,
    /// The number of answers in which it does, at most.
    answers: usize,
    /// The reason: docs/translation.md, "What an answer loses".
    #[expect(dead_code, reason = "for people")]
    why: &'static str,
}

const DIFFERENCES: [Difference; 4] = [
    Difference {
        fact: "provider_calls",
        answers: 36,
        why: "no other format has calls of tools that the provider ran; the text after them is kept",
    },
    Difference {
        fact: "quotes",
        answers: 8,
        why: "citations of documents by page or character have no counterpart; those by address do",
    },
    Difference {
        fact: "text",
        answers: 3,
        why: "Gemini's code and its output become text, for every client: more is said, not less",
    },
    Difference {
        fact: "probabilities",
        answers: 1,
        why: "messages have none",
    },
];

/// Every recorded answer says to clients of every format what the provider said.
#[test]
fn answers_of_real_providers_say_the_same_in_every_format() {
    let (mut compared, mut known) = (0, DIFFERENCES.map(|_| 0));
    let mut unknown = Vec::new();
    for recording in recordings() {
        if recording.status != 200 {
            continue;
        }
        let original = if recording.stream {
            Facts::stream(recording.format, &recording.body)
        } else {
            Facts::plain(
                recording.format,
                &serde_json::from_str(&recording.body).unwrap(),
            )
        };
        for to in CLIENTS.into_iter().filter(|to| *to != recording.format) {
            let body = recording.body.as_bytes();
            let translated = if recording.stream {
                let chunks = std::iter::once(body);
                let out = stream(recording.format, to, chunks, StreamEnd::Complete, context());
                Facts::stream(to, &out)
            } else {
                let out = translate_response(recording.format, to, body, &context()).unwrap();
                Facts::plain(to, &serde_json::from_slice(&out).unwrap())
            };
            for ((fact, said), (_, shown)) in original.named().iter().zip(translated.named()) {
                compared += 1;
                if *said == shown {
                    continue;
                }
                let entry = DIFFERENCES.iter().position(|known| known.fact == *fact);
                match entry {
                    Some(entry) => known[entry] += 1,
                    None => unknown.push(format!(
                        "{} {to} {fact}:\n  {said}\n  {shown}",
                        recording.id
                    )),
                }
            }
        }
    }
    println!("{compared} facts compared; differences: {known:?}");
    assert!(
        unknown.is_empty(),
        "{}\n{}",
        unknown.len(),
        unknown.join("\n")
    );
    for (found, entry) in known.into_iter().zip(DIFFERENCES) {
        assert!(found <= entry.answers, "{}: {found}", entry.fact);
    }
}
