//! Settings that take effect only when the process starts. Their fields have the type
//! [`RestartOnly`]; a reload compares what it collects.

use std::borrow::Cow;
use std::collections::hash_map::DefaultHasher;
use std::fmt::Debug;
use std::hash::{Hash as _, Hasher as _};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use crate::path::ConfigPath;

/// The schema keyword of such settings.
const KEYWORD: &str = "x-needs-restart";

/// The end of the description of such settings.
const NOTE: &str = " Takes effect after a restart.";

/// A raw setting that takes effect only when the process starts.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(transparent)]
pub(crate) struct RestartOnly<T>(T);

/// The values of all settings that take effect only when the process starts, as hashes because
/// some are secret.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RestartOnlySettings(Vec<(String, u64)>);

impl<T> RestartOnly<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(value)
    }

    /// Returns the checked value and adds it to the settings. There is no other way to the value,
    /// so none can be left out.
    pub(crate) fn check<U: Debug>(
        self,
        at: &ConfigPath,
        settings: &mut RestartOnlySettings,
        check: impl FnOnce(T) -> U,
    ) -> U {
        let value = check(self.0);
        settings.0.push((at.to_string(), hash(&value)));
        value
    }
}

impl RestartOnlySettings {
    /// Returns the paths of the settings whose values differ, in the order of the file's sections.
    #[must_use]
    pub fn changes<'s>(&'s self, other: &Self) -> Vec<&'s str> {
        let pairs = self.0.iter().zip(&other.0);
        let changed = pairs.filter(|(ours, theirs)| ours != theirs);
        changed.map(|((path, _), _)| path.as_str()).collect()
    }
}

fn hash(value: &impl Debug) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{value:?}").hash(&mut hasher);
    hasher.finish()
}

impl<T: JsonSchema> JsonSchema for RestartOnly<T> {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        T::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = generator.subschema_for::<T>();
        schema.insert(KEYWORD.to_owned(), true.into());
        schema
    }
}

/// Adds a note to the description of every setting that needs a restart.
pub(crate) fn describe_restarts(schema: &mut Json) {
    match schema {
        Json::Object(fields) => {
            let needs_restart = fields.get(KEYWORD).is_some();
            if let Some(Json::String(text)) =
                fields.get_mut("description").filter(|_| needs_restart)
            {
                text.push_str(NOTE);
            }
            fields.values_mut().for_each(describe_restarts);
        }
        Json::Array(items) => items.iter_mut().for_each(describe_restarts),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::{Environment, load_text, schema};

    use super::*;

    fn settings(text: &str) -> RestartOnlySettings {
        let environment = Environment::new([("", ""); 0]);
        let text = format!("providers: [{{ id: a, type: mock }}]\n{text}");
        let loaded = load_text(&text, Path::new("a.yaml"), &environment);
        loaded.unwrap().config.restart_only
    }

    #[test]
    fn changes_that_need_a_restart_are_named() {
        let before = settings("server: { listen: \"127.0.0.1:1\" }");
        let same = settings("server: { listen: \"127.0.0.1:1\", max_body: 1MiB }");
        assert_eq!(before.changes(&same), [""; 0]);
        let text = "server: { listen: \"127.0.0.1:2\", threads: 3 }\nadmin: { cors: [\"*\"] }\n\
                    store: { poll: 1s }";
        let changes = ["server.listen", "server.threads", "admin.cors", "store"];
        assert_eq!(before.changes(&settings(text)), changes);
    }

    #[test]
    fn the_schema_says_which_settings_need_a_restart() {
        let schema = schema();
        let listen = &schema["$defs"]["Server"]["properties"]["listen"];
        assert!(listen["description"].as_str().unwrap().ends_with(NOTE));
        let body = &schema["$defs"]["Server"]["properties"]["max_body"];
        assert!(!body["description"].as_str().unwrap().contains("restart"));
        let marked = schema.to_string().matches(KEYWORD).count();
        assert_eq!(marked, settings("").0.len());
    }
}
