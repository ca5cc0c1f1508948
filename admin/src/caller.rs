//! The caller of a request: its key, its role and the usage it may see. Which role an endpoint needs
//! is in `endpoints.rs`.

use std::net::IpAddr;

use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use llm_router_domain::key::Role;

use crate::backend::Backend;
use crate::error::{AdminError, forbidden};

/// The key that authenticated a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Role of the key.
    pub role: Role,
    /// Name of the key.
    pub key: String,
    /// Owner of the key, if it has one.
    pub owner: Option<String>,
}

/// The address that a request came from. Listeners add it to the request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct ClientAddress(pub IpAddr);

/// The reason for which a request isn't authenticated.
#[derive(Debug)]
pub struct AuthenticationError {
    /// A sentence for the client.
    pub message: String,
    /// Seconds to wait, if too many unknown keys came from the client's address.
    pub retry_after: Option<String>,
}

/// Authenticates a request.
///
/// # Errors
/// 401 without a valid key; 429 instead if too many unknown keys came from the client's address.
pub(crate) fn caller(backend: &dyn Backend, parts: &Parts) -> Result<Caller, AdminError> {
    let address = parts.extensions.get::<ClientAddress>();
    let address = address.map(|address| address.0);
    let authenticated = backend.authenticate(&parts.headers, address);
    authenticated.map_err(|error| {
        let Some(retry_after) = error.retry_after else {
            return AdminError::new(StatusCode::UNAUTHORIZED, "invalid_api_key", error.message);
        };
        let retry_after = HeaderValue::try_from(retry_after).ok();
        AdminError {
            header: retry_after.map(|value| Box::new((header::RETRY_AFTER, value))),
            ..AdminError::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_exceeded",
                error.message,
            )
        }
    })
}

impl Caller {
    /// Checks that the caller has this role or a higher one. `what` is the subject of the error's
    /// sentence.
    ///
    /// # Errors
    /// 403.
    pub(crate) fn must_be(&self, role: Role, what: &str) -> Result<(), AdminError> {
        if self.role >= role {
            return Ok(());
        }
        let message = format!("{what} requires a key with role {} or above.", role.name());
        Err(forbidden(message))
    }
}

/// The usage that a caller may see: everything, or only that of one owner or one key.
#[derive(Debug, Default)]
pub(crate) struct UsageScope {
    pub(crate) key: Option<String>,
    pub(crate) owner: Option<String>,
}

impl UsageScope {
    pub(crate) fn new(caller: Caller) -> Self {
        if caller.role >= Role::Viewer {
            return Self::default();
        }
        match caller.owner {
            Some(owner) => Self {
                owner: Some(owner),
                key: None,
            },
            None => Self {
                owner: None,
                key: Some(caller.key),
            },
        }
    }

    /// Returns true if usage of this key and owner is visible.
    pub(crate) fn includes(&self, key: &str, owner: &str) -> bool {
        let matches =
            |wanted: &Option<String>, actual: &str| wanted.as_deref().is_none_or(|w| w == actual);
        matches(&self.key, key) && matches(&self.owner, owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_see_their_owner_or_their_key_only() {
        let caller = |role, owner: Option<&str>| Caller {
            role,
            key: "k".to_owned(),
            owner: owner.map(str::to_owned),
        };
        for (caller, key, owner, visible) in [
            (caller(Role::Viewer, Some("a")), "x", "b", true),
            (caller(Role::User, Some("a")), "x", "a", true),
            (caller(Role::User, Some("a")), "k", "b", false),
            (caller(Role::User, None), "k", "b", true),
            (caller(Role::User, None), "x", "", false),
        ] {
            let scope = UsageScope::new(caller.clone());
            assert_eq!(scope.includes(key, owner), visible, "{caller:?}");
        }
    }
}
