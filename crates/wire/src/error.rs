//! Error bodies in the caller's format, so that its SDK raises the right class. Which error when
//! is the service's to decide.

use bytes::Bytes;
use llm_router_domain::format::Format;
use llm_router_domain::retry::AccountError;
use memchr::memmem;
use serde_json::Value;

use crate::formats::codec;
use crate::translate::json::Json;
use crate::translate::provider_error::{self, ProviderError};

/// An error as the client is to see it.
#[derive(Clone, Copy, Debug)]
pub struct ErrorBody<'a> {
    /// HTTP status; also decides the `type` of the body.
    pub status: u16,
    /// Machine-readable code (OpenAI's `code`).
    pub code: &'a str,
    /// One or two sentences: what, where, what to do.
    pub message: &'a str,
    /// The field at fault.
    pub param: Option<&'a str>,
    /// Anthropic's `error.details`, by which its SDKs choose what to do.
    pub details: Option<&'a Value>,
    /// The request's id, which Anthropic bodies carry.
    pub request_id: &'a str,
}

impl ErrorBody<'_> {
    /// The body in `format`.
    #[must_use]
    pub fn render(&self, format: Format) -> Bytes {
        codec(format).error_body(self).to_string().into()
    }

    /// The body for a caller whose format isn't known: it has what every SDK looks for.
    #[must_use]
    pub fn render_for_any(&self) -> Bytes {
        let mut body = codec(Format::OpenAiChat).error_body(self);
        body["type"] = "error".into();
        body["request_id"] = self.request_id.into();
        body.to_string().into()
    }

    /// The event that ends a broken stream in `format`: after it nothing may follow.
    ///
    /// It begins on a line of its own, so the caller must have sent whole events only.
    #[must_use]
    pub fn render_event(&self, format: Format) -> Bytes {
        codec(format).error_event(self)
    }
}

/// The sentence in a provider's error body, whichever of the known shapes it has.
///
/// Providers put it in `error.message`, `error` (a string), `message` or `detail`, or send it as plain
/// text; HTML pages yield nothing.
#[must_use]
pub fn provider_message(body: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(without_bom(body));
    match Json::parse(&text) {
        Ok(json) => provider_error::message(&json),
        Err(_) => plain_text(&text),
    }
}

/// The most characters that are taken from an error that is plain text.
const LONGEST_TEXT: usize = 500;

/// Returns the text of an error that is neither JSON nor HTML.
pub(crate) fn plain_text(body: &str) -> Option<String> {
    let text = body.trim();
    let readable = |c: char| !c.is_control() || c.is_ascii_whitespace();
    let is_text = !text.is_empty()
        && !text.starts_with(['<', '{', '['])
        && text
            .chars()
            .all(|c| readable(c) && c != char::REPLACEMENT_CHARACTER);
    is_text.then(|| text.chars().take(LONGEST_TEXT).collect())
}

/// Returns the `error.details` of an Anthropic error body, if it has any.
#[must_use]
pub fn provider_details(body: &[u8]) -> Option<Value> {
    let mut value: Value = serde_json::from_slice(body).ok()?;
    let details = value.pointer_mut("/error/details")?.take();
    details.is_object().then_some(details)
}

/// Returns the reason for which a provider refuses our credential or account, if an error says so:
/// by its status, or by its code, type or status name.
#[must_use]
pub fn account_error(status: u16, body: &[u8]) -> Option<AccountError> {
    let text = String::from_utf8_lossy(without_bom(body));
    let json = Json::parse(&text).unwrap_or(Json::Null);
    provider_error::account_error(status, &json)
}

/// Returns true if an error names a field, in its code, its message or where it stands.
#[must_use]
pub fn names_field(body: &[u8], field: &str) -> bool {
    memmem::find(body, field.as_bytes()).is_some()
}

/// Returns a text without the byte order mark before it.
pub(crate) fn without_bom(text: &[u8]) -> &[u8] {
    text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text)
}

/// Returns true if a JSON body is an error although its status is a success: its first member says
/// so. None while too little of the body has come.
#[must_use]
pub fn begins_with_error(body: &[u8]) -> Option<bool> {
    let mut rest = without_bom(body).trim_ascii_start();
    // Gemini wraps its error in a list on some endpoints.
    for open in [&b"["[..], b"{", b"\""] {
        match rest.strip_prefix(open) {
            Some(inside) => rest = inside.trim_ascii_start(),
            None if rest.is_empty() => return None,
            None if open == b"[" => {}
            None => return Some(false),
        }
    }
    let end = memchr::memchr(b'"', rest)?;
    let (name, rest) = rest.split_at(end);
    let value = rest.get(1..)?.trim_ascii_start().strip_prefix(b":");
    let value = value.unwrap_or_default().trim_ascii_start();
    match name {
        b"error" => value.first().map(|first| *first != b'n'),
        b"type" if value.len() < ERROR.len() && ERROR.starts_with(value) => None,
        b"type" => Some(value.starts_with(ERROR)),
        _ => Some(false),
    }
}

const ERROR: &[u8] = b"\"error\"";

/// The status that an error body would have had if its response's had been an error's.
#[must_use]
pub fn body_status(body: &[u8]) -> u16 {
    let text = String::from_utf8_lossy(without_bom(body));
    let json = Json::parse(&text).unwrap_or(Json::Null);
    ProviderError::read(None, &json).status
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ERROR: ErrorBody<'static> = ErrorBody {
        status: 404,
        code: "model_not_found",
        message: "No \"x\".",
        param: Some("model"),
        details: None,
        request_id: "req-1",
    };

    #[test]
    fn bodies_have_the_format_of_the_caller() {
        assert_eq!(
            serde_json::from_slice::<Value>(&ERROR.render(Format::OpenAiChat)).unwrap(),
            json!({"error": {"message": "No \"x\".", "type": "invalid_request_error",
                "param": "model", "code": "model_not_found"}})
        );
        assert_eq!(
            serde_json::from_slice::<Value>(&ERROR.render(Format::AnthropicMessages)).unwrap(),
            json!({"type": "error", "request_id": "req-1",
                "error": {"type": "not_found_error", "message": "No \"x\"."}})
        );
    }

    #[test]
    fn a_body_for_any_caller_holds_both_shapes() {
        let body: Value = serde_json::from_slice(&ERROR.render_for_any()).unwrap();
        let part = |format| serde_json::from_slice::<Value>(&ERROR.render(format)).unwrap();
        assert_eq!(body["error"], part(Format::OpenAiChat)["error"]);
        assert_eq!(
            (&body["type"], &body["request_id"]),
            (&json!("error"), &json!("req-1"))
        );
    }

    #[test]
    fn missing_params_stay_as_null() {
        let body = ErrorBody {
            param: None,
            ..ERROR
        }
        .render(Format::OpenAiResponses);
        assert!(String::from_utf8_lossy(&body).contains("\"param\":null"));
    }

    #[test]
    fn events_are_whole_and_named_where_names_matter() {
        for (format, start) in [
            (Format::OpenAiChat, "data: {\"error\""),
            (Format::AnthropicMessages, "event: error\ndata: {"),
            (Format::OpenAiResponses, "event: error\ndata: {"),
        ] {
            let event = String::from_utf8(ERROR.render_event(format).to_vec()).unwrap();
            assert!(
                event.starts_with(start) && event.ends_with("}\n\n"),
                "{event}"
            );
        }
    }

    #[test]
    fn errors_of_our_account_are_told_from_the_clients() {
        const CREDENTIAL: Option<AccountError> = Some(AccountError::Credential);
        const MONEY: Option<AccountError> = Some(AccountError::OutOfMoney);
        let invalid_key = r#"[{"error":{"code":400,"status":"INVALID_ARGUMENT",
            "details":[{"reason":"API_KEY_INVALID"}]}}]"#;
        for (status, body, want) in [
            (429, r#"{"error":{"code":"insufficient_quota"}}"#, MONEY),
            (
                429,
                r#"{"error":{"type":"insufficient_quota","code":null}}"#,
                MONEY,
            ),
            (
                429,
                r#"{"error":{"details":{"error_code":"enforced_spend_limit_reached"}}}"#,
                MONEY,
            ),
            (429, r#"{"error":{"code":"rate_limit_exceeded"}}"#, None),
            (429, "slow down", None),
            (400, r#"{"error":{"type":"billing_error"}}"#, MONEY),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error",
                    "message":"Your credit balance is too low to access the Anthropic API."}}"#,
                MONEY,
            ),
            (400, r#"{"error":{"type":"invalid_request_error"}}"#, None),
            (400, invalid_key, CREDENTIAL),
            (401, "", CREDENTIAL),
            (402, "<html>", MONEY),
            (403, "", CREDENTIAL),
            (403, r#"{"error":{"type":"permission_error"}}"#, CREDENTIAL),
            (
                403,
                r#"{"error":{"status":"PERMISSION_DENIED"}}"#,
                CREDENTIAL,
            ),
            (
                403,
                r#"{"error":{"code":"unsupported_country_region_territory"}}"#,
                None,
            ),
            (
                403,
                r#"{"error":{"code":"content_policy_violation"}}"#,
                None,
            ),
            (
                403,
                r#"{"error":{"code":403,"metadata":{"reasons":["violence"],"flagged_input":"x"}}}"#,
                None,
            ),
            (404, r#"{"error":{"code":"model_not_found"}}"#, None),
            (500, "", None),
        ] {
            assert_eq!(
                account_error(status, body.as_bytes()),
                want,
                "{status} {body}"
            );
        }
    }

    #[test]
    fn finds_the_sentence_in_known_shapes() {
        let cases = [
            (r#"{"error":{"message":"a"}}"#, Some("a")),
            (r#"{"error":"b"}"#, Some("b")),
            (r#"{"message":"c"}"#, Some("c")),
            (r#"{"detail":"d"}"#, Some("d")),
            (r#"[{"error":{"message":"e"}}]"#, Some("e")),
            ("<html>502</html>", None),
            ("\u{feff}{\"error\":{\"message\":\"f\"}}", Some("f")),
            (" bad request\n", Some("bad request")),
            ("", None),
            ("\u{1}binary", None),
            (r#"{"detail":[{"msg":"g"},{"msg":"h"}]}"#, Some("g; h")),
            (r#"{"detail":[1]}"#, None),
        ];
        for (body, expected) in cases {
            assert_eq!(
                provider_message(body.as_bytes()).as_deref(),
                expected,
                "{body}"
            );
        }
    }

    #[test]
    fn the_first_member_tells_errors_from_answers() {
        let cases = [
            (r#"{"error":{"#, Some(true)),
            ("\n { \"error\" : {", Some(true)),
            (r#"[{"error":{"#, Some(true)),
            (r#"{"type":"error","#, Some(true)),
            (r#"{"type":"message","#, Some(false)),
            (r#"{"error":null,"#, Some(false)),
            (r#"{"id":"chatcmpl-1","error":{}"#, Some(false)),
            ("[1,2]", Some(false)),
            ("<html>", Some(false)),
            (r#"{"id""#, Some(false)),
            ("", None),
            ("{", None),
            (r#"{"err"#, None),
            (r#"{"error":"#, None),
            (r#"{"type":"err"#, None),
        ];
        for (body, want) in cases {
            assert_eq!(begins_with_error(body.as_bytes()), want, "{body}");
        }
        for (body, status) in [
            (r#"[{"error":{"status":"X","code":429}}]"#, 429),
            (
                r#"{"error":{"message":"model overloaded","code":503}}"#,
                503,
            ),
            (r#"{"error":{"code":"503"}}"#, 503),
            (r#"{"error":{"type":"authentication_error"}}"#, 401),
            (r#"{"error":{"message":"x"}}"#, 502),
            (r#"{"error":"x"}"#, 502),
            (r#"{"error":{"code":99}}"#, 502),
        ] {
            assert_eq!(body_status(body.as_bytes()), status, "{body}");
        }
    }
}
