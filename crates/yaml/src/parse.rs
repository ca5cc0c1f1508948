//! Builds the tree from the parser's events, within bounds. It must not know what the values mean.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use crate::error::{SyntaxError, ValueError};
use crate::tree::{Entry, Mark, Node, Origin, Scalar, Value};

/// The greatest depth of nesting. The deepest setting of the config file is at 10, nested rule
/// conditions aside.
const MAX_DEPTH: usize = 64;

/// The greatest number of nodes, with each alias counted as the nodes that it stands for.
const MAX_NODES: usize = 1_000_000;

/// The greatest number of bytes of keys and scalars, counted likewise and after substitution.
const MAX_BYTES: usize = 64 << 20;

/// A scalar's text after substitution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// The text.
    pub text: String,
    /// [`Origin::Substituted`] or [`Origin::Environment`].
    pub origin: Origin,
}

/// Replaces the variables of one scalar; `None` if it has none.
type Substitute<'a> = &'a dyn Fn(&str) -> Result<Option<Replacement>, ValueError>;

/// Parses one YAML document. An empty one is an empty mapping.
///
/// # Errors
/// Returns the first syntax error, or the first node that exceeds a bound.
pub fn parse(text: &str) -> Result<Node, SyntaxError> {
    parse_with(text, &|_| Ok(None))
}

/// As [`parse`], with variables substituted in every scalar that is not a key. A scalar for which
/// `substitute` fails becomes [`Value::Broken`].
///
/// # Errors
/// As [`parse`].
pub fn parse_with(text: &str, substitute: Substitute<'_>) -> Result<Node, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder::new(substitute);
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| {
            let mark = to_mark(error.marker());
            let error = invalid_yaml(error.info(), text, mark);
            SyntaxError { mark, error }
        })?;
        builder.handle(event, span)?;
    }
    let root = builder.root.filter(|root| !root.is_null());
    Ok(root.unwrap_or_else(empty_document))
}

/// Turns the parser's events into nodes.
struct Builder<'a> {
    substitute: Substitute<'a>,
    open: Vec<OpenCollection>,
    anchors: HashMap<usize, Node>,
    size: Size,
    root: Option<Node>,
}

/// A list or mapping whose end has not been read yet.
struct OpenCollection {
    mark: Mark,
    anchor: usize,
    content: OpenContent,
}

enum OpenContent {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        key: Option<(Mark, String)>,
    },
}

/// The amount of memory that nodes take, in the units of the bounds.
#[derive(Clone, Copy, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
}

impl<'a> Builder<'a> {
    fn new(substitute: Substitute<'a>) -> Self {
        Self {
            substitute,
            open: Vec::new(),
            anchors: HashMap::new(),
            size: Size::default(),
            root: None,
        }
    }

    fn handle(&mut self, event: Event<'_>, span: Span) -> Result<(), SyntaxError> {
        let mark = to_mark(&span.start);
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let node = self.scalar(mark, text, style, tag.as_deref());
                self.count(Size::of_one(&node), mark)?;
                self.finish(node, anchor)
            }
            Event::SequenceStart(anchor, _) => {
                self.begin(mark, anchor, OpenContent::List(Vec::new()))
            }
            Event::MappingStart(anchor, _) => {
                let (entries, key) = (Vec::new(), None);
                self.begin(mark, anchor, OpenContent::Map { entries, key })
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => self.alias(mark, anchor),
            Event::DocumentStart(_) if self.root.is_some() => Err(SyntaxError {
                mark,
                error: second_document(),
            }),
            Event::DocumentStart(_)
            | Event::DocumentEnd
            | Event::StreamStart
            | Event::StreamEnd
            | Event::Nothing => Ok(()),
        }
    }

    fn begin(
        &mut self,
        mark: Mark,
        anchor: usize,
        content: OpenContent,
    ) -> Result<(), SyntaxError> {
        self.check_depth(1, mark)?;
        self.count(Size { nodes: 1, bytes: 0 }, mark)?;
        self.open.push(OpenCollection {
            mark,
            anchor,
            content,
        });
        Ok(())
    }

    fn end(&mut self) -> Result<(), SyntaxError> {
        let Some(open) = self.open.pop() else {
            return Ok(());
        };
        let value = match open.content {
            OpenContent::List(items) => Value::List(items),
            OpenContent::Map { entries, .. } => Value::Map(entries),
        };
        let mark = open.mark;
        self.finish(Node { mark, value }, open.anchor)
    }

    fn alias(&mut self, mark: Mark, anchor: usize) -> Result<(), SyntaxError> {
        let Some(named) = self.anchors.get(&anchor) else {
            let error = alias_within_itself();
            return Err(SyntaxError { mark, error });
        };
        let (size, depth) = (Size::of_tree(named), depth(named));
        self.check_depth(depth, mark)?;
        self.count(size, mark)?;
        let Some(mut node) = self.anchors.get(&anchor).cloned() else {
            return Ok(());
        };
        node.mark = mark;
        self.finish(node, 0)
    }

    /// Adds a complete node to the innermost open collection. Its size has been counted.
    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), SyntaxError> {
        if anchor > 0 {
            self.count(Size::of_tree(&node), node.mark)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.open.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(OpenContent::List(items)) => items.push(node),
            Some(OpenContent::Map { entries, key }) => match key.take() {
                None => *key = Some(into_key(node)?),
                Some((mark, key)) => entries.push(Entry { mark, key, node }),
            },
        }
        Ok(())
    }

    fn scalar(
        &self,
        mark: Mark,
        text: Cow<'_, str>,
        style: ScalarStyle,
        tag: Option<&Tag>,
    ) -> Node {
        let origin = match (tag.map(|tag| tag.suffix.as_str()), style) {
            (None, ScalarStyle::Plain) | (Some("int" | "float" | "bool" | "null"), _) => {
                Origin::Plain
            }
            _ => Origin::Quoted,
        };
        let replacement = if self.expects_key() {
            Ok(None)
        } else {
            (self.substitute)(&text)
        };
        let value = match replacement {
            Err(error) => Value::Broken(error),
            Ok(None) => Value::Scalar(Scalar::literal(text.into_owned(), origin)),
            Ok(Some(replacement)) => Value::Scalar(Scalar {
                text: replacement.text,
                origin: replacement.origin,
                unsubstituted: Some(text.into_owned()),
            }),
        };
        Node { mark, value }
    }

    fn expects_key(&self) -> bool {
        let innermost = self.open.last().map(|open| &open.content);
        matches!(innermost, Some(OpenContent::Map { key: None, .. }))
    }

    fn check_depth(&self, levels: usize, mark: Mark) -> Result<(), SyntaxError> {
        if self.open.len() + levels <= MAX_DEPTH {
            return Ok(());
        }
        let error = too_deep();
        Err(SyntaxError { mark, error })
    }

    fn count(&mut self, added: Size, mark: Mark) -> Result<(), SyntaxError> {
        self.size.nodes += added.nodes;
        self.size.bytes += added.bytes;
        let error = if self.size.nodes > MAX_NODES {
            too_large(&format!("{MAX_NODES} values"))
        } else if self.size.bytes > MAX_BYTES {
            too_large(&format!("{} MiB", MAX_BYTES >> 20))
        } else {
            return Ok(());
        };
        Err(SyntaxError { mark, error })
    }
}

impl Size {
    /// The size of a node without those in it.
    fn of_one(node: &Node) -> Self {
        let bytes = match &node.value {
            Value::Scalar(scalar) => {
                let unsubstituted = scalar.unsubstituted.as_deref().unwrap_or_default();
                scalar.text.len() + unsubstituted.len()
            }
            Value::Broken(error) => error.problem.len() + error.remedy.len(),
            Value::List(_) | Value::Map(_) => 0,
        };
        Self { nodes: 1, bytes }
    }

    fn of_tree(node: &Node) -> Self {
        let mut size = Self::of_one(node);
        match &node.value {
            Value::List(items) => items.iter().for_each(|item| size.add(Self::of_tree(item))),
            Value::Map(entries) => {
                for entry in entries {
                    size.bytes += entry.key.len();
                    size.add(Self::of_tree(&entry.node));
                }
            }
            Value::Scalar(_) | Value::Broken(_) => {}
        }
        size
    }

    const fn add(&mut self, other: Self) {
        self.nodes += other.nodes;
        self.bytes += other.bytes;
    }
}

fn depth(node: &Node) -> usize {
    let below = match &node.value {
        Value::List(items) => items.iter().map(depth).max(),
        Value::Map(entries) => entries.iter().map(|entry| depth(&entry.node)).max(),
        Value::Scalar(_) | Value::Broken(_) => None,
    };
    1 + below.unwrap_or(0)
}

fn into_key(node: Node) -> Result<(Mark, String), SyntaxError> {
    match node.value {
        Value::Scalar(scalar) => Ok((node.mark, scalar.text)),
        _ => Err(SyntaxError {
            mark: node.mark,
            error: ValueError::new(
                "a list or a mapping can't be a key",
                "put quotes around values that begin with { or [",
            ),
        }),
    }
}

fn to_mark(marker: &Marker) -> Mark {
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

fn invalid_yaml(problem: &str, text: &str, mark: Mark) -> ValueError {
    let line = text.lines().nth(mark.line - 1).unwrap_or_default();
    let remedy = if line.contains("${") {
        "put quotes around ${…} inside { } or [ ]"
    } else if line.contains('\t') {
        "indent with spaces, not with tabs"
    } else {
        "check the indentation, quotes and brackets here and on the line above"
    };
    ValueError::new(format!("not valid YAML: {problem}"), remedy)
}

fn second_document() -> ValueError {
    ValueError::new(
        "a second YAML document begins here",
        "keep one document in the file and remove the line `---`",
    )
}

fn too_deep() -> ValueError {
    ValueError::new(
        format!("nested more than {MAX_DEPTH} levels deep"),
        "reduce the nesting",
    )
}

fn too_large(bound: &str) -> ValueError {
    ValueError::new(
        format!("the file holds more than {bound}, aliases expanded"),
        "make it smaller, or use fewer aliases",
    )
}

fn alias_within_itself() -> ValueError {
    ValueError::new(
        "an alias refers to the node that contains it",
        "write the value out",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_error(text: &str, line: usize, problem: &str) {
        let error = parse(text).unwrap_err();
        assert!(error.error.problem.contains(problem), "{error}");
        assert_eq!(error.mark.line, line, "{error}");
    }

    #[test]
    fn texts_become_trees_with_positions() {
        let root = parse("a: 1\nb: [x, \"2\"]\na: ~\n").unwrap();
        let Value::Map(entries) = &root.value else {
            panic!("{root:?}");
        };
        let keys: Vec<(&str, usize)> = entries
            .iter()
            .map(|entry| (entry.key.as_str(), entry.mark.line))
            .collect();
        assert_eq!(keys, [("a", 1), ("b", 2), ("a", 3)]);
        assert_eq!(root.get("a").and_then(Node::text), Some("1"));
        assert_eq!(root.get("b").unwrap().items()[1].mark.column, 8);
        assert!(entries[2].node.is_null());
        for empty in ["", "# nothing\n", "~", "---\n"] {
            assert!(
                matches!(parse(empty).unwrap().value, Value::Map(entries) if entries.is_empty())
            );
        }
    }

    #[test]
    fn variables_are_substituted_in_values_only() {
        let substitute = |text: &str| {
            Ok(text.contains('$').then(|| Replacement {
                text: "value".to_owned(),
                origin: Origin::Substituted,
            }))
        };
        let root = parse_with("$key: [$a, b]", &substitute).unwrap();
        let items = root.get("$key").unwrap().items();
        let Value::Scalar(first) = &items[0].value else {
            panic!("{items:?}");
        };
        assert_eq!((first.text.as_str(), first.as_written()), ("value", "$a"));
        assert!(!first.is_literal());
        assert_eq!(items[1].text(), Some("b"));
    }

    #[test]
    fn nesting_is_bounded() {
        let deep = "[".repeat(200) + &"]".repeat(200);
        assert_error(&deep, 1, "64 levels");
        let half = "[".repeat(40) + &"]".repeat(40);
        let text = format!("a: &a {half}\nb: {}*a{}\n", "[".repeat(40), "]".repeat(40));
        assert_error(&text, 2, "64 levels");
    }

    #[test]
    fn aliases_are_bounded_by_what_they_expand_to() {
        let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
        for n in 1..10 {
            let last = format!("*a{}", n - 1);
            laughs += &format!("a{n}: &a{n} [{}]\n", [last.as_str(); 10].join(","));
        }
        assert_error(&laughs, 6, "1000000 values");
        let long = "x".repeat(250_000);
        let text = format!("a: &a {long}\nb: [{}]\n", "*a,".repeat(80_000));
        assert!(text.len() < 500_000);
        assert_error(&text, 2, "64 MiB");
        let keys = format!("a: &a {{ {long}: 1 }}\nb: [{}]\n", "*a,".repeat(80_000));
        assert_error(&keys, 2, "64 MiB");
        assert_error("a: &a [*a]\n", 1, "contains it");
    }

    #[test]
    fn substituted_text_is_bounded() {
        let substitute = |_: &str| {
            Ok(Some(Replacement {
                text: "x".repeat(1 << 20),
                origin: Origin::Environment,
            }))
        };
        let text = format!("[{}]", "v,".repeat(1_000));
        let error = parse_with(&text, &substitute).unwrap_err();
        assert!(error.error.problem.contains("64 MiB"), "{error}");
    }

    #[test]
    fn one_document_is_read() {
        assert_error("a: 1\n---\nb: 2\n", 2, "second YAML document");
        assert_error("a: [\n", 2, "not valid YAML");
        assert_error("? [a]\n: b\n", 1, "can't be a key");
    }
}
