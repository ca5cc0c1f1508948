//! Golden pairs: every provider's stream in every client's format, and what holds for all of them
//! wherever the chunks end.
//!
//! The first line of a fixture may be a comment with words: `broken` for a connection that broke,
//! `no-usage` for a client that didn't ask for usage.

use bytes::Bytes;
use llm_router_domain::format::Format;
use llm_router_wire::error::ErrorBody;
use llm_router_wire::stream::{AnswerStream, StreamStart};
use llm_router_wire::translate::ResponseContext;

use crate::fixtures::{CLIENTS, Fixture, PROVIDERS, assert_golden, context, endpoint, fixtures};

/// Translates a stream that comes in the chunks given.
pub(crate) fn stream<'c>(
    from: Format,
    to: Format,
    chunks: impl Iterator<Item = &'c [u8]>,
    end: StreamEnd,
    context: ResponseContext,
) -> String {
    let mut stream = AnswerStream::translate(from, endpoint(to), context).unwrap();
    let mut out = Vec::new();
    for chunk in chunks {
        out.extend_from_slice(&stream.push(Bytes::copy_from_slice(chunk)));
    }
    if matches!(end, StreamEnd::Complete) {
        out.extend_from_slice(&stream.end());
    }
    let begun = |start: &StreamStart| matches!(start, StreamStart::Content | StreamStart::Complete);
    let last = match stream.start().clone() {
        StreamStart::Error(error) => stream.break_off(&ErrorBody {
            status: error.status,
            code: "upstream_error",
            message: &error.message.unwrap_or_default(),
            ..BROKEN
        }),
        StreamStart::Pending if matches!(end, StreamEnd::Complete) => stream.break_off(&NO_ANSWER),
        _ if matches!(end, StreamEnd::Broken) => stream.break_off(&BROKEN),
        _ => Bytes::new(),
    };
    assert!(begun(stream.start()) || out.is_empty());
    assert!(!begun(stream.start()) || stream.has_ended());
    out.extend_from_slice(&last);
    String::from_utf8(out).unwrap()
}

/// The end of a provider's stream.
#[derive(Clone, Copy)]
pub(crate) enum StreamEnd {
    /// The provider closed it properly.
    Complete,
    /// It broke.
    Broken,
}

const BROKEN: ErrorBody<'static> = ErrorBody {
    status: 504,
    code: "upstream_timeout",
    message: "The provider went silent.",
    param: None,
    details: None,
    request_id: "req-1",
};

const NO_ANSWER: ErrorBody<'static> = ErrorBody {
    status: 502,
    code: "upstream_error",
    message: "The provider sent no answer.",
    ..BROKEN
};

/// The end and the context that a fixture's first line asks for.
fn case(fixture: &Fixture) -> (StreamEnd, ResponseContext) {
    let first = fixture.text.lines().next().unwrap_or_default();
    let words: Vec<&str> = match first.strip_prefix(':') {
        Some(words) => words.split_whitespace().collect(),
        None => Vec::new(),
    };
    let end = if words.contains(&"broken") {
        StreamEnd::Broken
    } else {
        StreamEnd::Complete
    };
    let include_usage = !words.contains(&"no-usage");
    let context = ResponseContext {
        include_usage,
        ..context()
    };
    (end, context)
}

fn all() -> impl Iterator<Item = (Format, Format, Fixture)> {
    PROVIDERS.into_iter().flat_map(|from| {
        fixtures("streams", from)
            .into_iter()
            .flat_map(move |fixture| {
                CLIENTS
                    .into_iter()
                    .filter(move |to| *to != from)
                    .map(move |to| {
                        let fixture = Fixture {
                            name: fixture.name.clone(),
                            text: fixture.text.clone(),
                        };
                        (from, to, fixture)
                    })
            })
    })
}

#[test]
fn streams_translate_as_before() {
    let mut names = std::collections::HashSet::new();
    for (from, to, fixture) in all() {
        let (end, context) = case(&fixture);
        let out = stream(
            from,
            to,
            std::iter::once(fixture.text.as_bytes()),
            end,
            context,
        );
        assert_golden("streams", from, &fixture.name, to, &out);
        names.insert((from, fixture.name));
    }
    assert!(names.len() >= 40, "{} fixtures", names.len());
}

#[test]
fn chunks_may_end_anywhere() {
    for (from, to, fixture) in all() {
        let (end, context) = case(&fixture);
        let bytes = fixture.text.as_bytes();
        let whole = stream(from, to, std::iter::once(bytes), end, context.clone());
        for size in [1, 7, 64] {
            let out = stream(from, to, bytes.chunks(size), end, context.clone());
            assert_eq!(
                out, whole,
                "{from} {to} {} in chunks of {size}",
                fixture.name
            );
        }
    }
}

#[test]
fn line_ends_may_be_any() {
    for (from, to, fixture) in all() {
        let (end, context) = case(&fixture);
        let whole = stream(
            from,
            to,
            std::iter::once(fixture.text.as_bytes()),
            end,
            context.clone(),
        );
        let crlf = fixture.text.replace('\n', "\r\n");
        let out = stream(from, to, std::iter::once(crlf.as_bytes()), end, context);
        assert_eq!(out, whole, "{from} {to} {}", fixture.name);
    }
}

/// What fixtures are called whose stream breaks or says so.
const FAILURES: [&str; 8] = [
    "broken",
    "cut_off",
    "error",
    "failed",
    "malformed",
    "not_json",
    "plain_error",
    "web_page",
];

/// Every stream ends once: properly, or in an error, and an error is not followed by anything.
#[test]
fn streams_end_once() {
    for (from, to, fixture) in all() {
        let (end, context) = case(&fixture);
        let out = stream(
            from,
            to,
            std::iter::once(fixture.text.as_bytes()),
            end,
            context,
        );
        let (starts, ends, errors) = marks(to, &out);
        let name = &fixture.name;
        let fails =
            name != "broken_after_finish" && FAILURES.iter().any(|word| name.contains(word));
        assert_eq!(errors, usize::from(fails), "{from} {to} {name}: {out}");
        assert_eq!(ends + errors, 1, "{from} {to} {name}: {out}");
        assert!(
            starts == 1 || (starts == 0 && errors == 1),
            "{from} {to} {name}: {out}"
        );
        if errors == 1 {
            let last = out.trim_end().rsplit("\n\n").next().unwrap();
            assert!(last.contains("error"), "{from} {to} {name}: {last}");
        }
    }
}

/// How often a stream starts, ends properly, and ends in an error.
pub(crate) fn marks(to: Format, out: &str) -> (usize, usize, usize) {
    let count = |needle: &str| out.split("\n\n").filter(|e| e.starts_with(needle)).count();
    match to {
        Format::AnthropicMessages => (
            count("event: message_start\n"),
            count("event: message_stop\n"),
            count("event: error\n"),
        ),
        Format::OpenAiResponses => (
            count("event: response.created\n"),
            count("event: response.completed\n") + count("event: response.incomplete\n"),
            count("event: error\n"),
        ),
        _ => (
            usize::from(out.contains("\"role\":\"assistant\",\"content\":\"\"")),
            count("data: [DONE]"),
            count("data: {\"error\""),
        ),
    }
}

/// A proxy keeps streams in contexts that its threads share.
#[test]
fn streams_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<AnswerStream>();
}

/// What streams as it comes: nothing waits for the next event.
#[test]
fn every_event_is_passed_on_at_once() {
    let chunk = |text: &str| {
        format!(
            "data: {{\"id\":\"c\",\"created\":1,\"model\":\"m\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
        )
    };
    for to in [Format::AnthropicMessages, Format::OpenAiResponses] {
        let stream = AnswerStream::translate(Format::OpenAiChat, endpoint(to), context());
        let mut stream = stream.unwrap();
        for text in ["one", "two", "three"] {
            let out = stream.push(Bytes::from(chunk(text)));
            let out = String::from_utf8(out.to_vec()).unwrap();
            assert!(out.contains(text) && out.ends_with("\n\n"), "{out}");
        }
    }
}
