//! The names of the keys in Redis. Everything of ours is in one slot of a cluster.

/// Before every key; what is between the braces decides the slot.
const PREFIX: &str = "{llm-router}";

/// Names this life of the server: gone after a restart without its data.
pub(crate) fn epoch() -> String {
    format!("{PREFIX}:epoch")
}

/// The replicas, each by the time at which it counts as gone.
pub(crate) fn replicas() -> String {
    format!("{PREFIX}:replicas")
}

/// The levels of a subject's buckets.
pub(crate) fn levels(subject: &str) -> String {
    format!("{PREFIX}:limit:{subject}")
}

/// The requests of a subject that are under way, each by the time at which it counts as gone.
pub(crate) fn leases(subject: &str) -> String {
    format!("{PREFIX}:calls:{subject}")
}
