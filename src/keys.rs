//! New keys for the store: their text, which is shown once, and what is kept of them. Who may make
//! one is decided elsewhere.

use llm_router_domain::key::{KeyHasher, KeySpec};
use llm_router_store::StoreError;
use llm_router_store::objects::{ChangeError, Draft, Kind};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use crate::issued::{Hashed, PREFIX, sealed};
use crate::serve::random_key;

/// Why a key isn't made or changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeyError {
    /// A field, and what is wrong with it.
    #[error("{0} {1}")]
    Invalid(&'static str, &'static str),
    #[error("another key has that name")]
    Taken,
    #[error("there is no such key")]
    Missing,
    #[error("it was changed meanwhile")]
    Stale,
    /// The hashes of stored keys would be worthless after a restart.
    #[error(
        "API_KEY_SALT is not set. Stored keys are recognised by it: set it to the output of \
         `openssl rand -hex 32`, the same on every replica and for ever"
    )]
    NoSalt,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Characters of a key that its holder may recognise it by.
const SHOWN: usize = 16;

/// Checks what the types of a key can't say.
pub(crate) fn checked(spec: &KeySpec) -> Result<(), KeyError> {
    spec.check()
        .map_err(|(field, wrong)| KeyError::Invalid(field, wrong))
}

/// A new key: what is stored of it, and its text.
pub(crate) fn new_key(
    hasher: &KeyHasher,
    spec: &KeySpec,
) -> Result<(Draft, SecretString), KeyError> {
    let text = random_key();
    let hashed = Hashed {
        hash: hasher.hash(text.expose_secret().as_bytes()),
        until: None,
    };
    let id = Uuid::now_v7().to_string();
    let draft = draft(id, spec, prefix(&text), Some(sealed(&[hashed]).into()))?;
    Ok((draft, text))
}

fn draft(
    id: String,
    spec: &KeySpec,
    prefix: &str,
    sealed: Option<SecretString>,
) -> Result<Draft, KeyError> {
    let body = serde_json::to_value(spec);
    let mut body = body.map_err(|error| StoreError::Refused(error.to_string()))?;
    body[PREFIX] = prefix.into();
    Ok(Draft {
        kind: Kind::Key,
        id,
        name: spec.name.clone(),
        body,
        sealed,
    })
}

fn prefix(text: &SecretString) -> &str {
    text.expose_secret().get(..SHOWN).unwrap_or_default()
}

pub(crate) fn refused(error: ChangeError) -> KeyError {
    match error {
        ChangeError::Taken => KeyError::Taken,
        ChangeError::Missing => KeyError::Missing,
        ChangeError::Stale(_) => KeyError::Stale,
        ChangeError::Store(error) => KeyError::Store(error),
    }
}
