//! Secrets that are stored: sealed with AES-256-GCM under a key that HKDF-SHA256 derives from
//! `SECRET_KEY` (NIST SP 800-38D, RFC 5869). It must not know what is sealed nor where it is kept.

use std::fmt;

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use hkdf::Hkdf;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;
use uuid::Uuid;

/// Seals and opens secrets. Sealing uses the newest key; opening tries the earlier ones too, so
/// that `SECRET_KEY` can be changed without losing what is stored.
#[derive(Clone)]
pub struct Sealer {
    newest: Aes256Gcm,
    earlier: Vec<Aes256Gcm>,
}

/// Errors of sealing or opening a secret. They must not contain the secret or the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key could be guessed.
    #[error("SECRET_KEY has {0} characters; it needs 32 or more, as from `openssl rand -hex 32`")]
    ShortKey(usize),
    /// The stored text was not written by a [`Sealer`].
    #[error("the stored secret is damaged, or was written by a newer version")]
    Malformed,
    /// The key is another one, the context is, or the text was changed.
    #[error(
        "the stored secret can't be opened: SECRET_KEY is not the one it was sealed with (name that \
         one in SECRET_KEY_PREVIOUS), or it was altered"
    )]
    Refused,
    /// The secret is beyond what AES-GCM seals in one piece, 64 GiB.
    #[error("the secret is too long to be sealed")]
    TooLong,
}

/// Prefix of a sealed text, one for each version of the format.
const VERSION: &str = "v1.";

/// Characters that a key needs.
const SHORTEST_KEY: usize = 32;

const NONCE_BYTES: usize = 12;

/// Separates this use of `SECRET_KEY` from any later one.
const PURPOSE: &[u8] = b"llm-router/stored-credential/v1";

impl Sealer {
    /// A sealer for `SECRET_KEY` and the keys that were in use before it.
    ///
    /// # Errors
    /// Returns an error if a key has fewer than 32 characters.
    pub fn new(key: &SecretString, earlier: &[SecretString]) -> Result<Self, SealError> {
        Ok(Self {
            newest: cipher(key)?,
            earlier: earlier.iter().map(cipher).collect::<Result<_, _>>()?,
        })
    }

    /// Seals a secret. `context` says what it belongs to, such as `provider/openai/api_key`: only
    /// with the same one can it be opened, so that no stored secret can be put in another's place.
    ///
    /// # Errors
    /// Returns an error if the secret is too long.
    pub fn seal(&self, context: &str, secret: &SecretString) -> Result<String, SealError> {
        let nonce = random_nonce();
        let payload = Payload {
            msg: secret.expose_secret().as_bytes(),
            aad: context.as_bytes(),
        };
        let sealed = self.newest.encrypt(&Nonce::from(nonce), payload);
        let sealed = sealed.map_err(|_| SealError::TooLong)?;
        let text = STANDARD_NO_PAD.encode([&nonce[..], &sealed].concat());
        Ok(format!("{VERSION}{text}"))
    }

    /// Opens what [`Self::seal`] gave for the same context.
    ///
    /// # Errors
    /// Returns an error if none of the keys fits, or the text isn't sealed.
    pub fn open(&self, context: &str, sealed: &str) -> Result<SecretString, SealError> {
        let text = sealed.strip_prefix(VERSION).ok_or(SealError::Malformed)?;
        let bytes = STANDARD_NO_PAD.decode(text);
        let bytes = bytes.map_err(|_| SealError::Malformed)?;
        let (nonce, sealed) = bytes
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(SealError::Malformed)?;
        let aad = context.as_bytes();
        let opened = [&self.newest].into_iter().chain(&self.earlier);
        let mut opened = opened.filter_map(|cipher| {
            let payload = Payload { msg: sealed, aad };
            cipher.decrypt(&Nonce::from(*nonce), payload).ok()
        });
        let secret = opened.next().ok_or(SealError::Refused)?;
        let secret = String::from_utf8(secret).map_err(|_| SealError::Malformed)?;
        Ok(secret.into())
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

fn cipher(key: &SecretString) -> Result<Aes256Gcm, SealError> {
    let length = key.expose_secret().chars().count();
    if length < SHORTEST_KEY {
        return Err(SealError::ShortKey(length));
    }
    let mut derived = [0; 32];
    Hkdf::<Sha256>::new(None, key.expose_secret().as_bytes())
        .expand(PURPOSE, &mut derived)
        .map_err(|_| SealError::Malformed)?;
    Ok(Aes256Gcm::new(&derived.into()))
}

/// 96 random bits, out of the 122 of a version 4 UUID: the fixed ones stand in bytes 6 and 8.
fn random_nonce() -> [u8; NONCE_BYTES] {
    let [a, b, c, d, e, f, _, _, _, g, h, i, j, k, l, _] = *Uuid::new_v4().as_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l]
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "0123456789abcdef0123456789abcdef";
    const TWO: &str = "fedcba9876543210fedcba9876543210";

    fn sealer(key: &str, earlier: &[&str]) -> Sealer {
        let earlier: Vec<SecretString> = earlier.iter().map(|&key| key.into()).collect();
        Sealer::new(&key.into(), &earlier).unwrap()
    }

    #[test]
    fn what_is_sealed_can_be_opened_with_its_key_and_context_only() {
        let sealed = sealer(ONE, &[]).seal("provider/a", &"sk-1".into()).unwrap();
        for (key, earlier, context, expected) in [
            (ONE, &[][..], "provider/a", Ok("sk-1")),
            (TWO, &[ONE], "provider/a", Ok("sk-1")),
            (TWO, &[], "provider/a", Err(SealError::Refused)),
            (ONE, &[], "provider/b", Err(SealError::Refused)),
        ] {
            let opened = sealer(key, earlier).open(context, &sealed);
            let opened = opened.as_ref().map(|secret| secret.expose_secret());
            assert_eq!(opened, expected.as_ref().copied(), "{key} {context}");
        }
    }

    #[test]
    fn no_altered_text_is_opened() {
        let sealer = sealer(ONE, &[]);
        let sealed = sealer.seal("c", &"sk-1".into()).unwrap();
        for position in 0..sealed.len() {
            let mut altered = sealed.clone().into_bytes();
            altered[position] = if altered[position] == b'A' {
                b'B'
            } else {
                b'A'
            };
            let altered = String::from_utf8(altered).unwrap();
            assert!(sealer.open("c", &altered).is_err(), "{position}");
        }
        for text in ["", "v1.", "v1.AAAA", "v2.AAAA", "sk-1"] {
            assert!(sealer.open("c", text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_same_secret_is_sealed_otherwise_each_time_and_never_shown() {
        let sealer = sealer(ONE, &[]);
        let seal = || sealer.seal("c", &"sk-secret".into()).unwrap();
        assert_ne!(seal(), seal());
        assert!(!format!("{sealer:?}{}", seal()).contains("secret"));
        assert_eq!(
            Sealer::new(&"short".into(), &[]).unwrap_err(),
            SealError::ShortKey(5)
        );
    }
}
