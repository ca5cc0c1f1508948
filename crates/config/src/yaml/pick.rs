//! Chooses among the alternatives of a schema's `anyOf` or `oneOf` the one that a value was
//! probably meant for, so that its mistakes are reported and not those of all the others.

use serde_json::Value as Json;

use super::scalar::{expected, words};
use super::shape::{Shape, allows};
use super::tree::{Node, Value};
use crate::findings::{At, Findings};

/// The alternatives, unless they are merely words to choose from.
pub(super) fn alternatives(schema: &Json) -> Option<&[Json]> {
    let alternatives = schema["anyOf"].as_array().or(schema["oneOf"].as_array())?;
    words(schema).is_none().then_some(alternatives)
}

/// Reads the value by the first alternative that it fits, else by the likeliest.
pub(super) fn visit(
    shape: &Shape<'_>,
    schema: &Json,
    node: &Node,
    at: &At,
    findings: &mut Findings,
) -> Option<Json> {
    let mut all = Vec::new();
    collect(shape, schema, 0, &mut all);
    let fitting: Vec<&Json> = (all.iter().copied())
        .filter(|one| is_of_kind(one, node))
        .collect();
    let mut best: Option<(usize, Option<Json>, Findings)> = None;
    for one in fitting {
        let mut scratch = findings.scratch();
        let value = shape.visit(one, node, at, &mut scratch);
        if !scratch.has_errors() {
            findings.adopt(scratch);
            return value;
        }
        let shared = shared_fields(one, node);
        if best.as_ref().is_none_or(|(most, ..)| shared > *most) {
            best = Some((shared, value, scratch));
        }
    }
    match best {
        Some((_, value, scratch)) => {
            findings.adopt(scratch);
            value
        }
        None => no_alternative(&all, node, at, findings),
    }
}

/// The alternatives, those of alternatives included.
fn collect<'a>(shape: &'a Shape<'_>, schema: &'a Json, depth: usize, into: &mut Vec<&'a Json>) {
    const DEEPEST: usize = 8;
    let schema = shape.resolve(schema);
    match alternatives(schema) {
        Some(choices) if depth < DEEPEST => {
            for choice in choices {
                collect(shape, choice, depth + 1, into);
            }
        }
        _ => into.push(schema),
    }
}

fn no_alternative(all: &[&Json], node: &Node, at: &At, findings: &mut Findings) -> Option<Json> {
    let found = match &node.value {
        Value::Map(_) => "a mapping",
        Value::List(_) => "a list",
        Value::Scalar(_) | Value::Broken(_) => "a single value",
    };
    let meant = all
        .iter()
        .filter(|one| !is_null(one))
        .map(|one| expected(one));
    let meant: Vec<String> = meant.collect();
    let remedy = format!("write {}", meant.join(" or "));
    findings.misshapen(at, format!("{found} can't stand here"), remedy);
    None
}

/// Whether a value of the node's kind can be one of the schema's at all.
fn is_of_kind(schema: &Json, node: &Node) -> bool {
    match &node.value {
        Value::Map(_) => allows(schema, "object"),
        Value::List(_) => allows(schema, "array"),
        Value::Scalar(scalar) if scalar.is_null() => is_null(schema),
        Value::Scalar(_) => {
            let text = ["string", "integer", "number", "boolean"];
            words(schema).is_some() || text.iter().any(|kind| allows(schema, kind))
        }
        Value::Broken(_) => false,
    }
}

fn is_null(schema: &Json) -> bool {
    allows(schema, "null")
}

fn shared_fields(schema: &Json, node: &Node) -> usize {
    let Value::Map(entries) = &node.value else {
        return 0;
    };
    let known = &schema["properties"];
    entries
        .iter()
        .filter(|entry| known.get(&entry.key).is_some())
        .count()
}
