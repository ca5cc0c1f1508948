//! The description of the API: what the handlers' annotations don't say, said once for all of
//! them. Which role a path needs comes from `endpoints.rs`.

mod inference;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, Method, header};
use axum::{Extension, Json};
use llm_router_domain::key::KeySpec;
use llm_router_domain::rule::RuleSpec;
use schemars::schema_for;
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::openapi::{OpenApi, Ref};

use self::inference::is_inference;
use crate::Shared;
use crate::endpoints::{Entry, Need, entry};

/// The error of every answer that isn't a success.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Error)]
struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Serialize, utoipa::ToSchema)]
struct ErrorDetail {
    /// For programs.
    code: String,
    /// For people.
    message: String,
    /// Which field or parameter is wrong, as `when.regex`; null if none is.
    field: Option<String>,
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "LLM Router",
        description = "Admin API, and the paths that requests to models go to.",
    ),
    tags(
        (name = "inference", description = "Requests to models, in the formats of OpenAI and Anthropic."),
        (name = "router", description = "The routing toggle, rules, decisions and figures."),
        (name = "cost", description = "What was spent. Users see their own usage."),
        (name = "requests", description = "What became of single requests; never what was said in them."),
        (name = "providers", description = "The companies and servers that host models."),
        (name = "keys", description = "What clients show."),
        (name = "config", description = "The configuration in force, its revisions, who changed what."),
        (name = "service", description = "Is it well, and how to read it."),
    ),
    components(schemas(ErrorBody, ErrorDetail)),
)]
pub(crate) struct Base;

/// A type of the document that isn't described by a handler: see [`complete`].
pub(crate) fn reference(name: &str) -> Ref {
    Ref::from_schema_name(name)
}

/// The description of the API
///
/// In OpenAPI 3.1.
#[utoipa::path(get, path = "/openapi.json", tag = "service",
    responses((status = 200, description = "This document", body = Object)))]
pub(crate) async fn document(
    State(source): State<Shared>,
    Extension(document): Extension<Arc<Value>>,
    headers: HeaderMap,
) -> Json<Value> {
    let mut document = Value::clone(&document);
    if let Some(paths) = document["paths"].as_object_mut() {
        let host = headers.get(header::HOST);
        let host = host
            .and_then(|host| host.to_str().ok())
            .unwrap_or("localhost");
        // On the clients' port all paths are served, on the admin's own one inference isn't.
        let url = format!("http://{}:{}", without_port(host), source.clients_port());
        for (_, item) in paths.iter_mut().filter(|(path, _)| is_inference(path)) {
            item["servers"] = json!([{ "url": url }]);
        }
    }
    Json(document)
}

/// Completes what was gathered from the handlers with what is true of every path.
pub(crate) fn complete(api: &OpenApi, config: &Value) -> Value {
    let mut document = serde_json::to_value(api).unwrap_or_default();
    document["info"]["version"] = env!("CARGO_PKG_VERSION").into();
    if let Some(info) = document["info"].as_object_mut() {
        info.remove("license");
    }
    document["components"]["securitySchemes"] = json!({
        "bearer": { "type": "http", "scheme": "bearer" },
        "header": { "type": "apiKey", "in": "header", "name": "x-api-key" },
    });
    add_schema(&mut document, "RuleSpec", schema_for!(RuleSpec).to_value());
    add_schema(&mut document, "KeySpec", schema_for!(KeySpec).to_value());
    add_schema(&mut document, "ProviderSpec", part(config, "Provider"));
    if let Some(paths) = document["paths"].as_object_mut() {
        paths.extend(inference::paths());
        for (path, item) in paths {
            for (method, operation) in item.as_object_mut().into_iter().flatten() {
                describe(operation, method, path);
            }
        }
    }
    document
}

/// A part of a schema on its own, with what it refers to.
fn part(schema: &Value, name: &str) -> Value {
    let all = &schema["$defs"];
    let mut part = all[name].clone();
    let mut needed = serde_json::Map::new();
    let mut open = references(&part);
    while let Some(name) = open.pop() {
        if !needed.contains_key(&name) {
            open.extend(references(&all[&name]));
            needed.insert(name.clone(), all[&name].clone());
        }
    }
    part["$defs"] = needed.into();
    part
}

/// The names of the definitions that a schema refers to.
fn references(schema: &Value) -> Vec<String> {
    match schema {
        Value::Object(fields) => {
            let own = fields.get("$ref").and_then(Value::as_str);
            let own = own
                .and_then(|at| at.strip_prefix("#/$defs/"))
                .map(str::to_owned);
            let below = fields.values().flat_map(references);
            own.into_iter().chain(below).collect()
        }
        Value::Array(items) => items.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}

/// Adds a schema that was made from the domain's types, and those that it refers to.
fn add_schema(document: &mut Value, name: &str, mut schema: Value) {
    let schemas = &mut document["components"]["schemas"];
    let definitions = schema.as_object_mut().and_then(|schema| {
        schema.remove("$schema");
        schema.remove("$defs")
    });
    if let Some(Value::Object(definitions)) = definitions {
        for (name, mut definition) in definitions {
            point_to_components(&mut definition);
            schemas[name] = definition;
        }
    }
    point_to_components(&mut schema);
    schemas[name] = schema;
}

fn point_to_components(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if let Some(Value::String(at)) = fields.get_mut("$ref") {
                *at = at.replace("#/$defs/", "#/components/schemas/");
            }
            fields.values_mut().for_each(point_to_components);
        }
        Value::Array(items) => items.iter_mut().for_each(point_to_components),
        _ => {}
    }
}

fn describe(operation: &mut Value, method: &str, path: &str) {
    operation["operationId"] = operation_id(method, path).into();
    let need = need(method, path);
    if need != Some(Need::Nothing) {
        operation["security"] = json!([{ "bearer": [] }, { "header": [] }]);
    }
    if is_inference(path) {
        return;
    }
    if let Some(Need::Role(role)) = need {
        let text = operation["description"].as_str().unwrap_or_default();
        let least = format!(
            "{text}\n\nNeeds a key of the role `{}` or above.",
            role.name()
        );
        operation["description"] = least.trim_start().into();
    }
    if let Some(body) = operation.get_mut("requestBody") {
        body["required"] = true.into();
    }
    let parameters = operation.get_mut("parameters");
    let parameters = parameters.and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        if parameter["name"] == "if-match" {
            parameter["schema"] = json!({ "type": "string", "pattern": r#"^(\*|"[0-9]+")$"# });
        }
    }
    let writes = matches!(method, "post" | "put");
    let takes = operation.get("parameters").is_some() || operation.get("requestBody").is_some();
    for (status, description, may) in [
        (
            "400",
            "Something in the request is wrong; `field` says what",
            takes || writes,
        ),
        (
            "401",
            "No key, or none that is known",
            need != Some(Need::Nothing),
        ),
        (
            "403",
            "The key's role may not do this",
            need != Some(Need::Nothing),
        ),
        ("404", "There is nothing of that name", path.contains('{')),
        (
            "409",
            "It is there already, is read-only, or can't be done now",
            // A provider that is asked for its models may not answer.
            method != "get" || path == "/api/v1/providers/{id}/models",
        ),
        (
            "412",
            "It was changed since the ETag in `if-match`",
            matches!(method, "put" | "delete"),
        ),
        ("413", "The body is too large", writes),
        ("415", "The body isn't said to be JSON", writes),
        (
            "503",
            "The store doesn't answer now",
            need != Some(Need::Nothing),
        ),
    ] {
        if may && operation["responses"].get(status).is_none() {
            let schema = json!({ "$ref": "#/components/schemas/Error" });
            let content = json!({ "application/json": { "schema": schema } });
            operation["responses"][status] =
                json!({ "description": description, "content": content });
        }
    }
}

fn need(method: &str, path: &str) -> Option<Need> {
    let method = method.to_ascii_uppercase();
    match entry(&Method::from_bytes(method.as_bytes()).ok()?, path) {
        Entry::Needs(need) => Some(need),
        _ => None,
    }
}

/// `getApiV1RouterRulesId`: unique, as path and method are.
fn operation_id(method: &str, path: &str) -> String {
    let mut id = method.to_owned();
    for word in path.split(|character: char| !character.is_ascii_alphanumeric()) {
        let mut characters = word.chars();
        if let Some(first) = characters.next() {
            id.push(first.to_ascii_uppercase());
            id.push_str(characters.as_str());
        }
    }
    id
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_left_out_of_hosts() {
        for (host, name) in [
            ("localhost:8001", "localhost"),
            ("router.test", "router.test"),
            ("[::1]:8001", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(without_port(host), name);
        }
    }

    #[test]
    fn operations_are_named_by_method_and_path() {
        let id = operation_id("put", "/api/v1/router/rules/{id}");
        assert_eq!(id, "putApiV1RouterRulesId");
    }
}
