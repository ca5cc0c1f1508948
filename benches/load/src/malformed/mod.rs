//! Malformed requests by the hundred thousand: each has to be refused in the caller's format or
//! closed, and to leave nothing behind.

mod case;
mod content;
mod framing;
mod judge;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::case::{KINDS, MalformedCase};
use self::judge::{CaseOutcome, CaseVerdict, probe};
use crate::bed::{Cpus, Proxy, ProxyUnderTest, TestBed};
use crate::drive::request::{self, Until};
use crate::payload::{self, MODEL};
use crate::proc::Memory;
use crate::{output, to_its_end};

/// Options of `malformed`.
#[derive(Args, Clone, Debug)]
pub(crate) struct MalformedOptions {
    #[command(flatten)]
    subject: ProxyUnderTest,
    /// Requests
    #[arg(long, default_value_t = 100_000)]
    requests: u64,
    /// Same seed, same requests
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Connections at once
    #[arg(long, default_value_t = 16)]
    connections: usize,
    /// A request without an answer for so many seconds hangs
    #[arg(long, default_value_t = 15)]
    deadline: u64,
    /// Only the request with this number, shown whole
    #[arg(long, value_name = "NUMBER")]
    only: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Sends them and reports; fails if one was not answered as it should be, or the proxy took harm.
///
/// # Errors
/// Returns an error if upstream or proxy don't start, or the proxy exits.
pub(crate) fn run(options: &MalformedOptions) -> anyhow::Result<ExitCode> {
    let report = to_its_end(async {
        let bed = TestBed::start(
            Cpus {
                proxy: None,
                load: None,
            },
            None,
            false,
        )
        .await?;
        let proxy = bed.proxy("router", &options.subject.kind()).await?;
        if let Some(number) = options.only {
            show(&proxy, options, number).await;
        }
        attack(&proxy, options).await
    })?;
    output::report(options.json, &report, &report.text())?;
    Ok(if report.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Examples kept of each kind and verdict.
const EXAMPLES: usize = 2;
/// The proxy's memory counts as settled after this time.
const SETTLE: Duration = Duration::from_secs(5);

#[derive(Debug, Serialize)]
struct MalformedReport {
    kinds: BTreeMap<&'static str, BTreeMap<CaseVerdict, u64>>,
    /// Examples of incorrect answers.
    examples: Vec<Example>,
    memory: [Reading; 3],
    /// Lines of the proxy's log that tell of a panic.
    panics: usize,
    /// Valid requests that failed afterwards.
    failed_after: u64,
}

#[derive(Debug, Serialize)]
struct Reading {
    when: &'static str,
    #[serde(flatten)]
    memory: Memory,
}

#[derive(Debug, Serialize)]
struct Example {
    number: u64,
    kind: &'static str,
    verdict: CaseVerdict,
    request: String,
    answer: String,
}

async fn attack(proxy: &Proxy, options: &MalformedOptions) -> anyhow::Result<MalformedReport> {
    let valid = proxy.target.post(&payload::chat(MODEL, 1024, None));
    request::run(
        &proxy.target,
        valid.clone(),
        options.connections,
        Until::Count(5_000),
    )
    .await;
    let before = proxy.memory()?;
    let tally = volley(proxy, options).await;
    let right_after = proxy.memory()?;
    sleep(SETTLE).await;
    let settled = proxy.memory()?;
    let after = request::run(&proxy.target, valid, 1, Until::Count(100)).await;
    Ok(MalformedReport {
        kinds: tally.kinds,
        examples: tally.examples,
        memory: [
            ("before", before),
            ("right after", right_after),
            ("5 s later", settled),
        ]
        .map(|(when, memory)| Reading { when, memory }),
        panics: proxy.log().matches("panicked at").count(),
        failed_after: after.errors,
    })
}

async fn volley(proxy: &Proxy, options: &MalformedOptions) -> MalformedTally {
    let next = Arc::new(AtomicU64::new(options.only.unwrap_or(0)));
    let end = options.only.map_or(options.requests, |number| number + 1);
    let mut workers = JoinSet::new();
    for _ in 0..options.connections {
        let (next, address, options) = (Arc::clone(&next), proxy.target.address, options.clone());
        workers.spawn(async move {
            let mut tally = MalformedTally::default();
            while let Some(number) = take(&next, end) {
                let (kind, case) = MalformedCase::number(options.seed, number);
                let deadline = Duration::from_secs(options.deadline);
                tally.add(number, kind, &case, probe(address, &case, deadline).await);
            }
            tally
        });
    }
    workers
        .join_all()
        .await
        .into_iter()
        .fold(MalformedTally::default(), MalformedTally::with)
}

fn take(next: &AtomicU64, end: u64) -> Option<u64> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    (number < end).then_some(number)
}

async fn show(proxy: &Proxy, options: &MalformedOptions, number: u64) {
    let (kind, case) = MalformedCase::number(options.seed, number);
    let text = case.bytes.escape_ascii().to_string();
    output::remark(&format!("{kind}, half closed: {}\n{text}", case.half_close));
    let outcome = probe(
        proxy.target.address,
        &case,
        Duration::from_secs(options.deadline),
    )
    .await;
    output::remark(&format!("{}: {}", outcome.verdict.name(), outcome.answer));
}

#[derive(Debug, Default)]
struct MalformedTally {
    kinds: BTreeMap<&'static str, BTreeMap<CaseVerdict, u64>>,
    examples: Vec<Example>,
}

impl MalformedTally {
    fn add(&mut self, number: u64, kind: &'static str, case: &MalformedCase, outcome: CaseOutcome) {
        let CaseOutcome { verdict, answer } = outcome;
        *self
            .kinds
            .entry(kind)
            .or_default()
            .entry(verdict)
            .or_default() += 1;
        if !verdict.is_good() {
            let request = shorten(&case.bytes);
            self.keep(Example {
                number,
                kind,
                verdict,
                request,
                answer,
            });
        }
    }

    fn keep(&mut self, example: Example) {
        let alike =
            |other: &&Example| (other.kind, other.verdict) == (example.kind, example.verdict);
        if self.examples.iter().filter(alike).count() < EXAMPLES {
            self.examples.push(example);
        }
    }

    fn with(mut self, other: Self) -> Self {
        for (kind, verdicts) in other.kinds {
            let counts = self.kinds.entry(kind).or_default();
            for (verdict, count) in verdicts {
                *counts.entry(verdict).or_default() += count;
            }
        }
        for example in other.examples {
            self.keep(example);
        }
        self
    }
}

fn shorten(bytes: &[u8]) -> String {
    let shown = bytes.get(..160).unwrap_or(bytes);
    let more = if bytes.len() > shown.len() { "…" } else { "" };
    format!("{}{more}", shown.escape_ascii())
}

impl MalformedReport {
    fn is_good(&self) -> bool {
        let verdicts = self.kinds.values().flat_map(BTreeMap::keys);
        verdicts.copied().all(CaseVerdict::is_good) && self.panics == 0 && self.failed_after == 0
    }

    fn count(&self, verdict: CaseVerdict) -> u64 {
        self.kinds
            .values()
            .filter_map(|counts| counts.get(&verdict))
            .sum()
    }

    fn text(&self) -> String {
        let seen: Vec<CaseVerdict> = CaseVerdict::ALL
            .into_iter()
            .filter(|&verdict| self.count(verdict) > 0)
            .collect();
        let mut head = vec!["malformed requests"];
        head.extend(seen.iter().map(|verdict| verdict.name()));
        let mut rows: Vec<Vec<String>> = KINDS
            .iter()
            .filter_map(|&(kind, _)| self.row(kind, &seen))
            .collect();
        rows.push(self.totals(&seen));
        let examples: Vec<String> = self.examples.iter().map(Example::text).collect();
        let memory: Vec<String> = self.memory.iter().map(Reading::text).collect();
        format!(
            "{}\n\n{}memory: {}\n{} panics logged; {} of 100 valid requests failed afterwards",
            output::table(&head, &rows),
            examples.concat(),
            memory.join(", "),
            self.panics,
            self.failed_after,
        )
    }

    fn row(&self, kind: &'static str, seen: &[CaseVerdict]) -> Option<Vec<String>> {
        let counts = self.kinds.get(kind)?;
        let count =
            |verdict: &CaseVerdict| counts.get(verdict).map_or(String::new(), u64::to_string);
        Some(
            [kind.to_owned()]
                .into_iter()
                .chain(seen.iter().map(count))
                .collect(),
        )
    }

    fn totals(&self, seen: &[CaseVerdict]) -> Vec<String> {
        let totals = seen.iter().map(|&verdict| self.count(verdict).to_string());
        ["all".to_owned()].into_iter().chain(totals).collect()
    }
}

impl Reading {
    fn text(&self) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let Memory { rss, pss } = self.memory;
        format!("{} {:.1} MiB (PSS {:.1})", self.when, mib(rss), mib(pss))
    }
}

impl Example {
    fn text(&self) -> String {
        let Self {
            number,
            kind,
            verdict,
            request,
            answer,
        } = self;
        format!(
            "#{number} {kind}: {}\n  sent {request}\n  got  {answer}\n\n",
            verdict.name()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(numbers: std::ops::Range<u64>) -> MalformedTally {
        let mut tally = MalformedTally::default();
        for number in numbers {
            let (kind, case) = MalformedCase::number(1, number);
            let verdict = if number % 2 == 0 {
                CaseVerdict::Hung
            } else {
                CaseVerdict::InFormat
            };
            tally.add(
                number,
                kind,
                &case,
                CaseOutcome {
                    verdict,
                    answer: "a".into(),
                },
            );
        }
        tally
    }

    #[test]
    fn tallies_add_up_and_keep_few_examples() {
        let all = tally(0..1000).with(tally(1000..2300));
        let count = |verdict| {
            all.kinds
                .values()
                .filter_map(|counts| counts.get(&verdict))
                .sum::<u64>()
        };
        assert_eq!(
            (count(CaseVerdict::Hung), count(CaseVerdict::InFormat)),
            (1150, 1150)
        );
        assert_eq!(all.examples.len(), KINDS.len() * EXAMPLES);
    }

    #[test]
    fn a_report_is_good_only_if_all_of_it_is() {
        let reading = || Reading {
            when: "then",
            memory: Memory::default(),
        };
        let report = |verdict, panics, failed_after| MalformedReport {
            kinds: BTreeMap::from([("wrong types", BTreeMap::from([(verdict, 1)]))]),
            examples: Vec::new(),
            memory: [reading(), reading(), reading()],
            panics,
            failed_after,
        };
        assert!(
            report(CaseVerdict::InFormat, 0, 0).is_good()
                && report(CaseVerdict::Closed, 0, 0).is_good()
        );
        assert!(
            !report(CaseVerdict::Hung, 0, 0).is_good()
                && !report(CaseVerdict::ServerError, 0, 0).is_good()
        );
        assert!(
            !report(CaseVerdict::InFormat, 1, 0).is_good()
                && !report(CaseVerdict::InFormat, 0, 1).is_good()
        );
        assert!(report(CaseVerdict::Hung, 0, 0).text().contains("HUNG"));
    }
}
