//! The OpenAPI document: adds to the annotations of the handlers what holds for all of them. Roles
//! come from `endpoints.rs`.

pub(crate) mod inference;

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
use crate::backend::AppState;
use crate::endpoints::{Access, Lookup, look_up};

/// Body of every error.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Error)]
struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Serialize, utoipa::ToSchema)]
struct ErrorDetail {
    /// Code for programs.
    code: String,
    /// Message for people.
    message: String,
    /// Path of the wrong field or parameter, such as `when.regex`; null if there is none.
    field: Option<String>,
}

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "LLM Router",
        description = "Admin API and inference paths.",
    ),
    tags(
        (name = "inference", description = "Inference requests in the formats of OpenAI and Anthropic."),
        (name = "router", description = "The routing toggle, rules, decisions and metrics."),
        (name = "cost", description = "Costs. Users see their own usage only."),
        (name = "requests", description = "Single requests, without their messages."),
        (name = "providers", description = "Companies and servers that host models."),
        (name = "keys", description = "Keys issued to clients."),
        (name = "config", description = "The running configuration, its revisions and the audit log."),
        (name = "service", description = "Health, metrics and this description."),
    ),
    components(schemas(ErrorBody, ErrorDetail)),
)]
pub(crate) struct DocumentBase;

/// Refers to a schema that [`complete`] adds.
pub(crate) fn reference(name: &str) -> Ref {
    Ref::from_schema_name(name)
}

/// Get this description of the API
///
/// In OpenAPI 3.1.
#[utoipa::path(get, path = "/openapi.json", tag = "service",
    responses((status = 200, description = "The document", body = Object)))]
pub(crate) async fn document(
    State(backend): State<AppState>,
    Extension(document): Extension<Arc<Value>>,
    headers: HeaderMap,
) -> Json<Value> {
    let mut document = Value::clone(&document);
    if let Some(paths) = document["paths"].as_object_mut() {
        let host = headers.get(header::HOST);
        let host = host
            .and_then(|host| host.to_str().ok())
            .unwrap_or("localhost");
        // The clients' port serves all paths, the admin port all but inference.
        let url = format!("http://{}:{}", without_port(host), backend.clients_port());
        for (_, item) in paths.iter_mut().filter(|(path, _)| is_inference(path)) {
            item["servers"] = json!([{ "url": url }]);
        }
    }
    Json(document)
}

/// Completes the descriptions of the handlers with what holds for every path.
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
    add_schema(&mut document, "ProviderSpec", extract(config, "Provider"));
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

/// Extracts a definition from a schema, with the definitions that it refers to.
fn extract(schema: &Value, name: &str) -> Value {
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

/// Returns the names of the definitions that a schema refers to.
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

/// Adds a schema made from the domain's types, with the definitions that it refers to.
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
    let access = access(method, path);
    if access != Some(Access::Public) {
        operation["security"] = json!([{ "bearer": [] }, { "header": [] }]);
    }
    if is_inference(path) {
        return;
    }
    if let Some(Access::Role(role)) = access {
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
            "The request is invalid; `field` names the wrong part",
            takes || writes,
        ),
        (
            "401",
            "The key is missing or invalid",
            access != Some(Access::Public),
        ),
        (
            "403",
            "The role of the key is too low",
            access != Some(Access::Public),
        ),
        ("404", "Not found", path.contains('{')),
        (
            "409",
            "The object already exists or is read-only, or the operation is not possible now",
            // A provider may fail to list its models.
            method != "get" || path == "/api/v1/providers/{id}/models",
        ),
        (
            "412",
            "The object was changed since the ETag in `if-match`",
            matches!(method, "put" | "delete"),
        ),
        ("408", "The body came too slowly", writes),
        ("413", "The body is too large", writes),
        (
            "429",
            "Too many unknown keys came from the client's address",
            access != Some(Access::Public),
        ),
        (
            "503",
            "The store is unavailable",
            access != Some(Access::Public),
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

fn access(method: &str, path: &str) -> Option<Access> {
    let method = method.to_ascii_uppercase();
    match look_up(&Method::from_bytes(method.as_bytes()).ok()?, path) {
        Lookup::Needs(access) => Some(access),
        _ => None,
    }
}

/// Returns an id such as `getApiV1RouterRulesId`: unique, because path and method are.
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
