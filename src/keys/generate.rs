//! New keys for the store: their text, which is shown once, and what is kept of them. Who may make
//! one is decided elsewhere.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use llm_router_admin::ObjectError;
use llm_router_domain::key::{KeyHasher, KeySpec};
use llm_router_store::StoreError;
use llm_router_store::objects::{ObjectDraft, ObjectKind, StoredObject};
use secrecy::{ExposeSecret as _, SecretString};
use uuid::Uuid;

use crate::admin_api::editor::invalid;
use crate::keys::stored_keys::{Hashed, PREFIX, hashes_of, seal_hashes};
use crate::startup::random_key;

/// Characters of a key that its holder may recognise it by.
const SHOWN: usize = 16;

/// Most earlier texts of a key that work at once.
const MOST_EARLIER: usize = 4;

/// Without it the hashes of stored keys would be worthless after a restart.
pub(crate) fn no_salt() -> ObjectError {
    let message = "API_KEY_SALT is not set. Stored keys are recognised by it: set it to the output \
                   of `openssl rand -hex 32`, the same on every replica and for ever";
    ObjectError::NotConfigured(message.to_owned())
}

/// Checks what the types of a key can't say.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn check_spec(spec: &KeySpec) -> Result<(), ObjectError> {
    spec.check()
        .map_err(|(field, wrong)| invalid(field, format!("{field} {wrong}")))
}

/// A new key: what is stored of it, and its text.
pub(crate) fn new_key(
    hasher: &KeyHasher,
    spec: &KeySpec,
) -> Result<(ObjectDraft, SecretString), ObjectError> {
    let (text, hashed) = secret(hasher);
    let id = Uuid::now_v7().to_string();
    let draft = draft(id, spec, prefix(&text), Some(seal_hashes(&[hashed]).into()))?;
    Ok((draft, text))
}

/// Another text for a key: what is stored of it, and the text. Those before it work until `overlap`
/// is over, if they would have worked so long.
pub(crate) fn rotate(
    hasher: &KeyHasher,
    object: &StoredObject,
    now: Timestamp,
    overlap: Duration,
) -> Result<(ObjectDraft, SecretString), ObjectError> {
    let (text, hashed) = secret(hasher);
    let now = SystemTime::from(now);
    let end = now + overlap;
    let earlier = hashes_of(object).unwrap_or_default().into_iter();
    let earlier = earlier.map(|Hashed { hash, until }| Hashed {
        hash,
        until: Some(until.map_or(end, |until| until.min(end))),
    });
    let works = |hashed: &Hashed| hashed.until.is_none_or(|until| until > now);
    let earlier = earlier.filter(works).take(MOST_EARLIER);
    let hashes: Vec<_> = [hashed].into_iter().chain(earlier).collect();
    let mut body = object.body.clone();
    body[PREFIX] = prefix(&text).into();
    let draft = ObjectDraft {
        kind: ObjectKind::Key,
        id: object.id.clone(),
        name: object.name.clone(),
        body,
        sealed: Some(seal_hashes(&hashes).into()),
    };
    Ok((draft, text))
}

fn secret(hasher: &KeyHasher) -> (SecretString, Hashed) {
    let text = random_key();
    let hash = hasher.hash(text.expose_secret().as_bytes());
    (text, Hashed { hash, until: None })
}

/// Returns the stored form of a key, without its sealed part, which stays.
pub(crate) fn draft(
    id: String,
    spec: &KeySpec,
    prefix: &str,
    sealed: Option<SecretString>,
) -> Result<ObjectDraft, ObjectError> {
    let body = serde_json::to_value(spec);
    let mut body = body.map_err(|error| StoreError::Refused(error.to_string()))?;
    body[PREFIX] = prefix.into();
    Ok(ObjectDraft {
        kind: ObjectKind::Key,
        id,
        name: spec.name.clone(),
        body,
        sealed,
    })
}

fn prefix(text: &SecretString) -> &str {
    text.expose_secret().get(..SHOWN).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_texts_end_with_the_overlap() {
        let hasher = KeyHasher::new(&"salt".into());
        let spec = serde_json::from_str(r#"{"name":"ci"}"#).unwrap();
        let (made, first) = new_key(&hasher, &spec).unwrap();
        let object = |draft: ObjectDraft| StoredObject {
            kind: draft.kind,
            id: draft.id,
            name: draft.name,
            body: draft.body,
            sealed: draft.sealed,
            version: 1,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        };
        let at = |second: i64| Timestamp::from_second(second).unwrap();
        let ends = |object: &StoredObject| -> Vec<Option<u64>> {
            let second = |until: SystemTime| {
                let since = until.duration_since(SystemTime::UNIX_EPOCH);
                since.unwrap().as_secs()
            };
            let hashes = hashes_of(object).unwrap();
            hashes.iter().map(|one| one.until.map(second)).collect()
        };
        let mut key = object(made);
        assert_eq!(ends(&key), [None]);
        for (now, overlap, expected) in [
            (100, 50, &[None, Some(150)][..]),
            // What ends earlier isn't kept longer, what ends later is.
            (120, 10, &[None, Some(130), Some(130)]),
            (125, 100, &[None, Some(225), Some(130), Some(130)]),
            // What has ended is forgotten.
            (140, 5, &[None, Some(145), Some(145)]),
            (141, 0, &[None]),
        ] {
            let overlap = Duration::from_secs(overlap);
            let (draft, text) = rotate(&hasher, &key, at(now), overlap).unwrap();
            assert_ne!(text.expose_secret(), first.expose_secret());
            assert_eq!(draft.body[PREFIX], prefix(&text));
            key = object(draft);
            assert_eq!(ends(&key), expected, "{now}");
        }
    }
}
