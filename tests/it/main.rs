//! The router as a process, driven over real sockets: one binary for all integration tests, so
//! that they are linked once.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test that can't go on panics, and tells of real time and of what is absent"
)]

mod harness;
#[path = "../../crates/store/tests/store/support/postgres.rs"]
mod postgres;

mod admin;
mod admin_connections;
mod answers;
mod bodies;
mod broadcast;
mod budget_bounds;
mod budgets;
mod command_line;
mod conversations;
mod credentials;
mod deploy;
mod disconnects;
mod documentation;
mod draining;
mod errors;
mod explain;
mod failover;
mod fuzz;
mod health;
mod hostile;
mod house;
mod http2;
mod include_usage;
mod issued_keys;
mod keeping;
mod keys;
mod ledger;
mod limits;
mod log_lines;
mod metrics;
mod money;
mod on_postgres;
mod proofs;
mod providers;
#[path = "../../crates/counters/tests/counters/support/redis.rs"]
mod redis;
mod refused;
mod reload;
mod replicas;
mod requests;
mod routing;
mod rules;
mod secrets;
mod shared_budgets;
mod shutdown;
mod streams;
mod supervisor;
mod target_limits;
mod toggle;
mod traces;
mod translation;
mod upgrade;
mod walls;
