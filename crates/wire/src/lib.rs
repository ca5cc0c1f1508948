//! API formats, SSE framing, usage and translation: serde_json and bytes, no sockets.

pub mod prompt;
