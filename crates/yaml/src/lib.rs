#![doc = include_str!("../README.md")]

mod error;
mod nearest;
mod parse;
mod tree;

pub use error::{SyntaxError, ValueError};
pub use nearest::nearest;
pub use parse::{Replacement, parse, parse_with};
pub use tree::{Entry, Mark, Node, Origin, Scalar, Value};
