//! One pass over a JSON body: is it JSON (RFC 8259), and where are the top-level fields that the
//! router reads? Allocates nothing, keeps the bytes as they are, interprets no value.

use std::ops::Range;

/// The deepest nesting accepted; deeper bodies are refused, as by most JSON parsers.
pub const MAX_DEPTH: usize = 128;

/// A top-level field that the router may read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the field of its name")]
pub enum Field {
    Model,
    Stream,
    StreamOptions,
    MaxTokens,
    MaxCompletionTokens,
    MaxOutputTokens,
    N,
    User,
    Metadata,
    Messages,
    Input,
    Prompt,
    System,
    Instructions,
    Tools,
    ResponseFormat,
    Text,
}

const FIELDS: usize = Field::Text as usize + 1;

impl Field {
    /// The field's name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Model => "model",
            Self::Stream => "stream",
            Self::StreamOptions => "stream_options",
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
            Self::MaxOutputTokens => "max_output_tokens",
            Self::N => "n",
            Self::User => "user",
            Self::Metadata => "metadata",
            Self::Messages => "messages",
            Self::Input => "input",
            Self::Prompt => "prompt",
            Self::System => "system",
            Self::Instructions => "instructions",
            Self::Tools => "tools",
            Self::ResponseFormat => "response_format",
            Self::Text => "text",
        }
    }

    fn from_key(key: &[u8]) -> Option<Self> {
        Some(match key {
            b"model" => Self::Model,
            b"stream" => Self::Stream,
            b"stream_options" => Self::StreamOptions,
            b"max_tokens" => Self::MaxTokens,
            b"max_completion_tokens" => Self::MaxCompletionTokens,
            b"max_output_tokens" => Self::MaxOutputTokens,
            b"n" => Self::N,
            b"user" => Self::User,
            b"metadata" => Self::Metadata,
            b"messages" => Self::Messages,
            b"input" => Self::Input,
            b"prompt" => Self::Prompt,
            b"system" => Self::System,
            b"instructions" => Self::Instructions,
            b"tools" => Self::Tools,
            b"response_format" => Self::ResponseFormat,
            b"text" => Self::Text,
            _ => return None,
        })
    }
}

/// Positions of the top-level fields of a JSON object.
#[derive(Clone, Debug)]
pub struct Scan {
    spans: [(usize, usize); FIELDS],
    /// Byte just after the opening brace; where a field can be inserted.
    first_field: usize,
    empty: bool,
}

impl Scan {
    /// The bytes that hold a field's value, without the white space around it.
    #[must_use]
    pub fn span(&self, field: Field) -> Option<Range<usize>> {
        let (start, end) = self.spans[field as usize];
        (end > 0).then_some(start..end)
    }

    /// The value of a field as it stands in `body`, which is the text that was scanned.
    #[must_use]
    pub fn value<'a>(&self, body: &'a [u8], field: Field) -> Option<&'a [u8]> {
        self.span(field).and_then(|span| body.get(span))
    }

    /// The offset just behind the object's opening brace, where a new field can be inserted, and
    /// whether the object has no field yet (so that no comma is wanted).
    #[must_use]
    pub fn insertion_point(&self) -> (usize, bool) {
        (self.first_field, self.empty)
    }
}

/// Error of a body that can't be scanned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Not JSON: what was expected, and the byte offset where something else stood.
    #[error("expected {expected} at byte {offset}")]
    Syntax {
        /// The token that would have been right.
        expected: &'static str,
        /// The byte's offset, counted from 0.
        offset: usize,
    },
    /// Not UTF-8, which JSON has to be (RFC 8259, section 8.1).
    #[error("invalid UTF-8 at byte {offset}")]
    Utf8 {
        /// The byte's offset, counted from 0.
        offset: usize,
    },
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nested deeper than {MAX_DEPTH} levels at byte {offset}")]
    TooDeep {
        /// The byte's offset, counted from 0.
        offset: usize,
    },
    /// JSON, but no object at the top.
    #[error("the body must be a JSON object")]
    NotAnObject,
    /// A field that the router reads stands twice, so that reader and provider could differ.
    #[error("the field \"{0}\" is given twice")]
    Duplicate(&'static str),
}

/// Checks that `body` is a JSON object and finds the fields that the router reads.
///
/// # Errors
/// [`ScanError`] says what is wrong and where.
pub fn scan(body: &[u8]) -> Result<Scan, ScanError> {
    let kinds = Kinds::of(body);
    if kinds.non_ascii && simdutf8::basic::from_utf8(body).is_err() {
        let offset = std::str::from_utf8(body)
            .err()
            .map_or(0, |error| error.valid_up_to());
        return Err(ScanError::Utf8 { offset });
    }
    let mut scanner = Scanner {
        body,
        at: 0,
        depth: 0,
        objects: 0,
        kinds,
    };
    scanner.white_space();
    let is_object = scanner.peek() == Some(b'{');
    let found = scanner.document()?;
    if is_object {
        Ok(found)
    } else {
        Err(ScanError::NotAnObject)
    }
}

/// Which kinds of bytes a body holds at all, found at memory speed before it is looked at closely.
#[derive(Clone, Copy)]
struct Kinds {
    control: bool,
    non_ascii: bool,
}

impl Kinds {
    fn of(body: &[u8]) -> Self {
        let extremes = |(least, all): (u8, u8), &byte: &u8| (least.min(byte), all | byte);
        let (least, all) = body.iter().fold((u8::MAX, 0), extremes);
        Self {
            control: least < 0x20,
            non_ascii: all >= 0x80,
        }
    }
}

struct Scanner<'a> {
    body: &'a [u8],
    at: usize,
    depth: usize,
    kinds: Kinds,
    /// One bit a level: set when that level is an object. Level 0 is the lowest bit.
    objects: u128,
}

/// A step of the grammar; what was expected if something else stands at the current offset.
type Step = Result<(), &'static str>;

impl Scanner<'_> {
    fn document(&mut self) -> Result<Scan, ScanError> {
        let mut found = Scan {
            spans: [(0, 0); FIELDS],
            first_field: 0,
            empty: false,
        };
        let mut pending: Option<(Field, usize)> = None;
        loop {
            // Here a value begins.
            match self.peek() {
                Some(open @ (b'{' | b'[')) => {
                    self.open(open == b'{')?;
                    self.white_space();
                    let close = open + 2;
                    let empty = self.peek() == Some(close);
                    if self.depth == 1 {
                        (found.first_field, found.empty) = (self.at, empty);
                    }
                    if empty {
                        self.close();
                    } else {
                        if open == b'{' {
                            pending = self.member(pending)?;
                        }
                        continue;
                    }
                }
                _ => self.scalar().map_err(|expected| self.syntax(expected))?,
            }
            // Here it has ended.
            loop {
                if self.depth <= 1 {
                    if self.depth == 0 {
                        return self.end(found);
                    }
                    if let Some((field, start)) = pending.take() {
                        found.set(field, start, self.at)?;
                    }
                }
                self.white_space();
                let in_object = self.objects & 1 == 1;
                match self.peek() {
                    Some(b',') => {
                        self.at += 1;
                        self.white_space();
                        if in_object {
                            pending = self.member(pending)?;
                        }
                        break;
                    }
                    Some(b'}') if in_object => self.close(),
                    Some(b']') if !in_object => self.close(),
                    _ if in_object => return Err(self.syntax("\",\" or \"}\"")),
                    _ => return Err(self.syntax("\",\" or \"]\"")),
                }
            }
        }
    }

    fn end(&mut self, found: Scan) -> Result<Scan, ScanError> {
        self.white_space();
        if self.at == self.body.len() {
            Ok(found)
        } else {
            Err(self.syntax("the end of the body"))
        }
    }

    fn peek(&self) -> Option<u8> {
        self.body.get(self.at).copied()
    }

    #[cold]
    fn syntax(&self, expected: &'static str) -> ScanError {
        ScanError::Syntax {
            expected,
            offset: self.at,
        }
    }

    fn white_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn open(&mut self, object: bool) -> Result<(), ScanError> {
        if self.depth == MAX_DEPTH {
            return Err(ScanError::TooDeep { offset: self.at });
        }
        self.at += 1;
        self.objects = (self.objects << 1) | u128::from(object);
        self.depth += 1;
        Ok(())
    }

    fn close(&mut self) {
        self.at += 1;
        self.objects >>= 1;
        self.depth -= 1;
    }

    /// Reads up to a member's value. Of the top level the field whose value begins here, if it is
    /// one that is read; of others what was `pending`.
    fn member(
        &mut self,
        pending: Option<(Field, usize)>,
    ) -> Result<Option<(Field, usize)>, ScanError> {
        let start = self.at;
        self.key().map_err(|expected| self.syntax(expected))?;
        if self.depth > 1 {
            self.colon().map_err(|expected| self.syntax(expected))?;
            return Ok(pending);
        }
        let field = field_of(&self.body[start..self.at]);
        self.colon().map_err(|expected| self.syntax(expected))?;
        Ok(field.map(|field| (field, self.at)))
    }

    fn key(&mut self) -> Step {
        if self.peek() == Some(b'"') {
            self.string()
        } else {
            Err("a field name in double quotes")
        }
    }

    /// Reads a colon and the white space around it.
    fn colon(&mut self) -> Step {
        self.white_space();
        if self.peek() != Some(b':') {
            return Err("\":\"");
        }
        self.at += 1;
        self.white_space();
        Ok(())
    }

    fn scalar(&mut self) -> Step {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b't') => self.literal(b"true"),
            Some(b'f') => self.literal(b"false"),
            Some(b'n') => self.literal(b"null"),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => Err("a value"),
        }
    }

    fn literal(&mut self, text: &'static [u8]) -> Step {
        if self.body[self.at..].starts_with(text) {
            self.at += text.len();
            Ok(())
        } else {
            Err("true, false or null")
        }
    }

    fn digits(&mut self) -> Step {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start {
            Err("a digit")
        } else {
            Ok(())
        }
    }

    fn number(&mut self) -> Step {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(())
    }

    fn string(&mut self) -> Step {
        self.at += 1;
        loop {
            self.plain_text();
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => self.escape()?,
                Some(_) => return Err("no control character inside a string"),
                None => return Err("the string's closing quote"),
            }
        }
    }

    /// Skips bytes that a string may hold as they are: all but quotes, backslashes and control
    /// characters. Most stretches are short, so the first bytes are tested a word at a time. What
    /// is longer is left to a vector search where control characters are known to be absent, as in
    /// what SDKs send. Elsewhere whole blocks are tested without a branch a byte, which the
    /// compiler turns into vector code.
    fn plain_text(&mut self) {
        if self.plain_words(SHORT) {
            return;
        }
        if !self.kinds.control {
            let rest = &self.body[self.at..];
            self.at += memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
            return;
        }
        while let Some(block) = self.body[self.at..].first_chunk::<BLOCK>()
            && !block
                .iter()
                .fold(false, |found, &byte| found | is_special(byte))
        {
            self.at += BLOCK;
        }
        if !self.plain_words(BLOCK / WORD) {
            let rest = &self.body[self.at..];
            let plain = rest.iter().position(|&byte| is_special(byte));
            self.at += plain.unwrap_or(rest.len());
        }
    }

    /// Skips at most `most` words of plain text; true when it stopped before a special byte.
    fn plain_words(&mut self, most: usize) -> bool {
        for _ in 0..most {
            let Some(word) = self.body[self.at..].first_chunk::<WORD>() else {
                return false;
            };
            let special = special_bytes(u64::from_le_bytes(*word));
            if special != 0 {
                self.at += special.trailing_zeros() as usize / 8;
                return true;
            }
            self.at += WORD;
        }
        false
    }

    fn escape(&mut self) -> Step {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                self.at += 1;
                let hex = self.body.get(self.at..self.at + 4);
                if hex.is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
                    self.at += 4;
                    Ok(())
                } else {
                    Err("four hexadecimal digits")
                }
            }
            _ => Err("an escape sequence"),
        }
    }
}

/// Bytes tested at once without vector code.
const WORD: usize = size_of::<u64>();
/// Words after which a stretch of text counts as long.
const SHORT: usize = 3;
/// Bytes tested at once with vector code.
const BLOCK: usize = 32;

/// The high bits of a word's special bytes. Exact up to the lowest one, which is all that counts:
/// a borrow can only set bits above it.
const fn special_bytes(word: u64) -> u64 {
    const ONES: u64 = u64::MAX / 0xff;
    let quote = (word ^ (ONES * b'"' as u64)).wrapping_sub(ONES);
    let backslash = (word ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    let control = word.wrapping_sub(ONES * 0x20);
    (quote | backslash | control) & !word & (ONES * 0x80)
}

const fn is_special(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

/// The field that a quoted key names, escapes resolved: `"mod\u0065l"` is `model` too.
fn field_of(quoted: &[u8]) -> Option<Field> {
    let inner = quoted.get(1..quoted.len() - 1)?;
    if inner.contains(&b'\\') {
        let key: String = serde_json::from_slice(quoted).ok()?;
        return Field::from_key(key.as_bytes());
    }
    Field::from_key(inner)
}

impl Scan {
    fn set(&mut self, field: Field, start: usize, end: usize) -> Result<(), ScanError> {
        let span = &mut self.spans[field as usize];
        if span.1 > 0 {
            return Err(ScanError::Duplicate(field.name()));
        }
        *span = (start, end);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(body: &str, field: Field) -> Option<&str> {
        let scan = scan(body.as_bytes()).unwrap();
        scan.value(body.as_bytes(), field)
            .map(|bytes| std::str::from_utf8(bytes).unwrap())
    }

    #[test]
    fn finds_top_level_fields_only() {
        let body = r#" { "a":{"model":"no"}, "model" : "gpt" ,"messages":[{"stream":1}],
            "stream":true, "tools":[ ] } "#;
        assert_eq!(value(body, Field::Model), Some("\"gpt\""));
        assert_eq!(value(body, Field::Stream), Some("true"));
        assert_eq!(value(body, Field::Messages), Some("[{\"stream\":1}]"));
        assert_eq!(value(body, Field::Tools), Some("[ ]"));
        assert_eq!(value(body, Field::User), None);
    }

    #[test]
    fn resolves_escaped_names() {
        assert_eq!(value(r#"{"mod\u0065l":"x"}"#, Field::Model), Some("\"x\""));
    }

    #[test]
    fn refuses_fields_given_twice() {
        let error = scan(br#"{"model":"a","mod\u0065l":"b"}"#).unwrap_err();
        assert_eq!(error, ScanError::Duplicate("model"));
        assert!(scan(br#"{"temperature":1,"temperature":2}"#).is_ok());
    }

    #[test]
    fn knows_where_a_field_can_be_inserted() {
        assert_eq!(scan(b" {  \"a\":1}").unwrap().insertion_point(), (4, false));
        assert_eq!(scan(b"{ }").unwrap().insertion_point(), (2, true));
    }

    #[test]
    fn says_what_is_wrong_and_where() {
        let cases: &[(&[u8], &str)] = &[
            (b"", "expected a value at byte 0"),
            (b"{", "expected a field name in double quotes at byte 1"),
            (b"{\"a\" 1}", "expected \":\" at byte 5"),
            (
                b"{\"a\":1,}",
                "expected a field name in double quotes at byte 7",
            ),
            (b"{\"a\":1 \"b\":2}", "expected \",\" or \"}\" at byte 7"),
            (b"{\"a\":[1 2]}", "expected \",\" or \"]\" at byte 8"),
            (
                b"{\"a\":\"x",
                "expected the string's closing quote at byte 7",
            ),
            (
                b"{\"a\":\"x\ny\"}",
                "expected no control character inside a string at byte 7",
            ),
            (b"{\"a\":\"\\x\"}", "expected an escape sequence at byte 7"),
            (
                b"{\"a\":\"\\u12g4\"}",
                "expected four hexadecimal digits at byte 8",
            ),
            (b"{\"a\":nul}", "expected true, false or null at byte 5"),
            (b"{\"a\":01}", "expected \",\" or \"}\" at byte 6"),
            (b"{\"a\":1.}", "expected a digit at byte 7"),
            (b"{\"a\":-}", "expected a digit at byte 6"),
            (b"{\"a\":1e}", "expected a digit at byte 7"),
            (b"{} x", "expected the end of the body at byte 3"),
            (b"{\"a\":\"\xff\"}", "invalid UTF-8 at byte 6"),
            (b"[1]", "the body must be a JSON object"),
            (b"\"x\"", "the body must be a JSON object"),
        ];
        for (body, message) in cases {
            let shown = String::from_utf8_lossy(body);
            assert_eq!(scan(body).unwrap_err().to_string(), *message, "{shown}");
        }
    }

    #[test]
    fn limits_depth() {
        let nested = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(scan(nested(MAX_DEPTH - 1).as_bytes()).is_ok());
        let error = scan(nested(MAX_DEPTH).as_bytes()).unwrap_err();
        assert!(matches!(error, ScanError::TooDeep { .. }), "{error}");
    }

    #[test]
    fn agrees_on_where_a_text_ends_at_every_length() {
        // White space is a control character, so it decides which search is taken.
        for (open, close) in [("{\"user\":", "}"), ("{\n\"user\":", "\n}")] {
            for length in 0..100 {
                for (special, problem) in [
                    ("", None),
                    ("\\n", None),
                    ("\u{7f}\u{e9}\u{ff}", None),
                    ("\u{1f}", Some("no control character inside a string")),
                    ("\\q", Some("an escape sequence")),
                    ("\"", Some("\",\" or \"}\"")),
                ] {
                    for rest in [0, 1, 7, 8, 40] {
                        let text =
                            format!("\"{}{special}{}\"", "a".repeat(length), "b".repeat(rest));
                        let body = format!("{open}{text}{close}");
                        // A control character or a quote is refused where it stands or just behind.
                        let at =
                            open.len() + 1 + length + usize::from(!special.starts_with('\u{1f}'));
                        match (scan(body.as_bytes()), problem) {
                            (Ok(scan), None) => {
                                let found = scan.value(body.as_bytes(), Field::User);
                                assert_eq!(found, Some(text.as_bytes()), "{body}");
                            }
                            (Err(ScanError::Syntax { expected, offset }), Some(problem)) => {
                                assert_eq!((expected, offset), (problem, at), "{body}");
                            }
                            (result, _) => panic!("{body}: {result:?}"),
                        }
                    }
                }
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_serde_json(text in r#"[{}\[\]",:\\a-c0-2.eE+\-tn \x00\n\u{e9}]{0,24}"#) {
            let ours = scan(text.as_bytes());
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            // Duplicates aside (none of the alphabet's names is read), both must agree; lone
            // surrogates are the one thing serde_json refuses that the grammar allows.
            let is_json = ours.is_ok() || matches!(ours, Err(ScanError::NotAnObject));
            proptest::prop_assert_eq!(is_json, theirs.is_ok(), "{:?}", ours);
        }

        #[test]
        fn agrees_with_serde_json_on_long_texts(
            text in r#"[a-z\u{e9}]{0,40}([a-z]{0,20}(\\[nu"q]|"|\x1f|\n)?){0,6}[a-z]{0,40}"#,
            pretty in proptest::bool::ANY,
        ) {
            let body = format!("{{{}\"user\":\"{text}\"}}", if pretty { "\n" } else { "" });
            let theirs = serde_json::from_str::<serde_json::Value>(&body);
            proptest::prop_assert_eq!(scan(body.as_bytes()).is_ok(), theirs.is_ok(), "{}", body);
        }

        #[test]
        fn never_panics(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = scan(&body);
        }

        #[test]
        fn values_are_found_whole(text in ".{0,100}", number in proptest::num::i64::ANY) {
            let body = serde_json::json!({"user": text, "n": number, "model": "m"}).to_string();
            let scan = scan(body.as_bytes()).unwrap();
            let user: String =
                serde_json::from_slice(scan.value(body.as_bytes(), Field::User).unwrap()).unwrap();
            proptest::prop_assert_eq!(user, text);
            let expected = number.to_string();
            let found = scan.value(body.as_bytes(), Field::N).unwrap();
            proptest::prop_assert_eq!(found, expected.as_bytes());
        }
    }
}
