//! API formats, SSE framing, usage extraction and translation: bytes in, values or bytes out. It
//! must not hold sockets, clocks or anything of Pingora.

pub mod json;
pub mod sse;
pub mod usage;
