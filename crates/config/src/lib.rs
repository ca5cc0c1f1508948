//! The configuration of LLM Router: YAML and environment in, checked types or located errors out.
//!
//! ```text
//! text ──yaml──▶ tree with places ──schema──▶ raw types ──check──▶ Config
//!                        └────────── problems ──────────┴──────▶ Report
//! ```
//! The raw types are private: whoever holds a [`Config`] holds one without mistakes. The crate
//! reads files and environment variables and does nothing else: no network, no clock, no hashing.

mod admin;
mod attempts;
mod config;
mod dotenv;
mod environment;
mod file;
mod findings;
mod items;
mod key;
mod known;
mod limits;
mod load;
mod masked;
mod model;
mod owner;
mod provider;
mod provider_type;
mod report;
mod routing;
mod scalar;
mod secrets;
mod server;
mod single;
mod store;
mod telemetry;
mod yaml;

pub use admin::Admin;
pub use attempts::Attempts;
pub use config::Config;
pub use environment::Environment;
pub use key::{Budget, Period, StaticKey};
pub use limits::{OnCounterFailure, RouterLimits};
pub use llm_router_domain::balance::Strategy;
pub use load::{DEFAULT_FILE, Loaded, load, load_text, schema};
pub use masked::MASK;
pub use model::{Deployment, Model};
pub use owner::Owner;
pub use provider::{HealthCheck, Http2, OnDisconnect, Provider, Timeouts};
pub use report::{Mark, Problem, Report, Severity};
pub use routing::{Routing, Target, Toggle};
pub use scalar::{BaseUrl, CounterUrl, NamePattern, Scheme, StoreUrl, is_link_local};
pub use secrets::Secrets;
pub use server::{Server, Tls};
pub use single::check_provider;
pub use store::{Counters, OnJournalFailure, Store};
pub use telemetry::{AccessLog, LogFormat, Telemetry, Traces};
