//! What is wrong with a configuration, and how that is printed. It finds nothing itself.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// Everything found in one run, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    problems: Vec<Problem>,
}

/// One finding: where, what, and what to do about it. It never holds a secret's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether the configuration can be used all the same.
    pub severity: Severity,
    /// The file as it was named to the loader, or `environment`.
    pub file: Arc<str>,
    /// Where in the file, unless the whole of it is meant or there is no file.
    pub mark: Option<Mark>,
    /// The setting, as `providers[0].timeouts.connect`.
    pub path: String,
    /// What is wrong, with the offending value unless that may be a secret.
    pub message: String,
    /// What to write instead; may be empty.
    pub remedy: String,
}

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// The configuration is used; somebody should have a look.
    Warning,
}

/// A position in a text file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// The line, counted from 1.
    pub line: usize,
    /// The column in characters, counted from 1.
    pub column: usize,
}

impl Report {
    /// Orders the problems as somebody would meet them who reads the files from top to bottom.
    #[must_use]
    pub fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| (&a.file, a.mark).cmp(&(&b.file, b.mark)));
        Self { problems }
    }

    /// What both found.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self::new(self.problems.into_iter().chain(other.problems).collect())
    }

    /// Everything found, errors and warnings.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Why the configuration is refused.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.of(Severity::Error)
    }

    /// What somebody should have a look at.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.of(Severity::Warning)
    }

    /// Whether the configuration is refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors().next().is_some()
    }

    /// One line `FILE:LINE: PATH: message` per problem, each ended by a newline.
    #[must_use]
    pub fn render(&self) -> String {
        let lines = self.problems.iter();
        lines.map(|problem| format!("{problem}\n")).collect()
    }

    fn of(&self, severity: Severity) -> impl Iterator<Item = &Problem> {
        let problems = self.problems.iter();
        problems.filter(move |problem| problem.severity == severity)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render().trim_end())
    }
}

impl Error for Report {}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(mark) = self.mark {
            write!(f, ":{}", mark.line)?;
        }
        write!(f, ": {}: ", self.path)?;
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        f.write_str(&self.message)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(severity: Severity, mark: Option<Mark>, remedy: &str) -> Problem {
        Problem {
            severity,
            file: "a.yaml".into(),
            mark,
            path: "server.listen".to_owned(),
            message: "is odd".to_owned(),
            remedy: remedy.to_owned(),
        }
    }

    #[test]
    fn problems_are_printed_one_a_line_in_the_order_of_the_file() {
        let mark = |line| Some(Mark { line, column: 1 });
        let report = Report::new(vec![
            problem(Severity::Warning, mark(12), ""),
            problem(Severity::Error, mark(3), "make it even"),
            problem(Severity::Error, None, "make it even"),
        ]);
        assert!(report.has_errors());
        assert_eq!(
            report.render(),
            "a.yaml: server.listen: is odd; make it even\n\
             a.yaml:3: server.listen: is odd; make it even\n\
             a.yaml:12: server.listen: warning: is odd\n"
        );
    }
}
