//! Requests while upstreams fail, slow down or the configuration changes: a stage of three mock
//! providers behind the router, traffic, and one command for each scenario.

pub(crate) mod matrix;
pub(crate) mod race;
pub(crate) mod reloads;
mod stage;
mod traffic;
