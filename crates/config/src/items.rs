//! Lists whose items keep their position in the file after invalid ones have been left out.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;

use crate::diagnostics::Diagnostics;
use crate::path::ConfigPath;

/// A list with positions. Null items, which stand for invalid ones, are skipped but counted.
#[derive(Clone, Debug)]
pub(crate) struct Items<T> {
    valid: Vec<(usize, T)>,
    invalid: Vec<usize>,
}

impl<T> Items<T> {
    /// A list that does not come from a file.
    pub(crate) fn new(items: impl IntoIterator<Item = T>) -> Self {
        Self {
            valid: items.into_iter().enumerate().collect(),
            invalid: Vec::new(),
        }
    }

    /// Returns the items with their positions in the file. Reports those that can't be parsed,
    /// unless a mistake in them was reported before.
    pub(crate) fn with_positions(
        self,
        list: &ConfigPath,
        diagnostics: &mut Diagnostics,
    ) -> Vec<(usize, T)> {
        for index in self.invalid {
            diagnostics.schema_mismatch(&list.item(index));
        }
        self.valid
    }

    /// As [`Self::with_positions`], with paths instead of positions.
    pub(crate) fn with_paths(
        self,
        list: &ConfigPath,
        diagnostics: &mut Diagnostics,
    ) -> Vec<(ConfigPath, T)> {
        let items = self.with_positions(list, diagnostics).into_iter();
        items
            .map(|(index, item)| (list.item(index), item))
            .collect()
    }
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self::new([])
    }
}

/// Parses each item on its own, so that one whose inner list lost an item, and with it its type,
/// takes no other with it.
impl<'de, T: DeserializeOwned> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut items = Self::default();
        let values = Vec::<Json>::deserialize(deserializer)?.into_iter();
        for (index, value) in values.enumerate().filter(|(_, value)| !value.is_null()) {
            match T::deserialize(value) {
                Ok(item) => items.valid.push((index, item)),
                Err(_) => items.invalid.push(index),
            }
        }
        Ok(items)
    }
}

impl<T: JsonSchema> JsonSchema for Items<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        Vec::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Vec::<T>::json_schema(generator)
    }
}
