//! Counting tokens ahead of a request: Anthropic's `count_tokens` at Gemini's `countTokens`. What
//! an answer used is told elsewhere.

use bytes::{BufMut as _, Bytes, BytesMut};
use llm_router_domain::format::Format;

use super::json::Json;
use super::options::{RequestOptions, TranslatedRequest};
use super::{TranslateError, translate_request};
use crate::formats::gemini;

/// Translates a request to count tokens for a provider that can count in its own way.
///
/// # Errors
/// Like [`translate_request`], and when the format `to` has no way to count.
pub fn translate_count_request(
    to: Format,
    body: &[u8],
    target_model: &str,
    options: &RequestOptions,
) -> Result<TranslatedRequest, TranslateError> {
    if to != Format::Gemini {
        return Err(TranslateError::no_translation(to));
    }
    let from = Format::AnthropicMessages;
    let sent = translate_request(from, to, body, target_model, options)?;
    let path = gemini::path(target_model, gemini::Method::Count);
    let name = path.trim_start_matches('/').split(':').next();
    let mut out = BytesMut::with_capacity(sent.body.len() + 128);
    out.put_slice(b"{\"generateContentRequest\":{\"model\":\"");
    // The path's form of the name has nothing to escape.
    out.put_slice(name.unwrap_or_default().as_bytes());
    out.put_slice(b"\",");
    out.put_slice(sent.body.get(1..).unwrap_or_default());
    out.put_slice(b"}");
    Ok(TranslatedRequest {
        body: out.freeze(),
        path,
        stream: false,
        ..sent
    })
}

/// Translates the count back: `{"input_tokens": N}`.
///
/// # Errors
/// [`TranslateError`] with status 502 when the body holds no count.
pub fn translate_count_response(from: Format, body: &[u8]) -> Result<Bytes, TranslateError> {
    let text = String::from_utf8_lossy(body);
    let json = Json::parse(&text).ok().filter(|_| from == Format::Gemini);
    let count = json.and_then(|json| json.get("totalTokens")?.as_u64());
    match count {
        Some(count) => Ok(format!("{{\"input_tokens\":{count}}}").into()),
        None => Err(TranslateError::bad_answer(
            "The provider's answer holds no count of tokens.",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn counts_go_to_gemini_and_back() {
        let body =
            json!({"model": "m", "system": "s", "messages": [{"role": "user", "content": "hi"}]});
        let sent = translate_count_request(
            Format::Gemini,
            body.to_string().as_bytes(),
            "gemini-3-pro",
            &RequestOptions::default(),
        )
        .unwrap();
        assert_eq!(sent.path, "/models/gemini-3-pro:countTokens");
        let written: Value = serde_json::from_slice(&sent.body).unwrap();
        let request = &written["generateContentRequest"];
        assert_eq!(request["model"], "models/gemini-3-pro");
        assert_eq!(request["contents"][0]["parts"][0]["text"], "hi");
        let back = translate_count_response(Format::Gemini, br#"{"totalTokens":7}"#);
        assert_eq!(back.unwrap(), r#"{"input_tokens":7}"#);
        assert_eq!(
            translate_count_response(Format::Gemini, b"{}")
                .unwrap_err()
                .status,
            502
        );
        let other = translate_count_request(
            Format::OpenAiChat,
            body.to_string().as_bytes(),
            "m",
            &RequestOptions::default(),
        );
        assert_eq!(other.unwrap_err().status, 400);
    }
}
