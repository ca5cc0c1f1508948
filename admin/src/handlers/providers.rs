//! `/api/v1/providers`: those of the file, read-only, and those made by API, with their health and
//! their models. Whether a provider is any good is the router's to say; credentials aren't shown.

use std::collections::HashMap;

use async_trait::async_trait;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use llm_router_domain::key::Role;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Shared;
use crate::body;
use crate::caller::Caller;
use crate::error::Problem;
use crate::objects::{self, Collection, Listed, ObjectError, Origin, Shown};
use crate::page::{Page, Paging, Parameters, limit};

/// What the admin service asks of providers. In a replacement a credential that isn't given, or is
/// given as it is shown, stays.
#[async_trait]
pub trait Hosting: Collection<Shown = Provider, Spec = Fields> {
    /// Asks a provider now whether it is well.
    ///
    /// # Errors
    /// When there is no such provider.
    async fn check(&self, id: &str) -> Result<Check, ObjectError>;

    /// The latest checks of a provider by this replica, newest first.
    ///
    /// # Errors
    /// When there is no such provider.
    async fn checks(&self, id: &str) -> Result<Vec<Check>, ObjectError>;

    /// The models of a provider; with `ask`, those that it names itself too.
    ///
    /// # Errors
    /// When there is no such provider, or it doesn't answer.
    async fn models(&self, id: &str, ask: bool) -> Result<Vec<ProviderModel>, ObjectError>;

    /// Adds a model to a provider, or changes its price, or takes it out.
    ///
    /// # Errors
    /// Why not.
    async fn set_model(
        &self,
        id: &str,
        model: ModelSpec,
        actor: &str,
    ) -> Result<ProviderModel, ObjectError>;
}

/// The fields of a provider, as in the configuration file.
pub type Fields = Map<String, Value>;

/// A provider as the API shows it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Provider {
    /// Its name, and the part before the slash in `provider/model`.
    pub id: String,
    /// The other fields, as in the configuration file. Secrets are masked.
    #[serde(flatten)]
    #[schema(value_type = HashMap<String, Value>)]
    pub fields: Fields,
    /// Where it comes from.
    pub source: Origin,
    /// What the latest check found; null if there was none.
    pub health: Option<Check>,
    /// Why it doesn't take part, if it can't.
    pub problem: Option<String>,
    /// What is compared with If-Match; the file's have none.
    #[serde(skip)]
    pub version: Option<u64>,
}

/// What a check of a provider found.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Check {
    /// Whether it is well.
    pub healthy: bool,
    /// How long it took to answer; null if it didn't.
    pub latency_ms: Option<f64>,
    /// What it answered; null if it didn't.
    pub status: Option<u16>,
    /// What is wrong with it.
    pub error: Option<String>,
    /// When it was asked.
    #[schema(value_type = String, format = DateTime)]
    pub checked_at: Timestamp,
}

/// A model of a provider.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ProviderModel {
    /// Its name there; `*` in it stands for any text.
    pub id: String,
    /// Whether it is served.
    pub enabled: bool,
    /// US dollars per million tokens by class; null if there is no price, or only one by pattern.
    pub price: Option<Value>,
    /// `file`, `api`, or `provider` for one that only the provider names.
    pub source: &'static str,
}

/// What a model of a provider shall be.
#[derive(Clone, Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "id": "llama-3.3-70b", "price": { "input": 0.1, "output": 0.4 } }))]
pub struct ModelSpec {
    /// Its name there.
    #[schema(min_length = 1)]
    pub id: String,
    /// US dollars per million tokens, with the classes of a prices file.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    pub price: Option<Fields>,
    /// Whether it is served.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub enabled: bool,
}

const fn yes() -> bool {
    true
}

impl Shown for Provider {
    const NOUN: &'static str = "provider";
    const UNIQUE: &'static str = "id";

    fn id(&self) -> &str {
        &self.id
    }

    fn version(&self) -> Option<u64> {
        self.version
    }
}

/// The providers of the file and those made by API
#[utoipa::path(get, path = "/api/v1/providers", tag = "providers", params(Paging),
    responses((status = 200, description = "The providers", body = inline(Page<Provider>))))]
pub(crate) async fn list(
    State(source): State<Shared>,
    Query(parameters): Parameters,
) -> Result<Json<Page<Provider>>, Problem> {
    objects::list(source.hosting(), &parameters).await
}

/// One provider
#[utoipa::path(get, path = "/api/v1/providers/{id}", tag = "providers",
    params(("id" = String, Path)),
    responses((status = 200, description = "The provider; its version is its ETag", body = Provider)))]
pub(crate) async fn one(
    State(source): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    objects::one(source.hosting(), &id).await
}

/// Make a provider
///
/// It serves on every replica within a second. Its credential is stored sealed, for which
/// `SECRET_KEY` must be set.
#[utoipa::path(post, path = "/api/v1/providers", tag = "providers",
    request_body(content = ref("#/components/schemas/ProviderSpec"),
        example = json!({ "id": "local", "type": "custom", "base_url": "http://127.0.0.1:8080/v1",
            "models": ["llama-*"] })),
    responses((status = 201, description = "The provider, in force", body = Provider)))]
pub(crate) async fn create(
    State(source): State<Shared>,
    caller: Caller,
    body: Bytes,
) -> Result<Response, Problem> {
    let made = objects::create(source.hosting(), fields(&body)?, &caller).await?;
    Ok(objects::shown(StatusCode::CREATED, &made))
}

/// Give a provider another content
///
/// A credential that isn't given, or is given as it is shown, stays.
#[utoipa::path(put, path = "/api/v1/providers/{id}", tag = "providers",
    params(("id" = String, Path), ("if-match" = Option<String>, Header, description = "Its ETag")),
    request_body(content = ref("#/components/schemas/ProviderSpec")),
    responses((status = 200, description = "The provider, in force", body = Provider)))]
pub(crate) async fn replace(
    State(source): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let fields = fields(&body)?;
    objects::replace(source.hosting(), &id, fields, &headers, &caller).await
}

/// Delete a provider
#[utoipa::path(delete, path = "/api/v1/providers/{id}", tag = "providers",
    params(("id" = String, Path), ("if-match" = Option<String>, Header, description = "Its ETag")),
    responses((status = 204, description = "It is gone")))]
pub(crate) async fn delete(
    State(source): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    objects::delete(source.hosting(), &id, &headers, &caller).await
}

/// Ask a provider now whether it is well
#[utoipa::path(post, path = "/api/v1/providers/{id}/health", tag = "providers",
    params(("id" = String, Path)),
    responses((status = 200, description = "What was found", body = Check)))]
pub(crate) async fn check(
    State(source): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<Check>, Problem> {
    source.hosting().check(&id).await.map(Json).map_err(problem)
}

/// The latest checks of a provider by this replica, the newest first
#[utoipa::path(get, path = "/api/v1/providers/{id}/health", tag = "providers",
    params(("id" = String, Path)),
    responses((status = 200, description = "What was found", body = inline(Page<Check>))))]
pub(crate) async fn checks(
    State(source): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<Page<Check>>, Problem> {
    let items = source.hosting().checks(&id).await.map_err(problem)?;
    Ok(Json(Page {
        items,
        next_cursor: None,
    }))
}

/// The models of a provider
///
/// With `refresh=true` the provider is asked for those that it has; that needs the role `operator`.
#[utoipa::path(get, path = "/api/v1/providers/{id}/models", tag = "providers",
    params(("id" = String, Path), ("refresh" = Option<bool>, Query), Paging),
    responses(
        (status = 200, description = "The models", body = inline(Page<ProviderModel>)),
    ))]
pub(crate) async fn models(
    State(source): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    Query(parameters): Parameters,
) -> Result<Json<Page<ProviderModel>>, Problem> {
    let ask = refresh(&parameters)?;
    if ask {
        caller.must_be(Role::Operator, "Asking a provider for its models")?;
    }
    let models = source.hosting().models(&id, ask).await.map_err(problem)?;
    let (after, most) = (objects::cursor(&parameters), limit(&parameters)? as usize);
    let listed = Listed::cut(models, after, most, |model| &model.id).map_err(problem)?;
    Ok(Json(listed.page(|model| &model.id)))
}

/// Add a model to a provider made by API, give it a price, or take it out
#[utoipa::path(post, path = "/api/v1/providers/{id}/models", tag = "providers",
    params(("id" = String, Path)), request_body = ModelSpec,
    responses((status = 201, description = "The model, in force", body = ProviderModel)))]
pub(crate) async fn set_model(
    State(source): State<Shared>,
    caller: Caller,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<(StatusCode, Json<ProviderModel>), Problem> {
    let spec: ModelSpec = body::read(&body)?;
    let model = source.hosting().set_model(&id, spec, &caller.key).await;
    Ok((StatusCode::CREATED, Json(model.map_err(problem)?)))
}

fn refresh(parameters: &HashMap<String, String>) -> Result<bool, Problem> {
    match parameters.get("refresh").map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(Problem::invalid("refresh", "refresh is true or false.")),
    }
}

/// Fields that only answers have.
const SHOWN_ONLY: [&str; 3] = ["source", "health", "problem"];

fn fields(bytes: &[u8]) -> Result<Fields, Problem> {
    objects::spec(bytes, &SHOWN_ONLY)
}

fn problem(error: ObjectError) -> Problem {
    objects::problem::<Provider>(error)
}
