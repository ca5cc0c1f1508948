//! The process's way from its sockets to its end: where they come from, when it is ready, what
//! ends it. It must not know what is served.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use llm_router_admin::ConnectionLimits;
use llm_router_config::Config;
use rustix::process::{Resource, getrlimit};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::ledger::Ledger;
use crate::process::handover::{HandoverError, Predecessor, Successor};
use crate::process::listeners::Sockets;
use crate::process::readiness::Readiness;
use crate::process::shutdown::{Drains, Ending, Stop};
use crate::process::systemd;
use crate::proxy::{ServiceOptions, SideTask};

/// Timeout for the ports to open: less than a predecessor waits.
const OPEN: Duration = Duration::from_secs(20);

/// The process as it listens and ends.
pub(crate) struct Running {
    pub(crate) ending: Arc<Ending>,
    readiness: Readiness,
    sockets: Sockets,
    header_timeout: Duration,
}

/// The sockets of the running process, once it gives them, and that process.
///
/// # Errors
/// When none runs, or it doesn't hand them over.
fn adopt_sockets(
    config: &Config,
    ledger: &Ledger,
    runtime: &Runtime,
) -> io::Result<(Sockets, Predecessor)> {
    let path = config.upgrade_socket();
    if ledger.is_alone() {
        let journal = config.store.journal.display();
        let nobody = format!(
            "no running router has the journal {journal}, so there is none to take the sockets \
             over from: start without --upgrade"
        );
        return Err(io::Error::other(nobody));
    }
    let received = runtime.block_on(async {
        let successor = Successor::wait_at(&path)?;
        tracing::info!(socket = %path.display(), "waiting for the running router: send it SIGQUIT");
        successor.receive().await
    });
    let failed = |error: HandoverError| io::Error::other(error);
    let ([clients, admin], predecessor) = received.map_err(failed)?;
    let sockets = Sockets::adopt(clients, admin, config)?;
    Ok((sockets, predecessor))
}

impl Running {
    /// Begins to listen on `sockets`, or without them on those of the process that runs, and to
    /// wait for signals. `runtime` must outlive the process's services.
    ///
    /// # Errors
    /// When the system refuses, or no process hands its sockets over.
    pub(crate) fn begin(
        config: &Config,
        runtime: &Runtime,
        sockets: Option<Sockets>,
        ledger: &Ledger,
    ) -> io::Result<Self> {
        let (sockets, predecessor) = match sockets {
            Some(sockets) => (sockets, None),
            None => {
                let (sockets, predecessor) = adopt_sockets(config, ledger, runtime)?;
                (sockets, Some(predecessor))
            }
        };
        sockets.listen()?;
        let drains = Drains {
            terminated: config.server.drain_timeout,
            handed_over: config.server.upgrade_drain_timeout,
        };
        let kept = sockets.try_clone()?;
        let running = Self {
            ending: Ending::listen(runtime, drains, config.upgrade_socket(), kept)?,
            readiness: Readiness::default(),
            sockets,
            header_timeout: config.server.header_timeout,
        };
        runtime.spawn(say_ready(
            running.readiness.clone(),
            Arc::clone(&running.ending),
            predecessor,
        ));
        Ok(running)
    }

    /// Returns the options of the clients' port.
    pub(crate) fn options(self, config: &Config) -> ServiceOptions {
        let server = &config.server;
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        ServiceOptions {
            listen: self.sockets.clients,
            tls: server
                .tls
                .as_ref()
                .map(|tls| (tls.cert.clone(), tls.key.clone())),
            threads: server
                .threads
                .map_or_else(cores, |threads| usize::from(threads.get())),
            header_timeout: server.header_timeout,
            max_connections_per_address: server.max_connections_per_address,
            longest_drain: server.drain_timeout.max(server.upgrade_drain_timeout),
            readiness: self.readiness,
        }
    }

    /// Serves the admin service.
    ///
    /// # Errors
    /// When the process may have no more open files.
    pub(crate) fn admin_task(&self, router: axum::Router) -> io::Result<SideTask> {
        let limits = ConnectionLimits {
            header_timeout: self.header_timeout,
            most: most_admin_connections(),
        };
        let listener = std::sync::Mutex::new(Some(self.sockets.admin.try_clone()?));
        let (stop, readiness) = (self.ending.watch(), self.readiness.clone());
        Ok(Box::new(move |_| {
            let listener = listener
                .lock()
                .ok()
                .and_then(|mut listener| listener.take());
            let (router, readiness) = (router.clone(), readiness.clone());
            let (stopped, idle) = (
                until(stop.clone(), |_| true),
                until(stop.clone(), |stop| !stop.idle_may_stay),
            );
            Box::pin(async move {
                let Some(listener) = listener else {
                    return;
                };
                let serving = async {
                    listener.set_nonblocking(true)?;
                    let listener = tokio::net::TcpListener::from_std(listener)?;
                    readiness.port_is_open();
                    llm_router_admin::serve(listener, router, limits, stopped, idle).await
                };
                if let Err(error) = serving.await {
                    tracing::error!(%error, "the admin service failed");
                }
            })
        }))
    }
}

/// Returns the most connections that the admin port may have. The clients' port needs files too.
fn most_admin_connections() -> usize {
    const MOST: usize = 256;
    let files = getrlimit(Resource::Nofile).current;
    let files = files.and_then(|files| usize::try_from(files).ok());
    files.map_or(MOST, |files| (files / 4).clamp(1, MOST))
}

/// Once every port is open, says so to the process that the sockets come from. If that one doesn't
/// hear it, it goes on, and this process ends.
async fn say_ready(readiness: Readiness, ending: Arc<Ending>, predecessor: Option<Predecessor>) {
    if tokio::time::timeout(OPEN, readiness.all_open())
        .await
        .is_err()
    {
        tracing::error!("failed to open a port; shutting down");
        return ending.give_up();
    }
    let taken_over = predecessor.is_some();
    if let Some(predecessor) = predecessor
        && let Err(error) = predecessor.relieve().await
    {
        tracing::error!(%error, "the running router did not confirm the handover; shutting down");
        return ending.give_up();
    }
    systemd::ready(taken_over);
    tracing::info!("ready");
}

/// Waits until the end is told, and is as asked.
async fn until(mut stop: watch::Receiver<Option<Stop>>, asked: fn(Stop) -> bool) {
    // An error means that the process is ending without telling, which is a stop too.
    let _ = stop.wait_for(|stop| stop.is_some_and(asked)).await;
}
