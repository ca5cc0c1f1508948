//! Reports of the router's work: access log, metrics and traces. Nothing here decides.

pub(crate) mod access_log;
pub(crate) mod log_format;
pub(crate) mod metrics;
pub(crate) mod refusals;
pub(crate) mod traces;
