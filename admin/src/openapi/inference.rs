//! Descriptions of the inference paths, for the OpenAPI document. The proxy serves them: there are no
//! handlers here.

use serde_json::{Map, Value, json};

/// Returns the descriptions by path. The example bodies work if a model `fast` is served.
pub(crate) fn paths() -> Map<String, Value> {
    let hello = json!([{ "role": "user", "content": "Hello!" }]);
    let chat = json!({ "model": "fast", "messages": hello });
    let message = json!({ "model": "fast", "max_tokens": 100, "messages": hello });
    let count = json!({ "model": "fast", "messages": hello });
    let input = json!({ "model": "fast", "input": "Hello!" });
    let prompt = json!({ "model": "fast", "prompt": "Hello!" });
    let posts = [
        (
            "chat/completions",
            "Create a chat completion (OpenAI)",
            &chat,
        ),
        ("completions", "Create a text completion (OpenAI)", &prompt),
        ("embeddings", "Create embeddings (OpenAI)", &input),
        ("responses", "Create a response (OpenAI)", &input),
        ("messages", "Create a message (Anthropic)", &message),
        (
            "messages/count_tokens",
            "Count the tokens of a message (Anthropic)",
            &count,
        ),
    ];
    let mut paths = Map::new();
    for prefix in ["/v1", "/api/v1"] {
        for (path, summary, example) in posts {
            paths.insert(
                format!("{prefix}/{path}"),
                json!({ "post": inference_post(summary, example) }),
            );
        }
        paths.insert(format!("{prefix}/models"), json!({ "get": list_models() }));
        paths.insert(
            format!("{prefix}/models/{{id}}"),
            json!({ "get": get_model() }),
        );
    }
    paths.insert(
        "/api/v1/chat/models".to_owned(),
        json!({ "get": list_models() }),
    );
    paths
}

/// Returns true for inference paths, which only the clients' port serves.
pub(crate) fn is_inference(path: &str) -> bool {
    const PATHS: [&str; 6] = [
        "chat",
        "completions",
        "embeddings",
        "responses",
        "messages",
        "models",
    ];
    let below = path
        .strip_prefix("/api")
        .unwrap_or(path)
        .strip_prefix("/v1/");
    let first = below.and_then(|below| below.split('/').next());
    first.is_some_and(|first| PATHS.contains(&first))
}

fn inference_post(summary: &str, example: &Value) -> Value {
    // Anthropic's own API refuses a request without a version.
    let version = json!([{
        "name": "anthropic-version", "in": "header", "schema": { "type": "string" },
        "example": "2023-06-01",
    }]);
    let anthropic = summary.contains("Anthropic");
    json!({
        "tags": ["inference"],
        "summary": summary,
        "parameters": if anthropic { version } else { json!([]) },
        "description": "The router reads only the fields described here. All other fields reach \
            the provider as they were sent.",
        "requestBody": {
            "required": true,
            "content": { "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["model"],
                    "properties": {
                        "model": {
                            "type": "string",
                            "minLength": 1,
                            "description": "A public name, `provider/model`, a model that a \
                                provider serves, or `auto`.",
                        },
                        "stream": {
                            "type": ["boolean", "null"],
                            "description": "True to get the answer as server-sent events.",
                        },
                    },
                },
                "example": example,
            } },
        },
        "responses": {
            "200": {
                "description": "The provider's answer or stream",
                "content": {
                    "application/json": { "schema": { "type": "object" } },
                    "text/event-stream": {},
                },
            },
            "default": error_answer(),
        },
    })
}

fn list_models() -> Value {
    json!({
        "tags": ["inference"],
        "summary": "List the models that the key may use",
        "description": "In OpenAI's format; in Anthropic's if the request has `anthropic-version`.",
        "responses": {
            "200": {
                "description": "The models",
                "content": { "application/json": { "schema": {
                    "type": "object",
                    "required": ["data"],
                    "properties": { "data": { "type": "array", "items": { "type": "object" } } },
                } } },
            },
            "default": error_answer(),
        },
    })
}

fn get_model() -> Value {
    json!({
        "tags": ["inference"],
        "summary": "Get a model",
        "parameters": [{
            "name": "id", "in": "path", "required": true,
            "schema": { "type": "string" }, "example": "fast",
        }],
        "responses": {
            "200": {
                "description": "The model",
                "content": { "application/json": { "schema": {
                    "type": "object", "required": ["id"],
                } } },
            },
            "default": error_answer(),
        },
    })
}

fn error_answer() -> Value {
    json!({
        "description": "An error in the caller's format",
        "content": { "application/json": { "schema": {
            "type": "object", "required": ["error"],
        } } },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_inference_path_is_known_as_one() {
        for path in paths().keys() {
            assert!(is_inference(path), "{path}");
        }
        for path in [
            "/api/v1/cost/current",
            "/api/v1/router/rules",
            "/metrics",
            "/v1",
        ] {
            assert!(!is_inference(path), "{path}");
        }
    }
}
