//! The life of the process: its sockets, readiness, signals, and the handover to the next process.
//! It must not know what is served.

pub(crate) mod handover;
pub(crate) mod listeners;
pub(crate) mod readiness;
pub(crate) mod shutdown;
pub(crate) mod systemd;
