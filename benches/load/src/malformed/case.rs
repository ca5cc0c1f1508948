//! One malformed request: how it is put together, and which of them number N is. Same seed and
//! number, same bytes.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use super::content::{self, pick};
use super::framing;
use crate::bed::KEY;

/// Caller whose error format the answer must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallerFormat {
    OpenAi,
    Anthropic,
    /// The request is too broken to tell: either will do.
    Unknown,
}

/// One malformed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MalformedCase {
    pub(crate) caller: CallerFormat,
    pub(crate) bytes: Vec<u8>,
    /// Say that nothing follows, for else the server would rightly wait for more.
    pub(crate) half_close: bool,
    /// Odd as it is, it may reach the provider, whose answer then is right.
    pub(crate) may_pass: bool,
    /// Answers to read at most.
    pub(crate) answers: usize,
}

impl MalformedCase {
    /// Case number `index` of `seed`, with the name of its kind.
    pub(crate) fn number(seed: u64, index: u64) -> (&'static str, Self) {
        let mut rng = StdRng::seed_from_u64(seed ^ index.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let (name, make) = KINDS[(index % KINDS.len() as u64) as usize];
        (name, make(&mut rng))
    }

    /// Bytes that are no request.
    pub(super) fn from_bytes(bytes: Vec<u8>) -> Self {
        let caller = CallerFormat::Unknown;
        Self {
            caller,
            bytes,
            half_close: false,
            may_pass: false,
            answers: 1,
        }
    }

    /// The same, with the sending side closed after it.
    pub(super) fn half_closed(self) -> Self {
        Self {
            half_close: true,
            ..self
        }
    }
}

type Make = fn(&mut StdRng) -> MalformedCase;

/// All kinds, each as frequent as the others.
pub(super) const KINDS: [(&str, Make); 23] = [
    ("JSON cut short", content::cut),
    ("JSON with bytes changed", content::flip_bytes),
    ("noise for JSON", content::noise),
    ("wrong types", content::wrong_type),
    ("no object", content::no_object),
    ("no UTF-8", content::no_text),
    ("deep nesting", content::deep),
    ("extreme numbers and strings", content::extreme),
    ("bad content-length", framing::bad_length),
    ("two framings", framing::two_framings),
    ("bad chunks", framing::bad_chunks),
    ("body cut short", framing::body_cut),
    ("body too large", framing::too_large),
    ("head cut short", framing::head_cut),
    ("huge head", framing::huge_head),
    ("bad header line", framing::bad_header),
    ("bad request line", framing::bad_line),
    ("long path", framing::long_path),
    ("bad key", framing::bad_key),
    ("pipelined rubbish", framing::pipeline),
    ("other protocol", framing::other_protocol),
    ("noise for HTTP", framing::noise),
    ("bad content coding", framing::bad_coding),
];

const PATHS: [(CallerFormat, &str); 8] = [
    (CallerFormat::OpenAi, "/v1/chat/completions"),
    (CallerFormat::OpenAi, "/v1/completions"),
    (CallerFormat::OpenAi, "/v1/embeddings"),
    (CallerFormat::OpenAi, "/v1/responses"),
    (CallerFormat::OpenAi, "/api/v1/chat/completions"),
    (CallerFormat::Anthropic, "/v1/messages"),
    (CallerFormat::Anthropic, "/v1/messages/count_tokens"),
    (CallerFormat::Anthropic, "/api/v1/messages"),
];

/// A request that is being put together, sound until something is broken in it.
pub(super) struct CaseDraft {
    caller: CallerFormat,
    line: String,
    key: String,
    headers: String,
}

impl CaseDraft {
    /// A POST to one of the paths. Anthropic's carry the version header as its SDKs do.
    pub(super) fn new(rng: &mut StdRng) -> Self {
        let (caller, path) = pick(rng, &PATHS);
        let mut headers = "host: 127.0.0.1\r\ncontent-type: application/json\r\n".to_owned();
        if caller == CallerFormat::Anthropic {
            headers.push_str("anthropic-version: 2023-06-01\r\n");
        }
        let bearer = rng.random_bool(0.5);
        let key = if bearer {
            "authorization: Bearer "
        } else {
            "x-api-key: "
        };
        Self {
            caller,
            line: format!("POST {path} HTTP/1.1"),
            key: format!("{key}{KEY}"),
            headers,
        }
    }

    pub(super) fn header(mut self, line: &str) -> Self {
        self.headers.push_str(line);
        self.headers.push_str("\r\n");
        self
    }

    /// Another line for the key.
    pub(super) fn key(self, line: &str) -> Self {
        Self {
            key: line.to_owned(),
            ..self
        }
    }

    /// Another request line. Only the path tells the format, so either will do then.
    pub(super) fn line(self, line: &str) -> Self {
        Self {
            line: line.to_owned(),
            caller: CallerFormat::Unknown,
            ..self
        }
    }

    /// With `body` and its right length.
    pub(super) fn send(self, body: &[u8]) -> MalformedCase {
        let case = self
            .header(&format!("content-length: {}", body.len()))
            .raw(body);
        MalformedCase {
            may_pass: may_pass(body),
            ..case
        }
    }

    /// With whatever follows the head.
    pub(super) fn raw(self, rest: &[u8]) -> MalformedCase {
        let Self {
            caller,
            line,
            key,
            headers,
        } = self;
        let head = format!("{line}\r\n{key}\r\n{headers}\r\n");
        MalformedCase {
            caller,
            ..MalformedCase::from_bytes([head.as_bytes(), rest].concat())
        }
    }
}

/// Returns true if a router that reads only `model` and `stream` may accept `body`.
fn may_pass(body: &[u8]) -> bool {
    let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
        return false;
    };
    let model = fields
        .get("model")
        .and_then(Value::as_str)
        .is_some_and(|name| !name.is_empty());
    let stream = fields
        .get("stream")
        .is_none_or(|stream| stream.is_boolean() || stream.is_null());
    model && stream
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_is_the_same_case() {
        for index in 0..500 {
            assert_eq!(
                MalformedCase::number(7, index),
                MalformedCase::number(7, index)
            );
        }
        let differ = |index| MalformedCase::number(7, index) != MalformedCase::number(8, index);
        assert!((0..500).filter(|&index| differ(index)).count() > 300);
    }

    #[test]
    fn all_kinds_take_turns_and_send_something() {
        for index in 0..2000_u64 {
            let (name, case) = MalformedCase::number(1, index);
            assert_eq!(name, KINDS[(index % 23) as usize].0);
            assert!(!case.bytes.is_empty(), "{name} {index}");
        }
    }

    #[test]
    fn what_may_pass() {
        let table = [
            (r#"{"model":"bench"}"#, true),
            (r#"{"model":"x","stream":true}"#, true),
            (r#"{"model":"x","stream":null}"#, true),
            (r#"{"model":"x","stream":"yes"}"#, false),
            (r#"{"model":1}"#, false),
            (r#"{"model":""}"#, false),
            (r#"{}"#, false),
            (r#"["model"]"#, false),
            (r#"{"model":"x""#, false),
        ];
        for (body, expected) in table {
            assert_eq!(may_pass(body.as_bytes()), expected, "{body}");
        }
    }

    #[test]
    fn few_cases_may_pass() {
        let cases = 23 * 200;
        let passing = (0..cases)
            .filter(|&index| MalformedCase::number(3, index).1.may_pass)
            .count() as u64;
        assert!(passing > 0 && passing < cases / 10, "{passing} of {cases}");
    }
}
