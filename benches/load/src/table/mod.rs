//! The bench table: floor, router and further proxies under the same load in one run, measured
//! in turn so that what disturbs the machine disturbs all of them.

mod measure;
mod render;
mod row;

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Args;
use serde::Serialize;

use self::measure::{Measure, MeasureEffort};
use self::render::{TableLine, TableSamples};
use crate::bed::{Cpus, Proxy, ProxyKind, ProxyUnderTest, TestBed};
use crate::{output, proc, to_its_end};

/// Options of `table`.
#[derive(Args, Debug)]
pub(crate) struct TableOptions {
    #[command(flatten)]
    subject: ProxyUnderTest,
    /// Further proxy: NAME=COMMAND with {listen} and {upstream}, or NAME=URL,PID of a running
    /// one that passes on to the upstream at --upstream-at; may be repeated
    #[arg(long, value_name = "NAME=…")]
    also: Vec<String>,
    /// Measure the router without its ledger too
    #[arg(long, requires = "router")]
    unbilled: bool,
    /// Measure nginx too
    #[arg(long, value_name = "BINARY", num_args = 0..=1, default_missing_value = "/usr/sbin/nginx")]
    nginx: Option<PathBuf>,
    /// Address of the upstream; a free port by default
    #[arg(long, value_name = "HOST:PORT")]
    upstream_at: Option<std::net::SocketAddr>,
    /// Rounds; in each, every proxy is started anew and measured with everything
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Streams held open to see their memory
    #[arg(long, default_value_t = 1000)]
    held: usize,
    /// CPU of the proxies
    #[arg(long)]
    proxy_cpu: Option<usize>,
    /// CPU of upstream and load generator
    #[arg(long)]
    load_cpu: Option<usize>,
    /// Three short rounds: a first look, too coarse to judge by
    #[arg(long)]
    quick: bool,
    /// Write all samples to this file as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures and prints.
///
/// # Errors
/// Returns an error if a proxy doesn't start or fails a request.
pub(crate) fn run(options: &TableOptions) -> anyhow::Result<()> {
    to_its_end(table(options))
}

async fn table(options: &TableOptions) -> anyhow::Result<()> {
    let load = proc::load_average();
    let kinds = options.kinds()?;
    let names: Vec<String> = kinds.iter().map(|(name, _)| name.clone()).collect();
    let bed = TestBed::start(options.cpus(), options.upstream_at, false).await?;
    let mut samples = TableSamples::default();
    for round in 0..options.rounds() {
        output::remark(&format!("round {} of {}", round + 1, options.rounds()));
        one_round(&bed, &kinds, options.effort(), round, &mut samples).await?;
    }
    let lines = samples.lines(&names);
    output::result(&render::markdown(&lines, &names));
    output::result(&footnote(options, load));
    options.write(&lines, load)
}

/// Starts all proxies, measures each with each measurement, and ends them. The order of the
/// proxies turns round from round to round, and from pass to pass.
async fn one_round(
    bed: &TestBed,
    kinds: &[(String, ProxyKind)],
    effort: MeasureEffort,
    round: usize,
    samples: &mut TableSamples,
) -> anyhow::Result<()> {
    let mut proxies: Vec<Proxy> = Vec::new();
    for (name, kind) in kinds {
        proxies.push(bed.proxy(name, kind).await?);
    }
    for measure in Measure::ALL {
        for pass in 0..measure.passes() {
            take_turns(&proxies, measure, effort, round + pass, samples).await?;
        }
    }
    Ok(())
}

async fn take_turns(
    proxies: &[Proxy],
    measure: Measure,
    effort: MeasureEffort,
    turn: usize,
    samples: &mut TableSamples,
) -> anyhow::Result<()> {
    for index in turns(proxies.len(), turn) {
        let Some(proxy) = proxies.get(index) else {
            continue;
        };
        let what = || format!("{measure:?} of {}", proxy.name);
        for (row, value) in measure.run(proxy, effort).await.with_context(what)? {
            samples.add(row, index, value);
        }
    }
    Ok(())
}

/// The proxies' numbers, forwards in even turns and backwards in odd ones.
fn turns(count: usize, turn: usize) -> Vec<usize> {
    let forwards = 0..count;
    if turn.is_multiple_of(2) {
        forwards.collect()
    } else {
        forwards.rev().collect()
    }
}

fn footnote(options: &TableOptions, load: Option<f64>) -> String {
    let MeasureEffort { time, held } = options.effort();
    let load = load.map_or("unknown".to_owned(), |load| format!("{load:.2}"));
    format!(
        "\nMedians of {} rounds of {:.1} s; compared: router ÷ floor or router − floor, taken round \
         by round.\n{held} streams held open. Load average at the start: {load} (above 0.5: not \
         quiet, measure again).",
        options.rounds(),
        time.as_secs_f64(),
    )
}

impl TableOptions {
    fn rounds(&self) -> usize {
        if self.quick { 3 } else { self.rounds }
    }

    fn effort(&self) -> MeasureEffort {
        let seconds = if self.quick { 0.5 } else { self.seconds };
        let held = if self.quick {
            self.held.min(200)
        } else {
            self.held
        };
        MeasureEffort {
            time: Duration::from_secs_f64(seconds),
            held,
        }
    }

    fn cpus(&self) -> Cpus {
        let usual = Cpus::default_here();
        Cpus {
            proxy: self.proxy_cpu.or(usual.proxy),
            load: self.load_cpu.or(usual.load),
        }
    }

    /// All proxies by name: the floor, the router, the others.
    fn kinds(&self) -> anyhow::Result<Vec<(String, ProxyKind)>> {
        let mut kinds = vec![
            ("floor".to_owned(), ProxyKind::Floor),
            ("router".to_owned(), self.subject.kind()),
        ];
        let unbilled = self.subject.router.clone().filter(|_| self.unbilled);
        kinds.extend(
            unbilled.map(|path| ("without ledger".to_owned(), ProxyKind::RouterUnbilled(path))),
        );
        kinds.extend(
            self.nginx
                .clone()
                .map(|path| ("nginx".to_owned(), ProxyKind::Nginx(path))),
        );
        for also in &self.also {
            kinds.push(other(also)?);
        }
        Ok(kinds)
    }

    fn write(&self, lines: &[TableLine], load_average: Option<f64>) -> anyhow::Result<()> {
        let Some(path) = &self.json else {
            return Ok(());
        };
        let report = TableReport {
            rounds: self.rounds(),
            load_average,
            lines,
        };
        fs::write(path, serde_json::to_vec_pretty(&report)?)
            .with_context(|| path.display().to_string())
    }
}

#[derive(Serialize)]
struct TableReport<'a> {
    rounds: usize,
    load_average: Option<f64>,
    lines: &'a [TableLine],
}

fn other(text: &str) -> anyhow::Result<(String, ProxyKind)> {
    let (name, what) = text
        .split_once('=')
        .with_context(|| format!("{text}: no NAME="))?;
    if what.contains("{listen}") {
        return Ok((name.to_owned(), ProxyKind::Command(what.to_owned())));
    }
    let (url, pid) = what
        .rsplit_once(',')
        .with_context(|| format!("{text}: no URL,PID"))?;
    let pid = pid
        .trim()
        .parse()
        .with_context(|| format!("{text}: {pid} is no process id"))?;
    ensure!(
        url.starts_with("http://"),
        "{text}: {url} is no http:// URL"
    );
    Ok((name.to_owned(), ProxyKind::Running(url.to_owned(), pid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_second_turn_goes_backwards() {
        assert_eq!(turns(3, 0), [0, 1, 2]);
        assert_eq!(turns(3, 1), [2, 1, 0]);
    }

    #[test]
    fn further_proxies() {
        let (name, kind) = other("envoy=envoy --listen {listen} --to {upstream}").unwrap();
        assert!(name == "envoy" && matches!(kind, ProxyKind::Command(_)));
        let (_, kind) = other("x=http://127.0.0.1:1/v1/chat/completions,42").unwrap();
        assert!(matches!(kind, ProxyKind::Running(url, 42) if url.ends_with("completions")));
        for wrong in ["x", "x=http://127.0.0.1:1/", "x=ftp://y,1", "x=http://y,z"] {
            assert!(other(wrong).is_err(), "{wrong}");
        }
    }
}
