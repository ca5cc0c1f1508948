//! The keys that clients may present, and how a presented one is found: in memory, by its hash. It
//! must not know where keys come from.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use llm_router_domain::key::{Key, KeyHash, KeyHasher};

use crate::keys::last_used::{LastUse, UseLog};
use crate::keys::stored_keys::IssuedKeys;

/// The keys that clients may present, hashed.
#[derive(Debug)]
pub(crate) struct KeyRing {
    hasher: KeyHasher,
    /// Those of the file, and the bootstrap admin's.
    written: HashMap<KeyHash, Held>,
    /// Last uses of those, by their name.
    used: HashMap<Box<str>, Arc<LastUse>>,
    /// Those made by API.
    issued: Arc<IssuedKeys>,
    uses: Arc<UseLog>,
}

/// The key of one hash.
#[derive(Debug)]
struct Held {
    key: Arc<Key>,
    used: Arc<LastUse>,
}

/// Reason that a presented key is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoKey {
    Unknown,
    Expired,
}

impl KeyRing {
    /// A ring without keys but those issued, which goes on with what `previous` knows of the use
    /// of others.
    pub(crate) fn new(hasher: KeyHasher, issued: Arc<IssuedKeys>, previous: Option<&Self>) -> Self {
        Self {
            hasher,
            written: HashMap::new(),
            used: previous.map(|ring| ring.used.clone()).unwrap_or_default(),
            issued,
            uses: previous.map_or_else(Arc::default, |ring| Arc::clone(&ring.uses)),
        }
    }

    /// Adds a key; returns whether no other key had the same text.
    pub(crate) fn add(&mut self, text: &str, key: Key) -> bool {
        let hash = self.hasher.hash(text.as_bytes());
        let used = self.used.entry(key.name.as_str().into());
        let used = used.or_insert_with_key(|name| Arc::new(LastUse::new(name)));
        let held = Held {
            key: Arc::new(key),
            used: Arc::clone(used),
        };
        self.written.insert(hash, held).is_none()
    }

    /// The key that is presented at `now`, which is noted as a use of it.
    ///
    /// # Errors
    /// When it is none, or one no more.
    pub(crate) fn present(&self, presented: &[u8], now: SystemTime) -> Result<Arc<Key>, NoKey> {
        let hash = self.hasher.hash(presented);
        if let Some(held) = self.written.get(&hash) {
            return self.admit(Arc::clone(&held.key), &held.used, now);
        }
        let (key, used) = self.issued.find(&hash, now).ok_or(NoKey::Unknown)?;
        self.admit(key, &used, now)
    }

    fn admit(
        &self,
        key: Arc<Key>,
        used: &Arc<LastUse>,
        now: SystemTime,
    ) -> Result<Arc<Key>, NoKey> {
        if key.is_expired(now) {
            return Err(NoKey::Expired);
        }
        self.uses.note(used, now);
        Ok(key)
    }

    /// Those made by API.
    pub(crate) const fn stored_keys(&self) -> &Arc<IssuedKeys> {
        &self.issued
    }

    /// Returns the last use of the key of that id by this process.
    pub(crate) fn last_use(&self, id: &str) -> Option<Timestamp> {
        let used = self.used.get(id).map(Arc::clone);
        used.or_else(|| self.issued.last_use(id))?.at()
    }

    /// The uses that the store is to be told of.
    pub(crate) const fn uses(&self) -> &Arc<UseLog> {
        &self.uses
    }

    pub(crate) fn len(&self) -> usize {
        self.written.len() + self.issued.len()
    }
}
