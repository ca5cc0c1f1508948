//! Paths of models and their methods.

use std::fmt::Write as _;

/// The methods of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Generate,
    Stream,
    Count,
}

/// Path and query below `/v1beta`.
pub(super) fn path(model: &str, method: Method) -> String {
    let (collection, name) = match model.split_once('/') {
        Some((collection @ ("models" | "tunedModels"), name)) => (collection, name),
        _ => ("models", model),
    };
    let mut path = format!("/{collection}/");
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            path.push(char::from(byte));
        } else {
            // Writing into a string can't fail.
            write!(path, "%{byte:02X}").ok();
        }
    }
    path.push_str(match method {
        Method::Generate => ":generateContent",
        Method::Stream => ":streamGenerateContent?alt=sse",
        Method::Count => ":countTokens",
    });
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_the_model_and_nothing_else() {
        for (model, method, expected) in [
            (
                "gemini-2.5-flash",
                Method::Generate,
                "/models/gemini-2.5-flash:generateContent",
            ),
            (
                "models/x",
                Method::Stream,
                "/models/x:streamGenerateContent?alt=sse",
            ),
            ("a?b#c%", Method::Count, "/models/a%3Fb%23c%25:countTokens"),
            (
                "x/../y",
                Method::Generate,
                "/models/x%2F..%2Fy:generateContent",
            ),
        ] {
            assert_eq!(path(model, method), expected);
        }
    }
}
