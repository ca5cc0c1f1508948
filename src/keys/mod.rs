//! Keys that clients present: how a request is authenticated, where keys come from, and when they
//! were last used.

pub(crate) mod authenticate;
pub(crate) mod generate;
pub(crate) mod key_ring;
pub(crate) mod last_used;
pub(crate) mod stored_keys;
