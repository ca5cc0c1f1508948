//! Walks a file's tree beside its JSON Schema: reports what doesn't fit and returns the JSON of
//! what does. Ours, and not a general validator, for the messages: each has one cause, one place
//! and one remedy. It knows the keywords that schemars writes for our types, and no others.

use std::path::Path;

use serde_json::{Map, Value as Json};

use super::nearest::nearest;
use super::pick;
use super::scalar::{expected, read, types, untyped, words};
use super::tree::{Entry, Node, Origin, Scalar, Value};
use crate::findings::{At, Findings};

/// A schema with what is needed to read a file by it.
pub(crate) struct Shape<'s> {
    /// The whole schema, in which references are looked up.
    pub(crate) root: &'s Json,
    /// What relative paths in the file are relative to.
    pub(crate) file_folder: &'s Path,
    /// What relative paths in environment variables are relative to.
    pub(crate) environment_folder: &'s Path,
}

impl Shape<'_> {
    /// The file as JSON, without the parts that don't fit: a setting with a mistake is left out, an
    /// item of a list is null. `None` if nothing of it fits.
    pub(crate) fn read(&self, node: &Node, findings: &mut Findings) -> Option<Json> {
        self.visit(self.root, node, &At::default(), findings)
    }

    pub(super) fn visit(
        &self,
        schema: &Json,
        node: &Node,
        at: &At,
        findings: &mut Findings,
    ) -> Option<Json> {
        let schema = self.resolve(schema);
        match &node.value {
            Value::Broken(wrong) => {
                findings.misshapen_at(node.mark, at, wrong.what.clone(), wrong.remedy.clone());
                None
            }
            _ if is_open(schema) => self.anything(node, at, findings),
            _ if pick::alternatives(schema).is_some() => {
                pick::visit(self, schema, node, at, findings)
            }
            Value::Map(entries) if allows(schema, "object") => {
                self.object(schema, entries, at, findings)
            }
            Value::List(items) if allows(schema, "array") => self.list(schema, items, at, findings),
            Value::Scalar(scalar) => self.scalar(schema, scalar, at, findings),
            Value::Map(_) => wrong_kind("a mapping", schema, at, findings),
            Value::List(_) => wrong_kind("a list", schema, at, findings),
        }
    }

    /// Follows the schema's references. Whoever writes one beside other keywords adds only notes.
    pub(super) fn resolve<'a>(&'a self, schema: &'a Json) -> &'a Json {
        const LONGEST_CHAIN: usize = 16;
        let mut schema = schema;
        for _ in 0..LONGEST_CHAIN {
            let target = schema["$ref"]
                .as_str()
                .and_then(|name| name.strip_prefix('#'));
            match target.and_then(|pointer| self.root.pointer(pointer)) {
                Some(next) => schema = next,
                None => break,
            }
        }
        schema
    }

    fn object(
        &self,
        schema: &Json,
        entries: &[Entry],
        at: &At,
        findings: &mut Findings,
    ) -> Option<Json> {
        let mut fields = Map::new();
        for (index, entry) in entries.iter().enumerate() {
            let before = entries[..index].iter().find(|old| old.key == entry.key);
            if let Some(before) = before {
                set_twice(before, entry, at, findings);
            } else if let Some(value) = self.field(schema, entries, entry, at, findings) {
                fields.insert(entry.key.clone(), value);
            }
        }
        let whole = self.has_required(schema, &fields, entries, at, findings);
        whole.then_some(Json::Object(fields))
    }

    fn field(
        &self,
        schema: &Json,
        entries: &[Entry],
        entry: &Entry,
        at: &At,
        findings: &mut Findings,
    ) -> Option<Json> {
        let below = at.field(&entry.key);
        let Some(property) = schema["properties"].get(&entry.key) else {
            return match &schema["additionalProperties"] {
                Json::Bool(false) => unknown_field(schema, entries, entry, at, findings),
                Json::Null | Json::Bool(true) => self.anything(&entry.node, &below, findings),
                other => self.visit(other, &entry.node, &below, findings),
            };
        };
        if self.is_left_empty(schema, property, entry) {
            return None;
        }
        self.visit(property, &entry.node, &below, findings)
    }

    /// `providers:` with all its lines commented out is as good as no `providers` at all.
    fn is_left_empty(&self, schema: &Json, property: &Json, entry: &Entry) -> bool {
        let property = self.resolve(property);
        let collection = allows(property, "object") || allows(property, "array");
        let null = matches!(&entry.node.value, Value::Scalar(scalar) if scalar.is_null());
        null && collection && !required(schema).any(|name| name == entry.key)
    }

    fn has_required(
        &self,
        schema: &Json,
        fields: &Map<String, Json>,
        entries: &[Entry],
        at: &At,
        findings: &mut Findings,
    ) -> bool {
        let mut whole = true;
        for name in required(schema).filter(|name| !fields.contains_key(*name)) {
            whole = false;
            let below = at.field(name);
            let written = entries.iter().any(|entry| entry.key == name);
            if !written && !findings.is_hushed(&below) {
                let property = self.resolve(&schema["properties"][name]);
                findings.misshapen(&below, "is missing", format!("add {}", expected(property)));
            }
        }
        whole
    }

    fn list(
        &self,
        schema: &Json,
        items: &[Node],
        at: &At,
        findings: &mut Findings,
    ) -> Option<Json> {
        let least = schema["minItems"].as_u64().unwrap_or(0);
        if (items.len() as u64) < least {
            findings.misshapen(at, "is empty", "add an item, or remove the line");
            return None;
        }
        let items = items.iter().enumerate().map(|(index, item)| {
            let value = self.visit(&schema["items"], item, &at.item(index), findings);
            value.unwrap_or(Json::Null)
        });
        Some(Json::Array(items.collect()))
    }

    fn scalar(
        &self,
        schema: &Json,
        scalar: &Scalar,
        at: &At,
        findings: &mut Findings,
    ) -> Option<Json> {
        if !takes_text(schema, scalar) {
            return wrong_kind("a single value", schema, at, findings);
        }
        let folder = match scalar.origin {
            Origin::Environment => self.environment_folder,
            _ => self.file_folder,
        };
        match read(schema, scalar, folder) {
            Ok(value) => Some(value),
            Err(wrong) => {
                let secret = schema["writeOnly"] == true || scalar.is_null();
                let shown = if secret {
                    String::new()
                } else {
                    scalar.shown() + " "
                };
                findings.misshapen(at, format!("{shown}{}", wrong.what), wrong.remedy);
                None
            }
        }
    }

    /// A part of the file that no schema describes.
    fn anything(&self, node: &Node, at: &At, findings: &mut Findings) -> Option<Json> {
        let anything = Json::Bool(true);
        match &node.value {
            Value::Broken(_) => self.visit(&anything, node, at, findings),
            Value::Scalar(scalar) => Some(untyped(scalar)),
            Value::List(items) => self.list(&Json::Null, items, at, findings),
            Value::Map(entries) => self.object(&Json::Null, entries, at, findings),
        }
    }
}

/// Whether the schema has the type among its own.
pub(super) fn allows(schema: &Json, kind: &str) -> bool {
    types(schema).any(|name| name == kind)
}

fn takes_text(schema: &Json, scalar: &Scalar) -> bool {
    let fits = |name: &str| match name {
        "object" | "array" => false,
        "null" => scalar.is_null(),
        _ => true,
    };
    words(schema).is_some() || types(schema).any(fits)
}

/// Whether the schema says nothing about the value.
fn is_open(schema: &Json) -> bool {
    const TELLING: [&str; 6] = ["type", "enum", "const", "oneOf", "anyOf", "$ref"];
    TELLING.iter().all(|keyword| schema.get(keyword).is_none())
}

fn required(schema: &Json) -> impl Iterator<Item = &str> {
    let names = schema["required"].as_array().into_iter().flatten();
    names.filter_map(Json::as_str)
}

fn wrong_kind(found: &str, schema: &Json, at: &At, findings: &mut Findings) -> Option<Json> {
    let remedy = format!("write {}", expected(schema));
    findings.misshapen(at, format!("{found} can't stand here"), remedy);
    None
}

fn set_twice(before: &Entry, entry: &Entry, at: &At, findings: &mut Findings) {
    let what = format!("is set a second time; first on line {}", before.mark.line);
    let remedy = "remove one of the two".to_owned();
    findings.misshapen_at(entry.mark, &at.field(&entry.key), what, remedy);
}

fn unknown_field(
    schema: &Json,
    entries: &[Entry],
    entry: &Entry,
    at: &At,
    findings: &mut Findings,
) -> Option<Json> {
    let known = schema["properties"]
        .as_object()
        .into_iter()
        .flat_map(Map::keys);
    let known: Vec<&str> = known.map(String::as_str).collect();
    let remedy = match nearest(&entry.key, known.iter().copied()) {
        _ if entry.key == "<<" => "merge keys are not known here; write the fields out".to_owned(),
        None => format!("known here: {}", known.join(", ")),
        Some(meant) => {
            if !entries.iter().any(|other| other.key == meant) {
                findings.hush(at.field(meant));
            }
            format!("did you mean `{meant}`?")
        }
    };
    let below = at.field(&entry.key);
    findings.misshapen_at(entry.mark, &below, "unknown field".to_owned(), remedy);
    None
}
