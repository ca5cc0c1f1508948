//! Keys that clients present: their permissions, and how a presented key is recognised. It must not
//! store them: the snapshot and the store do.

mod spec;

use std::fmt;
use std::time::SystemTime;

use hmac::{Hmac, KeyInit as _, Mac as _};
use schemars::JsonSchema;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use crate::budget::Budget;
use crate::limit::Limits;
use crate::pattern::PatternList;

pub use spec::{BudgetSpec, KeyFieldError, KeySpec, LimitSpec};

/// Role of a key.
///
/// In ascending order of power.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Calls models and sees its own usage.
    #[default]
    User,
    /// Sees everything, too.
    Viewer,
    /// Toggles and edits rules, too.
    Operator,
    /// Changes providers, keys and the configuration, too.
    Admin,
}

impl Role {
    /// The name used in YAML and in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// A key that clients present, without the key itself.
#[derive(Clone, Debug)]
pub struct Key {
    /// Name, unique among all keys; what logs and the ledger show.
    pub name: String,
    /// The team or project that the key belongs to.
    pub owner: Option<String>,
    /// Role of the key.
    pub role: Role,
    /// The models that the key may ask for and be routed to.
    pub models: PatternList,
    /// Time from which on the key is rejected; none if it never expires.
    pub expires_at: Option<SystemTime>,
    /// Ceilings per window.
    pub limits: Limits,
    /// A ceiling of money.
    pub budget: Option<Allowance>,
}

/// Money that may be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// The ceiling.
    pub budget: Budget,
    /// Allows models without a price.
    pub allow_unpriced: bool,
}

impl Key {
    /// Returns true if the key has expired.
    #[must_use]
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.expires_at.is_some_and(|end| now >= end)
    }
}

/// The HMAC-SHA256 of a key under the installation's salt (RFC 2104, FIPS 180-4).
///
/// Comparison takes the same time wherever two hashes differ.
#[derive(Clone, Copy, Eq)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Reads the 64 hexadecimal digits of a hash.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        if hex.len() != 2 * bytes.len() || !hex.is_ascii() {
            return None;
        }
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(hex.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// The raw bytes, for storage.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl PartialEq for KeyHash {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl std::hash::Hash for KeyHash {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // The bytes are already uniformly distributed and secret; eight of them are a hash.
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        state.write_u64(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

/// Hashes presented keys with the installation's salt.
#[derive(Clone)]
pub struct KeyHasher(Hmac<Sha256>);

impl KeyHasher {
    /// A hasher for one salt. HMAC takes a salt of any length.
    #[must_use]
    pub fn new(salt: &SecretString) -> Self {
        match Hmac::new_from_slice(salt.expose_secret().as_bytes()) {
            Ok(mac) => Self(mac),
            // RFC 2104 gives every key length a meaning and the implementation follows it.
            Err(_) => unreachable!("HMAC accepts keys of any length"),
        }
    }

    /// Hashes a key as the client presented it.
    #[must_use]
    pub fn hash(&self, key: &[u8]) -> KeyHash {
        let mut mac = self.0.clone();
        mac.update(key);
        KeyHash(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHasher(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_hmac_sha256() {
        // RFC 4231, test case 2.
        let hash = KeyHasher::new(&"Jefe".into()).hash(b"what do ya want for nothing?");
        let hex: String = hash
            .as_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn equal_only_for_the_same_key_and_salt() {
        let one = KeyHasher::new(&"salt".into());
        let two = KeyHasher::new(&"other".into());
        assert_eq!(one.hash(b"key"), one.hash(b"key"));
        assert_ne!(one.hash(b"key"), one.hash(b"key "));
        assert_ne!(one.hash(b"key"), two.hash(b"key"));
    }

    #[test]
    fn roles_ascend() {
        assert!(Role::User < Role::Viewer && Role::Operator < Role::Admin);
    }

    #[test]
    fn nothing_secret_is_printed() {
        let hasher = KeyHasher::new(&"salt-secret".into());
        let text = format!("{hasher:?} {:?}", hasher.hash(b"key-secret"));
        assert!(!text.contains("secret"), "{text}");
    }
}
