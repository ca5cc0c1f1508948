//! Keys made by API: out of objects of the store, found by their hash, changed in place. One that
//! can't be read is left out, for it is too late to refuse it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use dashmap::DashMap;
use llm_router_domain::key::{Key, KeyHash, KeySpec};
use llm_router_domain::pattern::PatternList;
use llm_router_store::objects::{Changes, ObjectKind, Removal, StoredObject};
use llm_router_store::{Store, StoreError};
use secrecy::ExposeSecret as _;
use serde::Deserialize as _;
use serde_json::Value as Json;

use crate::keys::last_used::LastUse;

/// The keys made by API. Snapshots share them: a key is made, changed and ended under all of them
/// at once, so that of a million the others needn't be touched. What a request found it keeps.
#[derive(Debug, Default)]
pub(crate) struct IssuedKeys {
    by_hash: DashMap<KeyHash, Held>,
    by_id: RwLock<HashMap<Box<str>, Arc<Issued>>>,
    /// Most keys have one of few lists of models.
    lists: Mutex<HashMap<Vec<String>, PatternList>>,
}

/// A key made by API.
#[derive(Debug)]
struct Issued {
    version: u64,
    /// Hashes that it is recognised by: the newest, and those before it for a while. None if it is
    /// switched off.
    hashes: Box<[Hashed]>,
    key: Arc<Key>,
    used: Arc<LastUse>,
}

/// The key of one hash.
#[derive(Debug)]
struct Held {
    issued: Arc<Issued>,
    /// From when on the hash is worth nothing; never, if none.
    until: Option<SystemTime>,
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

/// Keys that are read at once.
const PAGE: u32 = 5_000;

impl IssuedKeys {
    /// All keys of the store. What `previous` knows of their use is kept. Keys that are changed
    /// meanwhile may be read as before: who asks for changes since a moment before gets them.
    ///
    /// # Errors
    /// When the store doesn't answer.
    pub(crate) async fn load(store: &dyn Store, previous: &Self) -> Result<Self, StoreError> {
        let all = Self::default();
        let mut after: Option<String> = None;
        loop {
            let page = store.page(ObjectKind::Key, after.as_deref(), PAGE).await?;
            for object in &page {
                let used = previous
                    .by_id()
                    .get(object.id.as_str())
                    .map(|known| Arc::clone(&known.used));
                all.put(object, used);
            }
            match page.last() {
                Some(last) => after = Some(last.id.clone()),
                None => return Ok(all),
            }
        }
    }

    /// Takes changes over.
    pub(crate) fn apply(&self, changes: &Changes) {
        for removal in changes
            .removed
            .iter()
            .filter(|one| one.kind == ObjectKind::Key)
        {
            self.remove(removal);
        }
        for object in changes
            .items
            .iter()
            .filter(|one| one.kind == ObjectKind::Key)
        {
            self.put(object, None);
        }
    }

    /// The key of a hash at `now`, and where its use is noted.
    pub(crate) fn find(&self, hash: &KeyHash, now: SystemTime) -> Option<(Arc<Key>, Arc<LastUse>)> {
        let held = self.by_hash.get(hash)?;
        if held.until.is_some_and(|until| now >= until) {
            return None;
        }
        let issued = &held.issued;
        Some((Arc::clone(&issued.key), Arc::clone(&issued.used)))
    }

    /// Returns the last use of the key of that id.
    pub(crate) fn last_use(&self, id: &str) -> Option<Arc<LastUse>> {
        Some(Arc::clone(&self.by_id().get(id)?.used))
    }

    /// Which of these names of keys and of owners there are. It looks at every key, unless there is
    /// nothing to look for.
    pub(crate) fn known<'n>(
        &self,
        keys: &[&'n str],
        owners: &[&'n str],
    ) -> (Vec<&'n str>, Vec<&'n str>) {
        let (mut found_keys, mut found_owners) = (Vec::new(), Vec::new());
        if keys.is_empty() && owners.is_empty() {
            return (found_keys, found_owners);
        }
        for issued in self.by_id().values() {
            let (name, owner) = (issued.key.name.as_str(), issued.key.owner.as_deref());
            found_keys.extend(keys.iter().filter(|wanted| **wanted == name));
            let missing = owners.iter().filter(|wanted| Some(**wanted) == owner);
            for wanted in missing {
                if !found_owners.contains(wanted) {
                    found_owners.push(*wanted);
                }
            }
        }
        (found_keys, found_owners)
    }

    /// Returns those of the names that a key has.
    pub(crate) fn names_among<'n>(&self, names: &HashSet<&'n str>) -> Vec<&'n str> {
        let by_id = self.by_id();
        let names = by_id
            .values()
            .filter_map(|issued| names.get(issued.key.name.as_str()));
        names.copied().collect()
    }

    /// Returns the key with a name. It looks at every key.
    pub(crate) fn find_by_name(&self, name: &str) -> Option<Key> {
        let by_id = self.by_id();
        let found = by_id.values().find(|issued| issued.key.name == name);
        found.map(|issued| Key::clone(&issued.key))
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id().len()
    }

    fn put(&self, object: &StoredObject, used: Option<Arc<LastUse>>) {
        let mut by_id = self.by_id_mut();
        let known = by_id.get(object.id.as_str()).cloned();
        if known
            .as_ref()
            .is_some_and(|known| known.version >= object.version)
        {
            return;
        }
        let used = used.or_else(|| known.as_ref().map(|known| Arc::clone(&known.used)));
        let issued = match self.compile(object, used) {
            Ok(issued) => Some(Arc::new(issued)),
            Err(problem) => {
                tracing::error!(
                    key.id = object.id,
                    key.name = object.name,
                    problem,
                    "skipping a stored key that can't be read"
                );
                None
            }
        };
        // The new ones first: one that stays is found at every moment.
        if let Some(issued) = &issued {
            for Hashed { hash, until } in &issued.hashes {
                let (issued, until) = (Arc::clone(issued), *until);
                self.by_hash.insert(*hash, Held { issued, until });
            }
        }
        if let Some(known) = known {
            self.forget_hashes(&known);
        }
        match issued {
            Some(issued) => by_id.insert(object.id.as_str().into(), issued),
            None => by_id.remove(object.id.as_str()),
        };
    }

    fn remove(&self, removal: &Removal) {
        let mut by_id = self.by_id_mut();
        let id = removal.id.as_str();
        if by_id
            .get(id)
            .is_some_and(|known| known.version < removal.version)
            && let Some(known) = by_id.remove(id)
        {
            self.forget_hashes(&known);
        }
    }

    /// Lets go of the hashes that still lead to this state of a key.
    fn forget_hashes(&self, known: &Arc<Issued>) {
        for hashed in &known.hashes {
            let is_it = |_: &KeyHash, held: &Held| Arc::ptr_eq(&held.issued, known);
            self.by_hash.remove_if(&hashed.hash, is_it);
        }
    }

    fn compile(&self, object: &StoredObject, used: Option<Arc<LastUse>>) -> Result<Issued, String> {
        let spec = spec_of(&object.body).map_err(|error| error.to_string())?;
        let hashes = hashes_of(object).ok_or("its hash can't be read")?;
        let hashes = if spec.enabled { hashes } else { Vec::new() };
        let key = Key {
            owner: Some(spec.owner().to_owned()),
            role: spec.role,
            expires_at: spec.expires_at.map(Into::into),
            limits: spec.limits.limits(),
            budget: spec.budget.map(Into::into),
            models: self.list(spec.models),
            name: spec.name,
        };
        Ok(Issued {
            version: object.version,
            hashes: hashes.into(),
            key: Arc::new(key),
            used: used.unwrap_or_else(|| Arc::new(LastUse::new(&object.id))),
        })
    }

    fn list(&self, models: Vec<String>) -> PatternList {
        let mut lists = self.lists.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = lists.get(&models) {
            return known.clone();
        }
        if lists.len() >= MOST_LISTS {
            lists.clear();
        }
        let list = PatternList::new(models.iter().map(String::as_str));
        lists.insert(models, list.clone());
        list
    }

    fn by_id(&self) -> RwLockReadGuard<'_, HashMap<Box<str>, Arc<Issued>>> {
        self.by_id.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn by_id_mut(&self) -> RwLockWriteGuard<'_, HashMap<Box<str>, Arc<Issued>>> {
        self.by_id.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lists of models that are remembered.
const MOST_LISTS: usize = 10_000;

/// Parses a stored key.
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

/// Returns the sealed part of a key: its hash in hexadecimal digits; hashes from before follow it, each with
/// the second since 1970 until which it is recognised: `HASH HASH@SECOND`.
pub(crate) fn seal_hashes(hashes: &[Hashed]) -> String {
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
pub(crate) fn hashes_of(object: &StoredObject) -> Option<Vec<Hashed>> {
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
    use jiff::Timestamp;
    use llm_router_domain::key::KeyHasher;
    use serde_json::json;

    use super::*;

    fn object(id: &str, version: u64, hashes: &[Hashed], enabled: bool) -> StoredObject {
        StoredObject {
            kind: ObjectKind::Key,
            id: id.to_owned(),
            name: id.to_owned(),
            body: json!({ "name": id, "enabled": enabled, "owner": "team" }),
            sealed: Some(seal_hashes(hashes).into()),
            version,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn keys_are_changed_in_place_in_whatever_order_changes_come() {
        let hasher = KeyHasher::new(&"salt".into());
        let hashed = |text: &str, until: Option<u64>| Hashed {
            hash: hasher.hash(text.as_bytes()),
            until: until.map(|second| SystemTime::UNIX_EPOCH + Duration::from_secs(second)),
        };
        let keys = IssuedKeys::default();
        let made = |object: StoredObject| Changes {
            change_number: object.version,
            items: vec![object],
            removed: Vec::new(),
        };
        let ended = |version| Changes {
            change_number: version,
            items: Vec::new(),
            removed: vec![Removal {
                kind: ObjectKind::Key,
                id: "a".to_owned(),
                version,
            }],
        };
        let found = |text: &str, second| {
            let now = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            keys.find(&hasher.hash(text.as_bytes()), now).is_some()
        };
        let (one, two) = (hashed("one", None), hashed("two", None));
        let old = hashed("one", Some(100));
        for (changes, at_99, at_100) in [
            (
                made(object("a", 2, &[one], true)),
                [true, false],
                [true, false],
            ),
            (
                made(object("a", 3, &[two, old], true)),
                [true, true],
                [false, true],
            ),
            // What is older than what is known says nothing.
            (
                made(object("a", 2, &[one], true)),
                [true, true],
                [false, true],
            ),
            (ended(1), [true, true], [false, true]),
            (made(object("a", 4, &[two], false)), [false; 2], [false; 2]),
            (
                made(object("a", 5, &[two], true)),
                [false, true],
                [false, true],
            ),
            (ended(6), [false; 2], [false; 2]),
            (ended(6), [false; 2], [false; 2]),
        ] {
            keys.apply(&changes);
            assert_eq!(
                ["one", "two"].map(|text| found(text, 99)),
                at_99,
                "{changes:?}"
            );
            assert_eq!(
                ["one", "two"].map(|text| found(text, 100)),
                at_100,
                "{changes:?}"
            );
        }
        assert!(keys.by_hash.is_empty() && keys.len() == 0);
        keys.apply(&made(object("b", 7, &[one], true)));
        let names = keys.known(&["b", "c"], &["team", "other"]);
        assert_eq!(names, (vec!["b"], vec!["team"]));
    }

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
        let read = hashes(&seal_hashes(&both)).unwrap();
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
