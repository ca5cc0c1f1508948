//! A configuration as it may be shown: as it was read, without its secrets. Which settings are
//! secret the schema says.

use serde_json::Value as Json;

/// What stands in a secret's place.
pub const MASK: &str = "***";

/// The value with every secret in it masked.
pub(crate) fn masked(root: &Json, schema: &Json, value: &Json) -> Json {
    let schema = resolved(root, schema);
    if schema["writeOnly"] == true && !value.is_null() {
        return MASK.into();
    }
    match value {
        Json::Object(fields) => {
            let field = |(name, value): (&String, &Json)| {
                let value = match property(root, schema, name) {
                    Some(schema) => masked(root, schema, value),
                    None => value.clone(),
                };
                (name.clone(), value)
            };
            Json::Object(fields.iter().map(field).collect())
        }
        Json::Array(items) => items
            .iter()
            .map(|item| masked(root, &schema["items"], item))
            .collect(),
        Json::String(text) => without_password(text).into(),
        _ => value.clone(),
    }
}

fn property<'s>(root: &'s Json, schema: &'s Json, name: &str) -> Option<&'s Json> {
    let schema = resolved(root, schema);
    if let Some(found) = schema["properties"].get(name) {
        return Some(found);
    }
    if let Some(found) = schema
        .get("additionalProperties")
        .filter(|of| of.is_object())
    {
        return Some(found);
    }
    let choices = ["anyOf", "oneOf"]
        .iter()
        .filter_map(|word| schema[word].as_array());
    choices
        .flatten()
        .find_map(|choice| property(root, choice, name))
}

fn resolved<'s>(root: &'s Json, schema: &'s Json) -> &'s Json {
    const LONGEST_CHAIN: usize = 16;
    let mut schema = schema;
    for _ in 0..LONGEST_CHAIN {
        let pointer = schema["$ref"]
            .as_str()
            .and_then(|name| name.strip_prefix('#'));
        match pointer.and_then(|pointer| root.pointer(pointer)) {
            Some(next) => schema = next,
            None => break,
        }
    }
    schema
}

/// A URL without the password in it (RFC 3986, section 3.2.1).
fn without_password(text: &str) -> String {
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
            assert_eq!(without_password(url), shown);
        }
    }
}
