//! The environment variables that a configuration may use: the process's own and those of `.env`.
//! They are read once. The process's environment must not be changed.

use std::collections::HashMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use llm_router_yaml::{Mark, ValueError};

use crate::dotenv;
use crate::report::{Problem, Severity};

/// Environment variables by name, and the folder that `.env` and relative paths belong to.
#[derive(Clone, Default)]
pub struct Environment {
    variables: HashMap<String, Variable>,
    folder: PathBuf,
    problems: Vec<Problem>,
}

#[derive(Clone)]
struct Variable {
    value: String,
    place: Option<(Arc<str>, Mark)>,
}

impl Environment {
    /// Reads the variables of this process, and from `.env` in the folder those that the process
    /// lacks. Mistakes in `.env` are reported by the loader.
    #[must_use]
    pub fn read(folder: &Path) -> Self {
        let mut environment = Self::new(std::env::vars_os().filter_map(as_text));
        folder.clone_into(&mut environment.folder);
        environment.add_dotenv();
        environment
    }

    /// An environment of the given variables and no others, in the working directory.
    #[must_use]
    pub fn new<N: Into<String>, V: Into<String>>(
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        let variables = variables.into_iter().map(|(name, value)| {
            let (value, place) = (value.into(), None);
            (name.into(), Variable { value, place })
        });
        Self {
            variables: variables.collect(),
            ..Self::default()
        }
    }

    /// Returns the same variables with another folder.
    #[must_use]
    pub fn in_folder(mut self, folder: &Path) -> Self {
        folder.clone_into(&mut self.folder);
        self
    }

    /// Returns a variable's value. It may be a secret.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let variable = self.variables.get(name)?;
        Some(&variable.value)
    }

    /// As [`Self::get`], except that an empty variable counts as not set.
    #[must_use]
    pub fn non_empty(&self, name: &str) -> Option<&str> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// The folder that relative paths in variables are relative to: the working directory.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The problems of `.env`.
    pub(crate) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Describes a problem of a variable's value, with its line if the value comes from `.env`.
    pub(crate) fn problem(&self, severity: Severity, name: &str, error: ValueError) -> Problem {
        let place = self.variables.get(name).and_then(|v| v.place.clone());
        let (file, mark) = match place {
            Some((file, mark)) => (file, Some(mark)),
            None => ("environment".into(), None),
        };
        Problem {
            severity,
            file,
            mark,
            path: name.to_owned(),
            message: error.problem,
            remedy: error.remedy,
        }
    }

    fn add_dotenv(&mut self) {
        let path = self.folder.join(".env");
        let file: Arc<str> = path.to_string_lossy().into();
        match std::fs::read_to_string(&path) {
            Ok(text) => self.merge(&text, &file),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => self.problems.push(Problem {
                severity: Severity::Error,
                file,
                mark: None,
                path: "(file)".to_owned(),
                message: format!("failed to read the file: {error}"),
                remedy: "make it a readable UTF-8 text file, or remove it".to_owned(),
            }),
        }
    }

    fn merge(&mut self, text: &str, file: &Arc<str>) {
        for line in dotenv::parse(text) {
            match line {
                Ok(line) => {
                    let place = Some((Arc::clone(file), line.mark));
                    let value = line.value;
                    let variable = Variable { value, place };
                    self.variables.entry(line.name).or_insert(variable);
                }
                Err((mark, error)) => self.problems.push(Problem {
                    severity: Severity::Error,
                    file: Arc::clone(file),
                    mark: Some(mark),
                    path: "(line)".to_owned(),
                    message: error.problem,
                    remedy: error.remedy,
                }),
            }
        }
    }
}

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Environment")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

/// Returns true if a text can name an environment variable.
pub(crate) fn is_name(text: &str) -> bool {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    starts_well && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn as_text((name, value): (std::ffi::OsString, std::ffi::OsString)) -> Option<(String, String)> {
    Some((name.into_string().ok()?, value.into_string().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotenv_adds_variables_that_the_process_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let text = "PATH=from-file\nLLM_ROUTER_TEST_ONLY=x\noops\nLLM_ROUTER_TEST_ONLY=y\n";
        std::fs::write(folder.path().join(".env"), text).unwrap();
        let environment = Environment::read(folder.path());
        assert_ne!(environment.get("PATH"), Some("from-file"));
        assert_eq!(environment.get("LLM_ROUTER_TEST_ONLY"), Some("y"));
        assert!(std::env::var_os("LLM_ROUTER_TEST_ONLY").is_none());
        let [problem] = environment.problems() else {
            panic!("{:?}", environment.problems());
        };
        assert_eq!(problem.mark, Some(Mark { line: 3, column: 1 }));
    }

    #[test]
    fn values_are_not_printed() {
        let environment = Environment::new([("OPENAI_API_KEY", "sk-secret")]);
        assert!(!format!("{environment:?}").contains("sk-secret"));
    }
}
