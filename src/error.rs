//! Errors that the router itself answers a client with (contract, section 4). How they look on
//! the wire is `llm-router-wire`'s; sending them is the proxy's.

use std::borrow::Cow;
use std::time::Duration;

use http::Method;
use llm_router_domain::format::Endpoint;
use llm_router_domain::refusal::RefusedBy;
use llm_router_domain::retry::AccountError;
use llm_router_wire::request::HeadError;
use llm_router_wire::translate::TranslateError;
use serde_json::Value;

/// An error answer: what the client is told, and how.
#[derive(Clone, Debug)]
pub(crate) struct ApiError {
    pub(crate) status: u16,
    /// OpenAI's `code`; also the `code` label of `llm_router_errors_total`.
    pub(crate) code: &'static str,
    pub(crate) message: Cow<'static, str>,
    pub(crate) param: Option<Cow<'static, str>>,
    /// Anthropic's `error.details`, by which its SDKs choose what to do.
    pub(crate) details: Option<Box<Value>>,
    /// Seconds or date to send as `retry-after`, as the provider gave it.
    pub(crate) retry_after: Option<String>,
    /// Set if SDKs are told not to try again (`x-should-retry: false`).
    pub(crate) final_answer: bool,
    /// The methods that are served there, with 405.
    pub(crate) allow: Option<Allowed>,
}

/// The methods that are served at a path.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Allowed {
    Post,
    Read,
}

impl Allowed {
    /// Returns whether a method is one of them.
    pub(crate) fn takes(self, method: &Method) -> bool {
        match self {
            Self::Post => method == Method::POST,
            Self::Read => method == Method::GET || method == Method::HEAD,
        }
    }

    /// As in an `allow` header.
    pub(crate) const fn names(self) -> &'static str {
        match self {
            Self::Post => "POST",
            Self::Read => "GET, HEAD",
        }
    }
}

impl ApiError {
    fn new(status: u16, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            param: None,
            details: None,
            retry_after: None,
            final_answer: false,
            allow: None,
        }
    }

    fn with_param(self, param: &'static str) -> Self {
        Self {
            param: Some(Cow::Borrowed(param)),
            ..self
        }
    }

    pub(crate) fn invalid_api_key(message: &'static str) -> Self {
        Self::new(401, "invalid_api_key", message)
    }

    pub(crate) fn permission_denied(message: String) -> Self {
        Self::new(403, "permission_denied", message)
    }

    pub(crate) fn model_not_allowed(key: &str, model: &str) -> Self {
        let message = format!("The key \"{key}\" may not use the model \"{model}\".");
        Self::permission_denied(message)
    }

    /// The answer of a routing rule that blocks the request.
    pub(crate) fn block(status: u16, message: &str) -> Self {
        Self {
            final_answer: true,
            ..Self::new(status, "blocked", message.to_owned())
        }
    }

    /// A limit leaves no room for `seconds`.
    pub(crate) fn rate_limit_exceeded(message: String, seconds: u64) -> Self {
        Self {
            retry_after: Some(seconds.to_string()),
            ..Self::new(429, "rate_limit_exceeded", message)
        }
    }

    /// The request is larger than a limit, so that asking again is of no use.
    pub(crate) fn larger_than_limit(message: String) -> Self {
        Self {
            final_answer: true,
            ..Self::new(429, "rate_limit_exceeded", message)
        }
    }

    /// The memory for request bodies is used up.
    pub(crate) fn out_of_memory() -> Self {
        let message = "The router holds as many request bodies as it has memory for. Try again in a \
                       second.";
        Self {
            retry_after: Some("1".to_owned()),
            ..Self::new(503, "overloaded", message)
        }
    }

    /// Nobody counts, and the configuration says that nothing limited passes then.
    pub(crate) fn limits_unavailable() -> Self {
        let message = "The limits can't be counted at the moment. Try again in a second.";
        Self {
            retry_after: Some("1".to_owned()),
            ..Self::new(503, "limits_unavailable", message)
        }
    }

    pub(crate) fn insufficient_quota(message: String) -> Self {
        Self {
            final_answer: true,
            ..Self::new(429, "insufficient_quota", message)
        }
    }

    /// The journal can't be written, or what was spent of a budget can't be read: what can't be
    /// billed is not sent.
    pub(crate) fn ledger_unavailable() -> Self {
        Self::new(
            503,
            "ledger_unavailable",
            "The router can't account for what requests cost right now, so none is sent on. \
             Try again later.",
        )
    }

    pub(crate) fn model_not_found(model: &str) -> Self {
        let message = format!(
            "The model \"{model}\" does not exist here. GET /v1/models lists the names to use."
        );
        Self::new(404, "model_not_found", message).with_param("model")
    }

    /// Completions and embeddings are not translated.
    pub(crate) fn not_offered(model: &str, endpoint: Endpoint) -> Self {
        let message = format!(
            "No provider of the model \"{model}\" has {}; ask for a model of a provider that \
             has, or use chat completions, responses or messages.",
            endpoint.name()
        );
        Self::new(400, "invalid_value", message).with_param("model")
    }

    /// The key has a budget, and nothing bounds what the request may cost.
    pub(crate) fn unbounded_cost(field: String, message: String) -> Self {
        Self {
            param: Some(Cow::Owned(field)),
            ..Self::new(400, "invalid_value", message)
        }
    }

    /// The request holds what no candidate's format can express.
    pub(crate) fn untranslatable(error: &TranslateError) -> Self {
        let code = match error.code {
            Cow::Borrowed(code) => code,
            Cow::Owned(_) => "invalid_value",
        };
        Self {
            param: error.param.clone().map(Cow::Owned),
            details: error.details.clone(),
            ..Self::new(error.status, code, error.message.clone())
        }
    }

    pub(crate) fn not_found(path: &str) -> Self {
        Self::new(404, "not_found", format!("There is nothing at {path}."))
    }

    pub(crate) fn method_not_allowed(method: &str, path: &str, allow: Allowed) -> Self {
        let message = format!("{method} is not allowed on {path}; {} is.", allow.names());
        Self {
            allow: Some(allow),
            ..Self::new(405, "method_not_allowed", message)
        }
    }

    pub(crate) fn invalid_body(error: HeadError) -> Self {
        match error {
            HeadError::Json(_) => Self::new(400, "invalid_json", error.to_string()),
            HeadError::Field { param, message } => {
                Self::new(400, "invalid_value", message).with_param(param)
            }
        }
    }

    /// A body that can't be read for its texts.
    pub(crate) fn unreadable(why: String) -> Self {
        Self::new(400, "invalid_json", why)
    }

    pub(crate) fn bad_request(message: &'static str) -> Self {
        Self::new(400, "invalid_request", message)
    }

    pub(crate) fn unsupported_encoding() -> Self {
        let message = "The request body must not be compressed; send it without content-encoding.";
        Self::new(415, "unsupported_content_encoding", message)
    }

    pub(crate) fn body_timeout(limit: Duration) -> Self {
        let message = format!("The request body stood still for {}.", seconds(limit));
        Self::new(408, "request_timeout", message)
    }

    pub(crate) fn request_too_large(limit: u64) -> Self {
        let message = format!("The request body is larger than the {limit} bytes allowed here.");
        Self::new(413, "request_too_large", message)
    }

    /// Every candidate failed; `status` is the last upstream status, or 502.
    pub(crate) fn upstream_error(status: u16, message: String) -> Self {
        Self {
            final_answer: true,
            ..Self::new(status, "upstream_error", message)
        }
    }

    /// The last candidate refused the router's own credential, or its account has no money left.
    pub(crate) fn provider_auth(provider: &str, account: AccountError) -> Self {
        let why = match account {
            AccountError::Credential => "refused the router's credential",
            AccountError::OutOfMoney => {
                "refused the request: the router's account there has no money left"
            }
        };
        let message = format!("{provider} {why}. Tell the operator of this router.");
        Self {
            final_answer: true,
            ..Self::new(502, "provider_auth", message)
        }
    }

    pub(crate) fn upstream_timeout(provider: &str, waited: Duration) -> Self {
        let message = format!("{provider} did not answer within {}.", seconds(waited));
        Self {
            final_answer: true,
            ..Self::new(504, "upstream_timeout", message)
        }
    }

    /// The router ends before the answer is whole. Another replica may answer, so the client is
    /// not told to leave it.
    pub(crate) fn stopping() -> Self {
        Self::new(
            503,
            "router_stopping",
            "The router is stopping and can't wait for the rest of the answer; send the request again.",
        )
    }

    pub(crate) fn internal() -> Self {
        Self::new(
            500,
            "internal_error",
            "The router failed to handle this request.",
        )
    }
}

/// Returns the part of the router that a code of [`ApiError`] speaks for; `None` if a deployment failed.
pub(crate) fn refused_by(code: &str) -> Option<RefusedBy> {
    match code {
        "upstream_error" | "upstream_timeout" | "provider_auth" => None,
        "invalid_api_key" => Some(RefusedBy::Key),
        "permission_denied" => Some(RefusedBy::Permission),
        "rate_limit_exceeded" => Some(RefusedBy::Limit),
        "insufficient_quota" => Some(RefusedBy::Budget),
        "blocked" => Some(RefusedBy::Rule),
        "limits_unavailable" | "ledger_unavailable" | "router_stopping" | "internal_error" => {
            Some(RefusedBy::Router)
        }
        _ => Some(RefusedBy::Request),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}
