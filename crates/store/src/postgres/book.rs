//! The book of budgets that replicas share, in PostgreSQL: its questions, each one call of a
//! function of the database and one round trip. The tables lose what a crash of the server loses;
//! whoever keeps the connection notices that by the epoch. What follows from an answer is the
//! caller's.

use std::sync::Arc;
use std::time::Duration;

use llm_router_domain::budget::replica::rounded_up;
use llm_router_domain::budget::shared::{Change, Claim, Claimed, Figures, News, Standing};
use rust_decimal::Decimal;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, Row, Statement};
use uuid::Uuid;

use super::tls::Address;
use super::{CONNECT, get, store_error};
use crate::error::StoreError;

/// The book, at its server. Its tables are the store's.
pub struct BudgetBook {
    config: Config,
    address: Address,
}

/// A connection to it. Clones are the same one; calls over it are answered in their order.
#[derive(Clone)]
pub struct BookConnection(Arc<Parts>);

struct Parts {
    client: Client,
    announce: Statement,
    claim: Statement,
    tell: Statement,
}

/// Who asks, and over which of its connections.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// The replica.
    pub replica: Uuid,
    /// The number of its connection: what comes late over an earlier one is void.
    pub connection: u64,
}

/// What the book says to a replica that says it is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Names this life of the book: another one means that everything was forgotten.
    pub epoch: String,
    /// How long ago that began.
    pub age: Duration,
    /// How many replicas there are.
    pub replicas: u32,
}

const ANNOUNCE: &str = "SELECT is_epoch, age_ms, replicas FROM budget_announce($1, $2, $3)";

const CLAIM: &str = "SELECT outcome, at_line, line_spent, line_reserved \
                     FROM budget_claim($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

const TELL: &str = "SELECT line_known, line_spent, line_reserved \
                    FROM budget_tell($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

/// How long the server may work at a call: nobody waits for the answer any more.
const STATEMENT: Duration = Duration::from_secs(2);

impl BudgetBook {
    /// The book at a `postgresql://` address. It isn't connected to yet.
    ///
    /// # Errors
    /// When it is no address.
    pub fn new(url: &str) -> Result<Self, StoreError> {
        let (config, address) = super::configured(url)?;
        Ok(Self { config, address })
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// When that can't be done within a few seconds.
    pub async fn connect(&self) -> Result<BookConnection, StoreError> {
        super::bounded(CONNECT, self.open()).await
    }

    async fn open(&self) -> Result<BookConnection, StoreError> {
        let connected = self.config.connect(self.address.connector()?).await;
        let (client, connection) = connected.map_err(|error| store_error(&error))?;
        // It ends when the last clone of the client is gone, or with an error that the next call
        // gets, too.
        tokio::spawn(connection);
        let limit = format!("SET statement_timeout = {}", STATEMENT.as_millis());
        let limited = client.batch_execute(&limit).await;
        limited.map_err(|error| store_error(&error))?;
        let prepared = async |sql| {
            let statement = client.prepare(sql).await;
            statement.map_err(|error| store_error(&error))
        };
        Ok(BookConnection(Arc::new(Parts {
            announce: prepared(ANNOUNCE).await?,
            claim: prepared(CLAIM).await?,
            tell: prepared(TELL).await?,
            client,
        })))
    }
}

impl BookConnection {
    /// Says that a replica is there, and counts for so long; zero says that it leaves.
    ///
    /// # Errors
    /// When the server doesn't answer or refuses.
    pub async fn announce(&self, asker: Asker, counts: Duration) -> Result<Present, StoreError> {
        let values: [&(dyn ToSql + Sync); 3] =
            [&asker.replica, &number(asker.connection), &millis(counts)];
        let row = self.ask(&self.0.announce, &values).await?;
        let (age, replicas): (i64, i64) = (get(&row, 1)?, get(&row, 2)?);
        Ok(Present {
            epoch: get(&row, 0)?,
            age: Duration::from_millis(age.try_into().unwrap_or_default()),
            replicas: replicas.try_into().unwrap_or(u32::MAX),
        })
    }

    /// Holds an amount on every line, or on none.
    ///
    /// # Errors
    /// When the server doesn't answer. It may hold the amount all the same, so it should be told
    /// what became of it.
    pub async fn claim(&self, asker: Asker, claim: &Claim) -> Result<Claimed, StoreError> {
        let names: Vec<&str> = claim.lines.iter().map(|line| &*line.name).collect();
        let ceilings: Vec<Decimal> = claim.lines.iter().map(|line| line.ceiling).collect();
        let own: Vec<Decimal> = claim
            .lines
            .iter()
            .map(|line| rounded_up(line.spent))
            .collect();
        let values: [&(dyn ToSql + Sync); 10] = [
            &asker.replica,
            &number(asker.connection),
            &i64::from(claim.run),
            &claim.id,
            &claim.instead,
            &rounded_up(claim.amount),
            &millis(claim.lasts),
            &names,
            &ceilings,
            &own,
        ];
        let row = self.ask(&self.0.claim, &values).await?;
        match get(&row, 0)? {
            "unknown" => Ok(Claimed::Unknown),
            "held" => Ok(Claimed::Held(figures(&row, 2)?)),
            "full" => Ok(Claimed::Exceeded {
                position: position(get(&row, 1)?)?,
                figures: figures(&row, 2)?,
            }),
            outcome => Err(superseded(outcome)),
        }
    }

    /// Tells what was spent, and what becomes of a reservation. Telling it again changes nothing.
    ///
    /// # Errors
    /// When the server doesn't answer. It may have heard all the same.
    pub async fn tell(&self, asker: Asker, news: &News) -> Result<Vec<Standing>, StoreError> {
        let (change, id, amount, lasts) = match news.change {
            Change::None => ("none", None, Decimal::ZERO, Duration::ZERO),
            Change::Release(id) => ("release", Some(id), Decimal::ZERO, Duration::ZERO),
            Change::Hold { id, amount, lasts } => ("hold", Some(id), amount, lasts),
        };
        let names: Vec<&str> = news.lines.iter().map(|line| &*line.name).collect();
        let whole: Vec<bool> = news.lines.iter().map(|line| line.whole).collect();
        let told = (1_i32..).zip(&news.lines);
        let told = told.flat_map(|(at, line)| line.spent.iter().map(move |spent| (at, spent)));
        let (mut lines, mut runs, mut amounts) = (Vec::new(), Vec::new(), Vec::new());
        for (at, (run, spent)) in told {
            lines.push(at);
            runs.push(i64::from(*run));
            amounts.push(rounded_up(*spent));
        }
        let values: [&(dyn ToSql + Sync); 11] = [
            &asker.replica,
            &number(asker.connection),
            &change,
            &id,
            &rounded_up(amount),
            &millis(lasts),
            &names,
            &whole,
            &lines,
            &runs,
            &amounts,
        ];
        let row = self.ask(&self.0.tell, &values).await?;
        let known: Option<Vec<bool>> = get(&row, 0)?;
        let known = known.ok_or_else(|| superseded("void"))?;
        let standing = |(known, figures)| Standing { known, figures };
        Ok(known
            .into_iter()
            .zip(figures(&row, 1)?)
            .map(standing)
            .collect())
    }

    async fn ask(
        &self,
        statement: &Statement,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Row, StoreError> {
        let answer = self.0.client.query_one(statement, values).await;
        answer.map_err(|error| store_error(&error))
    }
}

/// Amounts of two columns, a line each.
fn figures(row: &Row, first: usize) -> Result<Vec<Figures>, StoreError> {
    let (spent, reserved): (Vec<Decimal>, Vec<Decimal>) = (get(row, first)?, get(row, first + 1)?);
    let figures = |(spent, reserved)| Figures { spent, reserved };
    Ok(spent.into_iter().zip(reserved).map(figures).collect())
}

/// A position that begins with 0, of one that begins with 1.
fn position(position: i32) -> Result<usize, StoreError> {
    let position = usize::try_from(position).ok();
    let position = position.and_then(|position| position.checked_sub(1));
    position.ok_or_else(|| StoreError::Unreadable("no position of a budget".to_owned()))
}

fn superseded(outcome: &str) -> StoreError {
    StoreError::Refused(format!("this connection has been given up: {outcome}"))
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn millis(span: Duration) -> i64 {
    // A century: what is longer would be no timestamp.
    const MOST: u128 = 100 * 365 * 86_400_000;
    i64::try_from(span.as_millis().min(MOST)).unwrap_or(i64::MAX)
}
