//! A mock LLM provider: a small HTTP server that speaks the OpenAI, Anthropic and Gemini formats,
//! keeps the pace it is told, fails in the ways it is told, and counts what it served. It calls no
//! model and knows nothing of the router in front of it.
//!
//! # What it answers
//!
//! `POST /v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/v1/responses`,
//! `/v1/messages`, `/v1/messages/count_tokens` and `GET /v1/models`, `/v1/models/{id}`, each also
//! without `/v1`; `POST /v1beta/models/{id}:generateContent`, `:streamGenerateContent?alt=sse`,
//! `:countTokens` and `GET /v1beta/models`, and OpenAI's paths below `/v1beta/openai`; HTTP/1.1
//! and HTTP/2 with prior knowledge. Answers are prose drawn from the seed and the last user
//! message, so the same question gets the same answer. Tools are called with arguments that fit
//! their schema, a turn with tool results gets text, `json_schema` gets JSON that fits, thinking is
//! shown where Anthropic and Gemini show it and counted where OpenAI counts it. Requests are
//! checked about as strictly as the providers check them.
//!
//! Without controls a stream's events leave as fast as the client reads. Tokens of input are a
//! quarter of the bytes of text, tokens of output the words. A prompt of 1,024 tokens or more is
//! half cached in the OpenAI formats; `cache_control` marks fill Anthropic's cache classes.
//!
//! # Controls
//!
//! A request asks for special treatment by a header `x-mock-NAME: VALUE` or by a suffix of its
//! model name, `mock-gpt:status=500:delay=200ms`. A header wins over the model name, and both win
//! over the mock's own standing controls ([`Mock::set_controls`], `PUT /mock/controls`). Segments
//! of a model name without `=` that are no control belong to the name (`ft:gpt:org`); an unknown
//! `name=value` or header is answered 400. Flags need no value. Durations are `80us`, `200ms`,
//! `1.5s`, `2m`, or a bare number of milliseconds. Names may be written with `-` in headers.
//!
//! | control | what it does |
//! |---|---|
//! | `delay=D` | waits before the response headers |
//! | `first_token=D` | waits before the first event; the headers are out by then |
//! | `token_delay=D` | waits between token events; the events around them leave with their neighbours. A whole answer takes as long as its stream |
//! | `split=N`, `split=random` | writes the body in pieces of N (or 1 to 64) bytes, across the bounds of events, each flushed by itself |
//! | `split_delay=D` | waits between those pieces |
//! | `chunked` | leaves out the `content-length` of a whole answer |
//! | `tokens=N` | length of the text: exactly N token events |
//! | `pad=N` | text of exactly N bytes, streamed by the kibibyte |
//! | `echo` | the text is `sha256=HEX bytes=N` of the request body as received |
//! | `stamp` | text events carry `@NANOS ` (Unix time in nanoseconds when written) as their text |
//! | `tools=N` | calls N tools, in turn, if the request has any and allows it; 0 for none |
//! | `usage=CLASS=N,…` | the usage to tell: `input` (all of it), `cached`, `cache_write_5m`, `cache_write_1h`, `output` (all of it), `reasoning`; as JSON too in a header; or `random` |
//! | `no_usage` | tells no usage, not even where it was asked for |
//! | `seed=N` | seed of the answer and of random usage |
//! | `status=N` | from 400: an error in the provider's shape; below: the status of the answer |
//! | `retry_after=D` | the `retry-after` header, in seconds if bare; `none` to leave it out where it is usual (429, 503, 529: one second) |
//! | `reset` | a TCP reset instead of an answer |
//! | `reset_after=N`, `cut_after=N`, `hang_after=N` | a TCP reset, a close without terminator, or silence, after N events |
//! | `cut_bytes=N` | a close after N bytes of body |
//! | `hang` | reads the request and never answers |
//! | `error_event`, `error_after=N` | an error event, first or after N events, then the end; a whole answer is a 200 with the error as its body for `error_event` |
//! | `fail_first=N` | the failure named beside it (else a 500) strikes the first N requests of this model name and key only |
//! | `key=TEXT` | keeps counts of `fail_first` apart |
//!
//! A request fails in one way: two failures in one place are answered 400. A whole answer is one
//! event, so of the `…_after` controls only those with N = 0 strike it. Over HTTP/2, `reset` and
//! cuts reset the one stream. Events are counted as the client sees them, pings and `[DONE]`
//! included.
//!
//! # Meter
//!
//! [`Mock::meter`] and `GET /mock/meter` tell totals, in all and by model; `GET
//! /mock/requests?limit=&model=&request_id=` tells the latest requests, newest first, with their
//! headers (credentials as hashes); `DELETE /mock/meter` sets everything to nothing. Usage of an
//! answer that was broken off counts its input in full and its output as far as it was sent.

use std::{future::Future, io, net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};

mod ask;
mod body;
mod clock;
mod config;
mod control;
mod format;
mod headers;
mod meter;
mod panel;
mod prose;
mod schema;
mod script;
mod server;
mod service;
mod socket;
mod usage;

pub use config::MockConfig;
pub use meter::{BillingMeter, Credential, EndedTotals, MeterRecord, MeterTotals, RecordState};
pub use usage::MockUsage;

use control::Controls;
use service::ServiceState;

/// A mock provider. Clones share its meter and its controls.
#[derive(Clone, Debug)]
pub struct MockProvider {
    shared: Arc<ServiceState>,
}

/// Controls that could not be read; says which and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ControlError(String);

impl MockProvider {
    /// A mock that answers by `config`.
    #[must_use]
    pub fn new(config: MockConfig) -> Self {
        Self {
            shared: Arc::new(ServiceState::new(config)),
        }
    }

    /// Serves connections of `listener` until `shutdown` is ready; then lets open answers finish
    /// for as long as the config says. Dropping the future ends everything at once.
    ///
    /// # Errors
    /// None now; connections that fail are left, and the listener is asked again.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        server::serve(listener, Arc::clone(&self.shared), shutdown).await
    }

    /// Serves on a free port of the loopback interface, in a task of the current runtime.
    ///
    /// # Errors
    /// If no port can be had.
    pub async fn start(config: MockConfig) -> io::Result<RunningMock> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let addr = listener.local_addr()?;
        let mock = Self::new(config);
        let (stop, stopped) = oneshot::channel();
        let served = mock.clone();
        let task = tokio::spawn(async move {
            let shutdown = async move { stopped.await.unwrap_or_default() };
            served.serve(listener, shutdown).await
        });
        Ok(RunningMock {
            mock,
            addr,
            stop: Some(stop),
            task,
        })
    }

    /// Returns the meter of requests and served tokens.
    #[must_use]
    pub fn meter(&self) -> &BillingMeter {
        &self.shared.meter
    }

    /// Sets the controls of every request that does not say otherwise, in the grammar of the
    /// model name: `status=503:delay=1s`. Empty, they are as at the start.
    ///
    /// # Errors
    /// If a control is unknown or has a wrong value; then nothing changes.
    pub fn set_controls(&self, controls: &str) -> Result<(), ControlError> {
        let controls = Controls::from_text(controls).map_err(ControlError)?;
        self.shared.controls.store(Arc::new(controls));
        Ok(())
    }
}

/// A mock that serves in a task of its own, until it is stopped or dropped.
#[derive(Debug)]
pub struct RunningMock {
    mock: MockProvider,
    addr: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<io::Result<()>>,
}

impl RunningMock {
    /// Returns the address that it listens on.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The mock that serves.
    #[must_use]
    pub fn mock(&self) -> &MockProvider {
        &self.mock
    }

    /// Returns the meter of requests and served tokens.
    #[must_use]
    pub fn meter(&self) -> &BillingMeter {
        self.mock.meter()
    }

    /// Stops serving and waits until it has stopped.
    ///
    /// # Errors
    /// If serving had failed.
    pub async fn stop(mut self) -> io::Result<()> {
        if let Some(stop) = self.stop.take() {
            // Refused only if the task has ended, and then there is nothing to stop.
            let _ = stop.send(());
        }
        (&mut self.task).await.map_err(io::Error::other)?
    }
}

impl Drop for RunningMock {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves a new mock on `listener` until `shutdown` is ready. See [`Mock`] for one whose meter
/// can be read in the same process.
///
/// # Errors
/// As [`Mock::serve`].
pub async fn serve(
    listener: TcpListener,
    config: MockConfig,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    MockProvider::new(config).serve(listener, shutdown).await
}
