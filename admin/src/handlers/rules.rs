//! `/api/v1/router/rules`: the rules of the file, read-only, and those made by API. Whether a rule
//! is any good is the router's to say: it compiles it as it compiles the file's.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use llm_router_domain::rule::{Action, Condition, RuleSpec};
use serde::Serialize;

use crate::Shared;
use crate::caller::Caller;
use crate::error::Problem;
use crate::objects::{self, Origin, Shown};
use crate::openapi::reference;
use crate::page::{Page, Paging, Parameters};

/// A rule as the API shows it.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Rule {
    /// Identifies it.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Rules are tried in ascending priority.
    pub priority: i64,
    /// Whether it may match.
    pub enabled: bool,
    /// Its conditions.
    #[schema(schema_with = condition)]
    pub when: Condition,
    /// What follows from them.
    #[schema(schema_with = action)]
    pub then: Action,
    /// Where it comes from.
    pub source: Origin,
    /// Whether it can't work, and is left out.
    pub broken: bool,
    /// What is wrong with it.
    pub problems: Vec<RuleProblem>,
    /// What is compared with If-Match; the file's have none.
    #[serde(skip)]
    pub version: Option<u64>,
    /// When it was made by API.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, required = false)]
    pub created_at: Option<Timestamp>,
    /// When it was last changed by API.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, required = false)]
    pub updated_at: Option<Timestamp>,
}

/// Something wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct RuleProblem {
    /// `error`: it is left out. `warning`: it works, but hardly as meant.
    pub severity: &'static str,
    /// The field, as `when.regex`; empty for the rule as a whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
}

impl Shown for Rule {
    const NOUN: &'static str = "rule";
    const UNIQUE: &'static str = "name";

    fn id(&self) -> &str {
        &self.id
    }

    fn version(&self) -> Option<u64> {
        self.version
    }
}

fn condition() -> utoipa::openapi::Ref {
    reference("Condition")
}

fn action() -> utoipa::openapi::Ref {
    reference("Action")
}

/// The rules of the file and those made by API, in the order they are tried
#[utoipa::path(get, path = "/api/v1/router/rules", tag = "router", params(Paging),
    responses((status = 200, description = "The rules", body = inline(Page<Rule>))))]
pub(crate) async fn list(
    State(source): State<Shared>,
    Query(parameters): Parameters,
) -> Result<Json<Page<Rule>>, Problem> {
    objects::list(source.rules(), &parameters).await
}

/// One rule
#[utoipa::path(get, path = "/api/v1/router/rules/{id}", tag = "router",
    params(("id" = String, Path)),
    responses((status = 200, description = "The rule; its version is its ETag", body = Rule)))]
pub(crate) async fn one(
    State(source): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    objects::one(source.rules(), &id).await
}

/// Make a rule
#[utoipa::path(post, path = "/api/v1/router/rules", tag = "router",
    request_body(content = ref("#/components/schemas/RuleSpec"),
        example = json!({ "name": "eu-to-fast", "priority": 5, "then": { "use_model": "fast" },
            "when": { "header": { "name": "x-region", "equals": "eu" } } })),
    responses((status = 201, description = "The rule, in force", body = Rule)))]
pub(crate) async fn create(
    State(source): State<Shared>,
    caller: Caller,
    body: Bytes,
) -> Result<Response, Problem> {
    let made = objects::create(source.rules(), spec(&body)?, &caller).await?;
    Ok(objects::shown(StatusCode::CREATED, &made))
}

/// Give a rule another content
#[utoipa::path(put, path = "/api/v1/router/rules/{id}", tag = "router",
    params(("id" = String, Path), ("if-match" = Option<String>, Header, description = "Its ETag")),
    request_body(content = ref("#/components/schemas/RuleSpec")),
    responses((status = 200, description = "The rule, in force", body = Rule)))]
pub(crate) async fn replace(
    State(source): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let spec = spec(&body)?;
    objects::replace(source.rules(), &id, spec, &headers, &caller).await
}

/// Delete a rule
#[utoipa::path(delete, path = "/api/v1/router/rules/{id}", tag = "router",
    params(("id" = String, Path), ("if-match" = Option<String>, Header, description = "Its ETag")),
    responses((status = 204, description = "It is gone")))]
pub(crate) async fn delete(
    State(source): State<Shared>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    objects::delete(source.rules(), &id, &headers, &caller).await
}

/// Fields that only answers have.
const SHOWN_ONLY: [&str; 6] = [
    "id",
    "source",
    "broken",
    "problems",
    "created_at",
    "updated_at",
];

fn spec(bytes: &[u8]) -> Result<RuleSpec, Problem> {
    objects::spec(bytes, &SHOWN_ONLY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_can_be_sent_back() {
        let sent = spec(
            br#"{"id":"1","source":"api","broken":false,"problems":[],"name":"n","priority":3,
            "enabled":true,"when":{},"then":{"use_model":"m"},"created_at":"x","updated_at":"y"}"#,
        );
        assert_eq!(sent.unwrap().name, "n");
        let wrong = spec(br#"{"name":"n","then":{"use_modle":"m"}}"#).unwrap_err();
        assert_eq!(wrong.field.as_deref(), Some("then.use_modle"));
    }
}
