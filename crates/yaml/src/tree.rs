//! The tree of a YAML document: values with their positions. It is built by [`crate::parse`] and
//! must not know what the values mean.

use crate::error::ValueError;

/// A position in a text file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
}

/// A value and its position in the file.
#[derive(Clone, Debug)]
pub struct Node {
    /// The position at which the value begins.
    pub mark: Mark,
    /// The value.
    pub value: Value,
}

/// The value of a node.
#[derive(Clone, Debug)]
pub enum Value {
    /// A single value, as text.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A mapping, its entries in the order of the file.
    Map(Vec<Entry>),
    /// A scalar whose variables can't be substituted. Reporting it is left to the reader of the
    /// tree, who knows the path.
    Broken(ValueError),
}

/// A key of a mapping with its value. Duplicate keys are kept.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The position of the key.
    pub mark: Mark,
    /// The key.
    pub key: String,
    /// The value.
    pub node: Node,
}

/// A text. Its type is decided by the setting that it belongs to.
#[derive(Clone, Debug)]
pub struct Scalar {
    /// The value, variables substituted.
    pub text: String,
    /// The source of the text.
    pub origin: Origin,
    /// The text before substitution, if that changed it.
    pub(crate) unsubstituted: Option<String>,
}

/// The source of a scalar's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Written without quotes: a number, a boolean or null if it looks like one.
    Plain,
    /// Written in quotes or as a block: always a string.
    Quoted,
    /// Contains substituted variables: takes the type of its setting.
    Substituted,
    /// As [`Self::Substituted`], and the value of one environment variable from end to end.
    Environment,
}

impl Node {
    /// Returns the value of a key, if this is a mapping that has it.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Self> {
        Some(&self.entry(key)?.node)
    }

    /// Returns the first entry with a key, if this is a mapping that has it.
    #[must_use]
    pub fn entry(&self, key: &str) -> Option<&Entry> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// Returns the items; none unless this is a list.
    #[must_use]
    pub fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// Returns the text, if this is a scalar.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// Returns true for an empty value and for YAML's null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }

    /// Names the kind of the value for error messages, with its article.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Map(_) => "a mapping",
            Value::List(_) => "a list",
            Value::Scalar(scalar) if scalar.is_null() => "nothing",
            Value::Scalar(_) | Value::Broken(_) => "a single value",
        }
    }
}

impl Entry {
    /// Returns the position to report: that of a scalar, which may be on a line of its own; for
    /// anything else that of the key, as the value begins below it.
    #[must_use]
    pub fn best_mark(&self) -> Mark {
        match &self.node.value {
            Value::Scalar(scalar) if !scalar.text.is_empty() => self.node.mark,
            _ => self.mark,
        }
    }
}

impl Scalar {
    /// A text as the file has it, without variables.
    #[must_use]
    pub const fn literal(text: String, origin: Origin) -> Self {
        Self {
            text,
            origin,
            unsubstituted: None,
        }
    }

    /// Returns the text before substitution, which may be shown: it holds no variable's value.
    #[must_use]
    pub fn as_written(&self) -> &str {
        self.unsubstituted.as_deref().unwrap_or(&self.text)
    }

    /// Returns true if the whole value is in the file, and none of it in a variable.
    #[must_use]
    pub const fn is_literal(&self) -> bool {
        matches!(self.origin, Origin::Plain | Origin::Quoted)
    }

    /// Returns true for an empty value and for YAML's null.
    #[must_use]
    pub fn is_null(&self) -> bool {
        let null = matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL");
        self.origin == Origin::Plain && null
    }
}
