//! Walks over the schemas inside of a JSON Schema. It must not judge them.

use crate::translate::json::{Json, Object};

/// The deepest nesting that is looked into; no model follows a deeper one.
const DEEPEST: usize = 64;

/// Keywords whose value is a schema, or a list of schemas.
const SCHEMAS: [&str; 11] = [
    "items",
    "prefixItems",
    "additionalProperties",
    "contains",
    "not",
    "if",
    "then",
    "else",
    "anyOf",
    "oneOf",
    "allOf",
];

/// Keywords whose value holds schemas by name.
const SCHEMAS_BY_NAME: [&str; 5] = [
    "properties",
    "patternProperties",
    "dependentSchemas",
    "$defs",
    "definitions",
];

/// Calls `change` for a schema and those inside of it, outermost first; `change` returns true if it
/// changed its schema. Returns true if any did. What is unchanged keeps its bytes.
pub(super) fn each_schema<'a>(
    schema: &mut Json<'a>,
    change: &mut impl FnMut(&mut Object<'a>) -> bool,
) -> bool {
    walk(schema, DEEPEST, change)
}

fn walk<'a>(
    schema: &mut Json<'a>,
    depth: usize,
    change: &mut impl FnMut(&mut Object<'a>) -> bool,
) -> bool {
    if depth == 0 {
        return false;
    }
    match schema {
        Json::Object(object) => walk_object(object, depth, change),
        Json::Opaque(raw) => {
            let Some(mut object) = Json::Opaque(raw).into_object() else {
                return false;
            };
            let changed = walk_object(&mut object, depth, change);
            if changed {
                *schema = Json::Object(object);
            }
            changed
        }
        Json::Array(schemas) => {
            let mut changed = false;
            for schema in schemas {
                changed |= walk(schema, depth - 1, change);
            }
            changed
        }
        _ => false,
    }
}

fn walk_object<'a>(
    object: &mut Object<'a>,
    depth: usize,
    change: &mut impl FnMut(&mut Object<'a>) -> bool,
) -> bool {
    let mut changed = change(object);
    for (key, value) in &mut object.0 {
        if SCHEMAS.contains(&key.as_ref()) {
            changed |= walk(value, depth - 1, change);
        } else if SCHEMAS_BY_NAME.contains(&key.as_ref())
            && let Json::Object(named) = value
        {
            for (_, schema) in &mut named.0 {
                changed |= walk(schema, depth - 1, change);
            }
        }
    }
    changed
}

/// Returns true if `kind` is a schema's type, or one of its types.
pub(super) fn has_type(schema: &Object<'_>, kind: &str) -> bool {
    let is = |found: &Json<'_>| found.as_str() == Some(kind);
    match schema.get("type") {
        Some(Json::Array(kinds)) => kinds.iter().any(is),
        found => found.is_some_and(is),
    }
}

/// Returns true if a schema is one of objects that forbid fields it doesn't name.
pub(super) fn is_closed(schema: &Object<'_>) -> bool {
    let more = schema.get("additionalProperties");
    more.and_then(Json::as_bool) == Some(false)
}
