//! The client's side of the proxy: connections, the session that stands in for the client's, and
//! answers that the router gives itself.

pub(crate) mod admin;
pub(crate) mod body;
pub(crate) mod body_memory;
pub(crate) mod connections;
pub(crate) mod exchange;
pub(crate) mod http_app;
pub(crate) mod reply;
pub(crate) mod session;
