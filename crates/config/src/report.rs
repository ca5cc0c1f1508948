//! The problems of a configuration and their printed form. It must not check anything itself.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use llm_router_yaml::Mark;

pub use llm_router_domain::rule::Severity;

/// The problems of one check, in the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    problems: Vec<Problem>,
}

/// One problem: its place, the problem itself and the remedy. It never holds a secret's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// An error if the configuration is refused because of it.
    pub severity: Severity,
    /// The file as it was named to the loader, or `environment`.
    pub file: Arc<str>,
    /// The position in the file; `None` for a problem of the whole file or of no file.
    pub mark: Option<Mark>,
    /// The setting, as `providers[0].timeouts.connect`.
    pub path: String,
    /// The problem, with the offending value unless that may be a secret.
    pub message: String,
    /// The remedy; may be empty.
    pub remedy: String,
}

impl Report {
    /// Creates a report, its problems ordered by file and position.
    #[must_use]
    pub fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort_by(|a, b| (&a.file, a.mark).cmp(&(&b.file, b.mark)));
        Self { problems }
    }

    /// Returns the problems of both.
    #[must_use]
    pub fn merge(self, other: Self) -> Self {
        Self::new(self.problems.into_iter().chain(other.problems).collect())
    }

    /// Returns all problems, errors and warnings.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Returns the problems for which the configuration is refused.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.with_severity(Severity::Error)
    }

    /// Returns the problems that are only probable mistakes.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.with_severity(Severity::Warning)
    }

    /// Returns true if the configuration is refused.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors().next().is_some()
    }

    /// Prints each problem as a line `FILE:LINE: PATH: message`, each ended by a newline.
    #[must_use]
    pub fn render(&self) -> String {
        let lines = self.problems.iter();
        lines.map(|problem| format!("{problem}\n")).collect()
    }

    fn with_severity(&self, severity: Severity) -> impl Iterator<Item = &Problem> {
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
