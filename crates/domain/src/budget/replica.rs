//! What one replica knows of the budgets that it shares with others: what it has spent itself, what
//! it holds, how the lines stood when it last heard, and what it may spend of them by itself while
//! it can't ask. Talking to the shared book, and locking this, are the caller's.
//!
//! What a run has spent is a number that only grows, told whole each time. What the shared book has
//! of a run and what the store has of it are both such numbers of an earlier moment, so the larger
//! of the two is right whatever was lost, repeated or overtaken on the way.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::Date;
use rust_decimal::{Decimal, RoundingStrategy};
use uuid::Uuid;

use super::shared::{Change, Claim, ClaimLine, Figures, Line, News, NewsLine, Spent, Standing};
use super::{Account, Budget, Exceeded, Period};
use crate::ledger;

/// Digits after the point that amounts are kept with: a price has nine, and is for a million.
pub const DIGITS: u32 = 15;

/// What a replica knows.
#[derive(Debug)]
pub struct Replica {
    run: u32,
    /// What this run has spent, by account and day.
    spent: HashMap<Account, BTreeMap<Date, Decimal>>,
    lines: HashMap<Line, State>,
    holds: HashMap<Uuid, Hold>,
    /// Lines of which the shared book may not know what this run has spent.
    unsaid: HashSet<Line>,
}

#[derive(Debug)]
struct State {
    /// As last heard.
    figures: Figures,
    /// What of this run's spending is in them.
    said: Decimal,
    /// What may be spent without asking, while that is so.
    share: Option<Share>,
    used_at: Timestamp,
}

#[derive(Clone, Copy, Debug)]
struct Share {
    ceiling: Decimal,
    used: Decimal,
}

#[derive(Clone, Debug)]
struct Hold {
    amount: Decimal,
    expires: Timestamp,
    lines: Vec<Line>,
    /// Whether the shared book may have it.
    sent: bool,
    /// Whether it surely has it.
    held: bool,
    /// Whether the call may be made; until then it uses nothing of what is left.
    granted: bool,
    /// Whether the call has ended, and the book is still to be told.
    ended: bool,
}

impl Replica {
    /// Knows nothing yet. `run` tells this run of the process from all others.
    #[must_use]
    pub fn new(run: u32) -> Self {
        Self {
            run,
            spent: HashMap::new(),
            lines: HashMap::new(),
            holds: HashMap::new(),
            unsaid: HashSet::new(),
        }
    }

    /// The run.
    #[must_use]
    pub const fn run(&self) -> u32 {
        self.run
    }

    /// How many reservations stand or are still to be told of.
    #[must_use]
    pub fn reservations(&self) -> usize {
        self.holds.len()
    }

    /// Whether it was heard how a line stands.
    #[must_use]
    pub fn knows(&self, line: &Line) -> bool {
        self.lines.contains_key(line)
    }

    /// Begins to hold `amount`, and words the question whether that is all right.
    pub fn claim(
        &mut self,
        id: Uuid,
        instead: Option<Uuid>,
        budgets: &[(Account, Budget)],
        amount: Decimal,
        now: Timestamp,
        lasts: Duration,
    ) -> Claim {
        let amount = rounded_up(amount);
        self.put(id, budgets, amount, now, lasts, false);
        let line = |(account, budget): &(Account, Budget)| {
            let line = Line::at(account, budget, now);
            ClaimLine {
                name: line.name(),
                ceiling: budget.usd,
                spent: self.spent_of(&line),
            }
        };
        Claim {
            run: self.run,
            id,
            instead,
            amount,
            lasts,
            lines: budgets.iter().map(line).collect(),
        }
    }

    /// Holds `amount` without having an answer. The book is told of it when it can be.
    pub fn hold(
        &mut self,
        id: Uuid,
        budgets: &[(Account, Budget)],
        amount: Decimal,
        now: Timestamp,
        lasts: Duration,
    ) {
        self.put(id, budgets, amount, now, lasts, true);
    }

    fn put(
        &mut self,
        id: Uuid,
        budgets: &[(Account, Budget)],
        amount: Decimal,
        now: Timestamp,
        lasts: Duration,
        granted: bool,
    ) {
        let lines = lines(budgets, now);
        let expires = now.checked_add(lasts).unwrap_or(Timestamp::MAX);
        // What was asked about may be in the book, whether or not it answered.
        let sent = !granted || self.holds.get(&id).is_some_and(|hold| hold.sent);
        let hold = Hold {
            amount: rounded_up(amount),
            expires,
            lines,
            sent,
            held: false,
            granted,
            ended: false,
        };
        self.holds.insert(id, hold);
    }

    /// The book took a claim.
    pub fn held(
        &mut self,
        claim: &Claim,
        budgets: &[(Account, Budget)],
        figures: &[Figures],
        now: Timestamp,
    ) {
        self.answered(claim, budgets, figures, now);
        if let Some(hold) = self.holds.get_mut(&claim.id) {
            hold.held = true;
            hold.granted = true;
        }
    }

    /// The book refused a claim: why.
    pub fn exceeded(
        &mut self,
        claim: &Claim,
        budgets: &[(Account, Budget)],
        position: usize,
        figures: &[Figures],
        now: Timestamp,
    ) -> Option<Exceeded> {
        self.answered(claim, budgets, figures, now);
        self.holds.remove(&claim.id);
        let (account, budget) = budgets.get(position)?;
        Some(exceeded(account, budget, *figures.get(position)?, now))
    }

    fn answered(
        &mut self,
        claim: &Claim,
        budgets: &[(Account, Budget)],
        figures: &[Figures],
        now: Timestamp,
    ) {
        if let Some(instead) = claim.instead {
            self.holds.remove(&instead);
        }
        let told = claim.lines.iter().map(|line| line.spent);
        for ((line, figures), said) in lines(budgets, now).into_iter().zip(figures).zip(told) {
            self.heard(&line, *figures, said, now);
            if let Some(state) = self.lines.get_mut(&line) {
                state.used_at = now;
            }
        }
    }

    fn heard(&mut self, line: &Line, figures: Figures, said: Decimal, now: Timestamp) {
        let state = self
            .lines
            .entry(line.clone())
            .or_insert_with(|| State::new(now));
        state.figures = figures;
        state.said = said;
        self.said(line, said);
    }

    /// The book knows that this run has spent so much of a line.
    fn said(&mut self, line: &Line, said: Decimal) {
        if self.spent_of(line) <= said {
            self.unsaid.remove(line);
        }
    }

    /// What the store knows of a line, where the book can't be asked.
    pub fn learn(&mut self, line: &Line, stored: &[Spent], now: Timestamp) {
        let own = self.spent_of(line);
        let others = stored.iter().filter(|(run, _)| *run != self.run);
        let figures = Figures {
            spent: others.map(|(_, usd)| *usd).sum::<Decimal>() + own,
            reserved: Decimal::ZERO,
        };
        self.heard(line, figures, own, now);
        self.unsaid.insert(line.clone());
    }

    /// Whether `amount` fits into what this replica may spend by itself: a `replicas`th of what was
    /// left of each line when it last heard. Charges that if it does.
    ///
    /// # Errors
    /// When it doesn't fit.
    pub fn charge_share(
        &mut self,
        id: Uuid,
        budgets: &[(Account, Budget)],
        amount: Decimal,
        replicas: u32,
        now: Timestamp,
    ) -> Result<(), Exceeded> {
        let amount = rounded_up(amount);
        for (account, budget) in budgets {
            let line = Line::at(account, budget, now);
            let share = self.share(&line, budget, id, replicas, now);
            if share.used + amount > share.ceiling {
                let figures = self.standing(&line, id);
                return Err(exceeded(account, budget, figures, now));
            }
        }
        self.add_to_shares(&lines(budgets, now), amount);
        Ok(())
    }

    fn share(
        &mut self,
        line: &Line,
        budget: &Budget,
        id: Uuid,
        replicas: u32,
        now: Timestamp,
    ) -> Share {
        let known = self.lines.get(line).and_then(|state| state.share);
        known.unwrap_or_else(|| {
            let figures = self.standing(line, id);
            let share = Share {
                ceiling: part(budget.usd - figures.spent - figures.reserved, replicas),
                used: Decimal::ZERO,
            };
            let state = self.lines.entry(line.clone());
            state.or_insert_with(|| State::new(now)).share = Some(share);
            share
        })
    }

    /// What was charged to the shares is free again: the call isn't made.
    pub fn refund_share(&mut self, budgets: &[(Account, Budget)], amount: Decimal, now: Timestamp) {
        self.add_to_shares(&lines(budgets, now), -rounded_up(amount));
    }

    /// The book can be asked again, and knows what every replica has spent.
    pub fn drop_shares(&mut self, budgets: &[(Account, Budget)], now: Timestamp) {
        for line in lines(budgets, now) {
            if let Some(state) = self.lines.get_mut(&line) {
                state.share = None;
            }
        }
    }

    fn add_to_shares(&mut self, lines: &[Line], amount: Decimal) {
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

    /// How a line stands by what was heard and what was done here since, but for one reservation.
    fn standing(&self, line: &Line, except: Uuid) -> Figures {
        let state = self.lines.get(line);
        let mut figures = state.map_or_else(Figures::default, |state| state.figures);
        let said = state.map_or(Decimal::ZERO, |state| state.said);
        figures.spent += (self.spent_of(line) - said).max(Decimal::ZERO);
        let untold = self.holds.iter().filter(|(id, hold)| {
            **id != except && hold.granted && !hold.held && !hold.ended && hold.lines.contains(line)
        });
        figures.reserved += untold.map(|(_, hold)| hold.amount).sum::<Decimal>();
        figures
    }

    /// A call has ended, or isn't made. Whether the book is to be told.
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

    /// Counts what was spent at a moment.
    pub fn spend(&mut self, account: &Account, at: Timestamp, cost: Decimal) {
        if cost.is_zero() {
            return;
        }
        let days = self.spent.entry(account.clone()).or_default();
        *days.entry(ledger::day(at)).or_default() += cost;
        for period in Period::ALL {
            let line = Line {
                account: account.clone(),
                period,
                start: period.start(at),
            };
            if self.lines.contains_key(&line) {
                self.unsaid.insert(line);
            }
        }
    }

    /// What this run has spent of a line.
    #[must_use]
    pub fn spent_of(&self, line: &Line) -> Decimal {
        let Some(days) = self.spent.get(&line.account) else {
            return Decimal::ZERO;
        };
        let from = line.start.unwrap_or(Date::MIN);
        days.range(from..).map(|(_, usd)| *usd).sum()
    }

    /// What the book is to be told of a reservation; nothing if it knows.
    pub fn news_of(&mut self, id: Uuid, now: Timestamp) -> Option<(News, Vec<Line>)> {
        let hold = self.holds.get_mut(&id)?;
        let change = if hold.ended {
            Change::Release(id)
        } else if hold.held {
            return None;
        } else {
            // From now on it may be there, whatever becomes of the message.
            hold.sent = true;
            Change::Hold {
                id,
                amount: hold.amount,
                lasts: left(hold.expires, now),
            }
        };
        let lines = hold.lines.clone();
        Some((self.news(change, &lines), lines))
    }

    /// The news of lines alone.
    #[must_use]
    pub fn news(&self, change: Change, lines: &[Line]) -> News {
        let line = |line: &Line| NewsLine {
            name: line.name(),
            spent: vec![(self.run, self.spent_of(line))],
            whole: false,
        };
        News {
            change,
            lines: lines.iter().map(line).collect(),
        }
    }

    /// The book was told, and said how the lines stand. What it is to be told because of what
    /// happened meanwhile.
    pub fn told(
        &mut self,
        news: &News,
        lines: &[Line],
        standings: &[Standing],
        now: Timestamp,
    ) -> Option<Uuid> {
        for ((line, told), standing) in lines.iter().zip(&news.lines).zip(standings) {
            let own = told.spent.iter().find(|(run, _)| *run == self.run);
            let said = own.map_or(Decimal::ZERO, |(_, said)| *said);
            if standing.known {
                self.heard(line, standing.figures, said, now);
            } else {
                self.said(line, said);
            }
        }
        match news.change {
            Change::None => None,
            Change::Release(id) => {
                self.holds.remove(&id);
                None
            }
            Change::Hold { id, amount, .. } => match self.holds.get_mut(&id) {
                Some(hold) if !hold.ended => {
                    hold.held = true;
                    None
                }
                Some(_) => Some(id),
                None => {
                    // Its end was told before this: it must be told again.
                    let hold = Hold {
                        amount,
                        expires: now,
                        lines: lines.to_vec(),
                        sent: true,
                        held: true,
                        granted: true,
                        ended: true,
                    };
                    self.holds.insert(id, hold);
                    Some(id)
                }
            },
        }
    }

    /// The book may have forgotten or missed what this replica told.
    pub fn lapsed(&mut self) {
        for hold in self.holds.values_mut() {
            hold.held = false;
        }
        self.unsaid.extend(self.lines.keys().cloned());
    }

    /// The reservations that the book is still to be told of. Those that are long past count as
    /// ended: whoever should have said so is gone.
    pub fn open_news(&mut self, now: Timestamp) -> Vec<Uuid> {
        for hold in self.holds.values_mut() {
            hold.ended |= hold.expires < now;
        }
        self.holds.retain(|_, hold| hold.sent || !hold.ended);
        let open = self
            .holds
            .iter()
            .filter(|(_, hold)| hold.ended || hold.granted && !hold.held);
        open.map(|(id, _)| *id).collect()
    }

    /// The lines whose spending the book may not know of, and those used since `since`: how these
    /// stand is worth asking. At most `most`.
    #[must_use]
    pub fn lines_to_tell(&self, since: Timestamp, most: usize) -> Vec<Line> {
        let used = self
            .lines
            .iter()
            .filter(|(line, state)| state.used_at >= since && !self.unsaid.contains(*line));
        let unsaid = self.unsaid.iter().cloned();
        unsaid
            .chain(used.map(|(line, _)| line.clone()).take(most))
            .collect()
    }

    /// Forgets lines that were not used since `since` and of which all is told.
    pub fn forget_idle(&mut self, since: Timestamp) -> Vec<Line> {
        let held: HashSet<&Line> = self.holds.values().flat_map(|hold| &hold.lines).collect();
        let idle = self.lines.iter().filter(|(line, state)| {
            state.used_at < since && !held.contains(*line) && !self.unsaid.contains(*line)
        });
        let idle: Vec<Line> = idle.map(|(line, _)| line.clone()).collect();
        for line in &idle {
            self.lines.remove(line);
        }
        idle
    }
}

impl State {
    fn new(now: Timestamp) -> Self {
        Self {
            figures: Figures::default(),
            said: Decimal::ZERO,
            share: None,
            used_at: now,
        }
    }
}

/// The lines that budgets have at a moment.
#[must_use]
pub fn lines(budgets: &[(Account, Budget)], now: Timestamp) -> Vec<Line> {
    let line = |(account, budget): &(Account, Budget)| Line::at(account, budget, now);
    budgets.iter().map(line).collect()
}

fn exceeded(account: &Account, budget: &Budget, figures: Figures, now: Timestamp) -> Exceeded {
    Exceeded {
        account: account.clone(),
        usd: budget.usd,
        spent: figures.spent.normalize(),
        reserved: figures.reserved.normalize(),
        resets: budget.period.next_start(now),
    }
}

/// An amount as the shared book keeps it: no cheaper than it is.
#[must_use]
pub fn rounded_up(usd: Decimal) -> Decimal {
    usd.round_dp_with_strategy(DIGITS, RoundingStrategy::ToPositiveInfinity)
}

/// A replica's part of what is left, rounded so that all parts together are no more than that.
fn part(left: Decimal, replicas: u32) -> Decimal {
    let part = left.max(Decimal::ZERO) / Decimal::from(replicas.max(1));
    part.round_dp_with_strategy(DIGITS, RoundingStrategy::ToZero)
}

fn left(expires: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(expires.duration_since(now)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;
    use proptest::prelude::*;

    use super::super::shared::Claimed;
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

    /// The book, as its adapters keep it, for one line.
    #[derive(Default)]
    struct Book {
        known: bool,
        runs: HashMap<u32, Decimal>,
        holds: HashMap<Uuid, Decimal>,
    }

    impl Book {
        fn figures(&self) -> Figures {
            Figures {
                spent: self.runs.values().sum(),
                reserved: self.holds.values().sum(),
            }
        }

        fn note(&mut self, run: u32, spent: Decimal) {
            let known = self.runs.entry(run).or_default();
            *known = spent.max(*known);
        }

        fn claim(&mut self, claim: &Claim) -> Claimed {
            if !self.known {
                return Claimed::Unknown;
            }
            self.holds.remove(&claim.id);
            self.note(claim.run, claim.lines[0].spent);
            let figures = self.figures();
            if figures.spent + figures.reserved + claim.amount > claim.lines[0].ceiling {
                return Claimed::Exceeded {
                    position: 0,
                    figures: vec![figures],
                };
            }
            self.holds.insert(claim.id, claim.amount);
            Claimed::Held(vec![self.figures()])
        }

        fn tell(&mut self, news: &News) -> Vec<Standing> {
            match news.change {
                Change::None => {}
                Change::Release(id) => drop(self.holds.remove(&id)),
                Change::Hold { id, amount, .. } => drop(self.holds.insert(id, amount)),
            }
            for line in &news.lines {
                self.known |= line.whole;
                for (run, spent) in &line.spent {
                    self.note(*run, *spent);
                }
            }
            let figures = self.figures();
            let known = self.known;
            vec![Standing { known, figures }; news.lines.len()]
        }
    }

    fn tell(replica: &mut Replica, book: &mut Book) {
        let line = Line::at(&budget(0)[0].0, &budget(0)[0].1, NOW);
        for id in replica.open_news(NOW) {
            if let Some((news, lines)) = replica.news_of(id, NOW) {
                let standings = book.tell(&news);
                assert_eq!(replica.told(&news, &lines, &standings, NOW), None);
            }
        }
        let lines = [line];
        let mut news = replica.news(Change::None, &lines);
        news.lines[0].whole = true;
        let standings = book.tell(&news);
        replica.told(&news, &lines, &standings, NOW);
    }

    #[test]
    fn alone_a_replica_spends_its_part_of_what_was_left() {
        let mut replica = Replica::new(1);
        let budget = budget(1_000);
        let line = Line::at(&budget[0].0, &budget[0].1, NOW);
        // Others have spent 4 USD by the store.
        replica.learn(&line, &[(7, usd(300)), (8, usd(100))], NOW);
        let id = Uuid::from_u128;
        let take = |replica: &mut Replica, n: u128, cents: i64| {
            let charged = replica.charge_share(id(n), &budget, usd(cents), 3, NOW);
            if charged.is_ok() {
                replica.hold(id(n), &budget, usd(cents), NOW, LONG);
            }
            charged.is_ok()
        };
        assert!(take(&mut replica, 1, 150));
        assert!(!take(&mut replica, 2, 51), "2 USD are its part");
        assert!(take(&mut replica, 3, 50));
        // What a call didn't use is free again, and nobody has to be told of it.
        assert!(!replica.end(id(1), usd(20)));
        replica.spend(&budget[0].0, NOW, usd(20));
        assert!(take(&mut replica, 4, 130));
        assert!(!take(&mut replica, 5, 1));
    }

    #[test]
    fn an_end_that_overtakes_its_beginning_is_told_again() {
        let (mut replica, mut book) = (Replica::new(1), Book::default());
        let budget = budget(100);
        let id = Uuid::from_u128(1);
        replica.hold(id, &budget, usd(10), NOW, LONG);
        let (begun, lines) = replica.news_of(id, NOW).unwrap();
        assert!(replica.end(id, usd(5)), "it may be there");
        let (ended, _) = replica.news_of(id, NOW).unwrap();
        let standings = book.tell(&ended);
        assert_eq!(replica.told(&ended, &lines, &standings, NOW), None);
        assert_eq!(replica.reservations(), 0);
        let standings = book.tell(&begun);
        assert_eq!(replica.told(&begun, &lines, &standings, NOW), Some(id));
        let (again, _) = replica.news_of(id, NOW).unwrap();
        let standings = book.tell(&again);
        replica.told(&again, &lines, &standings, NOW);
        assert_eq!((book.holds.len(), replica.reservations()), (0, 0));
    }

    #[test]
    fn a_period_has_its_own_days_and_an_owner_its_own_account() {
        let mut replica = Replica::new(1);
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
            let line = Line::at(&key, &ceiling(period), later);
            assert_eq!(replica.spent_of(&line), usd(spent), "{period:?}");
            let line = Line::at(&owner, &ceiling(period), later);
            assert_eq!(replica.spent_of(&line), Decimal::ZERO);
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        /// A replica asks for an amount; whether the book gets the question, and it the answer.
        Ask(usize, i64, bool, bool),
        /// It ends its oldest call, which cost a part of what was held.
        End(usize, i64),
        /// It tells everything.
        Tell(usize),
        /// The book forgets all, and the store says again what is in it.
        Forget,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..3_usize, 1..60_i64, any::<bool>(), any::<bool>())
                .prop_map(|(who, cents, got, told)| Step::Ask(who, cents, got, told)),
            4 => (0..3_usize, 0..=100_i64).prop_map(|(who, part)| Step::End(who, part)),
            1 => (0..3_usize).prop_map(Step::Tell),
            1 => Just(Step::Forget),
        ]
    }

    proptest! {
        /// Whatever is lost on the way, at the end the book has every cent once and holds nothing.
        #[test]
        fn every_cent_is_told_once(steps in prop::collection::vec(step(), 1..80)) {
            let budget = budget(300);
            let mut book = Book::default();
            let mut replicas: Vec<Replica> = (0..3).map(Replica::new).collect();
            let mut calls: Vec<Vec<(Uuid, i64)>> = vec![Vec::new(); 3];
            let mut spent = 0;
            for (number, step) in (1_u128..).zip(steps) {
                match step {
                    Step::Ask(who, cents, got, told) => {
                        let (replica, id) = (&mut replicas[who], Uuid::from_u128(number));
                        let claim = replica.claim(id, None, &budget, usd(cents), NOW, LONG);
                        let answer = got.then(|| book.claim(&claim)).filter(|_| told);
                        let held = match answer {
                            Some(Claimed::Held(figures)) => {
                                replica.held(&claim, &budget, &figures, NOW);
                                true
                            }
                            Some(Claimed::Exceeded { figures, .. }) => {
                                let why = replica.exceeded(&claim, &budget, 0, &figures, NOW);
                                prop_assert!(why.is_some());
                                false
                            }
                            Some(Claimed::Unknown) | None => {
                                replica.hold(id, &budget, usd(cents), NOW, LONG);
                                true
                            }
                        };
                        if held {
                            calls[who].push((id, cents));
                        }
                    }
                    Step::End(who, part) if !calls[who].is_empty() => {
                        let (id, cents) = calls[who].remove(0);
                        let cost = cents * part / 100;
                        replicas[who].spend(&budget[0].0, NOW, usd(cost));
                        replicas[who].end(id, usd(cost));
                        spent += cost;
                    }
                    Step::End(..) => {}
                    Step::Tell(who) => tell(&mut replicas[who], &mut book),
                    Step::Forget => {
                        book = Book::default();
                        for replica in &mut replicas {
                            replica.lapsed();
                        }
                    }
                }
            }
            for (replica, calls) in replicas.iter_mut().zip(calls) {
                for (id, _) in calls {
                    replica.end(id, Decimal::ZERO);
                }
                tell(replica, &mut book);
                prop_assert_eq!(replica.reservations(), 0);
            }
            let figures = book.figures();
            prop_assert_eq!((figures.spent, figures.reserved), (usd(spent), Decimal::ZERO));
        }
    }
}
