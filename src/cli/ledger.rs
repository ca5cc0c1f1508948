//! `migrate` and `ledger verify`: the store without the service.

use std::env;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use llm_router_config::{Config, Environment};
use llm_router_domain::ledger::LedgerSums;
use llm_router_store::StoreUrl;
use llm_router_store::journal;
use llm_router_store::verify::{Verification, verify as compare};
use secrecy::ExposeSecret as _;

use crate::cli::keys::{FirstKey, first_key};
use crate::cli::{Failure, Outcome};
use crate::ledger;
use crate::sync::reload::LoadError;

/// `migrate`
pub(crate) fn migrate(config: Option<PathBuf>) -> Outcome {
    let loaded = load(config.clone())?;
    let runtime = ledger::runtime()?;
    runtime
        .block_on(ledger::open_store(&loaded.store.url))
        .map_err(LoadError::Ledger)?;
    let url = &loaded.store.url;
    let mut out = io::stdout().lock();
    writeln!(out, "the tables of {url} are up to date")?;
    match first_key(config)? {
        FirstKey::NotNeeded => {}
        FirstKey::Made(key) => {
            let key = key.expose_secret();
            writeln!(out, "The first admin key, shown this once: {key}")?;
        }
        FirstKey::NoSalt => writeln!(
            out,
            "There is no admin key yet. Set ADMIN_API_KEY; or set API_KEY_SALT, by which stored keys \
             are recognised, to the output of `openssl rand -hex 32`, and migrate again for one."
        )?,
    }
    Ok(ExitCode::SUCCESS)
}

/// `ledger verify`
pub(crate) fn verify(config: Option<PathBuf>) -> Outcome {
    let config = load(config)?;
    must_exist(&config.store.url)?;
    let runtime = ledger::runtime()?;
    let found = runtime.block_on(async {
        let store = ledger::open_store(&config.store.url)
            .await
            .map_err(LoadError::Ledger)?;
        let journal = journal::inspect(&config.store.journal).map_err(io::Error::other)?;
        let found = compare(&journal, store.as_ref()).await;
        found.map_err(|error| Failure::System(io::Error::other(error)))
    })?;
    print(&found)?;
    Ok(if found.agrees() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Checks that a command which only reads doesn't make a store: an empty one in the wrong folder would
/// be taken for a router without keys or entries.
pub(crate) fn must_exist(url: &StoreUrl) -> Result<(), Failure> {
    match url {
        StoreUrl::Sqlite(file) if !file.exists() => Err(Failure::Usage(format!(
            "there is no store at {url}: run this in the router's folder, or name its configuration \
             with --config"
        ))),
        _ => Ok(()),
    }
}

pub(crate) fn load(config: Option<PathBuf>) -> Result<Config, Failure> {
    let environment = Environment::read(&env::current_dir()?);
    let loaded = llm_router_config::load(config.as_deref(), &environment);
    Ok(loaded.map_err(LoadError::Config)?.config)
}

fn print(found: &Verification) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (name, count, differs) in [
        ("journalled", found.journalled, false),
        ("stored", found.stored, false),
        ("pending", found.pending.len(), false),
        ("open", found.open, false),
        ("altered", found.altered.len(), true),
        ("contradictory", found.contradictory.len(), true),
        ("damaged", found.damaged, true),
        ("newer version", found.newer, false),
        ("sums that differ", found.sums.len(), true),
    ] {
        let mark = if differs && count > 0 {
            "  differs"
        } else {
            ""
        };
        writeln!(out, "{name:<18}{count:>12}{mark}")?;
    }
    for id in &found.altered {
        writeln!(out, "entry {id} is stored otherwise than journalled")?;
    }
    for id in &found.contradictory {
        writeln!(out, "entry {id} is journalled twice with different content")?;
    }
    if !found.sums.is_empty() {
        writeln!(
            out,
            "{:<40} {:<14} {:>20} {:>20}",
            "sum", "", "of entries", "kept"
        )?;
    }
    for sum in &found.sums {
        for (name, expected, kept) in differing(sum.expected.as_ref(), sum.found.as_ref()) {
            writeln!(
                out,
                "{:<40} {name:<14} {expected:>20} {kept:>20}",
                sum.place
            )?;
        }
    }
    let differences =
        found.altered.len() + found.contradictory.len() + found.damaged + found.sums.len();
    if found.agrees() {
        writeln!(
            out,
            "the ledger agrees: {} entries, 0 differences",
            found.stored
        )
    } else {
        writeln!(out, "the ledger does not agree: {differences} differences")
    }
}

/// Returns the numbers in which two sums differ: name, of the entries, kept. A sum that isn't there has
/// `none` for each.
fn differing(
    entries: Option<&LedgerSums>,
    kept: Option<&LedgerSums>,
) -> Vec<(&'static str, String, String)> {
    type Number = fn(&LedgerSums) -> String;
    let numbers: [(&str, Number); 9] = [
        ("requests", |sums| sums.requests.to_string()),
        ("input", |sums| sums.input_tokens.to_string()),
        ("cached input", |sums| sums.cached_input_tokens.to_string()),
        ("cache writes", |sums| sums.cache_write_tokens.to_string()),
        ("output", |sums| sums.output_tokens.to_string()),
        ("reasoning", |sums| sums.reasoning_tokens.to_string()),
        ("cost in USD", |sums| sums.cost.normalize().to_string()),
        ("unpriced", |sums| sums.unpriced_requests.to_string()),
        ("estimated", |sums| sums.estimated_requests.to_string()),
    ];
    let text =
        |sums: Option<&LedgerSums>, number: Number| sums.map_or_else(|| "none".to_owned(), number);
    let each = numbers.map(|(name, number)| (name, text(entries, number), text(kept, number)));
    each.into_iter()
        .filter(|(_, entries, kept)| entries != kept)
        .collect()
}
