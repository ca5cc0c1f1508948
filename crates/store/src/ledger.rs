//! Interface of a ledger store. It must not know any database: one conformance suite
//! (`tests/store/conformance.rs`) holds the adapters to the same answers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use jiff::civil::Date;
use llm_router_domain::budget::Account;
use llm_router_domain::ledger::{LedgerEntry, LedgerSums};
use rust_decimal::Decimal;
use uuid::Uuid;

use crate::error::StoreError;

/// Key by which costs are summed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SumGroup {
    /// One sum over everything.
    #[default]
    Nothing,
    /// By day.
    Day,
    /// By the deployment's model and its provider.
    Model,
    /// By provider.
    Provider,
    /// By the key's owner.
    Owner,
    /// By key.
    Key,
    /// By the end user the client named, else the key's owner.
    EndUser,
}

/// Query for sums of costs.
#[derive(Clone, Debug, Default)]
pub struct CostQuery {
    /// The first day (UTC); all there is without it.
    pub from: Option<Date>,
    /// The last day, included.
    pub to: Option<Date>,
    /// Only this key's.
    pub key: Option<String>,
    /// Only this owner's.
    pub owner: Option<String>,
    /// Key of the sums.
    pub group: SumGroup,
    /// The group's values in the last row of the previous page, in the order of its columns; empty
    /// for the first page. Ignored for [`SumGroup::Nothing`] and [`SumGroup::Day`].
    pub after: Vec<String>,
    /// Most rows; all there are without it.
    pub limit: Option<u32>,
}

/// Query for spending by run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpentQuery {
    /// A key or an owner.
    pub account: Account,
    /// The first day (UTC); all there is without it.
    pub from: Option<Date>,
}

/// No run of a process has this number.
pub const NO_RUN: u32 = u32::MAX;

impl SpentQuery {
    /// The sum over all runs.
    pub(crate) fn total(&self) -> CostQuery {
        let mut query = CostQuery {
            from: self.from,
            ..CostQuery::default()
        };
        match &self.account {
            Account::Key(key) => query.key = Some(key.to_string()),
            Account::Owner(owner) => query.owner = Some(owner.to_string()),
        }
        query
    }

    /// The column of the account, its name, and the first day.
    pub(crate) fn parts(&self) -> (&'static str, String, Date) {
        let from = self.from.unwrap_or(FIRST_DAY);
        match &self.account {
            Account::Key(key) => ("key", key.to_string(), from),
            Account::Owner(owner) => ("owner", owner.to_string(), from),
        }
    }

    /// The runs' sums with what is left of the total.
    pub(crate) fn with_rest(mut runs: Vec<(u32, Decimal)>, total: Decimal) -> Vec<(u32, Decimal)> {
        let counted: Decimal = runs.iter().map(|(_, usd)| *usd).sum();
        runs.push((NO_RUN, (total - counted).max(Decimal::ZERO)));
        runs
    }
}

/// Before any entry, and a day that every database knows.
const FIRST_DAY: Date = jiff::civil::date(1970, 1, 1);

/// One sum. Only what it was grouped by is set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CostRow {
    /// The day.
    pub day: Option<Date>,
    /// The provider.
    pub provider: Option<String>,
    /// The deployment's model.
    pub model: Option<String>,
    /// The owner, key or end user.
    pub user: Option<String>,
    /// The sums.
    pub sums: LedgerSums,
}

/// Query for requests, newest first.
#[derive(Clone, Debug, Default)]
pub struct RequestQuery {
    /// From this moment on.
    pub from: Option<Timestamp>,
    /// Before this moment.
    pub to: Option<Timestamp>,
    /// Only this key's.
    pub key: Option<String>,
    /// Only this owner's.
    pub owner: Option<String>,
    /// Only this end user's.
    pub end_user: Option<String>,
    /// Only those that ended at this provider.
    pub provider: Option<String>,
    /// Only those that ended at this deployment's model.
    pub model: Option<String>,
    /// Only those that ended with this status.
    pub status: Option<u16>,
    /// Only those that this rule decided on.
    pub rule: Option<String>,
    /// Only those that cost at least this, in USD. What has no price is not among them.
    pub min_cost: Option<Decimal>,
    /// Only those that took at least this long, from their arrival to their end.
    pub min_latency: Option<Duration>,
    /// End of the previous page: its [`Page::next`].
    pub cursor: Option<Uuid>,
    /// Most items.
    pub limit: u32,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T, C = Uuid> {
    /// The items.
    pub items: Vec<T>,
    /// Start of the next page, if there is one.
    pub next: Option<C>,
}

impl<T, C> Page<T, C> {
    /// The page of at most `limit` items, out of one item more than that if there is a next page.
    pub(crate) fn cut(mut items: Vec<T>, limit: u32, cursor: impl Fn(&T) -> C) -> Self {
        let limit = limit as usize;
        let more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| more).map(cursor);
        Self { items, next }
    }
}

/// Selection of entries to bill anew, by id: the order of time.
#[derive(Clone, Debug, Default)]
pub struct RepriceQuery {
    /// From this moment on.
    pub from: Timestamp,
    /// Before this moment.
    pub to: Timestamp,
    /// Only this key's.
    pub key: Option<String>,
    /// Only this provider's.
    pub provider: Option<String>,
    /// Only those of this deployment's model.
    pub model: Option<String>,
    /// After this entry.
    pub after: Option<Uuid>,
    /// Most entries.
    pub limit: u32,
}

impl RepriceQuery {
    /// The bounds of ids, and the filters by column.
    pub(crate) fn bounds(&self) -> (Uuid, Uuid) {
        let first = first_id(self.from);
        let from = self.after.map_or(first, |after| after.max(first));
        (from, first_id(self.to))
    }

    /// The filters that are set, by column.
    pub(crate) fn filters(&self) -> impl Iterator<Item = (&'static str, &str)> {
        let filters = [
            ("key", &self.key),
            ("provider", &self.provider),
            ("deployment", &self.model),
        ];
        filters
            .into_iter()
            .filter_map(|(column, value)| Some((column, value.as_deref()?)))
    }
}

/// Entries before and after they were billed anew, with the reason.
#[derive(Clone, Debug)]
pub struct Repricing {
    /// Time of the change.
    pub at: Timestamp,
    /// Reason, as its author gave it.
    pub reason: String,
    /// Each entry before and after.
    pub entries: Vec<(LedgerEntry, LedgerEntry)>,
}

/// The attempts of one request, in order; the last one ended it.
pub type RequestAttempts = Vec<LedgerEntry>;

/// A sum that doesn't agree with what it sums up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TotalsDifference {
    /// The table and the row that differ.
    pub place: String,
    /// Sums of the entries, if there are any.
    pub expected: Option<LedgerSums>,
    /// Sums in the table, if there are any.
    pub found: Option<LedgerSums>,
}

/// A store of the ledger.
#[async_trait]
pub trait LedgerStore: Send + Sync {
    /// Stores entries and adds them to the sums, all in one transaction. An entry whose id is
    /// stored already changes nothing. Returns how many were new.
    async fn insert_shared(&self, entries: Arc<[LedgerEntry]>) -> Result<usize, StoreError>;

    /// [`Self::insert_shared`] of entries that the caller keeps.
    async fn insert(&self, entries: &[LedgerEntry]) -> Result<usize, StoreError> {
        self.insert_shared(entries.into()).await
    }

    /// Adds up costs.
    async fn costs(&self, query: &CostQuery) -> Result<Vec<CostRow>, StoreError>;

    /// Returns the spending of a key or owner since a day, by the run that counts it for a shared
    /// budget, and under [`NO_RUN`] what none counts. All values are of one moment.
    async fn spent_by_run(&self, query: &SpentQuery) -> Result<Vec<(u32, Decimal)>, StoreError>;

    /// Lists requests, newest first.
    async fn requests(&self, query: &RequestQuery) -> Result<Page<RequestAttempts>, StoreError>;

    /// The attempts made under a request id, oldest first. A client may use an id again: then they
    /// are of several requests.
    async fn request(&self, request_id: &str) -> Result<Vec<LedgerEntry>, StoreError>;

    /// Those of these entries that are stored, in no order.
    async fn entries(&self, ids: &[Uuid]) -> Result<Vec<LedgerEntry>, StoreError>;

    /// Deletes at most `limit` entries of before a moment; sums stay. Returns how many.
    async fn prune(&self, before: Timestamp, limit: u32) -> Result<usize, StoreError>;

    /// Lists entries to bill anew, oldest first.
    async fn entries_to_reprice(
        &self,
        query: &RepriceQuery,
    ) -> Result<Vec<LedgerEntry>, StoreError>;

    /// Replaces the bills of entries, adds the differences to the sums and keeps the bills before,
    /// all in one transaction. An entry that has another cost by now stays as it is. Returns how
    /// many were changed.
    async fn reprice(&self, repricing: Repricing) -> Result<usize, StoreError>;

    /// Sums the entries again and compares with the stored sums, for the days without pruned
    /// entries.
    async fn check_sums(&self) -> Result<Vec<TotalsDifference>, StoreError>;

    /// Checks that the store answers.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Returns what shows that this machine's clock is wrong, or that the store's file is gone.
    async fn inspect(&self) -> Result<StoreInspection, StoreError>;
}

/// State of a store by which its user can check the clock and the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreInspection {
    /// The store's clock, if it is on a server.
    pub clock: Option<Timestamp>,
    /// Moment of the newest entry.
    pub newest_entry: Option<Timestamp>,
    /// The store's file, if it was deleted or replaced while the store is open.
    pub lost_file: Option<PathBuf>,
}

/// Returns the spending of a key or owner since a day.
///
/// # Errors
/// Those of [`LedgerStore::costs`].
pub async fn spent_since(
    store: &dyn LedgerStore,
    key: Option<String>,
    owner: Option<String>,
    from: Option<Date>,
) -> Result<Decimal, StoreError> {
    let query = CostQuery {
        from,
        key,
        owner,
        ..CostQuery::default()
    };
    Ok(store
        .costs(&query)
        .await?
        .iter()
        .map(|row| row.sums.cost)
        .sum())
}

/// Splits the entries under one request id into requests: each ends with its last attempt.
#[must_use]
pub fn split_requests(entries: Vec<LedgerEntry>) -> Vec<RequestAttempts> {
    let mut requests = vec![Vec::new()];
    for entry in entries {
        let last = entry.outcome.last;
        if let Some(current) = requests.last_mut() {
            current.push(entry);
        }
        if last {
            requests.push(Vec::new());
        }
    }
    requests.retain(|attempts: &Vec<LedgerEntry>| !attempts.is_empty());
    requests
}

/// SQL of a request's duration: until its last attempt, and that attempt.
pub(crate) const LATENCY: &str = "coalesce(queue_us, 0) + coalesce(total_us, 0) >=";

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The smallest id an entry of this moment can have: UUIDs of version 7 begin with milliseconds.
pub(crate) fn first_id(at: Timestamp) -> Uuid {
    let millis = u64::try_from(at.as_millisecond()).unwrap_or_default();
    Uuid::from_u128(u128::from(millis) << 80)
}
