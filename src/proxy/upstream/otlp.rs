//! Sends exported spans to their collector: over Pingora's connector, whose TLS and pool the proxy
//! uses too. What is exported is made elsewhere.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue, Request, Response};
use llm_router_config::{Http2, Scheme, Timeouts, Traces};
use opentelemetry_http::{HttpClient, HttpError};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use prometheus::IntCounterVec;
use secrecy::ExposeSecret as _;
use tokio::runtime::Handle;

use crate::proxy::upstream::Upstream;
use crate::snapshot::Origin;

/// Timeout of the collector.
const LIMIT: Duration = Duration::from_secs(5);

/// The largest answer that is read.
const MOST: usize = 64 * 1024;

/// The collector that spans are sent to.
pub(crate) struct Collector {
    inner: Arc<Inner>,
    runtime: Handle,
}

struct Inner {
    upstream: Upstream,
    connector: Connector,
    host: HeaderValue,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// Set once the collector's failure has been logged.
    failing: AtomicBool,
    exports: IntCounterVec,
}

impl Collector {
    /// A collector by its settings. Requests are made on `runtime`, exports counted by outcome.
    ///
    /// # Errors
    /// When a header can't be sent.
    pub(crate) fn new(
        settings: &Traces,
        runtime: Handle,
        exports: IntCounterVec,
    ) -> io::Result<Self> {
        let endpoint = &settings.endpoint;
        let origin = Origin {
            host: endpoint.host.clone(),
            port: endpoint.port,
            tls: endpoint.scheme == Scheme::Https,
            ca_file: None,
            http2: Http2::Never,
            allow_link_local: false,
        };
        let mut headers = Vec::with_capacity(settings.headers.len());
        for (name, value) in &settings.headers {
            let name = name.parse::<HeaderName>().map_err(io::Error::other)?;
            let mut value =
                HeaderValue::from_str(value.expose_secret()).map_err(io::Error::other)?;
            value.set_sensitive(true);
            headers.push((name, value));
        }
        let inner = Inner {
            upstream: Upstream::new(&origin)?,
            connector: Connector::new(None),
            host: HeaderValue::from_str(&endpoint.authority()).map_err(io::Error::other)?,
            headers,
            failing: AtomicBool::new(false),
            exports,
        };
        Ok(Self {
            inner: Arc::new(inner),
            runtime,
        })
    }
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector").finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        // The exporter's thread has no runtime of tokio's.
        let inner = Arc::clone(&self.inner);
        let sent = self.runtime.spawn(async move { inner.send(request).await });
        sent.await
            .map_err(HttpError::from)?
            .map_err(HttpError::from)
    }
}

impl Inner {
    async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let sent = tokio::time::timeout(LIMIT, self.exchange(request)).await;
        let sent = match sent {
            Ok(sent) => sent.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", LIMIT.as_secs())),
        };
        let problem = match &sent {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(answer.status().to_string()),
            Err(problem) => Some(problem.clone()),
        };
        if sent.is_err() {
            // It may have moved.
            self.upstream.resolve().await;
        }
        self.tell(problem);
        sent
    }

    /// Counts an export; told of once when the collector stops taking them, and when it does again.
    fn tell(&self, problem: Option<String>) {
        let failed = problem.is_some();
        let outcome = if failed { "failed" } else { "taken" };
        self.exports.with_label_values(&[outcome]).inc();
        if self.failing.swap(failed, Ordering::Relaxed) == failed {
            return;
        }
        match problem {
            Some(problem) => tracing::warn!(problem, "failed to export traces"),
            None => tracing::info!("exporting traces again"),
        }
    }

    async fn exchange(&self, request: Request<Bytes>) -> pingora::Result<Response<Bytes>> {
        let timeouts = Timeouts {
            connect: LIMIT,
            first_byte: LIMIT,
            first_byte_plain: None,
            idle: LIMIT,
            total: LIMIT,
            drain: LIMIT,
        };
        let peer = self.upstream.peer(&timeouts).await?;
        let (mut session, _) = self.connector.get_http_session(&*peer).await?;
        let header = self.header(&request)?;
        session.write_request_header(Box::new(header)).await?;
        session
            .write_request_body(request.into_body(), true)
            .await?;
        session.finish_request_body().await?;
        session.set_read_timeout(Some(LIMIT));
        session.read_response_header().await?;
        let status = session.response_header().map(|header| header.status);
        let mut body = BytesMut::new();
        while let Some(chunk) = session.read_response_body().await? {
            if body.len() + chunk.len() > MOST {
                break;
            }
            body.extend_from_slice(&chunk);
        }
        let idle = peer.options.idle_timeout;
        self.connector
            .release_http_session(session, &*peer, idle)
            .await;
        let mut answer = Response::new(body.freeze());
        *answer.status_mut() = status.unwrap_or_default();
        Ok(answer)
    }

    fn header(&self, request: &Request<Bytes>) -> pingora::Result<RequestHeader> {
        let path = request.uri().path().as_bytes();
        let mut header = RequestHeader::build("POST", path, None)?;
        for (name, value) in request.headers().iter() {
            header.insert_header(name.clone(), value.clone())?;
        }
        header.insert_header(http::header::HOST, self.host.clone())?;
        header.insert_header(http::header::CONTENT_LENGTH, request.body().len())?;
        for (name, value) in &self.headers {
            header.insert_header(name.clone(), value.clone())?;
        }
        Ok(header)
    }
}
