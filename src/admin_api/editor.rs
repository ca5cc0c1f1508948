//! Changes providers, rules and keys by API: the store is changed, this replica
//! follows at once, the others are told to. What an object means is its own module's.

use std::sync::Arc;

use llm_router_admin::ObjectError;
use llm_router_store::Store;
use llm_router_store::objects::{
    ChangeError, ChangedBy, ObjectChange, ObjectDraft, ObjectKind, StoredObject,
};

use crate::routing::toggle::now;
use crate::sync::change_notifier::ChangeNotifier;
use crate::sync::reload::{ActiveConfig, Reloader};
use crate::sync::store_poller::Follower;

/// Changes what is made by API.
#[derive(Clone)]
pub(crate) struct Editor {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) reloader: Arc<Reloader>,
    pub(crate) follower: Arc<Follower>,
    pub(crate) broadcast: Arc<ChangeNotifier>,
}

impl Editor {
    /// Takes over what other replicas changed; not while the store is away.
    pub(crate) async fn catch_up(&self) {
        self.follower.sync_if_available().await;
    }

    /// The object in force with that id; refuses what the file says, which `written` tells, and
    /// what isn't there or was changed.
    ///
    /// # Errors
    /// Why it can't be changed.
    pub(crate) async fn find_stored(
        &self,
        kind: ObjectKind,
        id: &str,
        expected: Option<u64>,
        written: impl Fn(&ActiveConfig) -> bool,
    ) -> Result<StoredObject, ObjectError> {
        self.catch_up().await;
        self.follower.must_answer()?;
        let in_force = self.reloader.in_force();
        let found = in_force
            .objects
            .by_kind(kind)
            .find(|object| object.id == id);
        match found {
            Some(object) => fresh(object.clone(), expected),
            None if written(&in_force) => Err(ObjectError::ReadOnly),
            None => Err(ObjectError::NotFound),
        }
    }

    /// Makes an object and puts it into force here.
    ///
    /// # Errors
    /// Why it isn't made.
    pub(crate) async fn create(
        &self,
        draft: ObjectDraft,
        actor: &str,
    ) -> Result<StoredObject, ObjectError> {
        self.change(ObjectChange::Create(draft), actor).await
    }

    /// Gives an object another content and puts it into force here.
    ///
    /// # Errors
    /// Why it stays as it is.
    pub(crate) async fn replace(
        &self,
        draft: ObjectDraft,
        expected: Option<u64>,
        actor: &str,
    ) -> Result<StoredObject, ObjectError> {
        self.change(ObjectChange::Replace { draft, expected }, actor)
            .await
    }

    /// Ends an object, here at once.
    ///
    /// # Errors
    /// Why it stays.
    pub(crate) async fn delete(
        &self,
        kind: ObjectKind,
        id: &str,
        expected: Option<u64>,
        actor: &str,
    ) -> Result<(), ObjectError> {
        let id = id.to_owned();
        let change = ObjectChange::Delete { kind, id, expected };
        let deleted = self.store.change(change, by(actor)).await;
        deleted.map_err(to_object_error)?;
        self.broadcast.tell();
        self.follower.sync().await;
        Ok(())
    }

    async fn change(&self, change: ObjectChange, actor: &str) -> Result<StoredObject, ObjectError> {
        self.follower.must_answer()?;
        let changed = self.store.change(change, by(actor)).await;
        let object = changed
            .map_err(to_object_error)?
            .ok_or(ObjectError::NotFound)?;
        self.broadcast.tell();
        self.follower.sync().await;
        Ok(object)
    }
}

/// The object, if it has the expected version.
///
/// # Errors
/// If it hasn't.
pub(crate) fn fresh(
    object: StoredObject,
    expected: Option<u64>,
) -> Result<StoredObject, ObjectError> {
    if expected.is_some_and(|expected| expected != object.version) {
        return Err(ObjectError::Stale);
    }
    Ok(object)
}

/// Returns who changes something, and when.
pub(crate) fn by(actor: &str) -> ChangedBy {
    ChangedBy {
        actor: actor.to_owned(),
        at: now(),
    }
}

/// Converts the reason that the store refuses a change.
pub(crate) fn to_object_error(error: ChangeError) -> ObjectError {
    match error {
        ChangeError::Taken => ObjectError::AlreadyExists,
        ChangeError::Missing => ObjectError::NotFound,
        ChangeError::Stale(_) => ObjectError::Stale,
        ChangeError::Store(error) => ObjectError::Store(error),
    }
}
