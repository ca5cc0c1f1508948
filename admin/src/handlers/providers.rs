//! `/api/v1/providers`: providers of the file, which are read-only, and providers created through
//! the API, with their health and models. They are checked by the router; credentials are masked.

use std::collections::HashMap;

use async_trait::async_trait;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use jiff::Timestamp;
use llm_router_domain::key::Role;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::backend::{AppState, Backend};
use crate::body;
use crate::caller::Caller;
use crate::crud::{Resource, ResourceDocs, object_error};
use crate::error::AdminError;
use crate::objects::{ApiObject, Collection, ObjectError, ObjectSource};
use crate::page::{ListPage, Paging, Parameters, cursor, limit};

/// Operations on providers. A replacement keeps the stored credential if it has none or the masked
/// one.
#[async_trait]
pub trait ProvidersApi: Collection<Object = ProviderObject, Spec = ProviderFields> {
    /// Checks the health of a provider now.
    ///
    /// # Errors
    /// If there is no such provider.
    async fn check(&self, id: &str) -> Result<ProviderHealth, ObjectError>;

    /// Returns the latest health checks of a provider by this replica, newest first.
    ///
    /// # Errors
    /// If there is no such provider.
    async fn checks(&self, id: &str) -> Result<Vec<ProviderHealth>, ObjectError>;

    /// Returns the models of a provider; with `refresh`, also those that the provider itself lists.
    ///
    /// # Errors
    /// If there is no such provider, or it fails to list its models.
    async fn models(&self, id: &str, refresh: bool) -> Result<Vec<ProviderModel>, ObjectError>;

    /// Adds a model to a provider, changes its price, or removes it.
    ///
    /// # Errors
    /// If the model is invalid, the provider is missing or read-only, or the store is unavailable.
    async fn set_model(
        &self,
        id: &str,
        model: ModelSpec,
        actor: &str,
    ) -> Result<ProviderModel, ObjectError>;
}

/// Fields of a provider, as in the configuration file.
pub type ProviderFields = Map<String, Value>;

/// A provider, as the API returns it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Provider)]
pub struct ProviderObject {
    /// Id of the provider, the part before the slash in `provider/model`.
    pub id: String,
    /// The other fields, as in the configuration file, with secrets masked.
    #[serde(flatten)]
    #[schema(value_type = HashMap<String, Value>)]
    pub fields: ProviderFields,
    /// Source of the provider.
    pub source: ObjectSource,
    /// Result of the latest health check; null if there was none.
    pub health: Option<ProviderHealth>,
    /// Reason why the provider can't be used; null if it can.
    pub problem: Option<String>,
    /// Version for `If-Match`; providers of the file have none.
    #[serde(skip)]
    pub version: Option<u64>,
}

/// Result of a health check of a provider.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Check)]
pub struct ProviderHealth {
    /// True if the provider is healthy.
    pub healthy: bool,
    /// Latency of the answer in milliseconds; null without an answer.
    pub latency_ms: Option<f64>,
    /// Status of the answer; null without an answer.
    pub status: Option<u16>,
    /// Reason why the provider is unhealthy.
    pub error: Option<String>,
    /// Time of the check.
    #[schema(value_type = String, format = DateTime)]
    pub checked_at: Timestamp,
}

/// A model of a provider.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ProviderModel {
    /// The provider's name of the model; `*` stands for any text.
    pub id: String,
    /// True if the model is served.
    pub enabled: bool,
    /// US dollars per million tokens by class; null without a price for this exact name.
    pub price: Option<Value>,
    /// Longest input and output together, in tokens; null if it isn't known.
    pub context: Option<u64>,
    /// Longest output in tokens; null if it isn't known.
    pub max_output: Option<u64>,
    /// `file`, `api`, or `provider` for a model that only the provider lists.
    pub source: &'static str,
}

/// Body of `POST /api/v1/providers/{id}/models`.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "id": "llama-3.3-70b", "price": { "input": 0.1, "output": 0.4 } }))]
pub struct ModelSpec {
    /// The provider's name of the model.
    #[schema(min_length = 1)]
    pub id: String,
    /// US dollars per million tokens, with the classes of a prices file.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub price: Option<ProviderFields>,
    /// False removes the model.
    #[serde(default = "enabled_by_default")]
    #[schema(default = true)]
    pub enabled: bool,
}

const fn enabled_by_default() -> bool {
    true
}

impl ApiObject for ProviderObject {
    const NOUN: &'static str = "provider";
    const UNIQUE: &'static str = "id";

    fn id(&self) -> &str {
        &self.id
    }

    fn version(&self) -> Option<u64> {
        self.version
    }
}

impl Resource for ProviderObject {
    type Spec = ProviderFields;

    const DOCS: ResourceDocs = ResourceDocs {
        path: "/api/v1/providers",
        tag: "providers",
        spec_schema: "ProviderSpec",
        list: "Providers of the file first.",
        create: "The provider is active on every replica within a second. Its credential is stored \
            encrypted; `SECRET_KEY` must be set.",
        replace: "A credential that is missing or masked stays as it is.",
        delete: "",
    };

    const ANSWER_ONLY: &'static [&'static str] = &["source", "health", "problem"];

    fn example() -> Value {
        json!({
            "id": "local",
            "type": "custom",
            "base_url": "http://127.0.0.1:8080/v1",
            "models": ["llama-*"],
        })
    }

    fn collection(backend: &dyn Backend) -> &dyn Collection<Object = Self, Spec = ProviderFields> {
        backend.providers()
    }
}

/// Check the health of a provider now
#[utoipa::path(post, path = "/api/v1/providers/{id}/health", tag = "providers",
    params(("id" = String, Path)),
    responses((status = 200, description = "Result of the check", body = ProviderHealth)))]
pub(crate) async fn check_health(
    State(backend): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<ProviderHealth>, AdminError> {
    let health = backend.providers().check(&id).await;
    health.map(Json).map_err(object_error::<ProviderObject>)
}

/// List the latest health checks of a provider
///
/// Those of this replica, newest first.
#[utoipa::path(get, path = "/api/v1/providers/{id}/health", tag = "providers",
    params(("id" = String, Path)),
    responses((status = 200, description = "Results of the checks",
        body = inline(ListPage<ProviderHealth>))))]
pub(crate) async fn health_history(
    State(backend): State<AppState>,
    Path(id): Path<String>,
) -> Result<Json<ListPage<ProviderHealth>>, AdminError> {
    let checks = backend.providers().checks(&id).await;
    let checks = checks.map_err(object_error::<ProviderObject>)?;
    Ok(Json(ListPage::whole(checks)))
}

/// List the models of a provider
///
/// With `refresh=true` also those that the provider itself lists; that needs the role `operator`.
#[utoipa::path(get, path = "/api/v1/providers/{id}/models", tag = "providers",
    params(("id" = String, Path), ("refresh" = Option<bool>, Query), Paging),
    responses(
        (status = 200, description = "The models", body = inline(ListPage<ProviderModel>)),
    ))]
pub(crate) async fn list_models(
    State(backend): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    Query(parameters): Parameters,
) -> Result<Json<ListPage<ProviderModel>>, AdminError> {
    let refresh = refresh(&parameters)?;
    if refresh {
        caller.must_be(Role::Operator, "Asking a provider for its models")?;
    }
    let models = backend.providers().models(&id, refresh).await;
    let models = models.map_err(object_error::<ProviderObject>)?;
    let (after, limit) = (cursor(&parameters), limit(&parameters)? as usize);
    let page = ListPage::cut(models, after, limit, |model| &model.id);
    page.map(Json).map_err(object_error::<ProviderObject>)
}

/// Add, price or remove a model of a provider
///
/// Only for providers created through the API.
#[utoipa::path(post, path = "/api/v1/providers/{id}/models", tag = "providers",
    params(("id" = String, Path)), request_body = ModelSpec,
    responses((status = 201, description = "Changed and active", body = ProviderModel)))]
pub(crate) async fn set_model(
    State(backend): State<AppState>,
    caller: Caller,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<ProviderModel>), AdminError> {
    let spec: ModelSpec = body::read(&body)?;
    let model = backend.providers().set_model(&id, spec, &caller.key).await;
    let model = model.map_err(object_error::<ProviderObject>)?;
    Ok((StatusCode::CREATED, Json(model)))
}

fn refresh(parameters: &HashMap<String, String>) -> Result<bool, AdminError> {
    match parameters.get("refresh").map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(AdminError::invalid(
            "refresh",
            "refresh must be true or false.",
        )),
    }
}
