//! `/api/v1/router/rules`: the rules of the file, read-only, and those made by API. Whether a rule
//! is any good is the router's to say: it compiles it as it compiles the file's.

use std::collections::HashMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use llm_router_domain::key::Role;
use llm_router_domain::rule::{Action, Condition, RuleSpec};
use llm_router_store::StoreError;
use serde::Serialize;

use crate::Shared;
use crate::access::{Problem, caller_of};
use crate::body;
use crate::requests::limit;
use crate::router::away;

/// A rule as the API shows it.
#[derive(Clone, Debug, Serialize)]
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
    pub when: Condition,
    /// What follows from them.
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
    pub created_at: Option<Timestamp>,
    /// When it was last changed by API.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated_at: Option<Timestamp>,
}

/// Where something comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The configuration file. It is read-only here.
    File,
    /// The admin API.
    Api,
}

/// Something wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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

#[derive(Serialize)]
pub(crate) struct Rules {
    items: Vec<Rule>,
    next_cursor: Option<String>,
}

/// `GET /api/v1/router/rules`
pub(crate) async fn list(
    State(source): State<Shared>,
    headers: HeaderMap,
    Query(parameters): Query<HashMap<String, String>>,
) -> Result<Json<Rules>, Problem> {
    caller_of(source.as_ref(), &headers, Role::Viewer)?;
    let limit = limit(&parameters)? as usize;
    let mut items = source.steering().rules().await;
    if let Some(cursor) = parameters.get("cursor") {
        let before = items.iter().position(|rule| rule.id == *cursor);
        let message = "cursor is the next_cursor of another answer, and that rule is gone.";
        let before = before.ok_or_else(|| Problem::invalid("cursor", message))?;
        items.drain(..=before);
    }
    let more = items.len() > limit;
    items.truncate(limit);
    let last = items.last().filter(|_| more);
    let next_cursor = last.map(|rule| rule.id.clone());
    Ok(Json(Rules { items, next_cursor }))
}

/// `GET /api/v1/router/rules/{id}`
pub(crate) async fn one(
    State(source): State<Shared>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    caller_of(source.as_ref(), &headers, Role::Viewer)?;
    let rules = source.steering().rules().await;
    let rule = rules.into_iter().find(|rule| rule.id == id);
    let rule = rule.ok_or_else(|| problem(RuleError::Missing))?;
    Ok(shown(StatusCode::OK, rule))
}

/// `POST /api/v1/router/rules`
pub(crate) async fn create(
    State(source): State<Shared>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Problem> {
    let caller = caller_of(source.as_ref(), &headers, Role::Operator)?;
    let rule = source
        .steering()
        .create_rule(spec(&body)?, &caller.key)
        .await;
    Ok(shown(StatusCode::CREATED, rule.map_err(problem)?))
}

/// `PUT /api/v1/router/rules/{id}`
pub(crate) async fn replace(
    State(source): State<Shared>,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let caller = caller_of(source.as_ref(), &headers, Role::Operator)?;
    let expected = if_match(&headers)?;
    let rule = source
        .steering()
        .replace_rule(&id, spec(&body)?, expected, &caller.key)
        .await;
    Ok(shown(StatusCode::OK, rule.map_err(problem)?))
}

/// `DELETE /api/v1/router/rules/{id}`
pub(crate) async fn delete(
    State(source): State<Shared>,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let caller = caller_of(source.as_ref(), &headers, Role::Operator)?;
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
    let mut response = (status, Json(rule)).into_response();
    let etag = version.and_then(|version| HeaderValue::from_str(&format!("\"{version}\"")).ok());
    if let Some(etag) = etag {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response
}

/// The version that `If-Match` asks for; any, without it and for `*`.
///
/// # Errors
/// 412 for what is no version of ours: nothing can match it.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get(header::IF_MATCH) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    if text == "*" {
        return Ok(None);
    }
    let version = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    let version = version.and_then(|version| version.parse().ok());
    version.map(Some).ok_or_else(stale)
}

fn stale() -> Problem {
    let message = "This was changed meanwhile. Read it again, and send its etag in if-match.";
    Problem::new(StatusCode::PRECONDITION_FAILED, "stale_etag", message)
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
    fn versions_are_asked_for_as_they_are_shown() {
        for (value, expected) in [
            ("\"7\"", Ok(Some(7))),
            ("*", Ok(None)),
            ("7", Err(412)),
            ("W/\"7\"", Err(412)),
            ("\"x\"", Err(412)),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_MATCH, HeaderValue::from_static(value));
            let found = if_match(&headers).map_err(|problem| problem.status.as_u16());
            assert_eq!(found, expected, "{value}");
        }
        assert_eq!(if_match(&HeaderMap::new()).unwrap(), None);
    }

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
