//! Lists of models: `GET /v1/models` and `GET /v1/models/{id}`, in three shapes.

use llm_router_domain::format::Format;
use serde_json::{Value, json};

/// Creation date of the mock's models: 1 January 2026.
const CREATED: u64 = 1_767_225_600;

/// All models.
pub(crate) fn list(format: Format, names: &[String]) -> Value {
    let data: Vec<Value> = names.iter().map(|name| one(format, name)).collect();
    match format {
        Format::AnthropicMessages => json!({
            "data": data,
            "has_more": false,
            "first_id": names.first(),
            "last_id": names.last(),
        }),
        Format::Gemini => json!({"models": data}),
        _ => json!({"object": "list", "data": data}),
    }
}

/// One model.
pub(crate) fn one(format: Format, name: &str) -> Value {
    match format {
        Format::AnthropicMessages => json!({
            "type": "model",
            "id": name,
            "display_name": name,
            "created_at": "2026-01-01T00:00:00Z",
            "lifecycle": "active",
            "max_input_tokens": 200_000,
            "max_tokens": 64_000,
        }),
        Format::Gemini => json!({
            "name": format!("models/{name}"),
            "displayName": name,
            "inputTokenLimit": 1_048_576,
            "outputTokenLimit": 65_536,
            "supportedGenerationMethods": ["generateContent", "countTokens"],
        }),
        _ => json!({"id": name, "object": "model", "created": CREATED, "owned_by": "mock"}),
    }
}
