//! Budgets shared by all replicas: each call is reserved in the shared store and reported to it
//! afterwards. While the store is unavailable each replica uses its share of what was left. The
//! arithmetic belongs to `domain::budget::replica`; this does its I/O with the store and the ledger.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use jiff::{SignedDuration, Timestamp};
use llm_router_config::OnCounterFailure;
use llm_router_domain::budget::replica::{ReplicaBudgets, budget_lines};
use llm_router_domain::budget::shared::{
    BudgetLine, LineStatus, ReservationChange, ReserveOutcome, SpendUpdate,
};
use llm_router_domain::budget::{Account, Budget};
use llm_router_domain::ledger::{LedgerEntry, counting_run};
use llm_router_store::ledger::SpentQuery;
use rust_decimal::Decimal;
use tokio::sync::{OnceCell, mpsc};
use uuid::Uuid;

use crate::budgets::BudgetRefusal;
use crate::budgets::store::BudgetStore;
use crate::clock;
use crate::ledger::Ledger;

/// Request to reserve money for an attempt.
pub(super) struct ReserveRequest<'a> {
    pub(super) id: Uuid,
    /// Reservation that this one replaces.
    pub(super) replaces: Option<Uuid>,
    pub(super) budgets: &'a [(Account, Budget)],
    pub(super) amount: Decimal,
    pub(super) at: Timestamp,
    pub(super) lasts: Duration,
    /// Policy while the store is unavailable.
    pub(super) failure: OnCounterFailure,
}

/// Basis of the decision on a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecidedBy {
    /// All replicas together, or the only process there is.
    All,
    /// This replica, by its share.
    Share,
    /// None: the configuration admits everything while the store is unavailable.
    Nobody,
}

/// Reply of the store to a reservation.
enum StoreReply {
    /// It doesn't answer.
    Unavailable,
    /// It has lost its data.
    Forgotten,
    Decided(Result<(), BudgetRefusal>),
}

/// Budgets of this replica with their link to the shared store.
pub(super) struct SharedBudgets {
    store: Arc<dyn BudgetStore>,
    /// Held for a few look-ups at a time.
    replica: Mutex<ReplicaBudgets>,
    /// Lines whose spending in the ledger this replica has reported to the store.
    seeded: Mutex<HashMap<BudgetLine, Arc<Seed>>>,
    /// Reservations whose end must be reported.
    endings: mpsc::Sender<Uuid>,
}

/// State of reading a line's spending from the ledger.
#[derive(Default)]
struct Seed {
    done: OnceCell<()>,
    /// Instant of the last failure.
    failed: Mutex<Option<Instant>>,
}

/// Length of the queue of ends. Further ends are reported by the next round.
const WAITING: usize = 16_384;

/// Ends reported at the same time.
const AT_ONCE: usize = 32;

/// Interval of the rounds that report what the store missed and refresh the totals.
const ROUND: Duration = Duration::from_secs(1);

/// Time that the last round of a process may take.
const LAST_ROUND: Duration = Duration::from_secs(2);

/// Interval of checking whether the store is available again.
const POLL: Duration = Duration::from_millis(100);

/// Most lines in one message, and in one round.
const LINES: usize = 64;
const MOST_LINES: usize = 2_048;

/// Time after which unused lines are forgotten. Their spending is then read from the ledger again.
const IDLE: SignedDuration = SignedDuration::from_hours(1);

/// Timeout of reading spending from the ledger, and the pause after a failure while the store knows
/// enough to go on.
const STORE: Duration = Duration::from_secs(5);

/// Number of different run ids, as `domain::ledger` encodes them.
const RUNS: u32 = 1 << 31;

impl SharedBudgets {
    pub(super) fn new(store: Arc<dyn BudgetStore>) -> (Arc<Self>, mpsc::Receiver<Uuid>) {
        let (endings, waiting) = mpsc::channel(WAITING);
        let shared = Self {
            store,
            replica: Mutex::new(ReplicaBudgets::new(fastrand::u32(..RUNS))),
            seeded: Mutex::default(),
            endings,
        };
        (Arc::new(shared), waiting)
    }

    pub(super) fn run(&self) -> u32 {
        self.replica().run()
    }

    pub(super) fn is_unavailable(&self) -> bool {
        !self.store.link_status().up
    }

    pub(super) fn reservations(&self) -> usize {
        self.replica().reservations()
    }

    /// Reserves an amount on every budget, or on none.
    ///
    /// # Errors
    /// Returns an error if it doesn't fit, or if earlier spending is unknown.
    pub(super) async fn reserve(
        &self,
        request: &ReserveRequest<'_>,
        ledger: &Ledger,
    ) -> Result<DecidedBy, BudgetRefusal> {
        self.seed(request, ledger).await?;
        if let Some(replaces) = request.replaces {
            self.replica().end(replaces, Decimal::ZERO);
        }
        let mut charged = false;
        // A store that has lost its data says so; then this replica's share decides, too.
        for _ in 0..2 {
            let link = self.store.link_status();
            if !link.up {
                break;
            }
            if !link.synced && !charged {
                if let Err(refusal) = self.charge_share(request, link.replicas) {
                    self.end(request.id, Decimal::ZERO);
                    return Err(refusal);
                }
                charged = true;
            }
            match self.reserve_in_store(request, !charged, ledger).await {
                StoreReply::Forgotten => {}
                StoreReply::Unavailable => break,
                StoreReply::Decided(decision) => {
                    if decision.is_err() && charged {
                        self.refund_share(request);
                    }
                    return decision.map(|()| DecidedBy::All);
                }
            }
        }
        let replicas = self.store.link_status().replicas;
        let decision = self.decide_offline(request, replicas, charged);
        if decision.is_err() {
            if charged {
                self.refund_share(request);
            }
            self.end(request.id, Decimal::ZERO);
        }
        decision
    }

    fn refund_share(&self, request: &ReserveRequest<'_>) {
        self.replica()
            .refund_share(request.budgets, request.amount, request.at);
    }

    /// Reserves in the shared store.
    async fn reserve_in_store(
        &self,
        request: &ReserveRequest<'_>,
        synced: bool,
        ledger: &Ledger,
    ) -> StoreReply {
        let mut tries = 2;
        loop {
            let reservation = self.replica().begin_reservation(
                request.id,
                request.replaces,
                request.budgets,
                request.amount,
                request.at,
                request.lasts,
            );
            let Some(outcome) = self.store.reserve(&reservation).await else {
                return StoreReply::Unavailable;
            };
            let mut replica = self.replica();
            match outcome {
                ReserveOutcome::Held(figures) => {
                    replica.confirm_reservation(
                        &reservation,
                        request.budgets,
                        &figures,
                        request.at,
                    );
                    if synced {
                        replica.drop_shares(request.budgets, request.at);
                    }
                    return StoreReply::Decided(Ok(()));
                }
                ReserveOutcome::Exceeded { position, figures } => {
                    let why = replica.reject_reservation(
                        &reservation,
                        request.budgets,
                        position,
                        &figures,
                        request.at,
                    );
                    return StoreReply::Decided(Err(
                        why.map_or(BudgetRefusal::Unknown, BudgetRefusal::over_budget)
                    ));
                }
                ReserveOutcome::Forgotten => {
                    replica.mark_all_unreported();
                    return StoreReply::Forgotten;
                }
                ReserveOutcome::Unknown => {}
            }
            drop(replica);
            tries -= 1;
            if tries == 0 {
                return StoreReply::Unavailable;
            }
            // The store lost its data: the ledger has earlier spending, replicas report the rest.
            for line in budget_lines(request.budgets, request.at) {
                if self.seed_from_ledger(&line, ledger).await.is_err() {
                    return StoreReply::Decided(Err(BudgetRefusal::Unknown));
                }
            }
        }
    }

    fn decide_offline(
        &self,
        request: &ReserveRequest<'_>,
        replicas: u32,
        charged: bool,
    ) -> Result<DecidedBy, BudgetRefusal> {
        let by = match request.failure {
            OnCounterFailure::Refuse => return Err(BudgetRefusal::Unavailable),
            OnCounterFailure::Allow => DecidedBy::Nobody,
            OnCounterFailure::Local if charged => DecidedBy::Share,
            OnCounterFailure::Local => {
                self.charge_share(request, replicas)?;
                DecidedBy::Share
            }
        };
        self.replica().reserve_offline(
            request.id,
            request.budgets,
            request.amount,
            request.at,
            request.lasts,
        );
        Ok(by)
    }

    fn charge_share(
        &self,
        request: &ReserveRequest<'_>,
        replicas: u32,
    ) -> Result<(), BudgetRefusal> {
        let mut replica = self.replica();
        let charged = replica.charge_share(
            request.id,
            request.budgets,
            request.amount,
            replicas,
            request.at,
        );
        charged.map_err(|exceeded| BudgetRefusal::share(&exceeded, replicas))
    }

    /// Reads earlier spending from the ledger, once for each line.
    async fn seed(
        &self,
        request: &ReserveRequest<'_>,
        ledger: &Ledger,
    ) -> Result<(), BudgetRefusal> {
        for line in budget_lines(request.budgets, request.at) {
            let seed = Arc::clone(self.seeds().entry(line.clone()).or_default());
            if seed.done.initialized()
                || seed.has_failed_recently() && self.replica().has_totals(&line)
            {
                continue;
            }
            let done = seed.done.get_or_try_init(async || {
                let is_reported = self.seed_from_ledger(&line, ledger).await?;
                // If the store didn't take it, no other replica may ever report it.
                is_reported.then_some(()).ok_or(())
            });
            if done.await.is_err() {
                seed.note_failure();
                self.require_known(&line).await?;
            }
        }
        Ok(())
    }

    /// Checks that this replica or the store knows a line's totals, as the ledger is unavailable.
    async fn require_known(&self, line: &BudgetLine) -> Result<(), BudgetRefusal> {
        if self.replica().has_totals(line) {
            return Ok(());
        }
        let line = std::slice::from_ref(line);
        let update = self
            .replica()
            .update_for_lines(ReservationChange::None, line);
        let statuses = self.send_update(&update, line).await;
        let known = statuses.is_some_and(|statuses| statuses.iter().all(|one| one.known));
        known.then_some(()).ok_or(BudgetRefusal::Unknown)
    }

    /// Reports a line's spending in the ledger to the store and returns true if the store took it.
    /// Otherwise this replica keeps the totals.
    async fn seed_from_ledger(&self, line: &BudgetLine, ledger: &Ledger) -> Result<bool, ()> {
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
                tracing::error!(%error, "failed to read the spending of a budget");
                return Err(());
            }
            Err(_) => {
                tracing::error!("timeout reading the spending of a budget");
                return Err(());
            }
        };
        let one = std::slice::from_ref(line);
        let mut update = self
            .replica()
            .update_for_lines(ReservationChange::None, one);
        if let Some(first) = update.lines.first_mut() {
            let run = self.run();
            first
                .spent
                .extend(stored.iter().filter(|(other, _)| *other != run));
            first.complete = true;
        }
        let is_reported = self.send_update(&update, one).await.is_some();
        if !is_reported {
            self.replica()
                .record_stored(line, &stored, clock::timestamp());
        }
        Ok(is_reported)
    }

    /// Replaces an attempt's reservation with its cost.
    pub(super) fn settle(&self, entry: &LedgerEntry, cost: Decimal) {
        let attempt = &entry.attempt;
        let mut replica = self.replica();
        if counting_run(attempt.id) == Some(replica.run()) {
            replica.spend(&Account::Key(attempt.key.clone()), attempt.at, cost);
            replica.spend(&Account::Owner(attempt.owner.clone()), attempt.at, cost);
        }
        drop(replica);
        self.end(attempt.id, cost);
    }

    /// Ends the reservation of a call that has ended or isn't made.
    pub(super) fn end(&self, id: Uuid, cost: Decimal) {
        if self.replica().end(id, cost) {
            // If the queue is full, the next round reports it.
            let _ = self.endings.try_send(id);
        }
    }

    /// Reports ends and spending to the store until the runtime stops.
    pub(super) async fn run_reporting(self: Arc<Self>, waiting: mpsc::Receiver<Uuid>) {
        let endings = futures::stream::unfold(waiting, |mut waiting| async {
            let id = waiting.recv().await?;
            Some((id, waiting))
        });
        let report =
            endings.for_each_concurrent(AT_ONCE, |id| Arc::clone(&self).report_reservation(id));
        tokio::join!(report, self.run_rounds());
    }

    /// Reports once more, within a second or two, before this replica stops.
    pub(super) async fn leave(self: &Arc<Self>) {
        if !self.is_unavailable() {
            let _ = tokio::time::timeout(LAST_ROUND, self.report_round()).await;
        }
        self.store.leave().await;
    }

    async fn run_rounds(self: &Arc<Self>) {
        let (mut generation, mut last) = (self.store.link_status().generation, clock::now());
        loop {
            tokio::time::sleep(POLL).await;
            let link = self.store.link_status();
            if !link.up {
                continue;
            }
            if link.generation != generation {
                generation = link.generation;
                self.replica().mark_all_unreported();
            } else if last.elapsed() < ROUND {
                continue;
            }
            last = clock::now();
            self.report_round().await;
        }
    }

    /// Reports what the store may have missed and refreshes the totals of lines in use.
    async fn report_round(self: &Arc<Self>) {
        let now = clock::timestamp();
        let open = self.replica().reservations_to_report(now);
        futures::stream::iter(open)
            .for_each_concurrent(AT_ONCE, |id| Arc::clone(self).report_reservation(id))
            .await;
        let since = now.saturating_sub(IDLE).unwrap_or(now);
        let lines = self.replica().lines_to_report(since, MOST_LINES);
        for lines in lines.chunks(LINES) {
            let update = self
                .replica()
                .update_for_lines(ReservationChange::None, lines);
            if self.send_update(&update, lines).await.is_none() {
                return;
            }
        }
        let idle = self.replica().forget_idle(since);
        let mut seeded = self.seeds();
        for line in idle {
            seeded.remove(&line);
        }
    }

    async fn report_reservation(self: Arc<Self>, id: Uuid) {
        if self.is_unavailable() {
            return;
        }
        let update = self
            .replica()
            .update_for_reservation(id, clock::timestamp());
        if let Some((update, lines)) = update {
            self.send_update(&update, &lines).await;
        }
    }

    async fn send_update(
        &self,
        update: &SpendUpdate,
        lines: &[BudgetLine],
    ) -> Option<Vec<LineStatus>> {
        if self.is_unavailable() {
            return None;
        }
        let statuses = self.store.apply_spend_update(update).await?;
        let again = self
            .replica()
            .apply_response(update, lines, &statuses, clock::timestamp());
        if let Some(id) = again {
            let _ = self.endings.try_send(id);
        }
        Some(statuses)
    }

    fn replica(&self) -> MutexGuard<'_, ReplicaBudgets> {
        self.replica.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn seeds(&self) -> MutexGuard<'_, HashMap<BudgetLine, Arc<Seed>>> {
        self.seeded.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seed {
    fn has_failed_recently(&self) -> bool {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        failed.is_some_and(|at| at.elapsed() < STORE)
    }

    fn note_failure(&self) {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        *failed = Some(clock::now());
    }
}
