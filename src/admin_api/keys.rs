//! Edits keys for the admin service: those of the file are shown, those of the store are made,
//! changed, rotated and ended. It must not speak HTTP, and a key's text leaves it once.

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use llm_router_admin::{Collection, KeyObject, ListPage, ObjectError, ObjectSource};
use llm_router_config::StaticKey;
use llm_router_domain::key::{BudgetSpec, KeyHasher, KeySpec};
use llm_router_store::objects::{Handle, ObjectDraft, ObjectKind, StoredObject};
use secrecy::SecretString;

use crate::admin_api::editor::{Editor, fresh};
use crate::keys::generate::{check_spec, draft, new_key, no_salt, rotate};
use crate::keys::stored_keys::{Hashed, PREFIX, hashes_of, spec_of};
use crate::proxy::SharedLive;
use crate::routing::toggle::now;
use crate::snapshot::compile::ADMIN_KEY_NAME;

/// Keys, for the admin service.
pub(crate) struct KeyEditor {
    pub(crate) editor: Editor,
    pub(crate) live: SharedLive,
    /// Hashes new keys; none without a salt that outlives the process.
    pub(crate) hasher: Option<KeyHasher>,
}

#[async_trait]
impl Collection for KeyEditor {
    type Object = KeyObject;
    type Spec = KeySpec;

    async fn list(
        &self,
        after: Option<&str>,
        most: usize,
    ) -> Result<ListPage<KeyObject>, ObjectError> {
        let written = self.file_keys();
        let at = after.and_then(|id| written.iter().position(|key| key.id == id));
        // After one of the file's the others of the file come first, after one of the store's none.
        let skipped = at.map_or_else(|| after.map_or(0, |_| written.len()), |at| at + 1);
        let mut items: Vec<KeyObject> = written.into_iter().skip(skipped).collect();
        let after = after.filter(|_| at.is_none());
        let room = (most + 1).saturating_sub(items.len());
        if room > 0 {
            self.editor.follower.must_answer()?;
            let limit = u32::try_from(room).unwrap_or(u32::MAX);
            let store = &self.editor.store;
            let stored = store.page(ObjectKind::Key, after, limit).await?;
            items.extend(
                stored
                    .iter()
                    .filter_map(|object| self.stored_to_api(object)),
            );
        }
        let mut listed = ListPage::cut(items, None, most, |key| &key.id)?;
        self.add_uses(&mut listed.items).await?;
        Ok(listed)
    }

    async fn get(&self, id: &str) -> Result<KeyObject, ObjectError> {
        let found = self.find(id, Handle::Id(id)).await?;
        found.ok_or(ObjectError::NotFound)
    }

    async fn create(&self, spec: KeySpec, actor: &str) -> Result<KeyObject, ObjectError> {
        let hasher = self.hasher.as_ref().ok_or_else(no_salt)?;
        self.check(&spec)?;
        let (draft, text) = new_key(hasher, &spec)?;
        let object = self.editor.create(draft, actor).await?;
        self.with_text(&object, text)
    }

    async fn replace(
        &self,
        id: &str,
        spec: KeySpec,
        expected: Option<u64>,
        actor: &str,
    ) -> Result<KeyObject, ObjectError> {
        let object = self.changeable(id, expected).await?;
        self.check(&spec)?;
        let prefix = object.body[PREFIX].as_str().unwrap_or_default();
        let draft = draft(object.id, &spec, prefix, None)?;
        self.put(draft, expected, actor).await
    }

    async fn delete(
        &self,
        id: &str,
        expected: Option<u64>,
        actor: &str,
    ) -> Result<(), ObjectError> {
        self.changeable(id, expected).await?;
        self.editor
            .delete(ObjectKind::Key, id, expected, actor)
            .await
    }
}

#[async_trait]
impl llm_router_admin::KeysApi for KeyEditor {
    async fn find_by_name(&self, name: &str) -> Result<Option<KeyObject>, ObjectError> {
        self.find(name, Handle::Name(name)).await
    }

    async fn rotate(
        &self,
        id: &str,
        overlap: Duration,
        expected: Option<u64>,
        actor: &str,
    ) -> Result<KeyObject, ObjectError> {
        let hasher = self.hasher.as_ref().ok_or_else(no_salt)?;
        let object = self.changeable(id, expected).await?;
        let (draft, text) = rotate(hasher, &object, now(), overlap)?;
        // Of two who rotate at once, the other would end what the first was just given.
        let expected = Some(object.version);
        let object = self.editor.replace(draft, expected, actor).await?;
        self.with_text(&object, text)
    }
}

impl KeyEditor {
    /// The keys of the file.
    fn file_keys(&self) -> Vec<KeyObject> {
        let in_force = self.editor.reloader.in_force();
        in_force.config.keys.iter().map(file_key).collect()
    }

    fn is_written(&self, name: &str) -> bool {
        let in_force = self.editor.reloader.in_force();
        in_force.config.keys.iter().any(|key| key.name == name)
    }

    /// The key of the file that has that name, which is its id too, else the stored one.
    async fn find(&self, name: &str, handle: Handle<'_>) -> Result<Option<KeyObject>, ObjectError> {
        let written = self.file_keys().into_iter().find(|key| key.name == name);
        let found = match written {
            Some(key) => Some(key),
            None => {
                let stored = self.load(handle).await?;
                stored
                    .as_ref()
                    .and_then(|object| self.stored_to_api(object))
            }
        };
        match found {
            Some(key) => self.with_use(key).await.map(Some),
            None => Ok(None),
        }
    }

    async fn load(&self, handle: Handle<'_>) -> Result<Option<StoredObject>, ObjectError> {
        self.editor.follower.must_answer()?;
        Ok(self.editor.store.find(ObjectKind::Key, handle).await?)
    }

    /// The stored key of that id; refuses what the file says, and what isn't there or was changed.
    async fn changeable(
        &self,
        id: &str,
        expected: Option<u64>,
    ) -> Result<StoredObject, ObjectError> {
        if self.is_written(id) {
            return Err(ObjectError::ReadOnly);
        }
        let object = self.load(Handle::Id(id)).await?;
        fresh(object.ok_or(ObjectError::NotFound)?, expected)
    }

    /// Checks a key; whether its name is taken in the store is the store's to check.
    fn check(&self, spec: &KeySpec) -> Result<(), ObjectError> {
        check_spec(spec)?;
        if self.is_written(&spec.name) || spec.name == ADMIN_KEY_NAME {
            return Err(ObjectError::AlreadyExists);
        }
        Ok(())
    }

    async fn put(
        &self,
        draft: ObjectDraft,
        expected: Option<u64>,
        actor: &str,
    ) -> Result<KeyObject, ObjectError> {
        let object = self.editor.replace(draft, expected, actor).await?;
        let key = self.stored_to_api(&object).ok_or(ObjectError::NotFound)?;
        self.with_use(key).await
    }

    /// A key with the text that was just made for it.
    fn with_text(
        &self,
        object: &StoredObject,
        text: SecretString,
    ) -> Result<KeyObject, ObjectError> {
        let key = self.stored_to_api(object).ok_or(ObjectError::NotFound)?;
        Ok(KeyObject {
            key: Some(text),
            ..key
        })
    }

    /// A stored key; none if it can't be read.
    fn stored_to_api(&self, object: &StoredObject) -> Option<KeyObject> {
        let spec = spec_of(&object.body).ok()?;
        let hashes = hashes_of(object).unwrap_or_default();
        let until = hashes.iter().filter_map(|Hashed { until, .. }| *until);
        let until = until.filter_map(|until| Timestamp::try_from(until).ok());
        Some(KeyObject {
            id: object.id.clone(),
            key: None,
            prefix: object.body[PREFIX].as_str().map(str::to_owned),
            owner: spec.owner().to_owned(),
            name: spec.name,
            role: spec.role,
            models: spec.models,
            limits: spec.limits,
            budget: spec.budget,
            expires_at: spec.expires_at,
            enabled: spec.enabled,
            source: ObjectSource::Api,
            last_used_at: None,
            previous_until: until.max().filter(|until| *until > now()),
            created_at: Some(object.created_at),
            updated_at: Some(object.updated_at),
            version: Some(object.version),
        })
    }

    async fn with_use(&self, key: KeyObject) -> Result<KeyObject, ObjectError> {
        let mut keys = [key];
        self.add_uses(&mut keys).await?;
        let [key] = keys;
        Ok(key)
    }

    /// Says when keys were last used: what the store was told, and what this replica knows. While
    /// the store is away the latter must do.
    async fn add_uses(&self, keys: &mut [KeyObject]) -> Result<(), ObjectError> {
        let ids = keys.iter().map(|key| key.id.clone()).collect();
        let away = self.editor.follower.away_since().is_some();
        let told = match away {
            true => Vec::new(),
            false => self.editor.store.uses(ids).await?,
        };
        let live = self.live.load();
        for key in keys {
            let told = told.iter().find(|one| one.key == key.id);
            let here = live.snapshot.keys.last_use(&key.id);
            key.last_used_at = told.map(|one| one.at).max(here);
        }
        Ok(())
    }
}

fn file_key(raw: &StaticKey) -> KeyObject {
    KeyObject {
        id: raw.name.clone(),
        key: None,
        prefix: None,
        name: raw.name.clone(),
        role: raw.role,
        owner: raw.owner.clone(),
        models: raw
            .models
            .iter()
            .map(|model| model.as_str().to_owned())
            .collect(),
        limits: raw.limits.into(),
        budget: raw.budget.map(BudgetSpec::from),
        expires_at: raw.expires_at,
        enabled: raw.enabled,
        source: ObjectSource::File,
        last_used_at: None,
        previous_until: None,
        created_at: None,
        updated_at: None,
        version: None,
    }
}
