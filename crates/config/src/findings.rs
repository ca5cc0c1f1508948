//! Collects problems while a file is checked and finds the line each belongs to. It judges nothing.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use crate::report::{Mark, Problem, Severity};
use crate::yaml::{Node, Value};

/// The problems found so far in one file.
pub(crate) struct Findings {
    file: Arc<str>,
    places: HashMap<String, Mark>,
    written_out: HashSet<At>,
    problems: Vec<Problem>,
    misshapen: HashSet<At>,
    /// The settings that hold misshapen ones.
    around_misshapen: HashSet<At>,
}

/// The path of a setting in the file, as `models[2].deployments[0].weight`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct At(String);

/// What is wrong with a value, without saying where: the error of every scalar type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wrong {
    /// Completes the sentence that the value begins: `is not a size`.
    pub(crate) what: String,
    /// What to write instead.
    pub(crate) remedy: String,
}

impl Findings {
    pub(crate) fn new(file: &str) -> Self {
        Self {
            file: file.into(),
            places: HashMap::new(),
            written_out: HashSet::new(),
            problems: Vec::new(),
            misshapen: HashSet::new(),
            around_misshapen: HashSet::new(),
        }
    }

    /// Learns where each setting of the file stands.
    pub(crate) fn locate(&mut self, root: &Node) {
        self.places.insert(String::new(), root.mark);
        self.locate_below(&At::default(), root);
    }

    /// An empty collector for the same file, to try something out.
    pub(crate) fn scratch(&self) -> Self {
        Self::new(&self.file)
    }

    /// Takes over what a scratch collector found, now with its places.
    pub(crate) fn adopt(&mut self, scratch: Self) {
        for mut problem in scratch.problems {
            problem.mark = problem.mark.or_else(|| self.mark(&problem.path));
            self.problems.push(problem);
        }
        self.misshapen.extend(scratch.misshapen);
        self.around_misshapen.extend(scratch.around_misshapen);
    }

    /// An error in the shape of the file: a wrong type, an unknown field. Later errors about the
    /// same setting would only follow from it and are left out.
    pub(crate) fn misshapen(
        &mut self,
        at: &At,
        what: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(Severity::Error, at, what.into(), remedy.into());
        self.hush(at.clone());
    }

    /// As [`Self::misshapen`], at a mark known better than by the path.
    pub(crate) fn misshapen_at(&mut self, mark: Mark, at: &At, what: String, remedy: String) {
        self.misshapen(at, what, remedy);
        if let Some(problem) = self.problems.last_mut() {
            problem.mark = Some(mark);
        }
    }

    /// Says nothing more about a setting whose mistake is reported under another name.
    pub(crate) fn hush(&mut self, at: At) {
        self.around_misshapen.extend(at.holders());
        self.misshapen.insert(at);
    }

    /// Whether an error about this very setting was reported before.
    pub(crate) fn is_hushed(&self, at: &At) -> bool {
        self.misshapen.contains(at)
    }

    /// An error in what the file means.
    pub(crate) fn error(&mut self, at: &At, what: impl Into<String>, remedy: impl Into<String>) {
        if !self.is_about_misshapen(at) {
            self.push(Severity::Error, at, what.into(), remedy.into());
        }
    }

    /// Something whose mistakes the walk over the schema should have reported. What serde says of it
    /// may quote a secret and is not shown.
    pub(crate) fn unreadable(&mut self, at: &At) {
        self.error(
            at,
            "fits its schema and can't be read",
            "report this as a mistake of the router",
        );
    }

    /// Something that works and deserves a look.
    pub(crate) fn warn(&mut self, at: &At, what: impl Into<String>, remedy: impl Into<String>) {
        if !self.is_about_misshapen(at) {
            self.push(Severity::Warning, at, what.into(), remedy.into());
        }
    }

    /// Whether the value stands in the file itself, not in a variable.
    pub(crate) fn is_written_out(&self, at: &At) -> bool {
        self.written_out.contains(at)
    }

    /// A problem found elsewhere than in this file.
    pub(crate) fn add(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    pub(crate) fn has_errors(&self) -> bool {
        let mut problems = self.problems.iter();
        problems.any(|problem| problem.severity == Severity::Error)
    }

    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    fn push(&mut self, severity: Severity, at: &At, message: String, remedy: String) {
        self.problems.push(Problem {
            severity,
            file: Arc::clone(&self.file),
            mark: self.mark(&at.0),
            path: at.to_string(),
            message,
            remedy,
        });
    }

    /// Whether the setting, or one in it or around it, was reported as misshapen.
    fn is_about_misshapen(&self, at: &At) -> bool {
        let mut holders = at.holders();
        self.misshapen.contains(at)
            || self.around_misshapen.contains(at)
            || holders.any(|holder| self.misshapen.contains(&holder))
    }

    /// The place of a setting, or of the nearest thing around it that is in the file.
    fn mark(&self, path: &str) -> Option<Mark> {
        let mut path = path;
        loop {
            if let Some(mark) = self.places.get(path) {
                return Some(*mark);
            }
            if path.is_empty() {
                return None;
            }
            path = outer(path);
        }
    }

    fn locate_below(&mut self, at: &At, node: &Node) {
        match &node.value {
            Value::Map(entries) => {
                for entry in entries {
                    let below = at.field(&entry.key);
                    let mark = entry.best_mark();
                    self.places.entry(below.0.clone()).or_insert(mark);
                    self.locate_below(&below, &entry.node);
                }
            }
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    let below = at.item(index);
                    self.places.insert(below.0.clone(), item.mark);
                    self.locate_below(&below, item);
                }
            }
            Value::Scalar(scalar) if scalar.is_written_out() => {
                self.written_out.insert(at.clone());
            }
            Value::Scalar(_) | Value::Broken(_) => {}
        }
    }
}

impl At {
    pub(crate) fn field(&self, name: &str) -> Self {
        let dot = if self.0.is_empty() { "" } else { "." };
        Self(format!("{}{dot}{}", self.0, name.escape_debug()))
    }

    pub(crate) fn item(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// A setting by its path within this one; the empty path is this one.
    pub(crate) fn below(&self, path: &str) -> Self {
        let joint = if path.is_empty() || path.starts_with('[') {
            ""
        } else {
            "."
        };
        Self(format!("{}{joint}{path}", self.0))
    }

    /// Whether the other setting lies within this one, or is this one.
    pub(crate) fn holds(&self, other: &Self) -> bool {
        self == other || other.holders().any(|holder| holder == *self)
    }

    /// The settings that this one lies in, from the nearest out to the whole file.
    fn holders(&self) -> impl Iterator<Item = Self> {
        let inner = std::iter::successors(Some(self.0.as_str()), |inner| {
            let inner: &str = inner;
            (!inner.is_empty()).then(|| outer(inner))
        });
        inner.skip(1).map(|path| Self(path.to_owned()))
    }
}

/// The path without its last step.
fn outer(path: &str) -> &str {
    &path[..path.rfind(['.', '[']).unwrap_or(0)]
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(root)" } else { &self.0 })
    }
}

impl Wrong {
    pub(crate) fn new(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        let (what, remedy) = (what.into(), remedy.into());
        Self { what, remedy }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what, self.remedy)
    }
}
