//! Error bodies in the caller's format, so that its SDK raises the right class. Which error when
//! is the service's to decide.

use bytes::Bytes;
use llm_router_domain::format::Format;
use llm_router_domain::retry::is_spend_limit;
use serde_json::{Value, json};

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
    /// The request's id, which Anthropic bodies carry.
    pub request_id: &'a str,
}

impl ErrorBody<'_> {
    /// The body in `format`.
    ///
    /// OpenAI: all four keys, as its SDKs expect. Anthropic: `type`, `error`, `request_id`.
    #[must_use]
    pub fn render(&self, format: Format) -> Bytes {
        self.value(format).to_string().into()
    }

    /// The body for a caller whose format can't be told: it has what every SDK looks for.
    #[must_use]
    pub fn render_for_any(&self) -> Bytes {
        let mut value = self.value(Format::OpenAiChat);
        value["type"] = "error".into();
        value["request_id"] = self.request_id.into();
        value.to_string().into()
    }

    /// The event that ends a broken stream in `format`: after it nothing may follow.
    ///
    /// It begins on a line of its own, so the caller must have sent whole events only.
    #[must_use]
    pub fn render_event(&self, format: Format) -> Bytes {
        let text = match format {
            Format::AnthropicMessages => format!("event: error\ndata: {}\n\n", self.value(format)),
            Format::OpenAiResponses => {
                let event = json!({
                    "type": "error",
                    "code": self.code,
                    "message": self.message,
                    "param": self.param,
                    "sequence_number": 0,
                });
                format!("event: error\ndata: {event}\n\n")
            }
            Format::OpenAiChat | Format::Gemini => format!("data: {}\n\n", self.value(format)),
        };
        text.into()
    }

    fn value(&self, format: Format) -> Value {
        match format {
            Format::AnthropicMessages => json!({
                "type": "error",
                "error": { "type": anthropic_type(self.status), "message": self.message },
                "request_id": self.request_id,
            }),
            Format::Gemini => json!({
                "error": {
                    "code": self.status,
                    "message": self.message,
                    "status": google_status(self.status),
                },
            }),
            Format::OpenAiChat | Format::OpenAiResponses => json!({
                "error": {
                    "message": self.message,
                    "type": openai_type(self.status, self.code),
                    "param": self.param,
                    "code": self.code,
                },
            }),
        }
    }
}

/// The `error.type` that OpenAI gives a status.
fn openai_type(status: u16, code: &str) -> &str {
    match (status, code) {
        (429, "insufficient_quota") => code,
        (401, _) => "authentication_error",
        (403, _) => "permission_error",
        (429, _) => "rate_limit_error",
        (400..=499, _) => "invalid_request_error",
        _ => "server_error",
    }
}

/// The `error.type` that Anthropic gives a status (API errors, docs.claude.com).
fn anthropic_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        409 => "conflict_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    }
}

/// The `error.status` that Google gives a status (google.rpc.Code).
fn google_status(status: u16) -> &'static str {
    match status {
        400 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        504 => "DEADLINE_EXCEEDED",
        500 => "INTERNAL",
        _ => "UNAVAILABLE",
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

/// Whether a provider's error body says that the account has used up its money, in OpenAI's
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

#[cfg(test)]
mod tests {
    use super::*;

    const ERROR: ErrorBody<'static> = ErrorBody {
        status: 404,
        code: "model_not_found",
        message: "No \"x\".",
        param: Some("model"),
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
}
