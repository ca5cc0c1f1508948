//! A JSON tree that borrows from the body it was read from, and the same written out again. It
//! knows no format: what a field means is for the modules of the formats.

use std::borrow::Cow;
use std::fmt;

use bytes::{BufMut as _, BytesMut};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Number;
use serde_json::value::RawValue;

/// Fields whose objects are carried from one format to another and never looked into: schemas and
/// tool arguments. They stay the bytes that were sent, so no number in them loses a digit.
const OPAQUE: [&str; 7] = [
    "parameters",
    "input_schema",
    "schema",
    "input",
    "args",
    "arguments",
    "parametersJsonSchema",
];

/// A JSON value.
#[derive(Clone, Debug)]
pub(crate) enum Json<'a> {
    Null,
    Bool(bool),
    Number(Number),
    String(Cow<'a, str>),
    Array(Vec<Self>),
    Object(Object<'a>),
    /// An object that was not looked into.
    Opaque(&'a RawValue),
}

/// A JSON object, its fields in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Object<'a>(pub(crate) Vec<(Cow<'a, str>, Json<'a>)>);

impl<'a> Json<'a> {
    /// Reads a whole text.
    pub(crate) fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    pub(crate) const fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn into_string(self) -> Option<Cow<'a, str>> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// A string that is not empty: providers send `""` where they have nothing to say.
    pub(crate) fn into_text(self) -> Option<Cow<'a, str>> {
        self.into_string().filter(|text| !text.is_empty())
    }

    pub(crate) const fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// A count. Whole numbers written with a point (`12.0`) are counts too.
    pub(crate) fn as_u64(&self) -> Option<u64> {
        let Self::Number(number) = self else {
            return None;
        };
        number.as_u64().or_else(|| whole(number.as_f64()?))
    }

    pub(crate) fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    pub(crate) fn into_array(self) -> Option<Vec<Self>> {
        match self {
            Self::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The object, looked into if it was opaque.
    pub(crate) fn into_object(self) -> Option<Object<'a>> {
        match self {
            Self::Object(object) => Some(object),
            Self::Opaque(raw) => match Self::parse(raw.get()) {
                Ok(Self::Object(object)) => Some(object),
                _ => None,
            },
            _ => None,
        }
    }

    /// The field `key` of an object that was looked into.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        match self {
            Self::Object(object) => object.get(key),
            _ => None,
        }
    }

    /// The string in the field `key`.
    pub(crate) fn str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// The count in the field `key`.
    pub(crate) fn u64(&self, key: &str) -> Option<u64> {
        self.get(key)?.as_u64()
    }

    /// The value as JSON text.
    pub(crate) fn to_text(&self) -> Cow<'a, str> {
        if let Self::Opaque(raw) = self {
            return Cow::Borrowed(raw.get());
        }
        let mut out = BytesMut::new();
        self.write(&mut out);
        Cow::Owned(String::from_utf8_lossy(&out).into_owned())
    }

    /// Appends the value as JSON text.
    pub(crate) fn write(&self, out: &mut BytesMut) {
        match self {
            Self::Null => out.put_slice(b"null"),
            Self::Bool(true) => out.put_slice(b"true"),
            Self::Bool(false) => out.put_slice(b"false"),
            Self::Number(number) => write_number(out, number),
            Self::String(text) => write_string(out, text),
            Self::Opaque(raw) => out.put_slice(raw.get().as_bytes()),
            Self::Array(items) => write_array(out, items),
            Self::Object(object) => object.write(out),
        }
    }
}

impl<'a> Object<'a> {
    pub(crate) fn get(&self, key: &str) -> Option<&Json<'a>> {
        let (_, value) = self.0.iter().find(|(name, _)| name == key)?;
        Some(value)
    }

    pub(crate) fn get_mut(&mut self, key: &str) -> Option<&mut Json<'a>> {
        let (_, value) = self.0.iter_mut().find(|(name, _)| name == key)?;
        Some(value)
    }

    /// Removes a field; true if it was there.
    pub(crate) fn remove(&mut self, key: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|(name, _)| name != key);
        self.0.len() < before
    }

    /// Takes a value out and leaves null in its place; null and absent are the same.
    pub(crate) fn take(&mut self, key: &str) -> Option<Json<'a>> {
        let (_, value) = self.0.iter_mut().find(|(name, _)| name == key)?;
        Some(std::mem::replace(value, Json::Null)).filter(|value| !value.is_null())
    }

    /// Takes a string out.
    pub(crate) fn take_string(&mut self, key: &str) -> Option<Cow<'a, str>> {
        self.take(key)?.into_string()
    }

    /// Takes an object out.
    pub(crate) fn take_object(&mut self, key: &str) -> Option<Self> {
        self.take(key)?.into_object()
    }

    /// Takes an array out; one that is missing is empty.
    pub(crate) fn take_array(&mut self, key: &str) -> Vec<Json<'a>> {
        self.take(key)
            .and_then(Json::into_array)
            .unwrap_or_default()
    }

    /// The string in the field `key`.
    pub(crate) fn str(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_str()
    }

    /// The count in the field `key`.
    pub(crate) fn u64(&self, key: &str) -> Option<u64> {
        self.get(key)?.as_u64()
    }

    /// Returns true if the field `key` is there and not null.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| !value.is_null())
    }

    fn write(&self, out: &mut BytesMut) {
        out.put_u8(b'{');
        for (at, (key, value)) in self.0.iter().enumerate() {
            if at > 0 {
                out.put_u8(b',');
            }
            write_string(out, key);
            out.put_u8(b':');
            value.write(out);
        }
        out.put_u8(b'}');
    }
}

/// The text with every `\uD800` to `\uDFFF` that has no partner replaced: some servers cut
/// surrogate pairs in two, and JSON readers refuse the halves.
pub(crate) fn without_lone_surrogates(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let length = match (
            surrogate(escape),
            surrogate(escape.get(6..).unwrap_or_default()),
        ) {
            (Some(true), Some(false)) => 12,
            (Some(_), _) => {
                out.push_str("\\ufffd");
                rest = escape.get(6..).unwrap_or_default();
                continue;
            }
            // A backslash and the character it escapes.
            (None, _) => 1 + escape.chars().nth(1).map_or(0, char::len_utf8),
        };
        out.push_str(escape.get(..length).unwrap_or(escape));
        rest = escape.get(length..).unwrap_or_default();
    }
    out.push_str(rest);
    out
}

/// Returns true if a text begins with the escape of a leading surrogate, false if of a trailing one,
/// none if of no surrogate.
fn surrogate(text: &str) -> Option<bool> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    match u16::from_str_radix(digits, 16).ok()? {
        0xD800..=0xDBFF => Some(true),
        0xDC00..=0xDFFF => Some(false),
        _ => None,
    }
}

/// Appends a string with its quotes and escapes.
pub(crate) fn write_string(out: &mut BytesMut, text: &str) {
    // Neither a string nor a growing buffer has a way to fail.
    serde_json::to_writer(out.writer(), text).ok();
}

/// Appends a string's content with its escapes, without quotes.
pub(crate) fn write_string_content(out: &mut BytesMut, text: &str) {
    let mut quoted = BytesMut::with_capacity(text.len() + 2);
    write_string(&mut quoted, text);
    out.put_slice(quoted.get(1..quoted.len() - 1).unwrap_or_default());
}

fn write_number(out: &mut BytesMut, number: &Number) {
    serde_json::to_writer(out.writer(), number).ok();
}

fn write_array(out: &mut BytesMut, items: &[Json<'_>]) {
    out.put_u8(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.put_u8(b',');
        }
        item.write(out);
    }
    out.put_u8(b']');
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "guarded: a whole number between zero and 2^53"
)]
fn whole(number: f64) -> Option<u64> {
    const LARGEST_EXACT: f64 = (1_u64 << 53) as f64;
    (number.fract() == 0.0 && (0.0..=LARGEST_EXACT).contains(&number)).then_some(number as u64)
}

impl<'de> Deserialize<'de> for Json<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor)
    }
}

struct JsonVisitor;

impl<'de> Visitor<'de> for JsonVisitor {
    type Value = Json<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Json<'de>, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json<'de>, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json<'de>, E> {
        Ok(Json::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json<'de>, E> {
        Ok(Number::from_f64(value).map_or(Json::Null, Json::Number))
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json<'de>, E> {
        Ok(Json::String(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Json<'de>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Json::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json<'de>, A::Error> {
        let mut fields = Vec::with_capacity(4);
        while let Some(Key(key)) = map.next_key()? {
            let value = if OPAQUE.contains(&key.as_ref()) {
                opaque(map.next_value()?)?
            } else {
                map.next_value()?
            };
            fields.push((key, value));
        }
        Ok(Json::Object(Object(fields)))
    }
}

/// Objects stay opaque; other values under the same names (Responses' `input` is a list) do not.
fn opaque<'de, E: serde::de::Error>(raw: &'de RawValue) -> Result<Json<'de>, E> {
    if raw.get().starts_with('{') {
        Ok(Json::Opaque(raw))
    } else {
        Json::parse(raw.get()).map_err(E::custom)
    }
}

struct Key<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }

            fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Borrowed(value)))
            }

            fn visit_str<E>(self, value: &str) -> Result<Key<'de>, E> {
                Ok(Key(Cow::Owned(value.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> String {
        Json::parse(text).unwrap().to_text().into_owned()
    }

    #[test]
    fn writes_what_it_read() {
        for text in [
            "null",
            "[1,-2,2.5,true,false,\"a\\n\\\"b\\u0001\"]",
            r#"{"a":{"b":[{}]},"c":"ü"}"#,
        ] {
            assert_eq!(round(text), text);
        }
    }

    #[test]
    fn schemas_and_arguments_keep_their_bytes() {
        let text = r#"{"parameters":{"maximum": 1.0, "n": 123456789012345678901234567890}}"#;
        assert_eq!(round(text), text);
    }

    #[test]
    fn opaque_objects_can_be_looked_into() {
        let json = Json::parse(r#"{"input":{"input":{"a":1}}}"#).unwrap();
        let mut object = json.into_object().unwrap();
        let mut inner = object.take_object("input").unwrap();
        assert!(matches!(inner.take("input"), Some(Json::Opaque(_))));
        assert!(!object.has("input"));
    }

    #[test]
    fn lists_under_opaque_names_are_read() {
        let json = Json::parse(r#"{"input":["x"]}"#).unwrap();
        assert_eq!(json.get("input").unwrap().as_array().unwrap().len(), 1);
    }

    #[test]
    fn strings_without_escapes_are_borrowed() {
        let json = Json::parse(r#"{"a":"plain","b":"esc\n"}"#).unwrap();
        assert!(matches!(
            json.get("a"),
            Some(Json::String(Cow::Borrowed("plain")))
        ));
        assert!(matches!(json.get("b"), Some(Json::String(Cow::Owned(_)))));
    }

    #[test]
    fn halves_of_surrogate_pairs_are_replaced() {
        for (text, repaired) in [
            (r#""\ud83d\ude00""#, r#""\ud83d\ude00""#),
            (r#""a\ud83d""#, r#""a\ufffd""#),
            (r#""\ude00b\n""#, r#""\ufffdb\n""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\ud83d\u0041""#, r#""\ufffd\u0041""#),
        ] {
            let found = without_lone_surrogates(text);
            assert_eq!(found, repaired);
            assert!(Json::parse(&found).is_ok());
        }
    }

    #[test]
    fn whole_numbers_are_counts() {
        for (text, count) in [
            ("12", Some(12)),
            ("12.0", Some(12)),
            ("12.5", None),
            ("-1", None),
            ("1e300", None),
            ("\"12\"", None),
        ] {
            assert_eq!(Json::parse(text).unwrap().as_u64(), count, "{text}");
        }
    }
}
