//! Complexity of a request, as a score from 0 (any model will do) to 1 (only a strong model will).
//!
//! [`Lexical`] scores by counted features of the text and one table of weights: deterministic, a
//! few microseconds per KiB, no model behind it. [`Scorer`] is what rules know of it, so that a
//! learned one can take its place.

mod features;
mod words;

use serde::Serialize;

pub use self::features::Lexical;

/// Input of a scorer.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScoreInput<'a> {
    /// Text of the last user message.
    pub text: &'a str,
    /// Estimated input tokens of the whole request.
    pub tokens: u64,
    /// Messages in which the user says something.
    pub turns: u32,
    /// Tools offered to the model.
    pub tools: u32,
    /// Images in the messages.
    pub images: u32,
    /// True if the answer must follow a JSON schema.
    pub json_schema: bool,
    /// The most output tokens that the client allows.
    pub output_limit: Option<u64>,
}

/// Scores requests by how hard they are.
pub trait Scorer: Send + Sync {
    /// The score, from 0 to 1: the same for the same input.
    fn score(&self, input: &ScoreInput<'_>) -> f64;

    /// The score with what made it.
    fn explain(&self, input: &ScoreInput<'_>) -> Score;
}

/// A score with what made it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// From 0 to 1.
    pub score: f64,
    /// Features that the score is made of.
    pub features: Vec<ScoreFeature>,
}

/// One ingredient of a score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ScoreFeature {
    /// Its name.
    pub name: &'static str,
    /// Value of the feature in the request, from 0 to 1.
    pub value: f64,
    /// Contribution to the score before it is clamped to 0 and 1.
    pub contribution: f64,
}
