//! Keys made by API, as the snapshot holds them: out of objects of the store, found by their hash.
//! One that can't be read is left out, for it is too late to refuse it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use llm_router_domain::budget::Budget;
use llm_router_domain::key::{Key, KeyHash, KeySpec};
use llm_router_domain::limit::Limits;
use llm_router_domain::pattern::PatternList;
use llm_router_store::objects::{Kind, Object, Objects};
use secrecy::ExposeSecret as _;
use serde::Deserialize as _;
use serde_json::Value as Json;

use crate::key_ring::KeyRing;
use crate::uses::LastUse;

/// A key made by API.
#[derive(Debug)]
pub(crate) struct Issued {
    pub(crate) id: Box<str>,
    pub(crate) version: u64,
    /// What it is recognised by: the newest, and those before it for a while.
    pub(crate) hashes: Vec<Hashed>,
    pub(crate) key: Arc<Key>,
    pub(crate) limits: Limits,
    /// A ceiling of money, and whether models without a price may be used all the same.
    pub(crate) budget: Option<(Budget, bool)>,
    pub(crate) enabled: bool,
    pub(crate) used: Arc<LastUse>,
}

/// A hash by which a key is recognised.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hashed {
    pub(crate) hash: KeyHash,
    /// From when on it isn't; never, if none.
    pub(crate) until: Option<SystemTime>,
}

/// The field of the body that shows how the key begins. Not one of the file's.
pub(crate) const PREFIX: &str = "prefix";

/// The keys among the objects. Those that `previous` has in the same version are taken from there.
pub(crate) fn issued(objects: &Objects, previous: Option<&KeyRing>) -> Vec<Arc<Issued>> {
    let made = objects.of(Kind::Key).filter_map(|object| {
        let known = previous.and_then(|previous| previous.issued(&object.id));
        let same = known.filter(|known| known.version == object.version);
        let used = known.map(|known| Arc::clone(&known.used));
        same.map(Arc::clone)
            .or_else(|| match compile(object, used) {
                Ok(issued) => Some(Arc::new(issued)),
                Err(problem) => {
                    tracing::error!(
                        key.id = object.id,
                        key.name = object.name,
                        problem,
                        "a stored key can't be read and is left out"
                    );
                    None
                }
            })
    });
    made.collect()
}

/// Lets go of what only compiling needs: a million bodies are a gigabyte.
pub(crate) fn slim(mut objects: Objects) -> Objects {
    for object in objects.items.iter_mut().filter(|one| one.kind == Kind::Key) {
        let owner = object.body.get("owner").cloned();
        object.body = owner.map_or(Json::Null, |owner| serde_json::json!({ "owner": owner }));
        object.sealed = None;
    }
    objects
}

fn compile(object: &Object, used: Option<Arc<LastUse>>) -> Result<Issued, String> {
    let spec = spec_of(&object.body).map_err(|error| error.to_string())?;
    let hashes = hashes_of(object).ok_or("its hash can't be read")?;
    let (limits, enabled) = (spec.limits.limits(), spec.enabled);
    let budget = spec
        .budget
        .map(|budget| (budget.into(), budget.allow_unpriced));
    let key = Key {
        owner: Some(spec.owner().to_owned()),
        role: spec.role,
        models: PatternList::new(spec.models.iter().map(String::as_str)),
        expires_at: spec.expires_at.map(Into::into),
        name: spec.name,
    };
    Ok(Issued {
        id: object.id.as_str().into(),
        version: object.version,
        hashes,
        key: Arc::new(key),
        limits,
        budget,
        enabled,
        used: used.unwrap_or_else(|| Arc::new(LastUse::new(&object.id))),
    })
}

/// What a stored key is.
///
/// # Errors
/// What can't be read of it.
pub(crate) fn spec_of(body: &Json) -> Result<KeySpec, serde_json::Error> {
    let mut body = body.clone();
    if let Some(fields) = body.as_object_mut() {
        fields.remove(PREFIX);
    }
    KeySpec::deserialize(body)
}

/// What is sealed of a key: its hash in hexadecimal digits; hashes from before follow it, each with
/// the second since 1970 until which it is recognised: `HASH HASH@SECOND`.
pub(crate) fn sealed(hashes: &[Hashed]) -> String {
    let texts = hashes.iter().map(|hashed| {
        let hex: String = hashed
            .hash
            .as_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let until = hashed
            .until
            .and_then(|until| until.duration_since(SystemTime::UNIX_EPOCH).ok());
        match until {
            None => hex,
            Some(until) => format!("{hex}@{}", until.as_secs()),
        }
    });
    texts.collect::<Vec<_>>().join(" ")
}

/// By what a stored key is recognised, the newest first; none if that can't be read.
pub(crate) fn hashes_of(object: &Object) -> Option<Vec<Hashed>> {
    hashes(object.sealed.as_ref()?.expose_secret())
}

fn hashes(sealed: &str) -> Option<Vec<Hashed>> {
    let hashed = |text: &str| {
        let (hex, until) = match text.split_once('@') {
            None => (text, None),
            Some((hex, second)) => {
                let second = Duration::from_secs(second.parse().ok()?);
                (hex, Some(SystemTime::UNIX_EPOCH.checked_add(second)?))
            }
        };
        let hash = KeyHash::from_hex(hex)?;
        Some(Hashed { hash, until })
    };
    sealed.split(' ').map(hashed).collect()
}

#[cfg(test)]
mod tests {
    use llm_router_domain::key::KeyHasher;

    use super::*;

    #[test]
    fn hashes_are_read_as_they_were_sealed() {
        let hasher = KeyHasher::new(&"salt".into());
        let until = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let both = [
            Hashed {
                hash: hasher.hash(b"new"),
                until: None,
            },
            Hashed {
                hash: hasher.hash(b"old"),
                until: Some(until),
            },
        ];
        let read = hashes(&sealed(&both)).unwrap();
        assert!(read[0].hash == both[0].hash && read[0].until.is_none());
        assert!(read[1].hash == both[1].hash && read[1].until == Some(until));
        for text in [
            "",
            "zz",
            "00",
            &"0".repeat(63),
            &format!("{}@x", "0".repeat(64)),
        ] {
            assert!(hashes(text).is_none(), "{text}");
        }
    }
}
