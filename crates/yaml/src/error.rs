//! The two kinds of mistakes in a file: in its YAML, and in one of its values.

use std::error::Error;
use std::fmt;

use crate::tree::Mark;

/// A mistake in a value, without its position: the problem and the remedy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValueError {
    /// Completes the sentence that begins with the value: `is not a size`.
    pub problem: String,
    /// Tells what to write instead; may be empty.
    pub remedy: String,
}

/// The first position at which a text is not valid YAML, or exceeds a bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SyntaxError {
    /// The position.
    pub mark: Mark,
    /// The problem and the remedy.
    pub error: ValueError,
}

impl ValueError {
    /// An error from its two texts.
    pub fn new(problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problem)?;
        if self.remedy.is_empty() {
            return Ok(());
        }
        write!(f, "; {}", self.remedy)
    }
}

impl Error for ValueError {}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.mark.line, self.error)
    }
}

impl Error for SyntaxError {}
