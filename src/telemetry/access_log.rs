//! The access log: one line a request, as JSON or text. Lines are gathered in memory and written
//! by one thread, so that no request waits for the log; a crash loses at most the last interval.

use std::io::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use serde::Serialize;

/// One request as logged. Never holds message content, keys or credentials.
#[derive(Serialize)]
pub(crate) struct AccessLine<'a> {
    pub(crate) time: String,
    pub(crate) level: &'static str,
    pub(crate) message: &'static str,
    #[serde(rename = "request.id")]
    pub(crate) request_id: &'a str,
    #[serde(rename = "trace.id", skip_serializing_if = "Option::is_none")]
    pub(crate) trace_id: Option<String>,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    #[serde(rename = "error.code", skip_serializing_if = "Option::is_none")]
    pub(crate) error_code: Option<&'static str>,
    #[serde(rename = "key.name", skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<&'a str>,
    #[serde(rename = "key.owner", skip_serializing_if = "Option::is_none")]
    pub(crate) owner: Option<&'a str>,
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
    pub(crate) request_bytes: usize,
    pub(crate) response_bytes: usize,
    pub(crate) duration_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) first_byte_ms: Option<f64>,
    pub(crate) router_ms: f64,
    pub(crate) revision: u64,
}

/// Writer of lines. Clones write to the same log.
#[derive(Clone)]
pub(crate) struct AccessLog {
    pending: Arc<Mutex<Vec<u8>>>,
    json: bool,
    /// Which share of the requests that went well has a line.
    sample: f64,
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

    /// Returns whether a request gets a line: each that failed does.
    pub(crate) fn wants(&self, failed: bool) -> bool {
        failed || self.sample >= 1.0 || fastrand::f64() < self.sample
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
            "{} {} {} {} {} {:.1}ms id={}",
            self.time,
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
            ("error", self.error_code),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                write!(out, " {name}={value:?}")?;
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
