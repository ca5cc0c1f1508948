//! `/api/v1/keys`: keys of the file, which are read-only, and keys created through the API. The
//! secret of a key is in the answer that creates or rotates it and nowhere else.

use std::time::Duration;

use async_trait::async_trait;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use llm_router_domain::key::{BudgetSpec, KeySpec, LimitSpec, Role};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Value, json};

use crate::backend::{AppState, Backend};
use crate::body;
use crate::caller::Caller;
use crate::crud::{Resource, ResourceDocs, object_error, read_page, respond};
use crate::error::AdminError;
use crate::etag::if_match;
use crate::idempotency::KeptInstead;
use crate::objects::{ApiObject, Collection, ObjectError, ObjectSource};
use crate::openapi::reference;
use crate::page::{ListPage, Paging, Parameters};

/// Operations on keys.
#[async_trait]
pub trait KeysApi: Collection<Object = KeyObject, Spec = KeySpec> {
    /// Returns the key with that name, if there is one.
    ///
    /// # Errors
    /// If the store is unavailable.
    async fn find_by_name(&self, name: &str) -> Result<Option<KeyObject>, ObjectError>;

    /// Gives a key a new secret, if it has the expected version. Earlier secrets stay valid for
    /// `overlap`.
    ///
    /// # Errors
    /// If the key is missing, read-only or has another version, or the store is unavailable.
    async fn rotate(
        &self,
        id: &str,
        overlap: Duration,
        expected: Option<u64>,
        actor: &str,
    ) -> Result<KeyObject, ObjectError>;
}

/// A key, as the API returns it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Key)]
pub struct KeyObject {
    /// Id of the key; for keys of the file, the name.
    pub id: String,
    /// The secret, only in the answer that creates or rotates the key.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "expose")]
    #[schema(value_type = Option<String>, required = false)]
    pub key: Option<SecretString>,
    /// First characters of the secret, to recognise the key by; null for keys of the file.
    pub prefix: Option<String>,
    /// Name, unique among all keys.
    pub name: String,
    /// Role: user, viewer, operator or admin.
    #[schema(value_type = String)]
    pub role: Role,
    /// The team or project that the key belongs to.
    pub owner: String,
    /// Models that the key may use; `*` stands for any text.
    pub models: Vec<String>,
    /// Limits per window.
    #[schema(schema_with = limits_schema)]
    pub limits: LimitSpec,
    /// Spending limit; null without one.
    #[schema(schema_with = budget_schema)]
    pub budget: Option<BudgetSpec>,
    /// Time from which the key is rejected.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Disabled keys are rejected.
    pub enabled: bool,
    /// Source of the key.
    pub source: ObjectSource,
    /// Last use known to this replica; other replicas report theirs every few seconds.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
    /// End of the overlap of the last rotation; null if only one secret is valid.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub previous_until: Option<Timestamp>,
    /// Time of creation through the API.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
    /// Time of the last change through the API.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub updated_at: Option<Timestamp>,
    /// Version for `If-Match`; keys of the file have none.
    #[serde(skip)]
    pub version: Option<u64>,
}

impl ApiObject for KeyObject {
    const NOUN: &'static str = "key";
    const UNIQUE: &'static str = "name";

    fn id(&self) -> &str {
        &self.id
    }

    fn version(&self) -> Option<u64> {
        self.version
    }
}

impl Resource for KeyObject {
    type Spec = KeySpec;

    const DOCS: ResourceDocs = ResourceDocs {
        path: "/api/v1/keys",
        tag: "keys",
        spec_schema: "KeySpec",
        list: "",
        create: "The secret is in this answer only. The key is valid on every replica within a \
            second. `API_KEY_SALT` must be set. A retry with the same `idempotency-key` answers \
            `\"key\": null`, because the secret isn't stored: rotate the key to get a new one.",
        replace: "The secret stays valid. Fields that aren't sent get their defaults.",
        delete: "Every replica rejects the key within a second.",
    };

    const ANSWER_ONLY: &'static [&'static str] = &[
        "id",
        "prefix",
        "source",
        "last_used_at",
        "previous_until",
        "created_at",
        "updated_at",
    ];

    fn example() -> Value {
        json!({
            "name": "ci-runner",
            "role": "user",
            "owner": "team-a",
            "models": ["*"],
            "limits": { "rpm": 600, "tpm": 200_000, "concurrency": 20 },
            "budget": { "usd": 50, "period": "month" },
        })
    }

    fn collection(backend: &dyn Backend) -> &dyn Collection<Object = Self, Spec = KeySpec> {
        backend.keys()
    }

    fn respond_created(self) -> Result<Response, AdminError> {
        respond_with_secret(StatusCode::CREATED, self)
    }
}

/// Body of `POST /api/v1/keys/{id}/rotate`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RotateRequest {
    /// Seconds for which earlier secrets stay valid; 0 ends them at once.
    #[serde(default = "default_overlap")]
    #[schema(default = 86_400, maximum = 2_592_000)]
    overlap_seconds: u64,
}

const fn default_overlap() -> u64 {
    24 * 60 * 60
}

const MAX_OVERLAP: u64 = 30 * 24 * 60 * 60;

fn limits_schema() -> utoipa::openapi::Ref {
    reference("LimitSpec")
}

fn budget_schema() -> utoipa::openapi::schema::OneOfBuilder {
    let none = utoipa::openapi::schema::Object::with_type(utoipa::openapi::schema::Type::Null);
    utoipa::openapi::schema::OneOfBuilder::new()
        .item(none)
        .item(reference("BudgetSpec"))
}

fn expose<S: Serializer>(key: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    key.as_ref()
        .map(|key| key.expose_secret())
        .serialize(serializer)
}

/// List keys
///
/// Keys of the file first.
#[utoipa::path(get, path = "/api/v1/keys", tag = "keys",
    params(("name" = Option<String>, Query, description = "Only the key with this name"), Paging),
    responses((status = 200, description = "The page", body = inline(ListPage<KeyObject>))))]
pub(crate) async fn list(
    State(backend): State<AppState>,
    Query(parameters): Parameters,
) -> Result<Json<ListPage<KeyObject>>, AdminError> {
    let Some(name) = parameters.get("name") else {
        return read_page(backend.keys(), &parameters).await;
    };
    let key = backend.keys().find_by_name(name).await;
    let key = key.map_err(object_error::<KeyObject>)?;
    Ok(Json(ListPage::whole(key.into_iter().collect())))
}

/// Rotate a key
///
/// The new secret is in this answer only. Earlier secrets stay valid for `overlap_seconds` (a day by
/// default, 30 days at most).
#[utoipa::path(post, path = "/api/v1/keys/{id}/rotate", tag = "keys",
    params(("id" = String, Path),
        ("if-match" = Option<String>, Header, description = "The object's ETag")),
    request_body(content = RotateRequest, example = json!({ "overlap_seconds": 3600 })),
    responses((status = 200, description = "The key with its new secret", body = KeyObject)))]
pub(crate) async fn rotate(
    State(backend): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, AdminError> {
    let overlap = match &*body {
        b"" => default_overlap(),
        body => body::read::<RotateRequest>(body)?.overlap_seconds,
    };
    if overlap > MAX_OVERLAP {
        let message = format!("overlap_seconds must be at most {MAX_OVERLAP} (30 days).");
        return Err(AdminError::invalid("overlap_seconds", message));
    }
    let (overlap, expected) = (Duration::from_secs(overlap), if_match(&headers)?);
    let rotated = backend.keys().rotate(&id, overlap, expected, &caller.key);
    let rotated = rotated.await.map_err(object_error::<KeyObject>)?;
    respond_with_secret(StatusCode::OK, rotated)
}

/// Answers with a key and its secret. A retry under the same idempotency key gets the answer without
/// the secret.
fn respond_with_secret(status: StatusCode, key: KeyObject) -> Result<Response, AdminError> {
    let mut response = respond(status, &key);
    let failed = |error: serde_json::Error| {
        AdminError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            error.to_string(),
        )
    };
    let mut kept = serde_json::to_value(KeyObject { key: None, ..key }).map_err(failed)?;
    kept["key"] = Value::Null;
    let kept = KeptInstead(kept.to_string().into());
    response.extensions_mut().insert(kept);
    Ok(response)
}
