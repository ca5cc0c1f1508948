//! Names of the keys in Redis. All of them are in one slot of a cluster.

use uuid::Uuid;

/// Prefix of every key. The text between the braces decides the slot.
const PREFIX: &str = "{llm-router}";

/// Key of the epoch, which is lost when the server loses its data.
pub(crate) fn epoch() -> String {
    format!("{PREFIX}:epoch")
}

/// Key of the replicas, each with the time at which it expires.
pub(crate) fn replicas() -> String {
    format!("{PREFIX}:replicas")
}

/// Key of a replica's connection number, which invalidates calls over earlier connections, and of
/// the largest number of its calls, which shows that the server has lost some of them.
pub(crate) fn replica(replica: Uuid) -> String {
    format!("{PREFIX}:replica:{replica}")
}

/// Key of a budget line: totals, the spending of each run, the amount of each reservation.
pub(crate) fn budget(line: &str) -> String {
    format!("{PREFIX}:budget:{line}")
}

/// Key of a line's reservations, each with the time at which it expires.
pub(crate) fn holds(line: &str) -> String {
    format!("{PREFIX}:holds:{line}")
}

/// Key of the counter of a subject's requests.
pub(crate) fn requests(subject: &str) -> String {
    format!("{PREFIX}:requests:{subject}")
}

/// Key of the counter of a subject's tokens.
pub(crate) fn tokens(subject: &str) -> String {
    format!("{PREFIX}:tokens:{subject}")
}

/// Key of a subject's requests in flight, each with the time at which its lease expires.
pub(crate) fn leases(subject: &str) -> String {
    format!("{PREFIX}:calls:{subject}")
}

/// Channel of change notifications. Channels have no slot: every node of a cluster has them.
pub(crate) fn changes() -> String {
    format!("{PREFIX}:changes")
}
