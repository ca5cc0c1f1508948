//! Reservations and spending of one process. Every operation is a few map look-ups, and one lock
//! around them makes overshoot impossible. It must not lock by itself: the caller does.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::{Decimal, RoundingStrategy};
use uuid::Uuid;

use super::{Account, Budget, Period};

/// Error of a reservation that doesn't fit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct BudgetExceeded {
    /// The budget's account.
    pub account: Account,
    /// The most that the call may cost.
    pub amount: Decimal,
    /// The ceiling.
    pub usd: Decimal,
    /// Spent in the current period.
    pub spent: Decimal,
    /// Reserved by calls in flight.
    pub reserved: Decimal,
    /// First day of the next period.
    pub resets: Option<Date>,
}

impl BudgetExceeded {
    /// Returns what no call has spent or reserved; negative if more was spent than there was.
    #[must_use]
    pub fn left(&self) -> Decimal {
        self.usd - self.spent - self.reserved
    }
}

impl fmt::Display for BudgetExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.left().max(Decimal::ZERO);
        let until = self.resets.and_then(|day| day.yesterday().ok());
        let until = until.map_or_else(String::new, |day| format!(" until {day} (UTC)"));
        let (account, total) = (&self.account, self.usd.normalize());
        if self.spent >= self.usd {
            return write!(
                f,
                "the budget of {account} is used up: ${} of ${total} is spent{until}",
                shown(self.spent, RoundingStrategy::ToZero)
            );
        }
        write!(
            f,
            "this call may cost up to ${}, and ${} of ${total} is left in the budget of \
             {account}{until}",
            shown(self.amount, RoundingStrategy::ToPositiveInfinity),
            shown(left, RoundingStrategy::ToZero),
        )?;
        if self.reserved > Decimal::ZERO {
            let reserved = shown(self.reserved, RoundingStrategy::ToPositiveInfinity);
            write!(
                f,
                "; calls under way may cost up to ${reserved} of the rest"
            )?;
        }
        f.write_str("; lower the limit on output tokens, shorten the input, or wait")
    }
}

/// Digits behind the point of an amount that people read.
const SHOWN_DIGITS: u32 = 6;

fn shown(usd: Decimal, rounding: RoundingStrategy) -> Decimal {
    usd.round_dp_with_strategy(SHOWN_DIGITS, rounding)
        .normalize()
}

/// Account and kind of period.
type AccountPeriod = (Account, Period);

#[derive(Clone, Copy, Debug, Default)]
struct LocalLine {
    /// First day of the period that the amounts belong to.
    start: Option<Date>,
    /// Spent by other processes: earlier ones and those running beside this one.
    others: Decimal,
    /// Settled by this process.
    own: Decimal,
    reserved: Decimal,
}

impl LocalLine {
    fn total_spent(&self) -> Decimal {
        self.others + self.own
    }

    fn roll(&mut self, start: Option<Date>) {
        // Only forwards: a clock that steps back must not reset spending.
        if start > self.start {
            *self = Self {
                start,
                ..Self::default()
            };
        }
    }
}

#[derive(Debug)]
struct LocalReservation {
    amount: Decimal,
    expires: Timestamp,
    /// Lines it is reserved on, each with the period at the time.
    lines: Vec<(AccountPeriod, Option<Date>)>,
}

/// Reservations and spending of every account with a budget.
#[derive(Debug, Default)]
pub struct LocalBudgets {
    lines: HashMap<AccountPeriod, LocalLine>,
    reservations: HashMap<Uuid, LocalReservation>,
    by_expiry: BTreeSet<(Timestamp, Uuid)>,
}

impl LocalBudgets {
    /// Reserves `amount` on every budget, or on none.
    ///
    /// `id` names the reservation; reserving again under it replaces the earlier amount, so that a
    /// retry at a more expensive deployment is one reservation. It expires at `expires`.
    ///
    /// # Errors
    /// Returns an error if a budget has less than `amount` left.
    pub fn reserve(
        &mut self,
        id: Uuid,
        budgets: &[(Account, Budget)],
        amount: Decimal,
        now: Timestamp,
        expires: Timestamp,
    ) -> Result<(), BudgetExceeded> {
        self.expire(now);
        let earlier = self.remove(id);
        if let Err(exceeded) = self.check(budgets, amount, now) {
            if let Some(earlier) = earlier {
                self.insert(id, earlier);
            }
            return Err(exceeded);
        }
        let line = |(account, budget): &(Account, Budget)| {
            ((account.clone(), budget.period), budget.period.start(now))
        };
        let lines = budgets.iter().map(line).collect();
        self.insert(
            id,
            LocalReservation {
                amount,
                expires,
                lines,
            },
        );
        Ok(())
    }

    /// Turns a reservation into spending. The caller passes the budgets again, so that the cost
    /// counts even if the reservation has expired.
    pub fn settle(
        &mut self,
        id: Uuid,
        budgets: &[(Account, Budget)],
        reserved_at: Timestamp,
        cost: Decimal,
    ) {
        let _ = self.remove(id);
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

    /// Removes a reservation whose call was never made.
    pub fn release(&mut self, id: Uuid) {
        let _ = self.remove(id);
    }

    /// Removes reservations that were never settled and returns their number.
    pub fn expire(&mut self, now: Timestamp) -> usize {
        let mut expired = 0;
        while let Some(&(expires, id)) = self.by_expiry.first() {
            if expires > now {
                break;
            }
            let _ = self.remove(id);
            expired += 1;
        }
        expired
    }

    /// Sets the spending of other processes in the period that begins on `start`, as read from the
    /// ledger: earlier processes and those running beside this one.
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

    /// Returns the amounts spent and reserved by an account in the current period.
    #[must_use]
    pub fn state(&self, account: &Account, period: Period, now: Timestamp) -> (Decimal, Decimal) {
        let state = self
            .lines
            .get(&(account.clone(), period))
            .copied()
            .unwrap_or_default();
        let current = period.start(now) <= state.start;
        if current {
            (state.total_spent(), state.reserved)
        } else {
            Default::default()
        }
    }

    /// Returns the number of open reservations.
    #[must_use]
    pub fn reservations(&self) -> usize {
        self.reservations.len()
    }

    fn check(
        &mut self,
        budgets: &[(Account, Budget)],
        amount: Decimal,
        now: Timestamp,
    ) -> Result<(), BudgetExceeded> {
        for (account, budget) in budgets {
            let state = self
                .lines
                .entry((account.clone(), budget.period))
                .or_default();
            state.roll(budget.period.start(now));
            if state.total_spent() + state.reserved + amount > budget.usd {
                return Err(BudgetExceeded {
                    account: account.clone(),
                    amount,
                    usd: budget.usd,
                    spent: state.total_spent(),
                    reserved: state.reserved,
                    resets: budget.period.next_start(now),
                });
            }
        }
        Ok(())
    }

    fn insert(&mut self, id: Uuid, reservation: LocalReservation) {
        for (line, start) in &reservation.lines {
            let state = self.lines.entry(line.clone()).or_default();
            if state.start == *start {
                state.reserved += reservation.amount;
            }
        }
        self.by_expiry.insert((reservation.expires, id));
        self.reservations.insert(id, reservation);
    }

    fn remove(&mut self, id: Uuid) -> Option<LocalReservation> {
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
        let mut budgets = LocalBudgets::default();
        let owner = (
            Account::Owner("team".into()),
            Budget {
                usd: usd(150),
                period: Period::Total,
            },
        );
        let both = [key("a", 500, Period::Day), owner.clone()];
        budgets
            .reserve(id(1), &both, usd(100), NOW, later(60))
            .unwrap();
        let exceeded = budgets
            .reserve(id(2), &both, usd(51), NOW, later(60))
            .unwrap_err();
        assert_eq!(
            (exceeded.account, exceeded.reserved),
            (owner.0.clone(), usd(100))
        );
        assert_eq!(
            budgets.state(&both[0].0, Period::Day, NOW),
            (usd(0), usd(100))
        );
        budgets.settle(id(1), &both, NOW, usd(70));
        assert_eq!(
            budgets.state(&owner.0, Period::Total, NOW),
            (usd(70), usd(0))
        );
        budgets
            .reserve(id(2), &both, usd(80), NOW, later(60))
            .unwrap();
    }

    #[test]
    fn reserving_again_replaces_and_failing_keeps_the_earlier() {
        let mut budgets = LocalBudgets::default();
        let budget = [key("a", 100, Period::Total)];
        budgets
            .reserve(id(1), &budget, usd(60), NOW, later(60))
            .unwrap();
        budgets
            .reserve(id(1), &budget, usd(90), NOW, later(60))
            .unwrap();
        assert!(
            budgets
                .reserve(id(1), &budget, usd(101), NOW, later(60))
                .is_err()
        );
        assert_eq!(
            budgets.state(&budget[0].0, Period::Total, NOW),
            (usd(0), usd(90))
        );
        budgets.release(id(1));
        assert_eq!(budgets.reservations(), 0);
    }

    #[test]
    fn what_is_never_settled_is_let_go_and_late_settling_still_counts() {
        let mut budgets = LocalBudgets::default();
        let budget = [key("a", 100, Period::Total)];
        budgets
            .reserve(id(1), &budget, usd(100), NOW, later(60))
            .unwrap();
        assert!(
            budgets
                .reserve(id(2), &budget, usd(1), later(59), later(99))
                .is_err()
        );
        budgets
            .reserve(id(2), &budget, usd(1), later(60), later(99))
            .unwrap();
        budgets.settle(id(1), &budget, NOW, usd(40));
        assert_eq!(
            budgets.state(&budget[0].0, Period::Total, NOW),
            (usd(40), usd(1))
        );
    }

    #[test]
    fn a_new_period_begins_at_nothing_and_old_calls_stay_in_theirs() {
        let mut budgets = LocalBudgets::default();
        let budget = [key("a", 100, Period::Day)];
        let tomorrow = later(86_400);
        budgets
            .reserve(id(1), &budget, usd(100), NOW, later(999_999))
            .unwrap();
        budgets
            .reserve(id(2), &budget, usd(100), tomorrow, later(999_999))
            .unwrap();
        budgets.settle(id(1), &budget, NOW, usd(90));
        assert_eq!(
            budgets.state(&budget[0].0, Period::Day, tomorrow),
            (usd(0), usd(100))
        );
        // A clock that steps back finds the later period still standing.
        assert!(
            budgets
                .reserve(id(3), &budget, usd(1), NOW, later(999_999))
                .is_err()
        );
    }

    #[test]
    fn restored_spending_counts() {
        let mut budgets = LocalBudgets::default();
        let budget = [key("a", 100, Period::Month)];
        budgets.restore(
            budget[0].0.clone(),
            Period::Month,
            Period::Month.start(NOW),
            usd(99),
        );
        assert!(
            budgets
                .reserve(id(1), &budget, usd(2), NOW, later(1))
                .is_err()
        );
        // Spending settled here stays when that of other processes is restored again.
        budgets.settle(id(1), &budget, NOW, usd(1));
        for others in [10, 20] {
            let start = Period::Month.start(NOW);
            budgets.restore(budget[0].0.clone(), Period::Month, start, usd(others));
        }
        let (spent, _) = budgets.state(&budget[0].0, Period::Month, NOW);
        assert_eq!(spent, usd(21));
        let next = NOW
            .to_zoned(jiff::tz::TimeZone::UTC)
            .checked_add(1.month())
            .unwrap();
        budgets
            .reserve(id(1), &budget, usd(2), next.timestamp(), next.timestamp())
            .unwrap();
    }

    #[test]
    fn two_hundred_at_once_never_overshoot() {
        let budgets = Arc::new(Mutex::new(LocalBudgets::default()));
        let budget = [key("a", 5_000, Period::Total)];
        let spent: usize = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..200_u128)
                .map(|n| {
                    let (budgets, budget) = (Arc::clone(&budgets), budget.clone());
                    scope.spawn(move || {
                        let reserved = budgets.lock().unwrap().reserve(
                            id(n),
                            &budget,
                            usd(100),
                            NOW,
                            later(60),
                        );
                        if reserved.is_ok() {
                            budgets
                                .lock()
                                .unwrap()
                                .settle(id(n), &budget, NOW, usd(100));
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
        let budgets = budgets.lock().unwrap();
        assert_eq!(spent, 50);
        assert_eq!(
            budgets.state(&budget[0].0, Period::Total, NOW),
            (usd(5_000), usd(0))
        );
        assert_eq!(budgets.reservations(), 0);
    }

    #[derive(Clone, Debug)]
    enum LocalStep {
        Reserve(u128, i64, i64),
        Settle(u128, i64),
        Release(u128),
    }

    fn step() -> impl Strategy<Value = LocalStep> {
        prop_oneof![
            3 => (0..6_u128, 0..80_i64, 1..40_i64).prop_map(|(n, c, t)| LocalStep::Reserve(n, c, t)),
            2 => (0..6_u128, 0..=100_i64).prop_map(|(n, part)| LocalStep::Settle(n, part)),
            1 => (0..6_u128).prop_map(LocalStep::Release),
        ]
    }

    proptest! {
        /// Calls that cost at most what they reserved, in time, never spend more than the budget,
        /// and what is held is always the sum of the open reservations.
        #[test]
        fn never_more_than_the_budget(steps in prop::collection::vec(step(), 1..60)) {
            let mut budgets = LocalBudgets::default();
            let budget = [key("a", 200, Period::Total)];
            let mut open: HashMap<u128, (i64, i64)> = HashMap::new();
            for (second, step) in (0_i64..).zip(steps) {
                let now = later(second);
                open.retain(|_, (_, expires)| *expires > second);
                match step {
                    LocalStep::Reserve(n, cents, ttl) => {
                        let expires = later(second + ttl);
                        if budgets.reserve(id(n), &budget, usd(cents), now, expires).is_ok() {
                            open.insert(n, (cents, second + ttl));
                        }
                    }
                    LocalStep::Settle(n, part) => {
                        budgets.expire(now);
                        if let Some((cents, _)) = open.remove(&n) {
                            budgets.settle(id(n), &budget, now, usd(cents * part / 100));
                        }
                    }
                    LocalStep::Release(n) => {
                        budgets.release(id(n));
                        open.remove(&n);
                    }
                }
                budgets.expire(now);
                let (spent, reserved) = budgets.state(&budget[0].0, Period::Total, now);
                let held: i64 = open.values().map(|(cents, _)| cents).sum();
                prop_assert_eq!(reserved, usd(held));
                prop_assert!(spent + reserved <= usd(200));
            }
        }
    }
}
