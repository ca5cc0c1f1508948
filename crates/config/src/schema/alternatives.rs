//! Chooses among the alternatives of a schema's `anyOf` or `oneOf` the one that a value was
//! probably meant for, so that its mistakes are reported and not those of all the others.

use llm_router_yaml::{Node, Value};
use serde_json::Value as Json;

use super::scalar::{choice_words, describe};
use super::walk::{SchemaReader, allows};
use crate::diagnostics::Diagnostics;
use crate::path::ConfigPath;

/// Returns the alternatives, unless they are merely words to choose from.
pub(super) fn alternatives(schema: &Json) -> Option<&[Json]> {
    let alternatives = schema["anyOf"].as_array().or(schema["oneOf"].as_array())?;
    choice_words(schema).is_none().then_some(alternatives)
}

/// Reads the value by the first alternative that it fits, else by the likeliest.
pub(super) fn read(
    reader: &SchemaReader<'_>,
    schema: &Json,
    node: &Node,
    at: &ConfigPath,
    diagnostics: &mut Diagnostics,
) -> Option<Json> {
    let mut all = Vec::new();
    collect(reader, schema, 0, &mut all);
    let fitting: Vec<&Json> = (all.iter().copied())
        .filter(|one| accepts_kind(one, node))
        .collect();
    let mut best: Option<(usize, Option<Json>, Diagnostics)> = None;
    for one in fitting {
        let mut fork = diagnostics.fork();
        let value = reader.visit(one, node, at, &mut fork);
        if !fork.has_errors() {
            diagnostics.merge(fork);
            return value;
        }
        let shared = count_known_fields(one, node);
        if best.as_ref().is_none_or(|(most, ..)| shared > *most) {
            best = Some((shared, value, fork));
        }
    }
    match best {
        Some((_, value, fork)) => {
            diagnostics.merge(fork);
            value
        }
        None => no_alternative(&all, node, at, diagnostics),
    }
}

/// Collects the alternatives, those of alternatives included.
fn collect<'a>(
    reader: &'a SchemaReader<'_>,
    schema: &'a Json,
    depth: usize,
    into: &mut Vec<&'a Json>,
) {
    const DEEPEST: usize = 8;
    let schema = reader.resolve(schema);
    match alternatives(schema) {
        Some(choices) if depth < DEEPEST => {
            for choice in choices {
                collect(reader, choice, depth + 1, into);
            }
        }
        _ => into.push(schema),
    }
}

fn no_alternative(
    all: &[&Json],
    node: &Node,
    at: &ConfigPath,
    diagnostics: &mut Diagnostics,
) -> Option<Json> {
    let wanted = all.iter().filter(|one| !allows(one, "null"));
    let wanted: Vec<String> = wanted.map(|one| describe(one)).collect();
    let remedy = format!("write {}", wanted.join(" or "));
    let problem = format!("{} is not allowed here", node.kind());
    diagnostics.shape_error(at, problem, remedy);
    None
}

/// Returns true if a value of the node's kind can match the schema at all.
fn accepts_kind(schema: &Json, node: &Node) -> bool {
    match &node.value {
        Value::Map(_) => allows(schema, "object"),
        Value::List(_) => allows(schema, "array"),
        Value::Scalar(scalar) if scalar.is_null() => allows(schema, "null"),
        Value::Scalar(_) => {
            let text = ["string", "integer", "number", "boolean"];
            choice_words(schema).is_some() || text.iter().any(|kind| allows(schema, kind))
        }
        Value::Broken(_) => false,
    }
}

fn count_known_fields(schema: &Json, node: &Node) -> usize {
    let Value::Map(entries) = &node.value else {
        return 0;
    };
    let known = &schema["properties"];
    entries
        .iter()
        .filter(|entry| known.get(&entry.key).is_some())
        .count()
}
