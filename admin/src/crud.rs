//! The endpoints that keys, providers and rules share: list, create, get, replace and delete, each
//! with its description. What a kind of objects means is in its own file.

use std::collections::HashMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::handler::Handler;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::routing::on;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn, Paths};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::response::ResponseBuilder;
use utoipa::openapi::schema::{Schema, Type};
use utoipa::openapi::{HttpMethod, ObjectBuilder, RefOr, Required};
use utoipa::{IntoParams as _, PartialSchema as _, ToSchema};
use utoipa_axum::PathItemExt as _;
use utoipa_axum::router::UtoipaMethodRouter;

use crate::backend::{AppState, Backend};
use crate::body;
use crate::caller::Caller;
use crate::error::{AdminError, store_unavailable};
use crate::etag::{if_match, respond_with_etag, stale};
use crate::objects::{ApiObject, Collection, ObjectError};
use crate::openapi::reference;
use crate::page::{ListPage, Paging, Parameters, cursor, limit};

/// A kind of objects with these endpoints.
pub(crate) trait Resource: ApiObject + ToSchema + Sized + 'static {
    /// The body of POST and PUT.
    type Spec: DeserializeOwned + Send + 'static;
    /// Texts of the description.
    const DOCS: ResourceDocs;
    /// Fields of answers that are ignored in requests, so that an object can be read, changed and
    /// sent back.
    const ANSWER_ONLY: &'static [&'static str];

    /// Returns a body of POST that works as it stands.
    fn example() -> Value;

    /// Returns the objects.
    fn collection(backend: &dyn Backend) -> &dyn Collection<Object = Self, Spec = Self::Spec>;

    /// Answers with an object that was just created.
    ///
    /// # Errors
    /// 500 if the answer can't be written.
    fn respond_created(self) -> Result<Response, AdminError> {
        Ok(respond(StatusCode::CREATED, &self))
    }
}

/// Texts of the description of a kind of objects.
pub(crate) struct ResourceDocs {
    /// Path of the list, such as `/api/v1/keys`.
    pub(crate) path: &'static str,
    pub(crate) tag: &'static str,
    /// Schema of a body of POST and PUT, by its name in the document.
    pub(crate) spec_schema: &'static str,
    /// The descriptions of the operations below their summaries; may be empty.
    pub(crate) list: &'static str,
    pub(crate) create: &'static str,
    pub(crate) replace: &'static str,
    pub(crate) delete: &'static str,
}

/// The endpoint that lists the objects.
pub(crate) fn list<R: Resource>() -> UtoipaMethodRouter<AppState> {
    let operation = operation(R::DOCS, format!("List {}s", R::NOUN), R::DOCS.list)
        .parameters(Some(Paging::into_params(|| Some(ParameterIn::Query))));
    let operation = json_answer(operation, "200", "The page", ListPage::<R>::schema());
    endpoint::<R, _, _>(HttpMethod::Get, "", operation, list_objects::<R>)
}

/// The endpoint that creates an object.
pub(crate) fn create<R: Resource>() -> UtoipaMethodRouter<AppState> {
    let operation = operation(R::DOCS, format!("Create a {}", R::NOUN), R::DOCS.create);
    let operation = json_body::<R>(operation, Some(R::example()));
    let operation = json_answer(
        operation,
        "201",
        "Created and active",
        reference(&R::name()),
    );
    endpoint::<R, _, _>(HttpMethod::Post, "", operation, create_object::<R>)
}

/// The endpoint that returns an object.
pub(crate) fn get<R: Resource>() -> UtoipaMethodRouter<AppState> {
    let operation = operation(R::DOCS, format!("Get a {}", R::NOUN), "").parameter(id_parameter());
    let text = format!("The {}; the ETag is its version", R::NOUN);
    let operation = json_answer(operation, "200", &text, reference(&R::name()));
    endpoint::<R, _, _>(HttpMethod::Get, "/{id}", operation, get_object::<R>)
}

/// The endpoint that replaces the content of an object.
pub(crate) fn replace<R: Resource>() -> UtoipaMethodRouter<AppState> {
    let operation = operation(R::DOCS, format!("Replace a {}", R::NOUN), R::DOCS.replace)
        .parameter(id_parameter())
        .parameter(if_match_parameter());
    let operation = json_body::<R>(operation, None);
    let operation = json_answer(
        operation,
        "200",
        "Replaced and active",
        reference(&R::name()),
    );
    endpoint::<R, _, _>(HttpMethod::Put, "/{id}", operation, replace_object::<R>)
}

/// The endpoint that deletes an object.
pub(crate) fn delete<R: Resource>() -> UtoipaMethodRouter<AppState> {
    let operation = operation(R::DOCS, format!("Delete a {}", R::NOUN), R::DOCS.delete)
        .parameter(id_parameter())
        .parameter(if_match_parameter())
        .response("204", ResponseBuilder::new().description("Deleted"));
    endpoint::<R, _, _>(HttpMethod::Delete, "/{id}", operation, delete_object::<R>)
}

async fn list_objects<R: Resource>(
    State(backend): State<AppState>,
    Query(parameters): Parameters,
) -> Result<Json<ListPage<R>>, AdminError> {
    read_page(R::collection(&*backend), &parameters).await
}

async fn create_object<R: Resource>(
    State(backend): State<AppState>,
    caller: Caller,
    body: Bytes,
) -> Result<Response, AdminError> {
    let spec = parse_spec::<R>(&body)?;
    let created = R::collection(&*backend).create(spec, &caller.key).await;
    created.map_err(object_error::<R>)?.respond_created()
}

async fn get_object<R: Resource>(
    State(backend): State<AppState>,
    Path(id): Path<String>,
) -> Result<Response, AdminError> {
    let object = R::collection(&*backend).get(&id).await;
    Ok(respond(StatusCode::OK, &object.map_err(object_error::<R>)?))
}

async fn replace_object<R: Resource>(
    State(backend): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, AdminError> {
    let spec = parse_spec::<R>(&body)?;
    let expected = if_match(&headers)?;
    let objects = R::collection(&*backend);
    let replaced = objects.replace(&id, spec, expected, &caller.key).await;
    Ok(respond(
        StatusCode::OK,
        &replaced.map_err(object_error::<R>)?,
    ))
}

async fn delete_object<R: Resource>(
    State(backend): State<AppState>,
    caller: Caller,
    headers: HeaderMap,
    Path(id): Path<String>,
) -> Result<StatusCode, AdminError> {
    let expected = if_match(&headers)?;
    let deleted = R::collection(&*backend).delete(&id, expected, &caller.key);
    deleted.await.map_err(object_error::<R>)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reads the page that the parameters ask for.
///
/// # Errors
/// 400 for a wrong parameter, 503 if the store is unavailable.
pub(crate) async fn read_page<C: Collection + ?Sized>(
    objects: &C,
    parameters: &HashMap<String, String>,
) -> Result<Json<ListPage<C::Object>>, AdminError> {
    let limit = limit(parameters)? as usize;
    let page = objects.list(cursor(parameters), limit).await;
    page.map(Json).map_err(object_error::<C::Object>)
}

/// Answers with an object and its version as the ETag.
pub(crate) fn respond(status: StatusCode, object: &impl ApiObject) -> Response {
    respond_with_etag(status, object, object.version())
}

/// Converts the failure of an operation on an object.
pub(crate) fn object_error<T: ApiObject>(error: ObjectError) -> AdminError {
    let conflict = |code, message: String| AdminError::new(StatusCode::CONFLICT, code, message);
    let (noun, unique) = (T::NOUN, T::UNIQUE);
    match error {
        ObjectError::Invalid { field, message } => AdminError::invalid(field, message),
        ObjectError::AlreadyExists => AdminError {
            field: Some(unique.into()),
            ..conflict(
                "already_exists",
                format!("Another {noun} has this {unique}."),
            )
        },
        ObjectError::ReadOnly => conflict(
            "read_only",
            format!("This {noun} is defined in the configuration file. Change it there."),
        ),
        ObjectError::NotFound => AdminError::not_found(format!("No {noun} has this id.")),
        ObjectError::Stale => stale(),
        ObjectError::UpstreamFailed(message) => conflict("upstream_error", message),
        ObjectError::NotConfigured(message) => conflict("not_configured", message),
        ObjectError::Store(error) => store_unavailable(error),
    }
}

/// Parses the body of a request, ignoring fields that only answers have.
fn parse_spec<R: Resource>(bytes: &[u8]) -> Result<R::Spec, AdminError> {
    let mut fields: Map<String, Value> = body::read(bytes)?;
    for name in R::ANSWER_ONLY {
        fields.remove(*name);
    }
    body::convert(fields.into())
}

/// Puts a handler and its description at a path below that of the list.
fn endpoint<R, H, T>(
    method: HttpMethod,
    below: &str,
    operation: OperationBuilder,
    handler: H,
) -> UtoipaMethodRouter<AppState>
where
    R: Resource,
    H: Handler<T, AppState>,
    T: 'static,
{
    let filter = method.to_method_filter();
    let mut paths = Paths::new();
    let path = format!("{}{below}", R::DOCS.path);
    paths.add_path_operation(path, vec![method], operation.build());
    let mut schemas = vec![(R::name().into_owned(), R::schema())];
    R::schemas(&mut schemas);
    (schemas, paths, on(filter, handler))
}

fn operation(docs: ResourceDocs, summary: String, description: &str) -> OperationBuilder {
    let description = Some(description).filter(|text| !text.is_empty());
    OperationBuilder::new()
        .tag(docs.tag)
        .summary(Some(summary))
        .description(description)
}

fn json_body<R: Resource>(operation: OperationBuilder, example: Option<Value>) -> OperationBuilder {
    let content = ContentBuilder::new()
        .schema(Some(reference(R::DOCS.spec_schema)))
        .example(example)
        .build();
    let body = RequestBodyBuilder::new().content("application/json", content);
    operation.request_body(Some(body.build()))
}

fn json_answer(
    operation: OperationBuilder,
    status: &str,
    description: &str,
    schema: impl Into<RefOr<Schema>>,
) -> OperationBuilder {
    let content = ContentBuilder::new().schema(Some(schema)).build();
    let answer = ResponseBuilder::new()
        .description(description)
        .content("application/json", content);
    operation.response(status, answer.build())
}

fn id_parameter() -> Parameter {
    text_parameter("id", ParameterIn::Path, Required::True).build()
}

fn if_match_parameter() -> Parameter {
    text_parameter("if-match", ParameterIn::Header, Required::False)
        .description(Some("The object's ETag"))
        .build()
}

fn text_parameter(name: &str, place: ParameterIn, required: Required) -> ParameterBuilder {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handlers::rules::RuleObject;

    #[test]
    fn an_object_that_was_read_can_be_sent_back() {
        let sent = parse_spec::<RuleObject>(
            br#"{"id":"1","source":"api","broken":false,"problems":[],"name":"n","priority":3,
            "enabled":true,"when":{},"then":{"use_model":"m"},"created_at":"x","updated_at":"y"}"#,
        );
        assert_eq!(sent.unwrap().name, "n");
        let misspelt = br#"{"name":"n","then":{"use_modle":"m"}}"#;
        let error = parse_spec::<RuleObject>(misspelt).unwrap_err();
        assert_eq!(error.field.as_deref(), Some("then.use_modle"));
    }
}
