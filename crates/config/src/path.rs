//! Paths of settings, as `models[2].deployments[0].weight`. They share their beginnings, so that
//! a file with long keys and many values needs no more memory than its text.

use std::fmt;
use std::rc::Rc;

use llm_router_yaml::{Mark, Node};

/// The path of a setting in the file; the empty one is the whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct ConfigPath(Option<Rc<Step>>);

/// The last step of a path.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Step {
    parent: ConfigPath,
    segment: Segment,
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum Segment {
    Field(Box<str>),
    Item(usize),
}

impl ConfigPath {
    /// The path of a field of this setting.
    pub(crate) fn field(&self, name: &str) -> Self {
        self.step(Segment::Field(name.into()))
    }

    /// The path of an item of this setting, counted from 0.
    pub(crate) fn item(&self, index: usize) -> Self {
        self.step(Segment::Item(index))
    }

    /// The path of a setting within this one, by its text: `all[0].header`. The empty text is this
    /// setting.
    pub(crate) fn join(&self, text: &str) -> Self {
        let steps = text.split('.').filter(|step| !step.is_empty());
        steps.fold(self.clone(), |path, step| {
            let (name, items) = step.find('[').map_or((step, ""), |at| step.split_at(at));
            let path = if name.is_empty() {
                path
            } else {
                path.field(name)
            };
            let items = items.split(['[', ']']).filter_map(|item| item.parse().ok());
            items.fold(path, |path, index| path.item(index))
        })
    }

    /// Returns true if the other setting is this one or lies within it.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        self == other || other.ancestors().any(|ancestor| ancestor == *self)
    }

    /// The settings that this one lies in, from the innermost out to the whole file.
    pub(crate) fn ancestors(&self) -> impl Iterator<Item = Self> {
        std::iter::successors(self.parent(), Self::parent)
    }

    /// Returns the node of the setting, if the tree has one.
    pub(crate) fn find<'n>(&self, root: &'n Node) -> Option<&'n Node> {
        let Some(step) = &self.0 else {
            return Some(root);
        };
        let parent = step.parent.find(root)?;
        match &step.segment {
            Segment::Field(name) => parent.get(name),
            Segment::Item(index) => parent.items().get(*index),
        }
    }

    /// Returns the position of the setting, or of the innermost one around it that the tree has.
    pub(crate) fn mark(&self, root: &Node) -> Mark {
        let Some(step) = &self.0 else {
            return root.mark;
        };
        let parent = step.parent.find(root);
        let mark = parent.and_then(|parent| match &step.segment {
            Segment::Field(name) => Some(parent.entry(name)?.best_mark()),
            Segment::Item(index) => Some(parent.items().get(*index)?.mark),
        });
        mark.unwrap_or_else(|| step.parent.mark(root))
    }

    fn step(&self, segment: Segment) -> Self {
        let parent = self.clone();
        Self(Some(Rc::new(Step { parent, segment })))
    }

    fn parent(&self) -> Option<Self> {
        Some(self.0.as_ref()?.parent.clone())
    }
}

impl fmt::Display for ConfigPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(step) = &self.0 else {
            return f.write_str("(root)");
        };
        let is_first = step.parent.0.is_none();
        if !is_first {
            step.parent.fmt(f)?;
        }
        match &step.segment {
            Segment::Item(index) => write!(f, "[{index}]"),
            Segment::Field(name) => {
                f.write_str(if is_first { "" } else { "." })?;
                write_shortened(name, f)
            }
        }
    }
}

fn write_shortened(name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const MOST: usize = 100;
    match name.char_indices().nth(MOST) {
        Some((end, _)) => write!(f, "{}…", name[..end].escape_debug()),
        None => write!(f, "{}", name.escape_debug()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_built_and_printed() {
        let root = ConfigPath::default();
        let weight = root.field("models").item(2).field("weight");
        assert_eq!(root.to_string(), "(root)");
        assert_eq!(weight.to_string(), "models[2].weight");
        assert_eq!(root.item(1).to_string(), "[1]");
        assert_eq!(root.join("models[2].weight"), weight);
        assert_eq!(root.field("models").join("[2].weight"), weight);
        assert_eq!(weight.join(""), weight);
        assert_eq!(root.join("a[0][1]"), root.field("a").item(0).item(1));
        assert!(root.field("models").contains(&weight) && weight.contains(&weight));
        assert!(!weight.contains(&root) && !root.field("keys").contains(&weight));
        let ancestors: Vec<String> = weight.ancestors().map(|path| path.to_string()).collect();
        assert_eq!(ancestors, ["models[2]", "models", "(root)"]);
        let long = root.field(&"x".repeat(5_000)).to_string();
        assert_eq!(long.chars().count(), 101);
        assert_eq!(root.field("a\nb").to_string(), "a\\nb");
    }

    #[test]
    fn positions_are_those_of_the_innermost_setting_in_the_file() {
        let tree = llm_router_yaml::parse("models:\n  - name: a\n    limits: {}\n").unwrap();
        let model = ConfigPath::default().field("models").item(0);
        for (path, line, column) in [
            (ConfigPath::default(), 1, 1),
            (model.clone(), 2, 5),
            (model.field("name"), 2, 11),
            (model.field("limits"), 3, 5),
            (model.field("limits").field("rpm"), 3, 5),
            (model.field("nothing"), 2, 5),
            (ConfigPath::default().field("models").item(7), 1, 1),
        ] {
            assert_eq!(path.mark(&tree), Mark { line, column }, "{path}");
        }
        assert_eq!(model.field("name").find(&tree).unwrap().text(), Some("a"));
        assert!(model.field("limits").field("rpm").find(&tree).is_none());
    }
}
