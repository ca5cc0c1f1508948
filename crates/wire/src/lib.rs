#![doc = include_str!("../README.md")]

pub mod body;
pub mod bounds;
pub mod ceiling;
pub mod coding;
pub mod error;
pub mod formats;
pub mod json;
pub mod models;
pub mod parameters;
pub mod prompt;
pub mod request;
pub mod scan;
pub mod sse;
pub mod stream;
pub mod translate;
pub mod usage;
