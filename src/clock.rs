//! The one place that reads the clocks; everything else is told the time.

use std::time::{Instant, SystemTime};

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
