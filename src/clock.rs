//! The one place that reads the clocks; everything else is told the time.

use std::time::{Instant, SystemTime};

use jiff::Timestamp;

/// The monotonic clock, for durations and deadlines.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// The wall clock, for what people and other machines read.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub(crate) fn wall() -> SystemTime {
    SystemTime::now()
}

/// The wall clock as a timestamp. One that can't be told is the first of all.
pub(crate) fn timestamp() -> Timestamp {
    Timestamp::try_from(wall()).unwrap_or_default()
}
