//! What the admin service may do to routing: the toggle, and the rules made by API. It must not
//! speak HTTP.

use std::sync::Arc;

use async_trait::async_trait;
use llm_router_admin::{Origin, Rule, RuleError, RuleProblem, ToggleStatus};
use llm_router_domain::rule::{Problem, RuleSpec, Severity};
use llm_router_domain::toggle::{Answer, Item, Request, Status};
use llm_router_store::ledger::Page;
use llm_router_store::objects::{By, Change, ChangeError, Draft, Kind, Object};
use llm_router_store::{Store, StoreError};
use uuid::Uuid;

use crate::follow::Follower;
use crate::reload::Reloader;
use crate::rules::{self, Listed, Refusal};
use crate::switch::{Switch, now};

/// The toggle and the rules, for the admin service.
pub(crate) struct Steering {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) switch: Arc<Switch>,
    pub(crate) reloader: Arc<Reloader>,
    pub(crate) follower: Arc<Follower>,
}

#[async_trait]
impl llm_router_admin::Steering for Steering {
    async fn toggle_status(&self) -> ToggleStatus {
        self.follower.look_unless_away().await;
        self.shown(self.switch.status(now()))
    }

    async fn request_toggle(
        &self,
        request: &Request,
    ) -> Result<(Answer, ToggleStatus), StoreError> {
        self.follower.must_answer()?;
        let (answer, status) = self.switch.request(request).await?;
        self.follower.wake();
        Ok((answer, self.shown(status)))
    }

    async fn cancel_toggle(&self, actor: &str) -> Result<(bool, ToggleStatus), StoreError> {
        self.follower.must_answer()?;
        let (cancelled, status) = self.switch.cancel(actor).await?;
        Ok((cancelled, self.shown(status)))
    }

    async fn toggle_history(
        &self,
        cursor: Option<u64>,
        limit: u32,
    ) -> Result<Page<Item, u64>, StoreError> {
        // A change that is in force is told as applied, whoever was to settle it.
        self.follower.look_unless_away().await;
        self.follower.must_answer()?;
        self.store.toggle_history(cursor, limit).await
    }

    async fn rules(&self) -> Vec<Rule> {
        self.current().await.iter().map(shown).collect()
    }

    async fn create_rule(&self, spec: RuleSpec, actor: &str) -> Result<Rule, RuleError> {
        self.current().await;
        self.follower.must_answer()?;
        self.check(&spec, None).await?;
        let draft = draft(Uuid::now_v7().to_string(), &spec)?;
        self.change(Change::Create(draft), spec, actor).await
    }

    async fn replace_rule(
        &self,
        id: &str,
        spec: RuleSpec,
        expected: Option<u64>,
        actor: &str,
    ) -> Result<Rule, RuleError> {
        self.must_be_made(id, expected).await?;
        self.check(&spec, Some(id)).await?;
        let draft = draft(id.to_owned(), &spec)?;
        self.change(Change::Replace { draft, expected }, spec, actor)
            .await
    }

    async fn delete_rule(
        &self,
        id: &str,
        expected: Option<u64>,
        actor: &str,
    ) -> Result<(), RuleError> {
        self.must_be_made(id, expected).await?;
        let change = Change::Delete {
            kind: Kind::Rule,
            id: id.to_owned(),
            expected,
        };
        self.store
            .change(change, by(actor))
            .await
            .map_err(refused)?;
        self.follower.look().await;
        Ok(())
    }
}

impl Steering {
    fn shown(&self, status: Status) -> ToggleStatus {
        ToggleStatus {
            status,
            at: now(),
            store_away_since: self.follower.away_since(),
        }
    }

    /// The rules in force, after what other replicas changed was taken over. While the store is
    /// away: those that were last heard of.
    async fn current(&self) -> Vec<Listed> {
        self.follower.look_unless_away().await;
        self.reloader.live().snapshot.listed_rules.to_vec()
    }

    /// Refuses what the file says, and what isn't there or was changed: before anything is said of
    /// a rule that would take its place.
    async fn must_be_made(&self, id: &str, expected: Option<u64>) -> Result<(), RuleError> {
        let rules = self.current().await;
        self.follower.must_answer()?;
        let rule = rules.iter().find(|rule| rule.id == id);
        let made = rule.ok_or(RuleError::Missing)?.made;
        let version = made.ok_or(RuleError::ReadOnly)?.version;
        if expected.is_some_and(|expected| expected != version) {
            return Err(RuleError::Stale);
        }
        Ok(())
    }

    async fn check(&self, spec: &RuleSpec, replaces: Option<&str>) -> Result<(), RuleError> {
        let reloader = Arc::clone(&self.reloader);
        let (spec, replaces) = (spec.clone(), replaces.map(str::to_owned));
        let check = move || {
            let live = reloader.live();
            let in_force = reloader.in_force();
            rules::check(
                &spec,
                replaces.as_deref(),
                &in_force.config,
                &in_force.objects,
                Some(&live.snapshot.rules),
            )
        };
        // Compiling many rules takes its time: not on a worker of this runtime.
        let checked = tokio::task::spawn_blocking(check).await;
        let checked = checked.map_err(|error| StoreError::Unavailable(error.to_string()))?;
        checked.map_err(|refusal| match refusal {
            Refusal::Taken => RuleError::Taken,
            Refusal::Invalid(field, message) => RuleError::Invalid { field, message },
        })
    }

    /// Changes a rule and puts it into force here; the others follow by themselves.
    async fn change(&self, change: Change, spec: RuleSpec, actor: &str) -> Result<Rule, RuleError> {
        let changed = self.store.change(change, by(actor)).await;
        let object = changed.map_err(refused)?.ok_or(RuleError::Missing)?;
        self.follower.look().await;
        let live = self.reloader.live();
        let rule = live
            .snapshot
            .listed_rules
            .iter()
            .find(|rule| rule.id == object.id);
        Ok(rule.map_or_else(|| unlisted(&object, spec), shown))
    }
}

fn draft(id: String, spec: &RuleSpec) -> Result<Draft, RuleError> {
    let mut body =
        serde_json::to_value(spec).map_err(|error| StoreError::Refused(error.to_string()))?;
    if let Some(fields) = body.as_object_mut() {
        fields.remove("id");
    }
    Ok(Draft {
        kind: Kind::Rule,
        id,
        name: spec.name.clone(),
        body,
        sealed: None,
    })
}

fn by(actor: &str) -> By {
    By {
        actor: actor.to_owned(),
        at: now(),
    }
}

fn refused(error: ChangeError) -> RuleError {
    match error {
        ChangeError::Taken => RuleError::Taken,
        ChangeError::Missing => RuleError::Missing,
        ChangeError::Stale(_) => RuleError::Stale,
        ChangeError::Store(error) => RuleError::Store(error),
    }
}

fn shown(rule: &Listed) -> Rule {
    let spec = rule.spec.clone();
    Rule {
        id: rule.id.clone(),
        name: spec.name,
        priority: spec.priority,
        enabled: spec.enabled,
        when: spec.when,
        then: spec.then,
        source: rule.made.map_or(Origin::File, |_| Origin::Api),
        broken: rule.is_broken(),
        problems: rule.problems.iter().map(problem).collect(),
        version: rule.made.map(|made| made.version),
        created_at: rule.made.map(|made| made.created_at),
        updated_at: rule.made.map(|made| made.updated_at),
    }
}

/// A rule that is stored and could not be put into force yet.
fn unlisted(object: &Object, spec: RuleSpec) -> Rule {
    shown(&Listed {
        id: object.id.clone(),
        spec,
        made: Some(object.into()),
        problems: Vec::new(),
    })
}

fn problem(problem: &Problem) -> RuleProblem {
    RuleProblem {
        severity: match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        },
        field: problem.path.clone(),
        message: problem.message.clone(),
    }
}
