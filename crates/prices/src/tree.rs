//! YAML text as a tree whose nodes know their line. It must not know what a prices file says.

use saphyr_parser::{Event, Parser, ScalarStyle};

/// Deeper nesting is refused; a prices file needs five levels.
const MAX_DEPTH: usize = 16;

/// A node and the line it begins in, from 1.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) value: Value,
}

#[derive(Debug)]
pub(crate) enum Value {
    /// A scalar as text; numbers stay as they were written.
    Text(String),
    /// Nothing, or a plain `null` or `~`.
    Null,
    List(Vec<Node>),
    /// Keys with their lines. Duplicate keys are kept.
    Map(Vec<(usize, String, Node)>),
}

impl Value {
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "a single value",
            Self::Null => "nothing",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// Where and why a text is no YAML that is read here.
pub(crate) type SyntaxError = (usize, String);

/// Reads one document.
pub(crate) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut events = Events {
        parser: Parser::new_from_str(text),
        line: 1,
    };
    loop {
        match events.next()? {
            Event::StreamEnd | Event::DocumentEnd => {
                return Ok(Node {
                    line: 1,
                    value: Value::Null,
                });
            }
            Event::StreamStart | Event::DocumentStart(_) | Event::Nothing => {}
            event => return events.node(event, 0),
        }
    }
}

struct Events<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    line: usize,
}

impl<'a> Events<'a> {
    fn next(&mut self) -> Result<Event<'a>, SyntaxError> {
        match self.parser.next_event() {
            Some(Ok((event, span))) => {
                self.line = span.start.line();
                Ok(event)
            }
            Some(Err(error)) => Err((error.marker().line(), error.info().to_owned())),
            None => Ok(Event::StreamEnd),
        }
    }

    fn node(&mut self, event: Event<'a>, depth: usize) -> Result<Node, SyntaxError> {
        let line = self.line;
        if depth > MAX_DEPTH {
            return Err((line, "nested too deep for a prices file".to_owned()));
        }
        let value = match event {
            Event::Scalar(text, style, _, _) => scalar(&text, style),
            Event::SequenceStart(..) => Value::List(self.list(depth)?),
            Event::MappingStart(..) => Value::Map(self.map(depth)?),
            _ => return Err((line, "anchors and aliases aren't read here".to_owned())),
        };
        Ok(Node { line, value })
    }

    fn list(&mut self, depth: usize) -> Result<Vec<Node>, SyntaxError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                Event::SequenceEnd => return Ok(items),
                event => items.push(self.node(event, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Vec<(usize, String, Node)>, SyntaxError> {
        let mut entries = Vec::new();
        loop {
            let key = match self.next()? {
                Event::MappingEnd => return Ok(entries),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err((self.line, "a key has to be a single value".to_owned())),
            };
            let line = self.line;
            let event = self.next()?;
            entries.push((line, key, self.node(event, depth + 1)?));
        }
    }
}

fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style == ScalarStyle::Plain && matches!(text, "" | "~" | "null") {
        Value::Null
    } else {
        Value::Text(text.to_owned())
    }
}
