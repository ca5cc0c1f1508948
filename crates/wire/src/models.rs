//! Model lists in the shapes that the SDKs' pickers read. It must not decide which models are
//! listed.

use llm_router_domain::format::Format;
use serde_json::Value;

use crate::formats::client_side;

/// A model as listed.
#[derive(Clone, Copy, Debug)]
pub struct ListedModel<'a> {
    /// The name that a client may ask for.
    pub id: &'a str,
    /// The owner to show: a provider's id, or the router itself for public names.
    pub owned_by: &'a str,
}

/// The date that every model is listed with, in Unix seconds: SDKs want one and the router has
/// none to give.
pub(crate) const CREATED: i64 = 1_735_689_600;

/// The same in RFC 3339.
pub(crate) const CREATED_AT: &str = "2025-01-01T00:00:00Z";

/// The body of `GET /v1/models` for clients of `format`.
#[must_use]
pub fn list<'a>(format: Format, models: impl Iterator<Item = ListedModel<'a>>) -> Value {
    client_side(format).model_list(&models.collect::<Vec<_>>())
}

/// The body of `GET /v1/models/{id}` for clients of `format`.
#[must_use]
pub fn one(format: Format, model: ListedModel<'_>) -> Value {
    client_side(format).model(model)
}
