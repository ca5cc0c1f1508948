//! Keeps the running configuration up to date: from its file, and from what other replicas change
//! in the store.

pub(crate) mod change_notifier;
pub(crate) mod reload;
pub(crate) mod store_poller;
