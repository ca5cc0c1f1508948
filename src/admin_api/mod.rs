//! Answers the admin service's questions: each file implements one of its traits over the snapshot,
//! the store and the toggle. It must not speak HTTP.

pub(crate) mod config;
pub(crate) mod editor;
pub(crate) mod keys;
pub(crate) mod providers;
pub(crate) mod routing;
