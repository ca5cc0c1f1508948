//! The paths that requests to models go to, described for the document. They are served by the
//! proxy: there is no handler here.

use serde_json::{Map, Value, json};

/// The paths, their summaries, and a body that works where a model `fast` is served.
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
            "Chat completion, OpenAI's format",
            &chat,
        ),
        (
            "completions",
            "Completion of a text, OpenAI's format",
            &prompt,
        ),
        ("embeddings", "Embeddings, OpenAI's format", &input),
        ("responses", "Response, OpenAI's format", &input),
        ("messages", "Message, Anthropic's format", &message),
        (
            "messages/count_tokens",
            "Tokens of a message, Anthropic's format",
            &count,
        ),
    ];
    let mut paths = Map::new();
    for prefix in ["/v1", "/api/v1"] {
        for (path, summary, example) in posts {
            paths.insert(
                format!("{prefix}/{path}"),
                json!({ "post": post(summary, example) }),
            );
        }
        paths.insert(format!("{prefix}/models"), json!({ "get": list() }));
        paths.insert(format!("{prefix}/models/{{id}}"), json!({ "get": one() }));
    }
    paths.insert("/api/v1/chat/models".to_owned(), json!({ "get": list() }));
    paths
}

/// Whether a path is of requests to models, served on the clients' port only.
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

fn post(summary: &str, example: &Value) -> Value {
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
        "description": "The router reads what is described here; everything else in the body is \
            the provider's to judge, and reaches it as it was sent.",
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
                            "description": "A public name, `provider/model`, a name that a \
                                provider serves, or `auto`.",
                        },
                        "stream": {
                            "type": ["boolean", "null"],
                            "description": "Whether the answer comes as server-sent events.",
                        },
                    },
                },
                "example": example,
            } },
        },
        "responses": {
            "200": {
                "description": "The provider's answer, or its stream",
                "content": {
                    "application/json": { "schema": { "type": "object" } },
                    "text/event-stream": {},
                },
            },
            "default": failure(),
        },
    })
}

fn list() -> Value {
    json!({
        "tags": ["inference"],
        "summary": "The models that the key may ask for",
        "description": "In OpenAI's format; in Anthropic's for a request with `anthropic-version`.",
        "responses": {
            "200": {
                "description": "The names",
                "content": { "application/json": { "schema": {
                    "type": "object",
                    "required": ["data"],
                    "properties": { "data": { "type": "array", "items": { "type": "object" } } },
                } } },
            },
            "default": failure(),
        },
    })
}

fn one() -> Value {
    json!({
        "tags": ["inference"],
        "summary": "One model",
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
            "default": failure(),
        },
    })
}

fn failure() -> Value {
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
    fn every_path_of_inference_is_known_as_one() {
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
