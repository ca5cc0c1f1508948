//! The credential of a provider, and the finished request that it authorizes. It must not know how
//! a type uses the one for the other.

use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use secrecy::{ExposeSecret as _, SecretString};

/// Credential that a provider knows us by, readable without waiting.
///
/// Header values are made once and marked sensitive, so that nothing prints them.
#[derive(Clone, Debug)]
pub struct Credential {
    plain: HeaderValue,
    bearer: HeaderValue,
}

impl Credential {
    /// Makes a credential from a key that the provider issued.
    ///
    /// # Errors
    /// [`AuthorizeError`] if no header can hold the key.
    pub fn new(key: &SecretString) -> Result<Self, AuthorizeError> {
        let key = key.expose_secret();
        Ok(Self {
            plain: sensitive(key)?,
            bearer: sensitive(&format!("Bearer {key}"))?,
        })
    }

    /// Returns the key alone, as a header's value.
    #[must_use]
    pub fn plain(&self) -> HeaderValue {
        self.plain.clone()
    }

    /// Returns the key as a bearer token (RFC 6750, section 2.1), as a header's value.
    #[must_use]
    pub fn bearer(&self) -> HeaderValue {
        self.bearer.clone()
    }

    /// Returns the header `authorization` with the key as a bearer token.
    pub(crate) fn bearer_header(&self) -> Vec<(HeaderName, HeaderValue)> {
        vec![(header::AUTHORIZATION, self.bearer())]
    }
}

fn sensitive(text: &str) -> Result<HeaderValue, AuthorizeError> {
    let value = HeaderValue::from_str(text);
    let mut value = value.map_err(|_| AuthorizeError::new("no header can hold the credential"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// A request that is ready to be sent but for its authorization.
#[derive(Clone, Copy, Debug)]
pub struct OutgoingRequest<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path below the base URL, as [`ProviderType::path`](crate::ProviderType::path) built it.
    pub path: &'a str,
    /// The path from the host on, with the query, as it is sent.
    pub target: &'a str,
    /// The headers as they are sent, `host` included.
    pub headers: &'a HeaderMap,
    /// The body in the pieces in which it is sent.
    pub body: &'a [Bytes],
    /// The time at which it is sent.
    pub time: SystemTime,
}

/// Reason why a request can't be authorized; it holds nothing of the credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AuthorizeError(String);

impl AuthorizeError {
    /// Makes an error from a sentence for the log.
    #[must_use]
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_never_printed() {
        let credential = Credential::new(&"sk-secret".into()).unwrap();
        assert!(!format!("{credential:?}").contains("sk-secret"));
        assert_eq!(credential.plain(), "sk-secret");
        assert_eq!(credential.bearer(), "Bearer sk-secret");
    }

    #[test]
    fn errors_hold_nothing_of_the_credential() {
        let error = Credential::new(&"sk-\nsecret".into()).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
