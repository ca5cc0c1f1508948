//! YAML text to a tree that knows where each of its nodes stands. Variables are substituted in
//! scalars after the structure is known, so no value can change the structure.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use super::substitute::substitute;
use crate::environment::Environment;
use crate::findings::Wrong;
use crate::report::Mark;

/// Deeper nesting is refused; the deepest setting is at 10, nested rule conditions aside.
const MAX_DEPTH: usize = 64;

/// More nodes are refused, aliases counted as what they stand for.
const MAX_NODES: usize = 1_000_000;

/// A value and its place in the file.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) mark: Mark,
    pub(crate) value: Value,
}

#[derive(Clone, Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Can't be read; the walk over the tree reports why.
    Broken(Wrong),
}

/// A key of a mapping with its value. Duplicate keys are kept.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) mark: Mark,
    pub(crate) key: String,
    pub(crate) node: Node,
}

/// A text whose type is the schema's to say.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    /// As in the file, variables not substituted: what may be shown to people.
    pub(crate) written: String,
    /// The value.
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

/// How a scalar came to its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Written without quotes: a number, a truth value or nothing if it looks like one.
    Plain,
    /// Written in quotes or as a block: always text.
    Quoted,
    /// Made with `${…}`, in parts at least: of whatever type the setting has.
    Substituted,
    /// As [`Self::Substituted`], and an environment variable's value from end to end.
    Environment,
}

/// Reads one YAML document. The error is the first place where the text is no YAML.
pub(crate) fn parse(text: &str, environment: &Environment) -> Result<Node, (Mark, Wrong)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder::new(environment);
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let mark = mark(error.marker());
            (mark, syntax_error(error.info(), text, mark))
        })?;
        builder.take(event, span)?;
    }
    let root = builder.root.filter(|root| !root.is_null());
    Ok(root.unwrap_or_else(empty_document))
}

impl Entry {
    /// Where a reader looks for the entry: at the value if it is a scalar, which may stand on a
    /// line of its own; else at the key, for the value begins below it.
    pub(crate) fn best_mark(&self) -> Mark {
        match &self.node.value {
            Value::Scalar(scalar) if !scalar.text.is_empty() => self.node.mark,
            _ => self.mark,
        }
    }
}

impl Scalar {
    /// Whether the whole value stands in the file itself.
    pub(crate) fn is_written_out(&self) -> bool {
        matches!(self.origin, Origin::Plain | Origin::Quoted)
    }
}

impl Node {
    /// The value of a key, if this is a mapping that has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Value::Map(entries) = &self.value else {
            return None;
        };
        let entry = entries.iter().find(|entry| entry.key == key);
        entry.map(|entry| &entry.node)
    }

    /// The items, if this is a list.
    pub(crate) fn items(&self) -> &[Self] {
        match &self.value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// The text, if this is a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// Whether nothing is written here.
    pub(super) fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.is_null())
    }

    fn count(&self) -> usize {
        match &self.value {
            Value::List(items) => 1 + items.iter().map(Self::count).sum::<usize>(),
            Value::Map(entries) => 1 + entries.iter().map(|e| e.node.count()).sum::<usize>(),
            Value::Scalar(_) | Value::Broken(_) => 1,
        }
    }

    fn depth(&self) -> usize {
        let below = match &self.value {
            Value::List(items) => items.iter().map(Self::depth).max(),
            Value::Map(entries) => entries.iter().map(|entry| entry.node.depth()).max(),
            Value::Scalar(_) | Value::Broken(_) => None,
        };
        1 + below.unwrap_or(0)
    }
}

/// Turns the parser's events into nodes.
struct Builder<'a> {
    environment: &'a Environment,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    nodes: usize,
    root: Option<Node>,
}

/// A list or mapping whose end has not been read yet.
struct Open {
    mark: Mark,
    anchor: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        key: Option<(Mark, String)>,
    },
}

impl<'a> Builder<'a> {
    fn new(environment: &'a Environment) -> Self {
        Self {
            environment,
            open: Vec::new(),
            anchors: HashMap::new(),
            nodes: 0,
            root: None,
        }
    }

    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), (Mark, Wrong)> {
        let mark = mark(&span.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let node = self.scalar(mark, &text, style, tag.as_deref());
                self.finish(node, anchor)
            }
            Event::SequenceStart(anchor, _) => self.begin(mark, anchor, Content::List(Vec::new())),
            Event::MappingStart(anchor, _) => {
                let (entries, key) = (Vec::new(), None);
                self.begin(mark, anchor, Content::Map { entries, key })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(mark, anchor),
            Event::DocumentStart(_) if self.root.is_some() => Err((mark, second_document())),
            Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::StreamStart
            | Event::StreamEnd
            | Event::Nothing => Ok(()),
        }
    }

    fn begin(&mut self, mark: Mark, anchor: usize, content: Content) -> Result<(), (Mark, Wrong)> {
        if self.open.len() >= MAX_DEPTH {
            return Err((mark, too_deep()));
        }
        self.open.push(Open {
            mark,
            anchor,
            content,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), (Mark, Wrong)> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let value = match open.content {
            Content::List(items) => Value::List(items),
            Content::Map { entries, .. } => Value::Map(entries),
        };
        let mark = open.mark;
        self.finish(Node { mark, value }, open.anchor)
    }

    fn alias(&mut self, mark: Mark, anchor: usize) -> Result<(), (Mark, Wrong)> {
        let Some(mut node) = self.anchors.get(&anchor).cloned() else {
            return Err((mark, inside_itself()));
        };
        if self.open.len() + node.depth() > MAX_DEPTH {
            return Err((mark, too_deep()));
        }
        self.nodes += node.count();
        node.mark = mark;
        self.finish(node, 0)
    }

    /// Puts a whole node where it belongs: into the innermost open collection.
    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), (Mark, Wrong)> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err((node.mark, too_large()));
        }
        if anchor > 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map { entries, key }) => match key.take() {
                None => *key = Some(as_key(node)?),
                Some((mark, key)) => entries.push(Entry { mark, key, node }),
            },
        }
        Ok(())
    }

    fn scalar(&self, mark: Mark, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Node {
        let origin = match (tag.map(|tag| tag.suffix.as_str()), style) {
            (None, ScalarStyle::Plain) | (Some("int" | "float" | "bool" | "null"), _) => {
                Origin::Plain
            }
            _ => Origin::Quoted,
        };
        let written = text.to_owned();
        let is_key = self.expects_key();
        let value = match if is_key {
            Ok(None)
        } else {
            substitute(text, self.environment)
        } {
            Err(wrong) => Value::Broken(wrong),
            Ok(None) => Value::Scalar(Scalar {
                text: written.clone(),
                written,
                origin,
            }),
            Ok(Some((text, origin))) => Value::Scalar(Scalar {
                text,
                written,
                origin,
            }),
        };
        Node { mark, value }
    }

    fn expects_key(&self) -> bool {
        let innermost = self.open.last().map(|open| &open.content);
        matches!(innermost, Some(Content::Map { key: None, .. }))
    }
}

fn as_key(node: Node) -> Result<(Mark, String), (Mark, Wrong)> {
    match node.value {
        Value::Scalar(scalar) => Ok((node.mark, scalar.text)),
        _ => Err((
            node.mark,
            Wrong::new(
                "a list or a mapping can't be the name of a setting",
                "put quotes around values that begin with { or [",
            ),
        )),
    }
}

fn mark(marker: &Marker) -> Mark {
    Mark {
        line: marker.line().max(1),
        column: marker.col() + 1,
    }
}

fn empty_document() -> Node {
    Node {
        mark: Mark { line: 1, column: 1 },
        value: Value::Map(Vec::new()),
    }
}

fn syntax_error(what: &str, text: &str, mark: Mark) -> Wrong {
    let line = text.lines().nth(mark.line - 1).unwrap_or_default();
    let remedy: Cow<'_, str> = if line.contains("${") {
        "put quotes around ${…} where it stands inside { } or [ ]".into()
    } else if line.contains('\t') {
        "indent with spaces, not with tabs".into()
    } else {
        "check the indentation, quotes and brackets here and on the line above".into()
    };
    Wrong::new(format!("not valid YAML: {what}"), remedy)
}

fn second_document() -> Wrong {
    Wrong::new(
        "a second YAML document begins here",
        "keep one document in the file and remove the line `---`",
    )
}

fn too_deep() -> Wrong {
    Wrong::new(
        format!("nested more than {MAX_DEPTH} levels deep"),
        "make it flatter",
    )
}

fn too_large() -> Wrong {
    Wrong::new(
        format!("more than {MAX_NODES} values"),
        "keep large sets of keys in the store",
    )
}

fn inside_itself() -> Wrong {
    Wrong::new(
        "an alias stands inside the very thing it names",
        "write the value out",
    )
}
