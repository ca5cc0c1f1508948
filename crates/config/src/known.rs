//! The names that a file defines, for whoever refers to them. Names of items with mistakes in them
//! count too: a reference to one of those is no second mistake.

use std::collections::HashMap;

use crate::findings::{At, Findings};
use crate::yaml::{Node, nearest};

/// What can be referred to.
pub(crate) struct Known {
    /// Providers by id.
    pub(crate) providers: Names,
    /// Public models by name.
    pub(crate) models: Names,
    /// Keys by name.
    pub(crate) keys: Names,
}

/// Names with the position in their list of the first item that has each.
pub(crate) struct Names {
    list: &'static str,
    first: HashMap<String, usize>,
}

impl Known {
    pub(crate) fn in_file(root: &Node) -> Self {
        Self {
            providers: Names::in_list(root, "providers", "id"),
            models: Names::in_list(root, "models", "name"),
            keys: Names::in_list(root, "keys", "name"),
        }
    }
}

impl Names {
    fn in_list(root: &Node, list: &'static str, field: &str) -> Self {
        let mut first = HashMap::new();
        let items = root.get(list).map(Node::items).unwrap_or_default();
        for (index, item) in items.iter().enumerate() {
            if let Some(name) = item.get(field).and_then(Node::text) {
                first.entry(name.to_owned()).or_insert(index);
            }
        }
        Self { list, first }
    }

    /// Every name.
    pub(crate) fn all(&self) -> impl Iterator<Item = &str> {
        self.first.keys().map(String::as_str)
    }

    /// The position of the item with that name.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.first.get(name).copied()
    }

    /// The position of the item that a setting refers to; a name that nothing has is reported.
    pub(crate) fn refer(&self, name: &str, at: &At, findings: &mut Findings) -> Option<usize> {
        let position = self.position(name);
        if position.is_none() {
            let what = format!("`{name}` is not among the {}", self.list);
            findings.error(at, what, self.suggestion(name));
        }
        position
    }

    /// Reports a name that an earlier item has. The path is that of the name.
    pub(crate) fn check_unique(&self, name: &str, at: &At, findings: &mut Findings) {
        let Some(first) = self.position(name) else {
            return;
        };
        let list = At::default().field(self.list);
        if !list.item(first).holds(at) {
            let what = format!("`{name}` is also the name of {}", list.item(first));
            findings.error(at, what, "choose another");
        }
    }

    /// What to write instead of a name that nothing has.
    pub(crate) fn suggestion(&self, name: &str) -> String {
        match nearest(name, self.all()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None if self.first.is_empty() => format!("add it to {}", self.list),
            None => format!("there are: {}", self.listed()),
        }
    }

    fn listed(&self) -> String {
        const MOST: usize = 10;
        let mut names: Vec<(&usize, &str)> = Vec::with_capacity(self.first.len());
        names.extend(
            self.first
                .iter()
                .map(|(name, index)| (index, name.as_str())),
        );
        names.sort_unstable();
        let more = if names.len() > MOST { ", …" } else { "" };
        let names: Vec<&str> = names.iter().take(MOST).map(|(_, name)| *name).collect();
        names.join(", ") + more
    }
}
