//! `migrate` and `ledger verify`: the store without the service.

use std::env;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use llm_router_config::{Config, Environment};
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

fn load(config: Option<PathBuf>) -> Result<Config, Failure> {
    let environment = Environment::read(&env::current_dir()?);
    let loaded = llm_router_config::load(config.as_deref(), &environment);
    Ok(loaded.map_err(LoadError::Config)?.config)
}

fn print(found: &Verification) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (name, count) in [
        ("journalled", found.journalled),
        ("stored", found.stored),
        ("pending", found.pending.len()),
        ("open", found.open),
        ("altered", found.altered.len()),
        ("contradictory", found.contradictory.len()),
        ("damaged", found.damaged),
        ("newer_version", found.newer),
        ("sums that differ", found.sums.len()),
    ] {
        writeln!(out, "{name}: {count}")?;
    }
    for id in &found.altered {
        writeln!(out, "entry {id} is stored otherwise than journalled")?;
    }
    for id in &found.contradictory {
        writeln!(out, "entry {id} is journalled twice with different content")?;
    }
    for sum in &found.sums {
        let (expected, found) = (&sum.expected, &sum.found);
        writeln!(out, "{}: entries {expected:?}, sum {found:?}", sum.place)?;
    }
    let verdict = if found.agrees() {
        "the ledger agrees"
    } else {
        "the ledger does not agree"
    };
    writeln!(out, "{verdict}")
}
