//! The names of the keys in Redis. Everything of ours is in one slot of a cluster.

use uuid::Uuid;

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

/// The number of a replica's connection: what comes over an earlier one is void.
pub(crate) fn fence(replica: Uuid) -> String {
    format!("{PREFIX}:fence:{replica}")
}

/// A line of a budget: what was spent and reserved, each run's spending, each reservation's amount.
pub(crate) fn budget(line: &str) -> String {
    format!("{PREFIX}:budget:{line}")
}

/// The reservations of a line, each by the time at which it is let go.
pub(crate) fn holds(line: &str) -> String {
    format!("{PREFIX}:holds:{line}")
}

/// The levels of a subject's buckets.
pub(crate) fn levels(subject: &str) -> String {
    format!("{PREFIX}:limit:{subject}")
}

/// The requests of a subject that are under way, each by the time at which it counts as gone.
pub(crate) fn leases(subject: &str) -> String {
    format!("{PREFIX}:calls:{subject}")
}

/// The channel that changes are announced on. Channels have no slot: every node of a cluster hears
/// of them.
pub(crate) fn changes() -> String {
    format!("{PREFIX}:changes")
}
