//! Gemini `generateContent`, as a provider's format. There are no clients of this format, so its
//! requests are only written and its answers only read.

mod read_answer;
mod read_stream;
mod write;

pub(super) use read_answer::read_response;
pub(super) use read_stream::Reader;
pub(super) use write::{Method, path, write_request};
