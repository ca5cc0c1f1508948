//! One connection of the admin service, with the time limits of its client. It must not know what is
//! served, nor how many connections there are.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::{Request, Response};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, watch};
use tokio::time::{Sleep, sleep};
use tower::ServiceExt as _;

use crate::caller::ClientAddress;

/// The longest wait for the next request, as on the clients' port.
const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// The longest that a client may take to accept a piece of its answer, as on the clients' port.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// The time in which a client that is still sending can read its answer.
const LINGER: Duration = Duration::from_secs(2);

/// The largest head of a request, and the most that is read ahead of a body, in bytes. A client can
/// make a connection hold this much before it is known who it is.
const MOST_BUFFERED: usize = 32 * 1024;

/// The state of a connection, by what it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The next request, of which nothing has come.
    Idle,
    /// The rest of a request's head.
    Head,
    /// The handler. How long the body may take is decided where it is received.
    Handling,
    /// The client, to accept the answer.
    Answering,
    /// The client, to close after the last answer.
    Closing,
}

/// The state of a connection, as its time limits and whoever needs its place see it.
pub(crate) struct Activity {
    state: Mutex<State>,
    /// Counts the changes of all connections, so that they can be ordered without a clock.
    changes: Arc<AtomicU64>,
    close: Notify,
}

#[derive(Clone, Copy)]
struct State {
    phase: Phase,
    /// The number of the change that began this phase, or of the latest progress in it.
    change: u64,
}

impl Activity {
    /// Returns the state of a connection that was just accepted.
    pub(crate) fn new(changes: Arc<AtomicU64>) -> Self {
        let change = changes.fetch_add(1, Relaxed);
        let phase = Phase::Head;
        Self {
            state: Mutex::new(State { phase, change }),
            changes,
            close: Notify::new(),
        }
    }

    /// Returns the change since which the client has been waited for; `None` while a request is
    /// handled.
    pub(crate) fn waiting_since(&self) -> Option<u64> {
        let state = *self.state();
        (state.phase != Phase::Handling).then_some(state.change)
    }

    /// Closes the connection.
    pub(crate) fn close(&self) {
        self.close.notify_one();
    }

    fn change(&self, next: impl FnOnce(Phase) -> Option<Phase>) {
        let mut state = self.state();
        if let Some(phase) = next(state.phase) {
            let change = self.changes.fetch_add(1, Relaxed);
            *state = State { phase, change };
        }
    }

    fn enter(&self, phase: Phase) {
        self.change(|_| Some(phase));
    }

    /// Notes that the client has sent bytes.
    fn note_received(&self) {
        // A head has its time as a whole, so more of it changes nothing.
        self.change(|phase| (phase == Phase::Idle).then_some(Phase::Head));
    }

    /// Notes that the client has accepted bytes.
    fn note_sent(&self) {
        self.change(|phase| matches!(phase, Phase::Idle | Phase::Answering).then_some(phase));
    }

    /// Notes that the whole answer is in the connection's buffer.
    fn note_answered(&self) {
        self.change(|phase| (phase == Phase::Answering).then_some(Phase::Idle));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Phase {
    /// Returns how long the phase may last without progress.
    fn limit(self, header_timeout: Duration) -> Option<Duration> {
        match self {
            Self::Idle => Some(KEEP_ALIVE),
            Self::Head => Some(header_timeout),
            Self::Handling => None,
            Self::Answering => Some(WRITE_TIMEOUT),
            Self::Closing => Some(LINGER),
        }
    }
}

/// Serves a connection until its client closes it or takes too long. Once `ending` is true it is
/// closed as soon as no request is under way.
pub(crate) async fn serve<T>(
    io: T,
    address: ClientAddress,
    router: Router,
    activity: Arc<Activity>,
    header_timeout: Duration,
    mut ending: watch::Receiver<bool>,
) where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = Observed {
        io,
        activity: Arc::clone(&activity),
    };
    let of_service = Arc::clone(&activity);
    let service = service_fn(move |request| answer(router.clone(), request, address, &of_service));
    let mut builder = http1::Builder::new();
    builder.max_buf_size(MOST_BUFFERED);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut overdue = pin!(overdue(&activity, header_timeout));
    let mut is_ending = false;
    let end = loop {
        tokio::select! {
            biased;
            served = connection.as_mut() => break End::Served(served),
            phase = &mut overdue => break End::Overdue(phase),
            () = activity.close.notified() => break End::Displaced,
            _ = ending.wait_for(|ending| *ending), if !is_ending => {
                is_ending = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    };
    tracing::debug!(?end, "a connection to the admin service failed");
}

/// The reason for which a connection ended.
#[derive(Debug)]
#[expect(dead_code, reason = "read by the log, through Debug")]
enum End {
    /// The protocol ended it.
    Served(hyper::Result<()>),
    /// Its client took too long in this phase.
    Overdue(Phase),
    /// Another one needed its place.
    Displaced,
}

/// Answers a request by the service.
fn answer(
    router: Router,
    mut request: Request<Incoming>,
    address: ClientAddress,
    activity: &Arc<Activity>,
) -> impl Future<Output = Result<Response<Answer>, Infallible>> + use<> {
    let activity = Arc::clone(activity);
    activity.enter(Phase::Handling);
    request.extensions_mut().insert(address);
    async move {
        let response = router.oneshot(request.map(Body::new)).await?;
        activity.enter(Phase::Answering);
        Ok(response.map(|body| Answer { body, activity }))
    }
}

/// Waits until the client has exceeded a time limit, and returns the phase. Must be polled whenever
/// the connection is.
async fn overdue(activity: &Activity, header_timeout: Duration) -> Phase {
    let mut timed = None;
    let mut timer: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|context| {
        let State { phase, change } = *activity.state();
        if timed != Some(change) {
            timed = Some(change);
            timer = phase
                .limit(header_timeout)
                .map(|limit| Box::pin(sleep(limit)));
        }
        match &mut timer {
            Some(timer) => timer.as_mut().poll(context).map(|()| phase),
            None => Poll::Pending,
        }
    })
    .await
}

/// The body of an answer. Notes when the connection has taken all of it.
struct Answer {
    body: Body,
    activity: Arc<Activity>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.activity.note_answered();
    }
}

/// A client's connection that notes the bytes passing over it. It is shut down for writing first and
/// read until the client closes too: a connection that is closed with unread bytes is reset, and the
/// client may lose the answer that says why.
struct Observed<T> {
    io: T,
    activity: Arc<Activity>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Observed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.io).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.activity.note_received();
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Observed<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write(context, bytes))?;
        self.activity.note_sent();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.io).poll_write_vectored(context, slices))?;
        self.activity.note_sent();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.activity.state().phase != Phase::Closing {
            ready!(Pin::new(&mut self.io).poll_shutdown(context))?;
            self.activity.enter(Phase::Closing);
        }
        let mut scratch = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut scratch);
            let read = ready!(Pin::new(&mut self.io).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use axum::routing::{get, post};
    use http_body_util::channel::Channel;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::*;

    const ADDRESS: ClientAddress = ClientAddress(IpAddr::V4(Ipv4Addr::LOCALHOST));
    const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

    /// More than fits into the pipe and the connection's buffers.
    const LARGE: usize = 1024 * 1024;
    const PIECE: usize = 16 * 1024;

    /// A connection that is being served, and what ends it.
    struct Served {
        client: DuplexStream,
        activity: Arc<Activity>,
        ending: watch::Sender<bool>,
        begun: Instant,
    }

    fn serve_one() -> Served {
        let router = Router::new()
            .route("/", get(async || "hello"))
            .route("/large", get(large))
            .route("/unread", post(async || "not read"));
        let (client, server) = duplex(1024);
        let activity = Arc::new(Activity::new(Arc::default()));
        let (ending, ended) = watch::channel(false);
        let serving = serve(
            server,
            ADDRESS,
            router,
            Arc::clone(&activity),
            HEADER_TIMEOUT,
            ended,
        );
        tokio::spawn(serving);
        Served {
            client,
            activity,
            ending,
            begun: Instant::now(),
        }
    }

    /// An answer in pieces, as lists are exported.
    async fn large() -> Body {
        let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
        tokio::spawn(async move {
            for _ in 0..LARGE / PIECE {
                let _ = sender.send_data(Bytes::from_static(&[b'x'; PIECE])).await;
            }
        });
        Body::new(body)
    }

    impl Served {
        async fn send(&mut self, text: &str) {
            self.client.write_all(text.as_bytes()).await.unwrap();
        }

        /// Reads until an answer to `/` has come.
        async fn hello(&mut self) {
            let mut answer = Vec::new();
            while !answer.ends_with(b"hello") {
                answer.push(self.client.read_u8().await.unwrap());
            }
        }

        /// Reads to the end, which comes after this many seconds.
        async fn ends_after(mut self, seconds: u64) -> String {
            let mut answer = Vec::new();
            // One that is closed while it is written to is an error, and an end too.
            let _ = self.client.read_to_end(&mut answer).await;
            assert_eq!(self.begun.elapsed().as_secs(), seconds);
            String::from_utf8(answer).unwrap()
        }
    }

    const GET: &str = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_says_nothing_has_the_time_of_a_head() {
        assert_eq!(serve_one().ends_after(10).await, "");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_its_time_as_a_whole() {
        let mut served = serve_one();
        let (mut read, mut write) = tokio::io::split(served.client);
        tokio::spawn(async move {
            write.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            while write.write_all(b"x: y\r\n").await.is_ok() {
                sleep(Duration::from_secs(1)).await;
            }
        });
        let mut answer = Vec::new();
        let _ = read.read_to_end(&mut answer).await;
        assert_eq!(served.begun.elapsed().as_secs(), 10);
        // The next one has it too, from its first byte.
        served = serve_one();
        served.send(GET).await;
        served.hello().await;
        sleep(Duration::from_secs(50)).await;
        served.send("G").await;
        served.ends_after(60).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_kept_for_its_time() {
        let mut served = serve_one();
        for _ in 0..3 {
            served.send(GET).await;
            served.hello().await;
            sleep(Duration::from_secs(70)).await;
        }
        served.ends_after(2 * 70 + 75).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_given_up() {
        let mut served = serve_one();
        served.send("GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
        sleep(Duration::from_secs(59)).await;
        // It reads a little, which is progress.
        let mut some = vec![0; 4096];
        served.client.read_exact(&mut some).await.unwrap();
        sleep(Duration::from_secs(59)).await;
        served.client.read_exact(&mut some).await.unwrap();
        sleep(Duration::from_secs(61)).await;
        let mut rest = Vec::new();
        let _ = served.client.read_to_end(&mut rest).await;
        assert!(rest.len() < LARGE / 2, "{} bytes", rest.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_slowly_is_waited_for() {
        let mut served = serve_one();
        served.send("GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let mut piece = vec![0; LARGE / 8];
        for _ in 0..8 {
            sleep(Duration::from_secs(50)).await;
            served.client.read_exact(&mut piece).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_still_sending_reads_its_answer() {
        let mut served = serve_one();
        let head = "POST /unread HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\n";
        served.send(head).await;
        let mut answer = Vec::new();
        served.client.read_to_end(&mut answer).await.unwrap();
        assert!(answer.ends_with(b"not read"));
        // It may go on for a while, so that nothing takes the answer from it, but not for ever.
        while served.client.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(served.begun.elapsed().as_secs(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_so_many_bytes() {
        let served = serve_one();
        let (mut read, mut write) = tokio::io::split(served.client);
        let head = format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(MOST_BUFFERED));
        tokio::spawn(async move {
            let _ = write.write_all(head.as_bytes()).await;
            std::future::pending::<()>().await;
        });
        let mut answer = Vec::new();
        let _ = read.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn idle_connections_end_when_the_service_does() {
        let mut served = serve_one();
        served.send(GET).await;
        served.hello().await;
        served.ending.send(true).unwrap();
        assert_eq!(served.ends_after(0).await, "");
        // One that is asked for more is answered once more.
        let mut served = serve_one();
        served.send("GET / HTTP/1.1\r\n").await;
        tokio::task::yield_now().await;
        served.ending.send(true).unwrap();
        served.send("host: x\r\n\r\n").await;
        let answer = served.ends_after(0).await;
        assert!(answer.ends_with("hello"), "{answer}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_given_up_on_request() {
        let mut served = serve_one();
        assert!(served.activity.waiting_since().is_some());
        served.send(GET).await;
        served.hello().await;
        served.activity.close();
        served.ends_after(0).await;
    }
}
