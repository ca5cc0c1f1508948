//! State of one replica about the budgets that it shares with others: its own spending, its
//! reservations, the totals as last received, and the share it may spend while the budget store is
//! unavailable. It must not do I/O nor lock: the caller does.
//!
//! The spending of a run is a total that only grows and is always reported as a whole. The budget
//! store and the ledger both have such a total of an earlier moment, so the larger of the two is
//! right whatever was lost, repeated or reordered on the way.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::{Decimal, RoundingStrategy};
use uuid::Uuid;

use super::shared::{
    BudgetLine, LineStatus, LineTotals, Reservation, ReservationChange, ReservationLine,
    RunSpending, SpendUpdate, SpendUpdateLine,
};
use super::{Account, Budget, BudgetExceeded, Period};
use crate::ledger;

/// Fraction digits of amounts: a price has nine and is for a million tokens.
pub const FRACTION_DIGITS: u32 = 15;

/// State of a replica.
#[derive(Debug)]
pub struct ReplicaBudgets {
    run: u32,
    /// Spending of this run, by account and day.
    spent: HashMap<Account, BTreeMap<Date, Decimal>>,
    lines: HashMap<BudgetLine, ReplicaLine>,
    holds: HashMap<Uuid, ReplicaReservation>,
    /// Lines whose spending by this run the budget store may not know.
    unreported: HashSet<BudgetLine>,
}

#[derive(Debug)]
struct ReplicaLine {
    /// Totals as last received.
    figures: LineTotals,
    /// This run's spending that the totals include.
    reported: Decimal,
    /// Share that may be spent while the store is unavailable.
    share: Option<OfflineShare>,
    used_at: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct OfflineShare {
    ceiling: Decimal,
    used: Decimal,
}

#[derive(Clone, Debug)]
struct ReplicaReservation {
    amount: Decimal,
    expires: Timestamp,
    lines: Vec<BudgetLine>,
    /// True if the store may have it.
    sent: bool,
    /// True if the store has it.
    confirmed: bool,
    /// True if the call may be made. Until then it uses nothing of the budget.
    granted: bool,
    /// True if the call has ended and the end must still be reported.
    ended: bool,
}

impl ReplicaBudgets {
    /// Creates an empty state. `run` identifies this run of the process.
    #[must_use]
    pub fn new(run: u32) -> Self {
        Self {
            run,
            spent: HashMap::new(),
            lines: HashMap::new(),
            holds: HashMap::new(),
            unreported: HashSet::new(),
        }
    }

    /// Returns the run.
    #[must_use]
    pub const fn run(&self) -> u32 {
        self.run
    }

    /// Returns the number of reservations that are open or must still be reported.
    #[must_use]
    pub fn reservations(&self) -> usize {
        self.holds.len()
    }

    /// Returns true if the totals of a line were received.
    #[must_use]
    pub fn has_totals(&self, line: &BudgetLine) -> bool {
        self.lines.contains_key(line)
    }

    /// Records a reservation of `amount` as sent and returns the request to send.
    pub fn begin_reservation(
        &mut self,
        id: Uuid,
        instead: Option<Uuid>,
        budgets: &[(Account, Budget)],
        amount: Decimal,
        now: Timestamp,
        lasts: Duration,
    ) -> Reservation {
        let amount = round_up(amount);
        self.insert_reservation(id, budgets, amount, now, lasts, false);
        let line = |(account, budget): &(Account, Budget)| {
            let line = BudgetLine::new(account, budget, now);
            ReservationLine {
                name: line.name(),
                ceiling: budget.usd,
                spent: self.spending_of(&line),
            }
        };
        Reservation {
            run: self.run,
            id,
            replaces: instead,
            amount,
            lasts,
            lines: budgets.iter().map(line).collect(),
        }
    }

    /// Records a reservation of `amount` without the store's answer. It is reported when the store
    /// is available again.
    pub fn reserve_offline(
        &mut self,
        id: Uuid,
        budgets: &[(Account, Budget)],
        amount: Decimal,
        now: Timestamp,
        lasts: Duration,
    ) {
        self.insert_reservation(id, budgets, amount, now, lasts, true);
    }

    fn insert_reservation(
        &mut self,
        id: Uuid,
        budgets: &[(Account, Budget)],
        amount: Decimal,
        now: Timestamp,
        lasts: Duration,
        granted: bool,
    ) {
        let lines = budget_lines(budgets, now);
        let expires = now.checked_add(lasts).unwrap_or(Timestamp::MAX);
        // The store may have what was sent to it, whether or not it answered.
        let sent = !granted || self.holds.get(&id).is_some_and(|hold| hold.sent);
        let hold = ReplicaReservation {
            amount: round_up(amount),
            expires,
            lines,
            sent,
            confirmed: false,
            granted,
            ended: false,
        };
        self.holds.insert(id, hold);
    }

    /// Records that the store accepted a reservation.
    pub fn confirm_reservation(
        &mut self,
        reservation: &Reservation,
        budgets: &[(Account, Budget)],
        figures: &[LineTotals],
        now: Timestamp,
    ) {
        self.apply_totals(reservation, budgets, figures, now);
        if let Some(hold) = self.holds.get_mut(&reservation.id) {
            hold.confirmed = true;
            hold.granted = true;
        }
    }

    /// Records that the store refused a reservation and returns the error.
    pub fn reject_reservation(
        &mut self,
        reservation: &Reservation,
        budgets: &[(Account, Budget)],
        position: usize,
        figures: &[LineTotals],
        now: Timestamp,
    ) -> Option<BudgetExceeded> {
        self.apply_totals(reservation, budgets, figures, now);
        self.holds.remove(&reservation.id);
        let (account, budget) = budgets.get(position)?;
        Some(budget_exceeded(
            account,
            budget,
            reservation.amount,
            *figures.get(position)?,
            now,
        ))
    }

    fn apply_totals(
        &mut self,
        reservation: &Reservation,
        budgets: &[(Account, Budget)],
        figures: &[LineTotals],
        now: Timestamp,
    ) {
        if let Some(instead) = reservation.replaces {
            self.holds.remove(&instead);
        }
        let told = reservation.lines.iter().map(|line| line.spent);
        for ((line, figures), said) in budget_lines(budgets, now)
            .into_iter()
            .zip(figures)
            .zip(told)
        {
            self.record_totals(&line, *figures, said, now);
            if let Some(state) = self.lines.get_mut(&line) {
                state.used_at = now;
            }
        }
    }

    fn record_totals(
        &mut self,
        line: &BudgetLine,
        figures: LineTotals,
        said: Decimal,
        now: Timestamp,
    ) {
        let state = self
            .lines
            .entry(line.clone())
            .or_insert_with(|| ReplicaLine::new(now));
        state.figures = figures;
        state.reported = said;
        self.mark_reported(line, said);
    }

    /// Records that the store knows this much of the run's spending on a line.
    fn mark_reported(&mut self, line: &BudgetLine, said: Decimal) {
        if self.spending_of(line) <= said {
            self.unreported.remove(line);
        }
    }

    /// Records the ledger's totals of a line while the store is unavailable.
    pub fn record_stored(&mut self, line: &BudgetLine, stored: &[RunSpending], now: Timestamp) {
        let own = self.spending_of(line);
        let others = stored.iter().filter(|(run, _)| *run != self.run);
        let figures = LineTotals {
            spent: others.map(|(_, usd)| *usd).sum::<Decimal>() + own,
            reserved: Decimal::ZERO,
        };
        self.record_totals(line, figures, own, now);
        self.unreported.insert(line.clone());
    }

    /// Charges `amount` to this replica's share: one `replicas`th of what was left of each line
    /// when its totals were last received.
    ///
    /// # Errors
    /// Returns an error, and charges nothing, if the amount doesn't fit.
    pub fn charge_share(
        &mut self,
        id: Uuid,
        budgets: &[(Account, Budget)],
        amount: Decimal,
        replicas: u32,
        now: Timestamp,
    ) -> Result<(), BudgetExceeded> {
        let amount = round_up(amount);
        for (account, budget) in budgets {
            let line = BudgetLine::new(account, budget, now);
            let share = self.share(&line, budget, id, replicas, now);
            if share.used + amount > share.ceiling {
                let figures = self.estimate_totals(&line, id);
                return Err(budget_exceeded(account, budget, amount, figures, now));
            }
        }
        self.add_to_shares(&budget_lines(budgets, now), amount);
        Ok(())
    }

    fn share(
        &mut self,
        line: &BudgetLine,
        budget: &Budget,
        id: Uuid,
        replicas: u32,
        now: Timestamp,
    ) -> OfflineShare {
        let known = self.lines.get(line).and_then(|state| state.share);
        known.unwrap_or_else(|| {
            let figures = self.estimate_totals(line, id);
            let share = OfflineShare {
                ceiling: share_of(budget.usd - figures.spent - figures.reserved, replicas),
                used: Decimal::ZERO,
            };
            let state = self.lines.entry(line.clone());
            state.or_insert_with(|| ReplicaLine::new(now)).share = Some(share);
            share
        })
    }

    /// Takes back a charge to the shares: the call isn't made.
    pub fn refund_share(&mut self, budgets: &[(Account, Budget)], amount: Decimal, now: Timestamp) {
        self.add_to_shares(&budget_lines(budgets, now), -round_up(amount));
    }

    /// Drops the shares: the store is available again and knows every replica's spending.
    pub fn drop_shares(&mut self, budgets: &[(Account, Budget)], now: Timestamp) {
        for line in budget_lines(budgets, now) {
            if let Some(state) = self.lines.get_mut(&line) {
                state.share = None;
            }
        }
    }

    fn add_to_shares(&mut self, lines: &[BudgetLine], amount: Decimal) {
        for line in lines {
            if let Some(share) = self
                .lines
                .get_mut(line)
                .and_then(|state| state.share.as_mut())
            {
                share.used += amount;
            }
        }
    }

    /// Returns a line's totals as last received plus this replica's own changes since, without the
    /// reservation `except`.
    fn estimate_totals(&self, line: &BudgetLine, except: Uuid) -> LineTotals {
        let state = self.lines.get(line);
        let mut figures = state.map_or_else(LineTotals::default, |state| state.figures);
        let said = state.map_or(Decimal::ZERO, |state| state.reported);
        figures.spent += (self.spending_of(line) - said).max(Decimal::ZERO);
        let untold = self.holds.iter().filter(|(id, hold)| {
            **id != except
                && hold.granted
                && !hold.confirmed
                && !hold.ended
                && hold.lines.contains(line)
        });
        figures.reserved += untold.map(|(_, hold)| hold.amount).sum::<Decimal>();
        figures
    }

    /// Ends the reservation of a call that has ended or isn't made. Returns true if the store must
    /// be notified.
    pub fn end(&mut self, id: Uuid, cost: Decimal) -> bool {
        let Some(hold) = self.holds.get_mut(&id) else {
            return false;
        };
        if hold.ended {
            return true;
        }
        hold.ended = true;
        let (lines, change, sent) = (hold.lines.clone(), cost - hold.amount, hold.sent);
        if hold.granted {
            self.add_to_shares(&lines, change);
        }
        if !sent {
            self.holds.remove(&id);
        }
        sent
    }

    /// Adds spending at a point in time.
    pub fn spend(&mut self, account: &Account, at: Timestamp, cost: Decimal) {
        if cost.is_zero() {
            return;
        }
        let days = self.spent.entry(account.clone()).or_default();
        *days.entry(ledger::day(at)).or_default() += cost;
        for period in Period::ALL {
            let line = BudgetLine {
                account: account.clone(),
                period,
                start: period.start(at),
            };
            if self.lines.contains_key(&line) {
                self.unreported.insert(line);
            }
        }
    }

    /// Returns this run's spending on a line.
    #[must_use]
    pub fn spending_of(&self, line: &BudgetLine) -> Decimal {
        let Some(days) = self.spent.get(&line.account) else {
            return Decimal::ZERO;
        };
        let from = line.start.unwrap_or(Date::MIN);
        days.range(from..).map(|(_, usd)| *usd).sum()
    }

    /// Returns the update about a reservation and its lines; none if the store has it.
    pub fn update_for_reservation(
        &mut self,
        id: Uuid,
        now: Timestamp,
    ) -> Option<(SpendUpdate, Vec<BudgetLine>)> {
        let hold = self.holds.get_mut(&id)?;
        let change = if hold.ended {
            ReservationChange::Release(id)
        } else if hold.confirmed {
            return None;
        } else {
            // From now on the store may have it, even if the message gets lost.
            hold.sent = true;
            ReservationChange::Hold {
                id,
                amount: hold.amount,
                lasts: remaining_time(hold.expires, now),
            }
        };
        let lines = hold.lines.clone();
        Some((self.update_for_lines(change, &lines), lines))
    }

    /// Returns an update about lines and, if any, the change of a reservation.
    #[must_use]
    pub fn update_for_lines(&self, change: ReservationChange, lines: &[BudgetLine]) -> SpendUpdate {
        let line = |line: &BudgetLine| SpendUpdateLine {
            name: line.name(),
            spent: vec![(self.run, self.spending_of(line))],
            complete: false,
        };
        SpendUpdate {
            change,
            lines: lines.iter().map(line).collect(),
        }
    }

    /// Applies the store's response to an update. Returns a reservation that must be reported
    /// again because it has ended in the meantime.
    pub fn apply_response(
        &mut self,
        update: &SpendUpdate,
        lines: &[BudgetLine],
        statuses: &[LineStatus],
        now: Timestamp,
    ) -> Option<Uuid> {
        for ((line, told), status) in lines.iter().zip(&update.lines).zip(statuses) {
            let own = told.spent.iter().find(|(run, _)| *run == self.run);
            let said = own.map_or(Decimal::ZERO, |(_, said)| *said);
            if status.known {
                self.record_totals(line, status.figures, said, now);
            } else {
                self.mark_reported(line, said);
            }
        }
        match update.change {
            ReservationChange::None => None,
            ReservationChange::Release(id) => {
                self.holds.remove(&id);
                None
            }
            ReservationChange::Hold { id, amount, .. } => match self.holds.get_mut(&id) {
                Some(hold) if !hold.ended => {
                    hold.confirmed = true;
                    None
                }
                Some(_) => Some(id),
                None => {
                    // Its end was reported before this: it must be reported again.
                    let hold = ReplicaReservation {
                        amount,
                        expires: now,
                        lines: lines.to_vec(),
                        sent: true,
                        confirmed: true,
                        granted: true,
                        ended: true,
                    };
                    self.holds.insert(id, hold);
                    Some(id)
                }
            },
        }
    }

    /// Marks everything as unreported: the store may have missed or lost it.
    pub fn mark_all_unreported(&mut self) {
        for hold in self.holds.values_mut() {
            hold.confirmed = false;
        }
        self.unreported.extend(self.lines.keys().cloned());
    }

    /// Returns the reservations that must still be reported. Expired ones count as ended, since
    /// nobody is left to end them.
    pub fn reservations_to_report(&mut self, now: Timestamp) -> Vec<Uuid> {
        for hold in self.holds.values_mut() {
            hold.ended |= hold.expires < now;
        }
        self.holds.retain(|_, hold| hold.sent || !hold.ended);
        let open = self
            .holds
            .iter()
            .filter(|(_, hold)| hold.ended || hold.granted && !hold.confirmed);
        open.map(|(id, _)| *id).collect()
    }

    /// Returns the unreported lines and at most `most` lines used since `since`, whose totals are
    /// worth refreshing.
    #[must_use]
    pub fn lines_to_report(&self, since: Timestamp, most: usize) -> Vec<BudgetLine> {
        let used = self
            .lines
            .iter()
            .filter(|(line, state)| state.used_at >= since && !self.unreported.contains(*line));
        let unsaid = self.unreported.iter().cloned();
        unsaid
            .chain(used.map(|(line, _)| line.clone()).take(most))
            .collect()
    }

    /// Removes lines that were not used since `since` and are fully reported, and returns them.
    pub fn forget_idle(&mut self, since: Timestamp) -> Vec<BudgetLine> {
        let held: HashSet<&BudgetLine> = self.holds.values().flat_map(|hold| &hold.lines).collect();
        let idle = self.lines.iter().filter(|(line, state)| {
            state.used_at < since && !held.contains(*line) && !self.unreported.contains(*line)
        });
        let idle: Vec<BudgetLine> = idle.map(|(line, _)| line.clone()).collect();
        for line in &idle {
            self.lines.remove(line);
        }
        idle
    }
}

impl ReplicaLine {
    fn new(now: Timestamp) -> Self {
        Self {
            figures: LineTotals::default(),
            reported: Decimal::ZERO,
            share: None,
            used_at: now,
        }
    }
}

/// Returns the lines of budgets at a point in time.
#[must_use]
pub fn budget_lines(budgets: &[(Account, Budget)], now: Timestamp) -> Vec<BudgetLine> {
    let line = |(account, budget): &(Account, Budget)| BudgetLine::new(account, budget, now);
    budgets.iter().map(line).collect()
}

fn budget_exceeded(
    account: &Account,
    budget: &Budget,
    amount: Decimal,
    figures: LineTotals,
    now: Timestamp,
) -> BudgetExceeded {
    BudgetExceeded {
        account: account.clone(),
        amount,
        usd: budget.usd,
        spent: figures.spent.normalize(),
        reserved: figures.reserved.normalize(),
        resets: budget.period.next_start(now),
    }
}

/// Rounds an amount up to the precision of the budget store.
#[must_use]
pub fn round_up(usd: Decimal) -> Decimal {
    usd.round_dp_with_strategy(FRACTION_DIGITS, RoundingStrategy::ToPositiveInfinity)
}

/// Returns a replica's part of what is left, rounded down so that the parts never exceed it.
fn share_of(left: Decimal, replicas: u32) -> Decimal {
    let part = left.max(Decimal::ZERO) / Decimal::from(replicas.max(1));
    part.round_dp_with_strategy(FRACTION_DIGITS, RoundingStrategy::ToZero)
}

fn remaining_time(expires: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(expires.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::super::shared::ReserveOutcome;
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;
    const LONG: Duration = Duration::from_secs(1_000);

    fn usd(cents: i64) -> Decimal {
        Decimal::new(cents, 2)
    }

    fn budget(cents: i64) -> [(Account, Budget); 1] {
        let ceiling = Budget {
            usd: usd(cents),
            period: Period::Total,
        };
        [(Account::Key("a".into()), ceiling)]
    }

    /// Model of a budget store with one line.
    #[derive(Default)]
    struct StoreModel {
        known: bool,
        runs: HashMap<u32, Decimal>,
        holds: HashMap<Uuid, Decimal>,
    }

    impl StoreModel {
        fn figures(&self) -> LineTotals {
            LineTotals {
                spent: self.runs.values().sum(),
                reserved: self.holds.values().sum(),
            }
        }

        fn note(&mut self, run: u32, spent: Decimal) {
            let known = self.runs.entry(run).or_default();
            *known = spent.max(*known);
        }

        fn reservation(&mut self, reservation: &Reservation) -> ReserveOutcome {
            if !self.known {
                return ReserveOutcome::Unknown;
            }
            self.holds.remove(&reservation.id);
            self.note(reservation.run, reservation.lines[0].spent);
            let figures = self.figures();
            if figures.spent + figures.reserved + reservation.amount > reservation.lines[0].ceiling
            {
                return ReserveOutcome::Exceeded {
                    position: 0,
                    figures: vec![figures],
                };
            }
            self.holds.insert(reservation.id, reservation.amount);
            ReserveOutcome::Held(vec![self.figures()])
        }

        fn tell(&mut self, update: &SpendUpdate) -> Vec<LineStatus> {
            match update.change {
                ReservationChange::None => {}
                ReservationChange::Release(id) => drop(self.holds.remove(&id)),
                ReservationChange::Hold { id, amount, .. } => drop(self.holds.insert(id, amount)),
            }
            for line in &update.lines {
                self.known |= line.complete;
                for (run, spent) in &line.spent {
                    self.note(*run, *spent);
                }
            }
            let figures = self.figures();
            let known = self.known;
            vec![LineStatus { known, figures }; update.lines.len()]
        }
    }

    fn tell(replica: &mut ReplicaBudgets, store: &mut StoreModel) {
        let line = BudgetLine::new(&budget(0)[0].0, &budget(0)[0].1, NOW);
        for id in replica.reservations_to_report(NOW) {
            if let Some((update, lines)) = replica.update_for_reservation(id, NOW) {
                let statuses = store.tell(&update);
                assert_eq!(
                    replica.apply_response(&update, &lines, &statuses, NOW),
                    None
                );
            }
        }
        let lines = [line];
        let mut update = replica.update_for_lines(ReservationChange::None, &lines);
        update.lines[0].complete = true;
        let statuses = store.tell(&update);
        replica.apply_response(&update, &lines, &statuses, NOW);
    }

    #[test]
    fn alone_a_replica_spends_its_part_of_what_was_left() {
        let mut replica = ReplicaBudgets::new(1);
        let budget = budget(1_000);
        let line = BudgetLine::new(&budget[0].0, &budget[0].1, NOW);
        // Others have spent 4 USD by the store.
        replica.record_stored(&line, &[(7, usd(300)), (8, usd(100))], NOW);
        let id = Uuid::from_u128;
        let take = |replica: &mut ReplicaBudgets, n: u128, cents: i64| {
            let charged = replica.charge_share(id(n), &budget, usd(cents), 3, NOW);
            if charged.is_ok() {
                replica.reserve_offline(id(n), &budget, usd(cents), NOW, LONG);
            }
            charged.is_ok()
        };
        assert!(take(&mut replica, 1, 150));
        assert!(!take(&mut replica, 2, 51), "2 USD are its part");
        assert!(take(&mut replica, 3, 50));
        // Money that a call didn't use is free again, without a report.
        assert!(!replica.end(id(1), usd(20)));
        replica.spend(&budget[0].0, NOW, usd(20));
        assert!(take(&mut replica, 4, 130));
        assert!(!take(&mut replica, 5, 1));
    }

    #[test]
    fn an_end_that_overtakes_its_beginning_is_told_again() {
        let (mut replica, mut store) = (ReplicaBudgets::new(1), StoreModel::default());
        let budget = budget(100);
        let id = Uuid::from_u128(1);
        replica.reserve_offline(id, &budget, usd(10), NOW, LONG);
        let (begun, lines) = replica.update_for_reservation(id, NOW).unwrap();
        assert!(replica.end(id, usd(5)), "it may be there");
        let (ended, _) = replica.update_for_reservation(id, NOW).unwrap();
        let statuses = store.tell(&ended);
        assert_eq!(replica.apply_response(&ended, &lines, &statuses, NOW), None);
        assert_eq!(replica.reservations(), 0);
        let statuses = store.tell(&begun);
        assert_eq!(
            replica.apply_response(&begun, &lines, &statuses, NOW),
            Some(id)
        );
        let (again, _) = replica.update_for_reservation(id, NOW).unwrap();
        let statuses = store.tell(&again);
        replica.apply_response(&again, &lines, &statuses, NOW);
        assert_eq!((store.holds.len(), replica.reservations()), (0, 0));
    }

    #[test]
    fn a_period_has_its_own_days_and_an_owner_its_own_account() {
        let mut replica = ReplicaBudgets::new(1);
        let (key, owner) = (Account::Key("a".into()), Account::Owner("a".into()));
        let later = NOW
            .checked_add(SignedDuration::from_hours(24 * 40))
            .unwrap();
        replica.spend(&key, NOW, usd(5));
        replica.spend(&key, later, usd(7));
        let ceiling = |period| Budget {
            usd: usd(1),
            period,
        };
        for (period, spent) in [(Period::Day, 7), (Period::Month, 7), (Period::Total, 12)] {
            let line = BudgetLine::new(&key, &ceiling(period), later);
            assert_eq!(replica.spending_of(&line), usd(spent), "{period:?}");
            let line = BudgetLine::new(&owner, &ceiling(period), later);
            assert_eq!(replica.spending_of(&line), Decimal::ZERO);
        }
    }

    #[derive(Clone, Debug)]
    enum ReplicaStep {
        /// A replica requests an amount. The flags: the request arrives, the answer arrives.
        Ask(usize, i64, bool, bool),
        /// It ends its oldest call, which cost a part of what was reserved.
        End(usize, i64),
        /// It reports everything.
        Tell(usize),
        /// The store loses its data.
        Forget,
    }

    fn step() -> impl Strategy<Value = ReplicaStep> {
        prop_oneof![
            6 => (0..3_usize, 1..60_i64, any::<bool>(), any::<bool>())
                .prop_map(|(who, cents, got, told)| ReplicaStep::Ask(who, cents, got, told)),
            4 => (0..3_usize, 0..=100_i64).prop_map(|(who, part)| ReplicaStep::End(who, part)),
            1 => (0..3_usize).prop_map(ReplicaStep::Tell),
            1 => Just(ReplicaStep::Forget),
        ]
    }

    proptest! {
        /// Counts every cent once and holds nothing at the end, whatever gets lost on the way.
        #[test]
        fn every_cent_is_told_once(steps in prop::collection::vec(step(), 1..80)) {
            let budget = budget(300);
            let mut store = StoreModel::default();
            let mut replicas: Vec<ReplicaBudgets> = (0..3).map(ReplicaBudgets::new).collect();
            let mut calls: Vec<Vec<(Uuid, i64)>> = vec![Vec::new(); 3];
            let mut spent = 0;
            for (number, step) in (1_u128..).zip(steps) {
                match step {
                    ReplicaStep::Ask(who, cents, got, told) => {
                        let (replica, id) = (&mut replicas[who], Uuid::from_u128(number));
                        let reservation = replica.begin_reservation(id, None, &budget, usd(cents), NOW, LONG);
                        let answer = got.then(|| store.reservation(&reservation)).filter(|_| told);
                        let held = match answer {
                            Some(ReserveOutcome::Held(figures)) => {
                                replica.confirm_reservation(&reservation, &budget, &figures, NOW);
                                true
                            }
                            Some(ReserveOutcome::Exceeded { figures, .. }) => {
                                let why = replica.reject_reservation(&reservation, &budget, 0, &figures, NOW);
                                prop_assert!(why.is_some());
                                false
                            }
                            Some(ReserveOutcome::Unknown | ReserveOutcome::Forgotten) | None => {
                                replica.reserve_offline(id, &budget, usd(cents), NOW, LONG);
                                true
                            }
                        };
                        if held {
                            calls[who].push((id, cents));
                        }
                    }
                    ReplicaStep::End(who, part) if !calls[who].is_empty() => {
                        let (id, cents) = calls[who].remove(0);
                        let cost = cents * part / 100;
                        replicas[who].spend(&budget[0].0, NOW, usd(cost));
                        replicas[who].end(id, usd(cost));
                        spent += cost;
                    }
                    ReplicaStep::End(..) => {}
                    ReplicaStep::Tell(who) => tell(&mut replicas[who], &mut store),
                    ReplicaStep::Forget => {
                        store = StoreModel::default();
                        for replica in &mut replicas {
                            replica.mark_all_unreported();
                        }
                    }
                }
            }
            for (replica, calls) in replicas.iter_mut().zip(calls) {
                for (id, _) in calls {
                    replica.end(id, Decimal::ZERO);
                }
                tell(replica, &mut store);
                prop_assert_eq!(replica.reservations(), 0);
            }
            let figures = store.figures();
            prop_assert_eq!((figures.spent, figures.reserved), (usd(spent), Decimal::ZERO));
        }
    }
}
