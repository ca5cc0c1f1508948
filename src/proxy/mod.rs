//! The Pingora adapter, and the only place that names Pingora. Decisions belong to the parts that it
//! asks.

pub(crate) mod attempt;
pub(crate) mod callbacks;
pub(crate) mod context;
pub(crate) mod downstream;
pub(crate) mod gateway;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod server;
pub(crate) mod upstream;

pub(crate) use server::{AppState, ServiceOptions, SideTask, run};
pub(crate) use upstream::health_check::{check_now, keep_checked};
pub(crate) use upstream::live::{Live, SharedLive};
pub(crate) use upstream::otlp::Collector;

use pingora::{Error, ErrorType};

/// Describes an error for people: its cause says more than its kind, unless the cause quotes the head
/// of a message, where credentials are.
pub(crate) fn describe(error: &Error) -> String {
    let quotes = *error.etype() == ErrorType::InvalidHTTPHeader;
    let cause = error.context.as_ref().filter(|_| !quotes);
    cause
        .map_or(error.etype().as_str(), |cause| cause.as_str())
        .to_owned()
}
