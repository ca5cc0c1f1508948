//! Accepts connections and serves HTTP/1.1 and HTTP/2 on them until told to stop. What is
//! answered is `service`'s.

use std::{future::Future, io, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    service::{self, ServiceState},
    socket::{PlannedEnd, Socket},
};

/// Rest after an accept that failed, as it does while there are no file descriptors left.
const ACCEPT_REST: Duration = Duration::from_millis(20);

/// Serves until `shutdown` is ready and the open answers are finished or their time is up.
pub(crate) async fn serve(
    listener: TcpListener,
    shared: Arc<ServiceState>,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let builder = builder();
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => connect(stream, &builder, &shared, &graceful, &mut connections),
            Err(error) => {
                tracing::warn!(%error, "mock: a connection was not accepted");
                sleep(ACCEPT_REST).await;
            }
        }
    }
    drop(listener);
    let _: Result<(), _> = timeout(shared.config.drain, graceful.shutdown()).await;
    connections.shutdown().await;
    Ok(())
}

type HttpBuilder = auto::Builder<TokioExecutor>;

fn builder() -> HttpBuilder {
    let mut builder = HttpBuilder::new(TokioExecutor::new());
    // Idle connections are the client's to close, as a pool of a gateway expects.
    builder.http1().header_read_timeout(None);
    builder.http2().max_concurrent_streams(10_000);
    builder
}

fn connect(
    stream: TcpStream,
    builder: &HttpBuilder,
    shared: &Arc<ServiceState>,
    graceful: &GracefulShutdown,
    connections: &mut JoinSet<()>,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "mock: a connection was lost at once");
        return;
    }
    let fate = Arc::new(PlannedEnd::default());
    let socket = TokioIo::new(Socket::new(stream, Arc::clone(&fate)));
    let shared = Arc::clone(shared);
    let service =
        service_fn(move |request| service::answer(Arc::clone(&shared), Arc::clone(&fate), request));
    let connection = builder.serve_connection(socket, service).into_owned();
    let served = graceful.watch(connection);
    connections.spawn(async move {
        if let Err(error) = served.await {
            tracing::debug!(error, "mock: a connection broke off");
        }
    });
}
