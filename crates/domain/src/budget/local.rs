//! Reservations and spending of one process. Every operation is a few map look-ups, and one lock
//! around them makes overshoot impossible. It must not lock by itself: the caller does.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::{Decimal, RoundingStrategy};
use uuid::Uuid;

use super::replica::budget_lines;
use super::shared::BudgetLine;
use super::{Account, Budget, Period};
use crate::ledger;

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
    pub fn remaining(&self) -> Decimal {
        self.usd - self.spent - self.reserved
    }
}

impl fmt::Display for BudgetExceeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.remaining().max(Decimal::ZERO);
        let until = self.resets.and_then(|day| day.yesterday().ok());
        let until = until.map_or_else(String::new, |day| format!(" until {day} (UTC)"));
        let (account, total) = (&self.account, self.usd.normalize());
        if self.spent >= self.usd {
            return write!(
                f,
                "the budget of {account} is used up: ${} of ${total} is spent{until}",
                in_usd(self.spent, RoundingStrategy::ToZero)
            );
        }
        write!(
            f,
            "this call may cost up to ${}, and ${} of ${total} is left in the budget of \
             {account}{until}",
            in_usd(self.amount, RoundingStrategy::ToPositiveInfinity),
            in_usd(left, RoundingStrategy::ToZero),
        )?;
        if self.reserved > Decimal::ZERO {
            let reserved = in_usd(self.reserved, RoundingStrategy::ToPositiveInfinity);
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

fn in_usd(usd: Decimal, rounding: RoundingStrategy) -> Decimal {
    usd.round_dp_with_strategy(SHOWN_DIGITS, rounding)
        .normalize()
}

/// Spending and reservations on one line. A line's period never changes: whatever the clock says, a
/// period that begins, or comes again, has a line whose `others` are read from the ledger.
#[derive(Clone, Copy, Debug, Default)]
struct LocalLine {
    /// Spent by other processes: earlier ones and those running beside this one.
    others: Decimal,
    reserved: Decimal,
}

#[derive(Debug)]
struct LocalReservation {
    amount: Decimal,
    expires: Timestamp,
    lines: Vec<BudgetLine>,
}

/// Reservations and spending of every account with a budget.
#[derive(Debug, Default)]
pub struct LocalBudgets {
    lines: HashMap<BudgetLine, LocalLine>,
    /// Settled by this process, by account and day.
    own: HashMap<Account, BTreeMap<Date, Decimal>>,
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
        let reservation = LocalReservation {
            amount,
            expires,
            lines: budget_lines(budgets, now),
        };
        self.insert(id, reservation);
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
        for (position, (account, _)) in budgets.iter().enumerate() {
            let mut before = budgets[..position].iter();
            if before.all(|(earlier, _)| earlier != account) {
                let days = self.own.entry(account.clone()).or_default();
                *days.entry(ledger::day(reserved_at)).or_default() += cost;
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

    /// Sets the spending of other processes on a line, as read from the ledger: earlier processes
    /// and those running beside this one.
    pub fn restore(&mut self, line: &BudgetLine, spent: Decimal) {
        self.line(line).others = spent;
    }

    /// Removes a line of a period that isn't the current one. If the period comes again, its line
    /// must be restored.
    pub fn forget(&mut self, line: &BudgetLine) {
        self.lines.remove(line);
    }

    /// Returns the amounts spent and reserved by an account in the current period.
    #[must_use]
    pub fn state(&self, account: &Account, period: Period, now: Timestamp) -> (Decimal, Decimal) {
        let line = BudgetLine {
            account: account.clone(),
            period,
            start: period.start(now),
        };
        let LocalLine { others, reserved } = self.lines.get(&line).copied().unwrap_or_default();
        (others + self.own_spending(&line), reserved)
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
            let line = BudgetLine::new(account, budget, now);
            let LocalLine { others, reserved } = *self.line(&line);
            let spent = others + self.own_spending(&line);
            if spent + reserved + amount > budget.usd {
                return Err(BudgetExceeded {
                    account: account.clone(),
                    amount,
                    usd: budget.usd,
                    spent,
                    reserved,
                    resets: budget.period.next_start(now),
                });
            }
        }
        Ok(())
    }

    /// Returns what this process has settled since a line's period began.
    fn own_spending(&self, line: &BudgetLine) -> Decimal {
        let from = line.start.unwrap_or(Date::MIN);
        let days = self.own.get(&line.account);
        days.map_or(Decimal::ZERO, |days| {
            days.range(from..).map(|(_, usd)| *usd).sum()
        })
    }

    /// Returns a line, with what is reserved on it if it is new.
    fn line(&mut self, line: &BudgetLine) -> &mut LocalLine {
        let reservations = &self.reservations;
        self.lines.entry(line.clone()).or_insert_with(|| {
            let held = reservations.values();
            let held = held.filter(|reservation| reservation.lines.contains(line));
            LocalLine {
                others: Decimal::ZERO,
                reserved: held.map(|reservation| reservation.amount).sum(),
            }
        })
    }

    fn insert(&mut self, id: Uuid, reservation: LocalReservation) {
        for line in &reservation.lines {
            self.line(line).reserved += reservation.amount;
        }
        self.by_expiry.insert((reservation.expires, id));
        self.reservations.insert(id, reservation);
    }

    fn remove(&mut self, id: Uuid) -> Option<LocalReservation> {
        let reservation = self.reservations.remove(&id)?;
        self.by_expiry.remove(&(reservation.expires, id));
        for line in &reservation.lines {
            if let Some(state) = self.lines.get_mut(line) {
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
        // A clock that steps back finds the earlier period as it was left.
        assert!(
            budgets
                .reserve(id(3), &budget, usd(11), NOW, later(999_999))
                .is_err()
        );
        assert_eq!(
            budgets.state(&budget[0].0, Period::Day, NOW),
            (usd(90), usd(0))
        );
    }

    #[test]
    fn a_clock_that_was_wrong_gives_no_budget_back() {
        let budget = [key("a", 100, Period::Day)];
        let line = |now| BudgetLine::new(&budget[0].0, &budget[0].1, now);
        let (past, future) = (later(-40 * 86_400), later(40 * 86_400));
        for wrong in [past, future] {
            let mut budgets = LocalBudgets::default();
            budgets.restore(&line(wrong), usd(0));
            budgets
                .reserve(id(1), &budget, usd(40), wrong, later(99 * 86_400))
                .unwrap();
            budgets.settle(id(1), &budget, wrong, usd(40));
            // It is set right: the period that begins is read from the ledger, and 70 were spent.
            budgets.forget(&line(wrong));
            budgets.restore(&line(NOW), usd(70));
            let mut reserve = |id, cents| budgets.reserve(id, &budget, usd(cents), NOW, later(60));
            assert!(reserve(id(2), 31).is_err());
            if wrong < NOW {
                reserve(id(2), 30).unwrap();
            }
            budgets.settle(id(2), &budget, NOW, usd(30));
            let (spent, _) = budgets.state(&budget[0].0, Period::Day, NOW);
            assert!(spent >= usd(100), "{spent}");
        }
    }

    #[test]
    fn restored_spending_counts() {
        let mut budgets = LocalBudgets::default();
        let budget = [key("a", 100, Period::Month)];
        let line = BudgetLine::new(&budget[0].0, &budget[0].1, NOW);
        budgets.restore(&line, usd(99));
        assert!(
            budgets
                .reserve(id(1), &budget, usd(2), NOW, later(1))
                .is_err()
        );
        // Spending settled here stays when that of other processes is restored again.
        budgets.settle(id(1), &budget, NOW, usd(1));
        for others in [10, 20] {
            budgets.restore(&line, usd(others));
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
