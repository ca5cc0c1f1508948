//! YAML text to JSON values that fit a schema, with the place of every mistake. It knows no
//! setting: what a file may say comes from the schema it is given.

mod nearest;
mod pick;
mod scalar;
mod shape;
mod substitute;
mod tree;

pub(crate) use nearest::nearest;
pub(crate) use shape::Shape;
pub(crate) use tree::{Node, Value, parse};
