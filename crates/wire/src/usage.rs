//! Meters responses: reads the tokens used out of plain bodies and streams of every format, at the
//! cost of a memory search where there is nothing to find. It must not price
//! anything, nor change bytes except to ask for the usage chunk and to take it out again.

mod body;
mod counts;
mod filter;
mod iterations;
mod layout;
mod observed;
mod option;
mod read;
mod stream;
mod text;
mod tools;

pub use body::BodyMeter;
pub(crate) use filter::{EventChange, without_usage};
pub use layout::UsageLayout;
pub(crate) use layout::{Counting, EventTypes, finder};
pub use observed::Observations;
pub use option::{Splice, ask_for_usage};
pub(crate) use stream::StreamMeter;
