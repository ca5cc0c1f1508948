//! Accepts the connections of the admin service, bounds their number and ends them. It must not know
//! how one of them is served.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::middleware::map_response_with_state;
use axum::response::Response;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use crate::caller::ClientAddress;
use crate::connection::{self, Activity};

/// The limits of the admin port's connections.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// The longest that the head of a request may take.
    pub header_timeout: Duration,
    /// The most that are open at a time. For one more, the connection that has waited for its client
    /// longest is closed.
    pub most: usize,
}

/// Accepts connections until `stop` resolves. Each that is open then gets its next answer with
/// `connection: close`; those that wait for a request still are closed when `idle` resolves.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    stop: impl Future<Output = ()> + Send + 'static,
    idle: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let stopped = Arc::<AtomicBool>::default();
    let router = router.layer(map_response_with_state(Arc::clone(&stopped), say_last));
    let places = Places::new(limits.most);
    let (ending, ended) = watch::channel(false);
    let mut serving = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        let (stream, address) = tokio::select! {
            () = &mut stop => break,
            accepted = accept(&listener) => accepted,
        };
        // Comes soon. A connection that was accepted is served, even if the process is to end.
        let place = places.enter().await;
        let (router, ended) = (router.clone(), ended.clone());
        serving.spawn(async move {
            let activity = Arc::clone(&place.activity);
            connection::serve(
                stream,
                address,
                router,
                activity,
                limits.header_timeout,
                ended,
            )
            .await;
            drop(place);
        });
        while serving.try_join_next().is_some() {}
    }
    stopped.store(true, Relaxed);
    drop(listener);
    tokio::spawn(async move {
        idle.await;
        ending.send_replace(true);
    });
    while serving.join_next().await.is_some() {}
    Ok(())
}

/// The pause after the system refused to accept, which it does when no files are left.
const NO_FILES: Duration = Duration::from_millis(100);

/// Returns the next connection.
async fn accept(listener: &TcpListener) -> (TcpStream, ClientAddress) {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => return (stream, ClientAddress(address.ip())),
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                tracing::error!(%error, "the admin service can't accept a connection");
                tokio::time::sleep(NO_FILES).await;
            }
        }
    }
}

fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionReset
    )
}

async fn say_last(State(stopped): State<Arc<AtomicBool>>, mut response: Response) -> Response {
    if stopped.load(Relaxed) {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    response
}

/// The places of open connections.
struct Places {
    free: Arc<Semaphore>,
    taken: Mutex<Vec<Arc<Activity>>>,
    changes: Arc<AtomicU64>,
}

/// A connection's place; dropping it frees it.
struct Place {
    places: Arc<Places>,
    activity: Arc<Activity>,
    _permit: OwnedSemaphorePermit,
}

/// The interval at which connections are closed while one waits for its place.
const CLOSE_ANOTHER: Duration = Duration::from_millis(100);

impl Places {
    fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(most)),
            taken: Mutex::default(),
            changes: Arc::default(),
        })
    }

    /// Returns a place for one more connection. If all are taken, closes the connection that has
    /// waited for its client longest; those whose request is being handled stay.
    async fn enter(self: &Arc<Self>) -> Place {
        let permit = loop {
            let free = Arc::clone(&self.free);
            if free.available_permits() == 0 {
                self.close_longest_waiting();
            }
            let permit = tokio::time::timeout(CLOSE_ANOTHER, free.acquire_owned()).await;
            // Nobody closes the semaphore, so the only error is the timeout.
            if let Ok(Ok(permit)) = permit {
                break permit;
            }
        };
        let activity = Arc::new(Activity::new(Arc::clone(&self.changes)));
        self.lock().push(Arc::clone(&activity));
        Place {
            places: Arc::clone(self),
            activity,
            _permit: permit,
        }
    }

    fn close_longest_waiting(&self) {
        let taken = self.lock();
        let waiting = taken
            .iter()
            .filter_map(|activity| Some((activity.waiting_since()?, activity)));
        if let Some((_, longest)) = waiting.min_by_key(|(since, _)| *since) {
            longest.close();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Activity>>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.retain(|activity| !Arc::ptr_eq(activity, &self.activity));
    }
}
