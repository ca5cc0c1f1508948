//! The wire: how API formats look in bytes. No sockets, no clock.

pub mod error;
pub mod models;
pub mod request;
pub mod scan;
