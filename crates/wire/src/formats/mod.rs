//! The wire formats, a folder each: how requests, answers and streams are read and written.

pub(crate) mod anthropic_messages;
pub(crate) mod gemini;
pub(crate) mod openai_chat;
pub(crate) mod openai_responses;
