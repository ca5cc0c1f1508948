//! Keeps a provider's secrets out of what clients are shown.

use std::mem;

use bytes::{Bytes, BytesMut};
use memchr::memmem;
use secrecy::{ExposeSecret as _, SecretString};

use crate::snapshot::CompiledProvider;

/// Overwrites our secrets in what a client is shown.
pub(crate) fn clean(body: &mut Option<Bytes>, provider: &CompiledProvider) {
    let Some(bytes) = body.as_mut().filter(|_| !provider.secrets.is_empty()) else {
        return;
    };
    let mut cleaned = BytesMut::from(mem::take(bytes));
    for secret in &provider.secrets {
        redact(&mut cleaned, secret);
    }
    *bytes = cleaned.freeze();
}

/// Returns a provider's sentence without our secrets.
pub(crate) fn clean_text(said: String, provider: &CompiledProvider) -> String {
    let mut body = Some(Bytes::from(said));
    clean(&mut body, provider);
    String::from_utf8_lossy(&body.unwrap_or_default()).into_owned()
}

/// Overwrites a credential wherever it stands, keeping the length.
fn redact(body: &mut [u8], credential: &SecretString) {
    let secret = credential.expose_secret().as_bytes();
    if secret.is_empty() {
        return;
    }
    let found: Vec<usize> = memmem::find_iter(body, secret).collect();
    for at in found {
        body[at..at + secret.len()].fill(b'*');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_overwritten() {
        let mut body = b"key sk-abc and sk-abc.".to_vec();
        redact(&mut body, &"sk-abc".into());
        assert_eq!(body, b"key ****** and ******.");
    }
}
