//! Model lists in the shapes that the SDKs' pickers read. Which models are listed is the
//! service's to decide.

use serde_json::{Value, json};

/// A model as listed.
#[derive(Clone, Copy, Debug)]
pub struct ListedModel<'a> {
    /// The name that a client may ask for.
    pub id: &'a str,
    /// Who serves it: a provider's id, or the router itself for public names.
    pub owned_by: &'a str,
}

/// When the models were made known: the lists want a date and the router has none to give.
const CREATED: i64 = 1_735_689_600;
const CREATED_AT: &str = "2025-01-01T00:00:00Z";

/// `GET /v1/models` as OpenAI answers it.
#[must_use]
pub fn openai_list<'a>(models: impl Iterator<Item = ListedModel<'a>>) -> Value {
    json!({ "object": "list", "data": models.map(openai_model).collect::<Vec<_>>() })
}

/// `GET /v1/models/{id}` as OpenAI answers it.
#[must_use]
pub fn openai_model(model: ListedModel<'_>) -> Value {
    json!({
        "id": model.id,
        "object": "model",
        "created": CREATED,
        "owned_by": model.owned_by,
    })
}

/// `GET /v1/models` as Anthropic answers it: one page with everything.
#[must_use]
pub fn anthropic_list<'a>(models: impl Iterator<Item = ListedModel<'a>>) -> Value {
    let models: Vec<_> = models.collect();
    json!({
        "data": models.iter().copied().map(anthropic_model).collect::<Vec<_>>(),
        "has_more": false,
        "first_id": models.first().map(|model| model.id),
        "last_id": models.last().map(|model| model.id),
    })
}

/// `GET /v1/models/{id}` as Anthropic answers it.
#[must_use]
pub fn anthropic_model(model: ListedModel<'_>) -> Value {
    json!({
        "type": "model",
        "id": model.id,
        "display_name": model.id,
        "created_at": CREATED_AT,
    })
}
