//! The book of reservations and spending, in one process. Locking it is the caller's: every
//! operation is a few map look-ups, and one lock around it makes overshoot impossible.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::Decimal;
use uuid::Uuid;

use super::{Account, Budget, Period};

/// A reservation that didn't fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the budget of {account} is used up: {spent} USD spent and {reserved} reserved of {usd}")]
pub struct Exceeded {
    /// Whose budget it is.
    pub account: Account,
    /// The ceiling.
    pub usd: Decimal,
    /// Spent in the current period.
    pub spent: Decimal,
    /// Held by calls in flight.
    pub reserved: Decimal,
    /// The day it begins anew.
    pub resets: Option<Date>,
}

/// Spending of an account in one of its periods.
type Line = (Account, Period);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// The period that the amounts belong to.
    start: Option<Date>,
    /// What others have spent: processes before this one, and those beside it.
    others: Decimal,
    /// What was settled here.
    own: Decimal,
    reserved: Decimal,
}

impl State {
    fn spent(&self) -> Decimal {
        self.others + self.own
    }

    fn roll(&mut self, start: Option<Date>) {
        // Only forwards: a clock that steps back must not bring spent money back.
        if start > self.start {
            *self = Self {
                start,
                ..Self::default()
            };
        }
    }
}

#[derive(Debug)]
struct Reservation {
    amount: Decimal,
    expires: Timestamp,
    /// The lines it is held on, each with the period it was made in.
    lines: Vec<(Line, Option<Date>)>,
}

/// Reservations and spending of every account with a budget.
#[derive(Debug, Default)]
pub struct Book {
    lines: HashMap<Line, State>,
    reservations: HashMap<Uuid, Reservation>,
    by_expiry: BTreeSet<(Timestamp, Uuid)>,
}

impl Book {
    /// Holds `amount` on every budget, or on none of them.
    ///
    /// `id` names the reservation; reserving again under it replaces the earlier amount, so that a
    /// retry at a dearer deployment is one reservation. After `expires` it is let go.
    ///
    /// # Errors
    /// When a budget has less than `amount` left.
    pub fn reserve(
        &mut self,
        id: Uuid,
        budgets: &[(Account, Budget)],
        amount: Decimal,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<(), Exceeded> {
        self.expire(now);
        let earlier = self.take(id);
        if let Err(exceeded) = self.check(budgets, amount, now) {
            if let Some(earlier) = earlier {
                self.hold(id, earlier);
            }
            return Err(exceeded);
        }
        let line = |(account, budget): &(Account, Budget)| {
            ((account.clone(), budget.period), budget.period.start(now))
        };
        let lines = budgets.iter().map(line).collect();
        self.hold(
            id,
            Reservation {
                amount,
                expires,
                lines,
            },
        );
        Ok(())
    }

    /// Turns a reservation into spending. Settling twice, or after it expired, spends once: the
    /// caller passes the budgets again so that money is counted even if the hold was let go.
    pub fn settle(
        &mut self,
        id: Uuid,
        budgets: &[(Account, Budget)],
        reserved_at: Timestamp,
        cost: Decimal,
    ) {
        let _ = self.take(id);
        for (account, budget) in budgets {
            let start = budget.period.start(reserved_at);
            let state = self
                .lines
                .entry((account.clone(), budget.period))
                .or_default();
            state.roll(start);
            if state.start == start {
                state.own += cost;
            }
        }
    }

    /// Lets go of a reservation whose call was never made.
    pub fn release(&mut self, id: Uuid) {
        let _ = self.take(id);
    }

    /// Lets go of reservations that were never settled; how many.
    pub fn expire(&mut self, now: Timestamp) -> usize {
        let mut expired = 0;
        while let Some(&(expires, id)) = self.by_expiry.first() {
            if expires > now {
                break;
            }
            let _ = self.take(id);
            expired += 1;
        }
        expired
    }

    /// Sets what others than this book have spent of an account in the period that begins on
    /// `start`, as the ledger knows it: processes before this one, and those beside it.
    pub fn restore(
        &mut self,
        account: Account,
        period: Period,
        start: Option<Date>,
        spent: Decimal,
    ) {
        let state = self.lines.entry((account, period)).or_default();
        state.roll(start);
        if state.start == start {
            state.others = spent;
        }
    }

    /// What an account has spent and holds reserved in the current period.
    #[must_use]
    pub fn state(&self, account: &Account, period: Period, now: Timestamp) -> (Decimal, Decimal) {
        let state = self
            .lines
            .get(&(account.clone(), period))
            .copied()
            .unwrap_or_default();
        let current = period.start(now) <= state.start;
        if current {
            (state.spent(), state.reserved)
        } else {
            Default::default()
        }
    }

    /// How many reservations are held.
    #[must_use]
    pub fn reservations(&self) -> usize {
        self.reservations.len()
    }

    fn check(
        &mut self,
        budgets: &[(Account, Budget)],
        amount: Decimal,
        now: Timestamp,
    ) -> Result<(), Exceeded> {
        for (account, budget) in budgets {
            let state = self
                .lines
                .entry((account.clone(), budget.period))
                .or_default();
            state.roll(budget.period.start(now));
            if state.spent() + state.reserved + amount > budget.usd {
                return Err(Exceeded {
                    account: account.clone(),
                    usd: budget.usd,
                    spent: state.spent(),
                    reserved: state.reserved,
                    resets: budget.period.next_start(now),
                });
            }
        }
        Ok(())
    }

    fn hold(&mut self, id: Uuid, reservation: Reservation) {
        for (line, start) in &reservation.lines {
            let state = self.lines.entry(line.clone()).or_default();
            if state.start == *start {
                state.reserved += reservation.amount;
            }
        }
        self.by_expiry.insert((reservation.expires, id));
        self.reservations.insert(id, reservation);
    }

    fn take(&mut self, id: Uuid) -> Option<Reservation> {
        let reservation = self.reservations.remove(&id)?;
        self.by_expiry.remove(&(reservation.expires, id));
        for (line, start) in &reservation.lines {
            if let Some(state) = self.lines.get_mut(line)
                && state.start == *start
            {
                state.reserved -= reservation.amount;
            }
        }
        Some(reservation)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use jiff::{SignedDuration, ToSpan};
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn usd(cents: i64) -> Decimal {
        Decimal::new(cents, 2)
    }

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn later(seconds: i64) -> Timestamp {
        NOW.checked_add(SignedDuration::from_secs(seconds)).unwrap()
    }

    fn key(name: &str, cents: i64, period: Period) -> (Account, Budget) {
        (
            Account::Key(name.into()),
            Budget {
                usd: usd(cents),
                period,
            },
        )
    }

    #[test]
    fn holds_on_all_budgets_or_on_none() {
        let mut book = Book::default();
        let owner = (
            Account::Owner("team".into()),
            Budget {
                usd: usd(150),
                period: Period::Total,
            },
        );
        let both = [key("a", 500, Period::Day), owner.clone()];
        book.reserve(id(1), &both, usd(100), NOW, later(60))
            .unwrap();
        let exceeded = book
            .reserve(id(2), &both, usd(51), NOW, later(60))
            .unwrap_err();
        assert_eq!(
            (exceeded.account, exceeded.reserved),
            (owner.0.clone(), usd(100))
        );
        assert_eq!(book.state(&both[0].0, Period::Day, NOW), (usd(0), usd(100)));
        book.settle(id(1), &both, NOW, usd(70));
        assert_eq!(book.state(&owner.0, Period::Total, NOW), (usd(70), usd(0)));
        book.reserve(id(2), &both, usd(80), NOW, later(60)).unwrap();
    }

    #[test]
    fn reserving_again_replaces_and_failing_keeps_the_earlier() {
        let mut book = Book::default();
        let budget = [key("a", 100, Period::Total)];
        book.reserve(id(1), &budget, usd(60), NOW, later(60))
            .unwrap();
        book.reserve(id(1), &budget, usd(90), NOW, later(60))
            .unwrap();
        assert!(
            book.reserve(id(1), &budget, usd(101), NOW, later(60))
                .is_err()
        );
        assert_eq!(
            book.state(&budget[0].0, Period::Total, NOW),
            (usd(0), usd(90))
        );
        book.release(id(1));
        assert_eq!(book.reservations(), 0);
    }

    #[test]
    fn what_is_never_settled_is_let_go_and_late_settling_still_counts() {
        let mut book = Book::default();
        let budget = [key("a", 100, Period::Total)];
        book.reserve(id(1), &budget, usd(100), NOW, later(60))
            .unwrap();
        assert!(
            book.reserve(id(2), &budget, usd(1), later(59), later(99))
                .is_err()
        );
        book.reserve(id(2), &budget, usd(1), later(60), later(99))
            .unwrap();
        book.settle(id(1), &budget, NOW, usd(40));
        assert_eq!(
            book.state(&budget[0].0, Period::Total, NOW),
            (usd(40), usd(1))
        );
    }

    #[test]
    fn a_new_period_begins_at_nothing_and_old_calls_stay_in_theirs() {
        let mut book = Book::default();
        let budget = [key("a", 100, Period::Day)];
        let tomorrow = later(86_400);
        book.reserve(id(1), &budget, usd(100), NOW, later(999_999))
            .unwrap();
        book.reserve(id(2), &budget, usd(100), tomorrow, later(999_999))
            .unwrap();
        book.settle(id(1), &budget, NOW, usd(90));
        assert_eq!(
            book.state(&budget[0].0, Period::Day, tomorrow),
            (usd(0), usd(100))
        );
        // A clock that steps back finds the later period still standing.
        assert!(
            book.reserve(id(3), &budget, usd(1), NOW, later(999_999))
                .is_err()
        );
    }

    #[test]
    fn restored_spending_counts() {
        let mut book = Book::default();
        let budget = [key("a", 100, Period::Month)];
        book.restore(
            budget[0].0.clone(),
            Period::Month,
            Period::Month.start(NOW),
            usd(99),
        );
        assert!(book.reserve(id(1), &budget, usd(2), NOW, later(1)).is_err());
        // What was settled here is no one else's: it stays when the others' is told again.
        book.settle(id(1), &budget, NOW, usd(1));
        for others in [10, 20] {
            let start = Period::Month.start(NOW);
            book.restore(budget[0].0.clone(), Period::Month, start, usd(others));
        }
        let (spent, _) = book.state(&budget[0].0, Period::Month, NOW);
        assert_eq!(spent, usd(21));
        let next = NOW
            .to_zoned(jiff::tz::TimeZone::UTC)
            .checked_add(1.month())
            .unwrap();
        book.reserve(id(1), &budget, usd(2), next.timestamp(), next.timestamp())
            .unwrap();
    }

    #[test]
    fn two_hundred_at_once_never_overshoot() {
        let book = Arc::new(Mutex::new(Book::default()));
        let budget = [key("a", 5_000, Period::Total)];
        let spent: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..200_u128)
                .map(|n| {
                    let (book, budget) = (Arc::clone(&book), budget.clone());
                    scope.spawn(move || {
                        let reserved =
                            book.lock()
                                .unwrap()
                                .reserve(id(n), &budget, usd(100), NOW, later(60));
                        if reserved.is_ok() {
                            book.lock().unwrap().settle(id(n), &budget, NOW, usd(100));
                        }
                        usize::from(reserved.is_ok())
                    })
                })
                .collect();
            workers
                .into_iter()
                .map(|worker| worker.join().unwrap())
                .sum()
        });
        let book = book.lock().unwrap();
        assert_eq!(spent, 50);
        assert_eq!(
            book.state(&budget[0].0, Period::Total, NOW),
            (usd(5_000), usd(0))
        );
        assert_eq!(book.reservations(), 0);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Reserve(u128, i64, i64),
        Settle(u128, i64),
        Release(u128),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..6_u128, 0..80_i64, 1..40_i64).prop_map(|(n, c, t)| Step::Reserve(n, c, t)),
            2 => (0..6_u128, 0..=100_i64).prop_map(|(n, part)| Step::Settle(n, part)),
            1 => (0..6_u128).prop_map(Step::Release),
        ]
    }

    proptest! {
        /// Calls that cost at most what they reserved, in time, never spend more than the budget,
        /// and what is held is always the sum of the open reservations.
        #[test]
        fn never_more_than_the_budget(steps in prop::collection::vec(step(), 1..60)) {
            let mut book = Book::default();
            let budget = [key("a", 200, Period::Total)];
            let mut open: HashMap<u128, (i64, i64)> = HashMap::new();
            for (second, step) in (0_i64..).zip(steps) {
                let now = later(second);
                open.retain(|_, (_, expires)| *expires > second);
                match step {
                    Step::Reserve(n, cents, ttl) => {
                        let expires = later(second + ttl);
                        if book.reserve(id(n), &budget, usd(cents), now, expires).is_ok() {
                            open.insert(n, (cents, second + ttl));
                        }
                    }
                    Step::Settle(n, part) => {
                        book.expire(now);
                        if let Some((cents, _)) = open.remove(&n) {
                            book.settle(id(n), &budget, now, usd(cents * part / 100));
                        }
                    }
                    Step::Release(n) => {
                        book.release(id(n));
                        open.remove(&n);
                    }
                }
                book.expire(now);
                let (spent, reserved) = book.state(&budget[0].0, Period::Total, now);
                let held: i64 = open.values().map(|(cents, _)| cents).sum();
                prop_assert_eq!(reserved, usd(held));
                prop_assert!(spent + reserved <= usd(200));
            }
        }
    }
}
