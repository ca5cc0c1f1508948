//! Gemini `generateContent`, as a provider's format. There are no clients of this format, so its
//! requests are only written and its answers only read.

mod read_response;
mod read_stream;
mod write_request;

pub(crate) use read_response::read_response;
pub(crate) use read_stream::Reader;
pub(crate) use write_request::{Method, path, write_request};
