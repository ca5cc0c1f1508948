//! Edits routing for the admin service: the toggle, and the rules made by API. It must not
//! speak HTTP.

use std::sync::Arc;

use async_trait::async_trait;
use llm_router_admin::{
    Collection, ListPage, ObjectError, ObjectSource, RuleObject, RuleProblem, ToggleStatus,
};
use llm_router_domain::rule::{RuleFinding, RuleSpec, Severity};
use llm_router_domain::toggle::{ToggleAnswer, ToggleChange, ToggleRecord, ToggleView};
use llm_router_store::StoreError;
use llm_router_store::ledger::Page;
use llm_router_store::objects::{ObjectDraft, ObjectKind, StoredObject};
use uuid::Uuid;

use crate::admin_api::editor::Editor;
use crate::routing::toggle::{ToggleReplica, now};
use crate::snapshot::stored_rules::{self, Listed as Written, Refusal};
use crate::sync::reload::ActiveConfig;

/// The toggle and the rules, for the admin service.
pub(crate) struct RoutingEditor {
    pub(crate) switch: Arc<ToggleReplica>,
    pub(crate) editor: Editor,
}

#[async_trait]
impl llm_router_admin::RoutingApi for RoutingEditor {
    async fn toggle_status(&self) -> ToggleStatus {
        self.editor.follower.sync_if_available().await;
        self.to_status(self.switch.status(now()))
    }

    async fn request_toggle(
        &self,
        request: &ToggleChange,
    ) -> Result<(ToggleAnswer, ToggleStatus), StoreError> {
        self.editor.follower.must_answer()?;
        let (answer, status) = self.switch.request(request).await?;
        self.editor.broadcast.tell();
        self.editor.follower.wake();
        Ok((answer, self.to_status(status)))
    }

    async fn cancel_toggle(&self, actor: &str) -> Result<(bool, ToggleStatus), StoreError> {
        self.editor.follower.must_answer()?;
        let (cancelled, status) = self.switch.cancel(actor).await?;
        self.editor.broadcast.tell();
        Ok((cancelled, self.to_status(status)))
    }

    async fn toggle_history(
        &self,
        cursor: Option<u64>,
        limit: u32,
    ) -> Result<Page<ToggleRecord, u64>, StoreError> {
        // A change that is in force is told as applied, whoever was to settle it.
        self.editor.follower.sync_if_available().await;
        self.editor.follower.must_answer()?;
        self.editor.store.toggle_history(cursor, limit).await
    }
}

#[async_trait]
impl Collection for RoutingEditor {
    type Object = RuleObject;
    type Spec = RuleSpec;

    async fn list(
        &self,
        after: Option<&str>,
        most: usize,
    ) -> Result<ListPage<RuleObject>, ObjectError> {
        let rules = self.current().await.iter().map(to_api).collect();
        ListPage::cut(rules, after, most, |rule: &RuleObject| &rule.id)
    }

    async fn get(&self, id: &str) -> Result<RuleObject, ObjectError> {
        let rules = self.current().await;
        let rule = rules.iter().find(|rule| rule.id == id);
        rule.map(to_api).ok_or(ObjectError::NotFound)
    }

    async fn create(&self, spec: RuleSpec, actor: &str) -> Result<RuleObject, ObjectError> {
        self.editor.catch_up().await;
        self.editor.follower.must_answer()?;
        self.check(&spec, None).await?;
        let draft = draft(Uuid::now_v7().to_string(), &spec)?;
        let object = self.editor.create(draft, actor).await?;
        Ok(self.in_force(&object, spec))
    }

    async fn replace(
        &self,
        id: &str,
        spec: RuleSpec,
        expected: Option<u64>,
        actor: &str,
    ) -> Result<RuleObject, ObjectError> {
        self.must_be_made(id, expected).await?;
        self.check(&spec, Some(id)).await?;
        let draft = draft(id.to_owned(), &spec)?;
        let object = self.editor.replace(draft, expected, actor).await?;
        Ok(self.in_force(&object, spec))
    }

    async fn delete(
        &self,
        id: &str,
        expected: Option<u64>,
        actor: &str,
    ) -> Result<(), ObjectError> {
        self.must_be_made(id, expected).await?;
        self.editor
            .delete(ObjectKind::Rule, id, expected, actor)
            .await
    }
}

impl RoutingEditor {
    fn to_status(&self, status: ToggleView) -> ToggleStatus {
        ToggleStatus {
            status,
            at: now(),
            store_away_since: self.editor.follower.away_since(),
        }
    }

    /// The rules in force, after what other replicas changed was taken over. While the store is
    /// away: those that were last heard of.
    async fn current(&self) -> Vec<Written> {
        self.editor.catch_up().await;
        self.editor.reloader.live().snapshot.listed_rules.to_vec()
    }

    /// Refuses what the file says, and what isn't there or was changed: before anything is said of
    /// a rule that would take its place.
    async fn must_be_made(&self, id: &str, expected: Option<u64>) -> Result<(), ObjectError> {
        let listed = Arc::clone(&self.editor.reloader.live().snapshot.listed_rules);
        let written = |_: &ActiveConfig| listed.iter().any(|rule| rule.id == id);
        let made = self
            .editor
            .find_stored(ObjectKind::Rule, id, expected, written);
        made.await.map(drop)
    }

    async fn check(&self, spec: &RuleSpec, replaces: Option<&str>) -> Result<(), ObjectError> {
        let reloader = Arc::clone(&self.editor.reloader);
        let (spec, replaces) = (spec.clone(), replaces.map(str::to_owned));
        let check = move || {
            let live = reloader.live();
            let in_force = reloader.in_force();
            stored_rules::check(
                &spec,
                replaces.as_deref(),
                &in_force.config,
                &in_force.objects,
                live.snapshot.keys.stored_keys(),
                Some(&live.snapshot.rules),
            )
        };
        // Compiling many rules takes its time: not on a worker of this runtime.
        let checked = tokio::task::spawn_blocking(check).await;
        let checked = checked.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        checked.map_err(|refusal| match refusal {
            Refusal::Taken => ObjectError::AlreadyExists,
            Refusal::Invalid(field, message) => ObjectError::Invalid { field, message },
        })
    }

    /// A rule that was stored, as it is in force here.
    fn in_force(&self, object: &StoredObject, spec: RuleSpec) -> RuleObject {
        let live = self.editor.reloader.live();
        let mut rules = live.snapshot.listed_rules.iter();
        let rule = rules.find(|rule| rule.id == object.id);
        rule.map_or_else(|| remove_listed(object, spec), to_api)
    }
}

fn draft(id: String, spec: &RuleSpec) -> Result<ObjectDraft, ObjectError> {
    let mut body =
        serde_json::to_value(spec).map_err(|error| StoreError::Refused(error.to_string()))?;
    if let Some(fields) = body.as_object_mut() {
        fields.remove("id");
    }
    Ok(ObjectDraft {
        kind: ObjectKind::Rule,
        id,
        name: spec.name.clone(),
        body,
        sealed: None,
    })
}

fn to_api(rule: &Written) -> RuleObject {
    let spec = rule.spec.clone();
    RuleObject {
        id: rule.id.clone(),
        name: spec.name,
        priority: spec.priority,
        enabled: spec.enabled,
        when: spec.when,
        then: spec.then,
        source: rule.made.map_or(ObjectSource::File, |_| ObjectSource::Api),
        broken: rule.is_broken(),
        problems: rule.problems.iter().map(problem).collect(),
        version: rule.made.map(|made| made.version),
        created_at: rule.made.map(|made| made.created_at),
        updated_at: rule.made.map(|made| made.updated_at),
    }
}

/// A rule that is stored and could not be put into force yet.
fn remove_listed(object: &StoredObject, spec: RuleSpec) -> RuleObject {
    to_api(&Written {
        id: object.id.clone(),
        spec,
        made: Some(object.into()),
        problems: Vec::new(),
    })
}

fn problem(problem: &RuleFinding) -> RuleProblem {
    RuleProblem {
        severity: match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        field: problem.path.clone(),
        message: problem.message.clone(),
    }
}
