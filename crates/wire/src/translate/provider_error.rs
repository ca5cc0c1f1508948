//! Providers' errors, in an answer of their own or inside a stream, as the caller's format has
//! them. Whether to try again is not decided here.

use std::borrow::Cow;

use bytes::Bytes;
use llm_router_domain::format::Format;
use llm_router_domain::retry::{AccountError, is_out_of_money};
use serde_json::Value;

use super::json::Json;
use crate::error::{ErrorBody, plain_text, without_bom};
use crate::formats::codec;

/// OpenAI's code for a prompt that exceeds the context window.
pub(crate) const CONTEXT_OVERFLOW: &str = "context_length_exceeded";

/// A provider's error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProviderError {
    pub(crate) status: u16,
    /// OpenAI's `code`.
    pub(crate) code: Cow<'static, str>,
    pub(crate) message: String,
    pub(crate) param: Option<String>,
    /// Anthropic's `error.details`.
    pub(crate) details: Option<Box<Value>>,
}

/// A provider's error answer in the client's format: status and body.
///
/// The status is the provider's, but where that format means another: Gemini answers 400 to a
/// wrong key. What the body says decides the code, so that context overflow, quotas and filters
/// are told apart whichever provider reports them.
#[must_use]
pub fn translate_error(
    from: Format,
    to: Format,
    status: u16,
    body: &[u8],
    request_id: &str,
) -> (u16, Bytes) {
    let text = String::from_utf8_lossy(without_bom(body));
    let json = Json::parse(&text);
    let said = json.is_err().then(|| plain_text(&text)).flatten();
    let json = json.unwrap_or(Json::Null);
    let mut failure = codec(from).read_error(Some(status), &json);
    if let Some(said) = said {
        failure.message = said;
    }
    (failure.status, failure.body(to, request_id))
}

impl ProviderError {
    /// Reads an error; `status` is the answer's, if the error is one.
    pub(crate) fn read(status: Option<u16>, json: &Json<'_>) -> Self {
        let (outer, inner) = layers(json);
        let word = |key: &str| inner.str(key).filter(|word| !word.is_empty());
        let words = [word("code"), word("type"), word("status")];
        let message = sentence(outer, inner);
        let status = status
            .or_else(|| number_status(inner.get("code")?))
            .or_else(|| words.into_iter().flatten().find_map(status_of_word))
            .unwrap_or(502);
        let reason = inner
            .get("details")
            .and_then(Json::as_array)
            .and_then(|details| details.iter().find_map(|detail| detail.str("reason")));
        let status = if reason == Some("API_KEY_INVALID") {
            401
        } else {
            status
        };
        let code = code(status, words, message.as_deref().unwrap_or_default());
        Self {
            status,
            code,
            message: message.unwrap_or_else(|| {
                format!("The provider answered with status {status} and no message.")
            }),
            param: word("param").map(str::to_owned),
            details: inner.get("details").and_then(details),
        }
    }

    /// An error of the router's own making.
    pub(crate) fn new(status: u16, code: &'static str, message: &str) -> Self {
        Self {
            status,
            code: code.into(),
            message: message.to_owned(),
            param: None,
            details: None,
        }
    }

    /// The body in a client's format.
    pub(crate) fn body(&self, to: Format, request_id: &str) -> Bytes {
        self.with_body(request_id, |body| body.render(to))
    }

    /// The event that ends a stream in a client's format.
    pub(crate) fn event(&self, to: Format, request_id: &str) -> Bytes {
        self.with_body(request_id, |body| body.render_event(to))
    }

    fn with_body(&self, request_id: &str, render: impl FnOnce(&ErrorBody<'_>) -> Bytes) -> Bytes {
        render(&ErrorBody {
            status: self.status,
            code: &self.code,
            message: &self.message,
            param: self.param.as_deref(),
            details: self.details.as_deref(),
            request_id,
        })
    }
}

impl From<ProviderError> for super::TranslateError {
    fn from(failure: ProviderError) -> Self {
        Self {
            status: failure.status,
            code: failure.code,
            message: failure.message,
            param: failure.param,
            details: failure.details,
        }
    }
}

impl From<super::TranslateError> for ProviderError {
    fn from(error: super::TranslateError) -> Self {
        Self {
            status: error.status,
            code: error.code,
            message: error.message,
            param: error.param,
            details: error.details,
        }
    }
}

/// Returns true if an event of a stream is an error, in any of the shapes that providers send after
/// a 200.
pub(crate) fn is_error(json: &Json<'_>) -> bool {
    let set = |key: &str| json.get(key).is_some_and(says_something);
    set("error")
        || json.str("object") == Some("error")
        || json.str("type") == Some("error")
        || (set("detail") && !set("choices"))
}

/// Returns true unless a member is there only to say that there is nothing.
fn says_something(value: &Json<'_>) -> bool {
    match value {
        Json::Null | Json::Bool(false) => false,
        Json::String(text) => !text.is_empty(),
        Json::Object(members) => !members.0.is_empty(),
        _ => true,
    }
}

/// The sentence of an error for people.
pub(crate) fn message(json: &Json<'_>) -> Option<String> {
    let (outer, inner) = layers(json);
    sentence(outer, inner)
}

/// Returns the reason for which our credential or account is refused, if an error says so.
pub(crate) fn account_error(status: u16, json: &Json<'_>) -> Option<AccountError> {
    let (_, inner) = layers(json);
    let details = inner.get("details");
    let reasons = details.and_then(Json::as_array).unwrap_or_default();
    let code = details.and_then(|details| details.str("error_code"));
    let words = ["code", "type", "status"].map(|key| inner.str(key));
    let words = words.into_iter().flatten().chain(code);
    let words: Vec<&str> = words
        .chain(reasons.iter().filter_map(|detail| detail.str("reason")))
        .collect();
    let says = |wanted: &[&str]| words.iter().any(|word| wanted.contains(word));
    let poor = inner
        .str("message")
        .is_some_and(|said| said.contains(LOW_CREDIT));
    if words.iter().any(|word| is_out_of_money(word)) || poor {
        return Some(AccountError::OutOfMoney);
    }
    let about_request = inner.get("metadata").is_some_and(|metadata| {
        metadata.get("reasons").is_some() || metadata.get("flagged_input").is_some()
    });
    match status {
        402 => Some(AccountError::OutOfMoney),
        401 => Some(AccountError::Credential),
        403 if about_request || words.iter().any(|word| is_about_request(word)) => None,
        403 => Some(AccountError::Credential),
        _ if says(&["API_KEY_INVALID", "invalid_api_key", "authentication_error"]) => {
            Some(AccountError::Credential)
        }
        _ => None,
    }
}

/// Anthropic's sentence about an account without money, which has no code of its own.
const LOW_CREDIT: &str = "credit balance is too low";

/// Returns true if the code of a 403 is about what was asked, or from where, and not about who asks.
fn is_about_request(code: &str) -> bool {
    let code = code.to_ascii_lowercase();
    [
        "content",
        "moderation",
        "policy",
        "safety",
        "guardrail",
        "flagged",
        "region",
        "country",
        "territory",
        "location",
    ]
    .iter()
    .any(|word| code.contains(word))
}

/// The layers of an error: what it is wrapped in, and the error proper.
fn layers<'j, 'a>(json: &'j Json<'a>) -> (&'j Json<'a>, &'j Json<'a>) {
    // Gemini wraps its error in a list on some endpoints.
    let outer = json.as_array().and_then(<[_]>::first).unwrap_or(json);
    let inner = match outer.get("error") {
        Some(error) if !error.is_null() => error,
        _ => outer
            .get("response")
            .and_then(|r| r.get("error"))
            .unwrap_or(outer),
    };
    (outer, inner)
}

fn sentence(outer: &Json<'_>, inner: &Json<'_>) -> Option<String> {
    let said = inner
        .as_str()
        .or_else(|| inner.str("message"))
        .or_else(|| outer.str("message"))
        .or_else(|| outer.str("detail"));
    if let Some(said) = said.filter(|said| !said.is_empty()) {
        return Some(said.to_owned());
    }
    // FastAPI's servers list what is wrong with each field.
    let details = outer.get("detail")?.as_array()?;
    let all: Vec<&str> = details
        .iter()
        .filter_map(|detail| detail.str("msg"))
        .collect();
    (!all.is_empty()).then(|| all.join("; "))
}

/// The details of an Anthropic error: an object. Google's are a list, and its own.
fn details(found: &Json<'_>) -> Option<Box<Value>> {
    let details: Value = serde_json::from_str(&found.to_text()).ok()?;
    details.is_object().then(|| Box::new(details))
}

fn number_status(code: &Json<'_>) -> Option<u16> {
    let number = code
        .as_u64()
        .or_else(|| code.as_str()?.parse::<u64>().ok())?;
    u16::try_from(number)
        .ok()
        .filter(|status| (400..600).contains(status))
}

/// The status that a type, code or status name stands for (docs.claude.com "Errors",
/// platform.openai.com "Error codes", `google.rpc.Code`).
fn status_of_word(word: &str) -> Option<u16> {
    Some(match word {
        "overloaded_error" => 529,
        "rate_limit_error"
        | "rate_limit_exceeded"
        | "insufficient_quota"
        | "RESOURCE_EXHAUSTED"
        | "tokens"
        | "requests" => 429,
        "invalid_request_error"
        | "context_length_exceeded"
        | "INVALID_ARGUMENT"
        | "FAILED_PRECONDITION"
        | "invalid_prompt"
        | "content_filter" => 400,
        "authentication_error" | "invalid_api_key" | "UNAUTHENTICATED" => 401,
        "billing_error" => 402,
        "permission_error" | "PERMISSION_DENIED" => 403,
        "not_found_error" | "model_not_found" | "NOT_FOUND" => 404,
        "request_too_large" => 413,
        "timeout_error" | "DEADLINE_EXCEEDED" => 504,
        "engine_overloaded" | "UNAVAILABLE" => 503,
        "api_error" | "server_error" | "internal_server_error" | "INTERNAL" => 500,
        _ => return None,
    })
}

/// One code for one cause, whoever reports it.
fn code(status: u16, words: [Option<&str>; 3], message: &str) -> Cow<'static, str> {
    let has = |wanted: &str| words.into_iter().flatten().any(|word| word == wanted);
    let fixed = if has(CONTEXT_OVERFLOW) || (is_client(status) && overflows(message)) {
        CONTEXT_OVERFLOW
    } else if has("insufficient_quota") || has("billing_error") {
        "insufficient_quota"
    } else if has("content_filter") || has("content_policy_violation") {
        "content_filter"
    } else if let Some(own) = words[0].filter(|code| code.parse::<u64>().is_err()) {
        return Cow::Owned(own.to_owned());
    } else {
        match status {
            401 => "invalid_api_key",
            403 => "permission_denied",
            404 => "model_not_found",
            413 => "request_too_large",
            429 => "rate_limit_exceeded",
            503 | 529 => "overloaded",
            504 => "upstream_timeout",
            400..=499 => "invalid_request_error",
            _ => "upstream_error",
        }
    };
    Cow::Borrowed(fixed)
}

const fn is_client(status: u16) -> bool {
    matches!(status, 400 | 413 | 422)
}

/// Returns true if a message says that the context window is exceeded, in the words of Anthropic,
/// OpenAI, Google, Ollama and vLLM.
fn overflows(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    [
        "prompt is too long",
        "prompt too long",
        "context length",
        "context window",
        "input token count",
    ]
    .iter()
    .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn translate(to: Format, status: u16, body: &str) -> (u16, Value) {
        let (status, body) =
            translate_error(Format::OpenAiChat, to, status, body.as_bytes(), "req-1");
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn causes_keep_their_code() {
        let cases = [
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 9 tokens > 8 maximum"}}"#,
                400,
                "context_length_exceeded",
            ),
            (
                400,
                r#"{"error":{"code":400,"message":"The input token count (9) exceeds the maximum number of tokens allowed (8).","status":"INVALID_ARGUMENT"}}"#,
                400,
                "context_length_exceeded",
            ),
            (
                400,
                r#"[{"error":{"code":400,"message":"API key not valid.","status":"INVALID_ARGUMENT","details":[{"reason":"API_KEY_INVALID"}]}}]"#,
                401,
                "invalid_api_key",
            ),
            (
                429,
                r#"{"error":{"message":"m","type":"insufficient_quota","code":"insufficient_quota"}}"#,
                429,
                "insufficient_quota",
            ),
            (
                429,
                r#"{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}"#,
                429,
                "rate_limit_exceeded",
            ),
            (
                529,
                r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#,
                529,
                "overloaded",
            ),
            (
                400,
                r#"{"error":{"message":"m","code":"content_filter","innererror":{}}}"#,
                400,
                "content_filter",
            ),
            (
                404,
                r#"{"error":{"message":"m","type":"invalid_request_error","code":"model_not_found"}}"#,
                404,
                "model_not_found",
            ),
            (
                401,
                r#"{"error":{"message":"m","code":401}}"#,
                401,
                "invalid_api_key",
            ),
            (
                422,
                r#"{"detail":[{"msg":"a"},{"msg":"b"}]}"#,
                422,
                "invalid_request_error",
            ),
            (502, "<html>Bad Gateway</html>", 502, "upstream_error"),
        ];
        for (status, body, expected, code) in cases {
            let (status, body_out) = translate(Format::OpenAiChat, status, body);
            assert_eq!(status, expected, "{body}");
            assert_eq!(body_out["error"]["code"], code, "{body}");
        }
    }

    #[test]
    fn anthropic_clients_recognise_an_overflow() {
        let body = r#"{"error":{"message":"Too much.","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#;
        let (_, out) = translate(Format::AnthropicMessages, 400, body);
        assert_eq!(
            out["error"],
            json!({"type": "invalid_request_error", "message": "prompt is too long: Too much."})
        );
    }

    #[test]
    fn errors_in_streams_tell_their_status() {
        for (text, status) in [
            (
                r#"{"type":"error","error":{"type":"overloaded_error","message":"m"}}"#,
                529,
            ),
            (r#"{"error":{"code":502,"message":"m"}}"#, 502),
            (r#"{"error":{"code":"429","message":"m"}}"#, 429),
            (
                r#"{"type":"error","code":"rate_limit_exceeded","message":"m"}"#,
                429,
            ),
            (
                r#"{"type":"response.failed","response":{"error":{"code":"server_error","message":"m"}}}"#,
                500,
            ),
            (r#"{"error":"m"}"#, 502),
            (r#"{"object":"error","message":"m"}"#, 502),
        ] {
            let failure = ProviderError::read(None, &Json::parse(text).unwrap());
            assert_eq!((failure.status, &*failure.message), (status, "m"), "{text}");
        }
    }
}
