//! `providers`: the companies and servers that host models.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::diagnostics::Diagnostics;
use crate::file::require_readable;
use crate::items::Items;
use crate::names::DefinedNames;
use crate::path::ConfigPath;
use crate::scalar::{
    BaseUrl, HeaderValue, NamePattern, ProviderId, Scheme, Text, TextSetting, TimeSpan, UrlPath,
    is_link_local,
};
use crate::server::require_nonzero;

/// A provider, ready to be called.
#[derive(Clone, Debug)]
pub struct Provider {
    /// Its name here; unique.
    pub id: String,
    /// What it speaks.
    pub kind: ProviderKind,
    /// Where it is; `None`: the mock provider inside this process. Of type anthropic: without
    /// `/v1`; of type gemini: without `/openai`.
    pub base_url: Option<BaseUrl>,
    /// What we show it, if anything. Never empty.
    pub credential: Option<SecretString>,
    /// The names it serves; never empty.
    pub models: Vec<NamePattern>,
    /// How long its answers may take.
    pub timeouts: Timeouts,
    /// How it is probed, if it is.
    pub health_check: Option<HealthCheck>,
    /// Certificates trusted besides the system's, as a PEM file that exists.
    pub ca_file: Option<PathBuf>,
    /// Whether HTTP/2 is spoken.
    pub http2: Http2,
    /// What becomes of a stream whose client is gone.
    pub on_disconnect: OnDisconnect,
    /// Whether it has OpenAI's responses; else such requests are translated into chat completions.
    pub responses: bool,
    /// What becomes of what it can't express, in requests of other formats.
    pub compat: Compat,
    /// Headers added to every request, names in lower case.
    pub headers: Vec<(String, SecretString)>,
    /// Whether it takes part: false too if its `api_key` is set to nothing.
    pub enabled: bool,
    /// Whether it may be at a link-local address.
    pub allow_link_local: bool,
}

/// The kind of API that a provider has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProviderKind {
    /// OpenAI.
    Openai,
    /// Anthropic.
    Anthropic,
    /// Google Gemini.
    Gemini,
    /// Any OpenAI-compatible server.
    Custom,
    /// The mock provider, which is spoken to in the client's own format.
    Mock,
}

/// How long a provider's answers may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To open a connection.
    pub connect: Duration,
    /// From the end of the request to the first byte of the answer.
    pub first_byte: Duration,
    /// Between two parts of the answer.
    pub idle: Duration,
    /// For all of it, from the first attempt's start.
    pub total: Duration,
    /// To read on after the client has gone, where the provider's policy is to drain.
    pub drain: Duration,
}

/// How a provider is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Asked for with GET, below the base URL; begins with a slash.
    pub path: String,
    /// From one probe to the next.
    pub interval: Duration,
    /// For one probe; at most the interval.
    pub timeout: Duration,
    /// Failures in a row after which the provider counts as down.
    pub unhealthy_after: u32,
    /// Successes in a row after which it counts as up again.
    pub healthy_after: u32,
}

/// Whether HTTP/2 is spoken with a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Http2 {
    /// HTTP/1.1 only.
    #[default]
    Never,
    /// Over TLS, if the provider offers it.
    Auto,
    /// HTTP/2 only; without TLS by prior knowledge.
    Always,
}

/// What becomes of a provider's stream when the client has gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnDisconnect {
    /// It is ended at once; what it used is estimated.
    #[default]
    Cancel,
    /// It is read to its end, for at most timeouts.drain, so that its usage is known.
    Drain,
}

/// What becomes of a field that a client sent and that the provider's format can't express.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Compat {
    /// It is left out and named in the answer's header x-llm-router-dropped.
    #[default]
    Lenient,
    /// The request is answered 400, unless another deployment can take it.
    Strict,
}

/// A provider of models.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Provider")]
pub(crate) struct RawProvider {
    /// Its name here, and the part before the slash in "provider/model".
    id: Text<ProviderId>,
    /// What it speaks. "custom" is any OpenAI-compatible server, such as vLLM, Ollama or Groq.
    #[serde(rename = "type")]
    kind: ProviderKind,
    /// Where it is. The types openai, anthropic and gemini know their own; type mock without it is
    /// answered inside this process.
    base_url: Option<Text<BaseUrl>>,
    /// What the provider knows us by. Set to nothing, as by ${NAME:-}, it switches the provider
    /// off.
    api_key: Option<Text<SecretString>>,
    /// The names it serves; * stands for any text. A name that fits is passed through as
    /// "provider/NAME" and as NAME.
    #[serde(default = "any_model")]
    #[schemars(length(min = 1))]
    models: Items<Text<NamePattern>>,
    /// How long its answers may take.
    #[serde(default)]
    timeouts: RawTimeouts,
    /// How it is probed, or off.
    #[serde(default)]
    health_check: RawHealthCheck,
    /// Certificates to trust besides the system's, as a PEM file.
    ca_file: Option<Text<PathBuf>>,
    /// Whether HTTP/2 is spoken.
    #[serde(default)]
    http2: Http2,
    /// What becomes of a stream whose client has gone.
    #[serde(default)]
    on_disconnect: OnDisconnect,
    /// Whether a server of type custom has /responses. Without it, such requests are translated
    /// into chat completions.
    #[serde(default = "yes")]
    responses: bool,
    /// What becomes of fields that it can't express, in requests of clients of other formats.
    #[serde(default)]
    compat: Compat,
    /// Headers to add to every request.
    #[serde(default)]
    headers: RawHeaders,
    /// Whether it takes part.
    #[serde(default = "yes")]
    enabled: bool,
    /// Allow a link-local address. The metadata services of clouds have one, and hand out secrets of
    /// the machine.
    #[serde(default)]
    allow_link_local: bool,
}

/// How long a provider's answers may take.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Timeouts")]
struct RawTimeouts {
    /// To open a connection. Without it: 3s.
    connect: Option<Text<TimeSpan>>,
    /// From the end of the request to the first byte of the answer. Without it: 60s.
    first_byte: Option<Text<TimeSpan>>,
    /// Between two parts of the answer. Without it: 120s.
    idle: Option<Text<TimeSpan>>,
    /// For the whole answer. Without it: 10m.
    total: Option<Text<TimeSpan>>,
    /// To read on to the usage once the client has gone, with `on_disconnect: drain`. Without it:
    /// 60s.
    drain: Option<Text<TimeSpan>>,
}

/// Probes of a provider.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "HealthCheckOrOff")]
enum RawHealthCheck {
    /// No probes.
    Off(Off),
    /// Probes.
    On(RawProbe),
}

/// The word that switches something off.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Off {
    /// Not done.
    Off,
}

/// How a provider is probed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "HealthCheck")]
struct RawProbe {
    /// Asked for with GET, below the base URL. Without it: /models, of type anthropic /v1/models.
    path: Option<Text<UrlPath>>,
    /// From one probe to the next, 1s or more.
    interval: Text<TimeSpan>,
    /// For one probe, at most the interval. Without it: 5s.
    timeout: Option<Text<TimeSpan>>,
    /// Failures in a row after which the provider counts as down.
    #[schemars(range(min = 1))]
    unhealthy_after: u32,
    /// Successes in a row after which it counts as up again.
    #[schemars(range(min = 1))]
    healthy_after: u32,
}

impl Provider {
    /// Whether it serves a model of that name.
    #[must_use]
    pub fn serves(&self, model: &str) -> bool {
        self.models.iter().any(|pattern| pattern.matches(model))
    }
}

impl HealthCheck {
    /// How a provider of this kind is probed where nothing is said.
    #[must_use]
    pub fn by_default(kind: ProviderKind) -> Self {
        let raw = RawProbe::default();
        Self {
            path: kind.models_path().to_owned(),
            interval: raw.interval.0.0,
            timeout: PROBE_TIMEOUT,
            unhealthy_after: raw.unhealthy_after,
            healthy_after: raw.healthy_after,
        }
    }
}

/// For one probe, where nothing is said and the interval allows it.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

impl ProviderKind {
    /// As in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Openai => "openai",
            Self::Anthropic => "anthropic",
            Self::Gemini => "gemini",
            Self::Custom => "custom",
            Self::Mock => "mock",
        }
    }

    /// Where its models are listed, below the base URL.
    const fn models_path(self) -> &'static str {
        match self {
            Self::Anthropic => "/v1/models",
            Self::Openai | Self::Gemini | Self::Custom | Self::Mock => "/models",
        }
    }

    const fn default_base_url(self) -> Option<&'static str> {
        match self {
            Self::Openai => Some("https://api.openai.com/v1"),
            Self::Anthropic => Some("https://api.anthropic.com"),
            Self::Gemini => Some("https://generativelanguage.googleapis.com/v1beta"),
            Self::Custom | Self::Mock => None,
        }
    }

    /// The environment variable that its credential is usually in.
    const fn usual_variable(self) -> &'static str {
        match self {
            Self::Openai => "OPENAI_API_KEY",
            Self::Anthropic => "ANTHROPIC_API_KEY",
            Self::Gemini => "GEMINI_API_KEY",
            Self::Custom | Self::Mock => "PROVIDER_API_KEY",
        }
    }
}

impl RawProvider {
    pub(crate) fn check(
        self,
        at: &ConfigPath,
        names: &DefinedNames,
        diagnostics: &mut Diagnostics,
    ) -> Provider {
        names
            .providers
            .check_unique(&self.id.0.0, &at.field("id"), diagnostics);
        let base_url = self.checked_base_url(at, diagnostics);
        self.check_credential(base_url.as_ref(), at, diagnostics);
        if let Some(file) = &self.ca_file {
            check_ca_file(
                &file.0,
                base_url.as_ref(),
                &at.field("ca_file"),
                diagnostics,
            );
        }
        let models = self
            .models
            .with_positions(&at.field("models"), diagnostics)
            .into_iter();
        let credential = self.api_key.map(|key| key.0);
        let switched_off = credential.as_ref().is_some_and(is_empty);
        Provider {
            id: self.id.0.0,
            kind: self.kind,
            base_url,
            credential: credential.filter(|credential| !is_empty(credential)),
            models: models.map(|(_, pattern)| pattern.0).collect(),
            timeouts: self.timeouts.check(&at.field("timeouts"), diagnostics),
            health_check: self.health_check.check(
                self.kind,
                &at.field("health_check"),
                diagnostics,
            ),
            ca_file: self.ca_file.map(|file| file.0),
            http2: self.http2,
            on_disconnect: self.on_disconnect,
            responses: self.responses,
            compat: self.compat,
            headers: check_headers(self.headers, &at.field("headers"), diagnostics),
            enabled: self.enabled && !switched_off,
            allow_link_local: self.allow_link_local,
        }
    }

    fn checked_base_url(&self, at: &ConfigPath, diagnostics: &mut Diagnostics) -> Option<BaseUrl> {
        let default = || BaseUrl::parse(self.kind.default_base_url()?).ok();
        let url = self.base_url.as_ref().map(|url| url.0.clone());
        let mut url = url.or_else(default);
        if url.is_none() && self.kind == ProviderKind::Custom {
            let remedy = "add the server's address: http://localhost:8080/v1";
            diagnostics.error(
                &at.field("base_url"),
                "is missing for a custom provider",
                remedy,
            );
        }
        let host = url.as_ref().and_then(|url| url.host.parse().ok());
        if host.is_some_and(is_link_local) && !self.allow_link_local {
            diagnostics.error(
                &at.field("base_url"),
                "is a link-local address, where machines tell their own secrets",
                "correct it, or set allow_link_local",
            );
        }
        let superfluous = match self.kind {
            ProviderKind::Anthropic => "/v1",
            ProviderKind::Gemini => "/openai",
            _ => "",
        };
        if let Some(url) = &mut url
            && let Some(path) = url.path.strip_suffix(superfluous)
        {
            url.path = path.to_owned();
        }
        url
    }

    fn check_credential(
        &self,
        url: Option<&BaseUrl>,
        at: &ConfigPath,
        diagnostics: &mut Diagnostics,
    ) {
        let key_at = at.field("api_key");
        let variable = self.kind.usual_variable();
        match &self.api_key {
            _ if !self.enabled => {}
            Some(key) if is_empty(&key.0) => diagnostics.warn(
                &key_at,
                "is empty, so the provider is switched off",
                "set the variable, or remove the line if no credential is needed",
            ),
            Some(_) => {
                if diagnostics.is_literal(&key_at) {
                    diagnostics.warn(
                        &key_at,
                        "the credential stands in the file in plain text",
                        format!("put it into the environment or .env and write ${{{variable}}}"),
                    );
                }
                check_privacy(url, at, diagnostics);
            }
            None if self.must_have_credential(url) => diagnostics.warn(
                &key_at,
                "is missing, so the provider will refuse every request",
                format!("add api_key: ${{{variable}}}"),
            ),
            None => {}
        }
    }

    fn must_have_credential(&self, url: Option<&BaseUrl>) -> bool {
        let hosted = self.kind.default_base_url().is_some();
        let local = url.is_some_and(BaseUrl::is_loopback);
        hosted && !local && self.headers.is_empty()
    }
}

impl RawTimeouts {
    /// Times that are not given are made to fit into those that are.
    fn check(self, at: &ConfigPath, diagnostics: &mut Diagnostics) -> Timeouts {
        let seconds = |seconds| TimeSpan(Duration::from_secs(seconds));
        let total = self.total.map_or(seconds(600), |total| total.0);
        require_nonzero(total, &at.field("total"), diagnostics);
        let mut part = |name, given: Option<Text<TimeSpan>>, default| {
            let at = at.field(name);
            let Some(Text(span)) = given else {
                return seconds(default).min(total).0;
            };
            require_nonzero(span, &at, diagnostics);
            if span > total {
                let what = format!("`{span}` is longer than total, which is {total}");
                diagnostics.error(&at, what, "shorten it, or lengthen timeouts.total");
            }
            span.0
        };
        Timeouts {
            connect: part("connect", self.connect, 3),
            first_byte: part("first_byte", self.first_byte, 60),
            idle: part("idle", self.idle, 120),
            total: total.0,
            drain: part("drain", self.drain, 60),
        }
    }
}

impl Default for RawHealthCheck {
    fn default() -> Self {
        Self::Off(Off::Off)
    }
}

impl Default for RawProbe {
    fn default() -> Self {
        Self {
            path: None,
            interval: Text(TimeSpan(Duration::from_secs(30))),
            timeout: None,
            unhealthy_after: 3,
            healthy_after: 1,
        }
    }
}

impl RawHealthCheck {
    fn check(
        self,
        kind: ProviderKind,
        at: &ConfigPath,
        diagnostics: &mut Diagnostics,
    ) -> Option<HealthCheck> {
        match self {
            Self::Off(Off::Off) => None,
            Self::On(probe) => Some(probe.check(kind, at, diagnostics)),
        }
    }
}

impl RawProbe {
    fn check(
        self,
        kind: ProviderKind,
        at: &ConfigPath,
        diagnostics: &mut Diagnostics,
    ) -> HealthCheck {
        let interval = self.interval.0;
        if interval.0 < Duration::from_secs(1) {
            let what = format!("`{interval}` is too often");
            diagnostics.error(&at.field("interval"), what, "write 1s or more");
        }
        let default = TimeSpan(PROBE_TIMEOUT).min(interval);
        let timeout = self.timeout.map_or(default, |timeout| timeout.0);
        if self.timeout.is_some() {
            require_nonzero(timeout, &at.field("timeout"), diagnostics);
        }
        if timeout > interval {
            let what = format!("`{timeout}` is longer than interval, which is {interval}");
            diagnostics.error(&at.field("timeout"), what, "shorten it");
        }
        HealthCheck {
            path: self
                .path
                .map_or_else(|| kind.models_path().to_owned(), |path| path.0.0),
            interval: interval.0,
            timeout: timeout.0,
            unhealthy_after: self.unhealthy_after,
            healthy_after: self.healthy_after,
        }
    }
}

fn check_privacy(url: Option<&BaseUrl>, at: &ConfigPath, diagnostics: &mut Diagnostics) {
    let exposed = url.is_some_and(|url| url.scheme == Scheme::Http && !url.is_loopback());
    if exposed {
        diagnostics.warn(
            &at.field("base_url"),
            "the credential travels over the network unencrypted",
            "use https",
        );
    }
}

fn check_ca_file(
    file: &std::path::Path,
    url: Option<&BaseUrl>,
    at: &ConfigPath,
    diagnostics: &mut Diagnostics,
) {
    require_readable(file, at, diagnostics);
    if url.is_none_or(|url| url.scheme == Scheme::Http) {
        diagnostics.warn(
            at,
            "has no effect without https",
            "use an https base_url, or remove it",
        );
    }
}

/// Headers that belong to the connection or to the request's framing.
const NOT_OURS_TO_SET: [&str; 11] = [
    "connection",
    "content-length",
    "content-type",
    "expect",
    "host",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-request-id",
];

/// Headers as they are written.
pub(crate) type RawHeaders = BTreeMap<String, Text<HeaderValue>>;

pub(crate) fn check_headers(
    headers: RawHeaders,
    at: &ConfigPath,
    diagnostics: &mut Diagnostics,
) -> Vec<(String, SecretString)> {
    let mut checked = Vec::with_capacity(headers.len());
    let mut names = HashSet::with_capacity(headers.len());
    for (name, value) in headers {
        let at = at.field(&name);
        let name = name.to_ascii_lowercase();
        if !is_header_name(&name) {
            diagnostics.error(
                &at,
                "is not the name of a header",
                "use letters, digits and `-`",
            );
        } else if NOT_OURS_TO_SET.contains(&name.as_str()) {
            diagnostics.error(&at, "is a header that the router sets itself", "remove it");
        } else if !names.insert(name.clone()) {
            diagnostics.error(
                &at,
                "is set twice, in capitals and small letters",
                "remove one",
            );
        }
        checked.push((name, value.0.0));
    }
    checked
}

/// A token as RFC 9110, section 5.6.2 has it.
fn is_header_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}

fn is_empty(secret: &SecretString) -> bool {
    secret.expose_secret().is_empty()
}

fn any_model() -> Items<Text<NamePattern>> {
    Items::new(NamePattern::parse("*").ok().map(Text))
}

const fn yes() -> bool {
    true
}
