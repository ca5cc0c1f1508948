//! Maps paths to what is served there. Methods and keys are checked elsewhere.

use llm_router_domain::format::Endpoint;

/// Target of a path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// An inference endpoint.
    Inference(Endpoint),
    /// The list of models.
    Models,
    /// One model of the list.
    Model(String),
    /// Is the process alive?
    Health,
    /// May it be sent requests?
    Ready,
    /// Nothing that is served.
    Unknown,
}

/// Finds what a path stands for. A slash at the end makes no difference.
pub(crate) fn target(path: &str) -> Target {
    let path = path.strip_suffix('/').unwrap_or(path);
    match path {
        "/healthz" => return Target::Health,
        "/readyz" => return Target::Ready,
        "/api/v1/chat/models" => return Target::Models,
        _ => {}
    }
    let below = path
        .strip_prefix("/api")
        .unwrap_or(path)
        .strip_prefix("/v1");
    let Some(below) = below else {
        return Target::Unknown;
    };
    if let Some(endpoint) = Endpoint::ALL
        .into_iter()
        .find(|endpoint| endpoint.path() == below)
    {
        return Target::Inference(endpoint);
    }
    match below.strip_prefix("/models") {
        Some("") => Target::Models,
        Some(id) => match id.strip_prefix('/') {
            Some(id) if !id.is_empty() => Target::Model(decode(id)),
            _ => Target::Unknown,
        },
        None => Target::Unknown,
    }
}

/// Percent-decoded (RFC 3986, section 2.1): SDKs escape the slash of `provider/model`.
fn decode(id: &str) -> String {
    percent_encoding::percent_decode_str(id)
        .decode_utf8_lossy()
        .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stand_for_targets() {
        let cases = [
            (
                "/v1/chat/completions",
                Target::Inference(Endpoint::ChatCompletions),
            ),
            (
                "/api/v1/chat/completions",
                Target::Inference(Endpoint::ChatCompletions),
            ),
            ("/v1/messages", Target::Inference(Endpoint::Messages)),
            ("/v1/messages/", Target::Inference(Endpoint::Messages)),
            (
                "/api/v1/messages/count_tokens",
                Target::Inference(Endpoint::CountTokens),
            ),
            ("/v1/models", Target::Models),
            ("/api/v1/models", Target::Models),
            ("/api/v1/chat/models", Target::Models),
            ("/v1/models/gpt-4o", Target::Model("gpt-4o".into())),
            (
                "/v1/models/openai%2Fgpt-4o",
                Target::Model("openai/gpt-4o".into()),
            ),
            (
                "/v1/models/openai/gpt-4o",
                Target::Model("openai/gpt-4o".into()),
            ),
            ("/healthz", Target::Health),
            ("/readyz", Target::Ready),
            ("/v1", Target::Unknown),
            ("/v1/modelsx", Target::Unknown),
            ("/v1/chat", Target::Unknown),
            ("/", Target::Unknown),
            ("", Target::Unknown),
            ("/v2/messages", Target::Unknown),
        ];
        for (path, expected) in cases {
            assert_eq!(target(path), expected, "{path}");
        }
    }
}
