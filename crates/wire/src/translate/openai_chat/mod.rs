//! OpenAI chat completions, as OpenAI and the many compatible servers speak them.

mod balance;
mod read;
mod read_answer;
mod read_stream;
mod write;
mod write_answer;
mod write_stream;

pub(super) use read::{read_allowed, read_choice_word, read_request, read_schema};
pub(super) use read_answer::read_response;
pub(super) use read_stream::Reader;
pub(super) use write::{lose_default, tier, write_request, write_schema};
pub(super) use write_answer::write_response;
pub(super) use write_stream::Writer;
