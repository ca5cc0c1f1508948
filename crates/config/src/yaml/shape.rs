//! Walks a file's tree beside its JSON Schema: reports what doesn't fit and returns the JSON of
//! what does. Ours, and not a general validator, for the messages: each has one cause, one place
//! and one remedy. It knows the keywords that schemars writes for our types, and no others.

use std::collections::HashMap;
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
        let mut written: HashMap<&str, &Entry> = HashMap::with_capacity(entries.len());
        for entry in entries {
            if let Some(before) = written.get(entry.key.as_str()) {
                set_twice(before, entry, at, findings);
                continue;
            }
            written.insert(entry.key.as_str(), entry);
            if let Some(value) = self.field(schema, entries, entry, at, findings) {
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
        let null = entry.node.is_null();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;
    use crate::yaml::parse;

    /// Keywords that the walk obeys.
    const OBEYED: [&str; 15] = [
        "$defs",
        "$ref",
        "additionalProperties",
        "anyOf",
        "const",
        "enum",
        "format",
        "items",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "oneOf",
        "properties",
        "required",
    ];
    /// Keywords that say nothing about what fits. A pattern is for editors: whoever sets one checks
    /// the text too.
    const NOTES: [&str; 8] = [
        "$schema",
        "default",
        "description",
        "examples",
        "pattern",
        "title",
        "type",
        "writeOnly",
    ];

    fn each_schema<'s>(schema: &'s Json, visit: &mut impl FnMut(&'s Map<String, Json>)) {
        let Some(keywords) = schema.as_object() else {
            return;
        };
        visit(keywords);
        for (keyword, value) in keywords {
            match (keyword.as_str(), value) {
                ("$defs" | "properties", Json::Object(named)) => {
                    named.values().for_each(|one| each_schema(one, visit));
                }
                ("anyOf" | "oneOf", Json::Array(all)) => {
                    all.iter().for_each(|one| each_schema(one, visit));
                }
                ("items" | "additionalProperties", one) => each_schema(one, visit),
                _ => {}
            }
        }
    }

    #[test]
    fn the_schema_has_no_keyword_that_the_walk_would_miss() {
        let schema = crate::config::schema();
        let mut count = 0;
        each_schema(&schema, &mut |keywords| {
            count += 1;
            for keyword in keywords.keys().map(String::as_str) {
                assert!(
                    OBEYED.contains(&keyword) || NOTES.contains(&keyword),
                    "{keyword}"
                );
                let beside = keywords.contains_key("$ref") && keyword != "$ref";
                assert!(!beside || NOTES.contains(&keyword), "{keyword} beside $ref");
            }
            if let Some(format) = keywords.get("format").and_then(Json::as_str) {
                let numeric = format.starts_with("uint") || format.starts_with("int");
                let known = crate::scalar::format(format).is_some();
                assert!(known || numeric || format == "double", "{format}");
            }
        });
        assert!(count > 80, "{count}");
    }

    #[derive(schemars::JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its schema is of use")]
    struct Tree {
        name: Option<String>,
        score: Option<f64>,
        all: Option<Vec<Tree>>,
        not: Option<Box<Tree>>,
        leaf: Option<Leaf>,
        set: Option<std::collections::BTreeMap<String, Json>>,
    }

    #[derive(schemars::JsonSchema)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "only its schema is of use")]
    enum Leaf {
        Count(u8),
        Short(Vec<String>),
        Long(Long),
    }

    #[derive(schemars::JsonSchema)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only its schema is of use")]
    struct Long {
        text: String,
    }

    #[track_caller]
    fn check(text: &str, expected: Result<Json, &[&str]>) {
        let schema = schemars::schema_for!(Tree).to_value();
        let none: [(&str, &str); 0] = [];
        let environment = Environment::new(none);
        let node = parse(text, &environment).unwrap();
        let mut findings = Findings::new("f");
        findings.locate(&node);
        let folder = Path::new("");
        let shape = Shape {
            root: &schema,
            file_folder: folder,
            environment_folder: folder,
        };
        let json = shape.read(&node, &mut findings);
        let problems = findings.into_problems();
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        match expected {
            Ok(expected) => assert_eq!((json, problems), (Some(expected), vec![])),
            Err(expected) => assert_eq!(problems, expected),
        }
    }

    #[test]
    fn trees_and_choices_are_walked() {
        use serde_json::json;
        check(
            "all: [{ not: { name: a } }, {}]",
            Ok(json!({"all": [{"not": {"name": "a"}}, {}]})),
        );
        check("{ leaf: 3, score: 1 }", Ok(json!({"leaf": 3, "score": 1})));
        check("leaf: [a, 'b']", Ok(json!({"leaf": ["a", "b"]})));
        check("leaf: { text: a }", Ok(json!({"leaf": {"text": "a"}})));
        check(
            "set: { a: 1, b: [~, x] }",
            Ok(json!({"set": {"a": 1, "b": [null, "x"]}})),
        );
        check(
            "not:\n  not: { nmae: x }",
            Err(&["f:2: not.not.nmae: unknown field; did you mean `name`?"]),
        );
        check(
            "all:\n- {}\n- name: 1",
            Err(&["f:3: all[1].name: `1` is not text for YAML; put it in quotes"]),
        );
        check(
            "leaf: 300",
            Err(&["f:1: leaf: `300` is out of range; write a number from 0 to 255"]),
        );
        check(
            "leaf: [[]]",
            Err(&["f:1: leaf[0]: a list can't stand here; write a value"]),
        );
        check(
            "leaf: { txt: a }",
            Err(&["f:1: leaf.txt: unknown field; did you mean `text`?"]),
        );
    }
}
