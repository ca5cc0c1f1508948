//! The connections of the admin service: how they are accepted, and how they end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::middleware::map_response_with_state;
use axum::response::Response;
use axum::serve::Listener;
use tokio::net::{TcpListener, TcpStream};

/// Accepts connections until `stop` resolves. Each that is open then gets its next answer with
/// `connection: close`; those that wait for a request still are closed when `idle` resolves.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()> + Send + 'static,
    idle: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let stopped = Arc::<AtomicBool>::default();
    let router = router.layer(map_response_with_state(Arc::clone(&stopped), say_last));
    let accepting = Accepting {
        address: listener.local_addr()?,
        listener: Some(listener),
        stop: Box::pin(stop),
        stopped,
    };
    axum::serve(accepting, router)
        .with_graceful_shutdown(idle)
        .await
}

async fn say_last(State(stopped): State<Arc<AtomicBool>>, mut response: Response) -> Response {
    if stopped.load(Relaxed) {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// A listener that is closed when it is to stop.
struct Accepting {
    address: SocketAddr,
    listener: Option<TcpListener>,
    stop: Pin<Box<dyn Future<Output = ()> + Send>>,
    stopped: Arc<AtomicBool>,
}

impl Listener for Accepting {
    type Io = TcpStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        if let Some(listener) = &mut self.listener {
            tokio::select! {
                accepted = Listener::accept(listener) => return accepted,
                () = &mut self.stop => {}
            }
            self.stopped.store(true, Relaxed);
            self.listener = None;
        }
        std::future::pending().await
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}
