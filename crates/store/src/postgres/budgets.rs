//! Budgets that replicas share, in PostgreSQL: each call is one function of the database and one
//! round trip. The tables are lost when the server crashes; the owner of the connection sees that
//! by the epoch. It must not decide what follows from an answer.

use std::sync::Arc;
use std::time::Duration;

use llm_router_domain::budget::replica::round_up;
use llm_router_domain::budget::shared::{
    LineStatus, LineTotals, Reservation, ReservationChange, ReserveOutcome, SpendUpdate,
};
use rust_decimal::Decimal;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row, Statement};
use uuid::Uuid;

use super::tls::ServerAddress;
use super::{CONNECT, get, store_error};
use crate::error::StoreError;

/// Server with the tables of shared budgets, which belong to the store.
pub struct BudgetTables {
    config: Config,
    address: ServerAddress,
}

/// Connection to it. Clones are the same connection; calls are answered in order.
#[derive(Clone)]
pub struct BudgetConnection(Arc<BudgetStatements>);

struct BudgetStatements {
    client: Client,
    announce: Statement,
    reserve: Statement,
    apply: Statement,
}

/// Replica and its connection, which every call names.
#[derive(Clone, Copy, Debug)]
pub struct ReplicaConnection {
    /// The replica.
    pub replica: Uuid,
    /// Number of its connection. Late calls over an earlier connection are void.
    pub connection: u64,
}

/// Answer to a replica's announcement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// Identifies the server's data. A new epoch means that all data was lost.
    pub epoch: String,
    /// Age of the epoch.
    pub age: Duration,
    /// Number of replicas.
    pub replicas: u32,
}

const ANNOUNCE: &str = "SELECT is_epoch, age_ms, replicas FROM budget_announce($1, $2, $3)";

const RESERVE: &str = "SELECT outcome, at_line, line_spent, line_reserved \
                     FROM budget_claim($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

const APPLY: &str = "SELECT line_known, line_spent, line_reserved \
                    FROM budget_tell($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

/// Timeout of a statement on the server.
const STATEMENT: Duration = Duration::from_secs(2);

impl BudgetTables {
    /// Creates the server at a `postgresql://` address without connecting.
    ///
    /// # Errors
    /// Returns an error if `url` is not an address.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        let (config, address) = super::parse_config(url)?;
        Ok(Self { config, address })
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// Returns an error if it takes more than a few seconds or fails.
    pub async fn connect(&self) -> Result<BudgetConnection, StoreError> {
        super::with_timeout(CONNECT, self.open()).await
    }

    async fn open(&self) -> Result<BudgetConnection, StoreError> {
        let connected = self.config.connect(self.address.connector()?).await;
        let (client, connection) = connected.map_err(|error| store_error(&error))?;
        // It stops when the last clone of the client is dropped, or with an error that the next
        // call gets, too.
        tokio::spawn(connection);
        let limit = format!("SET statement_timeout = {}", STATEMENT.as_millis());
        let limited = client.batch_execute(&limit).await;
        limited.map_err(|error| store_error(&error))?;
        let prepared = async |sql| {
            let statement = client.prepare(sql).await;
            statement.map_err(|error| store_error(&error))
        };
        Ok(BudgetConnection(Arc::new(BudgetStatements {
            announce: prepared(ANNOUNCE).await?,
            reserve: prepared(RESERVE).await?,
            apply: prepared(APPLY).await?,
            client,
        })))
    }
}

impl BudgetConnection {
    /// Announces a replica for the time `counts`; zero if it leaves.
    ///
    /// # Errors
    /// Returns an error if the server doesn't answer or refuses.
    pub async fn announce(
        &self,
        replica: ReplicaConnection,
        counts: Duration,
    ) -> Result<Presence, StoreError> {
        let values: [&(dyn ToSql + Sync); 3] = [
            &replica.replica,
            &number(replica.connection),
            &millis(counts),
        ];
        let row = self.query(&self.0.announce, &values).await?;
        let (age, replicas): (i64, i64) = (get(&row, 1)?, get(&row, 2)?);
        Ok(Presence {
            epoch: get(&row, 0)?,
            age: Duration::from_millis(age.try_into().unwrap_or_default()),
            replicas: replicas.try_into().unwrap_or(u32::MAX),
        })
    }

    /// Reserves an amount on every line, or on none.
    ///
    /// # Errors
    /// Returns an error if the server doesn't answer. It may hold the amount nevertheless, so the
    /// end of the reservation must be reported.
    pub async fn reserve(
        &self,
        replica: ReplicaConnection,
        reservation: &Reservation,
    ) -> Result<ReserveOutcome, StoreError> {
        let names: Vec<&str> = reservation.lines.iter().map(|line| &*line.name).collect();
        let ceilings: Vec<Decimal> = reservation.lines.iter().map(|line| line.ceiling).collect();
        let own: Vec<Decimal> = reservation
            .lines
            .iter()
            .map(|line| round_up(line.spent))
            .collect();
        let values: [&(dyn ToSql + Sync); 10] = [
            &replica.replica,
            &number(replica.connection),
            &i64::from(reservation.run),
            &reservation.id,
            &reservation.replaces,
            &round_up(reservation.amount),
            &millis(reservation.lasts),
            &names,
            &ceilings,
            &own,
        ];
        let row = self.query(&self.0.reserve, &values).await?;
        match get(&row, 0)? {
            "unknown" => Ok(ReserveOutcome::Unknown),
            "held" => Ok(ReserveOutcome::Held(read_totals(&row, 2)?)),
            "full" => Ok(ReserveOutcome::Exceeded {
                position: position(get(&row, 1)?)?,
                figures: read_totals(&row, 2)?,
            }),
            outcome => Err(superseded_error(outcome)),
        }
    }

    /// Reports spending and the change of a reservation. Idempotent.
    ///
    /// # Errors
    /// Returns an error if the server doesn't answer. It may have applied the update.
    pub async fn apply_spend_update(
        &self,
        replica: ReplicaConnection,
        update: &SpendUpdate,
    ) -> Result<Vec<LineStatus>, StoreError> {
        let (change, id, amount, lasts) = match update.change {
            ReservationChange::None => ("none", None, Decimal::ZERO, Duration::ZERO),
            ReservationChange::Release(id) => ("release", Some(id), Decimal::ZERO, Duration::ZERO),
            ReservationChange::Hold { id, amount, lasts } => ("hold", Some(id), amount, lasts),
        };
        let names: Vec<&str> = update.lines.iter().map(|line| &*line.name).collect();
        let whole: Vec<bool> = update.lines.iter().map(|line| line.complete).collect();
        let told = (1_i32..).zip(&update.lines);
        let told = told.flat_map(|(at, line)| line.spent.iter().map(move |spent| (at, spent)));
        let (mut lines, mut runs, mut amounts) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (run, spent)) in told {
            lines.push(at);
            runs.push(i64::from(*run));
            amounts.push(round_up(*spent));
        }
        let values: [&(dyn ToSql + Sync); 11] = [
            &replica.replica,
            &number(replica.connection),
            &change,
            &id,
            &round_up(amount),
            &millis(lasts),
            &names,
            &whole,
            &lines,
            &runs,
            &amounts,
        ];
        let row = self.query(&self.0.apply, &values).await?;
        let known: Option<Vec<bool>> = get(&row, 0)?;
        let known = known.ok_or_else(|| superseded_error("void"))?;
        let status = |(known, figures)| LineStatus { known, figures };
        Ok(known
            .into_iter()
            .zip(read_totals(&row, 1)?)
            .map(status)
            .collect())
    }

    async fn query(
        &self,
        statement: &Statement,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, StoreError> {
        let answer = self.0.client.query_one(statement, values).await;
        answer.map_err(|error| store_error(&error))
    }
}

/// Reads the amounts of two columns, one line each.
fn read_totals(row: &Row, first: usize) -> Result<Vec<LineTotals>, StoreError> {
    let (spent, reserved): (Vec<Decimal>, Vec<Decimal>) = (get(row, first)?, get(row, first + 1)?);
    let figures = |(spent, reserved)| LineTotals { spent, reserved };
    Ok(spent.into_iter().zip(reserved).map(figures).collect())
}

/// Converts a position that starts at 1 into one that starts at 0.
fn position(position: i32) -> Result<usize, StoreError> {
    let position = usize::try_from(position).ok();
    let position = position.and_then(|position| position.checked_sub(1));
    position.ok_or_else(|| StoreError::Unreadable("invalid position of a budget".to_owned()))
}

fn superseded_error(outcome: &str) -> StoreError {
    StoreError::Refused(format!("connection superseded by a newer one: {outcome}"))
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn millis(span: Duration) -> i64 {
    // A century: anything longer exceeds the range of timestamps.
    const MOST: u128 = 100 * 365 * 86_400_000;
    i64::try_from(span.as_millis().min(MOST)).unwrap_or(i64::MAX)
}
