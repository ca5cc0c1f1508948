//! Starts the process's services on Pingora's server, and ends them: stop accepting, let open
//! requests finish within the drain time, write out, leave.

use std::future::{Future as _, poll_fn};
use std::net::TcpListener;
use std::num::NonZeroU32;
use std::os::fd::IntoRawFd as _;
use std::path::PathBuf;
use std::pin::pin;
use std::process;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use futures::future::BoxFuture;
use pingora::listeners::tls::TlsSettings;
use pingora::server::configuration::ServerConf;
use pingora::server::{
    Fds, ListenFds, RunArgs, Server, ShutdownSignal, ShutdownSignalWatch, ShutdownWatch,
};
use pingora::services::background::{BackgroundService, background_service};
use pingora::services::listening::Service;
use pingora::{ErrorType, OrErr as _};

use crate::budgets::Budgets;
use crate::clock;
use crate::ledger::Ledger;
use crate::limits::Limiter;
use crate::process::readiness::Readiness;
use crate::process::shutdown::{Ending, How};
use crate::proxy::SharedLive;
use crate::proxy::downstream::connections::Connections;
use crate::proxy::downstream::http_app::{App, AppOptions};
use crate::proxy::gateway::Gateway;
use crate::routing::toggle::ToggleReplica;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::refusals::Refusals;
use crate::telemetry::traces::Traces;

/// Sockets and timeouts of the process.
pub(crate) struct ServiceOptions {
    pub(crate) listen: TcpListener,
    /// Certificate chain and private key, both PEM.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    pub(crate) threads: usize,
    pub(crate) header_timeout: Duration,
    pub(crate) max_connections_per_address: Option<NonZeroU32>,
    /// The longest that the process may go on once it is to end.
    pub(crate) longest_drain: Duration,
    pub(crate) readiness: Readiness,
}

/// A task that runs beside the proxy until the future it is given resolves.
pub(crate) type SideTask =
    Box<dyn Fn(BoxFuture<'static, ()>) -> BoxFuture<'static, ()> + Send + Sync>;

/// Everything that is shared with the services.
pub(crate) struct AppState {
    pub(crate) live: SharedLive,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) access_log: AccessLog,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) ledger: Arc<Ledger>,
    /// The admin service, if its paths are to be served to clients.
    pub(crate) admin: Option<axum::Router>,
    pub(crate) limits: Arc<Limiter>,
    pub(crate) budgets: Arc<Budgets>,
    pub(crate) switch: Arc<ToggleReplica>,
    pub(crate) traces: Option<Arc<Traces>>,
    pub(crate) ending: Arc<Ending>,
}

/// Time that a process which has handed its sockets over keeps idle connections: their next request is served and answered with `connection: close`, which no client takes for a failure.
const LINGER: Duration = Duration::from_secs(5);

/// More than the drain needs: it ends the process, and Pingora would do so if it failed.
const AFTER_DRAIN: Duration = Duration::from_secs(60);

/// Interval at which the drain checks for open requests.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// Time for the last bytes of ended requests to leave the process.
const LAST_BYTES: Duration = Duration::from_millis(100);

/// Runs until the process is to end. Where what is open may finish, the process ends in here.
///
/// # Errors
/// When the certificate or its key can't be used.
pub(crate) fn run(
    options: ServiceOptions,
    shared: AppState,
    side_tasks: Vec<(&'static str, SideTask)>,
) -> pingora::Result<()> {
    let conf = ServerConf {
        threads: options.threads,
        grace_period_seconds: Some((options.longest_drain + AFTER_DRAIN).as_secs()),
        graceful_shutdown_timeout_seconds: Some(1),
        max_retries: MOST_ATTEMPTS,
        upstream_keepalive_pool_size: POOL_SIZE,
        ..ServerConf::default()
    };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let gateway = Gateway {
        live: Arc::clone(&shared.live),
        metrics: Arc::clone(&shared.metrics),
        access_log: shared.access_log.clone(),
        refusals: Arc::clone(&shared.refusals),
        ledger: Arc::clone(&shared.ledger),
        budgets: Arc::clone(&shared.budgets),
        admin: shared.admin.clone(),
        limits: Arc::clone(&shared.limits),
        switch: Arc::clone(&shared.switch),
        traces: shared.traces.clone(),
    };
    let proxy = pingora::proxy::http_proxy(&server.configuration, gateway);
    let app = AppOptions {
        header_timeout: options.header_timeout,
        stop: shared.ending.watch(),
        connections: options.max_connections_per_address.map(Connections::new),
    };
    let app = App::new(proxy, Arc::clone(&shared.metrics), app);
    server.add_service(Clients::new(
        app,
        options.listen,
        options.tls.as_ref(),
        options.readiness,
    )?);
    let live = Arc::clone(&shared.live);
    let resolve: SideTask = Box::new(move |stop| {
        let resolving = crate::proxy::upstream::live::keep_resolved(Arc::clone(&live));
        Box::pin(async move {
            tokio::select! {
                () = resolving => {}
                () = stop => {}
            }
        })
    });
    add_side_task(&mut server, "resolve", resolve);
    for (name, task) in side_tasks {
        add_side_task(&mut server, name, task);
    }
    let ending = Arc::clone(&shared.ending);
    let mut drain = background_service("drain", Drain(shared));
    drain.threads = Some(1);
    server.add_service(drain);
    server.run(RunArgs {
        shutdown_signal: Box::new(ShutdownTrigger(ending)),
    });
    Ok(())
}

/// A ceiling over every route's candidates and reconnections.
const MOST_ATTEMPTS: usize = 32;

/// Idle connections kept to upstreams.
const POOL_SIZE: usize = 1024;

fn tls_settings(
    certificate: &std::path::Path,
    key: &std::path::Path,
) -> pingora::Result<TlsSettings> {
    let mut settings =
        TlsSettings::intermediate(&certificate.to_string_lossy(), &key.to_string_lossy())?;
    settings.enable_h2();
    Ok(settings)
}

fn add_side_task(server: &mut Server, name: &'static str, task: SideTask) {
    let mut service = background_service(name, Side(task));
    service.threads = Some(1);
    server.add_service(service);
}

struct Side(SideTask);

#[async_trait]
impl BackgroundService for Side {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let stop = Box::pin(async move {
            // An error means that the server is gone, which is a stop too.
            let _ = shutdown.wait_for(|stop| *stop).await;
        });
        (self.0)(stop).await;
    }
}

/// The clients' port: Pingora's service, on a socket that was made elsewhere.
struct Clients {
    service: Service<App>,
    /// Taken when the service starts.
    socket: Option<TcpListener>,
    /// By it Pingora knows the socket.
    address: String,
    readiness: Readiness,
}

impl Clients {
    fn new(
        app: App,
        socket: TcpListener,
        tls: Option<&(PathBuf, PathBuf)>,
        readiness: Readiness,
    ) -> pingora::Result<Self> {
        let address = socket.local_addr();
        let address = address.or_err(ErrorType::SocketError, "the clients' socket")?;
        let address = address.to_string();
        let mut service = Service::new("proxy".to_owned(), app);
        match tls {
            None => service.add_tcp(&address),
            Some((certificate, key)) => {
                let settings = tls_settings(certificate, key)?;
                service.add_tls_with_settings(&address, None, settings);
            }
        }
        Ok(Self {
            service,
            socket: Some(socket),
            address,
            readiness,
        })
    }
}

#[async_trait]
impl pingora::services::Service for Clients {
    async fn start_service(&mut self, _: Option<ListenFds>, shutdown: ShutdownWatch, tasks: usize) {
        let mut sockets = Fds::new();
        if let Some(socket) = self.socket.take() {
            sockets.add(self.address.clone(), socket.into_raw_fd());
        }
        let sockets = Arc::new(sockets.into());
        let mut serving = pin!(self.service.start_service(Some(sockets), shutdown, tasks));
        let waits = poll_fn(|context| Poll::Ready(serving.as_mut().poll(context).is_pending()));
        if waits.await {
            // For connections: what comes before that is done at once, or panics.
            self.readiness.port_is_open();
        }
        serving.await;
    }

    fn name(&self) -> &str {
        "proxy"
    }
}

/// Tells Pingora when to end.
struct ShutdownTrigger(Arc<Ending>);

#[async_trait]
impl ShutdownSignalWatch for ShutdownTrigger {
    async fn recv(&self) -> ShutdownSignal {
        match self.0.due().await {
            How::Drain => ShutdownSignal::GracefulTerminate,
            How::Now => ShutdownSignal::FastShutdown,
        }
    }
}

/// Ends the process once nothing is open any more, or the time for it is over.
struct Drain(AppState);

impl Drain {
    async fn wait_until_drained(&self) {
        let (ending, begun) = (&self.0.ending, clock::now());
        let stop = ending.watch();
        loop {
            let (now, open) = (clock::now(), self.0.metrics.open_requests());
            let Some(stop) = *stop.borrow() else {
                return;
            };
            let lingering = stop.idle_may_stay && now < begun + LINGER;
            if now >= stop.at {
                return tracing::warn!(open, "drain timeout reached; closing open requests");
            }
            if open > 0 || lingering {
                tokio::time::sleep(DRAIN_POLL).await;
            } else if stop.idle_may_stay {
                ending.close_idle();
                // A request may have come on one of them just now.
                tokio::time::sleep(LAST_BYTES).await;
            } else {
                return;
            }
        }
    }
}

#[async_trait]
impl BackgroundService for Drain {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        if shutdown.wait_for(|stop| *stop).await.is_err() {
            return;
        }
        tracing::info!(open = self.0.metrics.open_requests(), "draining");
        tokio::time::sleep(LAST_BYTES).await;
        tokio::select! {
            () = self.wait_until_drained() => {}
            () = self.0.ending.hurry() => {}
        }
        tokio::time::sleep(LAST_BYTES).await;
        self.0.budgets.leave().await;
        self.0.limits.leave().await;
        self.0.ledger.close().await;
        if let Some(traces) = self.0.traces.clone() {
            // It can't fail but by a panic, and there is nothing to be done about one here.
            let _ = tokio::task::spawn_blocking(move || traces.close()).await;
        }
        tracing::info!("drain finished");
        self.0.access_log.write_out();
        process::exit(self.0.ending.exit_code());
    }
}
