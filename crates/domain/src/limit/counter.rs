//! Counter of one rate limit: a sliding window, or a bucket where the limit has a burst. It must not
//! know whose limit it is.

use std::time::Duration;

use super::bucket::{Bucket, LEVEL_OF_ONE, Pace};
use super::window::{SecondAmount, SlidingWindow};

/// Limit of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_minute: u64,
    burst: Option<u64>,
}

/// Usage of a rate limit. It knows neither rate nor burst, so that both can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RateCounter {
    /// Usage of a limit with a burst.
    Bucket(Bucket),
    /// Usage of a limit without one.
    Window(SlidingWindow),
}

/// Counter of the kind that a rate needs.
enum Fitted<'a> {
    Bucket(&'a mut Bucket, Pace),
    Window(&'a mut SlidingWindow),
}

/// Usage as counters of several processes tell each other: the level of a bucket, or the amount that
/// a window counts.
pub type Level = u64;

impl Rate {
    /// Creates a limit of `per_minute`, with `burst` at once and the rest at an even pace if there is
    /// a burst. Both are at least one. Fewer than `per_minute` + `burst` are admitted in any 60
    /// seconds; without a burst `per_minute`, and a tenth of it more if single requests are large.
    #[must_use]
    pub fn new(per_minute: u64, burst: Option<u64>) -> Self {
        Self {
            per_minute: per_minute.clamp(1, Self::MOST),
            burst: burst.map(|burst| burst.clamp(1, Self::MOST)),
        }
    }

    /// Largest value that stays exact where numbers are stored as floats.
    const MOST: u64 = 100_000_000;

    /// Returns the rate per minute.
    #[must_use]
    pub const fn per_minute(self) -> u64 {
        self.per_minute
    }

    /// Returns the number admitted at once, if the rest has an even pace.
    #[must_use]
    pub const fn burst(self) -> Option<u64> {
        self.burst
    }

    fn pace(self) -> Option<Pace> {
        self.burst.map(|burst| Pace::new(self.per_minute, burst))
    }

    /// Returns true if a request of `cost` can never be admitted.
    #[must_use]
    pub const fn is_exceeded_by(self, cost: u64) -> bool {
        self.burst.is_none() && cost > self.per_minute
    }
}

impl Default for RateCounter {
    fn default() -> Self {
        Self::Window(SlidingWindow::default())
    }
}

impl RateCounter {
    /// Returns the time until `cost` may be admitted; zero if it may be now.
    pub fn wait(&mut self, rate: Rate, cost: u64, now: u64) -> Duration {
        match self.fit(rate, now) {
            Fitted::Bucket(bucket, pace) => bucket.wait(pace, cost, now),
            Fitted::Window(window) => window.wait(rate.per_minute, cost, now),
        }
    }

    /// Records that `cost` was refused and may ask again after `wait`.
    pub fn refuse(&mut self, rate: Rate, cost: u64, now: u64, wait: Duration) {
        if let Fitted::Window(window) = self.fit(rate, now) {
            window.set_aside(rate.per_minute, cost, now, wait);
        }
    }

    /// Counts `cost` as admitted, whether or not there is room.
    pub fn charge(&mut self, rate: Rate, cost: u64, now: u64) {
        match self.fit(rate, now) {
            Fitted::Bucket(bucket, pace) => bucket.charge(pace, cost, now),
            Fitted::Window(window) => window.charge(cost, now),
        }
    }

    /// Counts `used` in place of what was `reserved` at `charged`.
    pub fn settle(&mut self, rate: Rate, reserved: u64, used: u64, charged: u64, now: u64) {
        let (excess, unused) = (used.saturating_sub(reserved), reserved.saturating_sub(used));
        match self.fit(rate, now) {
            Fitted::Bucket(bucket, pace) => {
                bucket.charge(pace, excess, now);
                bucket.refund(pace, unused, now);
            }
            Fitted::Window(window) => {
                window.add_excess(excess, now);
                window.refund(unused, charged, now);
            }
        }
    }

    /// Returns how many a small request may take now.
    pub fn room(&mut self, rate: Rate, now: u64) -> u64 {
        match self.fit(rate, now) {
            Fitted::Bucket(bucket, pace) => bucket.room(pace, now),
            Fitted::Window(window) => window.room(rate.per_minute, now),
        }
    }

    /// Returns the time until nothing is counted any more.
    pub fn time_to_empty(&mut self, rate: Rate, now: u64) -> Duration {
        match self.fit(rate, now) {
            Fitted::Bucket(bucket, pace) => bucket.time_to_empty(pace, now),
            Fitted::Window(window) => window.time_to_empty(now),
        }
    }

    /// Returns what is counted, newest first, for a counter elsewhere: the seconds of a window, or
    /// the level of a bucket as one amount.
    pub fn amounts(&mut self, rate: Rate, now: u64) -> Vec<SecondAmount> {
        match self.fit(rate, now) {
            Fitted::Bucket(bucket, pace) => {
                let amount = bucket.level(pace, now);
                vec![SecondAmount { age: 0, amount }]
            }
            Fitted::Window(window) => window.amounts(now),
        }
    }

    /// Takes over what a counter elsewhere has, which knows better; for a window with its seconds if
    /// they were given.
    pub fn adopt(&mut self, rate: Rate, level: Level, seconds: Option<&[SecondAmount]>, now: u64) {
        match self.fit(rate, now) {
            Fitted::Bucket(bucket, _) => *bucket = Bucket::new(level, now),
            Fitted::Window(window) => {
                if let Some(seconds) = seconds {
                    window.replace(seconds, now);
                }
                window.correct(level, now);
            }
        }
    }

    /// Returns true if nothing is counted.
    pub fn is_empty(&mut self, rate: Rate, now: u64) -> bool {
        match self.fit(rate, now) {
            Fitted::Bucket(bucket, pace) => bucket.level(pace, now) == 0,
            Fitted::Window(window) => window.sum(now) == 0,
        }
    }

    /// Changes the kind of counter if the limit has lost or got its burst, keeping what is counted.
    fn fit(&mut self, rate: Rate, now: u64) -> Fitted<'_> {
        let pace = rate.pace();
        match (&mut *self, pace) {
            (Self::Window(window), Some(_)) => {
                let level = window.sum(now).saturating_mul(LEVEL_OF_ONE);
                *self = Self::Bucket(Bucket::new(level, now));
            }
            (Self::Bucket(bucket), None) => {
                let level = bucket.level(Pace::new(rate.per_minute, 1), now);
                let mut window = SlidingWindow::default();
                window.charge(level.div_ceil(LEVEL_OF_ONE), now);
                *self = Self::Window(window);
            }
            _ => {}
        }
        match self {
            Self::Window(window) => Fitted::Window(window),
            Self::Bucket(bucket) => {
                let pace = pace.unwrap_or_else(|| Pace::new(rate.per_minute, 1));
                Fitted::Bucket(bucket, pace)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn a_limit_that_gets_or_loses_its_burst_keeps_what_was_counted() {
        let (window, paced) = (Rate::new(60, None), Rate::new(60, Some(10)));
        let mut counter = RateCounter::default();
        counter.charge(window, 60, SECOND);
        assert_eq!(counter.room(paced, SECOND), 0);
        assert_eq!(counter.room(paced, 61 * SECOND), 10);
        counter.charge(paced, 10, 61 * SECOND);
        assert_eq!(counter.room(window, 61 * SECOND), 50);
        assert!(counter.is_empty(window, 122 * SECOND));
    }

    #[test]
    fn only_a_window_has_requests_that_never_pass() {
        assert!(Rate::new(60, None).is_exceeded_by(61));
        assert!(!Rate::new(60, None).is_exceeded_by(60));
        assert!(!Rate::new(60, Some(1)).is_exceeded_by(61));
    }
}
