#![doc = include_str!("../README.md")]

mod broadcast;
mod budgets;
mod connection;
mod lease;
mod limits;
mod link;
mod names;

pub use broadcast::{ChangeBroadcast, ChangeSubscription};
pub use connection::{Counters, RedisServer};
pub use limits::{KnownAmounts, LimitRequest, SubjectUsage, TakeOutcome};
pub use link::{
    Announcement, AnnouncementReply, CallNumber, Link, LinkOptions, LinkStatus, SharedServer,
    Unavailable,
};
