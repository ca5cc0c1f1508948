//! Shows the active configuration to the admin service, reloads it, and can
//! go back to what was made by API at an earlier time.

use std::collections::HashMap;

use async_trait::async_trait;
use llm_router_admin::{ConfigError, RestoredObject, RollbackError, RollbackReport, RunningConfig};
use llm_router_store::objects::{
    AuditQuery, Handle, ObjectChange, ObjectDraft, ObjectKind, StoredObject,
};
use serde_json::{Map, Value, json};

use crate::admin_api::editor::{Editor, by};
use crate::keys::stored_keys::PREFIX;
use crate::sync::reload::to_config_errors;

/// The configuration, for the admin service.
pub(crate) struct ConfigEditor {
    pub(crate) editor: Editor,
}

#[async_trait]
impl llm_router_admin::ConfigApi for ConfigEditor {
    fn running_config(&self) -> RunningConfig {
        let revision = self.editor.reloader.live().snapshot.revision;
        let in_force = self.editor.reloader.in_force();
        let mut made = Map::new();
        // Keys have a list of their own: there may be very many.
        for kind in ObjectKind::ALL
            .into_iter()
            .filter(|kind| *kind != ObjectKind::Key)
        {
            let objects = in_force.objects.by_kind(kind).map(to_api);
            made.insert(kind.name().to_owned(), objects.collect());
        }
        RunningConfig {
            revision,
            change_number: in_force.objects.change_number,
            file: self
                .editor
                .reloader
                .file()
                .map(|file| file.display().to_string()),
            config: in_force.masked.clone(),
            made_by_api: made.into(),
            refused: in_force.refused.clone(),
        }
    }

    async fn reload(&self, actor: &str) -> Result<u64, Vec<ConfigError>> {
        let reloaded = self.editor.reloader.reload_as("asked by API", actor).await;
        reloaded.map_err(|error| to_config_errors(&error))
    }

    async fn roll_back(&self, number: u64, actor: &str) -> Result<RollbackReport, RollbackError> {
        let earlier = self.earlier(number).await?;
        let mut done = RollbackReport::default();
        for ((kind, id), before) in earlier {
            let found = self.editor.store.find(kind, Handle::Id(&id)).await?;
            let what = self.restore(kind, &id, before, found.as_ref(), actor);
            let what = what.await;
            let (list, what) = match what {
                Ok(what) => (&mut done.changed, what.to_owned()),
                Err(why) => (&mut done.left, why),
            };
            list.push(RestoredObject {
                kind: kind.name().to_owned(),
                id,
                what,
            });
        }
        self.editor.follower.sync().await;
        Ok(done)
    }
}

/// Most entries of the audit that are undone at once.
const MOST_UNDONE: usize = 10_000;
const PAGE: u32 = 500;

/// Objects and what each was; none, where it wasn't there.
type Earlier = Vec<((ObjectKind, String), Option<Value>)>;

impl ConfigEditor {
    /// Returns what was changed since, as it was then.
    async fn earlier(&self, number: u64) -> Result<Earlier, RollbackError> {
        let mut earlier: HashMap<(ObjectKind, String), Option<Value>> = HashMap::new();
        let mut order = Vec::new();
        let mut query = AuditQuery {
            limit: PAGE,
            ..AuditQuery::default()
        };
        let mut seen = 0;
        loop {
            let page = self.editor.store.audit(&query).await?;
            for entry in page.items {
                if entry.seq <= number {
                    let there = entry.seq == number;
                    let earlier = order.into_iter().filter_map(|key| {
                        let before = earlier.remove(&key)?;
                        Some((key, before))
                    });
                    return if there {
                        Ok(earlier.collect())
                    } else {
                        Err(RollbackError::Missing)
                    };
                }
                let kind = ObjectKind::ALL
                    .into_iter()
                    .find(|kind| kind.name() == entry.what.kind);
                if let Some(kind) = kind {
                    let key = (kind, entry.what.object);
                    // Older entries come later: the last one is what it was then.
                    if earlier.insert(key.clone(), entry.what.before).is_none() {
                        order.push(key);
                    }
                }
                seen += 1;
            }
            query.cursor = page.next;
            if query.cursor.is_none() {
                return Err(RollbackError::Missing);
            }
            if seen > MOST_UNDONE {
                return Err(RollbackError::TooFar);
            }
        }
    }

    /// Makes one object what it was.
    async fn restore(
        &self,
        kind: ObjectKind,
        id: &str,
        before: Option<Value>,
        found: Option<&StoredObject>,
        actor: &str,
    ) -> Result<&'static str, String> {
        let draft = |body: Value| ObjectDraft {
            kind,
            id: id.to_owned(),
            name: body["name"].as_str().unwrap_or(id).to_owned(),
            body,
            sealed: None,
        };
        let (change, what) = match (before, found) {
            (None, None) => return Ok("was not there, and isn't"),
            (None, Some(_)) => {
                let id = id.to_owned();
                (
                    ObjectChange::Delete {
                        kind,
                        id,
                        expected: None,
                    },
                    "deleted",
                )
            }
            (Some(body), Some(found)) if body == found.body => return Ok("is as it was"),
            (Some(mut body), Some(found)) => {
                if kind == ObjectKind::Key {
                    // Its text doesn't come back: it begins as the one that it has now.
                    body[PREFIX] = found.body[PREFIX].clone();
                    if body == found.body {
                        return Ok("is as it was");
                    }
                }
                let expected = Some(found.version);
                let draft = draft(body);
                (ObjectChange::Replace { draft, expected }, "changed back")
            }
            (Some(_), None) if kind == ObjectKind::Key => {
                return Err("a deleted key can't come back: only its hash was stored".to_owned());
            }
            (Some(body), None) if body["api_key"].is_string() || body["headers"].is_object() => {
                return Err("its credential went with it; make it anew".to_owned());
            }
            (Some(body), None) => (ObjectChange::Create(draft(body)), "made again"),
        };
        let changed = self.editor.store.change(change, by(actor)).await;
        changed.map(|_| what).map_err(|error| error.to_string())
    }
}

fn to_api(object: &StoredObject) -> Value {
    json!({
        "id": object.id,
        "name": object.name,
        "version": object.version,
        "updated_at": object.updated_at,
        "fields": object.body,
    })
}
