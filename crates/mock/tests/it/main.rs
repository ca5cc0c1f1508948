//! The mock over real sockets: formats, controls, failures, meter.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that cannot go on fails"
)]

mod anthropic;
mod client;
mod failures;
mod gemini;
mod http2;
mod meter;
mod openai;
mod pace;
mod responses;
