//! Anthropic messages.

mod read;
mod read_answer;
mod read_stream;
mod write;
mod write_answer;
mod write_stream;

pub(super) use read::read_request;
pub(super) use read_answer::read_response;
pub(super) use read_stream::Reader;
pub(super) use write::write_request;
pub(super) use write_answer::write_response;
pub(super) use write_stream::Writer;
