//! Leaky bucket as a meter (ITU-T I.371, where it is called the continuous-state form of the GCRA):
//! admitted requests fill it, time drains it at a constant rate, and requests that would overflow
//! it are refused. It uses integers only, so that rounding errors don't accumulate.

use std::time::Duration;

/// Drain rate of a bucket, and its capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    per_minute: u64,
    burst: u64,
}

/// Fill level of a bucket. It knows neither rate nor capacity, so that both can change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    level: u64,
    /// Microseconds after an origin that is the same for all calls.
    at: u64,
}

/// Level of one request or token: the amount that drains in a minute at a rate of one, with a
/// microsecond as the unit of time.
pub const LEVEL_OF_ONE: u64 = MICROS_PER_MINUTE;

const MICROS_PER_MINUTE: u64 = 60_000_000;

impl Rate {
    /// Creates a rate of `per_minute` with `burst` at once beyond it; without a burst a tenth of
    /// the rate. Both are at least one. In any 60 seconds fewer than `per_minute` + `burst` are
    /// admitted: no more than `per_minute` if the burst is one.
    #[must_use]
    pub fn new(per_minute: u64, burst: Option<u64>) -> Self {
        let per_minute = per_minute.clamp(1, Self::MOST);
        Self {
            per_minute,
            burst: burst.unwrap_or(per_minute / 10).clamp(1, Self::MOST),
        }
    }

    /// Largest value that stays exact where numbers are stored as floats.
    const MOST: u64 = 100_000_000;

    /// Returns the rate per minute.
    #[must_use]
    pub const fn per_minute(self) -> u64 {
        self.per_minute
    }

    /// Returns the number admitted at once.
    #[must_use]
    pub const fn burst(self) -> u64 {
        self.burst
    }

    const fn size(self) -> u64 {
        self.burst * LEVEL_OF_ONE
    }

    const fn time_to_leak(self, level: u64) -> Duration {
        Duration::from_micros(level.div_ceil(self.per_minute))
    }
}

impl Bucket {
    /// Creates a bucket that was `level` full at `now`.
    #[must_use]
    pub const fn new(level: u64, now: u64) -> Self {
        Self { level, at: now }
    }

    /// Returns the level at `now`, with [`LEVEL_OF_ONE`] for each one admitted. A clock that steps
    /// back drains nothing.
    #[must_use]
    pub const fn level(&self, rate: Rate, now: u64) -> u64 {
        let leaked = now.saturating_sub(self.at).saturating_mul(rate.per_minute);
        self.level.saturating_sub(leaked)
    }

    /// Returns the time until `cost` fits; zero if it does. A cost above the capacity fits once the
    /// bucket is empty and overfills it, so nothing is refused forever.
    #[must_use]
    pub fn wait(&self, rate: Rate, cost: u64, now: u64) -> Duration {
        let need = cost.min(rate.burst).saturating_mul(LEVEL_OF_ONE);
        let level = self.level(rate, now);
        rate.time_to_leak(level.saturating_sub(rate.size() - need))
    }

    /// Admits `cost`, whether or not it fits.
    pub fn charge(&mut self, rate: Rate, cost: u64, now: u64) {
        let level = self.level(rate, now);
        self.level = level.saturating_add(cost.saturating_mul(LEVEL_OF_ONE));
        self.at = self.at.max(now);
    }

    /// Takes back a charge that was not used.
    pub fn refund(&mut self, rate: Rate, cost: u64, now: u64) {
        let level = self.level(rate, now);
        self.level = level.saturating_sub(cost.saturating_mul(LEVEL_OF_ONE));
        self.at = self.at.max(now);
    }

    /// Raises the level to at least `level`.
    pub fn raise(&mut self, rate: Rate, level: u64, now: u64) {
        self.level = self.level(rate, now).max(level);
        self.at = self.at.max(now);
    }

    /// Returns how many would be admitted at once now.
    #[must_use]
    pub const fn room(&self, rate: Rate, now: u64) -> u64 {
        rate.size().saturating_sub(self.level(rate, now)) / LEVEL_OF_ONE
    }

    /// Returns the time until it is empty.
    #[must_use]
    pub const fn time_to_empty(&self, rate: Rate, now: u64) -> Duration {
        rate.time_to_leak(self.level(rate, now))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000;

    /// The most that were let through in any 60 seconds.
    fn busiest_minute(passed: &[(u64, u64)]) -> u64 {
        let within = |start: u64| {
            let inside = passed
                .iter()
                .filter(move |(at, _)| (start..start + MICROS_PER_MINUTE).contains(at));
            inside.map(|(_, cost)| cost).sum()
        };
        passed.iter().map(|(at, _)| within(*at)).max().unwrap_or(0)
    }

    /// Offers costs after pauses; the moments and costs that found room.
    fn offer(rate: Rate, arrivals: impl IntoIterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
        let (mut bucket, mut now, mut passed) = (Bucket::default(), 7, Vec::new());
        for (pause, cost) in arrivals {
            now += pause;
            if bucket.wait(rate, cost, now).is_zero() {
                bucket.charge(rate, cost, now);
                passed.push((now, cost));
            }
        }
        passed
    }

    fn rates() -> impl Strategy<Value = Rate> {
        (1_u64..2_000, proptest::option::of(1_u64..300)).prop_map(|(n, burst)| Rate::new(n, burst))
    }

    proptest! {
        #[test]
        fn no_minute_ever_exceeds_pace_and_burst(
            rate in rates(),
            pauses in prop::collection::vec(
                prop_oneof![Just(0_u64), 1..1000_u64, 1000..SECOND, SECOND..90 * SECOND], 1..400),
        ) {
            let passed = offer(rate, pauses.into_iter().map(|pause| (pause, 1)));
            prop_assert!(busiest_minute(&passed) < rate.per_minute + rate.burst);
        }

        #[test]
        fn no_minute_of_any_costs_exceeds_pace_and_the_larger_of_burst_and_cost(
            rate in rates(),
            arrivals in prop::collection::vec((0..3 * SECOND, 1..500_u64), 1..300),
        ) {
            let largest = arrivals.iter().map(|(_, cost)| *cost).max().unwrap_or(0);
            let passed = offer(rate, arrivals);
            prop_assert!(busiest_minute(&passed) <= rate.per_minute + rate.burst.max(largest));
        }

        #[test]
        fn who_never_pauses_gets_all_of_it(
            rate in rates(),
            step in 1..20_000_u64,
        ) {
            let minutes = 5;
            let steps = usize::try_from(minutes * MICROS_PER_MINUTE / step).unwrap();
            let passed = offer(rate, std::iter::repeat_n((step, 1), steps));
            // Who asks every `step` misses a turn by that much at most.
            let turn = MICROS_PER_MINUTE as f64 / rate.per_minute as f64;
            let due = minutes as f64 * rate.per_minute as f64 * turn / (turn + step as f64);
            prop_assert!(passed.len() as f64 >= 0.97 * due.floor(), "{} of {due}", passed.len());
        }

        #[test]
        fn who_waits_as_told_is_let_through(
            rate in rates(), level in 0..1_000_000_000_000_u64, cost in 1..500_u64,
        ) {
            let bucket = Bucket::new(level, 5);
            let wait = u64::try_from(bucket.wait(rate, cost, 5).as_micros()).unwrap();
            prop_assert!(bucket.wait(rate, cost, 5 + wait).is_zero());
            if wait > 0 {
                prop_assert!(!bucket.wait(rate, cost, 5 + wait - 1).is_zero());
            }
        }
    }

    #[test]
    fn a_saturated_limit_of_600_lets_660_through_in_its_first_minute() {
        let rate = Rate::new(600, None);
        let passed = offer(rate, std::iter::repeat_n((1_000, 1), 60_000));
        assert!((655..660).contains(&passed.len()), "{}", passed.len());
        let later: Vec<_> = passed.iter().filter(|(at, _)| *at > 30 * SECOND).collect();
        assert!((297..=300).contains(&later.len()), "{}", later.len());
    }

    #[test]
    fn bursts_are_a_tenth_unless_set() {
        for (per_minute, burst, expected) in [
            (600, None, 60),
            (15, None, 1),
            (5, None, 1),
            (5, Some(5), 5),
            (5, Some(0), 1),
            (0, None, 1),
        ] {
            assert_eq!(
                Rate::new(per_minute, burst).burst(),
                expected,
                "{per_minute}"
            );
        }
    }

    #[test]
    fn debts_are_paid_off_before_anything_passes() {
        let rate = Rate::new(60, Some(10));
        let mut bucket = Bucket::default();
        // A reservation of 5 turned out to be 70: 60 beyond the ten that fit, at one a second.
        bucket.charge(rate, 5, 0);
        bucket.charge(rate, 65, 0);
        assert_eq!(bucket.room(rate, 0), 0);
        let wait = bucket.wait(rate, 1, 0).as_secs_f64();
        assert!((61.0..61.1).contains(&wait), "{wait}");
        bucket.refund(rate, 100, 0);
        assert_eq!((bucket.room(rate, 0), bucket.level(rate, 0)), (10, 0));
    }

    #[test]
    fn clocks_that_step_back_empty_nothing() {
        let rate = Rate::new(60, Some(1));
        let mut bucket = Bucket::default();
        bucket.charge(rate, 1, 10 * SECOND);
        assert!(!bucket.wait(rate, 1, 5 * SECOND).is_zero());
        bucket.charge(rate, 1, 5 * SECOND);
        assert_eq!(bucket.level(rate, 10 * SECOND), 2 * LEVEL_OF_ONE);
    }
}
