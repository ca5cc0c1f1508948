//! `telemetry`: access log and traces.

use llm_router_domain::network::ClientAddressDetail;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::Deserialize;

use crate::diagnostics::Diagnostics;
use crate::path::ConfigPath;
use crate::provider::{RawHeaders, check_headers};
use crate::scalar::{BaseUrl, Text};

/// Access log and traces.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// The access log.
    pub access_log: AccessLog,
    /// The part of clients' addresses that is shown.
    pub client_address: ClientAddressDetail,
    /// The export of traces, if they are on.
    pub traces: Option<Traces>,
}

/// The access log.
#[derive(Clone, Copy, Debug)]
pub struct AccessLog {
    /// The format of its lines.
    pub format: LogFormat,
    /// The share of successful requests that is logged, from 0 to 1. Others always are.
    pub sample: f64,
}

/// The format of the access log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// As the rest of the log: text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// One JSON object per line.
    Json,
    /// Text for people.
    Text,
}

/// Export of traces by OTLP over HTTP.
#[derive(Clone, Debug)]
pub struct Traces {
    /// The collector's base URL; traces are sent to `/v1/traces` below it.
    pub endpoint: BaseUrl,
    /// Headers to send to the collector, names in lower case.
    pub headers: Vec<(String, SecretString)>,
    /// The share of requests that is traced, from 0 to 1, if the client sends no trace context.
    pub sample: f64,
    /// The name of this service in traces.
    pub service_name: String,
}

/// Access log and traces.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Telemetry")]
pub(crate) struct RawTelemetry {
    /// One line per request on standard error.
    access_log: RawAccessLog,
    /// The part of clients' addresses that the access log and the list of requests show.
    client_address: ClientAddressDetail,
    /// Export of traces by OTLP over HTTP. Default: none.
    traces: Option<RawTraces>,
}

/// One line per request on standard error.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "AccessLog")]
struct RawAccessLog {
    /// The format of the lines.
    format: LogFormat,
    /// The share of successful requests that is logged, from 0 to 1. Errors and requests whose client
    /// disconnected are always logged.
    #[schemars(range(min = 0.0, max = 1.0))]
    sample: f64,
}

/// Export of traces by OTLP over HTTP.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Traces")]
struct RawTraces {
    /// The collector's base URL. Traces are sent to /v1/traces below it.
    endpoint: Text<BaseUrl>,
    /// Headers to send to the collector, such as a credential.
    #[serde(default)]
    headers: RawHeaders,
    /// The share of requests that is traced, from 0 to 1. A client that sends a traceparent decides for
    /// its own requests.
    #[serde(default = "all")]
    #[schemars(range(min = 0.0, max = 1.0))]
    sample: f64,
    /// The name of this service in traces.
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
    pub(crate) fn check(self, at: &ConfigPath, diagnostics: &mut Diagnostics) -> Telemetry {
        let access_log = &at.field("access_log");
        require_fraction(
            self.access_log.sample,
            &access_log.field("sample"),
            diagnostics,
        );
        Telemetry {
            access_log: AccessLog {
                format: self.access_log.format,
                sample: self.access_log.sample,
            },
            client_address: self.client_address,
            traces: self
                .traces
                .map(|traces| traces.check(&at.field("traces"), diagnostics)),
        }
    }
}

impl RawTraces {
    fn check(self, at: &ConfigPath, diagnostics: &mut Diagnostics) -> Traces {
        require_fraction(self.sample, &at.field("sample"), diagnostics);
        Traces {
            endpoint: self.endpoint.0,
            headers: check_headers(self.headers, &at.field("headers"), diagnostics),
            sample: self.sample,
            service_name: self.service_name,
        }
    }
}

fn require_fraction(share: f64, at: &ConfigPath, diagnostics: &mut Diagnostics) {
    if !(0.0..=1.0).contains(&share) {
        let problem = format!("`{share}` is out of range");
        diagnostics.error(at, problem, "write a fraction from 0 (none) to 1 (all)");
    }
}
