//! Finding members of JSON text by byte offset, without parsing or copying the rest. It must not
//! judge whether the text is valid: what can't be followed is simply not found.

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr2, memchr3};

/// One member of an object, by its place in the text it was found in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The key between its quotes, escapes as written.
    pub key: Range<usize>,
    /// The value without white space around it.
    pub value: Range<usize>,
}

/// The members of the object that `text` holds, in order; none if it holds no object.
#[must_use]
pub const fn members(text: &[u8]) -> Members<'_> {
    Members { text, at: None }
}

/// Iterator of [`members`].
#[derive(Clone, Debug)]
pub struct Members<'a> {
    text: &'a [u8],
    /// The offset at which the next member may begin; none before the first.
    at: Option<usize>,
}

impl Iterator for Members<'_> {
    type Item = Member;

    fn next(&mut self) -> Option<Member> {
        let separator = match self.at {
            Some(at) => (at, b','),
            None => (0, b'{'),
        };
        let quote = skip_space(self.text, expect(self.text, separator)?);
        let key_end = string_end(self.text, quote)?;
        let value = skip_space(self.text, expect(self.text, (key_end, b':'))?);
        let end = value_end(self.text, value)?;
        self.at = Some(end);
        Some(Member {
            key: quote + 1..key_end - 1,
            value: value..end,
        })
    }
}

/// The members as key and value slices.
pub fn entries(text: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    members(text).filter_map(|member| Some((text.get(member.key)?, text.get(member.value)?)))
}

/// The value of the last member with this key: where a key stands twice, parsers take the last.
#[must_use]
pub fn member<'a>(text: &'a [u8], key: &[u8]) -> Option<&'a [u8]> {
    entries(text)
        .filter(|(found, _)| *found == key)
        .last()
        .map(|(_, value)| value)
}

/// The elements of the array that `text` holds; none if it holds no array.
#[must_use]
pub const fn elements(text: &[u8]) -> Elements<'_> {
    Elements { text, at: None }
}

/// Iterator of [`elements`].
#[derive(Clone, Debug)]
pub struct Elements<'a> {
    text: &'a [u8],
    at: Option<usize>,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let separator = match self.at {
            Some(at) => (at, b','),
            None => (0, b'['),
        };
        let start = skip_space(self.text, expect(self.text, separator)?);
        let end = value_end(self.text, start)?;
        self.at = Some(end);
        self.text.get(start..end)
    }
}

/// A count: a whole number, also written as a float or between quotes; below zero is zero.
#[must_use]
pub fn count(value: &[u8]) -> Option<u64> {
    let text = value
        .strip_prefix(b"\"")
        .and_then(|v| v.strip_suffix(b"\""))
        .unwrap_or(value);
    if text.first() == Some(&b'-') {
        return text
            .get(1)
            .filter(|digit| digit.is_ascii_digit())
            .map(|_| 0);
    }
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let rest = text.get(digits..)?;
    // A fraction is cut off; an exponent is no count that any provider writes.
    let fraction = rest
        .strip_prefix(b".")
        .is_none_or(|f| !f.iter().all(u8::is_ascii_digit));
    if digits == 0 || (!rest.is_empty() && fraction) {
        return None;
    }
    let number = std::str::from_utf8(text.get(..digits)?).ok()?;
    Some(number.parse().unwrap_or(u64::MAX))
}

/// The text of a JSON string, unescaped.
#[must_use]
pub fn string(value: &[u8]) -> Option<Cow<'_, str>> {
    let inner = value.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if memchr::memchr(b'\\', inner).is_none() {
        return std::str::from_utf8(inner).ok().map(Cow::Borrowed);
    }
    serde_json::from_slice(value).ok().map(Cow::Owned)
}

/// The length of the string that `text` begins with, quotes included.
#[must_use]
pub fn string_len(text: &[u8]) -> Option<usize> {
    string_end(text, 0)
}

/// Returns true if a value is an object.
#[must_use]
pub fn is_object(value: &[u8]) -> bool {
    value.first() == Some(&b'{')
}

/// The offset of the first byte at or after `at` that is no JSON white space.
#[must_use]
pub fn skip_space(text: &[u8], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default();
    at + rest
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\n' | b'\t' | b'\r'))
        .count()
}

fn expect(text: &[u8], (at, byte): (usize, u8)) -> Option<usize> {
    let found = skip_space(text, at);
    (text.get(found) == Some(&byte)).then_some(found + 1)
}

/// The offset just past the value that begins at `start`.
fn value_end(text: &[u8], start: usize) -> Option<usize> {
    match text.get(start)? {
        b'"' => string_end(text, start),
        b'{' => nest_end(text, start, b'{', b'}'),
        b'[' => nest_end(text, start, b'[', b']'),
        _ => {
            let rest = text.get(start..)?;
            let scalar = |byte: &&u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
            let len = rest.iter().take_while(scalar).count();
            (len > 0).then_some(start + len)
        }
    }
}

/// The offset just past the string whose opening quote is at `start`.
fn string_end(text: &[u8], start: usize) -> Option<usize> {
    if text.get(start) != Some(&b'"') {
        return None;
    }
    let mut at = start + 1;
    loop {
        let found = at + memchr2(b'"', b'\\', text.get(at..)?)?;
        if text.get(found) == Some(&b'"') {
            return Some(found + 1);
        }
        at = found + 2;
    }
}

/// The offset just past the bracket that closes the one at `start`. Counting its own kind is
/// enough: in JSON the other kind is balanced in between.
fn nest_end(text: &[u8], start: usize, open: u8, close: u8) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = start;
    loop {
        let found = at + memchr3(b'"', open, close, text.get(at..)?)?;
        let byte = *text.get(found)?;
        if byte == b'"' {
            at = string_end(text, found)?;
            continue;
        }
        at = found + 1;
        if byte == open {
            depth += 1;
        } else {
            depth -= 1;
            if depth == 0 {
                return Some(at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str) -> Vec<(String, String)> {
        let text_of = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        entries(text.as_bytes())
            .map(|(key, value)| (text_of(key), text_of(value)))
            .collect()
    }

    #[test]
    fn finds_members_at_the_top_only() {
        let text = r#" { "a" : 1 , "b":{"a":"}\"{"},"c":[{"a":2},"]"], "d\"": null }"#;
        let expected = [
            ("a", "1"),
            ("b", r#"{"a":"}\"{"}"#),
            ("c", r#"[{"a":2},"]"]"#),
            ("d\\\"", "null"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(pairs(text), expected);
        assert_eq!(member(br#"{"a":1,"a":2}"#, b"a"), Some(&b"2"[..]));
    }

    #[test]
    fn what_is_no_object_or_is_cut_has_no_further_members() {
        for (text, found) in [
            ("", 0),
            ("[1]", 0),
            ("{}", 0),
            ("{\"a\":", 0),
            ("{\"a\":1,\"b", 1),
        ] {
            assert_eq!(pairs(text).len(), found, "{text:?}");
        }
        assert_eq!(
            elements(b"[1, \"a,b\" ,{}]").collect::<Vec<_>>(),
            [&b"1"[..], b"\"a,b\"", b"{}"]
        );
    }

    #[test]
    fn counts_are_read_as_providers_write_them() {
        for (text, expected) in [
            ("12", Some(12)),
            ("12.0", Some(12)),
            ("\"12\"", Some(12)),
            ("-3", Some(0)),
            ("99999999999999999999", Some(u64::MAX)),
            ("null", None),
            ("1e3", None),
            ("{}", None),
            ("", None),
        ] {
            assert_eq!(count(text.as_bytes()), expected, "{text:?}");
        }
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            any::<i16>().prop_map(|n| serde_json::json!(f64::from(n) / 8.0)),
            "[a\"\\\\{}\\[\\],:\u{e9}\n ]{0,6}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
                prop::collection::btree_map("[a-c\"\\\\{]{0,3}", inner, 0..5)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_the_parser(value in value(), pretty in any::<bool>()) {
            let text = if pretty {
                serde_json::to_string_pretty(&value).unwrap()
            } else {
                serde_json::to_string(&value).unwrap()
            };
            let parse = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
            match &value {
                serde_json::Value::Object(map) => {
                    let found: serde_json::Map<_, _> = members(text.as_bytes())
                        .map(|m| {
                            let quoted = &text[m.key.start - 1..=m.key.end];
                            (serde_json::from_str(quoted).unwrap(), parse(text[m.value].as_bytes()))
                        })
                        .collect();
                    prop_assert_eq!(&found, map);
                }
                serde_json::Value::Array(list) => {
                    let found: Vec<_> = elements(text.as_bytes()).map(parse).collect();
                    prop_assert_eq!(&found, list);
                }
                _ => prop_assert_eq!(members(text.as_bytes()).count(), 0),
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(prop_oneof![
            Just(b'{'), Just(b'}'), Just(b'"'), Just(b'\\'), Just(b'['), Just(b']'), Just(b','),
            Just(b':'), any::<u8>()], 0..60)) {
            let _ = members(&bytes).count() + elements(&bytes).count();
            let _ = count(&bytes);
        }
    }
}
