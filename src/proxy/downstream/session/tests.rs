//! The stand-in session, driven over a session whose client follows a script.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use futures::FutureExt as _;

use super::*;

/// Tasks that a scripted client has received, a line for each.
type Sent = Arc<Mutex<Vec<String>>>;

/// A client that sends what the script says, then nothing more.
struct Scripted {
    header: RequestHeader,
    reads: VecDeque<Result<Option<Bytes>>>,
    sent: Sent,
    /// Set if it has closed its side: writing fails.
    closed: bool,
}

/// A stand-in over a scripted client.
struct Bench {
    session: Downstream,
    exchange: Arc<Exchange>,
    sent: Sent,
}

impl Bench {
    fn new(reads: impl IntoIterator<Item = Result<Option<Bytes>>>, closed: bool) -> Self {
        let (exchange, sent) = (Arc::<Exchange>::default(), Sent::default());
        let inner = HttpSession::new_custom(Box::new(Scripted {
            header: RequestHeader::build("POST", b"/v1/messages", None).unwrap(),
            reads: reads.into_iter().collect(),
            sent: Arc::clone(&sent),
            closed,
        }));
        let session = Downstream {
            inner,
            exchange: Arc::clone(&exchange),
            held: Vec::new(),
            alarm: None,
            gone: None,
            answered: false,
        };
        Self {
            session,
            exchange,
            sent,
        }
    }

    /// A client that says nothing more and reads everything.
    fn quiet() -> Self {
        Self::new([], false)
    }

    /// Begins an attempt without a body, whose first byte is due in an hour.
    fn attempt(&self) {
        self.exchange
            .begin(VecDeque::new(), clock::now(), Some(HOUR), HOUR);
        self.exchange.set_drain(None);
    }

    async fn respond(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        self.session.response_duplex_vec(tasks).await
    }

    fn take_sent(&self) -> Vec<String> {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut *sent)
    }
}

const HOUR: Duration = Duration::from_secs(3600);

fn head(status: u16) -> HttpTask {
    HttpTask::Header(
        Box::new(ResponseHeader::build(status, None).unwrap()),
        false,
    )
}

fn body(text: &'static str, end: bool) -> HttpTask {
    HttpTask::Body(Some(Bytes::from_static(text.as_bytes())), end)
}

fn error_name(error: &Error) -> &str {
    error.etype().as_str()
}

#[tokio::test]
async fn a_response_passes_as_it_comes() {
    let mut bench = Bench::quiet();
    bench.attempt();
    assert!(
        !bench
            .respond(vec![head(200), body("a", false)])
            .await
            .unwrap()
    );
    assert_eq!(bench.take_sent(), ["200", "a"]);
    assert!(bench.respond(vec![body("b", true)]).await.unwrap());
    assert_eq!(bench.take_sent(), ["b."]);
}

#[tokio::test]
async fn a_judged_response_is_held_and_then_passes_whole_and_in_order() {
    let mut bench = Bench::quiet();
    bench.attempt();
    bench.exchange.set_gate(ResponseGate::Judge);
    assert!(
        !bench
            .respond(vec![head(200), body("a", false)])
            .await
            .unwrap()
    );
    assert!(
        !bench
            .respond(vec![HttpTask::Body(None, false)])
            .await
            .unwrap()
    );
    assert!(bench.take_sent().is_empty());
    bench.exchange.set_gate(ResponseGate::Pass);
    bench.respond(vec![body("b", false)]).await.unwrap();
    assert_eq!(bench.take_sent(), ["200", "a", "b"]);
}

#[tokio::test]
async fn a_judged_response_passes_at_its_end() {
    let mut bench = Bench::quiet();
    bench.attempt();
    bench.exchange.set_gate(ResponseGate::Judge);
    assert!(
        bench
            .respond(vec![head(200), body("a", true)])
            .await
            .unwrap()
    );
    assert_eq!(bench.take_sent(), ["200", "a."]);
}

#[tokio::test]
async fn only_so_much_is_held() {
    let mut bench = Bench::quiet();
    bench.attempt();
    bench.exchange.set_gate(ResponseGate::Judge);
    for _ in 0..MOST_HELD {
        bench.respond(vec![body("c", false)]).await.unwrap();
    }
    assert!(bench.take_sent().is_empty());
    bench.respond(vec![body("c", false)]).await.unwrap();
    assert_eq!(bench.take_sent().len(), MOST_HELD + 1);
    assert_eq!(bench.exchange.gate(), ResponseGate::Pass);
}

#[tokio::test]
async fn a_failure_of_a_held_response_is_told_at_once() {
    for gate in [ResponseGate::Judge, ResponseGate::Discard] {
        let mut bench = Bench::quiet();
        bench.attempt();
        bench.exchange.set_gate(gate);
        let failed = HttpTask::Failed(Error::new_up(ErrorType::ReadError));
        let error = bench.respond(vec![head(200), failed]).await.unwrap_err();
        assert_eq!(error_name(&error), "ReadError", "{gate:?}");
        assert!(bench.take_sent().is_empty());
    }
}

#[tokio::test]
async fn a_discarded_response_ends_the_attempt() {
    let mut bench = Bench::quiet();
    bench.attempt();
    bench.exchange.set_gate(ResponseGate::Discard);
    assert!(
        !bench
            .respond(vec![head(503), body("no", false)])
            .await
            .unwrap()
    );
    let error = bench.respond(vec![HttpTask::Done]).await.unwrap_err();
    assert_eq!(*error.etype(), TRY_NEXT);
    assert!(bench.take_sent().is_empty());
}

#[tokio::test]
async fn the_next_attempt_forgets_what_was_held() {
    let mut bench = Bench::quiet();
    bench.attempt();
    bench.exchange.set_gate(ResponseGate::Judge);
    bench
        .respond(vec![head(200), body("first", false)])
        .await
        .unwrap();
    bench.attempt();
    bench.session.enable_retry_buffering();
    bench
        .respond(vec![head(200), body("second", true)])
        .await
        .unwrap();
    assert_eq!(bench.take_sent(), ["200", "second."]);
}

#[tokio::test]
async fn interim_answers_do_not_pass() {
    let mut bench = Bench::quiet();
    bench.attempt();
    bench
        .respond(vec![head(100), head(103), head(200)])
        .await
        .unwrap();
    assert_eq!(bench.take_sent(), ["200"]);
}

#[tokio::test]
async fn a_held_response_may_get_another_status() {
    let mut bench = Bench::quiet();
    bench.attempt();
    bench.exchange.set_gate(ResponseGate::Judge);
    bench.respond(vec![head(400)]).await.unwrap();
    bench.exchange.set_status(413);
    bench.exchange.set_gate(ResponseGate::Pass);
    bench.respond(vec![body("too large", true)]).await.unwrap();
    assert_eq!(bench.take_sent(), ["413", "too large."]);
    assert_eq!(bench.exchange.take_status(), None);
}

#[tokio::test]
async fn last_bytes_are_sent_where_the_end_carries_none() {
    for end in [HttpTask::Done, HttpTask::Trailer(None)] {
        let mut bench = Bench::quiet();
        bench.attempt();
        bench
            .respond(vec![head(200), body("a", false)])
            .await
            .unwrap();
        bench.exchange.put_tail("rest".into());
        assert!(bench.respond(vec![end]).await.unwrap());
        assert_eq!(bench.take_sent(), ["200", "a", "rest."]);
    }
}

#[tokio::test]
async fn the_body_is_our_copy_and_anew_for_every_attempt() {
    let mut bench = Bench::quiet();
    for _ in 0..2 {
        let pieces = [Bytes::from_static(b"ab"), Bytes::from_static(b"c")];
        bench
            .exchange
            .begin(pieces.into(), clock::now(), Some(HOUR), HOUR);
        assert!(!bench.session.is_body_done());
        for piece in ["ab", "c"] {
            let read = bench.session.read_body_or_idle(false).await.unwrap();
            assert_eq!(read.as_deref(), Some(piece.as_bytes()));
        }
        assert!(bench.session.is_body_done() && bench.session.is_body_empty());
        let idle = bench.session.read_body_or_idle(true);
        assert!(idle.now_or_never().is_none(), "the client is waited for");
    }
}

#[tokio::test]
async fn a_silent_upstream_is_noticed_while_the_client_is_waited_for() {
    let mut bench = Bench::quiet();
    let now = clock::now();
    bench
        .exchange
        .begin(VecDeque::new(), now, Some(Duration::ZERO), HOUR);
    let error = bench.session.read_body_or_idle(true).await.unwrap_err();
    assert_eq!(error_name(&error), TimeoutKind::FirstByte.error_type());

    bench.exchange.progress(now, Duration::from_millis(1));
    let error = bench.session.read_body_or_idle(true).await.unwrap_err();
    assert_eq!(error_name(&error), TimeoutKind::Idle.error_type());
}

#[tokio::test]
async fn a_deadline_that_comes_nearer_is_noticed() {
    let mut bench = Bench::quiet();
    bench.attempt();
    let waiting = bench.session.read_body_or_idle(true);
    assert!(waiting.now_or_never().is_none());
    bench.exchange.stop_in(clock::now(), Duration::ZERO);
    let error = bench.session.read_body_or_idle(true).await.unwrap_err();
    assert_eq!(error_name(&error), TimeoutKind::Stop.error_type());
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_request() {
    let left = || Error::new_down(ErrorType::ConnectionClosed);
    let mut bench = Bench::new([Err(left())], false);
    bench.attempt();
    let error = bench.session.read_body_or_idle(true).await.unwrap_err();
    assert_eq!(error_name(&error), "ConnectionClosed");
    assert!(!bench.exchange.draining());
}

#[tokio::test]
async fn an_answer_is_read_on_without_its_client() {
    let left = || Error::new_down(ErrorType::ConnectionClosed);
    let mut bench = Bench::new([Err(left())], false);
    bench.attempt();
    bench.exchange.set_drain(Some(HOUR));
    let waiting = bench.session.read_body_or_idle(true);
    assert!(
        waiting.now_or_never().is_none(),
        "the upstream is waited for"
    );
    assert!(bench.exchange.draining());
    assert!(
        !bench
            .respond(vec![head(200), body("a", false)])
            .await
            .unwrap()
    );
    assert!(bench.respond(vec![body("b", true)]).await.unwrap());
    assert!(bench.take_sent().is_empty());
}

#[tokio::test]
async fn reading_on_ends_with_its_time_as_the_clients_leaving() {
    let left = || Error::new_down(ErrorType::ConnectionClosed);
    let mut bench = Bench::new([Err(left())], false);
    bench.attempt();
    bench.exchange.set_drain(Some(Duration::ZERO));
    let error = bench.session.read_body_or_idle(true).await.unwrap_err();
    assert_eq!(error_name(&error), "ConnectionClosed");
}

#[tokio::test]
async fn a_client_that_stops_reading_has_left() {
    let mut bench = Bench::new([], true);
    bench.attempt();
    assert!(bench.respond(vec![head(200)]).await.is_err());

    let mut bench = Bench::new([], true);
    bench.attempt();
    bench.exchange.set_drain(Some(HOUR));
    assert!(!bench.respond(vec![head(200)]).await.unwrap());
    assert!(bench.exchange.draining());
    assert!(bench.respond(vec![body("a", true)]).await.unwrap());
}

#[tokio::test]
async fn the_real_session_comes_back_when_its_stand_in_goes() {
    let bench = Bench::quiet();
    let exchange = Arc::clone(&bench.exchange);
    assert!(exchange.take_back().is_none());
    let mut session = HttpSession::new_custom(Box::new(bench.session));
    Downstream::unwrap(&mut session, &exchange);
    assert_eq!(session.req_header().uri.path(), "/v1/messages");
    assert!(exchange.take_back().is_none());

    exchange.give_back(session);
    assert!(
        exchange.take_kept().is_none(),
        "Pingora closes its connection"
    );
    let mut session = exchange.take_back().unwrap();
    keep(&mut session, &exchange);
    assert!(exchange.take_kept().is_some());
}

#[async_trait]
impl CustomSession for Scripted {
    fn req_header(&self) -> &RequestHeader {
        &self.header
    }

    fn req_header_mut(&mut self) -> &mut RequestHeader {
        &mut self.header
    }

    async fn response_duplex_vec(&mut self, tasks: Vec<HttpTask>) -> Result<bool> {
        if self.closed {
            return Error::err_down(ErrorType::WriteError);
        }
        let ended = tasks.iter().any(HttpTask::is_end);
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        for task in tasks {
            sent.push(match task {
                HttpTask::Header(header, _) => header.status.as_u16().to_string(),
                HttpTask::Body(bytes, end) => {
                    let bytes = bytes.unwrap_or_default();
                    let end = if end { "." } else { "" };
                    format!("{}{end}", String::from_utf8_lossy(&bytes))
                }
                other => other.type_str().to_owned(),
            });
        }
        Ok(ended)
    }

    async fn read_body_or_idle(&mut self, _no_body_expected: bool) -> Result<Option<Bytes>> {
        match self.reads.pop_front() {
            Some(read) => read,
            None => std::future::pending().await,
        }
    }

    async fn read_body_bytes(&mut self) -> Result<Option<Bytes>> {
        Ok(None)
    }

    async fn drain_request_body(&mut self) -> Result<()> {
        Ok(())
    }

    async fn write_response_header(&mut self, _: Box<ResponseHeader>, _: bool) -> Result<()> {
        Ok(())
    }

    async fn write_response_header_ref(&mut self, _: &ResponseHeader, _: bool) -> Result<()> {
        Ok(())
    }

    async fn write_body(&mut self, _: Bytes, _: bool) -> Result<()> {
        Ok(())
    }

    async fn write_trailers(&mut self, _: HeaderMap) -> Result<()> {
        Ok(())
    }

    fn set_read_timeout(&mut self, _: Option<Duration>) {}

    fn get_read_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_write_timeout(&mut self, _: Option<Duration>) {}

    fn get_write_timeout(&self) -> Option<Duration> {
        None
    }

    fn set_total_drain_timeout(&mut self, _: Option<Duration>) {}

    fn get_total_drain_timeout(&self) -> Option<Duration> {
        None
    }

    fn request_summary(&self) -> String {
        String::new()
    }

    fn response_written(&self) -> Option<&ResponseHeader> {
        None
    }

    async fn shutdown(&mut self, _: u32, _: &str) {}

    fn is_body_done(&mut self) -> bool {
        true
    }

    async fn finish(&mut self) -> Result<()> {
        Ok(())
    }

    fn is_body_empty(&mut self) -> bool {
        true
    }

    fn body_bytes_sent(&self) -> usize {
        0
    }

    fn body_bytes_read(&self) -> usize {
        0
    }

    fn digest(&self) -> Option<&Digest> {
        None
    }

    fn digest_mut(&mut self) -> Option<&mut Digest> {
        None
    }

    fn client_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn server_addr(&self) -> Option<&SocketAddr> {
        None
    }

    fn pseudo_raw_h1_request_header(&self) -> Bytes {
        Bytes::new()
    }

    fn enable_retry_buffering(&mut self) {}

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

    fn restore_custom_message_reader(&mut self, _: MessageReader) -> Result<()> {
        Ok(())
    }

    fn take_custom_message_writer(&mut self) -> Option<Box<dyn CustomMessageWrite>> {
        None
    }

    fn restore_custom_message_writer(&mut self, _: Box<dyn CustomMessageWrite>) -> Result<()> {
        Ok(())
    }
}
