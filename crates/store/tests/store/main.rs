//! The stores and the journal, tested as their callers use them.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test that fails says where, one that can't look says so"
)]

mod budgets;
mod conformance;
mod journal;
mod places;
mod shared_state;
mod support;
mod tls;
