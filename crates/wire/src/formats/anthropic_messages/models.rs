//! Model lists as Anthropic's SDKs read them.

use serde_json::{Value, json};

use crate::models::{CREATED_AT, ListedModel};

/// One page that holds every model.
pub(super) fn list(models: &[ListedModel<'_>]) -> Value {
    json!({
        "data": models.iter().copied().map(one).collect::<Vec<_>>(),
        "has_more": false,
        "first_id": models.first().map(|model| model.id),
        "last_id": models.last().map(|model| model.id),
    })
}

/// One model.
pub(super) fn one(model: ListedModel<'_>) -> Value {
    json!({
        "type": "model",
        "id": model.id,
        "display_name": model.id,
        "created_at": CREATED_AT,
    })
}
