//! The names that a file defines, to which other settings refer. Names of items with mistakes
//! count too: a reference to one of those is no second mistake.

use std::collections::HashMap;

use llm_router_yaml::{Node, nearest};

use crate::diagnostics::Diagnostics;
use crate::path::ConfigPath;

/// The names of everything that settings refer to.
pub(crate) struct DefinedNames {
    /// Providers by id.
    pub(crate) providers: NameIndex,
    /// Public models by name.
    pub(crate) models: NameIndex,
    /// Keys by name.
    pub(crate) keys: NameIndex,
}

/// The names in one list, each with the position of the first item that has it.
pub(crate) struct NameIndex {
    list: &'static str,
    /// The name of one item in messages.
    item: &'static str,
    first: HashMap<String, usize>,
}

impl DefinedNames {
    pub(crate) fn new(root: &Node) -> Self {
        Self {
            providers: NameIndex::new(root, "providers", "provider", "id"),
            models: NameIndex::new(root, "models", "model", "name"),
            keys: NameIndex::new(root, "keys", "key", "name"),
        }
    }
}

impl NameIndex {
    fn new(root: &Node, list: &'static str, item: &'static str, field: &str) -> Self {
        let mut first = HashMap::new();
        let items = root.get(list).map(Node::items).unwrap_or_default();
        for (index, node) in items.iter().enumerate() {
            if let Some(name) = node.get(field).and_then(Node::text) {
                first.entry(name.to_owned()).or_insert(index);
            }
        }
        Self { list, item, first }
    }

    /// Every name, in no order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.first.keys().map(String::as_str)
    }

    /// The position of the item with that name.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.first.get(name).copied()
    }

    /// Returns the position of the item that a setting refers to, and reports a name that no item
    /// has.
    pub(crate) fn resolve(
        &self,
        name: &str,
        at: &ConfigPath,
        diagnostics: &mut Diagnostics,
    ) -> Option<usize> {
        let position = self.position(name);
        if position.is_none() {
            let problem = format!("there is no {} `{name}`", self.item);
            diagnostics.error(at, problem, self.suggestion(name));
        }
        position
    }

    /// Reports a name that an earlier item has. The path is that of the name.
    pub(crate) fn check_unique(&self, name: &str, at: &ConfigPath, diagnostics: &mut Diagnostics) {
        let Some(first) = self.position(name) else {
            return;
        };
        let first = ConfigPath::default().field(self.list).item(first);
        if !first.contains(at) {
            let problem = format!("`{name}` is already used by {first}");
            diagnostics.error(at, problem, "choose another name");
        }
    }

    /// Suggests a replacement for a name that no item has.
    pub(crate) fn suggestion(&self, name: &str) -> String {
        match nearest(name, self.all()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if self.first.is_empty() => format!("add it to {}", self.list),
            None => format!("use one of: {}", self.summary()),
        }
    }

    /// The first names in the order of the file.
    fn summary(&self) -> String {
        const MOST: usize = 10;
        let names = self.first.iter();
        let mut names: Vec<(usize, &str)> = names.map(|(name, at)| (*at, name.as_str())).collect();
        names.sort_unstable();
        let more = if names.len() > MOST { ", …" } else { "" };
        let names: Vec<&str> = names.iter().take(MOST).map(|(_, name)| *name).collect();
        names.join(", ") + more
    }
}
