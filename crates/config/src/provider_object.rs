//! Checks one provider that is sent to the admin API, as those of the file are checked.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value as Json, json};

use crate::environment::Environment;
use crate::load::load_text;
use crate::provider::Provider;
use crate::report::{Problem, Severity};

/// Checks a provider that has the fields of the file. Variables in it are not substituted.
///
/// # Errors
/// Returns everything that is wrong with it; paths begin at the provider.
pub fn check_provider(provider: &Json) -> Result<Arc<Provider>, Vec<Problem>> {
    let text = json!({ "providers": [escape_variables(provider)] }).to_string();
    let environment = Environment::new([("", ""); 0]);
    let mut report = match load_text(&text, Path::new("request"), &environment) {
        Ok(loaded) => match loaded.config.providers.into_iter().next() {
            Some(provider) => return Ok(provider),
            None => Vec::new(),
        },
        Err(report) => report.errors().cloned().collect(),
    };
    for problem in &mut report {
        let path = problem.path.strip_prefix("providers[0]");
        let path = path.unwrap_or_default().trim_start_matches('.');
        problem.path = path.to_owned();
    }
    if report.is_empty() {
        report.push(Problem {
            severity: Severity::Error,
            file: "request".into(),
            mark: None,
            path: String::new(),
            message: "is not a provider".to_owned(),
            remedy: "send an object with the fields of a provider".to_owned(),
        });
    }
    Err(report)
}

/// Returns the value without nulls, and with every `${` escaped.
fn escape_variables(value: &Json) -> Json {
    match value {
        Json::String(text) => text.replace("${", "$${").into(),
        Json::Array(items) => items.iter().map(escape_variables).collect(),
        Json::Object(fields) => {
            let fields = fields.iter().filter(|(_, value)| !value.is_null());
            Json::Object(
                fields
                    .map(|(name, value)| (name.clone(), escape_variables(value)))
                    .collect(),
            )
        }
        _ => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn providers_are_checked_like_those_of_the_file() {
        let good = json!({
            "id": "vllm", "type": "custom", "base_url": "http://127.0.0.1:9/v1",
            "api_key": "sk-${NOT_SUBSTITUTED}", "timeouts": null,
        });
        let provider = check_provider(&good).unwrap();
        let credential = provider.credential.as_ref().unwrap();
        assert_eq!(credential.expose_secret(), "sk-${NOT_SUBSTITUTED}");
        for (wrong, path) in [
            (json!({ "type": "custom", "base_url": "http://h/v1" }), "id"),
            (json!({ "id": "a", "type": "custom" }), "base_url"),
            (json!({ "id": "a", "type": "openia" }), "type"),
            (json!({ "id": "a b", "type": "openai" }), "id"),
            (
                json!({ "id": "a", "type": "openai", "timeouts": { "connect": "soon" } }),
                "timeouts.connect",
            ),
            (
                json!({ "id": "a", "type": "openai", "modles": [] }),
                "modles",
            ),
            (json!([]), ""),
            (json!("x"), ""),
        ] {
            let problems = check_provider(&wrong).unwrap_err();
            assert_eq!(problems[0].path, path, "{problems:?}");
        }
    }
}
