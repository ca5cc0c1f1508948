//! Objects made by API, and the audit of changes. It must not know what an object means: here it is
//! a name, a body and a version.

use std::collections::HashSet;

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretString;
use serde::Serialize;
use serde_json::Value as Json;

use crate::error::StoreError;
use crate::ledger::Page;

/// Kind of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectKind {
    /// A provider. Its id is its name.
    Provider,
    /// A public name with its deployments.
    Model,
    /// A routing rule.
    Rule,
    /// A key that clients present.
    Key,
}

impl ObjectKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Provider, Self::Model, Self::Rule, Self::Key];

    /// The name in the store and in the audit.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Model => "model",
            Self::Rule => "rule",
            Self::Key => "key",
        }
    }

    pub(crate) fn from_name(name: &str) -> Result<Self, StoreError> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.ok_or_else(|| StoreError::Unreadable(format!("`{name}` in kind")))
    }
}

/// Object as stored.
#[derive(Clone, Debug)]
pub struct StoredObject {
    /// Kind of the object.
    pub kind: ObjectKind,
    /// Identifies it among its kind.
    pub id: String,
    /// Unique among its kind.
    pub name: String,
    /// The fields as in the configuration file, without secrets: it is shown, and it is audited.
    pub body: Json,
    /// Secret part that is never shown, as a key's hash or a credential's ciphertext.
    pub sealed: Option<SecretString>,
    /// The number of the change that made it what it is. Never used twice: fit for an ETag.
    pub version: u64,
    /// Time of creation.
    pub created_at: Timestamp,
    /// Time of the last change.
    pub updated_at: Timestamp,
}

/// New content of an object.
#[derive(Clone, Debug)]
pub struct ObjectDraft {
    /// Kind of the object.
    pub kind: ObjectKind,
    /// Identifies it among its kind.
    pub id: String,
    /// Unique among its kind.
    pub name: String,
    /// The fields as in the configuration file, without secrets.
    pub body: Json,
    /// Secret part that is never shown. A replacement without it keeps the previous one.
    pub sealed: Option<SecretString>,
}

/// Author of a change, and the time.
#[derive(Clone, Debug)]
pub struct ChangedBy {
    /// The name of the key.
    pub actor: String,
    /// The time.
    pub at: Timestamp,
}

/// A change of one object.
#[derive(Clone, Debug)]
pub enum ObjectChange {
    /// A new object.
    Create(ObjectDraft),
    /// Another content for an object that is there.
    Replace {
        /// The new content.
        draft: ObjectDraft,
        /// Version that it must have now; any, if none.
        expected: Option<u64>,
    },
    /// The end of an object.
    Delete {
        /// Kind of the object.
        kind: ObjectKind,
        /// Id of the object.
        id: String,
        /// Version that it must have now; any, if none.
        expected: Option<u64>,
    },
}

/// Reason for which an object wasn't changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// One of its kind has that id or name already.
    #[error("an object with that id or name already exists")]
    Taken,
    /// There is no such object.
    #[error("no object with that id")]
    Missing,
    /// It has been changed since: this is its version now.
    #[error("the object was changed in the meantime; its version is now {0}")]
    Stale(u64),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Numbers that tell whether something changed, and the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeMarks {
    /// Grows with every change of an object.
    pub change_number: u64,
    /// Grows with every change of the toggle.
    pub toggle_revision: u64,
    /// Time by the store's own clock, if that isn't this machine's.
    pub clock: Option<Timestamp>,
}

/// The objects of one moment but the keys, by kind and in the order they were made.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    /// The change number of that moment.
    pub change_number: u64,
    /// The objects.
    pub items: Vec<StoredObject>,
}

impl Objects {
    /// Returns the objects after changes; none if those concern keys only.
    #[must_use]
    pub fn with(&self, changes: &Changes) -> Option<Self> {
        let is_key = |kind: ObjectKind| kind == ObjectKind::Key;
        let changed = changes.items.iter().filter(|one| !is_key(one.kind));
        let removed = changes.removed.iter().filter(|one| !is_key(one.kind));
        let touched: HashSet<(ObjectKind, &str)> = changed
            .clone()
            .map(|one| (one.kind, one.id.as_str()))
            .chain(removed.map(|one| (one.kind, one.id.as_str())))
            .collect();
        if touched.is_empty() {
            return None;
        }
        let kept = self.items.iter();
        let kept = kept.filter(|one| !touched.contains(&(one.kind, one.id.as_str())));
        let mut items: Vec<StoredObject> = kept.chain(changed).cloned().collect();
        items.sort_by(|one, two| {
            let order = |one: &StoredObject| (one.kind.name(), one.created_at);
            order(one)
                .cmp(&order(two))
                .then_with(|| one.id.cmp(&two.id))
        });
        Some(Self {
            change_number: changes.change_number,
            items,
        })
    }

    /// Those of a kind.
    pub fn by_kind(&self, kind: ObjectKind) -> impl Iterator<Item = &StoredObject> {
        self.items.iter().filter(move |object| object.kind == kind)
    }
}

/// Names one object among its kind.
#[derive(Clone, Copy, Debug)]
pub enum Handle<'a> {
    /// By its id.
    Id(&'a str),
    /// By its name.
    Name(&'a str),
}

/// Changes after a given change, in their order.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// The change that they lead to: at the end of what there is, or of what was asked for.
    pub change_number: u64,
    /// The objects that were made or changed, as they are now.
    pub items: Vec<StoredObject>,
    /// The objects that were deleted. One of that id may have been made since, and is an item then.
    pub removed: Vec<Removal>,
}

/// The end of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// Kind of the object.
    pub kind: ObjectKind,
    /// Id of the object.
    pub id: String,
    /// The number of the change that ended it.
    pub version: u64,
}

/// Number of changes for which deletions are remembered.
pub const REMEMBERED: u64 = 100_000;

/// Last use of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyUse {
    /// The key's id.
    pub key: String,
    /// Time.
    pub at: Timestamp,
}

/// Audit record to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditDraft {
    /// Time.
    pub at: Timestamp,
    /// Actor.
    pub actor: String,
    /// Action, as `create`.
    pub action: String,
    /// Kind of the target, as `rule`.
    pub kind: String,
    /// Id of the object.
    pub object: String,
    /// Previous state, without secrets.
    pub before: Option<Json>,
    /// New state, without secrets.
    pub after: Option<Json>,
}

/// Audit record as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Grows.
    pub seq: u64,
    /// The record.
    pub what: AuditDraft,
}

/// Query for the audit, newest first.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only of this object.
    pub object: Option<String>,
    /// Only by this actor.
    pub actor: Option<String>,
    /// End of the previous page.
    pub cursor: Option<u64>,
    /// Most items.
    pub limit: u32,
}

/// A store of objects made by API.
///
/// Every change is one transaction: the object, the growing change number, and an entry of the
/// audit whose before and after are the bodies. Changes come one after the other, also of replicas.
#[async_trait]
pub trait ObjectStore: Send + Sync {
    /// Reads the marks that tell whether anything changed; cheap, for polling.
    async fn marks(&self) -> Result<ChangeMarks, StoreError>;

    /// All objects but the keys, of one moment: there may be very many of those, and [`page`] has
    /// them.
    ///
    /// [`page`]: ObjectStore::page
    async fn objects(&self) -> Result<Objects, StoreError>;

    /// The next objects that were made or changed after change `since`, at most `limit`, with all
    /// deletions until then. None if that is too long ago, or hasn't been yet: then everything
    /// must be read anew.
    async fn changes(&self, since: u64, limit: u32) -> Result<Option<Changes>, StoreError>;

    /// The next objects of a kind after an id, in the order of ids.
    async fn page(
        &self,
        kind: ObjectKind,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<StoredObject>, StoreError>;

    /// One object, if it is there.
    async fn find(
        &self,
        kind: ObjectKind,
        handle: Handle<'_>,
    ) -> Result<Option<StoredObject>, StoreError>;

    /// Keeps when keys were used, where that is later than what is known.
    async fn note_uses(&self, uses: Vec<KeyUse>) -> Result<(), StoreError>;

    /// Reads the last uses of these keys, as far as they were used.
    async fn uses(&self, keys: Vec<String>) -> Result<Vec<KeyUse>, StoreError>;

    /// Changes an object. What it is now; nothing after its end.
    async fn change(
        &self,
        change: ObjectChange,
        by: ChangedBy,
    ) -> Result<Option<StoredObject>, ChangeError>;

    /// Lists the audit, newest first.
    async fn audit(&self, query: &AuditQuery) -> Result<Page<AuditEntry, u64>, StoreError>;

    /// Records something that changed no object, as a reload.
    async fn record(&self, what: AuditDraft) -> Result<(), StoreError>;
}

/// Returns true if deletions since a change are still remembered.
pub(crate) const fn is_remembered(since: u64, change_number: u64) -> bool {
    since <= change_number && change_number - since <= REMEMBERED
}

impl Handle<'_> {
    /// The column to look into, and for what.
    pub(crate) const fn column(&self) -> (&'static str, &str) {
        match self {
            Self::Id(id) => ("id", id),
            Self::Name(name) => ("name", name),
        }
    }
}

impl Changes {
    /// Creates the changes from the objects read, when `limit` were requested.
    pub(crate) fn from_items(items: Vec<StoredObject>, change_number: u64, limit: u32) -> Self {
        let more = items.len() >= limit as usize;
        let last = items.last().filter(|_| more).map(|object| object.version);
        Self {
            change_number: last.unwrap_or(change_number),
            items,
            removed: Vec::new(),
        }
    }
}

impl ObjectChange {
    /// Returns the kind of the changed object.
    #[must_use]
    pub const fn kind(&self) -> ObjectKind {
        match self {
            Self::Create(draft) | Self::Replace { draft, .. } => draft.kind,
            Self::Delete { kind, .. } => *kind,
        }
    }

    /// Id of the object.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Create(draft) | Self::Replace { draft, .. } => &draft.id,
            Self::Delete { id, .. } => id,
        }
    }

    /// The name it shall have.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Self::Create(draft) | Self::Replace { draft, .. } => Some(&draft.name),
            Self::Delete { .. } => None,
        }
    }

    const fn action(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Replace { draft, .. }
                if matches!(draft.kind, ObjectKind::Key) && draft.sealed.is_some() =>
            {
                // Nothing is sealed of a key but what it is recognised by.
                "rotate"
            }
            Self::Replace { .. } => "replace",
            Self::Delete { .. } => "delete",
        }
    }

    /// Applies the change to the object `found`, as change `number`, and returns the object to
    /// write, or none to delete it.
    pub(crate) fn outcome(
        &self,
        found: Option<&StoredObject>,
        number: u64,
        at: Timestamp,
    ) -> Result<Option<StoredObject>, ChangeError> {
        let expected = match self {
            Self::Create(draft) => {
                let new = StoredObject::new(draft, number, at);
                return found.map_or(Ok(Some(new)), |_| Err(ChangeError::Taken));
            }
            Self::Replace { expected, .. } | Self::Delete { expected, .. } => expected,
        };
        let found = found.ok_or(ChangeError::Missing)?;
        if expected.is_some_and(|version| version != found.version) {
            return Err(ChangeError::Stale(found.version));
        }
        Ok(match self {
            Self::Replace { draft, .. } => Some(StoredObject {
                created_at: found.created_at,
                sealed: draft.sealed.clone().or_else(|| found.sealed.clone()),
                ..StoredObject::new(draft, number, at)
            }),
            _ => None,
        })
    }

    /// The entry of the audit.
    pub(crate) fn to_audit(
        &self,
        before: Option<&StoredObject>,
        after: Option<&StoredObject>,
        by: &ChangedBy,
    ) -> AuditDraft {
        let body = |object: &StoredObject| object.body.clone();
        AuditDraft {
            at: by.at,
            actor: by.actor.clone(),
            action: self.action().to_owned(),
            kind: self.kind().name().to_owned(),
            object: self.id().to_owned(),
            before: before.map(body),
            after: after.map(body),
        }
    }
}

impl StoredObject {
    fn new(draft: &ObjectDraft, number: u64, at: Timestamp) -> Self {
        Self {
            kind: draft.kind,
            id: draft.id.clone(),
            name: draft.name.clone(),
            body: draft.body.clone(),
            sealed: draft.sealed.clone(),
            version: number,
            created_at: at,
            updated_at: at,
        }
    }
}

/// The columns of `objects`, in the order of [`ObjectRow`].
pub(crate) const OBJECT_COLUMNS: &str =
    "kind, id, name, body, sealed, version, created_at, updated_at";

/// A row of `objects`, as read.
pub(crate) struct ObjectRow {
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) body: String,
    pub(crate) sealed: Option<String>,
    pub(crate) version: i64,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

impl ObjectRow {
    pub(crate) fn into_object(self) -> Result<StoredObject, StoreError> {
        Ok(StoredObject {
            kind: ObjectKind::from_name(&self.kind)?,
            id: self.id,
            name: self.name,
            body: json("body", &self.body)?,
            sealed: self.sealed.map(Into::into),
            version: u64::try_from(self.version).unwrap_or_default(),
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

pub(crate) fn json(column: &str, text: &str) -> Result<Json, StoreError> {
    let unreadable = |error| StoreError::Unreadable(format!("{column}: {error}"));
    serde_json::from_str(text).map_err(unreadable)
}
