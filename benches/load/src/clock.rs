//! The only place that reads the system's clocks; it holds no arithmetic but the conversions.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock, for durations within this process.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Nanoseconds since the Unix epoch, for stamps that another process on this machine reads.
/// 0 if the clock is before the epoch.
#[expect(clippy::disallowed_methods, reason = "this is the clock module")]
pub(crate) fn unix_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |age| u64::try_from(age.as_nanos()).unwrap_or(u64::MAX))
}
