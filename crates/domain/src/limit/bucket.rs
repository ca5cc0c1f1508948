//! Leaky bucket as a meter (ITU-T I.371, where it is called the continuous-state form of the GCRA):
//! admitted requests fill it, time drains it at a constant rate, and requests that would overflow
//! it are refused. It uses integers only, so that rounding errors don't accumulate.

use std::time::Duration;

/// Drain rate of a bucket, and its capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
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

impl Pace {
    /// Creates a pace of `per_minute` with `burst` at once beyond it. Both are at least one. In any
    /// 60 seconds fewer than `per_minute` + `burst` are admitted: no more than `per_minute` if the
    /// burst is one.
    #[must_use]
    pub const fn new(per_minute: u64, burst: u64) -> Self {
        const fn at_least_one(number: u64) -> u64 {
            if number == 0 { 1 } else { number }
        }
        Self {
            per_minute: at_least_one(per_minute),
            burst: at_least_one(burst),
        }
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
    pub const fn level(&self, pace: Pace, now: u64) -> u64 {
        let leaked = now.saturating_sub(self.at).saturating_mul(pace.per_minute);
        self.level.saturating_sub(leaked)
    }

    /// Returns the time until `cost` fits; zero if it does. A cost above the capacity fits once the
    /// bucket is empty and overfills it, so nothing is refused forever.
    #[must_use]
    pub fn wait(&self, pace: Pace, cost: u64, now: u64) -> Duration {
        let need = cost.min(pace.burst).saturating_mul(LEVEL_OF_ONE);
        let level = self.level(pace, now);
        pace.time_to_leak(level.saturating_sub(pace.size() - need))
    }

    /// Admits `cost`, whether or not it fits.
    pub fn charge(&mut self, pace: Pace, cost: u64, now: u64) {
        let level = self.level(pace, now);
        self.level = level.saturating_add(cost.saturating_mul(LEVEL_OF_ONE));
        self.at = self.at.max(now);
    }

    /// Takes back a charge that was not used.
    pub fn refund(&mut self, pace: Pace, cost: u64, now: u64) {
        let level = self.level(pace, now);
        self.level = level.saturating_sub(cost.saturating_mul(LEVEL_OF_ONE));
        self.at = self.at.max(now);
    }

    /// Returns how many would be admitted at once now.
    #[must_use]
    pub const fn room(&self, pace: Pace, now: u64) -> u64 {
        pace.size().saturating_sub(self.level(pace, now)) / LEVEL_OF_ONE
    }

    /// Returns the time until it is empty.
    #[must_use]
    pub const fn time_to_empty(&self, pace: Pace, now: u64) -> Duration {
        pace.time_to_leak(self.level(pace, now))
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
    fn offer(pace: Pace, arrivals: impl IntoIterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
        let (mut bucket, mut now, mut passed) = (Bucket::default(), 7, Vec::new());
        for (pause, cost) in arrivals {
            now += pause;
            if bucket.wait(pace, cost, now).is_zero() {
                bucket.charge(pace, cost, now);
                passed.push((now, cost));
            }
        }
        passed
    }

    fn paces() -> impl Strategy<Value = Pace> {
        (1_u64..2_000, 1_u64..300).prop_map(|(n, burst)| Pace::new(n, burst))
    }

    proptest! {
        #[test]
        fn no_minute_ever_exceeds_pace_and_burst(
            pace in paces(),
            pauses in prop::collection::vec(
                prop_oneof![Just(0_u64), 1..1000_u64, 1000..SECOND, SECOND..90 * SECOND], 1..400),
        ) {
            let passed = offer(pace, pauses.into_iter().map(|pause| (pause, 1)));
            prop_assert!(busiest_minute(&passed) < pace.per_minute + pace.burst);
        }

        #[test]
        fn no_minute_of_any_costs_exceeds_pace_and_the_larger_of_burst_and_cost(
            pace in paces(),
            arrivals in prop::collection::vec((0..3 * SECOND, 1..500_u64), 1..300),
        ) {
            let largest = arrivals.iter().map(|(_, cost)| *cost).max().unwrap_or(0);
            let passed = offer(pace, arrivals);
            prop_assert!(busiest_minute(&passed) <= pace.per_minute + pace.burst.max(largest));
        }

        #[test]
        fn who_never_pauses_gets_all_of_it(
            pace in paces(),
            step in 1..20_000_u64,
        ) {
            let minutes = 5;
            let steps = usize::try_from(minutes * MICROS_PER_MINUTE / step).unwrap();
            let passed = offer(pace, std::iter::repeat_n((step, 1), steps));
            // Who asks every `step` misses a turn by that much at most.
            let turn = MICROS_PER_MINUTE as f64 / pace.per_minute as f64;
            let due = minutes as f64 * pace.per_minute as f64 * turn / (turn + step as f64);
            prop_assert!(passed.len() as f64 >= 0.97 * due.floor(), "{} of {due}", passed.len());
        }

        #[test]
        fn who_waits_as_told_is_let_through(
            pace in paces(), level in 0..1_000_000_000_000_u64, cost in 1..500_u64,
        ) {
            let bucket = Bucket::new(level, 5);
            let wait = u64::try_from(bucket.wait(pace, cost, 5).as_micros()).unwrap();
            prop_assert!(bucket.wait(pace, cost, 5 + wait).is_zero());
            if wait > 0 {
                prop_assert!(!bucket.wait(pace, cost, 5 + wait - 1).is_zero());
            }
        }
    }

    #[test]
    fn a_saturated_limit_of_600_lets_660_through_in_its_first_minute() {
        let pace = Pace::new(600, 60);
        let passed = offer(pace, std::iter::repeat_n((1_000, 1), 60_000));
        assert!((655..660).contains(&passed.len()), "{}", passed.len());
        let later: Vec<_> = passed.iter().filter(|(at, _)| *at > 30 * SECOND).collect();
        assert!((297..=300).contains(&later.len()), "{}", later.len());
    }

    #[test]
    fn debts_are_paid_off_before_anything_passes() {
        let pace = Pace::new(60, 10);
        let mut bucket = Bucket::default();
        // A reservation of 5 turned out to be 70: 60 beyond the ten that fit, at one a second.
        bucket.charge(pace, 5, 0);
        bucket.charge(pace, 65, 0);
        assert_eq!(bucket.room(pace, 0), 0);
        let wait = bucket.wait(pace, 1, 0).as_secs_f64();
        assert!((61.0..61.1).contains(&wait), "{wait}");
        bucket.refund(pace, 100, 0);
        assert_eq!((bucket.room(pace, 0), bucket.level(pace, 0)), (10, 0));
    }

    #[test]
    fn clocks_that_step_back_empty_nothing() {
        let pace = Pace::new(60, 1);
        let mut bucket = Bucket::default();
        bucket.charge(pace, 1, 10 * SECOND);
        assert!(!bucket.wait(pace, 1, 5 * SECOND).is_zero());
        bucket.charge(pace, 1, 5 * SECOND);
        assert_eq!(bucket.level(pace, 10 * SECOND), 2 * LEVEL_OF_ONE);
    }
}
