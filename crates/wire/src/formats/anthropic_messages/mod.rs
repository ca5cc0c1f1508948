//! Anthropic messages.

mod read_request;
mod read_response;
mod read_stream;
mod write_request;
mod write_response;
mod write_stream;

pub(crate) use read_request::read_request;
pub(crate) use read_response::read_response;
pub(crate) use read_stream::Reader;
pub(crate) use write_request::write_request;
pub(crate) use write_response::write_response;
pub(crate) use write_stream::Writer;
