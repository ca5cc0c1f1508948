//! What replicas count together, in Redis: requests, tokens and calls under way of whoever has a
//! limit, what is spent and reserved of budgets, and how many replicas there are. Each question is
//! one script and one round trip under a time limit; while Redis is away nothing waits for it. What
//! follows from an answer, or from none, is the caller's.
//!
//! A channel beside them tells replicas that something changed elsewhere.
//!
//! All keys have one hash tag, so that a script may touch several of them on a cluster.

mod broadcast;
mod budgets;
mod connection;
mod lease;
mod limits;
mod link;
mod names;

pub use broadcast::{ChangeBroadcast, ChangeSubscription};
pub use connection::{Counters, RedisServer};
pub use limits::{BucketLevels, LimitRequest, TakeOutcome};
pub use link::{
    Announcement, AnnouncementReply, Link, LinkOptions, LinkStatus, SharedServer, Unavailable,
};
