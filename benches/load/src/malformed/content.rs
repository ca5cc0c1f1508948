//! Malformed content in valid HTTP: broken JSON, wrong types, bytes that are no text.

use rand::RngExt;
use rand::rngs::StdRng;

use super::case::{CaseDraft, MalformedCase};
use crate::payload::{self, MODEL};

/// Valid JSON up to some byte.
pub(super) fn cut(rng: &mut StdRng) -> MalformedCase {
    let mut body = chat(rng);
    body.truncate(rng.random_range(0..body.len()));
    CaseDraft::new(rng).send(&body)
}

/// A valid chat with some bytes changed.
pub(super) fn flip_bytes(rng: &mut StdRng) -> MalformedCase {
    let mut body = chat(rng);
    for _ in 0..rng.random_range(1..8) {
        let place = rng.random_range(0..body.len());
        if let Some(byte) = body.get_mut(place) {
            *byte ^= rng.random_range(1..=255_u8);
        }
    }
    CaseDraft::new(rng).send(&body)
}

/// Random bytes.
pub(super) fn noise(rng: &mut StdRng) -> MalformedCase {
    let mut body = vec![0; rng.random_range(0..4096)];
    rng.fill(body.as_mut_slice());
    CaseDraft::new(rng).send(&body)
}

const WRONG: [&str; 10] = [
    "1",
    "-1.5e308",
    "true",
    "[]",
    "{}",
    "[\"bench\"]",
    "{\"name\":\"bench\"}",
    "null",
    "\"\"",
    "1e999",
];

/// A field that the router reads, with a wrong type or left out.
pub(super) fn wrong_type(rng: &mut StdRng) -> MalformedCase {
    let value = pick(rng, &WRONG);
    let body = match rng.random_range(0..3) {
        0 => format!(r#"{{"model":{value},"messages":[]}}"#),
        1 => r#"{"messages":[{"role":"user","content":"hi"}]}"#.to_owned(),
        _ => format!(r#"{{"model":"{MODEL}","messages":[],"stream":{value}}}"#),
    };
    CaseDraft::new(rng).send(body.as_bytes())
}

/// JSON, but no object; or two of them; or an object with something behind it.
pub(super) fn no_object(rng: &mut StdRng) -> MalformedCase {
    let valid = format!(r#"{{"model":"{MODEL}","messages":[]}}"#);
    let body = match rng.random_range(0..8) {
        0 => "[]".to_owned(),
        1 => "\"chat\"".to_owned(),
        2 => "42".to_owned(),
        3 => "null".to_owned(),
        4 => format!("{valid}{valid}"),
        5 => format!("{valid} x"),
        6 => format!("\u{feff}{valid}"),
        _ => " \t\r\n".repeat(rng.random_range(0..999)),
    };
    CaseDraft::new(rng).send(body.as_bytes())
}

const NO_TEXT: [&[u8]; 6] = [
    b"\xff",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf5\x80\x80\x80",
    b"\xe2\x82",
    b"\x80\x80",
];

/// Bytes that are no UTF-8, in a field that is read and in one that isn't; lone surrogates; raw
/// control characters.
pub(super) fn no_text(rng: &mut StdRng) -> MalformedCase {
    let bytes: &[u8] = match rng.random_range(0..3) {
        0 => pick(rng, &NO_TEXT),
        1 => b"\\ud800",
        _ => b"\x00\x01\x1f",
    };
    let model = rng.random_bool(0.5);
    let (name, content): (&[u8], &[u8]) = if model {
        (bytes, b"")
    } else {
        (b"bench", bytes)
    };
    let body = [
        br#"{"model":""#.as_slice(),
        name,
        br#"","messages":[{"role":"user","content":""#,
        content,
        br#""}]}"#,
    ]
    .concat();
    let case = CaseDraft::new(rng).send(&body);
    // A lone surrogate is valid by RFC 8259's grammar, and none of the router's business outside
    // what it reads.
    let surrogate = bytes.starts_with(b"\\u");
    MalformedCase {
        may_pass: case.may_pass || (surrogate && !model),
        ..case
    }
}

/// Arrays or objects within each other, thousands deep, closed or not.
pub(super) fn deep(rng: &mut StdRng) -> MalformedCase {
    let depth = rng.random_range(1_000..60_000);
    let (open, close) = if rng.random_bool(0.5) {
        ("[", "]")
    } else {
        ("{\"a\":", "}")
    };
    let innermost = if open == "[" { "" } else { "1" };
    let closed = rng.random_bool(0.5);
    let end = if closed {
        close.repeat(depth)
    } else {
        String::new()
    };
    let nest = format!("{}{innermost}{end}", open.repeat(depth));
    let in_messages = rng.random_bool(0.5);
    let body = if in_messages {
        format!(r#"{{"model":"{MODEL}","messages":{nest}}}"#)
    } else {
        format!(r#"{{"model":{nest},"messages":[]}}"#)
    };
    let case = CaseDraft::new(rng).send(body.as_bytes());
    // Deep as it is, it's JSON, and the messages are the provider's to judge.
    MalformedCase {
        may_pass: closed && in_messages,
        ..case
    }
}

/// Numbers, strings and keys that no parser likes.
pub(super) fn extreme(rng: &mut StdRng) -> MalformedCase {
    let long = rng.random_range(10_000..200_000);
    let body = match rng.random_range(0..5) {
        0 => format!(r#"{{"model":{}}}"#, "9".repeat(long)),
        1 => format!(r#"{{"model":"{MODEL}","stream":0.{}}}"#, "1".repeat(long)),
        2 => format!(r#"{{"{}":1}}"#, "k".repeat(long)),
        3 => format!(r#"{{"model":"{}"#, "\\".repeat(long)),
        _ => format!(
            r#"{{"model":{}"bench"}}"#,
            r#"1,"model":"#.repeat(long / 10)
        ),
    };
    CaseDraft::new(rng).send(body.as_bytes())
}

fn chat(rng: &mut StdRng) -> Vec<u8> {
    payload::chat(MODEL, rng.random_range(100..3000), None)
}

pub(super) fn pick<T: Copy>(rng: &mut StdRng, from: &[T]) -> T {
    from[rng.random_range(0..from.len())]
}
