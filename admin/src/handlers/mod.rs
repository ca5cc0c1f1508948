//! The handlers, one file a topic, each with the description that the OpenAPI document shows. Roles
//! are not checked here but where every request comes in.

pub(crate) mod api_docs;
pub(crate) mod audit;
pub(crate) mod bill;
pub(crate) mod config;
pub(crate) mod cost;
pub(crate) mod dashboard;
pub(crate) mod explain;
pub(crate) mod keys;
pub(crate) mod me;
pub(crate) mod monitoring;
pub(crate) mod providers;
pub(crate) mod refused;
pub(crate) mod requests;
pub(crate) mod router_metrics;
pub(crate) mod rules;
pub(crate) mod toggle;
