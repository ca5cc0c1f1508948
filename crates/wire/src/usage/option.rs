//! Asking an OpenAI-compatible server for the usage chunk of a stream, by splicing the option
//! into the client's own bytes. It must not re-serialise the body.

use std::ops::Range;

use crate::json;

/// A change of a body: the bytes in `at` are replaced by `with`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Splice {
    /// The range that is replaced; empty where bytes are only inserted.
    pub at: Range<usize>,
    /// The replacement.
    pub with: &'static str,
}

impl Splice {
    /// The body with the change made.
    #[must_use]
    pub fn apply(&self, body: &[u8]) -> Vec<u8> {
        let head = body.get(..self.at.start).unwrap_or_default();
        let tail = body.get(self.at.end..).unwrap_or_default();
        [head, self.with.as_bytes(), tail].concat()
    }
}

/// The change that makes the body of a streaming chat or completions request ask for usage; none
/// if it asks already, or if it isn't an object with members.
///
/// A change means that the response needs [`AnswerStream::without_usage`], which removes again what
/// the client didn't ask for.
///
/// [`AnswerStream::without_usage`]: crate::stream::AnswerStream::without_usage
#[must_use]
pub fn ask_for_usage(body: &[u8]) -> Option<Splice> {
    let mut first = None;
    let mut options = None;
    for member in json::members(body) {
        first.get_or_insert(member.key.start - 1);
        if body.get(member.key) == Some(b"stream_options") {
            options = Some(member.value);
        }
    }
    let Some(options) = options else {
        let first = first?;
        return Some(put(first, r#""stream_options":{"include_usage":true},"#));
    };
    let text = body.get(options.clone())?;
    if !json::is_object(text) {
        let null = text == b"null";
        return null.then_some(Splice {
            at: options,
            with: r#"{"include_usage":true}"#,
        });
    }
    within_options(text, options.start)
}

fn within_options(text: &[u8], offset: usize) -> Option<Splice> {
    let mut empty = true;
    let mut asked = None;
    for member in json::members(text) {
        empty = false;
        if text.get(member.key) == Some(b"include_usage") {
            asked = Some(member.value);
        }
    }
    match asked {
        Some(value) => {
            let off = matches!(text.get(value.clone()), Some(b"false" | b"null"));
            off.then_some(Splice {
                at: offset + value.start..offset + value.end,
                with: "true",
            })
        }
        None if empty => Some(put(offset + 1, r#""include_usage":true"#)),
        None => Some(put(offset + 1, r#""include_usage":true,"#)),
    }
}

const fn put(at: usize, with: &'static str) -> Splice {
    Splice { at: at..at, with }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asks_by_the_smallest_change() {
        for (body, expected) in [
            (
                r#"{"model":"m","stream":true}"#,
                Some(r#"{"stream_options":{"include_usage":true},"model":"m","stream":true}"#),
            ),
            (
                r#" { "model": "m" }"#,
                Some(r#" { "stream_options":{"include_usage":true},"model": "m" }"#),
            ),
            (
                r#"{"stream_options":{}}"#,
                Some(r#"{"stream_options":{"include_usage":true}}"#),
            ),
            (
                r#"{"stream_options": { "include_obfuscation":false },"n":1}"#,
                Some(
                    r#"{"stream_options": {"include_usage":true, "include_obfuscation":false },"n":1}"#,
                ),
            ),
            (
                r#"{"stream_options":{"include_usage": false}}"#,
                Some(r#"{"stream_options":{"include_usage": true}}"#),
            ),
            (
                r#"{"stream_options":null,"a":1}"#,
                Some(r#"{"stream_options":{"include_usage":true},"a":1}"#),
            ),
            (r#"{"stream_options":{"include_usage":true}}"#, None),
            (r#"{"stream_options":"wrong"}"#, None),
            (
                r#"{"messages":[{"stream_options":null}],"stream_options":{"include_usage":true}}"#,
                None,
            ),
            ("{}", None),
            ("[]", None),
            ("", None),
        ] {
            let asked = ask_for_usage(body.as_bytes()).map(|splice| splice.apply(body.as_bytes()));
            assert_eq!(asked.as_deref(), expected.map(str::as_bytes), "{body}");
        }
    }
}
