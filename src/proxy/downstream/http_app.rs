//! The HTTP application in front of Pingora's proxy: reads the request header under our own time
//! limit, answers what is no HTTP, and hands the rest on inside a
//! [`Downstream`](crate::proxy::downstream::session::Downstream). Knows nothing of what requests mean.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::Method;
use llm_router_wire::error::ErrorBody;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::http::ResponseHeader;
use pingora::protocols::http::server::Session as HttpSession;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::proxy::HttpProxy;
use pingora::server::ShutdownWatch;
use pingora::time::fast_timeout::fast_timeout;
use pingora::{Error, ErrorType};
use tokio::sync::watch;

use crate::clock;
use crate::process::shutdown::Stop;
use crate::proxy::context::new_request_id;
use crate::proxy::describe;
use crate::proxy::downstream::connections::{Connections, Place};
use crate::proxy::downstream::exchange::{Arrival, Exchange};
use crate::proxy::downstream::session::Downstream;
use crate::proxy::gateway::Gateway;
use crate::telemetry::metrics::Metrics;

/// Serves client connections.
pub(crate) struct App {
    proxy: Arc<HttpProxy<Gateway>>,
    options: HttpServerOptions,
    header_timeout: Duration,
    /// Tells when the router is to end.
    stop: watch::Receiver<Option<Stop>>,
    /// Counted while there is a limit.
    connections: Option<Arc<Connections>>,
    metrics: Arc<Metrics>,
}

/// Settings of an [`App`].
pub(crate) struct AppOptions {
    pub(crate) header_timeout: Duration,
    pub(crate) stop: watch::Receiver<Option<Stop>>,
    pub(crate) connections: Option<Arc<Connections>>,
}

impl App {
    pub(crate) fn new(proxy: HttpProxy<Gateway>, metrics: Arc<Metrics>, app: AppOptions) -> Self {
        let mut options = HttpServerOptions::default();
        options.h2_idle_timeout = Some(IDLE_CONNECTION);
        Self {
            proxy: Arc::new(proxy),
            options,
            header_timeout: app.header_timeout,
            stop: app.stop,
            connections: app.connections,
            metrics,
        }
    }

    /// A place among the connections of the client's address.
    ///
    /// # Errors
    /// When it has too many open.
    fn place(&self, session: &HttpSession) -> Result<Option<Place>, ()> {
        let address = session.client_addr().and_then(SocketAddr::as_inet);
        let (Some(connections), Some(address)) = (&self.connections, address) else {
            return Ok(None);
        };
        connections.enter(address.ip()).map(Some).ok_or(())
    }

    /// Reads the request header; `None` when the connection is of no more use.
    async fn read_header(&self, mut session: HttpSession) -> Option<HttpSession> {
        // The application marks connections that it has served by the keep-alive time it gave.
        let reused = session.get_keepalive() == Some(KEEP_ALIVE.as_secs());
        let idle = if reused { KEEP_ALIVE } else { Duration::ZERO };
        let Ok(read) = fast_timeout(idle + self.header_timeout, session.read_request()).await
        else {
            session.shutdown().await;
            return None;
        };
        if session.get_keepalive().is_some() {
            session.set_keepalive(Some(KEEP_ALIVE.as_secs()));
        }
        session.set_pipelining_enabled(true);
        match read {
            Ok(true) if session.req_header().method != Method::CONNECT => Some(session),
            Ok(true) => {
                refuse(session, 405, INVALID, "CONNECT is not served here.").await;
                None
            }
            Ok(false) => None,
            Err(error) if is_malformed(&error) => {
                tracing::debug!(
                    error = describe(&error),
                    "a request header could not be read"
                );
                refuse(session, 400, INVALID, "The request is not valid HTTP.").await;
                None
            }
            Err(error) => {
                let error = describe(&error);
                tracing::debug!(error, "a connection ended before its request header did");
                session.shutdown().await;
                None
            }
        }
    }
}

/// Part of the remaining time that is reserved for ending unfinished requests: an error event for
/// the client, the ledger, the access line.
const FAREWELL: Duration = Duration::from_millis(500);

/// Waits until connections without a request are to be closed.
async fn idle_must_go(stop: &mut watch::Receiver<Option<Stop>>) {
    let gone = |stop: &Option<Stop>| stop.is_some_and(|stop| !stop.idle_may_stay);
    // An error means that the process is ending without telling, which is a stop too.
    let _ = stop.wait_for(gone).await;
}

/// Waits until the end is another one than `told`; for ever if there is none to come.
async fn next_stop(stop: &mut watch::Receiver<Option<Stop>>, told: Option<Stop>) -> Stop {
    let changed = stop.wait_for(|now| now.is_some() && *now != told).await;
    match changed.map(|now| *now) {
        Ok(Some(now)) => now,
        _ => std::future::pending().await,
    }
}

/// Idle time after which an HTTP/1.1 connection is closed.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Idle time after which an HTTP/2 connection is closed.
const IDLE_CONNECTION: Duration = Duration::from_secs(300);

/// The code of an answer to what is no request.
const INVALID: &str = "invalid_request";

fn is_malformed(error: &Error) -> bool {
    matches!(error.etype(), ErrorType::InvalidHTTPHeader)
}

/// The connection of an answered request, ready for its next one.
async fn reuse(session: HttpSession) -> Option<ReusedHttpStream> {
    let settings = HttpPersistentSettings::for_session(&session);
    let stream = session.finish().await.ok()??;
    Some(ReusedHttpStream::from_reusable_stream(stream, settings))
}

/// Answers a request that has no path to tell its format by, and closes the connection.
async fn refuse(mut session: HttpSession, status: u16, code: &str, message: &str) {
    let id = new_request_id();
    let error = ErrorBody {
        status,
        code,
        message,
        param: None,
        details: None,
        request_id: &id,
    };
    if let Err(error) = write_refusal(&mut session, status, error.render_for_any()).await {
        tracing::debug!(%error, "a refusal could not be sent");
    }
    session.shutdown().await;
}

async fn write_refusal(session: &mut HttpSession, status: u16, body: Bytes) -> pingora::Result<()> {
    session.set_keepalive(None);
    let mut header = ResponseHeader::build(status, Some(3))?;
    header.insert_header(http::header::CONTENT_TYPE, "application/json")?;
    header.insert_header(http::header::CONTENT_LENGTH, body.len())?;
    session.write_response_header(Box::new(header)).await?;
    session.write_response_body(body, true).await
}

#[async_trait]
impl HttpServerApp for App {
    async fn process_new_http(
        self: &Arc<Self>,
        session: HttpSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let Ok(_place) = self.place(&session) else {
            self.metrics.too_many_connections();
            let message = "Too many connections are open from this address.";
            refuse(session, 429, "too_many_connections", message).await;
            return None;
        };
        let mut stop = self.stop.clone();
        let mut session = tokio::select! {
            biased;
            session = self.read_header(session) => session?,
            () = idle_must_go(&mut stop) => return None,
        };
        if stop.borrow().is_some() {
            session.set_keepalive(None);
        }
        let at = clock::now();
        let exchange = Arc::<Exchange>::default();
        let kept = Arc::clone(&exchange);
        let arrival = Arrival {
            exchange: Arc::clone(&exchange),
            at,
        };
        arrival.attach(session.req_header_mut());
        let session = Downstream::wrap(session, exchange);
        let mut serving = pin!(self.proxy.process_new_http(session, shutdown));
        let mut told = None;
        let served = loop {
            tokio::select! {
                biased;
                served = &mut serving => break served,
                now = next_stop(&mut stop, told) => {
                    told = Some(now);
                    let left = now.at.saturating_duration_since(clock::now());
                    // The session sees that when it is polled next, which is now.
                    kept.stop_in(clock::now(), left.saturating_sub(FAREWELL));
                }
            }
        };
        match served {
            Some(stream) => Some(stream),
            None => reuse(kept.take_kept()?).await,
        }
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        Some(&self.options)
    }

    async fn http_cleanup(&self) {
        self.proxy.http_cleanup().await;
    }
}
