//! Requests as traces of OpenTelemetry: a span for the request and one for each attempt at an
//! upstream, after the semantic conventions for HTTP servers and for GenAI clients
//! (<https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/>), and the W3C trace context
//! that ties them to those of client and provider. Never a word of what was said. How spans travel
//! is `proxy::export`'s.

use std::io;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue};
use llm_router_config as config;
use llm_router_domain::format::Endpoint;
use llm_router_domain::ledger::{AttemptEnd, LedgerEntry};
use llm_router_domain::usage::Class;
use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue, Value};
use opentelemetry_http::HttpClient;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};

use crate::snapshot::CompiledProvider;

/// The W3C trace context's headers (<https://www.w3.org/TR/trace-context/>).
pub(crate) const TRACEPARENT: &str = "traceparent";
pub(crate) const TRACESTATE: &str = "tracestate";

/// Spans that wait for the collector at most; more are dropped.
const QUEUE: usize = 8_192;

/// Longest time that spans wait for others in a batch.
const DELAY: Duration = Duration::from_secs(1);

/// Timeout of the last export at shutdown.
const LAST_SPANS: Duration = Duration::from_secs(2);

/// Makes traces and sends them off, on a thread of its own.
pub(crate) struct Traces {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
    sample: f64,
}

impl Traces {
    /// Starts sending. `client` is how requests get to the collector.
    ///
    /// # Errors
    /// When the settings make no exporter.
    pub(crate) fn start(
        settings: &config::Traces,
        client: impl HttpClient + 'static,
    ) -> io::Result<Self> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(format!("{}/v1/traces", settings.endpoint))
            .build()
            .map_err(io::Error::other)?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_scheduled_delay(DELAY);
        let mut processor = BatchSpanProcessor::new(exporter, batches.build());
        let version = env!("CARGO_PKG_VERSION");
        let resource = Resource::builder()
            .with_service_name(settings.service_name.clone())
            .with_attribute(KeyValue::new("service.version", version));
        processor.set_resource(&resource.build());
        let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME")).with_version(version);
        Ok(Self {
            processor,
            scope: scope.build(),
            sample: settings.sample,
        })
    }

    /// Begins the trace of a request, or the router's part of its client's.
    pub(crate) fn begin(&self, headers: &HeaderMap, endpoint: Endpoint, at: SystemTime) -> Trace {
        let remote = remote(headers);
        let sampled = match &remote {
            // The head of the trace has decided for all its parts.
            Some(remote) => remote.is_sampled(),
            None => self.sample >= 1.0 || fastrand::f64() < self.sample,
        };
        Trace {
            id: remote
                .as_ref()
                .map_or_else(new_trace_id, SpanContext::trace_id),
            span: new_span_id(),
            remote,
            attempt: SpanId::INVALID,
            sampled,
            endpoint,
            began: at,
            attempts: Vec::new(),
            scope: self.scope.clone(),
        }
    }

    /// Sends off the spans of a request that has ended.
    pub(crate) fn finish(&self, trace: Trace, request: &Finished<'_>) {
        if !trace.sampled {
            return;
        }
        let span = trace.request(request);
        for attempt in trace.attempts {
            self.processor.on_end(attempt);
        }
        self.processor.on_end(span);
    }

    /// Sends off what is left, within a bound. It blocks.
    pub(crate) fn close(&self) {
        if let Err(error) = self.processor.shutdown_with_timeout(LAST_SPANS) {
            tracing::warn!(%error, "failed to send the last traces");
        }
    }
}

/// The trace of one request while it is under way.
pub(crate) struct Trace {
    id: TraceId,
    /// The request's span.
    span: SpanId,
    /// The client's, if it sent one.
    remote: Option<SpanContext>,
    /// The span of the attempt under way.
    attempt: SpanId,
    sampled: bool,
    endpoint: Endpoint,
    began: SystemTime,
    /// The spans of attempts that have ended.
    attempts: Vec<SpanData>,
    scope: InstrumentationScope,
}

/// A request that has ended, as its span tells of it.
pub(crate) struct Finished<'a> {
    pub(crate) request_id: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) status: u16,
    pub(crate) code: Option<&'static str>,
    pub(crate) model_asked: Option<&'a str>,
    pub(crate) key: Option<&'a str>,
    pub(crate) rule: Option<&'a str>,
    pub(crate) attempts: u32,
    pub(crate) revision: u64,
    pub(crate) total: Duration,
}

impl Trace {
    /// The trace's id, for the access log.
    pub(crate) fn id(&self) -> String {
        self.id.to_string()
    }

    /// Gives the attempt that begins a span.
    pub(crate) fn next_attempt(&mut self) {
        self.attempt = new_span_id();
    }

    /// Returns the upstream's `traceparent`, and whether the client's `tracestate` goes with
    /// it: one without a trace that could be read says nothing.
    pub(crate) fn context(&self) -> (Option<HeaderValue>, bool) {
        let flags = u8::from(self.sampled);
        let text = format!("00-{}-{}-{flags:02x}", self.id, self.attempt);
        (HeaderValue::from_str(&text).ok(), self.remote.is_some())
    }

    /// An attempt has ended.
    pub(crate) fn attempt_ended(
        &mut self,
        entry: &LedgerEntry,
        provider: Option<&CompiledProvider>,
    ) {
        if !self.sampled {
            return;
        }
        let (attempt, outcome) = (&entry.attempt, &entry.outcome);
        let micros = |time: Option<u32>| Duration::from_micros(time.unwrap_or_default().into());
        let start = self.began + micros(outcome.timings.queue);
        let end = start + micros(outcome.timings.total);
        let operation = operation(self.endpoint);
        let mut attributes = vec![
            KeyValue::new("gen_ai.operation.name", operation),
            KeyValue::new("gen_ai.provider.name", provider_name(provider, entry)),
            KeyValue::new("gen_ai.request.model", attempt.deployment.to_string()),
            KeyValue::new("gen_ai.request.stream", attempt.stream),
            KeyValue::new("llm_router.provider.id", attempt.provider.to_string()),
            KeyValue::new("llm_router.attempt", i64::from(attempt.number)),
        ];
        if let Some(provider) = provider {
            let (host, port) = (provider.origin.host.clone(), provider.origin.port);
            attributes.push(KeyValue::new("server.address", host));
            attributes.push(KeyValue::new("server.port", i64::from(port)));
        }
        if outcome.status > 0 {
            let status = i64::from(outcome.status);
            attributes.push(KeyValue::new("http.response.status_code", status));
        }
        if let Some(first) = outcome.timings.first_token {
            let seconds = micros(Some(first)).as_secs_f64();
            attributes.push(KeyValue::new(
                "gen_ai.response.time_to_first_chunk",
                seconds,
            ));
        }
        attributes.extend(usage(entry));
        let failure = failure(entry);
        attributes.extend(
            failure
                .clone()
                .map(|code| KeyValue::new("error.type", code)),
        );
        let span = SpanData {
            name: format!("{operation} {}", attempt.deployment).into(),
            status: failure.map_or(Status::Unset, Status::error),
            ..self.span_data(self.attempt, SpanKind::Client, start, end, attributes)
        };
        self.attempts.push(span);
    }

    fn request(&self, request: &Finished<'_>) -> SpanData {
        let text = |name: &'static str, value: Option<&str>| {
            value.map(|value| KeyValue::new(name, value.to_owned()))
        };
        let mut attributes = vec![
            KeyValue::new("http.request.method", request.method.to_owned()),
            KeyValue::new("http.route", request.path.to_owned()),
            KeyValue::new("http.response.status_code", i64::from(request.status)),
            KeyValue::new("gen_ai.operation.name", operation(self.endpoint)),
            KeyValue::new("llm_router.request.id", request.request_id.to_owned()),
            KeyValue::new("llm_router.attempts", i64::from(request.attempts)),
            KeyValue::new("llm_router.revision", request.revision.to_string()),
        ];
        let optional = [
            text("gen_ai.request.model", request.model_asked),
            text("llm_router.key.name", request.key),
            text("llm_router.rule", request.rule),
            text("error.type", request.code),
        ];
        attributes.extend(optional.into_iter().flatten());
        let failed = request.status >= 500 || request.code.is_some() && request.status < 400;
        let code = request.code.unwrap_or("status");
        let end = self.began + request.total;
        SpanData {
            name: format!("{} {}", request.method, request.path).into(),
            parent_span_id: self
                .remote
                .as_ref()
                .map_or(SpanId::INVALID, SpanContext::span_id),
            parent_span_is_remote: self.remote.is_some(),
            status: if failed {
                Status::error(code)
            } else {
                Status::Unset
            },
            ..self.span_data(self.span, SpanKind::Server, self.began, end, attributes)
        }
    }

    /// A span below the request's, with what all have in common.
    fn span_data(
        &self,
        id: SpanId,
        span_kind: SpanKind,
        start_time: SystemTime,
        end_time: SystemTime,
        attributes: Vec<KeyValue>,
    ) -> SpanData {
        let state = self
            .remote
            .as_ref()
            .map(|remote| remote.trace_state().clone());
        let flags = TraceFlags::SAMPLED;
        SpanData {
            span_context: SpanContext::new(self.id, id, flags, false, state.unwrap_or_default()),
            parent_span_id: self.span,
            parent_span_is_remote: false,
            span_kind,
            name: "".into(),
            start_time,
            end_time,
            attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

/// Tokens used, where anything was.
fn usage(entry: &LedgerEntry) -> impl Iterator<Item = KeyValue> + '_ {
    let usage = &entry.outcome.usage;
    let counts = [
        ("gen_ai.usage.input_tokens", usage.input_total()),
        ("gen_ai.usage.output_tokens", usage.output_total()),
        (
            "gen_ai.usage.cache_read.input_tokens",
            usage.get(Class::CacheRead),
        ),
        (
            "gen_ai.usage.cache_creation.input_tokens",
            usage.cache_write_total(),
        ),
        (
            "gen_ai.usage.reasoning.output_tokens",
            usage.get(Class::Reasoning),
        ),
    ];
    let used = counts.into_iter().filter(|(_, tokens)| *tokens > 0);
    used.map(|(name, tokens)| KeyValue::new(name, i64::try_from(tokens).unwrap_or(i64::MAX)))
}

/// Returns the error type of an attempt: the router's word for it, or the provider's status where that is
/// all there is.
fn failure(entry: &LedgerEntry) -> Option<String> {
    let outcome = &entry.outcome;
    let code = outcome.error.as_deref().filter(|code| *code != "status");
    (outcome.ending != AttemptEnd::Complete)
        .then(|| code.map_or_else(|| outcome.status.to_string(), str::to_owned))
}

/// The conventions' names of operations; those that they have none for keep the router's.
const fn operation(endpoint: Endpoint) -> &'static str {
    match endpoint {
        Endpoint::ChatCompletions | Endpoint::Responses | Endpoint::Messages => "chat",
        Endpoint::Completions => "text_completion",
        Endpoint::Embeddings => "embeddings",
        Endpoint::CountTokens => "count_tokens",
    }
}

/// The conventions' names of providers, by the configured type; others go by their id.
fn provider_name(provider: Option<&CompiledProvider>, entry: &LedgerEntry) -> Value {
    let known = provider.and_then(|provider| provider.kind.telemetry_name());
    known.map_or_else(|| entry.attempt.provider.to_string().into(), Value::from)
}

fn new_trace_id() -> TraceId {
    TraceId::from(fastrand::u128(1..))
}

fn new_span_id() -> SpanId {
    SpanId::from(fastrand::u64(1..))
}

/// The client's trace context, if it sent one that can be read.
fn remote(headers: &HeaderMap) -> Option<SpanContext> {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else {
        return None;
    };
    let (id, span, flags) = parse_parent(line.to_str().ok()?)?;
    let states = headers.get_all(TRACESTATE).iter();
    let states: Vec<&str> = states.filter_map(|line| line.to_str().ok()).collect();
    let state: TraceState = states.join(",").parse().unwrap_or_default();
    let context = SpanContext::new(id, span, TraceFlags::new(flags), true, state);
    context.is_valid().then_some(context)
}

/// `version-trace-parent-flags` in small hexadecimal digits. Later versions may have more after it.
fn parse_parent(line: &str) -> Option<(TraceId, SpanId, u8)> {
    let mut parts = line.split('-');
    let mut part = |length: usize| {
        let part = parts.next()?;
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (part.len() == length && part.bytes().all(digit)).then_some(part)
    };
    let (version, id, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
    if version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let (id, span) = (TraceId::from_hex(id).ok()?, SpanId::from_hex(span).ok()?);
    Some((id, span, u8::from_str_radix(flags, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_context_is_read_as_the_recommendation_has_it() {
        const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
        for (line, sampled) in [
            (format!("00-{ID}-00f067aa0ba902b7-01"), Some(true)),
            (format!("00-{ID}-00f067aa0ba902b7-00"), Some(false)),
            (format!("00-{ID}-00f067aa0ba902b7-03"), Some(true)),
            (format!("01-{ID}-00f067aa0ba902b7-01-more"), Some(true)),
            (format!("00-{ID}-00f067aa0ba902b7-01-more"), None),
            (format!("ff-{ID}-00f067aa0ba902b7-01"), None),
            (format!("00-{ID}-0000000000000000-01"), None),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), None),
            (
                format!("00-{}-00f067aa0ba902b7-01", ID.to_uppercase()),
                None,
            ),
            (format!("00-{ID}-00f067aa0ba902b7"), None),
            (String::new(), None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(TRACEPARENT, HeaderValue::from_str(&line).unwrap());
            let found = remote(&headers).map(|context| context.is_sampled());
            assert_eq!(found, sampled, "{line}");
            headers.append(TRACEPARENT, HeaderValue::from_str(&line).unwrap());
            assert_eq!(remote(&headers), None, "two of {line}");
        }
    }
}
