//! `providers`: the companies and servers that host models. What a type of provider is, is
//! `llm-router-providers`'.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use llm_router_domain::format::Compat;
use llm_router_domain::header::is_credential_parameter;
use llm_router_domain::pattern::PatternList;
use llm_router_domain::price::Factor;
use llm_router_providers::client_request::{Withheld, withheld_header};
use llm_router_providers::{DefaultBaseUrl, ProviderType, Settings};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::diagnostics::Diagnostics;
use crate::file::require_readable;
use crate::items::Items;
use crate::names::DefinedNames;
use crate::path::ConfigPath;
use crate::provider_type::RawProviderType;
use crate::scalar::{
    BaseUrl, HeaderValue, NamePattern, PriceFactor, ProviderId, Scheme, Text, TextSetting,
    TimeSpan, UrlPath, is_link_local,
};
use crate::server::require_nonzero;

/// A provider that can be called.
#[derive(Clone, Debug)]
pub struct Provider {
    /// The id, unique among providers.
    pub id: String,
    /// The provider type.
    pub kind: &'static dyn ProviderType,
    /// The settings that the type reads.
    pub settings: Settings,
    /// The base URL, without the end that the paths of the type begin with; `None`: requests are
    /// answered inside this process.
    pub base_url: Option<BaseUrl>,
    /// The credential, never empty; `None`: requests carry none.
    pub credential: Option<SecretString>,
    /// Names of the models that it serves; never empty.
    pub models: PatternList,
    /// Time limits of its answers.
    pub timeouts: Timeouts,
    /// Its health checks.
    pub health_check: HealthCheck,
    /// Certificates trusted besides the system's, as a PEM file that exists.
    pub ca_file: Option<PathBuf>,
    /// Use of HTTP/2.
    pub http2: Http2,
    /// Treatment of a stream whose client has disconnected.
    pub on_disconnect: OnDisconnect,
    /// Usage chunks at the end of its chat streams.
    pub usage_chunk: UsageChunk,
    /// Figure that its answers are billed by.
    pub price_from: PriceFrom,
    /// Treatment of what it doesn't take.
    pub compat: Compat,
    /// Headers added to every request, names in lower case.
    pub headers: Vec<(String, SecretString)>,
    /// Names of headers of clients' requests that it is sent besides the usual ones.
    pub forward_headers: PatternList,
    /// Query parameters of clients' requests that it is sent besides the usual ones.
    pub forward_query: PatternList,
    /// The most output tokens of its models, for those whose own ceiling isn't known.
    pub max_output: Option<u64>,
    /// False if it is disabled, also because its `api_key` is empty.
    pub enabled: bool,
    /// True if its address may be link-local.
    pub allow_link_local: bool,
    /// Number that its prices are multiplied by.
    pub price_factor: Factor,
}

/// Time limits of a provider's answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To open a connection.
    pub connect: Duration,
    /// From the end of the request to the first byte of a streamed answer.
    pub first_byte: Duration,
    /// The same for an answer that isn't streamed; `None`: only [`Self::total`] limits it.
    pub first_byte_plain: Option<Duration>,
    /// Between two parts of the answer.
    pub idle: Duration,
    /// For all of it, from the first attempt's start.
    pub total: Duration,
    /// To read on after the client has disconnected, where [`OnDisconnect::Drain`] is set.
    pub drain: Duration,
}

/// Health checks of a provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Path that a check requests with GET, below the base URL; begins with a slash.
    pub path: String,
    /// From one scheduled check to the next; `None`: checks are made on request only.
    pub interval: Option<Duration>,
    /// Time limit of one check; at most the interval.
    pub timeout: Duration,
    /// Consecutive failures after which the provider is unhealthy.
    pub unhealthy_after: u32,
    /// Consecutive successes after which it is healthy again.
    pub healthy_after: u32,
}

/// Use of HTTP/2 with a provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Deserialize, JsonSchema)]
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

/// Treatment of a provider's stream whose client has disconnected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnDisconnect {
    /// End it at once; its usage is estimated.
    #[default]
    Cancel,
    /// Read it to its end, for at most timeouts.drain, so that its usage is known.
    Drain,
}

/// Usage chunk at the end of a provider's chat streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageChunk {
    /// It is sent on request, by the field `stream_options`, which is added to every request.
    #[default]
    OnRequest,
    /// It is always sent; the field is not added.
    Always,
    /// It is never sent, and the field is not added; the usage of streams is estimated.
    Never,
}

/// Figure that the answers of a provider are billed by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PriceFrom {
    /// The cost that the answer states, else the price table.
    Reported,
    /// The price table; the cost that the answer states only where the table has no exact price.
    #[default]
    Table,
}

/// Host of the provider that states the cost of every answer.
const STATES_COSTS: &str = "openrouter.ai";

/// A provider of models.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Provider")]
pub(crate) struct RawProvider {
    /// The id: the part before the slash in "provider/model".
    id: Text<ProviderId>,
    /// The kind of API. "custom" is any OpenAI-compatible server, such as vLLM, Ollama or Groq.
    #[serde(rename = "type")]
    kind: RawProviderType,
    /// The base URL of the API. The types openai, anthropic and gemini have a default; without one,
    /// requests to a provider of type mock are answered inside this process.
    base_url: Option<Text<BaseUrl>>,
    /// The provider's API key. An empty one, for example from ${NAME:-}, disables
    /// the provider.
    api_key: Option<Text<SecretString>>,
    /// Names of the models that it serves; * stands for any text. Clients ask for a matching model
    /// as "provider/NAME" or as NAME.
    #[serde(default = "any_model")]
    #[schemars(length(min = 1))]
    models: Items<Text<NamePattern>>,
    /// Time limits of its answers.
    #[serde(default)]
    timeouts: RawTimeouts,
    /// Health checks, or off.
    #[serde(default)]
    health_check: RawHealthCheck,
    /// Certificates to trust in addition to the system's, as a PEM file.
    ca_file: Option<Text<PathBuf>>,
    /// Use of HTTP/2.
    #[serde(default)]
    http2: Http2,
    /// Treatment of a stream whose client has disconnected.
    #[serde(default)]
    on_disconnect: OnDisconnect,
    /// Set to false for a server of type custom without /responses: such requests are then
    /// translated into chat completions.
    #[serde(default = "yes")]
    responses: bool,
    /// The usage chunk at the end of a chat stream.
    #[serde(default)]
    usage_chunk: UsageChunk,
    /// Figure that its answers are billed by. Default: reported for OpenRouter, table for others.
    price_from: Option<PriceFrom>,
    /// Treatment of what the provider doesn't take: fields that its format can't express, values
    /// beyond its limits, a ceiling of output above the model's own.
    #[serde(default)]
    compat: Compat,
    /// Headers to add to every request.
    #[serde(default)]
    headers: RawHeaders,
    /// Names of headers of clients' requests to pass on, besides those that the SDKs of its format
    /// send; * stands for any text. Headers that carry a credential, choose an account or tell an
    /// address are never passed on.
    #[serde(default)]
    forward_headers: Items<Text<NamePattern>>,
    /// Names of query parameters of clients' requests to pass on, besides those of its format's
    /// documentation; * stands for any text. Those that carry a credential are never passed on.
    #[serde(default)]
    forward_query: Items<Text<NamePattern>>,
    /// The most output tokens of its models, for those whose own ceiling isn't known. Requests of
    /// keys with a budget that set no limit of their own need it.
    #[schemars(range(min = 1))]
    max_output: Option<u64>,
    /// Set to false to disable the provider.
    #[serde(default = "yes")]
    enabled: bool,
    /// Allow a link-local address. The metadata services of clouds have one, and return secrets of
    /// the machine.
    #[serde(default)]
    allow_link_local: bool,
    /// Number that all prices of the provider are multiplied by: a discount or an uplift, as of a
    /// contract or a region.
    #[serde(default = "list_price")]
    price_factor: Text<PriceFactor>,
}

/// Time limits of a provider's answers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "Timeouts")]
struct RawTimeouts {
    /// To open a connection. Default: 3s.
    connect: Option<Text<TimeSpan>>,
    /// From the end of the request to the first byte of a streamed answer. Default: 60s.
    first_byte: Option<Text<TimeSpan>>,
    /// The same for an answer that isn't streamed: its first byte comes when the model has written
    /// all of it. Default: no limit but total.
    first_byte_plain: Option<Text<TimeSpan>>,
    /// Between two parts of the answer. Default: 120s.
    idle: Option<Text<TimeSpan>>,
    /// For the whole answer. Default: 10m.
    total: Option<Text<TimeSpan>>,
    /// To read on after the client has disconnected, with `on_disconnect: drain`. Default: 60s.
    drain: Option<Text<TimeSpan>>,
}

/// Health checks of a provider, or none.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "HealthCheckOrOff")]
enum RawHealthCheck {
    /// No scheduled checks.
    Off(Off),
    /// Scheduled checks.
    On(RawChecks),
}

/// The word that switches a setting off.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Off {
    /// Off.
    Off,
}

/// Scheduled health checks of a provider.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(rename = "HealthCheck")]
struct RawChecks {
    /// Path to request with GET, below the base URL; by default the path that lists the models.
    path: Option<Text<UrlPath>>,
    /// From one check to the next; 1s or more.
    interval: Text<TimeSpan>,
    /// Time limit of one check, at most the interval. Default: 5s.
    timeout: Option<Text<TimeSpan>>,
    /// Consecutive failures after which the provider is unhealthy.
    #[schemars(range(min = 1))]
    unhealthy_after: u32,
    /// Consecutive successes after which it is healthy again.
    #[schemars(range(min = 1))]
    healthy_after: u32,
}

impl Provider {
    /// Returns whether it serves a model of that name.
    #[must_use]
    pub fn serves(&self, model: &str) -> bool {
        self.models.allows(model)
    }

    /// Returns how long an answer is read on once its client has gone; `None`: it is ended at once.
    #[must_use]
    pub fn drain_time(&self) -> Option<Duration> {
        (self.on_disconnect == OnDisconnect::Drain).then_some(self.timeouts.drain)
    }
}

const fn list_price() -> Text<PriceFactor> {
    Text(PriceFactor(Factor::ONE))
}

/// Default time limit of one check.
const DEFAULT_CHECK_TIMEOUT: Duration = Duration::from_secs(5);

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
        let kind = self.kind.0;
        let settings = Settings {
            responses: self.responses,
        };
        let base_url = self.checked_base_url(&settings, at, diagnostics);
        self.check_credential(base_url.as_ref(), at, diagnostics);
        let states_costs = base_url.as_ref().is_some_and(|url| {
            let host = url.host.to_ascii_lowercase();
            host == STATES_COSTS || host.ends_with(&format!(".{STATES_COSTS}"))
        });
        let price_from = self.price_from.unwrap_or(if states_costs {
            PriceFrom::Reported
        } else {
            PriceFrom::Table
        });
        if let Some(file) = &self.ca_file {
            check_ca_file(
                &file.0,
                base_url.as_ref(),
                &at.field("ca_file"),
                diagnostics,
            );
        }
        let models = self.models.with_positions(&at.field("models"), diagnostics);
        let models = models.iter().map(|(_, pattern)| pattern.0.as_str());
        let credential = self.api_key.map(|key| key.0);
        let switched_off = credential.as_ref().is_some_and(is_empty);
        Provider {
            id: self.id.0.0,
            kind,
            base_url,
            credential: credential.filter(|credential| !is_empty(credential)),
            models: PatternList::new(models),
            timeouts: self.timeouts.check(&at.field("timeouts"), diagnostics),
            health_check: self.health_check.check(
                &kind.health_path(&settings),
                &at.field("health_check"),
                diagnostics,
            ),
            settings,
            ca_file: self.ca_file.map(|file| file.0),
            http2: self.http2,
            on_disconnect: self.on_disconnect,
            usage_chunk: self.usage_chunk,
            price_from,
            compat: self.compat,
            headers: check_headers(self.headers, &at.field("headers"), diagnostics),
            forward_headers: check_forwarded_headers(
                self.forward_headers,
                &at.field("forward_headers"),
                diagnostics,
            ),
            forward_query: check_forwarded_query(
                self.forward_query,
                &at.field("forward_query"),
                diagnostics,
            ),
            max_output: self.max_output.filter(|most| *most > 0),
            enabled: self.enabled && !switched_off,
            allow_link_local: self.allow_link_local,
            price_factor: self.price_factor.0.0,
        }
    }

    fn checked_base_url(
        &self,
        settings: &Settings,
        at: &ConfigPath,
        diagnostics: &mut Diagnostics,
    ) -> Option<BaseUrl> {
        let kind = self.kind.0;
        let default = kind.base_url(settings);
        let url = self.base_url.as_ref().map(|url| url.0.clone());
        let mut url = url.or_else(|| match &default {
            DefaultBaseUrl::Known(url) => BaseUrl::parse(url).ok(),
            DefaultBaseUrl::Required | DefaultBaseUrl::InProcess => None,
        });
        if url.is_none() && default == DefaultBaseUrl::Required {
            let problem = format!("is missing for a {} provider", kind.name());
            let remedy = "add the server's address: http://localhost:8080/v1";
            diagnostics.error(&at.field("base_url"), problem, remedy);
        }
        let host = url.as_ref().and_then(|url| url.host.parse().ok());
        if host.is_some_and(is_link_local) && !self.allow_link_local {
            diagnostics.error(
                &at.field("base_url"),
                "is a link-local address, where clouds serve the machine's secrets",
                "correct it, or set allow_link_local",
            );
        }
        if let Some(url) = &mut url
            && let Some(path) = url.path.strip_suffix(kind.redundant_suffix())
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
        let variable = self.kind.0.environment_variable();
        match &self.api_key {
            _ if !self.enabled => {}
            Some(key) if is_empty(&key.0) => diagnostics.warn(
                &key_at,
                "is empty, so the provider is disabled",
                "set the variable, or remove the line if no credential is needed",
            ),
            Some(_) => {
                if diagnostics.is_literal(&key_at) {
                    diagnostics.warn(
                        &key_at,
                        "the credential is in the file in plain text",
                        format!("move it to the environment or .env and write ${{{variable}}}"),
                    );
                }
                check_privacy(url, at, diagnostics);
            }
            None if self.must_have_credential(url) => diagnostics.warn(
                &key_at,
                "is missing, so the provider will reject every request",
                format!("add api_key: ${{{variable}}}"),
            ),
            None => {}
        }
    }

    fn must_have_credential(&self, url: Option<&BaseUrl>) -> bool {
        let default = self.kind.0.base_url(&Settings::default());
        let hosted = matches!(default, DefaultBaseUrl::Known(_));
        let local = url.is_some_and(BaseUrl::is_loopback);
        hosted && !local && self.headers.is_empty()
    }
}

impl RawTimeouts {
    /// Shortens defaults so that they fit into the times that are set.
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
                let problem = format!("`{span}` is longer than timeouts.total, which is {total}");
                diagnostics.error(&at, problem, "shorten it, or raise timeouts.total");
            }
            span.0
        };
        let first_byte_plain = self.first_byte_plain.map(|given| {
            let longest = total.0.as_secs();
            part("first_byte_plain", Some(given), longest)
        });
        Timeouts {
            first_byte_plain,
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

impl Default for RawChecks {
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
        default_path: &str,
        at: &ConfigPath,
        diagnostics: &mut Diagnostics,
    ) -> HealthCheck {
        match self {
            // Checks on request have the settings that scheduled ones would have by default.
            Self::Off(Off::Off) => HealthCheck {
                interval: None,
                ..RawChecks::default().check(default_path, at, diagnostics)
            },
            Self::On(checks) => checks.check(default_path, at, diagnostics),
        }
    }
}

impl RawChecks {
    fn check(
        self,
        default_path: &str,
        at: &ConfigPath,
        diagnostics: &mut Diagnostics,
    ) -> HealthCheck {
        let interval = self.interval.0;
        if interval.0 < Duration::from_secs(1) {
            let problem = format!("`{interval}` is too short");
            diagnostics.error(&at.field("interval"), problem, "write a time of 1s or more");
        }
        let default = TimeSpan(DEFAULT_CHECK_TIMEOUT).min(interval);
        let timeout = self.timeout.map_or(default, |timeout| timeout.0);
        if self.timeout.is_some() {
            require_nonzero(timeout, &at.field("timeout"), diagnostics);
        }
        if timeout > interval {
            let problem = format!("`{timeout}` is longer than interval, which is {interval}");
            diagnostics.error(
                &at.field("timeout"),
                problem,
                "write a shorter time, or raise interval",
            );
        }
        HealthCheck {
            path: self
                .path
                .map_or_else(|| default_path.to_owned(), |path| path.0.0),
            interval: Some(interval.0),
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
            "the credential is sent unencrypted",
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

/// Headers as written in the file.
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
                "is not a valid header name",
                "use letters, digits and `-`",
            );
        } else if NOT_OURS_TO_SET.contains(&name.as_str()) {
            diagnostics.error(&at, "is a header that the router sets itself", "remove it");
        } else if !names.insert(name.clone()) {
            diagnostics.error(
                &at,
                "is set twice with different capitalization",
                "remove one",
            );
        }
        checked.push((name, value.0.0));
    }
    checked
}

fn check_forwarded_headers(
    names: Items<Text<NamePattern>>,
    at: &ConfigPath,
    diagnostics: &mut Diagnostics,
) -> PatternList {
    let names = names.with_paths(at, diagnostics).into_iter();
    let check = |(at, pattern): (ConfigPath, Text<NamePattern>)| {
        let name = pattern.0.as_str().to_ascii_lowercase();
        if !is_header_name(&name) {
            let remedy = "use letters, digits, `-` and `*`";
            diagnostics.error(&at, "is not a valid header name", remedy);
        }
        let mistake = match withheld_header(&name) {
            None => None,
            Some(Withheld::Connection) => {
                Some(("is a header that the router sets itself", "remove it"))
            }
            Some(Withheld::Credential) => Some((
                "carries a credential of the client's, which no provider may see",
                "remove it; the provider's own credential belongs into api_key or headers",
            )),
            Some(Withheld::Account) => Some((
                "chooses the provider's account, which is not for clients to choose",
                "remove it, or set a fixed value in headers",
            )),
            Some(Withheld::Address) => Some((
                "tells the provider an address that it would take for the router's",
                "remove it",
            )),
        };
        if let Some((problem, remedy)) = mistake {
            diagnostics.error(&at, problem, remedy);
        }
        name
    };
    let names: Vec<String> = names.map(check).collect();
    PatternList::new(names.iter().map(String::as_str))
}

fn check_forwarded_query(
    names: Items<Text<NamePattern>>,
    at: &ConfigPath,
    diagnostics: &mut Diagnostics,
) -> PatternList {
    let names = names.with_paths(at, diagnostics);
    for (at, name) in &names {
        if is_credential_parameter(name.0.as_str()) {
            let problem = "carries a credential of the client's, which no provider may see";
            diagnostics.error(at, problem, "remove it");
        }
    }
    PatternList::new(names.iter().map(|(_, name)| name.0.as_str()))
}

/// Returns whether the name is a token of RFC 9110, section 5.6.2.
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
