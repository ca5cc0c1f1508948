//! Lists whose items keep their place in the file after misfits have been left out.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;

use crate::findings::{At, Findings};

/// A list as read. Null items, which stand for misfits, are skipped but counted.
#[derive(Clone, Debug)]
pub(crate) struct Items<T> {
    read: Vec<(usize, T)>,
    unread: Vec<usize>,
}

impl<T> Items<T> {
    /// The items of a list that was not read from a file.
    pub(crate) fn of(items: impl IntoIterator<Item = T>) -> Self {
        Self {
            read: items.into_iter().enumerate().collect(),
            unread: Vec::new(),
        }
    }

    /// The items by their position in the file. Those that could not be read are reported, unless
    /// a mistake in them was.
    pub(crate) fn indexed(self, list: &At, findings: &mut Findings) -> Vec<(usize, T)> {
        for index in self.unread {
            findings.unreadable(&list.item(index));
        }
        self.read
    }

    /// As [`Self::indexed`], with their paths below the list's.
    pub(crate) fn located(self, list: &At, findings: &mut Findings) -> Vec<(At, T)> {
        let items = self.indexed(list, findings).into_iter();
        items
            .map(|(index, item)| (list.item(index), item))
            .collect()
    }
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self::of([])
    }
}

/// Each item is read on its own, so that a list within one that lost an item, and with it its type,
/// takes nothing else with it.
impl<'de, T: DeserializeOwned> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut items = Self::default();
        let values = Vec::<Json>::deserialize(deserializer)?.into_iter();
        for (index, value) in values.enumerate().filter(|(_, value)| !value.is_null()) {
            match T::deserialize(value) {
                Ok(item) => items.read.push((index, item)),
                Err(_) => items.unread.push(index),
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
