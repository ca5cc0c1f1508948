//! Walks over the schemas inside of a JSON Schema, parsed or as text. It must not change them.

use memchr::memchr2;

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

/// Returns true if an array inside of a schema doesn't say what it holds. It is one pass over the
/// text, for most schemas need no change and aren't parsed. May be true where keys have escapes.
pub(super) fn lacks_items(schema: &[u8]) -> bool {
    let mut open: Vec<Open<'_>> = Vec::new();
    let mut at = 0;
    while let Some(&byte) = schema.get(at) {
        at += 1;
        match byte {
            b'{' | b'[' => {
                let place = open
                    .last()
                    .map_or(SchemaPosition::Schema, |parent| parent.position_below(byte));
                open.push(Open::new(place));
            }
            b'}' | b']' => {
                let closed = open.pop();
                if closed.is_some_and(|closed| closed.lacks_items()) {
                    return true;
                }
            }
            b',' => {
                if let Some(parent) = open.last_mut() {
                    parent.key = None;
                }
            }
            b'"' => {
                let end = string_end(schema, at);
                let text = schema.get(at..end).unwrap_or_default();
                at = end + 1;
                take_string(&mut open, text);
            }
            // A null is as good as nothing.
            b'n' if open.last().is_some_and(Open::is_items_key) => {
                if let Some(parent) = open.last_mut() {
                    parent.says = false;
                }
            }
            _ => {}
        }
    }
    false
}

/// Position of an object or a list in a schema.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SchemaPosition {
    Schema,
    /// Schemas by name, or a list of them.
    Schemas,
    /// The types of a schema.
    Types,
    Other,
}

/// An object or a list whose end is still to come.
struct Open<'t> {
    place: SchemaPosition,
    key: Option<&'t [u8]>,
    array: bool,
    /// Says what the array holds.
    says: bool,
}

impl<'t> Open<'t> {
    const fn new(place: SchemaPosition) -> Self {
        Self {
            place,
            key: None,
            array: false,
            says: false,
        }
    }

    const fn lacks_items(&self) -> bool {
        self.array && !self.says
    }

    fn is_items_key(&self) -> bool {
        self.place == SchemaPosition::Schema && matches!(self.key, Some(b"items" | b"prefixItems"))
    }

    /// The place of what opens below with `byte`.
    fn position_below(&self, byte: u8) -> SchemaPosition {
        let is = |keys: &[&str]| {
            let named = |key: &[u8]| keys.iter().any(|name| name.as_bytes() == key);
            self.key.is_some_and(named)
        };
        match (self.place, byte) {
            (SchemaPosition::Schemas, b'{') => SchemaPosition::Schema,
            (SchemaPosition::Schema, b'{') if is(&SCHEMAS) => SchemaPosition::Schema,
            (SchemaPosition::Schema, b'[') if is(&SCHEMAS) => SchemaPosition::Schemas,
            (SchemaPosition::Schema, b'{') if is(&SCHEMAS_BY_NAME) => SchemaPosition::Schemas,
            (SchemaPosition::Schema, b'[') if is(&["type"]) => SchemaPosition::Types,
            _ => SchemaPosition::Other,
        }
    }
}

/// Takes a string: a key where none is open, else a value. In a list it is taken as a key, which
/// doesn't matter there.
fn take_string<'t>(open: &mut [Open<'t>], text: &'t [u8]) {
    match open {
        [.., schema, types] if types.place == SchemaPosition::Types => {
            schema.array |= text == b"array"
        }
        [.., parent] if parent.key.is_none() => {
            parent.key = Some(text);
            parent.says |= parent.is_items_key();
        }
        [.., schema] if schema.place == SchemaPosition::Schema && schema.key == Some(b"type") => {
            schema.array |= text == b"array";
        }
        _ => {}
    }
}

/// The offset of the quote that ends the string whose content begins at `from`.
fn string_end(text: &[u8], mut from: usize) -> usize {
    loop {
        let rest = text.get(from..).unwrap_or_default();
        match memchr2(b'"', b'\\', rest) {
            Some(found) if rest.get(found) == Some(&b'"') => return from + found,
            Some(found) => from += found + 2,
            None => return text.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_without_items_are_found() {
        for (schema, expected) in [
            (r#"{"type":"array"}"#, true),
            (r#"{ "type" : "array" , "items" : {} }"#, false),
            (r#"{"items":true,"type":["null","array"]}"#, false),
            (r#"{"type":["array"],"items":null}"#, true),
            (r#"{"type":"array","prefixItems":[{}]}"#, false),
            (r#"{"properties":{"items":{"type":"array"}}}"#, true),
            (r#"{"type":"array","items":{"type":"array"}}"#, true),
            (
                r#"{"properties":{"type":{"type":"array","items":{}}}}"#,
                false,
            ),
            (r#"{"properties":{"array":{"type":"string"}}}"#, false),
            (
                r#"{"enum":["array",{"type":"array"}],"default":{"type":"array"}}"#,
                false,
            ),
            (r#"{"description":"a \"type\":\"array\" {"}"#, false),
            (r#"{"anyOf":[{"type":"null"},{"type":"array"}]}"#, true),
            (r#"{"$defs":{"a":{"not":{"type":"array"}}}}"#, true),
            (r#"{"additionalProperties":{"type":"array"}}"#, true),
            (
                r#"{"additionalProperties":false,"minItems":1,"type":"object"}"#,
                false,
            ),
            ("{", false),
            (r#"{"type":"arr"#, false),
        ] {
            assert_eq!(lacks_items(schema.as_bytes()), expected, "{schema}");
        }
    }
}
