//! Reads a YAML tree field by field and collects every mistake with its line and path. It must not
//! know what the fields mean.

use std::collections::HashSet;
use std::fmt;

use jiff::civil::Date;
use llm_router_yaml::{Entry, Node, SyntaxError, Value, nearest};

/// A mistake in a file of prices or facts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct PriceError {
    /// The line, counted from 1.
    pub line: usize,
    /// The path of the value, as `openai/gpt-4o[0].input`.
    pub path: String,
    /// The problem and the remedy.
    pub message: String,
}

impl fmt::Display for PriceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.line, self.path, self.message)
    }
}

impl PriceError {
    /// Converts an error of the YAML itself; `file` stands for the path.
    pub(crate) fn from_syntax(syntax: &SyntaxError, file: &str) -> Self {
        Self {
            line: syntax.mark.line,
            path: file.to_owned(),
            message: syntax.error.to_string(),
        }
    }
}

/// The mistakes so far, and the path of the value that is read.
#[derive(Default)]
pub(crate) struct TreeReader {
    pub(crate) errors: Vec<PriceError>,
    pub(crate) path: String,
}

impl TreeReader {
    /// Calls `each` for every entry of a file: its name, of the form `provider/model`, and its node.
    pub(crate) fn models<'n>(
        &mut self,
        root: &'n Node,
        file: &str,
        wanted: &str,
        mut each: impl FnMut(&mut Self, &'n Entry),
    ) {
        let Value::Map(entries) = &root.value else {
            file.clone_into(&mut self.path);
            return self.expect(wanted, root);
        };
        let mut seen = HashSet::new();
        for entry in entries {
            let (line, name) = (entry.mark.line, &entry.key);
            self.path.clone_from(name);
            let is_valid = name
                .split_once('/')
                .is_some_and(|(provider, model)| !provider.is_empty() && !model.is_empty());
            if !is_valid {
                self.error(line, "the name must have the form provider/model");
            }
            if !seen.insert(name.to_lowercase()) {
                self.error(line, "is listed twice; put all periods into one list");
            }
            each(self, entry);
        }
    }

    /// Calls `each` for the fields of a mapping, with the path of each.
    pub(crate) fn entries<'n>(
        &mut self,
        entries: &'n [Entry],
        mut each: impl FnMut(&mut Self, &'n str, &'n Node),
    ) {
        let mut seen = HashSet::new();
        for entry in entries {
            self.below(&format!(".{}", entry.key), |reader| {
                if seen.insert(&entry.key) {
                    each(reader, &entry.key, &entry.node);
                } else {
                    reader.error(entry.mark.line, "is set twice; remove one of them");
                }
            });
        }
    }

    /// The fields of a mapping; an error if it is none.
    pub(crate) fn map<'n>(&mut self, node: &'n Node, wanted: &str) -> Option<&'n [Entry]> {
        match &node.value {
            Value::Map(entries) => Some(entries),
            _ => {
                self.expect(wanted, node);
                None
            }
        }
    }

    /// Reads each item of a list.
    pub(crate) fn list<'n, T>(
        &mut self,
        node: &'n Node,
        wanted: &str,
        mut each: impl FnMut(&mut Self, &'n Node) -> Option<T>,
    ) -> Vec<T> {
        let Value::List(items) = &node.value else {
            self.expect(wanted, node);
            return Vec::new();
        };
        let mut read = Vec::new();
        for (index, item) in items.iter().enumerate() {
            read.extend(self.below(&format!("[{index}]"), |reader| each(reader, item)));
        }
        read
    }

    /// Reads a list of texts, or a single one.
    pub(crate) fn texts<'n>(&mut self, node: &'n Node, wanted: &str) -> Vec<&'n str> {
        if let (Some(text), false) = (node.text(), node.is_null()) {
            return vec![text];
        }
        self.list(node, wanted, |reader, item| reader.text(item, wanted))
    }

    pub(crate) fn day(&mut self, node: &Node) -> Option<Date> {
        self.parse(node, "a date", "2026-01-01", |text| text.parse().ok())
    }

    pub(crate) fn tokens(&mut self, node: &Node) -> Option<u64> {
        self.parse(node, "a number of tokens", "200000", |text| {
            text.replace('_', "").parse().ok()
        })
    }

    /// Reads a text that has a form of its own; `kind` and `example` name it in an error.
    pub(crate) fn parse<T>(
        &mut self,
        node: &Node,
        kind: &str,
        example: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let text = self.text(node, &format!("{kind}, for example {example}"))?;
        let value = parse(text);
        if value.is_none() {
            let message = format!("`{text}` is not {kind}; write it as {example}");
            self.error(node.mark.line, &message);
        }
        value
    }

    pub(crate) fn text<'n>(&mut self, node: &'n Node, wanted: &str) -> Option<&'n str> {
        let text = node.text().filter(|_| !node.is_null());
        if text.is_none() {
            self.expect(wanted, node);
        }
        text
    }

    /// Reports a missing field.
    pub(crate) fn require(&mut self, line: usize, entries: &[Entry], key: &str, meaning: &str) {
        if !entries.iter().any(|entry| entry.key == key) {
            self.error(line, &format!("`{key}` is missing; add {meaning}"));
        }
    }

    /// Reports an unknown field.
    pub(crate) fn unknown(&mut self, line: usize, key: &str, known: &[&str]) {
        let remedy = match nearest(key, known.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("known fields: {}", known.join(", ")),
        };
        self.error(line, &format!("unknown field; {remedy}"));
    }

    /// Reports a value that is none of the known names.
    pub(crate) fn unknown_name(&mut self, line: usize, name: &str, known: &[&str]) {
        let remedy = match nearest(name, known.iter().copied()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => format!("known: {}", known.join(", ")),
        };
        self.error(line, &format!("`{name}` is not known; {remedy}"));
    }

    /// Reports a node that has another kind than is wanted.
    pub(crate) fn expect(&mut self, wanted: &str, node: &Node) {
        let message = format!("expected {wanted}, found {}", node.kind());
        self.error(node.mark.line, &message);
    }

    pub(crate) fn error(&mut self, line: usize, message: &str) {
        self.errors.push(PriceError {
            line,
            path: self.path.clone(),
            message: message.to_owned(),
        });
    }

    /// Reads what lies one step below the current path.
    pub(crate) fn below<T>(&mut self, step: &str, read: impl FnOnce(&mut Self) -> T) -> T {
        let len = self.path.len();
        self.path.push_str(step);
        let out = read(self);
        self.path.truncate(len);
        out
    }
}
