//! Reads a YAML tree by a JSON Schema: JSON that fits it, and a located error for everything that
//! doesn't. It knows no setting; the schema tells what a file may contain.

mod alternatives;
mod scalar;
mod walk;

pub(crate) use walk::{SchemaReader, resolve_references};
