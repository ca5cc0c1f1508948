//! Fits the schema of the answer to what Anthropic compiles: closed objects and few keywords. What
//! it doesn't take moves into descriptions, as Anthropic's own SDK does, so that the model may still
//! keep to it.

use super::schema_walk::{each_schema, has_type, is_closed};
use super::tool_schema::describe;
use crate::translate::json::{Json, Object};
use crate::translate::neutral::OutputShape;
use crate::translate::policy::{Feature, Losses};

/// Keywords that stay (Claude, "Structured outputs"; `transform_schema` of the SDK).
const TAKEN: [&str; 16] = [
    "type",
    "properties",
    "required",
    "additionalProperties",
    "items",
    "anyOf",
    "allOf",
    "enum",
    "const",
    "default",
    "title",
    "description",
    "$ref",
    "$defs",
    "definitions",
    "format",
];

/// Keywords that say nothing about the answer.
const IGNORED: [&str; 4] = ["$schema", "$id", "$comment", "$anchor"];

/// Formats of strings that stay.
const FORMATS: [&str; 10] = [
    "date-time",
    "time",
    "date",
    "duration",
    "email",
    "hostname",
    "uri",
    "ipv4",
    "ipv6",
    "uuid",
];

/// Fits the schema of the answer, if the request has one.
pub(super) fn fit(output: &mut OutputShape<'_>, losses: &mut Losses) {
    let OutputShape::Schema { schema, .. } = output else {
        return;
    };
    let mut lost = Vec::new();
    each_schema(schema, &mut |object| fit_object(object, &mut lost));
    for keyword in lost {
        let name = format!("{}.{keyword}", losses.name(Feature::JsonSchema));
        let limit = "an output schema without this keyword";
        losses.report_beyond(Feature::JsonSchema, &name, limit);
    }
}

/// Returns true if a schema has a keyword that Anthropic doesn't compile.
pub(super) fn has_refused_keyword(schema: &Object<'_>) -> bool {
    let ignored = |key: &str| IGNORED.contains(&key) || key == "examples" || key == "oneOf";
    let mut fields = schema.0.iter();
    fields.any(|(key, value)| !ignored(key) && !is_taken(key, value))
}

fn is_taken(key: &str, value: &Json<'_>) -> bool {
    match key {
        "minItems" => matches!(value.as_u64(), Some(0 | 1)),
        "format" => value
            .as_str()
            .is_none_or(|format| FORMATS.contains(&format)),
        _ => TAKEN.contains(&key),
    }
}

fn fit_object(schema: &mut Object<'_>, lost: &mut Vec<String>) -> bool {
    let is_object = has_type(schema, "object") || schema.has("properties");
    let closes = is_object && !is_closed(schema);
    let has_alternatives = schema.has("anyOf");
    let mut removed = Vec::new();
    let mut changed = closes;
    schema.0.retain_mut(|(key, value)| {
        if IGNORED.contains(&key.as_ref()) {
            changed = true;
            return false;
        }
        if key == "oneOf" && !has_alternatives {
            *key = "anyOf".into();
            changed = true;
        }
        let opens = key == "additionalProperties" && closes;
        if is_taken(key, value) && !opens {
            return true;
        }
        // Open objects are what JSON Schema has where nothing is said.
        if !(opens && value.as_bool() == Some(true)) {
            removed.push((key.to_string(), value.to_text().into_owned()));
        }
        changed = true;
        false
    });
    if !removed.is_empty() {
        lost.extend(removed.iter().map(|(key, _)| key.clone()));
        let description = describe(schema.str("description"), &removed);
        schema.remove("description");
        let description = Json::String(description.into());
        schema.0.push(("description".into(), description));
    }
    if closes {
        let closed = ("additionalProperties".into(), Json::Bool(false));
        schema.0.push(closed);
    }
    changed
}
