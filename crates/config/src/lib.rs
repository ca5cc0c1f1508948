//! The configuration of LLM Router: YAML and environment in, checked types or located errors out.
//!
//! ```text
//! text ──yaml──▶ tree with places ──schema──▶ raw types ──check──▶ Config
//!                        └────────── problems ──────────┴──────▶ Report
//! ```
//! The raw types are private: whoever holds a [`Config`] holds one without mistakes. The crate
//! reads files and environment variables and does nothing else: no network, no clock, no hashing.

mod admin;
mod config;
mod dotenv;
mod environment;
mod file;
mod findings;
mod items;
mod key;
mod known;
mod load;
mod model;
mod owner;
mod provider;
mod report;
mod routing;
mod scalar;
mod secrets;
mod server;
mod store;
mod yaml;

pub use admin::Admin;
pub use config::Config;
pub use environment::Environment;
pub use key::{Budget, Limits, Period, StaticKey};
pub use load::{DEFAULT_FILE, Loaded, load, load_text, schema};
pub use model::{Deployment, Model, Strategy};
pub use owner::Owner;
pub use provider::{Compat, HealthCheck, Http2, OnDisconnect, Provider, ProviderKind, Timeouts};
pub use report::{Mark, Problem, Report, Severity};
pub use routing::{Routing, Target, Toggle};
pub use scalar::{BaseUrl, CounterUrl, NamePattern, Scheme, StoreUrl};
pub use secrets::Secrets;
pub use server::{Server, Tls};
pub use store::{Counters, OnJournalFailure, Store};
