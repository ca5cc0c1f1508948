//! Walks a file's tree beside its JSON Schema: reports everything that doesn't fit and returns the
//! JSON of everything that does. It is no general validator, for the sake of its messages: each has
//! one cause, one position and one remedy. It knows only the keywords that schemars writes for this
//! crate's types.

use std::collections::HashMap;
use std::path::Path;

use llm_router_yaml::{Entry, Node, Origin, Scalar, Value, nearest};
use serde_json::{Map, Value as Json};

use super::alternatives;
use super::scalar::{choice_words, describe, quote, read, read_untyped, types};
use crate::diagnostics::Diagnostics;
use crate::path::ConfigPath;

/// Reads a file by a schema.
pub(crate) struct SchemaReader<'s> {
    /// The whole schema, in which references are looked up.
    pub(crate) root: &'s Json,
    /// The folder that relative paths in the file are relative to.
    pub(crate) file_folder: &'s Path,
    /// The folder that relative paths in environment variables are relative to.
    pub(crate) environment_folder: &'s Path,
}

/// Follows the schema's references. Keywords beside a reference are annotations only.
pub(crate) fn resolve_references<'s>(root: &'s Json, schema: &'s Json) -> &'s Json {
    const LONGEST_CHAIN: usize = 16;
    let mut schema = schema;
    for _ in 0..LONGEST_CHAIN {
        let pointer = schema["$ref"]
            .as_str()
            .and_then(|name| name.strip_prefix('#'));
        match pointer.and_then(|pointer| root.pointer(pointer)) {
            Some(target) => schema = target,
            None => break,
        }
    }
    schema
}

impl SchemaReader<'_> {
    /// Returns the file as JSON without the parts that don't fit: a setting with a mistake is left
    /// out, an item of a list is null. `None` if nothing of it fits.
    pub(crate) fn read(&self, node: &Node, diagnostics: &mut Diagnostics) -> Option<Json> {
        self.visit(self.root, node, &ConfigPath::default(), diagnostics)
    }

    pub(super) fn visit(
        &self,
        schema: &Json,
        node: &Node,
        at: &ConfigPath,
        diagnostics: &mut Diagnostics,
    ) -> Option<Json> {
        let schema = self.resolve(schema);
        match &node.value {
            Value::Broken(error) => {
                let (problem, remedy) = (error.problem.as_str(), error.remedy.as_str());
                diagnostics.shape_error_at(node.mark, at, problem, remedy);
                None
            }
            _ if is_unconstrained(schema) => self.anything(node, at, diagnostics),
            _ if alternatives::alternatives(schema).is_some() => {
                alternatives::read(self, schema, node, at, diagnostics)
            }
            Value::Map(entries) if allows(schema, "object") => {
                self.object(schema, entries, at, diagnostics)
            }
            Value::List(items) if allows(schema, "array") => {
                self.list(schema, items, at, diagnostics)
            }
            Value::Scalar(scalar) if allows_scalar(schema, scalar) => {
                self.scalar(schema, scalar, at, diagnostics)
            }
            Value::Scalar(_) => report_kind("a single value", schema, at, diagnostics),
            Value::Map(_) | Value::List(_) => report_kind(node.kind(), schema, at, diagnostics),
        }
    }

    pub(super) fn resolve<'a>(&'a self, schema: &'a Json) -> &'a Json {
        resolve_references(self.root, schema)
    }

    fn object(
        &self,
        schema: &Json,
        entries: &[Entry],
        at: &ConfigPath,
        diagnostics: &mut Diagnostics,
    ) -> Option<Json> {
        let mut fields = Map::new();
        let mut seen: HashMap<&str, &Entry> = HashMap::with_capacity(entries.len());
        for entry in entries {
            if let Some(first) = seen.get(entry.key.as_str()) {
                report_duplicate(first, entry, at, diagnostics);
                continue;
            }
            seen.insert(entry.key.as_str(), entry);
            if let Some(value) = self.field(schema, entries, entry, at, diagnostics) {
                fields.insert(entry.key.clone(), value);
            }
        }
        let complete = self.check_required(schema, &fields, entries, at, diagnostics);
        complete.then_some(Json::Object(fields))
    }

    fn field(
        &self,
        schema: &Json,
        entries: &[Entry],
        entry: &Entry,
        at: &ConfigPath,
        diagnostics: &mut Diagnostics,
    ) -> Option<Json> {
        let below = at.field(&entry.key);
        let Some(property) = schema["properties"].get(&entry.key) else {
            return match &schema["additionalProperties"] {
                Json::Bool(false) => report_unknown(schema, entries, entry, at, diagnostics),
                Json::Null | Json::Bool(true) => self.anything(&entry.node, &below, diagnostics),
                other => self.visit(other, &entry.node, &below, diagnostics),
            };
        };
        if self.is_empty_section(schema, property, entry) {
            return None;
        }
        self.visit(property, &entry.node, &below, diagnostics)
    }

    /// Returns true for a section of which all lines are commented out. It counts as absent.
    fn is_empty_section(&self, schema: &Json, property: &Json, entry: &Entry) -> bool {
        let property = self.resolve(property);
        let collection = allows(property, "object") || allows(property, "array");
        let null = entry.node.is_null();
        null && collection && !required_fields(schema).any(|name| name == entry.key)
    }

    /// Reports missing fields; true if there are none.
    fn check_required(
        &self,
        schema: &Json,
        fields: &Map<String, Json>,
        entries: &[Entry],
        at: &ConfigPath,
        diagnostics: &mut Diagnostics,
    ) -> bool {
        let mut complete = true;
        for name in required_fields(schema).filter(|name| !fields.contains_key(*name)) {
            complete = false;
            let below = at.field(name);
            let is_present = entries.iter().any(|entry| entry.key == name);
            if !is_present && !diagnostics.is_suppressed(&below) {
                let property = self.resolve(&schema["properties"][name]);
                let remedy = format!("add {}", describe(property));
                diagnostics.shape_error(&below, "is missing", remedy);
            }
        }
        complete
    }

    fn list(
        &self,
        schema: &Json,
        items: &[Node],
        at: &ConfigPath,
        diagnostics: &mut Diagnostics,
    ) -> Option<Json> {
        let least = schema["minItems"].as_u64().unwrap_or(0);
        if (items.len() as u64) < least {
            diagnostics.shape_error(at, "is empty", "add an item, or remove the line");
            return None;
        }
        let items = items.iter().enumerate().map(|(index, item)| {
            let value = self.visit(&schema["items"], item, &at.item(index), diagnostics);
            value.unwrap_or(Json::Null)
        });
        Some(Json::Array(items.collect()))
    }

    fn scalar(
        &self,
        schema: &Json,
        scalar: &Scalar,
        at: &ConfigPath,
        diagnostics: &mut Diagnostics,
    ) -> Option<Json> {
        let folder = match scalar.origin {
            Origin::Environment => self.environment_folder,
            _ => self.file_folder,
        };
        match read(schema, scalar, folder) {
            Ok(value) => Some(value),
            Err(error) => {
                let secret = schema["writeOnly"] == true || scalar.is_null();
                let quoted = if secret {
                    String::new()
                } else {
                    quote(scalar) + " "
                };
                let problem = format!("{quoted}{}", error.problem);
                diagnostics.shape_error(at, problem, error.remedy);
                None
            }
        }
    }

    /// Reads a part of the file that no schema describes.
    fn anything(
        &self,
        node: &Node,
        at: &ConfigPath,
        diagnostics: &mut Diagnostics,
    ) -> Option<Json> {
        let anything = Json::Bool(true);
        match &node.value {
            Value::Broken(_) => self.visit(&anything, node, at, diagnostics),
            Value::Scalar(scalar) => Some(read_untyped(scalar)),
            Value::List(items) => self.list(&Json::Null, items, at, diagnostics),
            Value::Map(entries) => self.object(&Json::Null, entries, at, diagnostics),
        }
    }
}

/// Returns true if the schema has the type among its own.
pub(super) fn allows(schema: &Json, kind: &str) -> bool {
    types(schema).any(|name| name == kind)
}

fn allows_scalar(schema: &Json, scalar: &Scalar) -> bool {
    let fits = |name: &str| match name {
        "object" | "array" => false,
        "null" => scalar.is_null(),
        _ => true,
    };
    choice_words(schema).is_some() || types(schema).any(fits)
}

/// Returns true if the schema allows any value.
fn is_unconstrained(schema: &Json) -> bool {
    const CONSTRAINTS: [&str; 6] = ["type", "enum", "const", "oneOf", "anyOf", "$ref"];
    CONSTRAINTS
        .iter()
        .all(|keyword| schema.get(keyword).is_none())
}

fn required_fields(schema: &Json) -> impl Iterator<Item = &str> {
    let names = schema["required"].as_array().into_iter().flatten();
    names.filter_map(Json::as_str)
}

fn report_kind(
    kind: &str,
    schema: &Json,
    at: &ConfigPath,
    diagnostics: &mut Diagnostics,
) -> Option<Json> {
    let remedy = format!("write {}", describe(schema));
    diagnostics.shape_error(at, format!("{kind} is not allowed here"), remedy);
    None
}

fn report_duplicate(first: &Entry, entry: &Entry, at: &ConfigPath, diagnostics: &mut Diagnostics) {
    let problem = format!("is set twice; the first time on line {}", first.mark.line);
    let at = at.field(&entry.key);
    diagnostics.shape_error_at(entry.mark, &at, problem, "remove one of them");
}

fn report_unknown(
    schema: &Json,
    entries: &[Entry],
    entry: &Entry,
    at: &ConfigPath,
    diagnostics: &mut Diagnostics,
) -> Option<Json> {
    let properties = schema["properties"].as_object();
    let known = properties.into_iter().flat_map(Map::keys);
    let known: Vec<&str> = known.map(String::as_str).collect();
    let remedy = match nearest(&entry.key, known.iter().copied()) {
        _ if entry.key == "<<" => "merge keys are not supported; write the fields out".to_owned(),
        None => format!("known fields: {}", known.join(", ")),
        Some(meant) => {
            if !entries.iter().any(|other| other.key == meant) {
                diagnostics.suppress(at.field(meant));
            }
            format!("did you mean `{meant}`?")
        }
    };
    let at = at.field(&entry.key);
    diagnostics.shape_error_at(entry.mark, &at, "unknown field", remedy);
    None
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;
    use crate::environment::Environment;
    use crate::substitute::parse;

    /// Keywords that the walk enforces.
    const ENFORCED: [&str; 15] = [
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
    /// Keywords that are annotations. A pattern is for editors: its type checks the text too.
    const ANNOTATIONS: [&str; 9] = [
        "$schema",
        "default",
        "description",
        "examples",
        "pattern",
        "title",
        "type",
        "writeOnly",
        "x-needs-restart",
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
    fn the_schema_has_no_keyword_that_the_walk_ignores() {
        let schema = crate::schema();
        let mut count = 0;
        each_schema(&schema, &mut |keywords| {
            count += 1;
            for keyword in keywords.keys().map(String::as_str) {
                assert!(
                    ENFORCED.contains(&keyword) || ANNOTATIONS.contains(&keyword),
                    "{keyword}"
                );
                let beside = keywords.contains_key("$ref") && keyword != "$ref";
                assert!(
                    !beside || ANNOTATIONS.contains(&keyword),
                    "{keyword} beside $ref"
                );
            }
            if let Some(format) = keywords.get("format").and_then(Json::as_str) {
                let numeric = format.starts_with("uint") || format.starts_with("int");
                let known = crate::scalar::find_format(format).is_some();
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
        let node = Rc::new(parse(text, &environment).unwrap());
        let mut diagnostics = Diagnostics::new("f");
        diagnostics.set_tree(Rc::clone(&node));
        let folder = Path::new("");
        let reader = SchemaReader {
            root: &schema,
            file_folder: folder,
            environment_folder: folder,
        };
        let json = reader.read(&node, &mut diagnostics);
        let problems = diagnostics.into_problems();
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
            Err(&["f:3: all[1].name: `1` is not a string in YAML; put it in quotes"]),
        );
        check(
            "leaf: 300",
            Err(&["f:1: leaf: `300` is out of range; write a number from 0 to 255"]),
        );
        check(
            "leaf: [[]]",
            Err(&["f:1: leaf[0]: a list is not allowed here; write a value"]),
        );
        check(
            "leaf: { txt: a }",
            Err(&["f:1: leaf.txt: unknown field; did you mean `text`?"]),
        );
    }
}
