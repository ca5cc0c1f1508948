//! The most input tokens that a provider can count for a body: a budget reserves them before the
//! call. An estimate is right on average; a bound must be right for every request, or a budget is
//! overspent by the sum of its errors.
//!
//! - **Text.** Tokenizers that work on bytes (those of every provider here) never make more tokens
//!   than there are bytes. That is four times what prose has, so longer texts count twice the
//!   estimate of [`super::estimate_tokens`] instead: it is off by 26 % at worst in the texts that
//!   it was fitted to, and tokenizers differ by 20 %.
//! - **Tools.** Half their bytes, plus the prompt that tells a model of them: Anthropic documents up
//!   to 530 tokens for it.
//! - **Images.** What the provider charges for one at most, never their base64 text.
//! - **The rest** (names, roles, numbers, documents, sounds): a token for four bytes; where prompts
//!   may be lists of token numbers, for two.

use std::ops::Range;

use memchr::{memchr, memmem};

use super::{Prompt, estimate_tokens};

/// Tokens that a text may have beyond twice its estimate.
const SLACK: u64 = 256;
/// Tokens of the prompt that tells a model of its tools.
const TOOL_PROMPT: u64 = 600;
/// Tokens that frame a request.
const REQUEST_TOKENS: u64 = 8;
/// Bytes around an image's data in which its type stands.
const NEAR: usize = 96;

/// The images that a body carries in itself, in base64.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Embedded {
    /// Their number.
    pub images: u64,
    /// Bytes of their data, as it stands in the body.
    pub bytes: usize,
}

/// The tokens that one image costs at most, by the provider's documentation (November 2026):
/// Anthropic's largest models take up to 4,784, OpenAI's `gpt-4o-mini` 2,833 and 5,667 for each of
/// up to eight tiles, its other models 1,536 patches times at most 2.46.
#[must_use]
pub fn image_tokens(anthropic: bool, model: &str) -> u64 {
    if anthropic || model.contains("claude") {
        4_784
    } else if model.contains("4o-mini") {
        48_169
    } else {
        3_779
    }
}

/// Input tokens of a body, at most. `image` is what one image costs; `numbers` says that prompts
/// may be lists of token numbers.
#[must_use]
pub fn input_at_most(body: &[u8], image: u64, numbers: bool) -> u64 {
    let embedded = find_embedded(body);
    let rest = body.len().saturating_sub(embedded.bytes) as u64;
    let Ok(prompt) = Prompt::read(body) else {
        return rest + embedded.images * image;
    };
    let bytes: u64 = prompt
        .pieces
        .iter()
        .map(|piece| piece.text.len() as u64)
        .sum();
    let estimate: u64 = prompt
        .pieces
        .iter()
        .map(|piece| estimate_tokens(&piece.text))
        .sum();
    let text = bytes.min(2 * estimate + SLACK);
    let tool_bytes = prompt.tool_bytes() as u64;
    let tools = match prompt.tools() {
        0 => 0,
        _ => TOOL_PROMPT + tool_bytes.div_ceil(2),
    };
    let other = rest.saturating_sub(bytes + tool_bytes);
    let other = other.div_ceil(if numbers { 2 } else { 4 });
    let images = embedded.images.max(u64::from(prompt.images()));
    text + tools + other + images * image + REQUEST_TOKENS
}

/// Finds embedded images by the two ways there are: data URLs, and `data` beside a media type.
#[must_use]
pub fn find_embedded(body: &[u8]) -> Embedded {
    let mut found = Embedded::default();
    if memmem::find(body, b"image/").is_none() {
        return found;
    }
    let mut at = 0;
    for start in starts(body) {
        let Some(rest) = body.get(start..).filter(|_| start >= at) else {
            continue;
        };
        let Some(length) = memchr(b'"', rest) else {
            break;
        };
        let data = start..start + length;
        at = data.end;
        if is_image(body, &data) {
            found.images += 1;
            found.bytes += data.len();
        }
    }
    found
}

/// Offsets at which texts of base64 may begin, in order. Each form is searched for once over the
/// whole body, so that many of one kind don't have the other searched for again and again.
fn starts(body: &[u8]) -> impl Iterator<Item = usize> {
    let urls = memmem::find_iter(body, b";base64,").map(|found| found + 8);
    let fields = memmem::find_iter(body, b"\"data\"");
    let fields = fields.filter_map(|found| value(body, found + 6));
    let (mut urls, mut fields) = (urls.peekable(), fields.peekable());
    std::iter::from_fn(move || match (urls.peek(), fields.peek()) {
        (Some(url), Some(field)) if url > field => fields.next(),
        (None, _) => fields.next(),
        (Some(_), _) => urls.next(),
    })
}

/// The offset at which the text behind a field's name begins.
fn value(body: &[u8], at: usize) -> Option<usize> {
    let rest = body.get(at..)?;
    let skipped = rest
        .iter()
        .position(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b':' | b'"'))?;
    Some(at + skipped)
}

fn is_image(body: &[u8], data: &Range<usize>) -> bool {
    let around = |range: Range<usize>| {
        let text = body.get(range).unwrap_or_default();
        memmem::find(text, b"image/").is_some()
    };
    around(data.start.saturating_sub(NEAR)..data.start)
        || around(data.end..(data.end + NEAR).min(body.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const IMAGE: u64 = 1_000;

    fn bound(body: &str) -> u64 {
        input_at_most(body.as_bytes(), IMAGE, false)
    }

    fn chat(text: &str) -> String {
        serde_json::json!({ "model": "m", "messages": [{ "role": "user", "content": text }] })
            .to_string()
    }

    #[test]
    fn short_texts_count_their_bytes_and_long_ones_twice_their_estimate() {
        let empty = bound(&chat(""));
        assert!((15..40).contains(&empty), "{empty}");
        let line = "The parcel weighs 1 kg.";
        assert_eq!(bound(&chat(line)), empty + line.len() as u64);
        let prose = "The quick brown fox jumps over the lazy dog. ".repeat(1_000);
        let tokens = bound(&chat(&prose)) - empty;
        // `o200k_base` counts 10,001.
        assert!((15_000..25_000).contains(&tokens), "{tokens}");
        let noise = "\u{1f9ff}".repeat(1_000);
        assert!(bound(&chat(&noise)) >= 3_000);
    }

    #[test]
    fn images_count_what_they_cost() {
        let data = "iVBORw0KGgo".repeat(20_000);
        let openai = format!(
            r#"{{"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"data:image/png;base64,{data}"}}}}]}}]}}"#
        );
        let after = format!(
            r#"{{"messages":[{{"role":"user","content":[{{"type":"image","source":{{"data" : "{data}","type":"base64","media_type":"image/png"}}}}]}}]}}"#
        );
        let linked = r#"{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"https://x.test/a.png"}}]}]}"#;
        for body in [&openai, &after, linked] {
            let tokens = bound(body);
            assert!((IMAGE..IMAGE + 80).contains(&tokens), "{tokens}");
        }
        let sound = openai.replace("image/png", "audio/wav");
        assert!(bound(&sound) > 50_000);
        let images = Embedded {
            images: 1,
            bytes: data.len(),
        };
        assert_eq!(find_embedded(openai.as_bytes()), images);
        assert_eq!(find_embedded(after.as_bytes()), images);
        assert_eq!(find_embedded(linked.as_bytes()), Embedded::default());
    }

    #[test]
    fn tools_and_token_numbers_count() {
        let tool = r#"{"tools":[{"type":"function","function":{"name":"f"}}]}"#;
        assert!(bound(tool) > TOOL_PROMPT);
        let numbers = r#"{"prompt":[1,2,3,4,5,6,7,8,9]}"#;
        assert!(input_at_most(numbers.as_bytes(), IMAGE, true) >= 9);
    }

    #[test]
    fn nothing_that_is_cut_off_panics() {
        let body = r#"{"a":"data:image/png;base64,AAAA","data" : "x","data":"#;
        for end in 0..=body.len() {
            let _ = find_embedded(&body.as_bytes()[..end]);
            let _ = bound(&body[..end]);
        }
    }
}
