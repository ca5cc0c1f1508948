//! The keys that clients may present, and how a presented one is found: in memory, by its hash. It
//! must not know where keys come from.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use llm_router_domain::key::{Key, KeyHash, KeyHasher};

use crate::issued::Issued;
use crate::uses::{LastUse, UseLog};

/// The keys that clients may present, hashed.
#[derive(Debug)]
pub(crate) struct KeyRing {
    hasher: KeyHasher,
    by_hash: HashMap<KeyHash, Held>,
    /// Those made by API, by their id.
    issued: HashMap<Box<str>, Arc<Issued>>,
    /// When the others were used, by their name.
    used: HashMap<Box<str>, Arc<LastUse>>,
    uses: Arc<UseLog>,
}

/// What is known by one hash.
#[derive(Debug)]
struct Held {
    key: Arc<Key>,
    /// From when on the hash is worth nothing; never, if none.
    until: Option<SystemTime>,
    used: Arc<LastUse>,
}

/// Why a presented key is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoKey {
    Unknown,
    Expired,
}

impl KeyRing {
    /// A ring without keys, which goes on with what `previous` knows of their use.
    pub(crate) fn new(hasher: KeyHasher, previous: Option<&Self>) -> Self {
        Self {
            hasher,
            by_hash: HashMap::new(),
            issued: HashMap::new(),
            used: previous.map(|ring| ring.used.clone()).unwrap_or_default(),
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
            until: None,
            used: Arc::clone(used),
        };
        self.by_hash.insert(hash, held).is_none()
    }

    /// Adds a key that was made by API.
    pub(crate) fn issue(&mut self, issued: Arc<Issued>) {
        for hashed in issued.hashes.iter().filter(|_| issued.enabled) {
            let held = Held {
                key: Arc::clone(&issued.key),
                until: hashed.until,
                used: Arc::clone(&issued.used),
            };
            self.by_hash.entry(hashed.hash).or_insert(held);
        }
        self.issued.insert(issued.id.clone(), issued);
    }

    /// The key that is presented at `now`, which is noted as a use of it.
    ///
    /// # Errors
    /// When it is none, or one no more.
    pub(crate) fn present(&self, presented: &[u8], now: SystemTime) -> Result<Arc<Key>, NoKey> {
        let held = self.by_hash.get(&self.hasher.hash(presented));
        let held = held.ok_or(NoKey::Unknown)?;
        if held.until.is_some_and(|until| now >= until) {
            return Err(NoKey::Unknown);
        }
        if held.key.is_expired(now) {
            return Err(NoKey::Expired);
        }
        self.uses.note(&held.used, now);
        Ok(Arc::clone(&held.key))
    }

    /// The key of that id, if it was made by API.
    pub(crate) fn issued(&self, id: &str) -> Option<&Arc<Issued>> {
        self.issued.get(id)
    }

    /// When the key of that id was last used by this process.
    pub(crate) fn last_use(&self, id: &str) -> Option<Timestamp> {
        let issued = self.issued.get(id).map(|issued| &issued.used);
        issued.or_else(|| self.used.get(id))?.at()
    }

    /// The uses that the store is to be told of.
    pub(crate) const fn uses(&self) -> &Arc<UseLog> {
        &self.uses
    }

    pub(crate) fn len(&self) -> usize {
        self.by_hash.len()
    }
}
