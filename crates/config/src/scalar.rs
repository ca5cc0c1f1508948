//! Types of settings that are written as one text: sizes, times, addresses, names. Each has its
//! parser, its schema and its error messages. They must not know which settings use them.

mod address;
mod amount;
mod name;
mod secret;
mod size;
mod store_url;
mod time;

use std::fmt;
use std::path::Path;

use llm_router_yaml::ValueError;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error};
use serde::{Serialize, Serializer};

pub(crate) use amount::Usd;
pub(crate) use name::{Label, ModelName, ProviderId};
pub(crate) use secret::HeaderValue;
pub(crate) use size::ByteSize;
pub(crate) use time::TimeSpan;

pub use address::{BaseUrl, Scheme, is_link_local};
pub use name::NamePattern;
pub use store_url::CounterUrl;

pub(crate) use address::{UrlPath, WebOrigin};

/// A type whose values are written as one text.
pub(crate) trait TextSetting: Sized {
    /// The `format` keyword of its schema, by which [`find_format`] finds it.
    const FORMAT: &'static str;
    /// The JSON types it may have. A number is parsed from its text, digit by digit.
    const TYPES: &'static [&'static str] = &["string"];
    /// Examples for editors and messages.
    const EXAMPLES: &'static [&'static str] = &[];
    /// True if the text must not be shown.
    const SECRET: bool = false;

    /// Parses the text.
    fn parse(text: &str) -> Result<Self, ValueError>;

    /// Returns the text with a relative path in it, if there is one, put below a folder.
    fn resolve(text: &str, _folder: &Path) -> String {
        text.to_owned()
    }
}

/// The functions of a type of texts, for the reader of a file that knows its schema only.
#[derive(Clone, Copy)]
pub(crate) struct TextFormat {
    name: &'static str,
    pub(crate) check: fn(&str) -> Result<(), ValueError>,
    pub(crate) resolve: fn(&str, &Path) -> String,
}

/// Finds the format of that name, unless it is not one of ours.
pub(crate) fn find_format(name: &str) -> Option<TextFormat> {
    FORMATS.iter().find(|format| format.name == name).copied()
}

const FORMATS: &[TextFormat] = &[
    TextFormat::new::<BaseUrl>(),
    TextFormat::new::<ByteSize>(),
    TextFormat::new::<CounterUrl>(),
    TextFormat::new::<HeaderValue>(),
    TextFormat::new::<Label>(),
    TextFormat::new::<ModelName>(),
    TextFormat::new::<NamePattern>(),
    TextFormat::new::<ProviderId>(),
    TextFormat::new::<llm_router_domain::store_url::StoreUrl>(),
    TextFormat::new::<llm_router_domain::network::IpNet>(),
    TextFormat::new::<TimeSpan>(),
    TextFormat::new::<UrlPath>(),
    TextFormat::new::<Usd>(),
    TextFormat::new::<WebOrigin>(),
    TextFormat::new::<jiff::Timestamp>(),
    TextFormat::new::<secrecy::SecretString>(),
    TextFormat::new::<std::net::SocketAddr>(),
    TextFormat::new::<std::path::PathBuf>(),
];

impl TextFormat {
    const fn new<T: TextSetting>() -> Self {
        Self {
            name: T::FORMAT,
            check: |text| T::parse(text).map(drop),
            resolve: T::resolve,
        }
    }
}

/// A value that is written as one text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Text<T>(pub(crate) T);

impl<'de, T: TextSetting> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = match serde_json::Value::deserialize(deserializer)? {
            serde_json::Value::String(text) => text,
            serde_json::Value::Number(number) => number.to_string(),
            _ => return Err(Error::custom("expected a string or a number")),
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

/// Writes the default values in the schema. Secrets can't be written: they have no `Display`.
impl<T: fmt::Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// A valid text, and a condition that its value must meet.
#[cfg(test)]
type ValidText<T> = (&'static str, fn(&T) -> bool);

#[cfg(test)]
fn assert_texts<T: TextSetting + fmt::Debug>(valid: &[ValidText<T>], invalid: &[(&str, &str)]) {
    for (text, holds) in valid {
        let value = T::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert!(holds(&value), "{text:?} became {value:?}");
    }
    for (text, part) in invalid {
        let error = T::parse(text).expect_err(text).to_string();
        assert!(error.contains(part), "{text:?}: {error}");
    }
}
