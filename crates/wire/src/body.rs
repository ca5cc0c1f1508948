//! Judges the body of a plain answer: an answer, an error, or neither. It must not change the body,
//! nor know what is tried next.

use llm_router_domain::format::{Endpoint, Format};
use serde::de::IgnoredAny;

use crate::error::without_bom;
use crate::formats::codec;
use crate::json;

/// Verdict on the body of an answer whose status is a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyVerdict {
    /// It is an answer.
    Answer,
    /// It is an error.
    Error,
    /// It is neither: empty, HTML, cut off, or the answer to something else.
    NoAnswer,
}

/// Judges a whole body in the format of a provider that was sent a request to `endpoint`.
///
/// An error beside an answer that holds nothing is an error.
#[must_use]
pub fn judge_body(format: Format, endpoint: Endpoint, body: &[u8]) -> BodyVerdict {
    let body = without_bom(body).trim_ascii();
    if serde_json::from_slice::<IgnoredAny>(body).is_err() {
        return BodyVerdict::NoAnswer;
    }
    // Gemini wraps its errors, and streams without events, in a list.
    let object = json::elements(body).next().unwrap_or(body);
    let names = codec(format).answer_members(endpoint);
    let (mut answer, mut holds_something, mut error) = (false, false, false);
    for (key, value) in json::entries(object) {
        if names.iter().any(|name| name.as_bytes() == key) {
            answer = true;
            holds_something |= !is_empty(value);
        }
        error |= match key {
            b"error" | b"detail" => !is_empty(value) && value != b"false",
            b"type" | b"object" => value == b"\"error\"",
            _ => false,
        };
    }
    match (answer, holds_something, error) {
        (_, false, true) => BodyVerdict::Error,
        (true, ..) => BodyVerdict::Answer,
        (false, ..) => BodyVerdict::NoAnswer,
    }
}

/// Returns true if a body of which this is the beginning may be an answer; `None` while only white
/// space has come.
#[must_use]
pub fn may_be_json(body: &[u8]) -> Option<bool> {
    let first = without_bom(body).trim_ascii_start().first()?;
    // A byte order mark of which a part has come.
    let may_be_mark = matches!(body, [0xEF] | [0xEF, 0xBB]);
    (!may_be_mark).then_some(matches!(first, b'{' | b'['))
}

fn is_empty(value: &[u8]) -> bool {
    match value {
        b"null" | b"\"\"" => true,
        [open @ (b'{' | b'['), inner @ .., _] => {
            *open == b'{' && json::members(value).next().is_none()
                || *open == b'[' && inner.trim_ascii().is_empty()
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::too_many_lines, reason = "a table of cases")]
    fn answers_errors_and_neither_are_told_apart() {
        use BodyVerdict::{Answer, Error, NoAnswer};
        use Endpoint::{ChatCompletions, CountTokens, Embeddings, Messages, Responses};
        use Format::{AnthropicMessages, Gemini, OpenAiChat, OpenAiResponses};
        for (format, endpoint, body, want) in [
            (OpenAiChat, ChatCompletions, r#"{"choices":[]}"#, Answer),
            (
                OpenAiChat,
                ChatCompletions,
                "\u{feff} {\"choices\":[{}]}\n",
                Answer,
            ),
            (OpenAiChat, ChatCompletions, "", NoAnswer),
            (OpenAiChat, ChatCompletions, "  \n", NoAnswer),
            (OpenAiChat, ChatCompletions, "<html>hi</html>", NoAnswer),
            (OpenAiChat, ChatCompletions, "ok", NoAnswer),
            (OpenAiChat, ChatCompletions, "null", NoAnswer),
            (OpenAiChat, ChatCompletions, "[]", NoAnswer),
            (OpenAiChat, ChatCompletions, "{}", NoAnswer),
            (OpenAiChat, ChatCompletions, r#"{"choices":[{"#, NoAnswer),
            (OpenAiChat, ChatCompletions, r#"{"data":[1]}"#, NoAnswer),
            (OpenAiChat, ChatCompletions, r#"{"error":"no"}"#, Error),
            (
                OpenAiChat,
                ChatCompletions,
                r#"{"id":"1","error":{"code":1}}"#,
                Error,
            ),
            (
                OpenAiChat,
                ChatCompletions,
                r#"{"object":"error","message":"x"}"#,
                Error,
            ),
            (
                OpenAiChat,
                ChatCompletions,
                r#"{"detail":"Not Found"}"#,
                Error,
            ),
            (
                OpenAiChat,
                ChatCompletions,
                r#"{"error":{"code":1},"choices":[]}"#,
                Error,
            ),
            (
                OpenAiChat,
                ChatCompletions,
                r#"{"error":null,"choices":[{}]}"#,
                Answer,
            ),
            (
                OpenAiChat,
                ChatCompletions,
                r#"{"error":{"code":1},"choices":[{}]}"#,
                Answer,
            ),
            (OpenAiChat, Embeddings, r#"{"data":[]}"#, Answer),
            (OpenAiChat, Embeddings, r#"{"choices":[{}]}"#, NoAnswer),
            (
                OpenAiResponses,
                Responses,
                r#"{"output":[{}],"error":null}"#,
                Answer,
            ),
            (
                OpenAiResponses,
                Responses,
                r#"{"status":"","error":{"code":"x"},"output":[ ]}"#,
                Error,
            ),
            (
                AnthropicMessages,
                Messages,
                r#"{"type":"message","content":[]}"#,
                Answer,
            ),
            (
                AnthropicMessages,
                Messages,
                r#"{"type":"error","error":{}}"#,
                Error,
            ),
            (
                AnthropicMessages,
                CountTokens,
                r#"{"input_tokens":0}"#,
                Answer,
            ),
            (Gemini, Messages, r#"[{"error":{"code":429}}]"#, Error),
            (Gemini, Messages, r#"{"candidates":[{}]}"#, Answer),
            (Gemini, Messages, r#"[{"candidates":[{}]}]"#, Answer),
        ] {
            assert_eq!(
                judge_body(format, endpoint, body.as_bytes()),
                want,
                "{body}"
            );
        }
    }

    #[test]
    fn the_first_byte_tells_json_from_pages() {
        for (body, want) in [
            (&b""[..], None),
            (b" \r\n", None),
            (b"\xEF", None),
            (b"\xEF\xBB", None),
            (b"\xEF\xBB\xBF", None),
            (b"\xEF\xBB\xBF{", Some(true)),
            (b" [", Some(true)),
            (b"<", Some(false)),
            (b"data: {", Some(false)),
        ] {
            assert_eq!(may_be_json(body), want, "{body:?}");
        }
    }
}
