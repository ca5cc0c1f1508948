//! Masks the secrets of a configuration, so that it can be shown. The schema tells which settings
//! are secret.

use serde_json::Value as Json;

use crate::schema::resolve_references;

/// Replaces a secret.
pub const MASK: &str = "***";

/// Returns a copy of the value in which every secret is masked.
pub(crate) fn mask_secrets(root: &Json, schema: &Json, value: &Json) -> Json {
    let schema = resolve_references(root, schema);
    if schema["writeOnly"] == true && !value.is_null() {
        return MASK.into();
    }
    match value {
        Json::Object(fields) => {
            let field = |(name, value): (&String, &Json)| {
                let value = match find_property(root, schema, name) {
                    Some(schema) => mask_secrets(root, schema, value),
                    None => value.clone(),
                };
                (name.clone(), value)
            };
            Json::Object(fields.iter().map(field).collect())
        }
        Json::Array(items) => items
            .iter()
            .map(|item| mask_secrets(root, &schema["items"], item))
            .collect(),
        Json::String(text) => mask_password(text).into(),
        _ => value.clone(),
    }
}

/// Masks the password of a URL (RFC 3986, section 3.2.1). Texts that merely look like one, such as
/// the regular expressions of rules, stay as they are.
fn mask_password(text: &str) -> String {
    let parts = text.split_once("://").and_then(|(scheme, rest)| {
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, after) = rest.split_at_checked(end)?;
        // A password that isn't encoded may hold an `@` itself.
        let (user, host) = authority.rsplit_once('@')?;
        let (name, _) = user.split_once(':')?;
        Some(format!("{scheme}://{name}:{MASK}@{host}{after}"))
    });
    parts.unwrap_or_else(|| text.to_owned())
}

fn find_property<'s>(root: &'s Json, schema: &'s Json, name: &str) -> Option<&'s Json> {
    let schema = resolve_references(root, schema);
    if let Some(property) = schema["properties"].get(name) {
        return Some(property);
    }
    let additional = schema.get("additionalProperties");
    if let Some(property) = additional.filter(|schema| schema.is_object()) {
        return Some(property);
    }
    let choices = ["anyOf", "oneOf"]
        .iter()
        .filter_map(|keyword| schema[keyword].as_array());
    choices
        .flatten()
        .find_map(|choice| find_property(root, choice, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_in_urls_are_masked() {
        for (url, shown) in [
            ("http://u:p@h:1/a?b=c@d", "http://u:***@h:1/a?b=c@d"),
            ("http://u:p@ss@h/a", "http://u:***@h/a"),
            ("redis://:p@h", "redis://:***@h"),
            ("http://u@h/a", "http://u@h/a"),
            ("http://h/a:b@c", "http://h/a:b@c"),
            ("no url", "no url"),
        ] {
            assert_eq!(mask_password(url), shown);
        }
    }
}
