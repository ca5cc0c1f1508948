//! `/api/v1/keys`: those of the file, read-only, and those made by API. A key's text is in the
//! answer that makes it, and nowhere else: neither shown nor kept.

use std::time::Duration;

use async_trait::async_trait;
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use jiff::Timestamp;
use llm_router_domain::key::{BudgetSpec, KeySpec, LimitSpec, Role};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;

use crate::Shared;
use crate::body;
use crate::caller::Caller;
use crate::error::Problem;
use crate::etag::if_match;
use crate::idempotency::KeptInstead;
use crate::objects::{self, Collection, ObjectError, Origin, Shown};
use crate::openapi::reference;
use crate::page::{Page, Paging, Parameters};

/// What the admin service asks of keys.
#[async_trait]
pub trait Keys: Collection<Shown = Key, Spec = KeySpec> {
    /// The key of that name, if there is one.
    ///
    /// # Errors
    /// When the store doesn't answer.
    async fn named(&self, name: &str) -> Result<Option<Key>, ObjectError>;

    /// Gives a key another text, if it has the expected version. The text before it, and those
    /// before that, work for `overlap` more.
    ///
    /// # Errors
    /// Why it stays as it is.
    async fn rotate(
        &self,
        id: &str,
        overlap: Duration,
        expected: Option<u64>,
        actor: &str,
    ) -> Result<Key, ObjectError>;
}

/// A key as the API shows it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Key {
    /// Identifies it; of the file's, the name.
    pub id: String,
    /// The key itself, in the answer that makes it only.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "once")]
    #[schema(value_type = Option<String>, required = false)]
    pub key: Option<SecretString>,
    /// How it begins, to recognise it by; null of the file's.
    pub prefix: Option<String>,
    /// Its name, unique among all keys.
    pub name: String,
    /// What it may do: user, viewer, operator or admin.
    #[schema(value_type = String)]
    pub role: Role,
    /// The team or project it belongs to.
    pub owner: String,
    /// The models it may use; `*` stands for any text.
    pub models: Vec<String>,
    /// Ceilings per window.
    #[schema(schema_with = limits)]
    pub limits: LimitSpec,
    /// A ceiling of money; null if it has none.
    #[schema(schema_with = budget)]
    pub budget: Option<BudgetSpec>,
    /// From when on it is refused.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    /// Whether it is accepted.
    pub enabled: bool,
    /// Where it comes from.
    pub source: Origin,
    /// When it was last used, as far as this replica knows: the others tell every few seconds.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_used_at: Option<Timestamp>,
    /// Until when the text before the last rotation works; null if none does.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub previous_until: Option<Timestamp>,
    /// When it was made by API.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
    /// When it was last changed by API.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub updated_at: Option<Timestamp>,
    /// What is compared with If-Match; the file's have none.
    #[serde(skip)]
    pub version: Option<u64>,
}

impl Shown for Key {
    const NOUN: &'static str = "key";
    const UNIQUE: &'static str = "name";

    fn id(&self) -> &str {
        &self.id
    }

    fn version(&self) -> Option<u64> {
        self.version
    }
}

/// How a key is to be rotated.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rotation {
    /// How long the text before works on; 0 ends it at once.
    #[serde(default = "usual_overlap")]
    #[schema(default = 86_400, maximum = 2_592_000)]
    overlap_seconds: u64,
}

const fn usual_overlap() -> u64 {
    24 * 60 * 60
}

const LONGEST_OVERLAP: u64 = 30 * 24 * 60 * 60;

fn limits() -> utoipa::openapi::Ref {
    reference("LimitSpec")
}

fn budget() -> utoipa::openapi::schema::OneOfBuilder {
    let none = utoipa::openapi::schema::Object::with_type(utoipa::openapi::schema::Type::Null);
    utoipa::openapi::schema::OneOfBuilder::new()
        .item(none)
        .item(reference("BudgetSpec"))
}

fn once<S: Serializer>(key: &Option<SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    key.as_ref()
        .map(|key| key.expose_secret())
        .serialize(serializer)
}

/// The keys of the file and those made by API
#[utoipa::path(get, path = "/api/v1/keys", tag = "keys",
    params(("name" = Option<String>, Query, description = "Only the key of this name"), Paging),
    responses((status = 200, description = "The keys", body = inline(Page<Key>))))]
pub(crate) async fn list(
    State(source): State<Shared>,
    Query(parameters): Parameters,
) -> Result<Json<Page<Key>>, Problem> {
    let Some(name) = parameters.get("name") else {
        return objects::list(source.keys(), &parameters).await;
    };
    let found = source.keys().named(name).await;
    Ok(Json(Page {
        items: found.map_err(problem)?.into_iter().collect(),
        next_cursor: None,
    }))
}

/// One key
#[utoipa::path(get, path = "/api/v1/keys/{id}", tag = "keys",
    params(("id" = String, Path)),
    responses((status = 200, description = "The key; its version is its ETag", body = Key)))]
pub(crate) async fn one(
    State(source): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    objects::one(source.keys(), &id).await
}

/// Make a key
///
/// Its text is in this answer only. It works on every replica within a second. Needs
/// `API_KEY_SALT` to be set. Sent again with the same `idempotency-key` the answer has
/// `"key": null`, for the text isn't kept: rotate the key to get another.
#[utoipa::path(post, path = "/api/v1/keys", tag = "keys",
    request_body(content = ref("#/components/schemas/KeySpec"),
        example = json!({ "name": "ci-runner", "role": "user", "owner": "team-a", "models": ["*"],
            "limits": { "rpm": 600, "tpm": 200_000, "concurrency": 20 },
            "budget": { "usd": 50, "period": "month" } })),
    responses((status = 201, description = "The key, in force, with its text", body = Key)))]
pub(crate) async fn create(
    State(source): State<Shared>,
    caller: Caller,
    body: Bytes,
) -> Result<Response, Problem> {
    let made = objects::create(source.keys(), spec(&body)?, &caller).await?;
    told_once(StatusCode::CREATED, made)
}

/// Give a key another content
///
/// Its text stays. What isn't given has its default.
#[utoipa::path(put, path = "/api/v1/keys/{id}", tag = "keys",
    params(("id" = String, Path), ("if-match" = Option<String>, Header, description = "Its ETag")),
    request_body(content = ref("#/components/schemas/KeySpec")),
    responses((status = 200, description = "The key, in force", body = Key)))]
pub(crate) async fn replace(
    State(source): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let spec = spec(&body)?;
    objects::replace(source.keys(), &id, spec, &headers, &caller).await
}

/// End a key
///
/// Every replica refuses it within a second.
#[utoipa::path(delete, path = "/api/v1/keys/{id}", tag = "keys",
    params(("id" = String, Path), ("if-match" = Option<String>, Header, description = "Its ETag")),
    responses((status = 204, description = "It is gone")))]
pub(crate) async fn delete(
    State(source): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    objects::delete(source.keys(), &id, &headers, &caller).await
}

/// Give a key another text
///
/// The new text is in this answer only. The one before works on for `overlap_seconds` (a day if not
/// given, 30 days at most), and so at most do those before that.
#[utoipa::path(post, path = "/api/v1/keys/{id}/rotate", tag = "keys",
    params(("id" = String, Path), ("if-match" = Option<String>, Header, description = "Its ETag")),
    request_body(content = Rotation, example = json!({ "overlap_seconds": 3600 })),
    responses((status = 200, description = "The key, with its new text", body = Key)))]
pub(crate) async fn rotate(
    State(source): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let overlap = match &*body {
        b"" => usual_overlap(),
        body => body::read::<Rotation>(body)?.overlap_seconds,
    };
    if overlap > LONGEST_OVERLAP {
        let message = format!("overlap_seconds is at most {LONGEST_OVERLAP}, 30 days.");
        return Err(Problem::invalid("overlap_seconds", message));
    }
    let (overlap, expected) = (Duration::from_secs(overlap), if_match(&headers)?);
    let rotated = source.keys().rotate(&id, overlap, expected, &caller.key);
    told_once(StatusCode::OK, rotated.await.map_err(problem)?)
}

/// An answer with a key's text, which is not to be kept.
fn told_once(status: StatusCode, key: Key) -> Result<Response, Problem> {
    let mut response = objects::shown(status, &key);
    let failed = |error: serde_json::Error| {
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            error.to_string(),
        )
    };
    let mut kept = serde_json::to_value(Key { key: None, ..key }).map_err(failed)?;
    kept["key"] = Value::Null;
    response
        .extensions_mut()
        .insert(KeptInstead(kept.to_string().into()));
    Ok(response.into_response())
}

/// Fields that only answers have.
const SHOWN_ONLY: [&str; 7] = [
    "id",
    "prefix",
    "source",
    "last_used_at",
    "previous_until",
    "created_at",
    "updated_at",
];

fn spec(bytes: &[u8]) -> Result<KeySpec, Problem> {
    objects::spec(bytes, &SHOWN_ONLY)
}

fn problem(error: ObjectError) -> Problem {
    objects::problem::<Key>(error)
}
