//! Measures the generated text in a piece of a response, by the length of its strings. It must not
//! keep the text: only its size leaves this file.

use super::UsageLayout;
use crate::json;

/// The deepest nesting of content that is followed; providers nest less.
const MAX_DEPTH: u8 = 8;

/// Bytes of generated text in the data of one streamed event.
pub(super) fn streamed_bytes(layout: &UsageLayout, data: &[u8]) -> u64 {
    let mut bytes = 0_u64;
    for at in layout.text.find_iter(data) {
        let after = at + layout.text.needle().len();
        if let Some(value) = json_value_after(data, after) {
            bytes = bytes.saturating_add(text_bytes(value, MAX_DEPTH));
        }
    }
    bytes
}

/// The text after the colon that follows a key, if one does.
fn json_value_after(data: &[u8], key_end: usize) -> Option<&[u8]> {
    let colon = json::skip_space(data, key_end);
    if data.get(colon) != Some(&b':') {
        return None;
    }
    data.get(json::skip_space(data, colon + 1)..)
}

/// Bytes of the strings that generated text stands in, below `value`.
fn text_bytes(value: &[u8], depth: u8) -> u64 {
    match (value.first(), depth) {
        (Some(b'"'), _) => string_bytes(value),
        (Some(b'{'), 1..) => json::entries(value)
            .filter(|(key, nested)| carries_text(key) || (holds_more(nested) && !repeats(key)))
            .map(|(key, nested)| {
                if key == b"args" {
                    nested.len() as u64
                } else {
                    text_bytes(nested, depth - 1)
                }
            })
            .sum(),
        (Some(b'['), 1..) => json::elements(value)
            .filter(|nested| holds_more(nested))
            .map(|nested| text_bytes(nested, depth - 1))
            .sum(),
        _ => 0,
    }
}

fn holds_more(value: &[u8]) -> bool {
    matches!(value.first(), Some(b'{' | b'['))
}

/// Returns true if a string under this key is generated text.
pub(super) fn carries_text(key: &[u8]) -> bool {
    matches!(
        key,
        b"content"
            | b"text"
            | b"reasoning"
            | b"reasoning_content"
            | b"thinking"
            | b"refusal"
            | b"arguments"
            | b"partial_json"
            | b"args"
    )
}

/// Members that say again what a sibling says (OpenRouter), or what isn't text.
fn repeats(key: &[u8]) -> bool {
    matches!(
        key,
        b"reasoning_details" | b"inlineData" | b"citation" | b"logprobs"
    )
}

/// Bytes of a string without its quotes, each escape counted as one.
fn string_bytes(value: &[u8]) -> u64 {
    let Some(end) = json::string_len(value) else {
        return 0;
    };
    let inner = value.get(1..end - 1).unwrap_or_default();
    let mut bytes = inner.len();
    let mut rest = inner;
    while let Some(at) = memchr::memchr(b'\\', rest) {
        let long = rest.get(at + 1) == Some(&b'u');
        bytes -= if long { 3.min(bytes) } else { 1 };
        rest = rest.get(at + 2..).unwrap_or_default();
    }
    bytes as u64
}

#[cfg(test)]
mod tests {
    use llm_router_domain::format::{Endpoint, Format};

    use super::*;

    const CHAT: (Format, Endpoint) = (Format::OpenAiChat, Endpoint::ChatCompletions);
    const COMPLETIONS: (Format, Endpoint) = (Format::OpenAiChat, Endpoint::Completions);
    const RESPONSES: (Format, Endpoint) = (Format::OpenAiResponses, Endpoint::Responses);
    const MESSAGES: (Format, Endpoint) = (Format::AnthropicMessages, Endpoint::Messages);
    const GEMINI: (Format, Endpoint) = (Format::Gemini, Endpoint::ChatCompletions);

    #[test]
    fn counts_generated_text_only() {
        let cases: &[((Format, Endpoint), &str, u64)] = &[
            (
                CHAT,
                r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#,
                0,
            ),
            (
                CHAT,
                r#"{"choices":[{"delta":{"content":"Hi\n"},"finish_reason":null}]}"#,
                3,
            ),
            (
                CHAT,
                r#"{"choices": [{"delta": {"reasoning_content": "ab"}}]}"#,
                2,
            ),
            (
                CHAT,
                r#"{"choices":[{"delta":{"tool_calls":[{"id":"call_1","function":{"name":"f","arguments":"{\"a\":1}"}}]}}]}"#,
                7,
            ),
            (
                CHAT,
                r#"{"choices":[{"delta":{"content":[{"type":"thinking","thinking":[{"type":"text","text":"abc"}]}]}}]}"#,
                3,
            ),
            (
                CHAT,
                r#"{"choices":[{"delta":{"reasoning":"ab","reasoning_details":[{"text":"ab"}]}}]}"#,
                2,
            ),
            (
                CHAT,
                r#"{"choices":[{"delta":{"content":"a"}},{"delta":{"content":"b"}}]}"#,
                2,
            ),
            (
                CHAT,
                r#"{"choices":[{"message":{"content":"all"},"delta":{"content":"l"}}]}"#,
                1,
            ),
            (COMPLETIONS, r#"{"choices":[{"text":" the","index":0}]}"#, 4),
            (
                RESPONSES,
                r#"{"type":"response.output_text.delta","delta":"Hey"}"#,
                3,
            ),
            (
                MESSAGES,
                r#"{"type":"content_block_delta","delta":{"type":"text_delta","text":"\u00e9"}}"#,
                3,
            ),
            (
                MESSAGES,
                r#"{"type":"content_block_delta","delta":{"type":"signature_delta","signature":"xyz"}}"#,
                0,
            ),
            (
                MESSAGES,
                r#"{"type":"content_block_delta","delta":{"type":"input_json_delta","partial_json":"{}"}}"#,
                2,
            ),
            (
                GEMINI,
                r#"{"candidates":[{"content":{"parts":[{"text": "Hello"},{"functionCall":{"name":"f","args":{"a":1}}}]}}]}"#,
                12,
            ),
            (CHAT, r#"{"choices":[{"delta":{"content":"cut"#, 0),
        ];
        for ((format, endpoint), data, bytes) in cases {
            let layout = UsageLayout::for_endpoint(*format, *endpoint);
            assert_eq!(streamed_bytes(layout, data.as_bytes()), *bytes, "{data}");
        }
    }
}
