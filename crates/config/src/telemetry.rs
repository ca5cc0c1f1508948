//! `telemetry`: what the router tells of single requests, in its access log and in traces.

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use crate::findings::{At, Findings};
use crate::provider::{RawHeaders, check_headers};
use crate::scalar::{BaseUrl, Text};

/// What the router tells of single requests.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// The lines that tell of requests.
    pub access_log: AccessLog,
    /// Where traces go, if anywhere.
    pub traces: Option<Traces>,
}

/// The lines that tell of requests.
#[derive(Clone, Copy, Debug)]
pub struct AccessLog {
    /// How they are written.
    pub format: LogFormat,
    /// Which share of the requests that went well has a line, from 0 to 1. Others always have one.
    pub sample: f64,
}

/// How lines of the access log are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// As the rest of the log: text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Traces, sent by OTLP over HTTP.
#[derive(Clone, Debug)]
pub struct Traces {
    /// The collector; traces go to `/v1/traces` below it.
    pub endpoint: BaseUrl,
    /// Headers that the collector wants, names in lower case.
    pub headers: Vec<(String, SecretString)>,
    /// Which share of the requests without a trace of their client's is traced, from 0 to 1.
    pub sample: f64,
    /// What this service is called in traces.
    pub service_name: String,
}

/// What the router tells of single requests: in its access log and, if wanted, in traces.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Telemetry")]
pub(crate) struct RawTelemetry {
    /// One line for each request, on standard error.
    access_log: RawAccessLog,
    /// Traces by OTLP over HTTP. Without it, none are made.
    traces: Option<RawTraces>,
}

/// One line for each request, on standard error.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "AccessLog")]
struct RawAccessLog {
    /// How lines are written.
    format: LogFormat,
    /// The share of requests that has a line, from 0 to 1. Errors, and clients that left, always
    /// have one.
    #[schemars(range(min = 0.0, max = 1.0))]
    sample: f64,
}

/// Traces by OTLP over HTTP.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Traces")]
struct RawTraces {
    /// The collector. Traces are sent to /v1/traces below it.
    endpoint: Text<BaseUrl>,
    /// Headers that the collector wants, such as a credential.
    #[serde(default)]
    headers: RawHeaders,
    /// The share of requests that is traced, from 0 to 1. Where a client sends a traceparent, its
    /// own decision holds.
    #[serde(default = "all")]
    #[schemars(range(min = 0.0, max = 1.0))]
    sample: f64,
    /// What this service is called in traces.
    #[serde(default = "name")]
    service_name: String,
}

const fn all() -> f64 {
    1.0
}

fn name() -> String {
    "llm-router".to_owned()
}

impl Default for RawAccessLog {
    fn default() -> Self {
        Self {
            format: LogFormat::Auto,
            sample: all(),
        }
    }
}

impl RawTelemetry {
    pub(crate) fn check(self, at: &At, findings: &mut Findings) -> Telemetry {
        let access_log = &at.field("access_log");
        must_be_a_share(
            self.access_log.sample,
            &access_log.field("sample"),
            findings,
        );
        Telemetry {
            access_log: AccessLog {
                format: self.access_log.format,
                sample: self.access_log.sample,
            },
            traces: self
                .traces
                .map(|traces| traces.check(&at.field("traces"), findings)),
        }
    }
}

impl RawTraces {
    fn check(self, at: &At, findings: &mut Findings) -> Traces {
        must_be_a_share(self.sample, &at.field("sample"), findings);
        Traces {
            endpoint: self.endpoint.0,
            headers: check_headers(self.headers, &at.field("headers"), findings),
            sample: self.sample,
            service_name: self.service_name,
        }
    }
}

fn must_be_a_share(share: f64, at: &At, findings: &mut Findings) {
    if !(0.0..=1.0).contains(&share) {
        let problem = format!("`{share}` is out of range");
        findings.error(at, problem, "write a share from 0 (none) to 1 (all)");
    }
}
