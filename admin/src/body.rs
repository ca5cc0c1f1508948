//! Parses the bodies of requests. Errors name the wrong field. The size is checked
//! before, in `intake.rs`.

use axum::http::StatusCode;
use serde::de::DeserializeOwned;

use crate::error::AdminError;

/// Parses a body.
///
/// # Errors
/// 400 that names the field.
pub(crate) fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, AdminError> {
    if let Err(error) = serde_json::from_slice::<serde::de::IgnoredAny>(body) {
        let message = format!("The body is not valid JSON: {error}.");
        return Err(AdminError::new(
            StatusCode::BAD_REQUEST,
            "invalid_json",
            message,
        ));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    serde_path_to_error::deserialize(&mut reader).map_err(|error| invalid_field(&error))
}

/// Converts a body that was parsed already.
///
/// # Errors
/// 400 that names the field.
pub(crate) fn convert<T: DeserializeOwned>(body: serde_json::Value) -> Result<T, AdminError> {
    serde_path_to_error::deserialize(body).map_err(|error| invalid_field(&error))
}

fn invalid_field(error: &serde_path_to_error::Error<serde_json::Error>) -> AdminError {
    let reason = error.inner().to_string();
    // serde_json adds the position in the text, which says less than the path.
    let reason = reason.split(" at line ").next().unwrap_or_default();
    let mut field = error.path().to_string();
    // For a missing field the path is that of its parent.
    if let Some(name) = reason
        .strip_prefix("missing field `")
        .and_then(|rest| rest.split('`').next())
    {
        field = if field == "." {
            name.to_owned()
        } else {
            format!("{field}.{name}")
        };
    }
    let message = format!("{field}: {reason}.");
    AdminError::invalid(field, message)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Outer {
        #[serde(rename = "inner")]
        _inner: Vec<Inner>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        #[serde(rename = "count")]
        _count: u8,
    }

    #[test]
    fn the_wrong_field_is_named() {
        for (body, code, field) in [
            ("", "invalid_json", None),
            ("{", "invalid_json", None),
            ("{}", "invalid_value", Some("inner")),
            (
                r#"{"inner":[{"count":1},{}]}"#,
                "invalid_value",
                Some("inner[1].count"),
            ),
            (
                r#"{"inner":[{"count":"x"}]}"#,
                "invalid_value",
                Some("inner[0].count"),
            ),
            (
                r#"{"inner":[{"cuont":1}]}"#,
                "invalid_value",
                Some("inner[0].cuont"),
            ),
            (r#"{"inner":3}"#, "invalid_value", Some("inner")),
        ] {
            let problem = read::<Outer>(body.as_bytes()).unwrap_err();
            assert_eq!(
                (problem.code, problem.field.as_deref()),
                (code, field),
                "{body}"
            );
        }
        assert!(read::<Outer>(br#"{"inner":[{"count":1}]}"#).is_ok());
    }
}
