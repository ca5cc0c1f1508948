//! The session that stands in for the client's own while a request is proxied. It sends our copy
//! of the body instead of the connection's, watches the upstream's deadlines while it waits for
//! the client, and can hold a response back. It must not know what a request means.
//!
//! Pingora replays a body read early only through a buffer of 64 KiB; a custom session has no
//! such limit, and its body can be sent again, whole, to every upstream that is tried.

use std::future::poll_fn;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Version};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::protocols::Digest;
use pingora::protocols::http::HttpTask;
use pingora::protocols::http::custom::CustomMessageWrite;
use pingora::protocols::http::custom::server::Session as CustomSession;
use pingora::protocols::http::server::Session as HttpSession;
use pingora::protocols::l4::socket::SocketAddr;
use pingora::time::fast_timeout::fast_sleep;
use pingora::{Error, ErrorType, Result};

use crate::clock;
use crate::proxy::downstream::exchange::{
    EMPTY_ANSWER, Exchange, ResponseGate, TRY_NEXT, TimeoutKind,
};

type MessageReader = Box<dyn futures::Stream<Item = Result<Bytes>> + Unpin + Send + Sync + 'static>;

/// A stand-in for the real session, which it gives back to the exchange when dropped.
pub(crate) struct Downstream {
    inner: HttpSession,
    exchange: Arc<Exchange>,
    held: Vec<HttpTask>,
    /// Wakes up to look at the deadline. It outlives many waits: the deadline moves with every
    /// event of a stream, a timer for each of them would be most of the event's cost.
    alarm: Option<Alarm>,
    /// Error of the client's disconnection, while the response is read on without it.
    gone: Option<Box<Error>>,
    /// Set once the client has been sent some of an upstream's response.
    answered: bool,
}

/// Event that the stand-in waits for.
enum Wakeup {
    /// The client sent something, or its end.
    Client(Option<Bytes>),
    /// A comment is due.
    KeepAlive,
}

/// Comment for a client that waits for a stream's first content.
const COMMENT: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// A timer and the deadline that it was set for.
struct Alarm {
    deadline: Instant,
    timer: Pin<Box<dyn Future<Output = ()> + Send + Sync>>,
}

impl Downstream {
    /// Wraps a session whose request header has been read.
    pub(crate) fn wrap(mut inner: HttpSession, exchange: Arc<Exchange>) -> HttpSession {
        // While an answer is written, nothing watches the upstream's deadlines.
        inner.set_write_timeout(Some(WRITE_TIMEOUT));
        let held = Vec::new();
        HttpSession::new_custom(Box::new(Self {
            inner,
            exchange,
            held,
            alarm: None,
            gone: None,
            answered: false,
        }))
    }

    /// Puts the real session back in place, so that its connection can be kept alive. One that
    /// is in place stays there.
    pub(crate) fn unwrap(session: &mut HttpSession, exchange: &Exchange) {
        if !session.is_custom() {
            return;
        }
        // Dropping the stand-in is what hands the real session over.
        drop(mem::replace(session, empty()));
        if let Some(real) = exchange.take_back() {
            *session = real;
        }
    }

    /// Waits for the client to go away, or for the upstream's deadline to pass. Where a response
    /// is to be read on without its client, that comes after the one and before the other.
    async fn idle(&mut self) -> Result<Option<Bytes>> {
        loop {
            match (self.watch().await, &self.gone) {
                // The time to read on is over, or the upstream is silent: the client's leaving is
                // what ended the request, and no fault of the provider's.
                (Err(_), Some(_)) => return Err(self.gone.take().unwrap_or_else(closed_error)),
                (Err(error), None) if is_timeout(&error) => return Err(error),
                (Err(error), None) => self.leave(error)?,
                (Ok(Wakeup::KeepAlive), None) => {
                    if let Err(error) = self.comment().await {
                        self.leave(error)?;
                    }
                }
                (Ok(Wakeup::KeepAlive), Some(_)) => self.exchange.end_keep_alive(),
                (Ok(Wakeup::Client(passed)), _) => return Ok(passed),
            }
        }
    }

    /// Sends a comment, and before the first one the head of a stream.
    async fn comment(&mut self) -> Result<()> {
        if let Some(mut head) = self.exchange.begin_comment(clock::now()) {
            self.fit_version(&mut head);
            self.inner.write_response_header(head).await?;
        }
        self.inner.write_response_body(COMMENT, false).await
    }

    /// Notes how the client went away.
    ///
    /// # Errors
    /// With that, unless the response is read on.
    fn leave(&mut self, error: Box<Error>) -> Result<()> {
        if !self.exchange.client_left(clock::now()) {
            return Err(error);
        }
        self.inner.set_keepalive(None);
        self.gone = Some(error);
        Ok(())
    }

    /// Waits for the client, unless it has gone, for the upstream's deadline, and until a comment is
    /// due.
    async fn watch(&mut self) -> Result<Wakeup> {
        let gone = self.gone.is_some();
        let Self {
            inner,
            exchange,
            alarm,
            ..
        } = self;
        let mut client = pin!(inner.read_body_or_idle(true));
        poll_fn(|context| {
            if !gone && let Poll::Ready(outcome) = client.as_mut().poll(context) {
                return Poll::Ready(outcome.map(Wakeup::Client));
            }
            let comment = exchange.keep_alive_due();
            // `None`: what is due is a comment.
            let (deadline, timeout) = match (exchange.deadline(), comment) {
                (Some((deadline, kind)), Some(comment)) if deadline <= comment => {
                    (deadline, Some(kind))
                }
                (_, Some(comment)) => (comment, None),
                (Some((deadline, kind)), None) => (deadline, Some(kind)),
                (None, None) => return Poll::Pending,
            };
            // A deadline that moved on is checked when the alarm rings; one that moved nearer, now.
            drop(alarm.take_if(|alarm| deadline < alarm.deadline));
            loop {
                if let Some(alarm) = alarm.as_mut() {
                    ready!(alarm.timer.as_mut().poll(context));
                }
                let left = deadline.saturating_duration_since(clock::now());
                if left.is_zero() {
                    *alarm = None;
                    return Poll::Ready(match timeout {
                        Some(kind) => Error::err(ErrorType::new(kind.error_type())),
                        None => Ok(Wakeup::KeepAlive),
                    });
                }
                let timer = Box::pin(fast_sleep(left));
                *alarm = Some(Alarm { deadline, timer });
            }
        })
        .await
    }
}

/// The three steps of a response on its way to the client.
impl Downstream {
    /// Holds back what is to be judged first, and drops what is not for the client; true if what
    /// is left in `tasks` may be written.
    ///
    /// # Errors
    /// When the attempt has failed: at once, or it could not be given up.
    fn pass_gate(&mut self, tasks: &mut Vec<HttpTask>, ended: bool) -> Result<bool> {
        // Interim answers are about the provider's connection, and nothing cleans their headers.
        tasks.retain(|task| !is_interim(task));
        let gate = self.exchange.gate();
        if gate == ResponseGate::Pass {
            return Ok(true);
        }
        let failed = |task: &HttpTask| matches!(task, HttpTask::Failed(_));
        let failed = tasks.iter().position(failed);
        if let Some(HttpTask::Failed(error)) = failed.map(|at| tasks.swap_remove(at)) {
            return Err(error);
        }
        if gate == ResponseGate::Discard {
            return if ended {
                Error::err_up(TRY_NEXT)
            } else {
                Ok(false)
            };
        }
        let empty = |task: &HttpTask| !matches!(task, HttpTask::Body(Some(_), _));
        let declined = |task: &HttpTask| matches!(task, HttpTask::Header(header, _) if header.status.is_client_error());
        let mut all = self.held.iter().chain(tasks.iter());
        if ended && all.clone().all(empty) && !all.any(declined) {
            // It ended with its head, so that nobody has judged it.
            return Error::err_up(EMPTY_ANSWER);
        }
        // What was taken out of an answer that is read whole leaves nothing to hold.
        tasks.retain(|task| !matches!(task, HttpTask::Body(None, false)));
        if !ended && self.held.len() < MOST_HELD {
            self.held.append(tasks);
            return Ok(false);
        }
        self.exchange.set_gate(ResponseGate::Pass);
        Ok(true)
    }

    /// Adds to `tasks` what was held back and the response's last bytes, and sets its status.
    fn complete(&mut self, tasks: &mut Vec<HttpTask>, ended: bool) -> Result<()> {
        if ended && let Some(tail) = self.exchange.take_tail() {
            tasks.retain(|task| !matches!(task, HttpTask::Trailer(_) | HttpTask::Done));
            tasks.push(HttpTask::Body(Some(tail), true));
        }
        if !self.held.is_empty() {
            self.held.append(tasks);
            *tasks = mem::take(&mut self.held);
        }
        match self.exchange.take_status() {
            Some(status) => set_status(tasks, status),
            None => Ok(()),
        }
    }

    /// Makes a header one that the client's version of HTTP knows: a client of HTTP/1.0 is sent no
    /// chunks, but the body as it is, up to the end of the connection (RFC 9112, section 6.1).
    fn fit_version(&mut self, header: &mut ResponseHeader) {
        if self.inner.req_header().version >= Version::HTTP_11 {
            return;
        }
        header.remove_header(&TRANSFER_ENCODING);
        if !header.headers.contains_key(CONTENT_LENGTH) {
            self.inner.set_keepalive(None);
        }
    }

    /// Writes `tasks` to the client, or drops them where it has gone; true at the response's end.
    async fn write(&mut self, mut tasks: Vec<HttpTask>, ended: bool) -> Result<bool> {
        if self.gone.is_some() {
            return swallow(tasks, ended);
        }
        if self.exchange.head_sent() {
            tasks.retain(|task| !matches!(task, HttpTask::Header(..)));
        }
        for task in &mut tasks {
            if let HttpTask::Header(header, _) = task {
                self.fit_version(header);
            }
        }
        if !tasks.iter().all(|task| matches!(task, HttpTask::Failed(_))) {
            self.answered = true;
            self.exchange.end_keep_alive();
        }
        if self.exchange.stopping() {
            // Nobody will read a next request from this connection.
            self.inner.set_keepalive(None);
        }
        let failed = tasks.iter().any(|task| matches!(task, HttpTask::Failed(_)));
        match self.inner.response_duplex_vec(tasks).await {
            Err(error) if !failed => self.leave(error).map(|()| ended),
            outcome => outcome,
        }
    }
}

/// Takes the real session out of Pingora's hands, which would close its connection, because the
/// answer to its failed request was complete.
pub(crate) fn keep(session: &mut HttpSession, exchange: &Exchange) {
    Downstream::unwrap(session, exchange);
    exchange.keep(mem::replace(session, empty()));
}

fn is_timeout(error: &Error) -> bool {
    matches!(error.etype(), ErrorType::Custom(name) if TimeoutKind::from_error_type(name).is_some())
}

fn closed_error() -> Box<Error> {
    Error::new_down(ErrorType::ConnectionClosed)
}

/// Reads on without passing anything to the client, who has gone; true at the response's end.
fn swallow(tasks: Vec<HttpTask>, ended: bool) -> Result<bool> {
    for task in tasks {
        if let HttpTask::Failed(error) = task {
            return Err(error);
        }
    }
    Ok(ended)
}

fn set_status(tasks: &mut [HttpTask], status: u16) -> Result<()> {
    for task in tasks {
        if let HttpTask::Header(header, _) = task {
            header.set_status(status)?;
        }
    }
    Ok(())
}

fn is_interim(task: &HttpTask) -> bool {
    matches!(task, HttpTask::Header(header, _) if header.status.is_informational())
}

/// Most tasks that are held: a provider that sends comments for ever must be heard.
const MOST_HELD: usize = 64;

/// Timeout for a client to accept a piece of its answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

fn empty() -> HttpSession {
    HttpSession::new_custom(Box::new(()))
}

impl Drop for Downstream {
    fn drop(&mut self) {
        self.exchange
            .give_back(mem::replace(&mut self.inner, empty()));
    }
}

#[async_trait]
impl CustomSession for Downstream {
    fn req_header(&self) -> &RequestHeader {
        self.inner.req_header()
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        self.inner.req_header_mut()
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        self.inner.read_request_body().await
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        self.inner.drain_request_body().await
    }

    async fn write_response_header(&mut self, resp: Box<ResponseHeader>, _end: bool) -> Result<()> {
        self.inner.write_response_header(resp).await
    }

    async fn write_response_header_ref(&mut self, resp: &ResponseHeader, _end: bool) -> Result<()> {
        self.inner.write_response_header_ref(resp).await
    }

    async fn write_body(&mut self, data: Bytes, end: bool) -> Result<()> {
        self.inner.write_response_body(data, end).await
    }

    async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.inner.write_response_trailers(trailers).await
    }

    async fn response_duplex_vec(&mut self, mut tasks: Vec<HttpTask>) -> Result<bool> {
        let ended = tasks.iter().any(HttpTask::is_end);
        if !self.pass_gate(&mut tasks, ended)? {
            return Ok(false);
        }
        self.complete(&mut tasks, ended)?;
        self.write(tasks, ended).await
    }

    fn set_read_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_read_timeout(timeout);
    }

    fn get_read_timeout(&self) -> Option<Duration> {
        self.inner.get_read_timeout()
    }

    fn set_write_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_write_timeout(timeout);
    }

    fn get_write_timeout(&self) -> Option<Duration> {
        self.inner.get_write_timeout()
    }

    fn set_total_drain_timeout(&mut self, timeout: Option<Duration>) {
        self.inner.set_total_drain_timeout(timeout);
    }

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        self.inner.get_total_drain_timeout()
    }

    fn request_summary(&self) -> String {
        self.inner.request_summary()
    }

    /// A head that was sent only to keep the client waiting is none of an upstream's.
    fn response_written(&self) -> Option<&ResponseHeader> {
        let waits = self.exchange.head_sent() && !self.answered;
        self.inner.response_written().filter(|_| !waits)
    }

    async fn shutdown(&mut self, _code: u32, _ctx: &str) {
        self.inner.shutdown().await;
    }

    fn is_body_done(&mut self) -> bool {
        self.exchange.outgoing_done()
    }

    async fn finish(&mut self) -> Result<()> {
        if self.gone.is_some() {
            return Ok(());
        }
        self.inner.finish_body().await
    }

    fn is_body_empty(&mut self) -> bool {
        self.exchange.outgoing_done()
    }

    async fn read_body_or_idle(&mut self, _no_body_expected: bool) -> Result<Option<Bytes>> {
        match self.exchange.next_outgoing() {
            Some(piece) => Ok(Some(piece)),
            None => self.idle().await,
        }
    }

    fn body_bytes_sent(&self) -> usize {
        self.inner.body_bytes_sent()
    }

    fn body_bytes_read(&self) -> usize {
        self.inner.body_bytes_read()
    }

    fn digest(&self) -> Option<&Digest> {
        self.inner.digest()
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        self.inner.digest_mut()
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        self.inner.client_addr()
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        self.inner.server_addr()
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        self.inner.to_h1_raw()
    }

    /// Called when an attempt starts sending; what an earlier one had been answered is void.
    fn enable_retry_buffering(&mut self) {
        self.held.clear();
        self.alarm = None;
    }

    fn retry_buffer_truncated(&self) -> bool {
        false
    }

    fn get_retry_buffer(&self) -> Option<Bytes> {
        None
    }

    async fn finish_custom(&mut self) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_reader(&mut self) -> Option<MessageReader> {
        None
    }

    fn restore_custom_message_reader(&mut self, _reader: MessageReader) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(
        &mut self,
        _writer: Box<dyn CustomMessageWrite>,
    ) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
