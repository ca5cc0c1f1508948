//! Settings written as one text: sizes, times, addresses, names. Each type brings its parser, its
//! part of the JSON Schema and its error messages; what a setting is good for is told elsewhere.

mod address;
mod amount;
mod name;
mod secret;
mod size;
mod store_url;
mod time;

use std::fmt;
use std::path::Path;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};

use crate::findings::Wrong;

pub(crate) use amount::Usd;
pub(crate) use name::{Label, ModelName, ProviderId};
pub(crate) use secret::HeaderValue;
pub(crate) use size::ByteSize;
pub(crate) use time::TimeSpan;

pub use address::{BaseUrl, Scheme};
pub use name::NamePattern;
pub use store_url::{CounterUrl, StoreUrl};

pub(crate) use address::{UrlPath, WebOrigin};

/// A type whose values are written as one text.
pub(crate) trait TextSetting: Sized {
    /// The `format` keyword of its schema, by which [`format`] finds it.
    const FORMAT: &'static str;
    /// The JSON types it may have; the text of a number is what the file says, digit by digit.
    const TYPES: &'static [&'static str] = &["string"];
    /// Values to show in an editor.
    const EXAMPLES: &'static [&'static str] = &[];
    /// Whether the text must not be shown to anybody.
    const SECRET: bool = false;

    /// Reads the text.
    fn parse(text: &str) -> Result<Self, Wrong>;

    /// The text with the relative path in it, if any, put below a folder.
    fn resolve(text: &str, _folder: &Path) -> String {
        text.to_owned()
    }
}

/// What the walk over a file does with a text of a certain format.
#[derive(Clone, Copy)]
pub(crate) struct Format {
    name: &'static str,
    pub(crate) check: fn(&str) -> Result<(), Wrong>,
    pub(crate) resolve: fn(&str, &Path) -> String,
}

/// The format of that name, if it is one of ours.
pub(crate) fn format(name: &str) -> Option<Format> {
    FORMATS.iter().find(|format| format.name == name).copied()
}

const FORMATS: &[Format] = &[
    Format::of::<BaseUrl>(),
    Format::of::<ByteSize>(),
    Format::of::<CounterUrl>(),
    Format::of::<HeaderValue>(),
    Format::of::<Label>(),
    Format::of::<ModelName>(),
    Format::of::<NamePattern>(),
    Format::of::<ProviderId>(),
    Format::of::<StoreUrl>(),
    Format::of::<TimeSpan>(),
    Format::of::<UrlPath>(),
    Format::of::<Usd>(),
    Format::of::<WebOrigin>(),
    Format::of::<jiff::Timestamp>(),
    Format::of::<secrecy::SecretString>(),
    Format::of::<std::net::SocketAddr>(),
    Format::of::<std::path::PathBuf>(),
];

impl Format {
    const fn of<T: TextSetting>() -> Self {
        Self {
            name: T::FORMAT,
            check: |text| T::parse(text).map(drop),
            resolve: T::resolve,
        }
    }
}

/// A value that stands in the file as one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text<T>(pub(crate) T);

impl<'de, T: TextSetting> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text,
            serde_json::Value::Number(number) => number.to_string(),
            _ => return Err(Error::custom("expected a text")),
        };
        T::parse(&text).map(Self).map_err(Error::custom)
    }
}

impl<T: TextSetting> JsonSchema for Text<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::FORMAT.into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = match T::TYPES {
            [one] => json_schema!({ "type": one, "format": T::FORMAT }),
            many => json_schema!({ "type": many, "format": T::FORMAT }),
        };
        if T::SECRET {
            schema.insert("writeOnly".to_owned(), true.into());
        }
        if !T::EXAMPLES.is_empty() {
            schema.insert("examples".to_owned(), T::EXAMPLES.into());
        }
        schema
    }
}

/// For the default values in the schema. Secrets can't be had: they have no `Display`.
impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A text that can be read, and what must hold for its value.
#[cfg(test)]
type Good<T> = (&'static str, fn(&T) -> bool);

#[cfg(test)]
fn assert_texts<T: TextSetting + fmt::Debug>(good: &[Good<T>], bad: &[(&str, &str)]) {
    for (text, holds) in good {
        let value = T::parse(text).unwrap_or_else(|wrong| panic!("{text:?}: {wrong}"));
        assert!(holds(&value), "{text:?} became {value:?}");
    }
    for (text, part) in bad {
        let wrong = T::parse(text).expect_err(text).to_string();
        assert!(wrong.contains(part), "{text:?}: {wrong}");
    }
}
