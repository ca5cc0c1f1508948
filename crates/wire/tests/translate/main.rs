//! Translation between API formats, from the outside: golden pairs, properties, and real
//! recordings where they are at hand.

#![expect(clippy::panic, clippy::unwrap_used, reason = "tests fail by panicking")]

mod answers;
mod conversations;
mod documentation;
mod facts;
mod fixtures;
mod limits;
mod obedience;
mod properties;
mod recordings;
mod requests;
mod streams;
