//! Errors of the admin service in their one shape, and those that many handlers answer. Which
//! request gets which error is decided by its handler.

use std::borrow::Cow;

use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use llm_router_store::StoreError;
use serde_json::json;

/// An error of the admin service: `{"error": {"code", "message", "field"}}`.
#[derive(Debug)]
pub struct AdminError {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: String,
    pub(crate) field: Option<Cow<'static, str>>,
    /// A header of the response, such as `allow` with 405.
    pub(crate) header: Option<Box<(HeaderName, HeaderValue)>>,
}

impl AdminError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            field: None,
            header: None,
        }
    }

    /// 400 for a field or parameter with an invalid value.
    pub(crate) fn invalid(field: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self {
            field: Some(field.into()),
            ..Self::new(StatusCode::BAD_REQUEST, "invalid_value", message)
        }
    }

    /// 404.
    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }
}

impl IntoResponse for AdminError {
    fn into_response(self) -> Response {
        let body = json!({
            "error": { "code": self.code, "message": self.message, "field": self.field }
        });
        let mut response = (self.status, axum::Json(body)).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110, section 11.6.1: 401 says how to authenticate.
            let bearer = HeaderValue::from_static("Bearer");
            headers.insert(header::WWW_AUTHENTICATE, bearer);
        }
        if let Some(header) = self.header {
            headers.insert(header.0, header.1);
        }
        response
    }
}

/// 403.
pub(crate) fn forbidden(message: impl Into<String>) -> AdminError {
    AdminError::new(StatusCode::FORBIDDEN, "permission_denied", message)
}

/// Logs a failure of the store and answers 503.
pub(crate) fn store_unavailable(error: StoreError) -> AdminError {
    tracing::warn!(%error, "store failed while handling an admin request");
    unavailable("The store is unavailable. Try again later.")
}

/// Logs a failure of the ledger's store and answers 503.
pub(crate) fn ledger_unavailable(error: StoreError) -> AdminError {
    tracing::warn!(%error, "failed to read the ledger");
    unavailable("The ledger is unavailable. Try again later.")
}

fn unavailable(message: &str) -> AdminError {
    AdminError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "store_unavailable",
        message,
    )
}
