//! Budgets that hold for all replicas together: the shared book is asked before a call and told
//! after it; while it is away each replica goes by its share of what was left. What is known here
//! is `domain::budget::replica`'s; this is its talk with the book and the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use llm_router_config::OnCounterFailure;
use llm_router_domain::budget::replica::{Replica, lines};
use llm_router_domain::budget::shared::{Change, Claimed, Line, News, Standing};
use llm_router_domain::budget::{Account, Budget};
use llm_router_domain::ledger::{Entry, counting_run};
use llm_router_store::ledger::SpentQuery;
use rust_decimal::Decimal;
use tokio::sync::{OnceCell, mpsc};
use uuid::Uuid;

use crate::budgets::Refused;
use crate::budgets::store::Book;
use crate::clock;
use crate::ledger::Ledger;

/// A reservation that is asked for.
pub(super) struct Ask<'a> {
    pub(super) id: Uuid,
    /// One that it takes the place of.
    pub(super) instead: Option<Uuid>,
    pub(super) budgets: &'a [(Account, Budget)],
    pub(super) amount: Decimal,
    pub(super) at: Timestamp,
    pub(super) lasts: Duration,
    /// What holds while the book is away.
    pub(super) failure: OnCounterFailure,
}

/// Who decided on a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// All replicas together, or the only process there is.
    All,
    /// This replica, by its share.
    Share,
    /// Nobody: the configuration lets everything pass while the book is away.
    Nobody,
}

pub(super) struct Shared {
    book: Arc<dyn Book>,
    /// Held for a few look-ups at a time.
    replica: Mutex<Replica>,
    /// Lines whose spending in the store the book was told of, by this replica.
    seeded: Mutex<HashMap<Line, Arc<Seed>>>,
    /// Reservations that the book is to be told of.
    endings: mpsc::Sender<Uuid>,
}

/// Whether the store was asked about a line.
#[derive(Default)]
struct Seed {
    done: OnceCell<()>,
    /// When it could not say, last time.
    failed: Mutex<Option<Instant>>,
}

/// Endings that wait to be told. More are told by the round that looks for what was missed.
const WAITING: usize = 16_384;

/// Endings that are told at the same time.
const AT_ONCE: usize = 32;

/// How often is looked for what the book missed, and how lines stand.
const ROUND: Duration = Duration::from_secs(1);

/// How long a process that ends may take for that.
const LAST_ROUND: Duration = Duration::from_secs(2);

/// How often is looked whether the book came back.
const LOOK: Duration = Duration::from_millis(100);

/// Lines that are told of or asked about in one message, and in one round.
const LINES: usize = 64;
const MOST_LINES: usize = 2_048;

/// How long lines are kept that nobody uses. The store is asked about them anew.
const IDLE: SignedDuration = SignedDuration::from_hours(1);

/// How long the store may take to say what was spent, and how long it is left alone after it could
/// not, where the book knows enough to go on.
const STORE: Duration = Duration::from_secs(5);

/// Numbers of runs, as `domain::ledger::stamped` takes them.
const RUNS: u32 = 1 << 31;

impl Shared {
    pub(super) fn new(book: Arc<dyn Book>) -> (Arc<Self>, mpsc::Receiver<Uuid>) {
        let (endings, waiting) = mpsc::channel(WAITING);
        let shared = Self {
            book,
            replica: Mutex::new(Replica::new(fastrand::u32(..RUNS))),
            seeded: Mutex::default(),
            endings,
        };
        (Arc::new(shared), waiting)
    }

    pub(super) fn run(&self) -> u32 {
        self.replica().run()
    }

    pub(super) fn is_away(&self) -> bool {
        !self.book.reach().up
    }

    pub(super) fn reservations(&self) -> usize {
        self.replica().reservations()
    }

    /// Holds an amount on every budget, or on none.
    ///
    /// # Errors
    /// When it doesn't fit, or that can't be known.
    pub(super) async fn reserve(&self, ask: &Ask<'_>, ledger: &Ledger) -> Result<By, Refused> {
        self.seed(ask, ledger).await?;
        if let Some(instead) = ask.instead {
            self.replica().end(instead, Decimal::ZERO);
        }
        let reach = self.book.reach();
        if reach.up {
            if !reach.calm {
                self.charge_share(ask, reach.replicas)?;
            }
            if let Some(decided) = self.ask_book(ask, reach.calm, ledger).await {
                if decided.is_err() && !reach.calm {
                    self.replica().refund_share(ask.budgets, ask.amount, ask.at);
                }
                return decided.map(|()| By::All);
            }
        }
        let charged = reach.up && !reach.calm;
        let alone = self.decide_alone(ask, reach.replicas, charged);
        if alone.is_err() {
            if charged {
                self.replica().refund_share(ask.budgets, ask.amount, ask.at);
            }
            self.end(ask.id, Decimal::ZERO);
        }
        alone
    }

    /// Asks the book; nothing if it doesn't answer.
    async fn ask_book(
        &self,
        ask: &Ask<'_>,
        calm: bool,
        ledger: &Ledger,
    ) -> Option<Result<(), Refused>> {
        let mut tries = 2;
        loop {
            let claim = self.replica().claim(
                ask.id,
                ask.instead,
                ask.budgets,
                ask.amount,
                ask.at,
                ask.lasts,
            );
            let claimed = self.book.claim(&claim).await?;
            let mut replica = self.replica();
            match claimed {
                Claimed::Held(figures) => {
                    replica.held(&claim, ask.budgets, &figures, ask.at);
                    if calm {
                        replica.drop_shares(ask.budgets, ask.at);
                    }
                    return Some(Ok(()));
                }
                Claimed::Exceeded { position, figures } => {
                    let why = replica.exceeded(&claim, ask.budgets, position, &figures, ask.at);
                    return Some(Err(why.map_or(Refused::Unknown, Refused::exceeded)));
                }
                Claimed::Unknown => {}
            }
            drop(replica);
            tries -= 1;
            if tries == 0 {
                return None;
            }
            // It forgot: the store knows what was spent, and every replica tells what it knows.
            for line in lines(ask.budgets, ask.at) {
                if self.ask_store(&line, ledger).await.is_err() {
                    return Some(Err(Refused::Unknown));
                }
            }
        }
    }

    fn decide_alone(&self, ask: &Ask<'_>, replicas: u32, charged: bool) -> Result<By, Refused> {
        let by = match ask.failure {
            OnCounterFailure::Refuse => return Err(Refused::Unavailable),
            OnCounterFailure::Allow => By::Nobody,
            OnCounterFailure::Local if charged => By::Share,
            OnCounterFailure::Local => {
                self.charge_share(ask, replicas)?;
                By::Share
            }
        };
        self.replica()
            .hold(ask.id, ask.budgets, ask.amount, ask.at, ask.lasts);
        Ok(by)
    }

    fn charge_share(&self, ask: &Ask<'_>, replicas: u32) -> Result<(), Refused> {
        let mut replica = self.replica();
        let charged = replica.charge_share(ask.id, ask.budgets, ask.amount, replicas, ask.at);
        charged.map_err(|exceeded| Refused::share(&exceeded, replicas))
    }

    /// Asks the store what was spent before, once for each line.
    async fn seed(&self, ask: &Ask<'_>, ledger: &Ledger) -> Result<(), Refused> {
        for line in lines(ask.budgets, ask.at) {
            let seed = Arc::clone(self.seeded().entry(line.clone()).or_default());
            if seed.done.initialized() || seed.failed_lately() && self.replica().knows(&line) {
                continue;
            }
            let done = seed.done.get_or_try_init(async || {
                let told = self.ask_store(&line, ledger).await?;
                // What the book didn't take nobody else may ever tell it.
                told.then_some(()).ok_or(())
            });
            if done.await.is_err() {
                seed.note_failure();
                self.make_do(&line).await?;
            }
        }
        Ok(())
    }

    /// The store can't say what was spent: the book may know.
    async fn make_do(&self, line: &Line) -> Result<(), Refused> {
        if self.replica().knows(line) {
            return Ok(());
        }
        let line = std::slice::from_ref(line);
        let news = self.replica().news(Change::None, line);
        let standings = self.tell(&news, line).await;
        let known = standings.is_some_and(|standings| standings.iter().all(|one| one.known));
        known.then_some(()).ok_or(Refused::Unknown)
    }

    /// Tells the book what the store says was spent of a line; whether it took it. What it didn't
    /// take is known here at least.
    async fn ask_store(&self, line: &Line, ledger: &Ledger) -> Result<bool, ()> {
        let query = SpentQuery {
            account: line.account.clone(),
            from: line.start,
        };
        let asked = async {
            let store = ledger.up_to_date().await?;
            store.spent_by_run(&query).await
        };
        let stored = match tokio::time::timeout(STORE, asked).await {
            Ok(Ok(stored)) => stored,
            Ok(Err(error)) => {
                tracing::error!(%error, "what was spent of a budget can't be read");
                return Err(());
            }
            Err(_) => {
                tracing::error!("what was spent of a budget can't be read in time");
                return Err(());
            }
        };
        let one = std::slice::from_ref(line);
        let mut news = self.replica().news(Change::None, one);
        if let Some(told) = news.lines.first_mut() {
            let run = self.run();
            told.spent
                .extend(stored.iter().filter(|(other, _)| *other != run));
            told.whole = true;
        }
        let told = self.tell(&news, one).await.is_some();
        if !told {
            self.replica().learn(line, &stored, clock::timestamp());
        }
        Ok(told)
    }

    /// Counts what an attempt cost, in place of what was held for it.
    pub(super) fn settle(&self, entry: &Entry) {
        let (attempt, outcome) = (&entry.attempt, &entry.outcome);
        let cost = outcome.cost.usd().unwrap_or_default();
        let mut replica = self.replica();
        if counting_run(attempt.id) == Some(replica.run()) {
            replica.spend(&Account::Key(attempt.key.clone()), attempt.at, cost);
            replica.spend(&Account::Owner(attempt.owner.clone()), attempt.at, cost);
        }
        drop(replica);
        self.end(attempt.id, cost);
    }

    /// A call has ended, or isn't made.
    pub(super) fn end(&self, id: Uuid, cost: Decimal) {
        if self.replica().end(id, cost) {
            // What doesn't fit here is told by the next round.
            let _ = self.endings.try_send(id);
        }
    }

    /// Tells the book what it doesn't know, until the runtime ends.
    pub(super) async fn keep_told(self: Arc<Self>, waiting: mpsc::Receiver<Uuid>) {
        let endings = futures::stream::unfold(waiting, |mut waiting| async {
            let id = waiting.recv().await?;
            Some((id, waiting))
        });
        let tell = endings.for_each_concurrent(AT_ONCE, |id| Arc::clone(&self).tell_of(id));
        tokio::join!(tell, self.rounds());
    }

    /// Tells what the book doesn't know, once, within a second or two, before this replica ends.
    pub(super) async fn leave(self: &Arc<Self>) {
        if !self.is_away() {
            let _ = tokio::time::timeout(LAST_ROUND, self.round()).await;
        }
        self.book.leave().await;
    }

    async fn rounds(self: &Arc<Self>) {
        let (mut lapses, mut last) = (self.book.reach().lapses, clock::now());
        loop {
            tokio::time::sleep(LOOK).await;
            let reach = self.book.reach();
            if !reach.up {
                continue;
            }
            if reach.lapses != lapses {
                lapses = reach.lapses;
                self.replica().lapsed();
            } else if last.elapsed() < ROUND {
                continue;
            }
            last = clock::now();
            self.round().await;
        }
    }

    /// Tells what the book may have missed, and learns how the lines stand that are in use.
    async fn round(self: &Arc<Self>) {
        let now = clock::timestamp();
        let open = self.replica().open_news(now);
        futures::stream::iter(open)
            .for_each_concurrent(AT_ONCE, |id| Arc::clone(self).tell_of(id))
            .await;
        let since = now.saturating_sub(IDLE).unwrap_or(now);
        let lines = self.replica().lines_to_tell(since, MOST_LINES);
        for lines in lines.chunks(LINES) {
            let news = self.replica().news(Change::None, lines);
            if self.tell(&news, lines).await.is_none() {
                return;
            }
        }
        let idle = self.replica().forget_idle(since);
        let mut seeded = self.seeded();
        for line in idle {
            seeded.remove(&line);
        }
    }

    async fn tell_of(self: Arc<Self>, id: Uuid) {
        if self.is_away() {
            return;
        }
        let news = self.replica().news_of(id, clock::timestamp());
        if let Some((news, lines)) = news {
            self.tell(&news, &lines).await;
        }
    }

    async fn tell(&self, news: &News, lines: &[Line]) -> Option<Vec<Standing>> {
        if self.is_away() {
            return None;
        }
        let standings = self.book.tell(news).await?;
        let again = self
            .replica()
            .told(news, lines, &standings, clock::timestamp());
        if let Some(id) = again {
            let _ = self.endings.try_send(id);
        }
        Some(standings)
    }

    fn replica(&self) -> MutexGuard<'_, Replica> {
        self.replica.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seeded(&self) -> MutexGuard<'_, HashMap<Line, Arc<Seed>>> {
        self.seeded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seed {
    fn failed_lately(&self) -> bool {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|at| at.elapsed() < STORE)
    }

    fn note_failure(&self) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        *failed = Some(clock::now());
    }
}
