//! Counting tokens ahead of a request: Anthropic's `count_tokens` at providers that count in another
//! format. It must not count what a response used.

use bytes::Bytes;
use llm_router_domain::format::{Endpoint, Format};

use super::json::Json;
use super::options::{RequestOptions, TranslatedRequest};
use super::{TranslateError, translate_request};
use crate::error::without_bom;
use crate::formats::codec;

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
    let codec = codec(to);
    let from = Endpoint::CountTokens.format();
    let sent = translate_request(from, to, body, target_model, options)?;
    let count = codec.count_request(&sent.body, target_model);
    let count = count.ok_or_else(|| TranslateError::no_translation(to))?;
    Ok(TranslatedRequest {
        body: count.body,
        path: count.path,
        stream: false,
        ..sent
    })
}

/// Translates the count back: `{"input_tokens": N}`.
///
/// # Errors
/// [`TranslateError`] with status 502 when the body holds no count.
pub fn translate_count_response(from: Format, body: &[u8]) -> Result<Bytes, TranslateError> {
    let text = String::from_utf8_lossy(without_bom(body));
    let json = Json::parse(&text).ok();
    match json.and_then(|json| codec(from).read_count(&json)) {
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
