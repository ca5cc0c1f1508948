//! Error bodies in the caller's format, so that its SDK raises the right class. Which error when
//! is the service's to decide.

use bytes::Bytes;
use llm_router_domain::format::Format;
use llm_router_domain::retry::is_spend_limit;
use serde_json::Value;

use crate::formats::codec;

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
/// Providers put it in `error.message`, `error` (a string), `message` or `detail`; bodies of
/// other shapes, HTML pages among them, yield nothing.
#[must_use]
pub fn provider_message(body: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    // Gemini wraps its error in a list on some endpoints.
    let value = value.get(0).unwrap_or(&value);
    ["/error/message", "/error", "/message", "/detail"]
        .iter()
        .find_map(|pointer| value.pointer(pointer)?.as_str())
        .map(str::to_owned)
}

/// Returns the `error.details` of an Anthropic error body, if it has any.
#[must_use]
pub fn provider_details(body: &[u8]) -> Option<Value> {
    let mut value: Value = serde_json::from_slice(body).ok()?;
    let details = value.pointer_mut("/error/details")?.take();
    details.is_object().then_some(details)
}

/// Returns true if a provider's error body says that the account has used up its money, in OpenAI's
/// `error.code` or `error.type` or Anthropic's `error.details.error_code`.
#[must_use]
pub fn says_spend_limit(body: &[u8]) -> bool {
    let Ok(value) = serde_json::from_slice::<Value>(body) else {
        return false;
    };
    ["/error/code", "/error/type", "/error/details/error_code"]
        .iter()
        .filter_map(|pointer| value.pointer(pointer)?.as_str())
        .any(is_spend_limit)
}

/// Returns true if a JSON body is an error although its status is a success: its first member says
/// so. None while too little of the body has come.
#[must_use]
pub fn begins_with_error(body: &[u8]) -> Option<bool> {
    let mut rest = body.trim_ascii_start();
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
    let value = serde_json::from_slice::<Value>(body).unwrap_or_default();
    event_status(value.get(0).unwrap_or(&value))
}

/// The status that an error event would have had as a response of its own. Only the statuses that
/// differ in what is tried next are told apart; every other error is a 502.
pub(crate) fn event_status(value: &Value) -> u16 {
    let error = value.get("error").unwrap_or(value);
    let code = error.get("code");
    if let Some(status) = code.and_then(Value::as_u64) {
        return u16::try_from(status)
            .ok()
            .filter(|status| (400..600).contains(status))
            .unwrap_or(502);
    }
    let kinds = [error.get("type"), code];
    let kind = kinds.into_iter().flatten().filter_map(Value::as_str);
    let known = |kind: &str| match kind {
        "overloaded_error" => Some(529),
        "rate_limit_error" | "rate_limit_exceeded" | "RESOURCE_EXHAUSTED" => Some(429),
        "invalid_request_error" | "context_length_exceeded" | "INVALID_ARGUMENT" => Some(400),
        "permission_error" => Some(403),
        "not_found_error" => Some(404),
        "request_too_large" => Some(413),
        _ => None,
    };
    kind.filter_map(known).next().unwrap_or(502)
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
    fn spend_limits_are_told_from_rate_limits() {
        for (body, want) in [
            (r#"{"error":{"code":"insufficient_quota"}}"#, true),
            (
                r#"{"error":{"type":"insufficient_quota","code":null}}"#,
                true,
            ),
            (
                r#"{"error":{"details":{"error_code":"enforced_spend_limit_reached"}}}"#,
                true,
            ),
            (r#"{"error":{"code":"rate_limit_exceeded"}}"#, false),
            ("slow down", false),
        ] {
            assert_eq!(says_spend_limit(body.as_bytes()), want, "{body}");
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
        assert_eq!(
            body_status(br#"[{"error":{"status":"X","code":429}}]"#),
            429
        );
    }
}
