//! Collects the problems that are found while a file is checked, and adds their positions. It must
//! not check anything itself.

use std::collections::HashSet;
use std::rc::Rc;
use std::sync::Arc;

use llm_router_yaml::{Mark, Node, Value};

use crate::path::ConfigPath;
use crate::report::{Problem, Severity};

/// The most errors that are listed, and the most warnings. Whoever has more will fix these first.
const MAX_LISTED: usize = 1_000;

/// The problems of one file.
pub(crate) struct Diagnostics {
    file: Arc<str>,
    tree: Option<Rc<Node>>,
    problems: Vec<Problem>,
    /// Settings about which nothing more is reported.
    suppressed: HashSet<ConfigPath>,
    /// The settings around suppressed ones.
    around_suppressed: HashSet<ConfigPath>,
    errors: Count,
    warnings: Count,
}

/// The number of problems of one severity.
#[derive(Clone, Copy, Default)]
struct Count {
    listed: usize,
    unlisted: usize,
}

impl Diagnostics {
    pub(crate) fn new(file: &str) -> Self {
        Self {
            file: file.into(),
            tree: None,
            problems: Vec::new(),
            suppressed: HashSet::new(),
            around_suppressed: HashSet::new(),
            errors: Count::default(),
            warnings: Count::default(),
        }
    }

    /// Sets the tree in which the positions of settings are looked up.
    pub(crate) fn set_tree(&mut self, root: Rc<Node>) {
        self.tree = Some(root);
    }

    /// An empty collector for the same file, for an attempt that may be dropped.
    pub(crate) fn fork(&self) -> Self {
        Self {
            tree: self.tree.clone(),
            ..Self::new(&self.file)
        }
    }

    /// Adds the problems of a fork.
    pub(crate) fn merge(&mut self, fork: Self) {
        for problem in fork.problems {
            self.add(problem);
        }
        self.errors.unlisted += fork.errors.unlisted;
        self.warnings.unlisted += fork.warnings.unlisted;
        self.suppressed.extend(fork.suppressed);
        self.around_suppressed.extend(fork.around_suppressed);
    }

    /// Reports an error in the shape of the file: a wrong type, an unknown field. Later errors about
    /// the same setting would only follow from it and are left out.
    pub(crate) fn shape_error(
        &mut self,
        at: &ConfigPath,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        self.push(Severity::Error, at, None, problem.into(), remedy.into());
        self.suppress(at.clone());
    }

    /// As [`Self::shape_error`], at a position that is known better than by the path.
    pub(crate) fn shape_error_at(
        &mut self,
        mark: Mark,
        at: &ConfigPath,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let mark = Some(mark);
        self.push(Severity::Error, at, mark, problem.into(), remedy.into());
        self.suppress(at.clone());
    }

    /// Reports nothing more about a setting, whose mistake is reported under another name.
    pub(crate) fn suppress(&mut self, at: ConfigPath) {
        self.around_suppressed.extend(at.ancestors());
        self.suppressed.insert(at);
    }

    /// Returns true if nothing more is reported about this very setting.
    pub(crate) fn is_suppressed(&self, at: &ConfigPath) -> bool {
        self.suppressed.contains(at)
    }

    /// Reports an error in the meaning of a setting.
    pub(crate) fn error(
        &mut self,
        at: &ConfigPath,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if !self.touches_suppressed(at) {
            self.push(Severity::Error, at, None, problem.into(), remedy.into());
        }
    }

    /// Reports a value that matches the schema and that its type refuses. Serde's own message is
    /// left out because it may quote a secret.
    pub(crate) fn schema_mismatch(&mut self, at: &ConfigPath) {
        self.error(
            at,
            "matches the schema but can't be parsed",
            "report this as a bug in LLM Router",
        );
    }

    /// Reports a setting that works and is probably a mistake.
    pub(crate) fn warn(
        &mut self,
        at: &ConfigPath,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        if !self.touches_suppressed(at) {
            self.push(Severity::Warning, at, None, problem.into(), remedy.into());
        }
    }

    /// Returns true if the value is in the file itself, and none of it in a variable.
    pub(crate) fn is_literal(&self, at: &ConfigPath) -> bool {
        let node = self.tree.as_deref().and_then(|root| at.find(root));
        match node.map(|node| &node.value) {
            Some(Value::Scalar(scalar)) => scalar.is_literal(),
            _ => false,
        }
    }

    /// Adds a problem of another file.
    pub(crate) fn add(&mut self, problem: Problem) {
        if self.count(problem.severity) {
            self.problems.push(problem);
        }
    }

    pub(crate) const fn has_errors(&self) -> bool {
        self.errors.listed + self.errors.unlisted > 0
    }

    pub(crate) fn into_problems(mut self) -> Vec<Problem> {
        for (severity, count, noun) in [
            (Severity::Error, self.errors, "errors"),
            (Severity::Warning, self.warnings, "warnings"),
        ] {
            if count.unlisted > 0 {
                self.problems.push(Problem {
                    severity,
                    file: Arc::clone(&self.file),
                    mark: None,
                    path: ConfigPath::default().to_string(),
                    message: format!("{} more {noun} are not listed", count.unlisted),
                    remedy: "fix the ones that are, then check again".to_owned(),
                });
            }
        }
        self.problems
    }

    /// Adds a problem, at the position of its setting unless a better one is known.
    fn push(
        &mut self,
        severity: Severity,
        at: &ConfigPath,
        mark: Option<Mark>,
        message: String,
        remedy: String,
    ) {
        if self.count(severity) {
            self.problems.push(Problem {
                severity,
                file: Arc::clone(&self.file),
                mark: mark.or_else(|| self.tree.as_deref().map(|root| at.mark(root))),
                path: at.to_string(),
                message,
                remedy,
            });
        }
    }

    /// Counts a problem. Returns true if it is to be listed.
    const fn count(&mut self, severity: Severity) -> bool {
        let count = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        let is_listed = count.listed < MAX_LISTED;
        if is_listed {
            count.listed += 1;
        } else {
            count.unlisted += 1;
        }
        is_listed
    }

    /// Returns true if the setting, or one in it or around it, is suppressed.
    fn touches_suppressed(&self, at: &ConfigPath) -> bool {
        let mut ancestors = at.ancestors();
        self.suppressed.contains(at)
            || self.around_suppressed.contains(at)
            || ancestors.any(|ancestor| self.suppressed.contains(&ancestor))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_beyond_the_most_are_counted() {
        let mut diagnostics = Diagnostics::new("a.yaml");
        let at = ConfigPath::default().field("keys");
        for index in 0..MAX_LISTED + 2 {
            diagnostics.warn(&at.item(index), "is odd", "");
        }
        assert!(!diagnostics.has_errors());
        // Warnings leave room for errors.
        diagnostics.error(&at, "is invalid", "");
        assert!(diagnostics.has_errors());
        let problems = diagnostics.into_problems();
        let messages = |severity| {
            let problems = problems.iter().filter(move |one| one.severity == severity);
            problems.map(|one| one.message.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(messages(Severity::Error), ["is invalid"]);
        let warnings = messages(Severity::Warning);
        assert_eq!(warnings.len(), MAX_LISTED + 1);
        assert_eq!(warnings[MAX_LISTED], "2 more warnings are not listed");
    }
}
