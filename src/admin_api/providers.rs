//! Providers in the admin API: lists, creates, changes, deletes and checks them. It must not speak
//! HTTP itself.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use llm_router_admin::{
    Collection, ListPage, ModelSpec, ObjectError, ObjectSource, ProviderFields, ProviderHealth,
    ProviderModel, ProviderObject,
};
use llm_router_config::{self as config, check_provider};
use llm_router_domain::pattern::Pattern;
use llm_router_domain::usage::Class;
use llm_router_store::objects::{ObjectDraft, ObjectKind, StoredObject};
use llm_router_store::seal::Sealer;
use serde_json::{Map, Value, json};

use crate::admin_api::editor::Editor;
use crate::health::{Checked, Health};
use crate::keys::generate::invalid;
use crate::proxy::{SharedLive, check_now};
use crate::routing::toggle::now;
use crate::snapshot::stored_providers::{self, PRICES, Secrets};
use crate::sync::reload::ActiveConfig;

/// Time limit for a provider to list its models.
const LIST_TIMEOUT: Duration = Duration::from_secs(5);

/// Providers, for the admin service.
pub(crate) struct ProviderEditor {
    pub(crate) editor: Editor,
    pub(crate) sealer: Option<Sealer>,
    pub(crate) live: SharedLive,
    pub(crate) health: Arc<Health>,
}

#[async_trait]
impl Collection for ProviderEditor {
    type Object = ProviderObject;
    type Spec = ProviderFields;

    async fn list(
        &self,
        after: Option<&str>,
        most: usize,
    ) -> Result<ListPage<ProviderObject>, ObjectError> {
        ListPage::cut(self.providers().await, after, most, |provider| &provider.id)
    }

    async fn get(&self, id: &str) -> Result<ProviderObject, ObjectError> {
        let mut providers = self.providers().await.into_iter();
        let found = providers.find(|provider| provider.id == id);
        found.ok_or(ObjectError::NotFound)
    }

    async fn create(
        &self,
        mut fields: ProviderFields,
        actor: &str,
    ) -> Result<ProviderObject, ObjectError> {
        self.editor.catch_up().await;
        let id = fields
            .get("id")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        if self.is_in_file(&id) {
            return Err(ObjectError::AlreadyExists);
        }
        let secrets = Secrets::take(&mut fields, Secrets::default());
        let draft = self.draft(id, fields, &secrets)?;
        let object = self.editor.create(draft, actor).await?;
        Ok(self.stored_object(&object))
    }

    async fn replace(
        &self,
        id: &str,
        mut fields: ProviderFields,
        expected: Option<u64>,
        actor: &str,
    ) -> Result<ProviderObject, ObjectError> {
        let object = self.find_stored(id, expected).await?;
        let other = fields
            .get("id")
            .and_then(Value::as_str)
            .is_some_and(|given| given != id);
        if other {
            let message = "the id of a provider stays; delete it and make another".to_owned();
            return Err(invalid("id", message));
        }
        let known =
            stored_providers::open_secrets(&object, self.sealer.as_ref()).unwrap_or_default();
        let secrets = Secrets::take(&mut fields, known);
        let mut draft = self.draft(id.to_owned(), fields, &secrets)?;
        draft.body[PRICES] = object.body[PRICES].clone();
        let object = self.editor.replace(draft, expected, actor).await?;
        Ok(self.stored_object(&object))
    }

    async fn delete(
        &self,
        id: &str,
        expected: Option<u64>,
        actor: &str,
    ) -> Result<(), ObjectError> {
        self.find_stored(id, expected).await?;
        self.editor
            .delete(ObjectKind::Provider, id, expected, actor)
            .await
    }
}

#[async_trait]
impl llm_router_admin::ProvidersApi for ProviderEditor {
    async fn check(&self, id: &str) -> Result<ProviderHealth, ObjectError> {
        self.config_of(id).await?;
        let checked = check_now(&self.live, &self.health, id).await;
        Ok(checked.map_or_else(switched_off, |checked| to_health(&checked)))
    }

    async fn checks(&self, id: &str) -> Result<Vec<ProviderHealth>, ObjectError> {
        self.config_of(id).await?;
        let history = self.health.history(id);
        Ok(history.iter().rev().map(to_health).collect())
    }

    async fn models(&self, id: &str, ask: bool) -> Result<Vec<ProviderModel>, ObjectError> {
        let found = self.config_of(id).await?;
        let source = if self.is_in_file(id) { "file" } else { "api" };
        let served = found.models.patterns().iter().map(Pattern::as_str);
        let mut models: Vec<ProviderModel> = served
            .map(|name| self.model(&found, name, source))
            .collect();
        if ask {
            for name in self.list_models(&found).await? {
                if models.iter().all(|model| model.id != name) {
                    models.push(self.model(&found, &name, "provider"));
                }
            }
        }
        Ok(models)
    }

    async fn set_model(
        &self,
        id: &str,
        model: ModelSpec,
        actor: &str,
    ) -> Result<ProviderModel, ObjectError> {
        let object = self.find_stored(id, None).await?;
        let mut fields = object.body.as_object().cloned().unwrap_or_default();
        set_served(&mut fields, &model)?;
        if let Some(price) = &model.price {
            let price = Value::from(price.clone());
            stored_providers::price_table(id, &model.id, &price)
                .map_err(|message| invalid("price", message))?;
            fields.entry(PRICES).or_insert_with(|| json!({}))[&model.id] = price;
        }
        let prices = fields.remove(PRICES);
        let known =
            stored_providers::open_secrets(&object, self.sealer.as_ref()).unwrap_or_default();
        let secrets = Secrets::take(&mut fields, known);
        let mut draft = self.draft(id.to_owned(), fields, &secrets)?;
        draft.body[PRICES] = prices.unwrap_or_default();
        // Of two who change the models at once, the other is told to look again.
        let expected = Some(object.version);
        self.editor.replace(draft, expected, actor).await?;
        let found = self.config_of(id).await?;
        let live = self.editor.reloader.live();
        let kind = found.kind.price_type();
        let facts = live.snapshot.model_facts(id, kind, &model.id);
        Ok(ProviderModel {
            context: facts.and_then(|facts| facts.context),
            max_output: facts.and_then(|facts| facts.max_output),
            id: model.id,
            enabled: model.enabled,
            price: model.price.map(Value::from),
            source: "api",
        })
    }
}

impl ProviderEditor {
    async fn providers(&self) -> Vec<ProviderObject> {
        self.editor.catch_up().await;
        let in_force = self.editor.reloader.in_force();
        let in_file = in_force.masked["providers"]
            .as_array()
            .into_iter()
            .flatten();
        let in_file = in_file.filter_map(|fields| self.file_object(fields));
        let stored = in_force
            .objects
            .by_kind(ObjectKind::Provider)
            .map(|object| self.stored_object(object));
        in_file.chain(stored).collect()
    }

    fn is_in_file(&self, id: &str) -> bool {
        is_in_file(&self.editor.reloader.in_force(), id)
    }

    /// Returns a provider of the file or of the store.
    async fn config_of(&self, id: &str) -> Result<Arc<config::Provider>, ObjectError> {
        self.editor.catch_up().await;
        let in_force = self.editor.reloader.in_force();
        let in_file = in_force
            .config
            .providers
            .iter()
            .find(|provider| provider.id == id);
        if let Some(provider) = in_file {
            return Ok(Arc::clone(provider));
        }
        let mut stored = in_force.objects.by_kind(ObjectKind::Provider);
        let stored = stored
            .find(|object| object.id == id)
            .ok_or(ObjectError::NotFound)?;
        stored_providers::to_config(stored, self.sealer.as_ref())
            .map_err(ObjectError::UpstreamFailed)
    }

    /// Returns a stored provider; refuses one of the file, and one that is missing or was changed.
    async fn find_stored(
        &self,
        id: &str,
        expected: Option<u64>,
    ) -> Result<StoredObject, ObjectError> {
        let in_file = |in_force: &ActiveConfig| is_in_file(in_force, id);
        let object = self
            .editor
            .find_stored(ObjectKind::Provider, id, expected, in_file);
        object.await
    }

    /// Returns the object to store for a provider.
    ///
    /// # Errors
    /// Returns an error if the provider can't be used.
    fn draft(
        &self,
        id: String,
        mut fields: Map<String, Value>,
        secrets: &Secrets,
    ) -> Result<ObjectDraft, ObjectError> {
        let mut whole = stored_providers::with_secrets(&id, fields.clone(), secrets);
        if id.is_empty() {
            whole.remove("id");
        }
        check_provider(&whole.into()).map_err(|problems| {
            let first = problems.into_iter().next();
            first.map_or(ObjectError::NotFound, |problem| {
                let message = format!("{}; {}", problem.message, problem.remedy);
                invalid(&problem.path, message)
            })
        })?;
        let sealed = match &self.sealer {
            _ if secrets.is_empty() => None,
            Some(sealer) => {
                let sealed = secrets.seal(&id, sealer);
                Some(sealed.map_err(|message| invalid("api_key", message))?)
            }
            None => {
                let message = "credentials can't be stored: set SECRET_KEY to 32 characters or \
                               more, as from `openssl rand -hex 32`, and start again";
                return Err(invalid("api_key", message.to_owned()));
            }
        };
        fields.remove("id");
        Ok(ObjectDraft {
            kind: ObjectKind::Provider,
            name: id.clone(),
            id,
            body: fields.into(),
            sealed,
        })
    }

    fn file_object(&self, fields: &Value) -> Option<ProviderObject> {
        let mut fields = fields.as_object()?.clone();
        let id = fields.remove("id")?.as_str()?.to_owned();
        Some(ProviderObject {
            health: self.latest(&id),
            id,
            fields,
            source: ObjectSource::File,
            problem: None,
            version: None,
        })
    }

    fn stored_object(&self, object: &StoredObject) -> ProviderObject {
        let mut fields = object.body.as_object().cloned().unwrap_or_default();
        fields.remove(PRICES);
        ProviderObject {
            id: object.id.clone(),
            fields,
            source: ObjectSource::Api,
            health: self.latest(&object.id),
            problem: stored_providers::to_config(object, self.sealer.as_ref()).err(),
            version: Some(object.version),
        }
    }

    fn latest(&self, id: &str) -> Option<ProviderHealth> {
        self.health.history(id).last().map(to_health)
    }

    fn model(
        &self,
        provider: &config::Provider,
        name: &str,
        source: &'static str,
    ) -> ProviderModel {
        let live = self.editor.reloader.live();
        let prices = &live.snapshot.prices;
        let today = llm_router_domain::ledger::day(now());
        let price = prices.find(&provider.id, provider.kind.price_type(), name);
        let price = price.and_then(|price| {
            let rates = price.on(today)?.list();
            let rate = |class: Class| {
                let usd = rates.own(class)?.usd().to_string();
                Some((class.name().to_owned(), serde_json::from_str(&usd).ok()?))
            };
            Some(
                Class::ALL
                    .into_iter()
                    .filter_map(rate)
                    .collect::<Map<_, _>>()
                    .into(),
            )
        });
        let snapshot = &live.snapshot;
        let facts = snapshot.model_facts(&provider.id, provider.kind.price_type(), name);
        ProviderModel {
            id: name.to_owned(),
            enabled: provider.serves(name),
            price,
            context: facts.and_then(|facts| facts.context),
            max_output: facts.and_then(|facts| facts.max_output),
            source,
        }
    }

    /// Asks a provider for the names of its models.
    async fn list_models(&self, provider: &config::Provider) -> Result<Vec<String>, ObjectError> {
        let path = provider.kind.models_path(&provider.settings);
        let live = self.editor.reloader.live();
        let answer = live.probe(&provider.id, &path, LIST_TIMEOUT).await;
        let answer = answer.map_err(ObjectError::UpstreamFailed)?;
        if answer.status != 200 {
            let message = format!(
                "asked for its models it answered with status {}",
                answer.status
            );
            return Err(ObjectError::UpstreamFailed(message));
        }
        let list: Value = serde_json::from_slice(&answer.body).map_err(|error| {
            ObjectError::UpstreamFailed(format!("its list of models is no JSON: {error}"))
        })?;
        let names = list["data"]
            .as_array()
            .or_else(|| list["models"].as_array());
        let name = |item: &Value| {
            let name = item["id"].as_str().or_else(|| item["name"].as_str())?;
            Some(name.strip_prefix("models/").unwrap_or(name).to_owned())
        };
        Ok(names.into_iter().flatten().filter_map(name).collect())
    }
}

/// Adds a model to those that a provider serves, or removes it.
fn set_served(fields: &mut Map<String, Value>, model: &ModelSpec) -> Result<(), ObjectError> {
    if model.id.is_empty() {
        return Err(invalid("id", "id is empty.".to_owned()));
    }
    let served = fields.entry("models").or_insert_with(|| json!(["*"]));
    let Some(served) = served.as_array_mut() else {
        return Ok(());
    };
    served.retain(|name| *name != model.id);
    let patterns = served.iter().filter_map(Value::as_str);
    let by_pattern = llm_router_domain::pattern::PatternList::new(patterns).allows(&model.id);
    if !model.enabled && by_pattern {
        let message = "a pattern in the provider's models serves it too; change `models` first";
        return Err(invalid("enabled", message.to_owned()));
    }
    if model.enabled && !by_pattern {
        served.push(model.id.clone().into());
    }
    Ok(())
}

fn to_health(checked: &Checked) -> ProviderHealth {
    let answered = checked.healthy || checked.status.is_some();
    ProviderHealth {
        healthy: checked.healthy,
        latency_ms: answered.then_some(checked.latency.as_secs_f64() * 1e3),
        status: checked.status,
        error: checked.error.clone(),
        checked_at: Timestamp::try_from(checked.at).unwrap_or_default(),
    }
}

fn switched_off() -> ProviderHealth {
    ProviderHealth {
        healthy: false,
        latency_ms: None,
        status: None,
        error: Some("the provider is disabled".to_owned()),
        checked_at: now(),
    }
}

fn is_in_file(in_force: &ActiveConfig, id: &str) -> bool {
    let mut providers = in_force.config.providers.iter();
    providers.any(|provider| provider.id == id)
}
