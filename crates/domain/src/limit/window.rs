//! Sliding window of 60 seconds over what was admitted in each second. It uses integers only and
//! must not know what is counted, nor where its state is kept; time is an argument.
//!
//! A second is counted until 60 seconds after its end, so that everything admitted in any 60 seconds
//! is counted together: never more than the limit and a tenth of it. The tenth is for a request that
//! is larger than what is left: it is admitted while the limit isn't reached. Whoever asks for up to a
//! tenth of the limit is therefore treated alike, whatever the size.
//!
//! A larger request would never be admitted beside small ones that take every bit that becomes free.
//! So a refused request has room set aside for a while: of what becomes free, smaller requests
//! may take half. It is admitted within 61 seconds, if it asks again as it is told. Nothing is set
//! aside for a request of more than six tenths of the limit: what it needs would stay unused for too
//! long.

use std::collections::VecDeque;
use std::time::Duration;

/// State of a window. It doesn't know the limit, so that this can change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Amounts by second, oldest first: at most [`SECONDS`] of them.
    seconds: VecDeque<(u32, u32)>,
    /// Sum of the amounts.
    used: u64,
    set_aside: Option<SetAside>,
}

/// Room that is set aside for a refused request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SetAside {
    /// Size of the request.
    size: u64,
    /// Microsecond at which it ends.
    until: u64,
    /// Became free since it began, with what was free then.
    freed: u64,
    /// Smaller requests admitted since it began.
    passed: u64,
}

/// Amount of one second in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SecondAmount {
    /// Age of the second, in seconds.
    pub age: u32,
    /// Amount that was admitted in it.
    pub amount: u64,
}

/// Number of seconds that are counted: the current one and those that ended less than 60 s ago.
pub const SECONDS: u32 = 61;

/// Time for which room stays set aside after the moment at which the request may ask again, in
/// microseconds: waits are told in whole seconds, and clients are late.
pub const SET_ASIDE_GRACE: u64 = 5_000_000;

const SECOND: u64 = 1_000_000;

impl SlidingWindow {
    /// Returns the amount that is counted.
    pub fn sum(&mut self, now: u64) -> u64 {
        self.advance(now);
        self.used
    }

    /// Returns the time until `cost` may be admitted; zero if it may be now.
    pub fn wait(&mut self, limit: u64, cost: u64, now: u64) -> Duration {
        if cost == 0 {
            return Duration::ZERO;
        }
        self.advance(now);
        let beyond = self
            .used
            .saturating_add(cost)
            .saturating_sub(limit + tenth(limit));
        let over = beyond.max((self.used + 1).saturating_sub(limit));
        let mut wait = self.time_to_free(over, now);
        if let Some(aside) = self.set_aside {
            if aside.is_for(cost) {
                // Smaller ones may take half of what becomes free until then.
                let short = cost.saturating_sub(tenth(limit)).saturating_mul(2);
                if over > 0 {
                    wait = wait.max(self.time_to_free(short.saturating_sub(aside.freed), now));
                }
            } else {
                let taken = aside.passed.saturating_add(cost).saturating_mul(2);
                let short = taken.saturating_sub(aside.freed);
                let ends = aside.until.saturating_sub(now);
                wait = wait.max(self.time_to_free(short, now).min(ends));
            }
        }
        Duration::from_micros(wait)
    }

    /// Records that `cost` was refused and may ask again after `wait`: sets room aside for it if
    /// smaller requests could keep it out for ever.
    pub fn set_aside(&mut self, limit: u64, cost: u64, now: u64, wait: Duration) {
        let smallest = tenth(limit).max(1);
        if cost <= smallest || cost - tenth(limit) > limit / 2 {
            return;
        }
        self.advance(now);
        let wait = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        let until = now.saturating_add(wait).saturating_add(SET_ASIDE_GRACE);
        match &mut self.set_aside {
            None => {
                self.set_aside = Some(SetAside {
                    size: cost,
                    until,
                    freed: limit.saturating_sub(self.used),
                    passed: 0,
                });
            }
            Some(aside) if aside.is_for(cost) => {
                aside.size = aside.size.max(cost);
                aside.until = aside.until.max(until);
            }
            Some(_) => {}
        }
    }

    /// Counts `cost` as admitted, whether or not there is room.
    pub fn charge(&mut self, cost: u64, now: u64) {
        self.advance(now);
        if let Some(aside) = &mut self.set_aside {
            if aside.is_for(cost) {
                self.set_aside = None;
            } else {
                aside.passed = aside.passed.saturating_add(cost);
            }
        }
        self.add(cost, now);
    }

    /// Counts `cost` that was used beyond what was admitted.
    pub fn add_excess(&mut self, cost: u64, now: u64) {
        self.advance(now);
        if let Some(aside) = &mut self.set_aside {
            aside.freed = aside.freed.saturating_sub(cost);
        }
        self.add(cost, now);
    }

    /// Takes back `cost` of what was charged at `charged`: it was not used. What has left the window
    /// since then stays as it is.
    pub fn refund(&mut self, cost: u64, charged: u64, now: u64) {
        self.advance(now);
        let second = second_of(charged);
        if let Ok(position) = self.seconds.binary_search_by_key(&second, |(at, _)| *at) {
            let (_, amount) = &mut self.seconds[position];
            let back = (*amount).min(u32::try_from(cost).unwrap_or(u32::MAX));
            *amount -= back;
            self.free(u64::from(back));
        }
    }

    /// Returns how much a small request may take now.
    pub fn room(&mut self, limit: u64, now: u64) -> u64 {
        self.advance(now);
        let left = limit.saturating_sub(self.used);
        let share = |aside: SetAside| (aside.freed / 2).saturating_sub(aside.passed);
        self.set_aside.map_or(left, |aside| left.min(share(aside)))
    }

    /// Returns the time until nothing is counted any more.
    pub fn time_to_empty(&mut self, now: u64) -> Duration {
        self.advance(now);
        Duration::from_micros(self.time_to_free(self.used, now))
    }

    /// Returns the amounts of the seconds, newest first.
    pub fn amounts(&mut self, now: u64) -> Vec<SecondAmount> {
        self.advance(now);
        let current = second_of(now);
        let amounts = self.seconds.iter().rev();
        let amounts = amounts.map(|(second, amount)| SecondAmount {
            age: current.saturating_sub(*second),
            amount: u64::from(*amount),
        });
        amounts.filter(|second| second.amount > 0).collect()
    }

    /// Takes over the amounts of the seconds, newest first.
    pub fn replace(&mut self, amounts: &[SecondAmount], now: u64) {
        *self = Self::default();
        let current = second_of(now);
        for second in amounts.iter().rev().filter(|one| one.age < SECONDS) {
            let at = current.saturating_sub(second.age);
            self.add_in_second(second.amount, at);
        }
    }

    /// Takes over that `used` is counted where others know it better. More than is known here was
    /// admitted just now; less was given back, of the oldest.
    pub fn correct(&mut self, used: u64, now: u64) {
        self.advance(now);
        if used >= self.used {
            self.add(used - self.used, now);
            return;
        }
        let mut less = self.used - used;
        for (_, amount) in &mut self.seconds {
            let back = (*amount).min(u32::try_from(less).unwrap_or(u32::MAX));
            *amount -= back;
            less -= u64::from(back);
        }
        self.used = used;
    }

    /// Drops the seconds that have left the window.
    fn advance(&mut self, now: u64) {
        if self.set_aside.is_some_and(|aside| aside.until <= now) {
            self.set_aside = None;
        }
        let current = second_of(now);
        while let Some(&(second, amount)) = self.seconds.front() {
            if second.saturating_add(SECONDS) > current {
                break;
            }
            self.seconds.pop_front();
            self.free(u64::from(amount));
        }
    }

    fn free(&mut self, amount: u64) {
        self.used = self.used.saturating_sub(amount);
        if let Some(aside) = &mut self.set_aside {
            aside.freed = aside.freed.saturating_add(amount);
        }
    }

    fn add(&mut self, cost: u64, now: u64) {
        self.add_in_second(cost, second_of(now));
    }

    /// Adds to the newest second, or to a newer one: a clock that steps back starts none.
    fn add_in_second(&mut self, cost: u64, second: u32) {
        let cost = u32::try_from(cost).unwrap_or(u32::MAX);
        if cost == 0 {
            return;
        }
        match self.seconds.back_mut() {
            Some((newest, amount)) if *newest >= second => {
                let before = *amount;
                *amount = amount.saturating_add(cost);
                self.used += u64::from(*amount - before);
            }
            _ => {
                self.seconds.push_back((second, cost));
                self.used += u64::from(cost);
            }
        }
    }

    /// Returns the microseconds until `amount` of what is counted has left the window, or all of it.
    fn time_to_free(&self, amount: u64, now: u64) -> u64 {
        if amount == 0 {
            return 0;
        }
        let mut freed = 0;
        let mut leaves = now;
        for (second, counted) in &self.seconds {
            freed += u64::from(*counted);
            leaves = (u64::from(*second) + u64::from(SECONDS)) * SECOND;
            if freed >= amount {
                break;
            }
        }
        leaves.saturating_sub(now)
    }
}

impl SetAside {
    /// Returns true if a request of `cost` may use the room: it, a larger one, or it with another
    /// estimate.
    const fn is_for(&self, cost: u64) -> bool {
        cost.saturating_mul(2) > self.size
    }
}

/// Returns what may be admitted beyond a limit by a request that is larger than what is left.
const fn tenth(limit: u64) -> u64 {
    limit / 10
}

fn second_of(micros: u64) -> u32 {
    u32::try_from(micros / SECOND).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MINUTE: u64 = 60 * SECOND;
    const HOUR: u64 = 60 * MINUTE;

    /// A client that asks again until it is admitted.
    struct Client {
        sizes: std::ops::RangeInclusive<u64>,
        /// Sizes are drawn evenly by their logarithm.
        log: bool,
        /// It waits as it is told, in whole seconds; else it asks again within 250 ms.
        obeys: bool,
        /// Mean pause after it was admitted, in microseconds.
        pause: u64,
    }

    #[derive(Default)]
    struct Run {
        /// Moments and costs of what was admitted.
        admitted: Vec<(u64, u64)>,
        by_client: Vec<Totals>,
    }

    #[derive(Clone, Copy, Default)]
    struct Totals {
        requests: u64,
        tokens: u64,
        /// Most refusals of one request, and the longest time until it was admitted.
        refusals: u64,
        longest: u64,
    }

    impl Client {
        fn small(sizes: std::ops::RangeInclusive<u64>) -> Self {
            Self {
                sizes,
                log: false,
                obeys: false,
                pause: 10_000,
            }
        }

        fn size(&self, random: &mut fastrand::Rng) -> u64 {
            if !self.log {
                return random.u64(self.sizes.clone());
            }
            let (low, high) = (*self.sizes.start() as f64, *self.sizes.end() as f64);
            (low.ln() + random.f64() * (high.ln() - low.ln())).exp() as u64
        }
    }

    /// Runs the clients against one limit for `span`, with simulated time.
    fn run(limit: u64, clients: &[Client], span: u64, seed: u64) -> Run {
        use std::cmp::Reverse;
        use std::collections::BinaryHeap;

        let mut random = fastrand::Rng::with_seed(seed);
        let mut window = SlidingWindow::default();
        let mut run = Run {
            by_client: vec![Totals::default(); clients.len()],
            ..Run::default()
        };
        let mut asks = BinaryHeap::new();
        for (number, client) in clients.iter().enumerate() {
            let at = random.u64(..SECOND);
            asks.push(Reverse((at, number, client.size(&mut random), at, 0)));
        }
        while let Some(Reverse((now, number, size, since, refusals))) = asks.pop() {
            if now > span {
                break;
            }
            let client = &clients[number];
            let wait = window.wait(limit, size, now);
            if wait.is_zero() {
                window.charge(size, now);
                run.admitted.push((now, size));
                let totals = &mut run.by_client[number];
                totals.requests += 1;
                totals.tokens += size;
                totals.refusals = totals.refusals.max(refusals);
                totals.longest = totals.longest.max(now - since);
                let at = now + random.u64(..=2 * client.pause);
                asks.push(Reverse((at, number, client.size(&mut random), at, 0)));
            } else {
                window.set_aside(limit, size, now, wait);
                let pause = if client.obeys {
                    wait.as_secs() * SECOND + u64::from(wait.subsec_nanos() > 0) * SECOND
                } else {
                    random.u64(50_000..250_000)
                };
                asks.push(Reverse((now + pause, number, size, since, refusals + 1)));
            }
        }
        run
    }

    impl Run {
        /// Returns the most that was admitted in any 60 seconds.
        fn busiest_minute(&self) -> u64 {
            let (mut first, mut sum, mut most) = (0, 0, 0);
            for (at, cost) in &self.admitted {
                sum += cost;
                while self.admitted[first].0 + MINUTE <= *at {
                    sum -= self.admitted[first].1;
                    first += 1;
                }
                most = most.max(sum);
            }
            most
        }

        fn usage_rate(&self, limit: u64, span: u64) -> f64 {
            let all: u64 = self.admitted.iter().map(|(_, cost)| cost).sum();
            all as f64 / (limit as f64 * span as f64 / MINUTE as f64)
        }
    }

    #[test]
    fn who_was_quiet_for_a_minute_may_use_all_of_it_at_once() {
        let mut window = SlidingWindow::default();
        for now in [5 * SECOND, 66 * SECOND] {
            for _ in 0..600 {
                assert!(window.wait(600, 1, now).is_zero());
                window.charge(1, now);
            }
            assert_eq!(window.room(600, now), 0);
            assert_eq!(window.wait(600, 1, now), Duration::from_secs(61));
        }
    }

    #[test]
    fn an_hour_of_pressure_uses_the_limit_and_no_minute_exceeds_it_by_more_than_a_tenth() {
        let log = |obeys| Client {
            sizes: 100..=100_000,
            log: true,
            obeys,
            pause: 50_000,
        };
        let one = |obeys| Client {
            obeys,
            ..Client::small(1..=1)
        };
        let cases: [(&str, u64, Vec<Client>); 8] = [
            (
                "requests, impatient",
                600,
                (0..5).map(|_| one(false)).collect(),
            ),
            (
                "requests, as told",
                600,
                (0..20).map(|_| one(true)).collect(),
            ),
            ("few requests", 5, (0..5).map(|_| one(false)).collect()),
            (
                "tokens 100 to 100,000",
                1_000_000,
                (0..20).map(|_| log(true)).collect(),
            ),
            (
                "up to half of the limit",
                200_000,
                (0..20).map(|_| log(true)).collect(),
            ),
            (
                "up to half, impatient",
                200_000,
                (0..10).map(|_| log(false)).collect(),
            ),
            (
                "up to five sixths",
                120_000,
                (0..20).map(|_| log(true)).collect(),
            ),
            (
                "up to all of it",
                100_000,
                (0..10).map(|_| log(false)).collect(),
            ),
        ];
        for (what, limit, clients) in cases {
            for seed in 1..4 {
                let run = run(limit, &clients, HOUR, seed);
                let (most, used) = (run.busiest_minute(), run.usage_rate(limit, HOUR));
                assert!(
                    most <= limit + limit / 10,
                    "{what}: {most} in a minute of {limit}"
                );
                assert!(used >= 0.97, "{what}: {used} used");
            }
        }
    }

    #[test]
    fn large_requests_and_small_ones_starve_neither() {
        for (limit, large) in [(1_000_000, 100_000), (200_000, 100_000), (200_000, 60_000)] {
            let mut clients: Vec<_> = (0..6).map(|_| Client::small(100..=1_000)).collect();
            clients.push(Client {
                obeys: true,
                pause: SECOND,
                ..Client::small(large..=large)
            });
            let run = run(limit, &clients, HOUR, 7);
            let totals = run.by_client[6];
            assert!(totals.refusals <= 3, "refused {} times", totals.refusals);
            assert!(totals.longest <= 125 * SECOND, "{} µs", totals.longest);
            assert!(totals.requests >= 55, "{} in an hour", totals.requests);
            let small: u64 = run.by_client[..6].iter().map(|totals| totals.tokens).sum();
            assert!(small * 5 >= limit * 60 * 2, "small ones used {small}");
            assert!(run.usage_rate(limit, HOUR) >= 0.97, "{limit} {large}");
        }
    }

    #[test]
    fn unused_reservations_are_given_back_where_they_were_made() {
        let mut window = SlidingWindow::default();
        window.charge(600, 10 * SECOND);
        window.charge(400, 30 * SECOND);
        window.refund(500, 10 * SECOND, 40 * SECOND);
        assert_eq!(window.sum(40 * SECOND), 500);
        // The rest of the first leaves when it would have left.
        assert_eq!(window.sum(71 * SECOND), 400);
        // What has left is not given back twice.
        window.refund(100, 10 * SECOND, 72 * SECOND);
        assert_eq!(window.sum(72 * SECOND), 400);
        // Excess counts from when it is known.
        window.add_excess(300, 72 * SECOND);
        assert_eq!(
            (window.sum(91 * SECOND), window.sum(133 * SECOND)),
            (300, 0)
        );
    }

    #[test]
    fn debts_are_waited_for() {
        let mut window = SlidingWindow::default();
        window.charge(10, 0);
        window.add_excess(95, 10 * SECOND);
        assert_eq!(window.room(100, 10 * SECOND), 0);
        assert_eq!(window.wait(100, 1, 10 * SECOND), Duration::from_secs(51));
        assert!(window.wait(100, 1, 61 * SECOND).is_zero());
    }

    #[test]
    fn state_is_bounded_and_others_figures_are_taken_over() {
        let mut window = SlidingWindow::default();
        for now in 0..100_000 {
            window.charge(3, now * 10_000);
        }
        let now = 100_000 * 10_000;
        assert!(window.seconds.len() <= SECONDS as usize && window.seconds.capacity() <= 64);
        let mut copy = SlidingWindow::default();
        copy.replace(&window.amounts(now), now + 7 * HOUR);
        assert_eq!(copy.sum(now + 7 * HOUR), window.sum(now));
        assert_eq!(copy.amounts(now + 7 * HOUR), window.amounts(now));
        let used = copy.sum(now + 7 * HOUR);
        copy.correct(used + 50, now + 7 * HOUR);
        copy.correct(used - 50, now + 7 * HOUR);
        assert_eq!(copy.sum(now + 7 * HOUR), used - 50);
        assert_eq!(
            copy.seconds
                .iter()
                .map(|(_, amount)| u64::from(*amount))
                .sum::<u64>(),
            used - 50
        );
        // Numbers beyond all limits stay numbers.
        copy.charge(u64::MAX, now + 7 * HOUR);
        copy.add_excess(u64::MAX, now + 7 * HOUR);
        assert!(!copy.wait(u64::from(u32::MAX), 1, now + 7 * HOUR).is_zero());
    }

    proptest! {
        #[test]
        fn no_minute_of_any_load_exceeds_the_limit_and_a_tenth(
            limit in 1..3_000_u64,
            asks in prop::collection::vec(
                (prop_oneof![Just(0_u64), 1..1_000_u64, 1_000..SECOND, SECOND..90 * SECOND],
                 1..400_u64, 0..=100_u64), 1..400),
        ) {
            let (mut window, mut now, mut run) = (SlidingWindow::default(), 7, Run::default());
            for (pause, cost, used) in asks {
                now += pause;
                let cost = cost.min(limit);
                let wait = window.wait(limit, cost, now);
                if wait.is_zero() {
                    window.charge(cost, now);
                    let used = (cost * used).div_ceil(100);
                    window.refund(cost - used, now, now);
                    run.admitted.push((now, used));
                } else {
                    prop_assert!(wait <= Duration::from_secs(61));
                    window.set_aside(limit, cost, now, wait);
                }
            }
            prop_assert!(run.busiest_minute() <= limit + limit / 10);
            if limit < 10 {
                prop_assert!(run.busiest_minute() <= limit);
            }
        }

        #[test]
        fn who_waits_as_told_is_admitted(
            limit in 1..3_000_u64,
            charges in prop::collection::vec((0..20 * SECOND, 1..3_000_u64), 1..20),
            cost in 1..3_000_u64,
            asked_before in any::<bool>(),
        ) {
            let (mut window, mut now) = (SlidingWindow::default(), 3 * SECOND);
            for (pause, charge) in charges {
                now += pause;
                window.charge(charge, now);
            }
            let cost = cost.min(limit);
            if asked_before {
                let wait = window.wait(limit, cost, now);
                window.set_aside(limit, cost, now, wait);
            }
            let wait = window.wait(limit, cost, now);
            let then = now + u64::try_from(wait.as_micros()).unwrap();
            if !wait.is_zero() && !asked_before {
                prop_assert!(!window.clone().wait(limit, cost, then - 1).is_zero());
            }
            prop_assert!(window.wait(limit, cost, then).is_zero());
        }
    }
}
