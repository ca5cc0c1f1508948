//! The access log: one line a request, as JSON or text. Lines are gathered in memory and written
//! by one thread, so that no request waits for the log; a crash loses at most the last interval.

use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use llm_router_domain::ledger::LedgerSums;
use llm_router_domain::refusal::RequestOutcome;
use serde::Serialize;
use serde_json::value::RawValue;
use tracing::Level;

use crate::clock;

/// One request as logged. Never holds message content, keys or credentials.
#[derive(Serialize)]
pub(crate) struct AccessLine<'a> {
    pub(crate) timestamp: String,
    pub(crate) level: &'static str,
    pub(crate) target: &'static str,
    pub(crate) message: &'static str,
    #[serde(rename = "request.id")]
    pub(crate) request_id: &'a str,
    #[serde(rename = "trace.id", skip_serializing_if = "Option::is_none")]
    pub(crate) trace_id: Option<String>,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    pub(crate) outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) refused_by: Option<&'static str>,
    #[serde(rename = "error.code", skip_serializing_if = "Option::is_none")]
    pub(crate) error_code: Option<&'static str>,
    #[serde(rename = "error.message", skip_serializing_if = "Option::is_none")]
    pub(crate) error_message: Option<&'a str>,
    #[serde(rename = "client.address", skip_serializing_if = "Option::is_none")]
    pub(crate) client: Option<String>,
    #[serde(rename = "key.name", skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<&'a str>,
    #[serde(rename = "key.owner", skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<&'a str>,
    #[serde(rename = "user.name", skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<&'a str>,
    #[serde(rename = "model.asked", skip_serializing_if = "Option::is_none")]
    pub(crate) model_asked: Option<&'a str>,
    #[serde(rename = "model.name", skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<&'a str>,
    #[serde(rename = "provider.id", skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) rule: Option<&'a str>,
    pub(crate) stream: bool,
    pub(crate) attempts: u32,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) client_gone: bool,
    #[serde(flatten)]
    pub(crate) usage: Option<LoggedUsage>,
    pub(crate) request_bytes: usize,
    pub(crate) response_bytes: usize,
    pub(crate) duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_byte_ms: Option<f64>,
    pub(crate) router_ms: f64,
    pub(crate) revision: u64,
}

/// Usage and cost of all attempts of a request.
#[derive(Serialize)]
pub(crate) struct LoggedUsage {
    pub(crate) input_tokens: u64,
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) cached_input_tokens: u64,
    pub(crate) output_tokens: u64,
    /// Missing if a part of it has no price.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cost_usd: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) estimated: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl LoggedUsage {
    /// Returns what the sums of the attempts say.
    pub(crate) fn new(sums: &LedgerSums) -> Self {
        let cost = (sums.unpriced_requests == 0).then(|| sums.cost.normalize().to_string());
        Self {
            input_tokens: sums.input_tokens,
            cached_input_tokens: sums.cached_input_tokens,
            output_tokens: sums.output_tokens,
            // A decimal in plain notation is a JSON number with its exact digits.
            cost_usd: cost.and_then(|cost| RawValue::from_string(cost).ok()),
            estimated: sums.estimated_requests > 0,
        }
    }
}

/// Target of access lines, by which `LOG_LEVEL` finds them: `info,llm_router::access=off`.
pub(crate) const TARGET: &str = "llm_router::access";

/// Returns the level of a request's line: what went well is `INFO`, a mistake of the client's or a
/// refusal `WARN`, a failure `ERROR`.
pub(crate) const fn level(outcome: RequestOutcome) -> Level {
    match outcome {
        RequestOutcome::Answered | RequestOutcome::Cancelled => Level::INFO,
        RequestOutcome::Refused | RequestOutcome::ClientError => Level::WARN,
        RequestOutcome::Failed => Level::ERROR,
    }
}

/// Longest text of an error in a line, in characters.
const LONGEST_ERROR: usize = 300;

/// Returns an error's text as the log shows it: bounded, on one line, without what looks like a key.
pub(crate) fn clean_error(text: &str) -> Box<str> {
    let mut clean = String::new();
    let control = |c: char| if c.is_control() { ' ' } else { c };
    let bounded: String = text.chars().take(LONGEST_ERROR).map(control).collect();
    for word in bounded.split_inclusive(|c: char| !(c.is_alphanumeric() || "-_.".contains(c))) {
        if looks_like_key(word) {
            clean.extend(word.chars().take(4));
            clean.push_str("***");
            clean.extend(word.chars().last().filter(|c| !c.is_alphanumeric()));
        } else {
            clean.push_str(word);
        }
    }
    clean.into()
}

/// Returns true for texts with the beginning and the length of a provider's keys.
fn looks_like_key(word: &str) -> bool {
    const BEGINNINGS: [&str; 8] = [
        "sk-", "sk_", "gsk_", "xai-", "AIza", "AKIA", "eyJ", "Bearer-",
    ];
    word.len() >= 12 && BEGINNINGS.iter().any(|begin| word.starts_with(begin))
}

/// Writer of lines. Clones write to the same log.
#[derive(Clone)]
pub(crate) struct AccessLog {
    pending: Arc<Mutex<Vec<u8>>>,
    json: bool,
    /// Which share of the requests that went well has a line.
    sample: f64,
    flood: Arc<Mutex<Flood>>,
}

/// Lines of requests without a valid key, in the current interval.
struct Flood {
    since: Instant,
    lines: u64,
}

/// Interval over which such lines are bounded, and the most of them in one.
const FLOOD_INTERVAL: Duration = Duration::from_secs(1);
const MOST_WITHOUT_KEY: u64 = 50;

impl Flood {
    const fn new(since: Instant) -> Self {
        Self { since, lines: 0 }
    }

    /// Begins the next interval if this one is over, and logs how many lines were left out.
    fn next_interval(&mut self, now: Instant) {
        if now.saturating_duration_since(self.since) < FLOOD_INTERVAL {
            return;
        }
        let count = self.lines.saturating_sub(MOST_WITHOUT_KEY);
        if count > 0 {
            tracing::warn!(
                count,
                "left out access lines of requests without a valid key"
            );
        }
        *self = Self::new(now);
    }
}

/// Interval at which lines are written out.
const INTERVAL: Duration = Duration::from_millis(100);

/// The most that is gathered; a log that can't be written to must not fill the memory.
const MOST_PENDING: usize = 16 * 1024 * 1024;

impl AccessLog {
    /// Starts the thread that writes the lines to standard error.
    ///
    /// # Errors
    /// When no thread can be started.
    pub(crate) fn start(json: bool, sample: f64) -> io::Result<Self> {
        let log = Self {
            pending: Arc::default(),
            json,
            sample,
            flood: Arc::new(Mutex::new(Flood::new(clock::now()))),
        };
        let writer = log.clone();
        thread::Builder::new()
            .name("access-log".into())
            .spawn(move || {
                loop {
                    thread::park_timeout(INTERVAL);
                    writer.write_out();
                }
            })?;
        Ok(log)
    }

    /// Returns whether a request gets a line: each that didn't go well does, as far as `LOG_LEVEL` lets
    /// it, except that of those without a valid key only so many a second do.
    pub(crate) fn wants(&self, outcome: RequestOutcome, client_gone: bool, no_key: bool) -> bool {
        let enabled = match level(outcome) {
            Level::ERROR => tracing::enabled!(target: TARGET, Level::ERROR),
            Level::WARN => tracing::enabled!(target: TARGET, Level::WARN),
            _ => tracing::enabled!(target: TARGET, Level::INFO),
        };
        let well = outcome == RequestOutcome::Answered && !client_gone;
        let drawn = || self.sample >= 1.0 || fastrand::f64() < self.sample;
        enabled && (!well || drawn()) && (!no_key || self.has_room(clock::now()))
    }

    /// Returns whether a line of a request without a valid key may be written in this second.
    fn has_room(&self, now: Instant) -> bool {
        let mut flood = self.flood.lock().unwrap_or_else(PoisonError::into_inner);
        flood.next_interval(now);
        flood.lines += 1;
        flood.lines <= MOST_WITHOUT_KEY
    }

    /// Adds a line; drops it when the log can't keep up.
    pub(crate) fn add(&self, line: &AccessLine<'_>) {
        let mut text = Vec::with_capacity(512);
        let written = if self.json {
            serde_json::to_writer(&mut text, line).is_ok()
        } else {
            line.as_text(&mut text).is_ok()
        };
        text.push(b'\n');
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        if written && pending.len() + text.len() <= MOST_PENDING {
            pending.extend_from_slice(&text);
        }
    }

    /// Writes what has been gathered; called again before the process ends.
    pub(crate) fn write_out(&self) {
        {
            let mut flood = self.flood.lock().unwrap_or_else(PoisonError::into_inner);
            flood.next_interval(clock::now());
        }
        let lines = {
            let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *pending)
        };
        if !lines.is_empty() {
            // Standard error is the log itself: there is no other place to tell of its failure.
            let _ = io::stderr().lock().write_all(&lines);
        }
    }
}

impl AccessLine<'_> {
    fn as_text(&self, out: &mut Vec<u8>) -> io::Result<()> {
        write!(
            out,
            "{} {:>5} {} {} {} {:.1}ms id={}",
            self.timestamp,
            self.level,
            self.method,
            self.path,
            self.status,
            self.duration_ms,
            self.request_id,
        )?;
        let named = [
            ("key", self.key),
            ("model", self.model_asked),
            ("to", self.model),
            ("at", self.provider),
            ("rule", self.rule),
            ("user", self.user),
            ("client", self.client.as_deref()),
            ("refused_by", self.refused_by),
            ("error", self.error_code),
            ("said", self.error_message),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                write!(out, " {name}={value:?}")?;
            }
        }
        if let Some(usage) = &self.usage {
            write!(
                out,
                " in={} out={}",
                usage.input_tokens, usage.output_tokens
            )?;
            if let Some(cost) = &usage.cost_usd {
                write!(out, " usd={cost}")?;
            }
        }
        if self.attempts > 1 {
            write!(out, " attempts={}", self.attempts)?;
        }
        if self.client_gone {
            write!(out, " client_gone")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_texts_are_bounded_and_have_no_keys() {
        for (text, clean) in [
            ("up answered 500: overloaded", "up answered 500: overloaded"),
            (
                "Incorrect API key provided: sk-proj-abcdefghijkl. You can",
                "Incorrect API key provided: sk-p*** You can",
            ),
            ("key=gsk_0123456789ab, again", "key=gsk_***, again"),
            ("two\nlines", "two lines"),
            ("sk-short", "sk-short"),
        ] {
            assert_eq!(&*clean_error(text), clean, "{text}");
        }
        assert_eq!(
            clean_error(&"é".repeat(1000)).chars().count(),
            LONGEST_ERROR
        );
    }

    #[test]
    fn lines_without_a_key_are_bounded() {
        let now = clock::now();
        let log = AccessLog {
            pending: Arc::default(),
            json: true,
            sample: 1.0,
            flood: Arc::new(Mutex::new(Flood::new(now))),
        };
        let lines = (0..10_000).filter(|_| log.has_room(now)).count();
        assert_eq!(lines as u64, MOST_WITHOUT_KEY);
        assert!(log.has_room(now + FLOOD_INTERVAL));
    }
}
