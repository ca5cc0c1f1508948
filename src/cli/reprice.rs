//! `ledger reprice`: bills stored entries anew by the prices of today's files. It must not change
//! what was used.

use std::collections::HashMap;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use llm_router_config::{Config, PriceFrom};
use llm_router_domain::bill;
use llm_router_domain::ledger::{LedgerEntry, LedgerSums};
use llm_router_domain::price::{Cost, PriceTable};
use llm_router_store::Store;
use llm_router_store::ledger::{RepriceQuery, Repricing};
use llm_router_store::objects::AuditDraft;
use serde_json::json;

use crate::cli::ledger::{load, must_exist};
use crate::cli::{Failure, Outcome};
use crate::snapshot::prices;
use crate::sync::reload::LoadError;
use crate::{clock, ledger};

/// Entries that are read, and changed in one transaction.
const BATCH: u32 = 2_000;

/// Arguments of `ledger reprice`.
#[derive(Debug, Args)]
pub(crate) struct RepriceArguments {
    /// The first day (UTC).
    #[arg(long, value_name = "DAY")]
    from: Date,
    /// The last day (UTC), included.
    #[arg(long, value_name = "DAY")]
    to: Date,
    /// Only attempts at this model of a provider.
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Only attempts at this provider.
    #[arg(long, value_name = "ID")]
    provider: Option<String>,
    /// Only attempts of this key.
    #[arg(long, value_name = "NAME")]
    key: Option<String>,
    /// Show what would change, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// The reason, for the audit and beside each bill that is replaced.
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// The configuration; found as by serve.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Result of a run.
#[derive(Debug, Default)]
struct RepriceReport {
    read: usize,
    changed: usize,
    /// Left as they were, because they would have lost their price.
    kept: usize,
    before: LedgerSums,
    after: LedgerSums,
}

/// `ledger reprice`
pub(crate) fn reprice(arguments: RepriceArguments) -> Outcome {
    if arguments.reason.trim().is_empty() {
        return Err(io::Error::other("--reason must say why").into());
    }
    let mut config = load(arguments.config.clone())?;
    must_exist(&config.store.url)?;
    let table = prices::table(config.prices.as_deref()).map_err(LoadError::Config)?;
    let report = ledger::runtime()?.block_on(async {
        let store = ledger::open_store(&mut config.store)
            .await
            .map_err(LoadError::Ledger)?;
        run(store.as_ref(), &config, &table, &arguments).await
    })?;
    print(&report, arguments.dry_run)?;
    Ok(ExitCode::SUCCESS)
}

async fn run(
    store: &dyn Store,
    config: &Config,
    table: &PriceTable,
    arguments: &RepriceArguments,
) -> Result<RepriceReport, Failure> {
    let mut query = RepriceQuery {
        from: start_of(arguments.from)?,
        to: start_of(arguments.to.tomorrow().map_err(io::Error::other)?)?,
        key: arguments.key.clone(),
        provider: arguments.provider.clone(),
        model: arguments.model.clone(),
        after: None,
        limit: BATCH,
    };
    let at = clock::timestamp();
    let billing = Rebilling::new(config, table, at);
    let mut report = RepriceReport::default();
    loop {
        let entries = store
            .entries_to_reprice(&query)
            .await
            .map_err(io::Error::other)?;
        query.after = entries.last().map(|entry| entry.attempt.id);
        if entries.is_empty() {
            break;
        }
        report.read += entries.len();
        let changed = billing.changes(entries, &mut report);
        if arguments.dry_run {
            report.changed += changed.len();
            continue;
        }
        let repricing = Repricing {
            at,
            reason: arguments.reason.clone(),
            entries: changed,
        };
        report.changed += store.reprice(repricing).await.map_err(io::Error::other)?;
    }
    if !arguments.dry_run {
        let audit = audit(arguments, &report, at);
        store.record(audit).await.map_err(io::Error::other)?;
    }
    Ok(report)
}

/// Bills entries by a table.
struct Rebilling<'c> {
    table: &'c PriceTable,
    /// Type and preferred figure of each provider, by its id.
    providers: HashMap<&'c str, (&'c str, bool)>,
    at: Timestamp,
}

impl<'c> Rebilling<'c> {
    fn new(config: &'c Config, table: &'c PriceTable, at: Timestamp) -> Self {
        let providers = config.providers.iter().map(|provider| {
            let prefers_reported = provider.price_from == PriceFrom::Reported;
            (
                &*provider.id,
                (provider.kind.price_type(), prefers_reported),
            )
        });
        Self {
            table,
            providers: providers.collect(),
            at,
        }
    }

    /// Returns the entries whose bill changes, before and after. An entry isn't left without a
    /// price that it had.
    fn changes(
        &self,
        entries: Vec<LedgerEntry>,
        report: &mut RepriceReport,
    ) -> Vec<(LedgerEntry, LedgerEntry)> {
        let mut changed = Vec::new();
        for before in entries {
            report.before += before.sums();
            // A provider that the file no longer has is found by its id alone.
            let id = before.attempt.provider.clone();
            let known = self.providers.get(&*id).copied();
            let (price_type, prefers_reported) = known.unwrap_or((&id, false));
            let (cost, billing) = bill::reprice(&before, self.table, price_type, prefers_reported);
            if cost == Cost::Unpriced && before.outcome.cost != Cost::Unpriced {
                report.kept += 1;
                report.after += before.sums();
                continue;
            }
            let old = &before.outcome.billing;
            // Another revision of the table with the same figures changes no bill.
            let same = cost == before.outcome.cost && billing.inexact == old.inexact;
            if same && billing.costs == old.costs {
                report.after += before.sums();
                continue;
            }
            let mut after = before.clone();
            after.outcome.cost = cost;
            after.outcome.billing = billing;
            after.outcome.billing.repriced = Some(self.at);
            report.after += after.sums();
            changed.push((before, after));
        }
        changed
    }
}

fn start_of(day: Date) -> io::Result<Timestamp> {
    let start = day.to_zoned(TimeZone::UTC).map_err(io::Error::other)?;
    Ok(start.timestamp())
}

fn audit(arguments: &RepriceArguments, report: &RepriceReport, at: Timestamp) -> AuditDraft {
    let sums = |sums: &LedgerSums| {
        json!({
            "cost_usd": sums.cost.normalize().to_string(),
            "unpriced_requests": sums.unpriced_requests,
            "inexact_requests": sums.inexact_requests,
        })
    };
    let mut after = sums(&report.after);
    after["reason"] = arguments.reason.clone().into();
    after["entries"] = report.changed.into();
    after["model"] = arguments.model.clone().into();
    after["provider"] = arguments.provider.clone().into();
    after["key"] = arguments.key.clone().into();
    AuditDraft {
        at,
        actor: "shell".to_owned(),
        action: "reprice".to_owned(),
        kind: "ledger".to_owned(),
        object: format!("{} to {}", arguments.from, arguments.to),
        before: Some(sums(&report.before)),
        after: Some(after),
    }
}

fn print(report: &RepriceReport, dry_run: bool) -> io::Result<()> {
    let mut out = io::stdout().lock();
    let verb = if dry_run { "would change" } else { "changed" };
    writeln!(
        out,
        "entries: {} read, {} {verb}",
        report.read, report.changed
    )?;
    if report.kept > 0 {
        writeln!(
            out,
            "left as they were, because their model has no price now: {}",
            report.kept
        )?;
    }
    let (before, after) = (&report.before, &report.after);
    for (name, before, after) in [
        (
            "cost in USD",
            before.cost.normalize(),
            after.cost.normalize(),
        ),
        (
            "requests without a price",
            before.unpriced_requests.into(),
            after.unpriced_requests.into(),
        ),
        (
            "inexact requests",
            before.inexact_requests.into(),
            after.inexact_requests.into(),
        ),
    ] {
        writeln!(out, "{name}: {before} before, {after} after")?;
    }
    Ok(())
}
