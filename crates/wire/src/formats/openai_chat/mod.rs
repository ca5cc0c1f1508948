//! OpenAI chat completions, as OpenAI and the many compatible servers speak them.

mod balance;
mod read_request;
mod read_response;
mod read_stream;
mod write_request;
mod write_response;
mod write_stream;

pub(crate) use read_request::{read_allowed, read_choice_word, read_request, read_schema};
pub(crate) use read_response::read_response;
pub(crate) use read_stream::Reader;
pub(crate) use write_request::{lose_default, tier, write_request, write_schema};
pub(crate) use write_response::write_response;
pub(crate) use write_stream::Writer;
