//! `/api/v1/router/rules`: the rules of the file, read-only, and those made by API. Whether a rule
//! is any good is the router's to say: it compiles it as it compiles the file's.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use jiff::Timestamp;
use llm_router_domain::rule::{Action, Condition, RuleSpec};
use llm_router_store::StoreError;
use serde::Serialize;

use crate::Shared;
use crate::access::{Caller, Problem};
use crate::body;
use crate::etag::{if_match, stale, tagged};
use crate::openapi::reference;
use crate::page::{Page, Paging, Parameters};
use crate::router::away;

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

/// Where something comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The configuration file. It is read-only here.
    File,
    /// The admin API.
    Api,
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

/// Why a rule isn't changed.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// It can't work.
    #[error("{message}")]
    Invalid {
        /// The field, as `when.regex`.
        field: String,
        /// What is wrong with it.
        message: String,
    },
    /// Another rule has that name.
    #[error("another rule has that name")]
    Taken,
    /// It stands in the file.
    #[error("it stands in the configuration file")]
    ReadOnly,
    /// There is none with that id.
    #[error("there is no such rule")]
    Missing,
    /// It was changed meanwhile.
    #[error("it was changed meanwhile")]
    Stale,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
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
    let rules = source.steering().rules().await;
    Page::cut(rules, &parameters, |rule| &rule.id).map(Json)
}

/// One rule
#[utoipa::path(get, path = "/api/v1/router/rules/{id}", tag = "router",
    params(("id" = String, Path)),
    responses((status = 200, description = "The rule; its version is its ETag", body = Rule)))]
pub(crate) async fn one(
    State(source): State<Shared>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let rules = source.steering().rules().await;
    let rule = rules.into_iter().find(|rule| rule.id == id);
    let rule = rule.ok_or_else(|| problem(RuleError::Missing))?;
    Ok(shown(StatusCode::OK, rule))
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
    let rule = source
        .steering()
        .create_rule(spec(&body)?, &caller.key)
        .await;
    Ok(shown(StatusCode::CREATED, rule.map_err(problem)?))
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
    let expected = if_match(&headers)?;
    let rule = source
        .steering()
        .replace_rule(&id, spec, expected, &caller.key)
        .await;
    Ok(shown(StatusCode::OK, rule.map_err(problem)?))
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
    let expected = if_match(&headers)?;
    let deleted = source
        .steering()
        .delete_rule(&id, expected, &caller.key)
        .await;
    deleted.map(|()| StatusCode::NO_CONTENT).map_err(problem)
}

/// Fields that answers have and that say nothing in a request, so that what was read can be
/// changed and sent back.
const SHOWN_ONLY: [&str; 6] = [
    "id",
    "source",
    "broken",
    "problems",
    "created_at",
    "updated_at",
];

fn spec(bytes: &[u8]) -> Result<RuleSpec, Problem> {
    let mut fields: serde_json::Map<String, serde_json::Value> = body::read(bytes)?;
    for name in SHOWN_ONLY {
        fields.remove(name);
    }
    body::convert(fields.into())
}

fn shown(status: StatusCode, rule: Rule) -> Response {
    let version = rule.version;
    tagged(status, rule, version)
}

fn problem(error: RuleError) -> Problem {
    let conflict = |code, message| Problem::new(StatusCode::CONFLICT, code, message);
    match error {
        RuleError::Invalid { field, message } => Problem::invalid(field, message),
        RuleError::Taken => Problem {
            field: Some("name".into()),
            ..conflict("already_exists", "Another rule has that name.")
        },
        RuleError::ReadOnly => conflict(
            "read_only",
            "This rule stands in the configuration file. Change it there.",
        ),
        RuleError::Missing => Problem::not_found("There is no rule with this id."),
        RuleError::Stale => stale(),
        RuleError::Store(error) => away(error),
    }
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
