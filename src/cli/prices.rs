//! `prices list`, `diff` and `update`: the price table without the service. It reads files only; none
//! of it needs a network.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Subcommand;
use jiff::civil::Date;
use llm_router_config::{Config, Environment};
use llm_router_domain::ledger;
use llm_router_domain::pattern::Pattern;
use llm_router_domain::price::{Price, PricePeriod, PriceTable, Rates};
use llm_router_domain::usage::Class;
use llm_router_prices::{ImportedPrice, ImportedPrices, RatePlace};

use crate::cli::{Failure, Outcome};
use crate::clock;
use crate::snapshot::prices;
use crate::sync::reload::LoadError;

#[derive(Subcommand)]
pub(crate) enum PricesCommand {
    /// Print the prices that hold today: the built-in ones with the configuration's file over them.
    List {
        /// The configuration; found as by serve.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Only names that match; * stands for any text, as in "openai/gpt-6*".
        #[arg(value_name = "PATTERN", default_value = "*")]
        pattern: String,
    },
    /// Compare the prices with LiteLLM's map or the data of genai-prices; exit 1 if they differ.
    Diff {
        /// LiteLLM's model_prices_and_context_window.json, or the data.json of genai-prices.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// The configuration; found as by serve.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Only names that match; * stands for any text.
        #[arg(value_name = "PATTERN", default_value = "*")]
        pattern: String,
    },
    /// Write what differs for the models of the configuration into its own prices file, from today
    /// on. Prices that you wrote yourself stay as they are.
    Update {
        /// LiteLLM's model_prices_and_context_window.json, or the data.json of genai-prices.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// The configuration; found as by serve. Its `prices` names the file to write.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Take these models instead of those that the configuration names; * stands for any text.
        #[arg(long, value_name = "PATTERN")]
        models: Option<String>,
        /// Print what would be written.
        #[arg(long)]
        dry_run: bool,
    },
}

/// `prices`
pub(crate) fn prices(command: PricesCommand) -> Outcome {
    let today = ledger::day(clock::timestamp());
    match command {
        PricesCommand::List { config, pattern } => {
            let (_, table) = load(config)?;
            list(&table, &Pattern::new(&pattern), today)
        }
        PricesCommand::Diff {
            from,
            config,
            pattern,
        } => {
            let (_, table) = load(config)?;
            diff(
                &table,
                &read_map(&from, today)?,
                &Pattern::new(&pattern),
                today,
            )
        }
        PricesCommand::Update {
            from,
            config,
            models,
            dry_run,
        } => {
            let (config, table) = load(config)?;
            let map = read_map(&from, today)?;
            let Some(file) = &config.prices else {
                return Err(Failure::Usage(
                    "the configuration names no prices file: add `prices: prices.yaml` to it"
                        .into(),
                ));
            };
            let wanted = |name: &str| match &models {
                Some(pattern) => Pattern::new(pattern).matches(name),
                None => is_configured(&config, &table, name),
            };
            update(&table, &map, &wanted, file, today, dry_run)
        }
    }
}

fn load(config: Option<PathBuf>) -> Result<(Config, PriceTable), Failure> {
    let environment = Environment::read(&env::current_dir()?);
    let loaded = llm_router_config::load(config.as_deref(), &environment);
    let config = loaded.map_err(LoadError::Config)?.config;
    let table = prices::table(config.prices.as_deref()).map_err(LoadError::Config)?;
    Ok((config, table))
}

fn read_map(file: &Path, today: Date) -> Result<ImportedPrices, Failure> {
    let text = fs::read_to_string(file)
        .map_err(|error| Failure::Usage(format!("failed to read {}: {error}", file.display())))?;
    llm_router_prices::import(&text, today)
        .map_err(|problem| Failure::Usage(format!("{}: {problem}", file.display())))
}

fn list(table: &PriceTable, pattern: &Pattern, today: Date) -> Outcome {
    let mut out = io::stdout().lock();
    let mut names: Vec<(&str, &Arc<Price>)> = table.iter().collect();
    names.sort_by_key(|(name, _)| *name);
    for (name, price) in names.into_iter().filter(|(name, _)| pattern.matches(name)) {
        if let Some(period) = price.on(today) {
            let line = llm_router_prices::write_period(period);
            // A reader that has seen enough, as `head` has, ends the list.
            if writeln!(out, "{name}: {line}").is_err() {
                break;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn diff(table: &PriceTable, map: &ImportedPrices, pattern: &Pattern, today: Date) -> Outcome {
    let mut out = io::stdout().lock();
    let (mut same, mut different, mut unknown) = (0, 0, 0);
    let matching = map
        .prices
        .iter()
        .filter(|theirs| pattern.matches(&theirs.name));
    for theirs in matching {
        let Some(ours) = find(table, &theirs.name).and_then(|price| price.on(today)) else {
            unknown += 1;
            continue;
        };
        let changes = changed_rates(ours, theirs);
        if changes.is_empty() {
            same += 1;
        } else {
            different += 1;
        }
        for (place, ours, usd) in changes {
            let ours = ours.map_or_else(|| "none".to_owned(), |rate| rate.to_string());
            let place = place_text(&place);
            writeln!(out, "{} {place}: {ours} here, {usd} there", theirs.name)?;
        }
    }
    writeln!(
        out,
        "{same} models as in {}, {different} differ, {unknown} have no price here",
        map.source
    )?;
    Ok(if different == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

type Change = (
    RatePlace,
    Option<rust_decimal::Decimal>,
    rust_decimal::Decimal,
);

/// The rates of the map that the period has not, or not so. Rates of a tier that the period doesn't
/// have count too.
fn changed_rates(ours: &PricePeriod, theirs: &ImportedPrice) -> Vec<Change> {
    let changes = theirs.rates.iter().filter_map(|(place, usd)| {
        let (tier, above, class) = *place;
        let input = if above == 0 { 0 } else { above + 1 };
        let rates = ours.rates(tier, input);
        let rate = rates.and_then(|rates| rate_of(rates, class));
        (rate != Some(usd.usd())).then(|| (*place, rate, usd.usd()))
    });
    changes.collect()
}

fn rate_of(rates: &Rates, class: Class) -> Option<rust_decimal::Decimal> {
    rates.exact_rate(class).map(|rate| rate.usd())
}

fn place_text((tier, above, class): &RatePlace) -> String {
    let mut text = class.name().to_owned();
    if !tier.is_standard() {
        text = format!("{text}, tier {}", tier.name());
    }
    if *above > 0 {
        text = format!("{text}, above {above}");
    }
    text
}

fn find<'t>(table: &'t PriceTable, name: &str) -> Option<&'t Arc<Price>> {
    let (provider, model) = name.split_once('/')?;
    table.find(provider, provider, model)
}

/// Returns true if a deployment, a provider's list of models or the prices file leads to the entry.
fn is_configured(config: &Config, table: &PriceTable, name: &str) -> bool {
    let deployed = config.models.iter().flat_map(|model| &model.deployments);
    let deployed = deployed.filter_map(|deployment| {
        let provider = config.providers.get(deployment.provider)?;
        Some((provider, deployment.model.as_str()))
    });
    let listed = config.providers.iter().flat_map(|provider| {
        let patterns = provider.models.patterns().iter();
        let literal = patterns.filter(|pattern| pattern.is_literal());
        literal.map(move |pattern| (provider, pattern.as_str()))
    });
    let entry = |price: &Arc<Price>| Arc::clone(price.entry());
    let ours = find(table, name).map(entry);
    deployed.chain(listed).any(|(provider, model)| {
        let kind = provider.kind.price_type();
        let direct = [&provider.id, kind].map(|of| format!("{of}/{model}"));
        let found = table.find(&provider.id, kind, model).map(entry);
        direct
            .iter()
            .any(|direct| direct.eq_ignore_ascii_case(name))
            || ours.is_some() && found == ours
    })
}

/// Entries that `update` has written before say so by their source.
const SOURCES: [&str; 2] = ["litellm", "genai-prices"];

fn update(
    table: &PriceTable,
    map: &ImportedPrices,
    wanted: &dyn Fn(&str) -> bool,
    file: &Path,
    today: Date,
    dry_run: bool,
) -> Outcome {
    let text = fs::read_to_string(file)?;
    let own = llm_router_prices::read(&text).map_err(|errors| {
        let first = errors.first().map(ToString::to_string).unwrap_or_default();
        Failure::Usage(format!("{}:{first}", file.display()))
    })?;
    let mut out = io::stdout().lock();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let (mut written, mut kept) = (BTreeSet::new(), 0);
    for theirs in map.prices.iter().filter(|theirs| wanted(&theirs.name)) {
        let ours = find(table, &theirs.name);
        let current = ours.and_then(|price| price.on(today));
        let is_changed = current.is_none_or(|ours| !changed_rates(ours, theirs).is_empty());
        let name = ours.map_or(theirs.name.as_str(), |price| price.entry());
        if !is_changed || written.contains(name) {
            continue;
        }
        let written_before = own.get(name).map(|price| is_imported(price));
        if written_before == Some(false) {
            kept += 1;
            writeln!(out, "{name}: your own price differs and stays")?;
            continue;
        }
        let period = new_period(current, theirs, map.source, today);
        // A new entry takes the place of the built-in one, with what held before and will hold.
        let others = ours.filter(|_| written_before.is_none());
        let others = others.map(|price| other_periods(price, today));
        let others = others.unwrap_or_default();
        put_entry(&mut lines, name, &period, &others, today);
        writeln!(out, "{name}: {period}")?;
        written.insert(name.to_owned());
    }
    writeln!(
        out,
        "{} {}: {}; your own that differ and stay: {kept}",
        if dry_run {
            "to be written to"
        } else {
            "written to"
        },
        file.display(),
        written.len()
    )?;
    if !dry_run && !written.is_empty() {
        write_checked(file, &(lines.join("\n") + "\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn is_imported(price: &Price) -> bool {
    let mut sources = price.periods().iter().flat_map(|period| &period.source);
    sources.any(|source| SOURCES.contains(&source.as_str()))
}

/// The line of a period with the rates of the map. What the map doesn't say stays as it is: fees,
/// factors, hours.
fn new_period(
    current: Option<&PricePeriod>,
    theirs: &ImportedPrice,
    source: &str,
    today: Date,
) -> String {
    let empty = llm_router_domain::price::PeriodSpec::new(today, Rates::default());
    let mut period = current.cloned().unwrap_or_else(|| empty.into());
    period.from = today;
    period.checked = Some(today);
    period.source = vec![source.to_owned()];
    let rates = theirs.rates.iter();
    let rates = rates.map(|((tier, above, class), usd)| (*tier, *above, *class, *usd));
    llm_router_prices::write_period(&period.with_rates(rates))
}

/// The lines of a price's periods but for one that begins today.
fn other_periods(price: &Price, today: Date) -> Vec<String> {
    let periods = price.periods().iter();
    let others = periods.filter(|period| period.from != today);
    others.map(llm_router_prices::write_period).collect()
}

/// Adds a period to the entry of a name, or the entry with its other periods at the end.
fn put_entry(lines: &mut Vec<String>, name: &str, period: &str, others: &[String], today: Date) {
    let key = entry_key(name);
    let is_key = |line: &String| {
        let line = line.trim_end();
        line == format!("{key}:") || line == format!("{name}:")
    };
    let Some(start) = lines.iter().position(is_key) else {
        lines.push(format!("{key}:"));
        lines.extend(others.iter().map(|other| format!("  - {other}")));
        lines.push(format!("  - {period}"));
        return;
    };
    let rest = lines.iter().skip(start + 1);
    let length = rest.take_while(|line| line.starts_with([' ', '-'])).count();
    let end = start + 1 + length;
    let begun_today = format!("  - {{ from: {today},");
    let same_day = (start + 1..end).find(|at| {
        let line = lines.get(*at);
        line.is_some_and(|line| line.starts_with(&begun_today))
    });
    match same_day.and_then(|at| lines.get_mut(at)) {
        Some(line) => *line = format!("  - {period}"),
        None => lines.insert(end, format!("  - {period}")),
    }
}

fn entry_key(name: &str) -> String {
    let is_plain = !name.contains([':', '@', ' ', '*', '#']);
    if is_plain {
        name.to_owned()
    } else {
        format!("\"{name}\"")
    }
}

/// Replaces the file at once, if the new text is a valid one.
fn write_checked(file: &Path, text: &str) -> Result<(), Failure> {
    if let Err(errors) = llm_router_prices::read(text) {
        let first = errors.first().map(ToString::to_string).unwrap_or_default();
        let message = format!("{} was left as it is: {first}", file.display());
        return Err(Failure::System(io::Error::other(message)));
    }
    let target = fs::canonicalize(file)?;
    let draft = target.with_extension("yaml.new");
    fs::write(&draft, text)?;
    fs::rename(&draft, &target)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use llm_router_domain::usage::ServiceTier;

    use super::*;

    const DAY: Date = jiff::civil::date(2026, 12, 1);

    fn map(text: &str) -> ImportedPrices {
        llm_router_prices::import(text, DAY).unwrap()
    }

    fn table(own: &str) -> PriceTable {
        llm_router_prices::with_built_in(own).unwrap()
    }

    const MAP: &str = r#"{
        "gpt-6-sol": { "litellm_provider": "openai", "input_cost_per_token": 1e-06,
            "output_cost_per_token": 1e-05, "input_cost_per_token_priority": 2e-06 },
        "gpt-4o": { "litellm_provider": "openai", "input_cost_per_token": 2.5e-06 },
        "gpt-new": { "litellm_provider": "openai", "input_cost_per_token": 3e-06 },
        "mine": { "litellm_provider": "openai", "input_cost_per_token": 4e-06 }
    }"#;

    #[test]
    fn differences_are_those_of_the_figures_in_the_map() {
        let table = table("");
        let map = map(MAP);
        let changes = |name: &str| -> Vec<String> {
            let theirs = map.prices.iter().find(|price| price.name == name).unwrap();
            let ours = find(&table, name).unwrap().on(DAY).unwrap();
            let changes = changed_rates(ours, theirs).into_iter();
            changes
                .map(|(place, ours, usd)| format!("{}: {ours:?} {usd}", place_text(&place)))
                .collect()
        };
        assert!(changes("openai/gpt-4o").is_empty());
        assert_eq!(
            changes("openai/gpt-6-sol"),
            ["input: Some(2) 1", "input, tier priority: Some(4) 2",]
        );
    }

    #[test]
    fn updates_write_what_differs_and_leave_own_prices_alone() {
        let folder = tempfile::TempDir::new().unwrap();
        let file = folder.path().join("prices.yaml");
        let own = "# mine\nopenai/mine: [{ from: 2026-01-01, input: 5 }]\n";
        fs::write(&file, own).unwrap();
        let run = |map: &ImportedPrices, day| {
            let text = fs::read_to_string(&file).unwrap();
            update(&table(&text), map, &|_| true, &file, day, false).unwrap();
            fs::read_to_string(&file).unwrap()
        };
        let text = run(&map(MAP), DAY);
        assert!(text.starts_with(own), "{text}");
        assert!(!text.contains("gpt-4o"), "{text}");
        let read = llm_router_prices::read(&text).unwrap();
        assert_eq!(read.len(), 3, "{text}");
        let sol = read.get("openai/gpt-6-sol").unwrap().on(DAY).unwrap();
        let input = |period: &PricePeriod, tier| {
            let rates = period.rates(tier, 0).unwrap();
            rates.own(Class::Input).unwrap().usd().to_string()
        };
        assert_eq!(input(sol, ServiceTier::STANDARD), "1");
        assert_eq!(input(sol, ServiceTier::PRIORITY), "2");
        // What held before holds for its days.
        let before = read.get("openai/gpt-6-sol").unwrap();
        let before = before.on(jiff::civil::date(2026, 11, 30)).unwrap();
        assert_eq!(input(before, ServiceTier::STANDARD), "2");
        // What the map doesn't say stays.
        let search = sol.list().fee(llm_router_domain::usage::Fee::WebSearch);
        assert_eq!(search.unwrap().usd().to_string(), "10");
        // Again on the same day nothing changes; later figures begin a period of their own.
        assert_eq!(run(&map(MAP), DAY), text);
        let later = jiff::civil::date(2026, 12, 9);
        let changed = MAP.replace("3e-06", "2e-06");
        let text = run(&map(&changed), later);
        let read = llm_router_prices::read(&text).unwrap();
        let price = read.get("openai/gpt-new").unwrap();
        assert_eq!(price.periods().len(), 2, "{text}");
        assert_eq!(input(price.on(DAY).unwrap(), ServiceTier::STANDARD), "3");
        assert_eq!(input(price.on(later).unwrap(), ServiceTier::STANDARD), "2");
    }
}
