//! How hard a request is, as a score from 0 (any model will do) to 1 (only a strong one will).
//!
//! [`Lexical`] scores by counted features of the text and one table of weights: deterministic, a
//! few microseconds per KiB, no model behind it. [`Scorer`] is what rules know of it, so that a
//! learned one can take its place.

mod features;
mod words;

use serde::Serialize;

pub use self::features::Lexical;

/// What a scorer may look at.
#[derive(Clone, Copy, Debug, Default)]
pub struct ScoreInput<'a> {
    /// What the user says last.
    pub text: &'a str,
    /// Estimated input tokens of the whole request.
    pub tokens: u64,
    /// Messages in which the user says something.
    pub turns: u32,
    /// Tools offered to the model.
    pub tools: u32,
    /// Images in the messages.
    pub images: u32,
    /// Whether the answer must obey a JSON schema.
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
    /// What it is made of.
    pub features: Vec<ScoreFeature>,
}

/// One ingredient of a score.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ScoreFeature {
    /// Its name.
    pub name: &'static str,
    /// How much of it the request has, from 0 to 1.
    pub value: f64,
    /// What that adds to the score before it is squeezed between 0 and 1.
    pub contribution: f64,
}
