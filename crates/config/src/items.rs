//! Lists whose items keep their place in the file after misfits have been left out.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer};

use crate::findings::At;

/// A list as read: null items, which stand for misfits, are skipped but counted.
#[derive(Clone, Debug)]
pub(crate) struct Items<T>(Vec<(usize, T)>);

impl<T> Items<T> {
    /// The items of a list that was not read from a file.
    pub(crate) fn of(items: impl IntoIterator<Item = T>) -> Self {
        Self(items.into_iter().enumerate().collect())
    }

    /// The items with their paths below the list's.
    pub(crate) fn located(self, list: &At) -> impl Iterator<Item = (At, T)> {
        let items = self.0.into_iter();
        items.map(|(index, item)| (list.item(index), item))
    }

    /// The items by their position in the file.
    pub(crate) fn indexed(self) -> impl Iterator<Item = (usize, T)> {
        self.0.into_iter()
    }
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Items<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let items = Vec::<Option<T>>::deserialize(deserializer)?;
        let items = items.into_iter().enumerate();
        Ok(Self(
            items
                .filter_map(|(index, item)| Some((index, item?)))
                .collect(),
        ))
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
